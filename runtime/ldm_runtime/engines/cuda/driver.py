"""The NVIDIA GPUs of this machine and what is missing to use one, by the driver itself (CUDA driver API)."""

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


def gpu_names() -> tuple[str, ...]:
    """Return the names of this machine's NVIDIA GPUs, such as "NVIDIA L4"; none where they cannot be used."""
    if missing_gpu() is not None:
        return ()
    driver = ctypes.CDLL(_LIBRARY)
    count = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(count))
    names = []
    for ordinal in range(count.value):
        device, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
        if driver.cuDeviceGet(ctypes.byref(device), ordinal) == 0 and driver.cuDeviceGetName(name, 256, device) == 0:
            names.append(name.value.decode("utf-8", errors="replace"))
    return tuple(names)
