"""Every way a package can be wrong is one error of one sentence, raised by load."""

import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

import ldm_runtime
from ldm_runtime.errors import LdmError, PackageError
from tests.runtime import tiny_package
from tests.runtime.tiny_package import edit_manifest, rehash

STUB = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 100\n"


def truncate(folder: Path, name: str, by: int = 8) -> None:
    with open(folder / name, "r+b") as file:
        file.truncate(max((folder / name).stat().st_size - by, 0))


def append(folder: Path, name: str) -> None:
    with open(folder / name, "ab") as file:
        file.write(b"\0")


def flip(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / name).write_bytes(content)


def link(folder: Path, name: str, target: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(target)


def move_out_and_link(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    shutil.move(folder / name, outside)
    (folder / name).symlink_to(outside)


def pipe_instead(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)


def external(folder: Path, location: str) -> None:
    """Point the UNet's first weight at `location`, with hashes that agree."""
    file = folder / "unet/model.onnx"
    model = onnx.load(file, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    file.write_bytes(model.SerializeToString())
    rehash(folder)


def other_graph(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    file = folder / "unet/model.onnx"
    model = onnx.load(file, load_external_data=False)
    change(model)
    file.write_bytes(model.SerializeToString())
    rehash(folder)


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = model.graph.output[0].name = "noise"


def fix_batch(model: onnx.ModelProto) -> None:
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    dim.Clear()
    dim.dim_value = 1


def change_type(model: onnx.ModelProto) -> None:
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.DOUBLE
    model.graph.node.insert(0, helper.make_node("Cast", ["timestep"], ["time32"], to=TensorProto.FLOAT))
    for node in model.graph.node[1:]:
        node.input[:] = ["time32" if name == "timestep" else name for name in node.input]


def extra_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("class_labels", TensorProto.INT64, ["batch"]))


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[-1].op_type = "Levitate"


def newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 9999


def offset_past_the_end(model: onnx.ModelProto) -> None:
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "offset":
            entry.value = str(2**40)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "is not a package: it has no manifest.json"),
    "manifest is a folder": (
        lambda p: ((p / "manifest.json").unlink(), (p / "manifest.json").mkdir()),
        "manifest.json is not a regular file",
    ),
    "manifest is a pipe": (lambda p: pipe_instead(p, "manifest.json"), "is not a regular file"),
    "manifest is a stub": (lambda p: (p / "manifest.json").write_bytes(STUB), "is a Git-LFS stub"),
    "manifest is not UTF-8": (lambda p: (p / "manifest.json").write_bytes(b'{"a": "\xff"}'), "is not UTF-8"),
    "manifest is cut off": (lambda p: truncate(p, "manifest.json"), "not valid JSON at line"),
    "manifest is immense": (
        lambda p: os.truncate(p / "manifest.json", 2**24 + 1),
        "has 16777217 bytes; expected at most",
    ),
    "manifest links outside": (lambda p: move_out_and_link(p, "manifest.json"), "is a link to .* outside"),
    "unknown key": (
        lambda p: edit_manifest(p, "surprise", value=1),
        "unknown key 'surprise'.*; build it again, or install the version",
    ),
    "unknown schema": (lambda p: edit_manifest(p, "schema_version", value=7), "schema_version 7"),
    "file missing": (lambda p: (p / "unet/model.onnx").unlink(), r"unet/model\.onnx is missing"),
    "folder missing": (lambda p: shutil.rmtree(p / "unet"), r"unet/model\.\w+ is missing"),
    "weights truncated": (lambda p: truncate(p, "unet/model.safetensors"), "is truncated: it has"),
    "weights empty": (lambda p: truncate(p, "unet/model.safetensors", 2**30), "is truncated: it has 0 bytes"),
    "weights too long": (lambda p: append(p, "unet/model.safetensors"), "is too long: it has"),
    "weights are a stub": (
        lambda p: (p / "unet/model.safetensors").write_bytes(STUB),
        r"unet/model\.safetensors is a Git-LFS stub, not the file itself; run `git lfs pull`",
    ),
    "graph is a stub": (lambda p: (p / "unet/model.onnx").write_bytes(STUB), "is a Git-LFS stub"),
    "weights are a folder": (
        lambda p: ((p / "unet/model.safetensors").unlink(), (p / "unet/model.safetensors").mkdir()),
        "is not a regular file",
    ),
    "weights are a pipe": (lambda p: pipe_instead(p, "unet/model.safetensors"), "is not a regular file"),
    "weights changed": (lambda p: flip(p, "unet/model.safetensors"), "has changed: its SHA-256"),
    "graph changed": (lambda p: flip(p, "unet/model.onnx"), "has changed: its SHA-256|is not an ONNX file"),
    "tokenizer changed": (lambda p: flip(p, "tokenizer/tokenizer.json"), "has changed: its SHA-256"),
    "weights link outside": (
        lambda p: move_out_and_link(p, "unet/model.safetensors"),
        "is a link to .*, outside the package",
    ),
    "link to a system file": (
        lambda p: link(p, "unet/model.safetensors", "/etc/passwd"),
        "is a link to /etc/passwd, outside",
    ),
    "folder links outside": (
        lambda p: (
            shutil.move(p / "unet", p.parent / "elsewhere"),
            (p / "unet").symlink_to(p.parent / "elsewhere"),
        ),
        "outside the package",
    ),
    "link in a circle": (lambda p: link(p, "unet/model.onnx", "model.onnx"), "cannot read .*unet/model.onnx"),
    "link to nothing": (lambda p: link(p, "unet/model.onnx", "absent"), r"unet/model\.onnx is missing"),
    "unlisted graph": (
        lambda p: shutil.copy(p / "unet/model.onnx", p / "unet/extra.ONNX"),
        "holds unet/extra.ONNX, which its manifest does not list",
    ),
    "unlisted weights": (lambda p: (p / "more.bin").write_bytes(b""), "holds more.bin, which"),
    "tokenizer unlisted": (
        lambda p: edit_manifest(p, "files", "tokenizer/tokenizer.json", remove=True),
        "names the file 'tokenizer/tokenizer.json', which files does not list",
    ),
    "path escapes": (
        lambda p: edit_manifest(p, "files", "../x", value={"sha256": "0" * 64, "size": 1}),
        "leaves the package",
    ),
    "path is absolute": (
        lambda p: edit_manifest(p, "files", "/etc/passwd", value={"sha256": "0" * 64, "size": 1}),
        "leaves the package",
    ),
    "external data above": (lambda p: external(p, "../model.safetensors"), r"keeps data in '\.\./model"),
    "external data absolute": (lambda p: external(p, "/etc/passwd"), "keeps data in '/etc/passwd'"),
    "external data of another": (
        lambda p: external(p, "../vae_decoder/model.safetensors"),
        r"expected only 'model\.safetensors' in the same folder",
    ),
    "weights no safetensors": (
        lambda p: ((p / "unet/model.safetensors").write_bytes(b"\xff" * 600), rehash(p)),
        "claims a header of",
    ),
    "graph is text": (
        lambda p: ((p / "unet/model.onnx").write_text("hello, no graph"), rehash(p)),
        "is not an ONNX file",
    ),
    "graph is empty": (lambda p: ((p / "unet/model.onnx").write_bytes(b""), rehash(p)), "cannot load"),
    "output renamed": (lambda p: other_graph(p, rename_output), "has as output nothing of that name, but"),
    "batch is fixed": (lambda p: other_graph(p, fix_batch), "has as input .*dims=.1, 4"),
    "input of another type": (lambda p: other_graph(p, change_type), "has as input .*float64"),
    "input of no promise": (lambda p: other_graph(p, extra_input), "wants the input 'class_labels'"),
    "unknown operator": (lambda p: other_graph(p, unknown_operator), "ONNX Runtime cannot load .*Levitate"),
    "opset of the future": (lambda p: other_graph(p, newer_opset), "ONNX Runtime cannot load .*9999"),
    "offset past the end": (lambda p: other_graph(p, offset_past_the_end), "ONNX Runtime cannot load"),
    "tokenizer is no tokenizer": (
        lambda p: ((p / "tokenizer/tokenizer.json").write_text("{}"), rehash(p)),
        r"tokenizer\.json lacks the key 'model', so it is not a tokenizer",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD.keys())
def test_bad_package_is_refused(
    package_copy: Path, damage: Callable[[Path], object], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    damage(package_copy)
    with pytest.raises(LdmError, match=message) as caught:
        ldm_runtime.load(package_copy)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # the sentence is all that is said


def test_the_good_twin_loads(package_copy: Path) -> None:
    with ldm_runtime.load(package_copy, check="full") as pipe:
        assert pipe.info["name"] == "tiny"


def test_a_second_load_finds_the_damage_too(package_copy: Path) -> None:
    ldm_runtime.load(package_copy).close()
    flip(package_copy, "unet/model.safetensors")
    with pytest.raises(PackageError, match="has changed"):
        ldm_runtime.load(package_copy)


def test_links_inside_a_component_are_followed(package_copy: Path) -> None:
    (package_copy / "unet/model.safetensors").rename(package_copy / "unet/weights")
    (package_copy / "unet/model.safetensors").symlink_to("weights")
    ldm_runtime.load(package_copy).close()


def test_package_folder_may_be_a_link(package_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(package_copy)
    ldm_runtime.load(tmp_path / "linked").close()


def test_unlisted_text_is_welcome(package_copy: Path) -> None:
    (package_copy / "NOTES.txt").write_text("mine")
    ldm_runtime.load(package_copy).close()


def test_absent_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="there is no package at .*: the folder does not exist"):
        ldm_runtime.load(tmp_path / "absent")


def test_file_in_place_of_the_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PackageError, match="is a file; expected the folder of a package"):
        ldm_runtime.load(tmp_path / "file")


def test_folder_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="is not a package"):
        ldm_runtime.load(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "unet/model.onnx", "unet/model.safetensors"])
def test_unreadable_file_is_one_sentence(tiny: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_reading(tiny / name, monkeypatch)
    with pytest.raises(PackageError, match=f"cannot read .*{name}: Permission denied; check its permissions"):
        ldm_runtime.load(tiny)


def refuse_reading(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As chmod 0 does, which root would not feel."""
    real_open = io.open

    def guarded(path: Any, *arguments: Any, **options: Any) -> Any:
        if path == file:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real_open(path, *arguments, **options)

    monkeypatch.setattr("io.open", guarded)  # pathlib
    monkeypatch.setattr("builtins.open", guarded)


def test_hostile_sizes_do_not_cost_memory(package_copy: Path) -> None:
    """A header that promises 2^60 bytes of weights is refused before anything is allocated."""
    (package_copy / "unet/model.safetensors").write_bytes(
        b"\x60\0\0\0\0\0\0\0"
        + b'{"x":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}'.ljust(0x60)
    )
    rehash(package_copy)
    with pytest.raises(PackageError, match="truncated|beyond any file|larger than any memory"):
        ldm_runtime.load(package_copy)


def test_no_built_in_model_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ldm_runtime.pipeline.BUILTIN", tmp_path / "builtin")
    with pytest.raises(PackageError, match="has no built-in model; give the folder of a package"):
        ldm_runtime.load()


def test_the_built_in_model_is_what_none_means(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    monkeypatch.setattr("ldm_runtime.pipeline.BUILTIN", tiny)
    assert ldm_runtime.load().info["name"] == "tiny"


def test_packages_made_in_tests_are_rebuilt_alike(tmp_path: Path, tiny: Path) -> None:
    """The fixture itself is deterministic, so that a failure here can be repeated."""
    again = tiny_package.make(tmp_path / "again")
    assert (again / "manifest.json").read_bytes() == (tiny / "manifest.json").read_bytes()
