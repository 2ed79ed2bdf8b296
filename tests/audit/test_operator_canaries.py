"""A flipped bit in any operator of a step is found at that operator, and the oracle says which side
is right. Each kind of attention has a run of its own.
"""

from __future__ import annotations

import functools
import inspect
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import HYBRID

from sevenfold import pipeline
from sevenfold.audit.exact.oracle import OPERATORS
from sevenfold.audit.steps.bundle import StepBundle, read_bundle
from sevenfold.audit.steps.check import run_of
from sevenfold.audit.steps.dispute import dispute_step
from sevenfold.audit.steps.export import export_step
from sevenfold.audit.steps.transcript import Transcript
from sevenfold.core.process.log import Silent
from sevenfold.model.kernels import causal, hybrid_kernel, operators
from sevenfold.model.kernels.observe import observing
from sevenfold.runs.job import Job
from sevenfold.train.recording.records import Unrecorded

pytestmark = pytest.mark.skipif(not operators.is_available(), reason="native/train is not built here")
STEP = 2
HYBRID_ONLY = ("attend_hybrid", "attend_hybrid_slope")
MODELS: dict[str, dict[str, Any]] = {
    "causal": {"dropout": 0.1},
    "hybrid": {"attention": HYBRID | {"rope_scaling": "none"}, "n_kv_heads": 1},
}
NAMES = [name if name in HYBRID_ONLY else pytest.param(name, marks=pytest.mark.slow) for name in OPERATORS]


@pytest.fixture(scope="module")
def bundle_of(
    tmp_path_factory: pytest.TempPathFactory, make_job: Callable[..., Job]
) -> Callable[[str], StepBundle]:
    """bundle_of(kind of attention) -> a step of a run as it recorded it."""
    train = {"tokens": STEP * 4 * 64, "micro_batch_sequences": 2, "clip_norm": 1e-3}

    @functools.cache
    def build(kind: str) -> StepBundle:
        directory = tmp_path_factory.mktemp(kind)
        job = make_job(directory / "run", model=MODELS[kind], train=train)
        pipeline.make(job, until="train")
        out = directory / "step.s7step"
        assert export_step(job.out, STEP, out, job.recipe, Silent(), operators=True)["same"]
        return read_bundle(out)

    return build


def flipped(value: float) -> float:
    """The number with one bit of its fraction changed."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    return float(struct.unpack("<d", struct.pack("<q", bits ^ 1 << 30))[0])


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Within this block the first result of the first call of an operator has a flipped bit."""
    room = next(room for room in (operators, causal, hybrid_kernel) if hasattr(room, name))
    wrapper = getattr(room, name)
    cells = dict(zip(wrapper.__code__.co_freevars, wrapper.__closure__, strict=True))
    function, done = wrapper.__wrapped__, []
    written = (*cells["changed"].cell_contents, *cells["out"].cell_contents)

    @functools.wraps(function)
    def tampered(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        given = inspect.signature(function).bind(*args, **kwargs).arguments
        if done:
            return result
        done.append(True)
        if isinstance(result, float):
            return flipped(result)
        if isinstance(result, list):
            return [flipped(result[0]), *result[1:]]
        tensors = result if isinstance(result, tuple) else (result, *(given.get(n) for n in written))
        first = next(t for t in tensors if isinstance(t, torch.Tensor) and t.numel())
        values = first.view(-1) if first.is_contiguous() else first.as_strided((1,), (1,))
        number = int(torch.nonzero(values)[0])
        values.view(torch.int32)[number] ^= 1 << 20
        return result

    cells["function"].cell_contents = tampered
    try:
        yield
    finally:
        cells["function"].cell_contents = function


def told_by_a_liar(honest: StepBundle, name: str, directory: Path) -> StepBundle:
    """The bundle of one whose operator is broken: its transcript, and the outputs of that call."""
    numbers = [i for i, row in enumerate(honest.transcript or []) if row["operator"] == name]
    assert numbers, f"no {name} in this step"
    transcript = Transcript(lambda number, _row: number == numbers[0])
    run = run_of(honest, directory)
    with broken(name), observing(transcript):
        run.advance(Unrecorded())
    return replace(honest, transcript=transcript.as_json(), kept=transcript.kept_outputs())


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_is_found_at_its_operator(
    name: str, bundle_of: Callable[[str], StepBundle], tmp_path: Path
) -> None:
    honest = bundle_of("hybrid" if name in HYBRID_ONLY else "causal")
    liar = told_by_a_liar(honest, name, tmp_path)
    for sides, upheld in (((honest, liar), "a"), ((liar, honest), "b")):
        found = dispute_step(*sides)
        assert (found.place, found.upheld) == ("operator", upheld)
        assert found.operator is not None
        assert found.elements is not None
        assert found.operator["name"] == name
        assert (found.elements["n_different"], found.elements["agrees"]) == (1, "here")
        (checked,) = found.elements["checked"]
        assert checked["oracle"] == checked["here"] != checked["told"]


@pytest.mark.parametrize("kind", ["hybrid", pytest.param("causal", marks=pytest.mark.slow)])
def test_honest_sides_have_no_dispute(kind: str, bundle_of: Callable[[str], StepBundle]) -> None:
    assert dispute_step(bundle_of(kind), bundle_of(kind)).place == "claim"
