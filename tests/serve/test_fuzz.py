"""Mutated requests and receipts: every answer is one that there is, and no forgery passes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path

import pytest
from fuzzing import HttpFuzz, fuzz_receipts, says_the_same

from sevenfold.engine.session import Model

SECONDS = float(os.environ.get("S7_FUZZ_SECONDS", "60"))


@pytest.mark.parametrize(
    ("n", "seconds"),
    [(250, 600.0), pytest.param(1 << 30, SECONDS, marks=pytest.mark.slow)],
    ids=["few", "long"],
)
def test_requests(model_path: Path, n: int, seconds: float) -> None:
    fuzz = HttpFuzz(model_path)
    try:
        assert asyncio.run(fuzz.run(n, seconds, seed=n)) > 0
        assert {200, 400} <= fuzz.counts.keys(), "some are answered, some refused"
    finally:
        fuzz.server.registry.close()


@pytest.mark.parametrize(
    ("n", "seconds"),
    [(400, 600.0), pytest.param(1 << 30, SECONDS, marks=pytest.mark.slow)],
    ids=["few", "long"],
)
def test_receipts(model: Model, n: int, seconds: float) -> None:
    assert fuzz_receipts(model, n, seconds, seed=n) > 0


def test_the_judge_of_a_change_is_no_yes_man() -> None:
    def receipt(format_: object, top_k: int) -> dict[str, object]:
        said = {"predicate": {"format": format_, "sampling": {"top_k": top_k}, "request": {"stops": []}}}
        payload = base64.b64encode(json.dumps(said).encode()).decode()
        return {"envelope": {"payload": payload, "signatures": []}, "salt": ""}

    good = receipt(1, 0)
    for same in (good, receipt(1, 1), {"salt": "", "envelope": good["envelope"]}):
        assert says_the_same(json.dumps(same).encode(), good)
    for other in (receipt(2, 0), receipt(True, 0), good | {"salt": "00"}, []):
        assert not says_the_same(json.dumps(other).encode(), good)
