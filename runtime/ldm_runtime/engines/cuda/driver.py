"""A test for an NVIDIA GPU with a driver, by the driver itself (CUDA driver API)."""

import ctypes
import functools
import sys

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@functools.cache
def missing_gpu() -> str | None:
    """Return what is missing to use an NVIDIA GPU here, as half a sentence, or None if there is one."""
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError:
        return f"an NVIDIA driver ({_LIBRARY} is not on this machine)"
    status = driver.cuInit(0)
    count = ctypes.c_int(0)
    if status == 0:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0:
        return f"a working NVIDIA driver ({_LIBRARY} answers with error {status})"
    return None if count.value > 0 else "an NVIDIA GPU (the driver finds none)"
