"""Images and captions: composed, split and drawn the same way every time."""

import json

import numpy as np
import pytest
from PIL import Image

from ldm_export.errors import TrainingError
from ldm_export.recipes.train import DataRecipe
from ldm_export.train import image_folder as module
from ldm_export.train.image_folder import (
    batch_indices,
    caption_on,
    compose,
    load_images,
    read_origin,
    step_random,
    vary_caption,
)
from ldm_runtime.image import open_image
from tests import hub_cache


def recipe(folder, **changes):
    return DataRecipe(**{"folder": folder, "size": 32, "held_out": 0.3, **changes})


def test_images_keep_their_alpha_and_are_composed_on_any_colour(image_folder):
    trained, _ = load_images(recipe(image_folder, held_out=0.0))[0]
    assert len(trained) == 12 and trained.rgba(0).shape == (32, 32, 4) and trained.rgba(0).dtype == np.uint8
    colours = np.array([[10, 20, 30], [0, 255, 0]])
    composed = compose(trained.rgba(slice(2)), colours[:, None, None])
    assert composed[0, 0, 0].tolist() == [10, 20, 30] and composed[1, 0, 0].tolist() == [0, 255, 0]
    assert composed[0, 16, 16].tolist() == [220, 30, 30]


def test_composing_equals_pillow():
    random = np.random.default_rng(0)
    rgba = random.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    background = Image.new("RGBA", (64, 64), (200, 100, 7, 255))
    expected = np.asarray(Image.alpha_composite(background, Image.fromarray(rgba)).convert("RGB"))
    composed = compose(rgba, np.array([200, 100, 7]))
    assert np.abs(composed.astype(int) - expected.astype(int)).max() <= 1  # Pillow works in 8 bits


def test_the_plain_background_comes_first_and_is_not_mentioned(image_folder):
    data = recipe(image_folder, backgrounds={"sky blue": (100, 180, 250)})
    plain, blue = data.all_backgrounds
    assert plain.colour == (255, 255, 255) and caption_on("red disc", plain) == "red disc"
    assert blue.colour == (100, 180, 250) and caption_on("red disc", blue) == "red disc, sky blue background"


def test_listed_captions_are_held_out_and_must_exist(image_folder, tmp_path):
    listed = tmp_path / "held-out.txt"
    listed.write_text("red disc\nblue bar\n")
    data = recipe(image_folder, held_out=0.0, held_out_captions=listed)
    trained, held_out = load_images(data)[0]
    assert sorted(held_out.captions) == ["blue bar", "red disc"] and len(trained) == 10
    listed.write_text("red disc\npurple disc\n")
    with pytest.raises(TrainingError, match=r"held-out\.txt holds out 'purple disc', which no image"):
        load_images(data)[0]
    listed.unlink()
    with pytest.raises(TrainingError, match="cannot read the held-out captions"):
        load_images(data)[0]


def test_the_split_is_complete_and_does_not_move_with_other_rows(image_folder):
    trained, held_out = load_images(recipe(image_folder))[0]
    assert len(trained) + len(held_out) == 12 and not set(trained.captions) & set(held_out.captions)
    assert 0 < len(held_out) < 12
    file = image_folder / "captions.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[6:]))
    assert set(load_images(recipe(image_folder))[0].held_out.captions) <= set(held_out.captions)


def test_selections_share_one_decoding_and_hold_what_each_alone_holds(image_folder, monkeypatch):
    data = recipe(image_folder, where={"kind": ("bar", "disc")})
    alone = [
        load_images(recipe(image_folder, where={"kind": kinds}))[0] for kinds in (("bar", "disc"), ("bar", "square"))
    ]
    opened = []
    monkeypatch.setattr(module, "open_image", lambda path: opened.append(path) or open_image(path))
    together = load_images(data, {"kind": ("bar", "disc")}, {"kind": ("bar", "square")})
    assert len(opened) == len(set(opened)) == 12
    for split, single in zip(together, alone, strict=True):
        for part, expected in zip(split, single, strict=True):
            assert (part.captions, part.tags) == (expected.captions, expected.tags)
            assert np.array_equal(part.rgba(slice(None)), expected.rgba(slice(None)))
    assert together[0].trained.captions != together[1].trained.captions


def test_where_keeps_the_listed_values(image_folder):
    trained, held_out = load_images(recipe(image_folder, where={"kind": ("bar",)}))[0]
    assert all(caption.endswith("bar") for caption in trained.captions + held_out.captions)
    with pytest.raises(TrainingError, match="no row"):
        load_images(recipe(image_folder, where={"kind": ("star",)}))[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "line 13 is not valid JSON"), ('{"file": "x.png"}', "'file' and 'caption'"), ("[]", "expected an object")],
)
def test_a_malformed_row_is_refused_with_its_line(image_folder, line, message):
    with open(image_folder / "captions.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(TrainingError, match=message):
        load_images(recipe(image_folder))[0]


def test_an_image_of_another_size_or_none_at_all_is_refused(image_folder):
    path = image_folder / "images" / "red-square.png"
    Image.new("RGB", (31, 32)).save(path)
    with pytest.raises(TrainingError, match="31x32"):
        load_images(recipe(image_folder))[0]
    path.unlink()
    with pytest.raises(TrainingError, match=r"red-square\.png"):
        load_images(recipe(image_folder))[0]


def test_a_snapshot_in_a_hub_s_cache_is_a_data_folder_and_its_neighbours_are_not(image_folder, tmp_path):
    snapshot = hub_cache.make(image_folder, tmp_path / "cache")
    linked, plain = (load_images(DataRecipe(folder, 32))[0].trained for folder in (snapshot, image_folder))
    assert np.array_equal(linked.rgba(slice(None)), plain.rgba(slice(None))) and linked.captions == plain.captions
    (tmp_path / "cache" / "other").write_text("no blob")
    image = snapshot / "images" / "red-square.png"
    image.unlink()
    image.symlink_to(tmp_path / "cache" / "other")
    with pytest.raises(TrainingError, match="outside the folder"):
        load_images(DataRecipe(snapshot, 32))[0]


def test_an_image_outside_the_folder_is_refused(image_folder):
    outside = image_folder.parent / "outside.png"
    Image.new("RGBA", (32, 32)).save(outside)
    for file in ("../outside.png", str(outside), "images/../../outside.png"):
        (image_folder / "captions.jsonl").write_text(json.dumps({"file": file, "caption": "red disc"}) + "\n")
        with pytest.raises(TrainingError, match="outside the folder"):
            load_images(recipe(image_folder, held_out=0.0))[0]
    (image_folder / "images" / "link.png").symlink_to(outside)
    (image_folder / "captions.jsonl").write_text(json.dumps({"file": "images/link.png", "caption": "x"}) + "\n")
    with pytest.raises(TrainingError, match="outside the folder"):
        load_images(recipe(image_folder, held_out=0.0))[0]


def test_a_folder_without_captions_says_how_to_fetch_one(tmp_path):
    with pytest.raises(TrainingError, match="ldm-export data"):
        load_images(recipe(tmp_path))[0]


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


def test_tags_are_optional_in_a_row(image_folder):
    rows = [json.loads(line) for line in (image_folder / "captions.jsonl").read_text().splitlines()]
    lines = [json.dumps({"file": row["file"], "caption": row["caption"]}) + "\n" for row in rows]
    (image_folder / "captions.jsonl").write_text("".join(lines))
    assert load_images(recipe(image_folder))[0].trained.tags[0] == ()


def test_an_image_may_have_several_captions(image_folder):
    before = len(load_images(recipe(image_folder))[0].trained)
    with open(image_folder / "captions.jsonl", "a") as file:
        file.write('{"file": "images/red-disc.png", "caption": "again", "kind": "disc"}\n')
    assert len(load_images(recipe(image_folder))[0].trained) == before + 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, "line 13 nests its JSON too deeply"),
        ('{"file": "x.png", "caption": "\\ud800"}', "line 13 .* half of a character"),
        (
            '{"file": "x.png", "caption": "a", "caption": "b"}',
            "the key 'caption' is given twice in one object; correct",
        ),
        ('{"file": "x.png", "caption": "a", "n": NaN}', "NaN is not a JSON number"),
        ('{"file": "x.png", "caption": "a", "tags": 5}', "tags are 5"),
        ('{"file": "x.png", "caption": "a", "tags": [1]}', "expected a list"),
        ('{"file": "x.png", "caption": "a", "n": ' + "1" * 5000 + "}", "an integer of thousands of digits"),
        ('{"file": "a\\u0000b", "caption": "a"}', "cannot be"),
        ('{"file": "x.png", "caption": ""}', "line 13: expected .* not blank; correct that line, or fetch"),
        ('{"file": "x.png", "caption": " \\t\\u00a0"}', "line 13: expected .* not blank"),
        ('{"file": " ", "caption": "a"}', "line 13: expected .* not blank"),
        ('{"file": "x.png", "caption": "a", "tags": [""]}', "line 13: tags are .* not blank"),
        ('{"file": "images/./red-disc.png", "caption": "red disc"}', "line 13 has the image and caption of line 2; "),
    ],
)
def test_a_hostile_row_is_one_sentence(image_folder, line, message):
    with open(image_folder / "captions.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(TrainingError, match=message):
        load_images(recipe(image_folder, held_out=0.0))[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"\xef\xbb\xbf" + content, "line 1 begins with a byte order mark; save it without, or fetch"),
        (lambda content: content.replace(b"blue bar", b"bl\xfce bar"), "line 9 is not UTF-8; save it as UTF-8"),
    ],
)
def test_captions_in_another_encoding_are_one_sentence(image_folder, change, message):
    file = image_folder / "captions.jsonl"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(TrainingError, match=rf"captions\.jsonl.*{message}"):
        load_images(recipe(image_folder))[0]


def test_held_out_captions_may_begin_with_a_byte_order_mark(image_folder, tmp_path):
    listed = tmp_path / "held-out.txt"
    listed.write_bytes(b"\xef\xbb\xbfred disc\r\n")
    data = recipe(image_folder, held_out=0.0, held_out_captions=listed)
    assert load_images(data)[0].held_out.captions == ("red disc",)
    listed.write_bytes(b"red disc\n\xff\n")
    with pytest.raises(TrainingError, match=r"held-out\.txt: line 2 is not UTF-8"):
        load_images(data)


def test_all_images_that_are_missing_or_damaged_are_named(image_folder):
    (image_folder / "images" / "red-disc.png").unlink()
    (image_folder / "images" / "blue-bar.png").write_bytes(b"no image")
    with pytest.raises(TrainingError, match=r"red-disc\.png.*blue-bar\.png"):
        load_images(recipe(image_folder, held_out=0.0))[0]


def test_no_file_of_the_data_folder_leads_out_of_it(image_folder):
    secret = image_folder.parent / "secret.md"
    secret.write_text("# Secret\nword")
    (image_folder / "ORIGIN.md").symlink_to(secret)
    with pytest.raises(TrainingError, match="outside the folder"):
        read_origin(image_folder)
    (image_folder / "ORIGIN.md").unlink()
    assert read_origin(image_folder) == ""
    (image_folder / "captions.jsonl").unlink()
    (image_folder / "captions.jsonl").symlink_to(secret)
    with pytest.raises(TrainingError, match="outside the folder"):
        load_images(recipe(image_folder))[0]
