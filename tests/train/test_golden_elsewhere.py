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

pytestmark = pytest.mark.subprocess
ROOT = Path(__file__).resolve().parents[2]
NAMED = [name for name in os.environ.get("S7_PYTHONS", "").split(os.pathsep) if name]
NEEDED = ("torch", "numpy", "pydantic", "yaml", "safetensors")
WITNESS = str(ROOT / "scripts" / "witness.py")
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_witness_says_what_came_out() -> None:
    done = run(sys.executable, WITNESS)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["golden"] == "equal"
    assert len(bytes.fromhex(said["root"])) == 32


def test_a_row_of_versions_replaces_what_it_names_and_pins_the_rest() -> None:
    script = "import versions; print(*versions.requirements({'torch': '9.9'}), sep='\\n')"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    found = dict(line.split("==") for line in done.stdout.split())
    assert found["torch"] == "9.9"
    assert found.keys() >= {"numpy", "pyarrow", "tokenizers", "identify"}
    assert all(version[0].isdigit() for version in found.values())
