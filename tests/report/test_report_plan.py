"""A plan as tables: every recipe that ships is drawn, at any width, with the
figures that a person looks for.
"""

import io

import pytest
from rich.console import Console

from sevenfold.plan.calculator import Cpu, plan
from sevenfold.recipe import load_recipe
from sevenfold.recipe.shipped import recipe_paths
from sevenfold.report.plan import duration, plan_tables, quantity, scaled

CPU = Cpu(matmul_flops=1e11, bytes_per_second=1e10)


def drawn(name: str, width: int = 170) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(plan_tables(plan(load_recipe(recipe_paths()[name]), CPU)))
    return text.getvalue()


@pytest.mark.parametrize("name", list(recipe_paths()))
def test_every_recipe_is_drawn(name):
    text = drawn(name)
    recipe = load_recipe(recipe_paths()[name])
    assert recipe.digest in text
    assert recipe.summary in text
    for title in ("Parameters", "Training memory of one GPU", "Training time and cost", "estimate"):
        assert title in text
    assert all(len(line) <= 40 for line in drawn(name, width=40).splitlines())


def test_figures_of_the_cluster_recipe():
    text = drawn("s7/moe-140m")
    assert "132,684,288" in text
    assert "18 of 39 figures do not add up" in text
    assert "DOES NOT ADD UP" in text
    assert "pool: code" in text
    assert "peak 16" in text
    assert "DOES NOT ADD UP" not in drawn("s7/demo-1m")


def test_a_model_that_does_not_fit_is_marked():
    found = plan(load_recipe(recipe_paths()["s7/demo-1m"]), CPU)
    found["phases"][0] |= {"fits": False, "needed_gpus": None}
    text = io.StringIO()
    Console(file=text, width=170).print(plan_tables(found))
    assert "NO" in text.getvalue()
    assert "none fits" in text.getvalue()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "B", "0 B"),
        (999, "B", "999 B"),
        (1000, "B", "1 kB"),
        (1082496, "B", "1.08 MB"),
        (999.6, "B", "1 kB"),
        (1e30, "B", "1e+06 YB"),
    ],
)
def test_scaled(value, unit, text):
    assert scaled(value, unit) == text


@pytest.mark.parametrize(
    ("hours", "text"),
    [(100, "4.2 days"), (47.9, "47.9 h"), (0.5, "30.0 min"), (0.001, "3.6 s"), (0, "0.0 s")],
)
def test_duration(hours, text):
    assert duration(hours) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "bytes", "-"),
        (5e9, "tokens", "5 B"),
        (12000, "GPU-hours", "12,000 GPU-hours"),
        (3.5, "hours", "3.5 hours"),
        (8, "GPUs", "8 GPUs"),
    ],
)
def test_quantity(value, unit, text):
    assert quantity(value, unit) == text
