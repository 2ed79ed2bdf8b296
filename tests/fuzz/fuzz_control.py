"""Coverage-guided fuzzing of the CM-1 machine: any bytes are one frame or a `GateError`, and
what it takes it gives back.

python tests/fuzz/fuzz_control.py -max_total_time=60 CORPUS_DIR     (libFuzzer flags; needs atheris)
"""

from __future__ import annotations

import atheris
from sources import fuzz, use_sources

use_sources()

with atheris.instrument_imports(include=["sevenfold"]):
    from sevenfold.artifact import Gate, frame, parse, visible_text
    from sevenfold.artifact.control import State
    from sevenfold.core.errors import GateError


def stream(data: bytes) -> None:
    """One stream: a frame or a `GateError`, however it is cut."""
    try:
        found = parse(data)
    except GateError as error:
        if not str(error).isprintable():
            raise AssertionError(f"prints {error}") from error
        found = None
    gate, half = Gate(), len(data) // 2
    try:
        gate.feed(data[:half])
        gate.feed(data[half:])
        whole = gate.state is State.ENDED
    except GateError:
        whole = False
    if whole != (found is not None):
        raise AssertionError("where the stream is cut matters")
    if found is not None and visible_text(data.decode()) != found.header + visible_text(found.body):
        raise AssertionError("the visible text of a stream is not that of its frame")


def prompt(text: str) -> None:
    """One prompt: what may be framed comes back as it was, and a gate shuts behind it."""
    shown = visible_text(text)
    if visible_text(shown) != shown:
        raise AssertionError("visible text has something to hide")
    gate = Gate()
    try:
        with gate.call(text) as body:
            if body != text or not gate.is_open or parse(frame(text)).body != text:
                raise AssertionError("the gate changes the prompt")
    except GateError:
        if shown == text:
            raise
    if gate.is_open:
        raise AssertionError("the gate stays open")


def one(data: bytes) -> None:
    """One input: as a stream, and as a prompt."""
    stream(data)
    prompt(data.decode("utf-8", "ignore"))


def seeds() -> list[bytes]:
    """Where the search begins: streams that are taken, and one of each character that is not."""
    taken = [frame("def f():\n\treturn 1"), frame(""), b"\1h\2a\x0eb\x0f\x10\3\3\4", bytes(range(32))]
    return [*taken, *(b"\1\2" + bytes([c]) + b"\3\4" for c in range(32))]


if __name__ == "__main__":
    fuzz(one, seeds())
