"""Where the C and C++ library of latent diffusion packages lies, with its header, CMake's and pkg-config's files."""

import importlib.util
import os
import sys
from pathlib import Path


def prefix() -> Path:
    """Return the folder that all is installed in, for CMAKE_PREFIX_PATH: `bin`, `include`, `lib` and `share`."""
    return Path(__file__).parent / "prefix"


def library() -> Path:
    """Return the shared library, to open with ctypes or cffi."""
    return prefix() / "lib" / "libldm_runtime.so"


def onnxruntime() -> Path | None:
    """Return the shared library of the ONNX Runtime in this environment, or None if there is none."""
    package = importlib.util.find_spec("onnxruntime")
    if package is None or package.origin is None:
        return None
    return next(iter(sorted((Path(package.origin).parent / "capi").glob("libonnxruntime.so*"))), None)


def run_tool() -> None:
    """Become the program `ldm`, with the ONNX Runtime of this environment unless LDM_ONNXRUNTIME names another."""
    engine = onnxruntime()
    if engine is not None:
        os.environ.setdefault("LDM_ONNXRUNTIME", str(engine))
    tool = prefix() / "bin" / "ldm"
    os.execv(tool, ["ldm", *sys.argv[1:]])
