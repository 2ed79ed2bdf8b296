"""The sampling law: published vectors of its generator, a second implementation,
and what it must not depend on.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sampling_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.core.errors import UsageError
from sevenfold.engine import sampling
from sevenfold.engine.philox import philox
from sevenfold.engine.sampling import GREEDY, DecodingLaw

PAGE = (Path(__file__).resolve().parents[2] / "specs" / "sampling.md").read_text(encoding="utf-8")
# Random123, kat_vectors, philox4x32 with 10 rounds: counter, key, words.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
TERM = st.integers(1, 60)


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_published_vectors_of_philox(counter: str, key: str, expected: str) -> None:
    first, second = words(key)
    assert philox(np.array([words(counter)]), (first, second)).tolist() == [words(expected)]
    assert oracle.philox(words(counter), words(key)) == words(expected)
    assert f"| `{counter}` | `{key}` | `{expected}` |" in PAGE


@pytest.mark.parametrize("name", ["log2", "exp2", "ratio"])
def test_tables_are_those_of_the_page(name: str) -> None:
    table = sampling.table(name)
    assert table.tolist() == getattr(oracle, name.upper())
    found = hashlib.sha256(table.astype(">i8").tobytes()).hexdigest()
    row = re.search(rf"^\| `{name}` \|.*$", PAGE, re.MULTILINE)
    assert row is not None
    assert f"| {table[0]} | {table[-1]} | `{found}` |" in row.group()


@given(st.integers(1, 2**33 - 1))
def test_log2_is_close_and_equal_to_the_oracle(n: int) -> None:
    found = int(sampling.log2(np.array([n]))[0])
    assert found == oracle.log2(n)
    assert abs(found / 2**20 - math.log2(n)) < 2**-17


@given(st.integers(0, 2**32 - 1))
def test_gumbel_is_close_and_equal_to_the_oracle(word: int) -> None:
    found = int(sampling.gumbel(np.array([word]))[0])
    assert found == oracle.gumbel(word)
    u = (2 * word + 1) / 2**33
    inner = -math.log2(u) if u < 0.5 else -math.log1p(-(2 * (2**32 - 1 - word) + 1) / 2**33) / math.log(2)
    assert abs(found / 2**20 + math.log2(inner)) < 2**-15


def test_gumbel_is_monotonic_at_its_seams() -> None:
    ends = [0, 1, 2, 2**31 - 2, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1]
    values = sampling.gumbel(np.array(ends))
    assert (np.diff(values) >= 0).all()


@given(st.integers(0, 2**30))
def test_weights_fall_and_equal_the_oracle(distance: int) -> None:
    here, next_one = sampling.weights(np.array([distance, min(distance + 997, 2**30)])).tolist()
    assert here == oracle.weight(distance)
    assert here >= next_one


@settings(max_examples=150)
@given(
    logits=st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-(2**18), 2**18), min_size=1, max_size=40),
    temperature=st.tuples(st.integers(0, 60), TERM) | st.sampled_from([(1, 65535), (65535, 1)]),
    top_k=st.integers(0, 6),
    min_p=TERM.flatmap(lambda b: st.tuples(st.integers(0, b), st.just(b))),
    top_p=TERM.flatmap(lambda b: st.tuples(st.integers(1, b), st.just(b))),
    seed=st.integers(0, 2**64 - 1),
    position=st.integers(0, 2**20),
    sample=st.integers(0, 2**32 - 1),
)
def test_the_law_equals_its_second_implementation(
    logits: list[int],
    temperature: tuple[int, int],
    top_k: int,
    min_p: tuple[int, int],
    top_p: tuple[int, int],
    seed: int,
    position: int,
    sample: int,
) -> None:
    law = DecodingLaw(temperature=temperature, top_k=top_k, min_p=min_p, top_p=top_p, seed=seed)
    top_p = (1, 1) if top_p[0] == top_p[1] else top_p
    expected = oracle.choose(logits, temperature, top_k, min_p, top_p, seed, position, sample)
    assert law.choose(np.array(logits), position=position, sample=sample) == expected


@pytest.mark.parametrize("spread", [0, 3, 1 << 14, 1 << 18, 1 << 22])
@pytest.mark.parametrize("top_p", [(1, 65535), (1, 2), (19, 20), (65534, 65535)])
def test_a_nucleus_is_that_of_all_tokens_sorted(spread: int, top_p: tuple[int, int]) -> None:
    law = DecodingLaw(temperature=(4, 5), top_p=top_p)
    logits = np.random.default_rng(spread).integers(-spread, spread + 1, 4096)
    ids, distance = law.kept(logits)
    # With a top-k of all tokens, the others are sorted as a whole.
    expected, far = replace(law, top_k=4096).kept(logits)
    assert ids.tolist() == expected.tolist()
    assert distance.tolist() == far.tolist()


@pytest.mark.parametrize(
    "law",
    [
        DecodingLaw(temperature=(4, 5), top_p=(19, 20)),
        DecodingLaw(temperature=(4, 5), top_k=3),
        DecodingLaw(temperature=(1, 1)),
        DecodingLaw(),
    ],
)
def test_rows_that_are_drawn_together_are_those_drawn_alone(law: DecodingLaw) -> None:
    rng = np.random.default_rng(5)
    logits = rng.integers(-(1 << 19), 1 << 19, (7, 4096))
    positions, samples, seeds = (
        [3, 2**20, 5, 5, 1, 0, 9],
        [0, 1, 2**32 - 1, 2, 3, 4, 5],
        [7, 2**64 - 1] * 3 + [0],
    )
    together = law.choose_of_each(logits, positions=positions, samples=samples, seeds=seeds)
    alone = [
        replace(law, seed=seed).choose(row, position=position, sample=sample)
        for row, position, sample, seed in zip(logits, positions, samples, seeds, strict=True)
    ]
    assert together == alone


def test_examples_of_the_page() -> None:
    rows = re.findall(r"^\| `\[(.+?)\]` \| `(.+?)` \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for logits, law, position, sample, expected in rows:
        temperature, top_k, min_p, top_p, seed = law.split()
        made = DecodingLaw.parse(temperature, int(top_k), min_p, top_p, int(seed))
        values = np.array([int(x) for x in logits.split(",")])
        assert made.choose(values, position=int(position), sample=int(sample)) == int(expected)


def test_frequencies_are_those_of_the_softmax() -> None:
    logits = np.array([int(x * 65536) for x in (2.0, 1.0, 0.5, 0.0, -3.0)])
    law, n = DecodingLaw.parse("0.8", seed=7), 20_000
    found = np.bincount([law.choose(logits, position=i) for i in range(n)], minlength=5)
    shares = np.exp(logits / 65536 / 0.8)
    expected = n * shares / shares.sum()
    # Chi-squared with 4 degrees of freedom: 18.5 has probability 0.001. The seed is fixed.
    assert float(((found - expected) ** 2 / expected).sum()) < 18.5


def test_what_was_cut_is_never_drawn_and_cuts_do_not_move_the_others() -> None:
    logits = np.array([int(x * 65536) for x in (3.0, 2.9, 2.8, 0.0, -2.0, 2.9)])
    plain = DecodingLaw.parse("1", seed=3)
    for law, kept in (
        (DecodingLaw.parse("1", top_k=3, seed=3), {0, 1, 5}),
        (DecodingLaw.parse("1", min_p="0.85", seed=3), {0, 1, 5}),
        (DecodingLaw.parse("1", top_p="0.5", seed=3), {0, 1}),
    ):
        assert set(law.kept(logits)[0].tolist()) == kept
        for position in range(200):
            token = law.choose(logits, position=position)
            assert token in kept
            free = plain.choose(logits, position=position)
            assert free not in kept or token == free


def test_a_draw_depends_on_position_sample_and_seed() -> None:
    logits = np.zeros(1000, np.int64)
    law = DecodingLaw.parse("1", seed=1)
    draws = {law.choose(logits, position=p, sample=s) for p in range(8) for s in range(8)}
    assert len(draws) > 55
    assert law.choose(logits, position=0) != DecodingLaw.parse("1", seed=1 << 32).choose(logits, position=0)


def test_greedy_takes_the_lowest_of_equals() -> None:
    assert GREEDY.choose(np.array([1, 5, 5]), position=9) == 1
    assert GREEDY.facts() == DecodingLaw.parse("0", top_k=4, seed=9).facts()


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": "-1"},
        {"temperature": "1e9"},
        {"temperature": "nan"},
        {"temperature": "99999"},
        {"temperature": "0.12343"},
        {"top_p": "0"},
        {"top_p": "1.5"},
        {"min_p": "2"},
        {"top_k": -1},
        {"seed": -1},
        {"seed": 2**64},
    ],
)
def test_what_is_no_law_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        DecodingLaw.parse(**{"temperature": "1", **values})  # type: ignore[arg-type]  (one wrong value each)
