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

for turn in range(5):
    before = faults()
    blocks = [np.ones(1 << 20) for _ in range(10)]  # 8 MiB each
    del blocks
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_blocks_that_come_again_cost_no_page_faults() -> None:
    found = {
        kind: int(
            subprocess.run(
                [sys.executable, "-c", CODE, kind], capture_output=True, text=True, check=True
            ).stdout
        )
        for kind in ("kept", "as it is")
    }
    assert found["kept"] < 100
    assert found["as it is"] > 100  # what this is about; else the call has become needless
