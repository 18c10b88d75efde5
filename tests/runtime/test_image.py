"""Pictures keep their text in PNG files, appear whole or not at all, and convert to arrays and back."""

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ldm_runtime.errors import InputError, LdmError
from ldm_runtime.image import GeneratedImage, from_images, from_levels, output_paths, save_png, to_images, to_levels

INFO = {"prompt": "red apple, 3d style", "seed": "1"}


@pytest.fixture
def picture() -> Image.Image:
    values = np.random.default_rng(0).uniform(-1, 1, (1, 3, 5, 7)).astype(np.float32)
    return to_images(values, [INFO])[0]


def test_values_are_clipped_and_rounded() -> None:
    values = np.array([-5.0, -1.0, -0.5, 0.0, 0.5, 1.0, 5.0], dtype=np.float32)
    pixels = np.asarray(to_images(np.tile(values, (1, 3, 1, 1)), [{}])[0])
    assert pixels[0, :, 0].tolist() == [0, 0, 64, 128, 191, 255, 255]


def test_channels_rows_and_columns_keep_their_places() -> None:
    values = np.random.default_rng(1).uniform(-1, 1, (2, 3, 4, 6)).astype(np.float32)
    images = to_images(values, [{}, {}])
    assert images[0].size == (6, 4)
    back = from_images(images)
    assert back.shape == (2, 3, 4, 6) and back.dtype == np.float32
    np.testing.assert_allclose(back, values, atol=1 / 255 + 1e-6)


def test_every_level_survives_the_way_to_values_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    values = from_levels(levels)
    assert values.shape == (1, 3, 16, 16) and values.min() == -1 and values.max() == 1
    assert np.array_equal(to_levels(values), levels)


def test_other_modes_become_rgb() -> None:
    for mode in ("L", "RGBA", "P", "1", "CMYK"):
        assert from_images(Image.new(mode, (4, 4))).shape == (1, 3, 4, 4)


def test_save_keeps_the_text(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    picture.save(str(tmp_path / "b.PNG"))
    picture.save(tmp_path / "c", format="png")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    for place in (tmp_path / "a.png", tmp_path / "b.PNG", tmp_path / "c", buffer):
        with Image.open(place) as opened:
            assert opened.info == INFO and opened.tobytes() == picture.tobytes()


class Place:
    """A path of another kind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.mark.parametrize("name", ["a.png", "a.apng", "caf\u00e9.PNG"])
def test_any_kind_of_path_and_any_open_file_gets_the_text(picture: Image.Image, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    places: list[Any] = [path, str(path), os.fsencode(path), Place(path)]
    for place in places:
        picture.save(place)
        assert Image.open(path).info == INFO
        assert [entry.name for entry in tmp_path.iterdir()] == [name]
        path.unlink()
    for named in (path, os.fsencode(path)):
        with open(named, "wb") as file:
            picture.save(file)
        assert Image.open(path).info == INFO
    path.unlink()
    with os.fdopen(os.open(path, os.O_CREAT | os.O_RDWR), "w+b") as file:  # its name is a number
        picture.save(file, "png")
    assert Image.open(path).info == INFO


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_a_name_that_is_no_text_is_written_or_refused_in_a_sentence(picture: Image.Image, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        picture.save(name)
    except LdmError:
        assert not os.path.exists(name)
    else:
        with open(name, "rb") as file:
            assert Image.open(file).info == INFO


def test_an_image_replaces_a_file_whole_or_not_at_all(picture: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(AttributeError):
        picture.save(Place(tmp_path / "a.png"), pnginfo=3)
    assert (tmp_path / "a.png").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
    picture.save(Place(tmp_path / "a.png"))
    assert Image.open(tmp_path / "a.png").info == INFO


def test_given_pnginfo_is_kept(picture: Image.Image, tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("only", "this")
    picture.save(tmp_path / "a.png", pnginfo=text)
    assert Image.open(tmp_path / "a.png").info == {"only": "this"}


def test_other_formats_are_pil_s_own(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.jpg", quality=90)
    picture.save(tmp_path / "a.webp")
    picture.save(tmp_path / "b.bin", format="BMP")
    assert {Image.open(path).format for path in tmp_path.iterdir()} == {"JPEG", "WEBP", "BMP"}
    with pytest.raises(ValueError, match="unknown file extension"):
        picture.save(tmp_path / "a.xyz")


@pytest.mark.parametrize("text", ["plain", "naïve", "中文 😀", "a\nb\ttab", "", "x" * 5000])
def test_any_text_survives_the_file(picture: Image.Image, tmp_path: Path, text: str) -> None:
    save_png(picture, tmp_path / "a.png", {"prompt": text})
    assert Image.open(tmp_path / "a.png").info["prompt"] == text


def test_nul_does_not_break_the_file(picture: Image.Image, tmp_path: Path) -> None:
    save_png(picture, tmp_path / "a.png", {"prompt": "a\0b", "seed": "1"})
    assert Image.open(tmp_path / "a.png").info == {"prompt": "a\ufffdb", "seed": "1"}


def test_derived_image_is_an_ordinary_one(picture: Image.Image, tmp_path: Path) -> None:
    for derived in (picture.copy(), picture.crop((0, 0, 2, 2)), picture.resize((3, 3)), picture.rotate(90)):
        assert not isinstance(derived, GeneratedImage)
        derived.save(tmp_path / "a.png")
        assert "prompt" not in Image.open(tmp_path / "a.png").info


def test_save_png_without_metadata_takes_the_image_s_text(picture: Image.Image, tmp_path: Path) -> None:
    save_png(picture, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").info == INFO
    with Image.open(tmp_path / "a.png") as opened:
        opened.info["gamma"] = 0.45  # what PIL puts beside the text of other files
        save_png(opened, tmp_path / "b.png")
    assert Image.open(tmp_path / "b.png").info == INFO


def test_failed_save_leaves_the_old_file(picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(Image.SAVE, "PNG", lambda *arguments: full())
    for save in (lambda: picture.save(path), lambda: save_png(picture, path)):
        with pytest.raises(LdmError, match="cannot write .*a.png: No space left on device"):
            save()
    assert path.read_bytes() == b"old" and [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_save_png_without_force_keeps_the_old_file(picture: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(LdmError, match="exists already"):
        save_png(picture, tmp_path / "a.png", force=False)
    assert (tmp_path / "a.png").read_bytes() == b"old"
    save_png(picture, tmp_path / "a.png", force=True)
    assert Image.open(tmp_path / "a.png").size == (7, 5)


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.png.txt", ".png", "a.pn"])
def test_other_endings_are_refused(picture: Image.Image, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"should end in \.png, the one format written here"):
        save_png(picture, tmp_path / name)
    with pytest.raises(InputError, match=r"should end in \.png"):
        output_paths(tmp_path / name, prompt="red", count=1, force=False)
    assert list(tmp_path.iterdir()) == []


def test_output_paths_number_several(tmp_path: Path) -> None:
    out = tmp_path / "apple.png"
    assert output_paths(out, prompt="red", count=1, force=False) == [out]
    several = output_paths(out, prompt="red", count=3, force=False)
    assert [path.name for path in several] == ["apple-1.png", "apple-2.png", "apple-3.png"]


def test_existing_output_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "apple-2.png").touch()
    with pytest.raises(LdmError, match=r"apple-2\.png exists already; .* --force"):
        output_paths(tmp_path / "apple.png", prompt="red", count=2, force=False)
    assert len(output_paths(tmp_path / "apple.png", prompt="red", count=2, force=True)) == 2


def test_missing_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(LdmError, match="the folder .*absent does not exist"):
        output_paths(tmp_path / "absent" / "a.png", prompt="red", count=1, force=False)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("red apple, 3d style", "red-apple-3d-style.png"),
        ("", "image.png"),
        ("../../etc/passwd", "etc-passwd.png"),
        ("\0\n/\\", "image.png"),
        ("中文", "中文.png"),
        ("\U00020000" * 100, "\U00020000" * 30 + ".png"),
        ("word " * 100, "word-word-word-word-word-word-word-word-word-word-word-word.png"),
    ],
)
def test_default_name_is_made_from_the_prompt(
    prompt: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert output_paths(None, prompt=prompt, count=1, force=False) == [Path(name)]


def test_default_name_never_replaces_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("red.png").touch()
    Path("red-3.png").symlink_to("nowhere")
    paths = output_paths(None, prompt="red", count=2, force=True)
    assert [path.name for path in paths] == ["red-2.png", "red-4.png"]
