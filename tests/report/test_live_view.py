"""The live view in a pseudo-terminal: at any width every figure is there, whole; without a
cursor to move, plain lines.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

FIGURES = {"loss": 3.14159, "tokens_per_second": 4052.3, "code": "3.567", "math": "3.783",
    "reasoning": "2.911",
           "prose": "3.648", "MFU": "31.4%", "memory": "0.83 GiB"}  # fmt: skip
SHOWN = (
    "loss 3.142",
    "4,052 tokens/s",
    "code 3.567",
    "reasoning 2.911",
    "prose 3.648",
    "MFU 31.4%",
    "memory 0.83 GiB",
)
PROGRAM = f"""
from sevenfold.report.console import close_progress, make_progress
progress = make_progress()
print(type(progress).__name__)
progress.start("train", 400, "steps")
for step in range(1, 13):
    progress.advance(step, **{FIGURES!r})
close_progress(progress)
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(columns: int, **environment: str) -> str:
    """What the program writes to a terminal of that width, control sequences taken out."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    base = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=slave, stderr=slave, stdin=slave,
        env=base | {"TERM": "xterm-256color"} | environment,
    )  # fmt: skip
    os.close(slave)
    written = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    os.close(master)
    assert process.wait() == 0, written
    return CONTROL.sub("", written.decode())


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_every_figure_is_whole_at_any_width(columns: int) -> None:
    text = on_a_terminal(columns)
    assert "LiveProgress" in text
    assert "12/400" in text
    for part in SHOWN:
        assert part in text
    assert re.search(r"\d:\d\d", text)  # the time left
    assert max(len(line) for line in re.split(r"[\r\n]+", text)) <= columns


def test_without_colour_or_without_a_cursor() -> None:
    assert "loss 3.142" in on_a_terminal(80, NO_COLOR="1")
    plain = on_a_terminal(80, TERM="dumb")
    assert plain.split() == ["PlainProgress"]  # its lines come every ten seconds
