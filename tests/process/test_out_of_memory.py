"""Libraries have errors of their own for memory that ran out."""

import errno

import pytest
import torch

from ldm_export.process.out_of_memory import is_out_of_memory
from ldm_runtime.errors import InputError


def test_torch_says_so_in_words_that_are_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**59, dtype=torch.uint8)  # more than an address space holds
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("Failed to allocate memory for requested buffer of size 8"), True),
        (RuntimeError("shapes do not fit"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (InputError("the file out of memory.png is no image"), False),
    ],
)
def test_what_runs_out_of_memory(error: Exception, is_one: bool) -> None:
    assert is_out_of_memory(error) is is_one
