"""Make the golden runs and one small model with other versions of PyTorch, NumPy and pyarrow, and
compare what comes out: `scripts/witness.py` in an environment for each row.

    python scripts/versions.py [--work build/versions] [--rows pinned torch-2.14]

Any Python from 3.11 on; its own version is part of what is compared, so run it with each that is at
hand, and give `--expect ROOT` of another run. An environment takes up to 6 GB, since PyTorch's
default build brings CUDA's libraries; it is removed when its row is done, unless `--keep`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What is replaced in each row; the other packages are the pinned ones.
ROWS: dict[str, dict[str, str]] = {
    "pinned": {},
    "torch-2.11": {"torch": "2.11.0"},
    "torch-2.14": {"torch": "2.14.1"},
    "older-arrays": {"numpy": "2.2.6", "pyarrow": "21.0.0"},
}


def requirements(changes: dict[str, str]) -> list[str]:
    """What to install: the dependencies of the package, pinned but for the changes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    pinned = dict(
        line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line
    )
    found = []
    for requirement in names:
        name = re.split(r"[\[<>=]", requirement)[0]
        version = changes.get(name, pinned[name].split("+")[0])
        found.append(f"{name}=={version}")
    return found


def witness(directory: Path, changes: dict[str, str]) -> dict[str, str]:
    """Make the environment, unless it is there, and return what `witness.py` says in it.

    Ends the program when a package is not to be had or the witness fails.
    """
    python = directory / "bin" / "python"
    if not (directory / ".ready").is_file():
        venv.create(directory, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
        subprocess.run([*pip, *requirements(changes)], check=True)
        (directory / ".ready").touch()
    done = subprocess.run(
        [python, ROOT / "scripts" / "witness.py"], capture_output=True, text=True, check=False
    )
    if not done.stdout:
        raise SystemExit(f"{directory.name}: {done.stderr}")
    said: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return said


def main() -> int:
    """Print a row of a Markdown table for each environment; 1 where one differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "versions")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--expect", default="", help="the root that another run printed")
    parser.add_argument("--keep", action="store_true", help="do not remove the environments")
    args = parser.parse_args()
    expected, is_same = args.expect, True
    for name in args.rows:
        directory = args.work / name
        said = witness(directory, ROWS[name])
        expected = expected or said["root"]
        is_same &= said["golden"] == "equal" and said["root"] == expected
        print("| " + " | ".join(str(value) for value in said.values()) + " |", flush=True)
        if not args.keep:
            shutil.rmtree(directory)
    print(f"golden runs and roots equal: {'yes' if is_same else 'no'}")
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
