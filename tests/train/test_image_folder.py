"""Pictures and captions: composed, split and drawn the same way every time."""

import json

import numpy as np
import pytest
from PIL import Image

from ldm_export.recipes.train import DataRecipe
from ldm_export.train.image_folder import (
    batch_indices,
    caption_with_ground,
    compose,
    load_pictures,
    read_origin,
    step_random,
    vary_caption,
)
from ldm_runtime.errors import TrainingError
from tests import hub_cache


def recipe(folder, **changes):
    return DataRecipe(**{"folder": folder, "size": 32, "held_out": 0.3, **changes})


def test_pictures_keep_their_alpha_and_stand_on_any_colour(pictures_folder):
    trained, _ = load_pictures(recipe(pictures_folder, held_out=0.0))
    assert trained.rgba.shape == (12, 32, 32, 4) and trained.rgba.dtype == np.uint8
    colours = np.array([[10, 20, 30], [0, 255, 0]])
    composed = compose(trained.rgba[:2], colours[:, None, None])
    assert composed[0, 0, 0].tolist() == [10, 20, 30] and composed[1, 0, 0].tolist() == [0, 255, 0]
    assert composed[0, 16, 16].tolist() == [220, 30, 30]


def test_composing_equals_pillow():
    random = np.random.default_rng(0)
    rgba = random.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    ground = Image.new("RGBA", (64, 64), (200, 100, 7, 255))
    wanted = np.asarray(Image.alpha_composite(ground, Image.fromarray(rgba)).convert("RGB"))
    got = compose(rgba, np.array([200, 100, 7]))
    assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 1  # Pillow works in 8 bits


def test_the_plain_ground_comes_first_and_is_not_mentioned(pictures_folder):
    data = recipe(pictures_folder, backgrounds={"sky blue": (100, 180, 250)})
    plain, blue = data.grounds
    assert plain.colour == (255, 255, 255) and caption_with_ground("red disc", plain) == "red disc"
    assert blue.colour == (100, 180, 250) and caption_with_ground("red disc", blue) == "red disc, sky blue background"


def test_listed_captions_are_held_out_and_must_exist(pictures_folder, tmp_path):
    listed = tmp_path / "held-out.txt"
    listed.write_text("red disc\nblue bar\n")
    data = recipe(pictures_folder, held_out=0.0, held_out_captions=listed)
    trained, held_out = load_pictures(data)
    assert sorted(held_out.captions) == ["blue bar", "red disc"] and len(trained) == 10
    listed.write_text("red disc\npurple disc\n")
    with pytest.raises(TrainingError, match=r"held-out\.txt holds out 'purple disc', which no picture"):
        load_pictures(data)
    listed.unlink()
    with pytest.raises(TrainingError, match="cannot read the held-out captions"):
        load_pictures(data)


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


def test_a_snapshot_in_a_hub_s_cache_is_a_data_folder_and_its_neighbours_are_not(pictures_folder, tmp_path):
    snapshot = hub_cache.make(pictures_folder, tmp_path / "cache")
    linked, plain = (load_pictures(DataRecipe(folder, 32))[0] for folder in (snapshot, pictures_folder))
    assert np.array_equal(linked.rgba, plain.rgba) and linked.captions == plain.captions
    (tmp_path / "cache" / "other").write_text("no blob")
    picture = snapshot / "images" / "red-square.png"
    picture.unlink()
    picture.symlink_to(tmp_path / "cache" / "other")
    with pytest.raises(TrainingError, match="outside the folder"):
        load_pictures(DataRecipe(snapshot, 32))


def test_a_picture_outside_the_folder_is_refused(pictures_folder):
    outside = pictures_folder.parent / "outside.png"
    Image.new("RGBA", (32, 32)).save(outside)
    for file in ("../outside.png", str(outside), "images/../../outside.png"):
        (pictures_folder / "captions.jsonl").write_text(json.dumps({"file": file, "caption": "red disc"}) + "\n")
        with pytest.raises(TrainingError, match="outside the folder"):
            load_pictures(recipe(pictures_folder, held_out=0.0))
    (pictures_folder / "images" / "link.png").symlink_to(outside)
    (pictures_folder / "captions.jsonl").write_text(json.dumps({"file": "images/link.png", "caption": "x"}) + "\n")
    with pytest.raises(TrainingError, match="outside the folder"):
        load_pictures(recipe(pictures_folder, held_out=0.0))


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


def test_captions_are_cut_and_extended_at_the_given_rates():
    tags = ("fruit", "food", "round", "red")
    caption = "red apple, 3d style"
    texts = [vary_caption(caption, tags, step_random(0, 0, step), tag=0.5, short=0.25) for step in range(2000)]
    assert 0.2 < sum("style" not in text for text in texts) / 2000 < 0.3
    extended = [text for text in texts if text not in (caption, "red apple")]
    assert 0.45 < len(extended) / 2000 < 0.55
    assert all(text.startswith("red apple, ") for text in extended)
    assert {text.removeprefix(caption).count(",") for text in extended if "style" in text} == {1, 2, 3}


def test_rates_of_zero_change_nothing_and_no_tags_are_no_error():
    random = step_random(0, 0, 0)
    assert {vary_caption("red apple", ("x",), random) for _ in range(50)} == {"red apple"}
    assert {vary_caption("red apple", (), random, tag=1.0) for _ in range(50)} == {"red apple"}


def test_tags_are_optional_in_a_row(pictures_folder):
    rows = [json.loads(line) for line in (pictures_folder / "captions.jsonl").read_text().splitlines()]
    lines = [json.dumps({"file": row["file"], "caption": row["caption"]}) + "\n" for row in rows]
    (pictures_folder / "captions.jsonl").write_text("".join(lines))
    assert load_pictures(recipe(pictures_folder))[0].tags[0] == ()


def test_a_picture_may_have_several_captions(pictures_folder):
    before = len(load_pictures(recipe(pictures_folder))[0])
    with open(pictures_folder / "captions.jsonl", "a") as file:
        file.write('{"file": "images/red-disc.png", "caption": "again", "kind": "disc"}\n')
    assert len(load_pictures(recipe(pictures_folder))[0]) == before + 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"file": "x.png", "caption": "\\ud800"}', "'file' and 'caption'"),
        ('{"file": "x.png", "caption": "a", "tags": 5}', "tags are 5"),
        ('{"file": "x.png", "caption": "a", "tags": [1]}', "expected a list"),
        ('{"file": "x.png", "caption": "a", "n": ' + "1" * 5000 + "}", "not valid JSON"),
        ('{"file": "a\\u0000b", "caption": "a"}', "cannot be"),
    ],
)
def test_a_hostile_row_is_one_sentence(pictures_folder, line, said):
    with open(pictures_folder / "captions.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(TrainingError, match=said):
        load_pictures(recipe(pictures_folder, held_out=0.0))


def test_all_pictures_that_are_missing_or_damaged_are_named(pictures_folder):
    (pictures_folder / "images" / "red-disc.png").unlink()
    (pictures_folder / "images" / "blue-bar.png").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"red-disc\.png.*blue-bar\.png"):
        load_pictures(recipe(pictures_folder, held_out=0.0))


def test_no_file_of_the_data_folder_leads_out_of_it(pictures_folder):
    secret = pictures_folder.parent / "secret.md"
    secret.write_text("# Secret\nword")
    (pictures_folder / "ORIGIN.md").symlink_to(secret)
    with pytest.raises(TrainingError, match="outside the folder"):
        read_origin(pictures_folder)
    (pictures_folder / "ORIGIN.md").unlink()
    assert read_origin(pictures_folder) == ""
    (pictures_folder / "captions.jsonl").unlink()
    (pictures_folder / "captions.jsonl").symlink_to(secret)
    with pytest.raises(TrainingError, match="outside the folder"):
        load_pictures(recipe(pictures_folder))
