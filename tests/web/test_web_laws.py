"""The sampling law and the gate of web/ decide what Python decides."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sevenfold.artifact import Gate
from sevenfold.core.errors import GateError
from sevenfold.engine.sampling import DecodingLaw

LAWS = [
    ("1", 0, "0", "1"), ("0", 0, "0", "1"), ("0.7", 4, "0", "1"), ("0.8", 0, "0.1", "0.95"),
    ("2", 40, "0", "0.5"), ("0.01", 0, "0", "0.9"), ("9.9", 0, "0.00002", "1"),
    ("65535", 3, "0.5", "0.00002"), ("0.00002", 0, "0", "1"),
]  # fmt: skip


def cases(count: int) -> list[dict[str, object]]:
    rng = random.Random(3)
    rows: list[dict[str, object]] = []
    for i in range(count):
        temperature, top_k, min_p, top_p = LAWS[i % len(LAWS)]
        n, width = rng.choice([1, 2, 5, 37, 320]), rng.choice([0, 1000, 300_000, 2**31 - 1])
        logits = [rng.randint(-width, width) for _ in range(n)]
        if i % 7 == 0:
            logits = [max(logits)] * n
        seed = str(rng.choice([0, 42, 2**64 - 1, rng.getrandbits(64)]))
        rows.append(
            {"logits": logits, "temperature": temperature, "top_k": top_k, "min_p": min_p, "top_p": top_p,
             "seed": seed, "position": rng.randrange(5000), "sample": rng.randrange(4)}
        )  # fmt: skip
    return rows


def chosen(row: dict[str, object]) -> int:
    law = DecodingLaw.parse(row["temperature"], row["top_k"], row["min_p"], row["top_p"], int(row["seed"]))
    return law.choose(np.array(row["logits"], np.int64), position=row["position"], sample=row["sample"])


@pytest.mark.parametrize("count", [180, pytest.param(5000, marks=pytest.mark.slow)])
def test_tokens(count: int, node: Callable[..., str], tmp_path: Path) -> None:
    rows = cases(count)
    (tmp_path / "cases").write_text(json.dumps(rows))
    assert json.loads(node("tools/sample", tmp_path / "cases")) == [chosen(row) for row in rows]
    # The seed matters: with another one other tokens come.
    drawn = [row for row in rows if row["temperature"] == "1" and len(row["logits"]) > 30]
    assert [chosen(row) for row in drawn] != [chosen(row | {"seed": "7"}) for row in drawn]


def state_of(stream: bytes) -> str:
    gate = Gate()
    for at in range(len(stream)):
        try:
            gate.feed(stream[at : at + 1])
        except GateError:
            return "refused"
    return "ended" if gate.state.value == "ended" else "open" if gate.is_open else "shut"


def streams(count: int) -> list[bytes]:
    rng = random.Random(9)
    controls = [bytes([code]) for code in (1, 2, 3, 4, 14, 15, 16, 0x1B, 0x7F)]
    texts = [text.encode() for text in ("a", "\n", "\t", "\u00e9", "\U0001f600", "\u20ac", "\x85")]
    pieces = [*controls, *texts, b"\xff", b"\xed\xa0\x80", b"\xc3", b"\x10\x03"]
    found = [b"\1\2ab\3\4", b"\1head\2\x0e\x0e\x0f\x0f\3\4", b"", b"\1\2" + b"\x0e" * 16]
    found += [b"\1" + b"h" * 1025 + b"\2", b"\1\2open", b"\1shut"]
    while len(found) < count:
        body = b"".join(rng.choices(pieces, k=rng.randint(0, 12)))
        found.append(b"\1\2" + body + b"\3\4" if rng.random() < 0.7 else body)
    return found


def test_streams(node: Callable[..., str], tmp_path: Path) -> None:
    wanted = streams(1500)
    (tmp_path / "streams").write_text(json.dumps([stream.hex() for stream in wanted]))
    found = json.loads(node("tools/streams", tmp_path / "streams"))
    assert found == [state_of(stream) for stream in wanted]
    assert {*found} == {"ended", "open", "shut", "refused"}
