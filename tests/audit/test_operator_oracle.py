"""Each operator of a step, element by element, against exact fractions: what decides a dispute is
right about the kernels.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from golden import CASES, run_of

from sevenfold.audit.exact.oracle import OPERATORS, Question, element, same
from sevenfold.audit.steps.transcript import Kept, Transcript, TranscriptRow
from sevenfold.model.kernels import operators
from sevenfold.model.kernels.observe import observing
from sevenfold.train.loop import use_deterministic_kernels
from sevenfold.train.recording.records import Unrecorded

pytestmark = pytest.mark.skipif(not operators.is_available(), reason="native/train is not built here")
PER_OPERATOR, PER_OUTPUT = 2, 2


def calls_of(name: str, directory: Path) -> list[Kept]:
    """A few calls of each operator of the second step of a golden run."""
    run = run_of(CASES[name], directory)
    use_deterministic_kernels()
    run.take(None)
    run.model.train()
    run.advance(Unrecorded())
    seen: dict[str, int] = defaultdict(int)

    def wanted(number: int, row: TranscriptRow) -> bool:
        seen[row.operator] += 1
        return seen[row.operator] % 5 == 1 and seen[row.operator] // 5 < PER_OPERATOR

    transcript = Transcript(wanted)
    with observing(transcript):
        run.advance(Unrecorded())
    assert len(transcript.rows) > 60
    return list(transcript.kept.values())


SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("gqa", "routed", "untied", "documents", "hybrid documents")
]
ATTENTION = {"attend", "attend_slope"}
HYBRID = {"attend_hybrid", "attend_hybrid_slope"}


@pytest.mark.parametrize("name", ["objectives", "dropout", "hybrid", *SLOW])
def test_fractions_and_kernels_agree(name: str, tmp_path: Path) -> None:
    choose, asked = random.Random(name), set()
    for kept in calls_of(name, tmp_path):
        for output, values in kept.outputs.items():
            if kept.call.operator == "micro_batch":
                assert element("micro_batch", Question({}, {}, output, 0)) is None
                continue
            for _ in range(PER_OUTPUT if values.numel() else 0):
                index = choose.randrange(values.numel())
                question = Question(kept.inputs, kept.call.settings, output, index)
                found = element(kept.call.operator, question)
                assert found is not None
                assert same(found, float(values.reshape(-1)[index])), (kept.call.operator, output, index)
                asked.add(kept.call.operator)
    expected = set(OPERATORS) - (ATTENTION if "hybrid" in name else HYBRID)
    if name not in ("dropout", "hybrid documents"):
        expected -= {"dropout"}
    optional = {"scale", "add"}
    assert expected - optional <= asked


def test_a_number_that_is_none_is_no_answer() -> None:
    x = torch.tensor([torch.nan, 1.0])
    assert element("add", Question({"x": x, "y": x}, {}, "result.0", 0)) is None
    assert element("add", Question({"x": x, "y": x}, {}, "result.0", 1)) == 2.0
    assert not same(0.0, -0.0)
    assert same(float("nan"), float("nan"))
