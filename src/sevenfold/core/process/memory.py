"""Configure the C library to keep freed memory for the next allocation."""

from __future__ import annotations

import ctypes

# Constants of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# The largest value that every glibc accepts.
_LARGEST_FROM_HEAP = 32 << 20
_FREE_TOP = 1 << 30


def keep_freed_memory() -> bool:
    """Keep freed memory in the process: blocks up to 32 MiB, and 1 GiB after the last used block.

    Return whether the C library supports this. A training step allocates and frees the same blocks
    again and again. By default glibc returns many of them to the system, and each page that comes
    back costs a fault, together a tenth of a BF16 step (dev/LOG.md). It decides no bit.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP) and mallopt(_M_TRIM_THRESHOLD, _FREE_TOP))
