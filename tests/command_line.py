"""The command line as a user runs it: a process of its own, what it prints, how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def s7(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line and return what it printed as text."""
    command = [sys.executable, "-m", "sevenfold.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)


def s7_of_bytes(*args: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command line on bytes of standard input and return what it printed as bytes."""
    command = [sys.executable, "-m", "sevenfold.cli", *map(str, args)]
    return subprocess.run(command, input=data, capture_output=True, check=False, timeout=300)


def said(*args: object, data: bytes = b"") -> Any:
    """Return the JSON that a verb prints."""
    done = s7_of_bytes(*args, "--json", data=data)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(code: int, *args: object, data: bytes = b"") -> str:
    """Return the one line with which a verb refuses, under an exit code and without a traceback."""
    done = s7_of_bytes(*args, data=data)
    assert done.returncode == code, (args, done.stdout, done.stderr)
    lines = done.stderr.decode().strip().splitlines()
    assert len([line for line in lines if line.startswith("s7: ")]) == 1
    assert b"Traceback" not in done.stderr
    return lines[-1]
