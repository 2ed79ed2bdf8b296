"""Configure the C library to keep freed memory for the next allocation."""

from __future__ import annotations

import ctypes

# Constants of glibc's malloc.h. The threshold -1 is none.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER, _NO_BLOCKS = -1, 0


def keep_freed_memory() -> bool:
    """Keep all freed memory in the process, whatever the size of its blocks.

    Return whether the C library supports this. A training step allocates and frees the same blocks
    again and again. By default glibc returns many of them to the system, and each page that comes
    back costs a fault: a tenth of a BF16 step, and a third of a step whose tensors have more than
    32 MiB (dev/LOG.md). It decides no bit.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    # A block with a mapping of its own is unmapped when it is freed. A threshold can only keep blocks
    # up to 32 MiB out of such mappings, so none may be made at all.
    return bool(mallopt(_M_MMAP_MAX, _NO_BLOCKS) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
