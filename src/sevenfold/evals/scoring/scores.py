"""Compute scores from outputs and verdicts: exact shares and intervals. A tie of n counts as 1/n."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

from sevenfold.core.hashing import Json
from sevenfold.evals.grading.graders import is_of_programs, plain_number
from sevenfold.evals.scoring import statistics
from sevenfold.evals.tasks.cards import Card, Item

# The largest number of samples for which self-consistency is computed.
MAX_VOTERS = 5
ENDS_BY_ITSELF = "ends_by_itself"


def share_of(values: Sequence[Fraction], answer: int) -> tuple[Fraction, bool]:
    """Return the share of an item that its right choice gets, and whether the best choice was tied.
    The share is 1/n when n choices are tied for the best, and 0 when the right one is not among
    them.
    """
    best = max(values)
    tied = [i for i, value in enumerate(values) if value == best]
    return (Fraction(1, len(tied)) if answer in tied else Fraction(0)), len(tied) > 1


def choice_scores(card: Card, items: Sequence[Item], rows: Mapping[str, Json]) -> list[Json]:
    """Return acc, and acc_norm when the card has it (by characters, without the first space).

    Items that belong to rows also have a score for each row.
    """
    scores = _choice_scores(card, items, rows)
    for row in dict.fromkeys(str(item.target["row"]) for item in items if "row" in item.target):
        chosen = [item for item in items if item.target["row"] == row]
        scores += [
            {**score, "metric": f"{score['metric']} {row}"} for score in _choice_scores(card, chosen, rows)
        ]
    return scores


def _choice_scores(card: Card, items: Sequence[Item], rows: Mapping[str, Json]) -> list[Json]:
    scores = []
    for metric in card.metrics:
        shares, n_tied = [], 0
        for item in items:
            totals = [Fraction(total) for total, _, _ in rows[item.id]["likelihoods"]]
            if metric == "acc_norm":
                lengths = [max(len(choice.removeprefix(" ")), 1) for choice in item.choices]
                totals = [total / n for total, n in zip(totals, lengths, strict=True)]
            share, is_tied = share_of(totals, int(item.target["answer"]))
            shares.append(share)
            n_tied += is_tied
        figure = statistics.figure(statistics.mean(shares), len(items))
        scores.append({"metric": metric, "n_ties": n_tied, **figure})
    return scores


def sample_scores(
    card: Card, items: Sequence[Item], verdicts: Mapping[str, Json], rule: str, ks: Sequence[int]
) -> list[Json]:
    """Return pass@k for programs, exact_match for texts, and the vote of several samples.

    Items that belong to rows also have a score for each row, with the number of its skeletons.
    `verdicts` has, for each item, the list of [extracted, verdict, ..] of its samples.

    Raises:
        UsageError: a k above the number of samples.
    """
    if rows := list(dict.fromkeys(str(item.target["row"]) for item in items if "row" in item.target)):
        return [score for row in rows for score in _row_scores(card, items, verdicts, rule, ks, row)]
    return _scores(card, items, verdicts, rule, ks)


def _row_scores(
    card: Card, items: Sequence[Item], verdicts: Mapping[str, Json], rule: str, ks: Sequence[int], row: str
) -> list[Json]:
    chosen = [item for item in items if item.target["row"] == row]
    n_skeletons = len({str(item.target["skeleton"]) for item in chosen})
    return [
        {**score, "metric": f"{score['metric']} {row}", "n_skeletons": n_skeletons}
        for score in _scores(card, chosen, verdicts, rule, ks)
    ]


def _scores(
    card: Card, items: Sequence[Item], verdicts: Mapping[str, Json], rule: str, ks: Sequence[int]
) -> list[Json]:
    counts = [
        (len(verdicts[item.id]), sum(1 for row in verdicts[item.id] if row[1] == "pass")) for item in items
    ]
    scores: list[Json] = []
    for k in ks:
        share = statistics.mean([statistics.pass_at_k(n, c, k) for n, c in counts])
        name = f"pass@{k}" if is_of_programs(card.grade) or k > 1 else "exact_match"
        figure = statistics.figure(share, len(items))
        scores.append({"metric": name, "extract": rule, **figure})
    if "exact_match" in card.metrics:
        equal = statistics.mean([_equal(item, verdicts[item.id]) for item in items])
        figure = statistics.figure(equal, len(items))
        scores.append({"metric": "exact_match", "extract": rule, **figure})
    n_samples = max((n for n, _ in counts), default=0)
    if card.grade == "number" and 2 <= n_samples <= MAX_VOTERS:
        shares = [_vote(verdicts[item.id]) for item in items]
        n_tied = sum(1 for _, is_tied in shares if is_tied)
        figure = statistics.figure(statistics.mean([share for share, _ in shares]), len(items))
        scores.append({"metric": f"maj@{n_samples}", "extract": rule, "n_ties": n_tied, **figure})
    return scores


def _equal(item: Item, samples: Sequence[Sequence[Json]]) -> Fraction:
    """Return the share of samples that equal the removed text, apart from surrounding spaces."""
    middle = str(item.target["middle"]).strip()
    return Fraction(sum(1 for row in samples if row[0].strip() == middle), len(samples))


def _vote(samples: Sequence[Sequence[Json]]) -> tuple[Fraction, bool]:
    """Return 1 when the most frequent answer is right and 0 when it is wrong; 1/n when n answers
    are tied and one is right.
    """
    votes = Counter(plain_number(row[0]) for row in samples if row[0])
    if not votes:
        return Fraction(0), False
    most = max(votes.values())
    tied = [answer for answer, n in votes.items() if n == most]
    right = {plain_number(row[0]) for row in samples if row[1] == "pass"}
    return Fraction(sum(1 for answer in tied if answer in right), len(tied)), len(tied) > 1


def ending_scores(items: Sequence[Item], outputs: Mapping[str, Json]) -> list[Json]:
    """Return the share of answers that the model ended itself with the token that ends a text.

    A stop text of the card, the limit of the card and the end of the context do not count. Items
    that belong to rows also have a share for each row.
    """
    rows = list(dict.fromkeys(str(item.target.get("row", "")) for item in items))
    scores: list[Json] = []
    for row in rows:
        chosen = [item for item in items if str(item.target.get("row", "")) == row]
        shares = []
        for item in chosen:
            endings = [answer["ended"] for answer in outputs[item.id]["answers"]]
            shares.append(Fraction(endings.count("end"), len(endings)))
        name = f"{ENDS_BY_ITSELF} {row}".strip()
        scores.append({"metric": name, **statistics.figure(statistics.mean(shares), len(chosen))})
    return scores
