"""Settings of the C library: memory that was freed is kept for the next allocation."""

from __future__ import annotations

import ctypes

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# The most that every glibc takes.
_LARGEST_FROM_HEAP = 32 << 20
_FREE_TOP = 1 << 30


def keep_freed_memory() -> bool:
    """Keep freed memory in the process: blocks up to 32 MiB, and 1 GiB behind the last block in use.

    Return whether the C library can.

    A training step allocates and frees the same blocks again and again. By default glibc gives many
    of them back to the system, and each page that comes back costs a fault: a tenth of a BF16 step
    (dev/LOG.md). It decides no bit.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP) and mallopt(_M_TRIM_THRESHOLD, _FREE_TOP))
