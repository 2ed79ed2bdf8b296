"""Run the package's own tests (web/test/*.test.ts) in Node.js, one by one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

NAMES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "web" / "test").glob("*.test.ts"))


@pytest.mark.parametrize("name", NAMES)
def test_in_node(name: str, built: Path) -> None:
    program = built / "tests" / f"{name}.mjs"
    done = subprocess.run(["node", "--test", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "# pass 0" not in done.stdout, "no test ran"
