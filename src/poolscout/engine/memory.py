"""How the C library treats freed memory."""

from __future__ import annotations

import ctypes
from functools import cache

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
MIB = 2**20


@cache
def keep_freed_memory() -> bool:
    """Let this process keep blocks up to 32 MiB that it frees, for their next use; True where that can be arranged.

    Passes and trainings free the same tensors thousands of times and ask for them again. glibc gives such blocks back
    to the system, which then clears every page anew: 6 to 9 % of a forward pass on a CPU. It is for the
    application to say, once, as it holds for the whole process; elsewhere than on glibc nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, 32 * MIB), (_M_TRIM_THRESHOLD, 1024 * MIB), (_M_TOP_PAD, 64 * MIB))
    return all(mallopt(name, value) == 1 for name, value in settings)
