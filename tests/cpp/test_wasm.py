"""The core as WebAssembly: its own tests, the same sources and the same golden vectors, in Node."""

import shutil
import sys

import pytest

from tests.cpp.cpp_build import ROOT, SOURCE, run

pytestmark = pytest.mark.slow


def test_the_core_s_tests_pass_as_webassembly() -> None:
    if shutil.which("node") is None:
        pytest.fail("node is not installed; the core's tests as WebAssembly need Node.js 20 or newer")
    script = SOURCE / "scripts" / "cross_build.py"
    said = run(sys.executable, script, "wasm32", "--test", "--unity", "--out", ROOT / "build" / "cross")
    assert "passed with node" in said, said
