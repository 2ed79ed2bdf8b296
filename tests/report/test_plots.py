"""Figures: what is drawn is what was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.report.plots import StepChart, bits_per_byte_bars, smooth, thin, training_curves


def steps(n: int) -> list[StepChart]:
    return [StepChart(i * 10.0, 5.0 / (i + 1), 0.1, 1.0) for i in range(n)]


@given(st.integers(1, 5000), st.integers(2, 1000))
def test_thinning_keeps_the_ends_and_the_order(n: int, limit: int) -> None:
    all_steps = steps(n)
    thinned = thin(all_steps, limit)
    assert len(thinned) == min(n, limit)
    assert (thinned[0], thinned[-1]) == (all_steps[0], all_steps[-1])
    assert [s.tokens for s in thinned] == sorted({s.tokens for s in thinned})


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400))
def test_smoothing_is_a_mean_of_neighbours(values: list[float]) -> None:
    means = smooth(values)
    half = len(values) // 50 // 2
    assert len(means) == len(values)
    for i in range(0, len(values), 37):
        window = values[max(0, i - half) : i + half + 1]
        assert means[i] == pytest.approx(sum(window) / len(window), abs=1e-3)


def test_smoothing_leaves_a_straight_line_alone() -> None:
    line = [float(i) for i in range(500)]
    assert smooth(line)[50:-50] == pytest.approx(line[50:-50])


@pytest.mark.parametrize("n", [1, 2, 3000])
def test_curves_of_short_and_long_runs(n: int) -> None:
    drawing = training_curves(steps(n))
    assert drawing.startswith("<svg")
    assert "gradient" in drawing
    assert f"{smooth([s.loss for s in steps(n)])[-1]:.3f}" in drawing
    assert len(drawing) < 300_000
    assert training_curves(steps(n)) == drawing


def test_bars_carry_their_figures_and_names() -> None:
    drawing = bits_per_byte_bars([("FP32", 1.61), ("gzip <-9>", 2.0)])
    for text in ("1.6100", "2.0000", "FP32", "gzip &lt;-9&gt;"):
        assert text in drawing
