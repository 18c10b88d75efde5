"""Pictures and captions: composed, split and drawn the same way every time."""

import json

import numpy as np
import pytest
from PIL import Image

from ldm_export.pictures import batch_indices, load_pictures, step_random, vary_caption
from ldm_export.recipe import DataRecipe
from ldm_runtime.errors import TrainingError


def recipe(folder, **changes):
    return DataRecipe(**{"folder": folder, "size": 32, "held_out": 0.3, **changes})


def test_transparent_parts_take_the_background(pictures_folder):
    trained, _ = load_pictures(recipe(pictures_folder, background=(10, 20, 30), held_out=0.0))
    assert trained.pixels.shape == (12, 32, 32, 3) and trained.pixels.dtype == np.uint8
    assert trained.pixels[0, 0, 0].tolist() == [10, 20, 30]
    assert trained.pixels[0, 16, 16].tolist() == [220, 30, 30]


def test_the_split_is_complete_and_does_not_move_with_other_rows(pictures_folder):
    trained, held_out = load_pictures(recipe(pictures_folder))
    assert len(trained) + len(held_out) == 12 and not set(trained.captions) & set(held_out.captions)
    assert 0 < len(held_out) < 12
    file = pictures_folder / "captions.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[6:]))
    assert set(load_pictures(recipe(pictures_folder))[1].captions) <= set(held_out.captions)


def test_where_keeps_the_listed_values(pictures_folder):
    trained, held_out = load_pictures(recipe(pictures_folder, where={"kind": ("bar",)}))
    assert all(caption.endswith("bar") for caption in trained.captions + held_out.captions)
    with pytest.raises(TrainingError, match="no row"):
        load_pictures(recipe(pictures_folder, where={"kind": ("star",)}))


@pytest.mark.parametrize(
    ("line", "said"),
    [("{", "line 13: not valid JSON"), ('{"file": "x.png"}', "'file' and 'caption'"), ("[]", "expected an object")],
)
def test_a_malformed_row_is_refused_with_its_line(pictures_folder, line, said):
    with open(pictures_folder / "captions.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(TrainingError, match=said):
        load_pictures(recipe(pictures_folder))


def test_a_picture_of_another_size_or_none_at_all_is_refused(pictures_folder):
    path = pictures_folder / "images" / "red-square.png"
    Image.new("RGB", (31, 32)).save(path)
    with pytest.raises(TrainingError, match="31x32"):
        load_pictures(recipe(pictures_folder))
    path.unlink()
    with pytest.raises(TrainingError, match=r"red-square\.png"):
        load_pictures(recipe(pictures_folder))


def test_a_folder_without_captions_says_how_to_fetch_one(tmp_path):
    with pytest.raises(TrainingError, match="ldm-export data"):
        load_pictures(recipe(tmp_path))


def test_each_epoch_shows_every_row_once_in_another_order():
    steps = [batch_indices(10, 4, step, seed=1, stage=2) for step in range(5)]
    shown = np.concatenate(steps)
    assert sorted(shown[:10]) == sorted(shown[10:]) == list(range(10))
    assert shown[:10].tolist() != shown[10:].tolist()
    assert steps[3].tolist() == batch_indices(10, 4, 3, seed=1, stage=2).tolist()
    assert shown.tolist() != np.concatenate([batch_indices(10, 4, s, seed=2, stage=2) for s in range(5)]).tolist()


def test_captions_are_dropped_and_extended_at_the_given_rates():
    tags = ("fruit", "food", "round", "red")
    texts = [vary_caption("red apple", tags, step_random(0, 0, step), drop=0.25, tag=0.5) for step in range(2000)]
    assert 0.2 < texts.count("") / 2000 < 0.3
    extended = [text for text in texts if ", " in text]
    assert 0.3 < len(extended) / 2000 < 0.45  # half of what is not dropped
    assert all(text.startswith("red apple, ") for text in extended)
    assert {text.count(",") for text in extended} == {1, 2, 3}


def test_rates_of_zero_change_nothing_and_no_tags_are_no_error():
    random = step_random(0, 0, 0)
    assert {vary_caption("red apple", ("x",), random, drop=0.0, tag=0.0) for _ in range(50)} == {"red apple"}
    assert {vary_caption("red apple", (), random, drop=0.0, tag=1.0) for _ in range(50)} == {"red apple"}


def test_tags_are_optional_in_a_row(pictures_folder):
    rows = [json.loads(line) for line in (pictures_folder / "captions.jsonl").read_text().splitlines()]
    lines = [json.dumps({"file": row["file"], "caption": row["caption"]}) + "\n" for row in rows]
    (pictures_folder / "captions.jsonl").write_text("".join(lines))
    assert load_pictures(recipe(pictures_folder))[0].tags[0] == ()
