"""Whether an error says that the machine's memory ran out: libraries have errors of their own for that."""

import errno
import re

from ldm_export.process.faults import described
from ldm_runtime.errors import LdmError

# torch on the CPU (on Windows too) and on a GPU, ONNX Runtime's arena, C++ libraries without a word of their own.
_SAYS_SO = re.compile(
    r"can't allocate memory|not enough memory: you tried to allocate|out of memory|Failed to allocate memory|"
    r"std::bad_alloc|bad allocation"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: Python's error, the system's, or a library's, known by its text."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, Exception) and not isinstance(error, LdmError) and bool(_SAYS_SO.search(described(error)))
    )
