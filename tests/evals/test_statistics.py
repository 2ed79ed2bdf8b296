"""Intervals and estimates against published values and brute force."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.core.errors import UsageError
from sevenfold.core.numbers.intervals import wilson
from sevenfold.evals.scoring import scores, statistics
from sevenfold.evals.tasks.cards import Item, cards


@pytest.mark.parametrize(
    ("share", "n", "expected"),
    # Newcombe (1998), table I, method 3, to four digits.
    [
        (81 / 263, 263, (0.2553, 0.3662)),
        (15 / 148, 148, (0.0624, 0.1605)),
        (0.0, 20, (0.0, 0.1611)),
        (1 / 29, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_has_the_published_values(share: float, n: int, expected: tuple[float, float]) -> None:
    assert tuple(round(x, 4) for x in wilson(share, n)) == expected


@given(st.integers(0, 9).flatmap(lambda c: st.tuples(st.integers(max(c, 1), 9), st.just(c))), st.data())
def test_pass_at_k_is_the_share_of_choices_of_k(pair: tuple[int, int], data: st.DataObject) -> None:
    n, c = pair
    k = data.draw(st.integers(1, n))
    chosen = list(combinations([True] * c + [False] * (n - c), k))
    assert statistics.pass_at_k(n, c, k) == Fraction(sum(map(any, chosen)), len(chosen))


def test_pass_at_k_of_fewer_samples_is_refused() -> None:
    # The reference implementation gives 1.0 for n - c < k, and so for n < k.
    for n, c, k in ((1, 0, 10), (5, 5, 6), (3, 0, 0)):
        with pytest.raises(UsageError):
            statistics.pass_at_k(n, c, k)


def test_nothing_that_passed_has_an_upper_bound() -> None:
    assert round(statistics.upper_bound(164), 4) == 0.0181
    figure = statistics.figure(Fraction(0), 164)
    assert figure["upper_bound"] == statistics.upper_bound(164)
    assert "upper_bound" not in statistics.figure(Fraction(1, 164), 164)


@pytest.mark.parametrize(
    ("values", "answer", "expected"),
    [
        ([1, 2, 3], 2, (Fraction(1), False)),
        ([1, 2, 3], 0, (Fraction(0), False)),
        ([3, 1, 3], 0, (Fraction(1, 2), True)),
        ([3, 1, 3], 1, (Fraction(0), True)),
        ([5, 5, 5], 1, (Fraction(1, 3), True)),
    ],
)
def test_ties_count_one_over_n(values: list[int], answer: int, expected: tuple[Fraction, bool]) -> None:
    assert scores.share_of([Fraction(v) for v in values], answer) == expected


def test_equal_choices_do_not_score_for_the_first() -> None:
    card = cards()["mmlu-cloze"]
    items = [
        Item(id=str(i), prompt="", choices=(" a", " b", " c", " d"), target={"answer": 0}) for i in range(8)
    ]
    rows = {item.id: {"likelihoods": [[-5, 1, False]] * 4} for item in items}
    for score in scores.choice_scores(card, items, rows):
        assert (score["value"], score["n_ties"]) == (0.25, 8)


def test_acc_norm_divides_by_characters() -> None:
    item = Item(id="a", prompt="", choices=(" ab", " \u00e9\u00e9\u00e9\u00e9"), target={"answer": 1})
    rows = {"a": {"likelihoods": [[-10, 1, False], [-16, 1, False]]}}
    acc, norm = scores.choice_scores(cards()["mmlu-cloze"], [item], rows)
    # -10/2 is worse than -16/4; by bytes (-16/8) or by the space it would be another figure.
    assert (acc["value"], norm["value"]) == (0.0, 1.0)


def test_a_vote_that_is_tied_counts_its_share() -> None:
    item = Item(id="a", prompt="", target={"answer": "#### 4"})
    samples = [["4", "pass", ""], ["5", "fail", ""], ["$4", "pass", ""], ["5.", "fail", ""], ["", "fail", ""]]
    found = scores.sample_scores(cards()["gsm8k"], [item], {"a": samples}, "gsm8k-strict", (1,))
    assert [(s["metric"], s["exact"]) for s in found] == [("exact_match", "2/5"), ("maj@5", "1/2")]
