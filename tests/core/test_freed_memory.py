"""Freed memory stays with the process: blocks that come again cost no page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from sevenfold.core.process.memory import keep_freed_memory

if sys.argv[1] == "kept" and not keep_freed_memory():  # no assert: the suite runs under -O, too
    sys.exit("this C library takes no such settings")

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

n_blocks, megabytes = map(int, sys.argv[2:])
for turn in range(5):
    before = faults()
    blocks = [np.ones(megabytes << 17) for _ in range(n_blocks)]
    del blocks
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("blocks", [(10, 8), (4, 48)], ids=["8 MiB", "48 MiB"])
def test_blocks_that_come_again_cost_no_page_faults(blocks: tuple[int, int]) -> None:
    """A tensor of code-8m with 64 rows has 42 MB, which no threshold of glibc keeps."""
    found = {
        kind: int(
            subprocess.run(
                [sys.executable, "-c", CODE, kind, *map(str, blocks)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for kind in ("kept", "as it is")
    }
    assert found["kept"] < 100
    assert found["as it is"] > 100  # what this is about; else the call has become needless
