"""The cores that this process may use, which need not be all that the machine has."""

import os
import subprocess
import sys

import pytest

from ldm_export.process.cores import usable_cores

PROGRAM = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
PROGRAM += "from ldm_export.process.cores import usable_cores; print(usable_cores())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_a_process_that_is_bound_to_one_core_has_one() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(("count", "cores"), ((6, 6), (None, 1)))
def test_where_no_process_is_bound_all_cores_count(
    monkeypatch: pytest.MonkeyPatch, count: int | None, cores: int
) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: count)
    assert usable_cores() == cores
