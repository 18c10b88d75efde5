"""Pickled weights load as tensors and nothing else: no code of theirs runs, no size that they claim is believed."""

import io
import os
import pickle
import shutil
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ldm_export.checkpoint import pickles
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.errors import CheckpointError
from ldm_export.process.limits import limit_time
from tests.oracles import build_tiny_sd

TEXT, UNET, VAE = (
    f"{part}/{stem}"
    for part, stem in (
        ("text_encoder", "model"),
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
    )
)
PICKLED = {TEXT: "text_encoder/pytorch_model.bin", UNET: f"{UNET}.bin", VAE: f"{VAE}.bin"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("pickles") / "sd15")


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def to_pickle(folder: Path, stem: str, change: Callable[[dict[str, Any]], Any] = lambda tensors: None) -> Path:
    """Replace a part's weights by what torch.save makes of them, once they are changed."""
    file = folder / f"{stem}.safetensors"
    tensors: dict[str, Any] = load_file(file)
    change(tensors)
    torch.save(tensors, folder / PICKLED[stem])
    file.unlink()
    return folder / PICKLED[stem]


@pytest.mark.slow  # each file is listed in a process of its own, which imports torch
def test_a_folder_of_pickles_loads_as_it_was_and_says_so(copy: Path, tiny: Path) -> None:
    for stem in PICKLED:
        to_pickle(copy, stem)
    checkpoint = open_checkpoint(copy)
    checkpoint.check()
    checkpoint.require_finite()
    for part, stem in (("text_encoder", TEXT), ("unet", UNET), ("vae", VAE)):
        state, wanted = checkpoint.load(part).state_dict(), load_file(tiny / f"{stem}.safetensors")
        assert state.keys() == wanted.keys() and all(torch.equal(state[name], wanted[name]) for name in wanted)
        assert checkpoint.weight_files[part] == (copy / PICKLED[stem],)
    (note,) = [note for note in checkpoint.notes if "pickle" in note]
    assert "text_encoder/pytorch_model.bin" in note and "tensors alone" in note


def test_tensors_in_any_order_of_axes_views_and_types_are_listed_where_they_lie(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = torch.randn(6, 4)
    tensors = {
        "turned": whole.T,
        "rows": whole[2:4],
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "half": torch.randn(3, 1, 2).half(),
        "bfloat": torch.randn(7).bfloat16(),
        "scalar": torch.tensor(3.0, dtype=torch.float64),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "empty": torch.empty(0, 3),
    }
    file = tmp_path / "weights.bin"
    torch.save({"state_dict": tensors, "global_step": 5}, file)
    content = file.read_bytes()
    listed = {each.name: each for each in pickles.list_here(file, "weights.bin")}
    assert listed.keys() == tensors.keys()
    for name, value in tensors.items():
        each = listed[name]
        axes = tuple(range(value.ndim)) if each.transpose is None else each.transpose
        laid = value.detach().permute(axes).contiguous()
        raw = laid.reshape(-1).view(torch.uint8).numpy().tobytes() if laid.numel() else b""
        assert each.shape == tuple(value.shape) and content[each.offset : each.offset + len(raw)] == raw, name
    assert listed["turned"].transpose == (1, 0) and listed["channels_last"].transpose == (0, 2, 3, 1)
    assert listed["half"].transpose is None


class Payload:
    """Pickles as a program that leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["beside the tensors", "alone", "without an archive"])
def test_a_payload_never_runs(copy: Path, tmp_path: Path, place: str) -> None:
    mark = tmp_path / "pwned"
    if place == "beside the tensors":
        file = to_pickle(copy, UNET, lambda tensors: tensors.update({"conv_in.extra": Payload(mark)}))
    else:
        file = to_pickle(copy, UNET)
        torch.save(Payload(mark), file, _use_new_zipfile_serialization=place == "alone")
    with pytest.raises(CheckpointError) as refusal:
        open_checkpoint(copy)
    assert not mark.exists()
    text = str(refusal.value)
    assert str(file) in text and "\n" not in text and len(text) < 400
    if place != "without an archive":
        assert "is a pickle that holds more than tensors (it calls for posix.mkdir)" in text
    torch.load(file, weights_only=False)
    assert mark.is_dir()  # so it was armed


def rewrite(file: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Rewrite the archive with every record as `change` makes it."""
    with zipfile.ZipFile(file) as archive:
        records = {info.filename: change(info.filename, archive.read(info)) for info in archive.infolist()}
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)


def tiny_pickle(file: Path, value: Any = None) -> Path:
    torch.save({"weight": torch.zeros(8, 8)} if value is None else value, file)
    return file


def damaged(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif how == "compressed":
        rewrite(file, lambda name, data: data, zipfile.ZIP_DEFLATED)
    elif how == "short of values":
        rewrite(file, lambda name, data: data[:100] if "/data/" in name else data)
    elif how == "huge shape":  # 8, 8 and its strides, as the pickle writes them
        rewrite(file, lambda name, data: data.replace(b"K\x08K\x08\x86", b"J\xff\xff\xff\x7fK\x08\x86", 1))
    elif how == "big-endian":
        rewrite(file, lambda name, data: b"big" if name.endswith("byteorder") else data)
    elif how == "an order of many bytes":
        rewrite(file, lambda name, data: b"big" * 2**24 if name.endswith("byteorder") else data)
    elif how == "a large program":
        rewrite(file, lambda name, data: data + bytes(2**26) if name.endswith("data.pkl") else data)
    elif how == "a Git-LFS stub":
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3438167540\n")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", "is no archive of torch's .* that is whole"),
        ("compressed", "is compressed or encrypted"),
        ("short of values", "'weight', which needs 256 bytes of values that the file does not have"),
        ("huge shape", "(cannot be read as torch's file|needs [0-9]+ bytes of values that the file does not have)"),
        ("big-endian", "was written on a big-endian machine"),
        ("an order of many bytes", "was written on a big-endian machine"),
        ("a large program", "has a pickle of [0-9]+ bytes beside its tensors"),
        ("a Git-LFS stub", "Git-LFS stub"),
    ],
)
def test_damage_and_bombs_are_one_sentence(tmp_path: Path, how: str, message: str) -> None:
    file = tiny_pickle(tmp_path / "weights.bin")
    damaged(file, how)
    with pytest.raises(Exception, match=message) as refusal:
        pickles.list_here(file, "weights.bin")
    assert "\n" not in str(refusal.value)


def test_the_order_of_bytes_is_read_as_far_as_it_can_be_one(tmp_path: Path) -> None:
    file = tiny_pickle(tmp_path / "weights.bin")
    damaged(file, "an order of many bytes")
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="big-endian"):
            pickles.list_here(file, "weights.bin")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.zeros(2)], "holds a list; expected a dictionary of tensors"),
        ({"step": 3}, "holds 0 tensors"),
        ({"weight": torch.zeros(1).expand(4)}, "with holes or repetitions in memory"),
        ({"weight": torch.zeros(4, 4).to_sparse()}, "not supported|cannot be read"),
        ({"x" * 600: torch.zeros(2)}, "expected a name of 512 characters"),
    ],
)
def test_what_is_not_plain_weights_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        pickles.list_here(tiny_pickle(tmp_path / "weights.bin", value), "weights.bin")


def test_a_pickle_that_takes_memory_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and numbers are allowed in a file of tensors; a few thousand operations make gigabytes of them."""
    file = tiny_pickle(tmp_path / "weights.bin")
    program = io.BytesIO()
    pickle.dump({"weight": [bytes(1) * (2**20)]}, program, protocol=2)
    assert pickles.LISTING_BYTES <= 2**32
    monkeypatch.setattr(pickles, "MAX_PROGRAM_BYTES", 10)
    with pytest.raises(CheckpointError, match="expected at most 10"):
        pickles._records(file, "weights.bin")


def nested(depth: int) -> bytes:
    """A program of torch's own operations: a tuple of two of the tuple before, again and again."""
    program = b"\x80\x02K\x01q\x00"
    for index in range(depth):
        program += b"h%ch%c\x86q%c" % (index, index, index + 1)
    return program


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_pickle_that_takes_time_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the key of a dictionary such a tuple is hashed: 2^60 numbers."""
    file = tiny_pickle(tmp_path / "weights.bin")
    rewrite(file, lambda name, data: nested(60) + b"}h\x3cK\x01s." if name.endswith("data.pkl") else data)
    monkeypatch.setattr(pickles, "list_within_limits", list_in_a_moment)
    with pytest.raises(CheckpointError, match="weights.bin would take more than [0-9]+ seconds to list") as refusal:
        pickles.list_pickle(file, "weights.bin")
    assert "\n" not in str(refusal.value)


def list_in_a_moment(place: Path, name: str) -> Any:
    """As `list_within_limits`, in what is left of a few seconds once torch is imported."""
    limit_time(int(time.process_time()) + 5)
    return pickles.list_here(place, name)
