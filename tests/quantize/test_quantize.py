"""From floats to integers: codes, multipliers, the gate, and the integer
model against the float model.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.artifact import read_artifact, verify
from sevenfold.core.numbers.fixed import CODE_MAX
from sevenfold.core.process.log import Silent
from sevenfold.engine import native
from sevenfold.engine.session import replay
from sevenfold.engine.weights import load_weights
from sevenfold.quantize import evaluate
from sevenfold.quantize.convert import mantissa, quantize_rows, residual_exponent
from sevenfold.quantize.evaluate import integer_score
from sevenfold.quantize.seal import thin
from sevenfold.quantize.stage import read_records
from sevenfold.runs.job import Job
from sevenfold.train.data.dataset import held_out, load_tokenizer, token_lengths


@given(st.floats(1e-13, 1e12))
def test_mantissa_is_within_half_a_unit(value: float) -> None:
    m, s = mantissa(value)
    assert 2**15 <= m < 2**16
    assert math.ldexp(m, -s) == pytest.approx(value, rel=2**-16)


def test_mantissa_of_nothing_is_zero() -> None:
    assert mantissa(0.0) == (0, 62)
    assert mantissa(2.0**-60) == (0, 62)
    assert mantissa(1.0) == (32768, 15)
    assert mantissa(1.0 - 2**-30) == (32768, 15)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=40))
def test_codes_are_within_half_a_step_and_never_minus_128(values: list[float]) -> None:
    weight = np.array([values, [0.0] * len(values)])
    codes, scale = quantize_rows(weight)
    assert np.abs(codes.astype(int)).max(initial=0) <= CODE_MAX
    if scale[0] > 1e-300:
        assert np.abs(codes[0] * scale[0] - weight[0]).max() <= scale[0] * 0.5000001
        assert np.abs(codes[0]).max() == CODE_MAX
    assert scale[1] == 0.0
    assert not codes[1].any()


@pytest.mark.parametrize(
    ("largest", "exponent"), [(0.1, 16), (40.0, 16), (1000.0, 16), (2000.0, 15), (2.0**20, 5)]
)
def test_residual_exponent_leaves_headroom(largest: float, exponent: int) -> None:
    assert residual_exponent(largest) == exponent
    assert max(largest, 1.0) * 2 * 2**exponent <= 2**28


def test_integers_cost_next_to_nothing(finished_run: Job) -> None:
    facts = finished_run.manifest("quantize").facts
    assert abs(facts["bpb_increase"]) < 0.005
    assert facts["top1_agreement"] > 0.95
    assert facts["bpb_fp32"] < 6.0  # eight bits a byte is knowing nothing


def test_a_damaged_scale_is_seen_by_the_measurement(finished_run: Job) -> None:
    # The canary: if one wrong multiplier did not show, the measurement would prove nothing.
    records, graph = read_records(finished_run.directory("quantize"))
    graph["exponents"]["lm_head.weight"] += 1
    rows = held_out(finished_run, 8)[0].rows
    lengths = token_lengths(load_tokenizer(finished_run))
    score, _ = integer_score(load_weights(records, graph, "test"), rows, lengths, Silent())
    assert score.bits_per_byte > 1.02 * finished_run.manifest("quantize").facts["bpb_int"]


def test_without_the_native_engine_pytorch_measures_the_same(
    finished_run: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used, original = [], evaluate.make_engine

    def spy(name: str, *args: object) -> object:
        used.append(name)
        return original(name, *args)

    monkeypatch.setattr(evaluate, "make_engine", spy)
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "libs7.so")
    records, graph = read_records(finished_run.directory("quantize"))
    rows, lengths = held_out(finished_run, 8)[0].rows, token_lengths(load_tokenizer(finished_run))
    score, _ = integer_score(load_weights(records, graph, "test"), rows, lengths, Silent())
    assert used == ["torch"]
    assert score.bits_per_byte == finished_run.manifest("quantize").facts["bpb_int"]


def test_the_sealed_file_is_verified_with_replay(finished_run: Job) -> None:
    result = verify(read_artifact(finished_run.out / "model.s7l"), replay)
    assert [(row.id, row.status) for row in result.rows] == [(f"V{i}", "pass") for i in range(8)]


def test_seal_binds_every_input(finished_run: Job) -> None:
    artifact = read_artifact(finished_run.out / "model.s7l")
    identity = artifact.provenance["identity"]
    assert identity["recipe_digest"] == finished_run.recipe.digest
    assert identity["dataset_root"] == finished_run.manifest("corpus").root
    assert identity["training_seed"] == finished_run.recipe.train.seed
    assert artifact.class_ == (2 if finished_run.recipe.model.moe else 1)
    assert artifact.batch["rows"][-1]["step"] == 30


def test_thin_keeps_the_last_row() -> None:
    rows = [{"step": i} for i in range(1001)]
    kept = thin(rows, 100)
    assert len(kept) <= 101
    assert kept[0] == rows[0]
    assert kept[-1] == rows[-1]
    assert thin(rows[:50], 100) == rows[:50]
