"""Which way a team goes, all threads or the caller's alone, by costs that the test states."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "native" / "engine"
CXX = os.environ.get("CXX", "g++").split()
pytestmark = pytest.mark.skipif(shutil.which(CXX[0]) is None, reason=f"no {CXX[0]}")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("pace") / "pace"
    source = Path(__file__).with_name("pace_driver.cpp")
    flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-I", NATIVE]
    subprocess.run([*CXX, *flags, source, "-o", program], check=True)
    return program


def paced(driver: Path, costs: Sequence[tuple[int, int]]) -> tuple[list[int], int]:
    """Calls alone in each hundred, and the time of all, for costs (together, alone) of each call."""
    told = "".join(f"{together} {alone}\n" for together, alone in costs)
    done = subprocess.run([driver], input=told, capture_output=True, text=True, check=True)
    *n_alone, total = map(int, done.stdout.split())
    return n_alone, total


def test_threads_that_help_are_used_after_the_first_calls(driver: Path) -> None:
    n_alone, total = paced(driver, [(500, 900)] * 5000)
    assert n_alone[0] == 8
    # The other way is tried for a fiftieth of the time.
    assert total <= 500 * 5000 * 1.03


def test_threads_that_stand_still_cost_a_fiftieth(driver: Path) -> None:
    n_alone, total = paced(driver, [(100_000, 900)] * 20_000)
    # A trial that is hopeless is ended after one call.
    assert n_alone[0] == 99
    assert total <= 900 * 20_000 * 1.03


@pytest.mark.parametrize("n", [100, 3000])
def test_a_machine_that_becomes_busy_or_idle_is_noticed(driver: Path, n: int) -> None:
    idle, busy = (500, 900), (60_000, 900)
    n_alone, _ = paced(driver, [idle] * n + [busy] * 10_000 + [idle] * 10_000)
    hundreds = n // 100
    assert n_alone[hundreds - 1] <= 8
    assert n_alone[hundreds + 1] >= 95
    assert n_alone[-1] <= 8


def test_ways_that_cost_the_same_are_not_changed(driver: Path) -> None:
    n_alone, _ = paced(driver, [(1000, 1000 + i % 100) for i in range(10_000)])
    assert all(n >= 80 for n in n_alone)


def test_without_a_clock_all_threads_are_used(driver: Path) -> None:
    assert paced(driver, [(0, 0)] * 100)[0] == [1]
