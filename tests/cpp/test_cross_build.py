"""What cross_build.py reads of libraries that nothing here can load."""

import importlib.util
import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.cpp.cpp_build import SOURCE

# "_ldm_version" and "_ldm_verify" share their beginning; a name that ends within another has both.
TRIE = (
    bytes([0, 1, *b"_ldm_ver\0", 12]) + bytes([0, 2, *b"sion\0", 25, *b"ify\0", 29]) + bytes([2, 0, 16, 0, 2, 0, 32, 0])
)
NAMES = {"_ldm_version", "_ldm_verify"}


@pytest.fixture
def script() -> ModuleType:
    place = SOURCE / "scripts" / "cross_build.py"
    spec = importlib.util.spec_from_file_location("cross_build", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cross_build"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def library(trie: bytes, kind: int = 0x80000033) -> bytes:
    """A Mach-O file of a header, one command and the trie that it points at."""
    command = {
        0x80000033: struct.pack("<4I", kind, 16, 0, len(trie)),
        0x80000022: struct.pack("<12I", kind, 48, *[0] * 8, 0, len(trie)),
    }[kind]
    place = 32 + len(command)
    words = list(struct.unpack(f"<{len(command) // 4}I", command))
    words[-2] = place
    return (
        struct.pack("<8I", 0xFEEDFACF, 0, 0, 6, 1, len(command), 0, 0) + struct.pack(f"<{len(words)}I", *words) + trie
    )


@pytest.mark.parametrize("kind", [0x80000033, 0x80000022])
def test_exports_of_macos_are_read(script: ModuleType, kind: int) -> None:
    assert set(script.mach_o_exports(library(TRIE, kind))) == NAMES


def test_other_exports_than_the_interface_are_refused(script: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "libldm_runtime.dylib"
    file.write_bytes(library(TRIE))
    with pytest.raises(SystemExit, match="more: none; less: _ldm_abi_version, "):
        script.refuse_other_exports(file)
    file.write_bytes(library(TRIE.replace(b"ify", b"ifx")))
    with pytest.raises(SystemExit, match="more: _ldm_verifx; less: "):
        script.refuse_other_exports(file)
