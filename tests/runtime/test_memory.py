"""What memory is left: the machine's, or less where a container has a limit."""

from pathlib import Path

import pytest

from ldm_runtime import memory


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the system has, of which there are none yet."""
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    files = tuple(str(tmp_path / name) for name in ("memory.max", "memory.current", "memory.stat"))
    monkeypatch.setattr(memory, "_CONTROL_GROUPS", (files,))
    return tmp_path


def test_a_system_that_does_not_tell_gives_none(system):
    assert memory.available_memory() is None
    (system / "meminfo").write_text("MemTotal:       24000000 kB\n")
    assert memory.available_memory() is None


def test_the_machines_memory_counts_without_a_container(system):
    (system / "meminfo").write_text("MemTotal:       24000000 kB\nMemAvailable:   20000000 kB\nHugePages_Total:  0\n")
    assert memory.available_memory() == 20_000_000 * 1024
    (system / "memory.max").write_text("max\n")
    (system / "memory.current").write_text("500\n")
    assert memory.available_memory() == 20_000_000 * 1024


def test_a_containers_limit_counts_less_what_is_in_use_but_for_files(system):
    (system / "meminfo").write_text("MemAvailable:   20000000 kB\n")
    (system / "memory.max").write_text("8000000000\n")
    (system / "memory.current").write_text("3000000000\n")
    assert memory.available_memory() == 5_000_000_000
    (system / "memory.stat").write_text("anon 1000000000\nactive_file 500000000\ninactive_file 1500000000\n")
    assert memory.available_memory() == 7_000_000_000
    (system / "memory.current").write_text("12000000000\n")
    assert memory.available_memory() == 0


def test_the_machine_itself_is_read():
    available = memory.available_memory()
    assert available is None or available > 2**20
