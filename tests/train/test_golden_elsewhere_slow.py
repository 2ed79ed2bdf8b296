"""The golden runs on other interpreters: versions of Python, and of PyTorch in their environments.

python3.12 and python3.13 are looked for on the path; `S7_PYTHONS` names more, separated as in PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden import CASES, promised

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]
ROOT = Path(__file__).resolve().parents[2]
NAMED = [name for name in os.environ.get("S7_PYTHONS", "").split(os.pathsep) if name]
NEEDED = ("torch", "numpy", "pydantic", "yaml", "safetensors")
PROGRAM = """
import json, sys, tempfile
from pathlib import Path
import golden
with tempfile.TemporaryDirectory() as directory:
    print(json.dumps({name: golden.digests(name, Path(directory) / name) for name in sys.argv[1:]}))
"""


def run(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests" / "train")))
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run([python, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("python", [sys.executable, "python3.12", "python3.13", *NAMED])
def test_another_interpreter_gives_the_same(python: str) -> None:
    if shutil.which(python) is None:
        pytest.skip(f"no {python} here")
    lacks = run(python, "-c", f"import {', '.join(NEEDED)}")
    if lacks.returncode:
        pytest.skip(f"{python} lacks what training needs: {lacks.stderr.splitlines()[-1]}")
    done = run(python, "-c", PROGRAM, *CASES)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == promised()
