"""One evaluation item of each card, with what the model gives for it: a pack carries them, and a
clean machine computes them again, without a data set and without a sandbox.

The engine is exact, so the answer or the log-likelihood has to be equal on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.hashing import Json
from sevenfold.engine.sampling import GREEDY
from sevenfold.evals.decoding.decoder import EvaluationDecoder
from sevenfold.evals.suites import make_task, needs_data, suites
from sevenfold.evals.tasks.cards import Item, cards
from sevenfold.evals.tasks.data import data_directory

# Tokens of an answer that are compared.
MAX_TOKENS = 64
# Items of these builds follow from the machine that makes them, so a pack would differ by machine.
_OF_THE_MACHINE = ("standard-library", "installed-packages")


def packed_items(
    decoder: EvaluationDecoder, data: Path | None, corpus: Path | None
) -> tuple[list[Json], list[Json]]:
    """Return the first item of each card with the result of the model, and the cards without one,
    each with the reason.

    Args:
        data: the directory of the evaluation sets, where it is at hand.
        corpus: the run directory of the model, for items of its held-out documents.
    """
    found: list[Json] = []
    missing: list[Json] = []
    for name, card in cards().items():
        try:
            if card.build in _OF_THE_MACHINE:
                raise SevenfoldError("its items follow from the machine that makes them")
            directory = data_directory(data) if needs_data(card) else None
            item = make_task(card, directory, 1, corpus).items[0]
            row: Json = {
                "card": name,
                "suites": sorted(suite for suite, rows in suites().items() if name in rows.cards),
                "kind": card.kind,
                "stops": list(card.stops),
                "max_tokens": min(card.max_tokens, MAX_TOKENS),
                "item": {
                    "id": item.id,
                    "prompt": item.prompt,
                    "choices": list(item.choices),
                    "suffix": item.suffix,
                    "order": item.order,
                },
            }
            found.append({**row, "result": result_of(decoder, row)})
        except SevenfoldError as error:
            missing.append({"card": name, "why": error.what})
    return found, missing


def result_of(decoder: EvaluationDecoder, row: Mapping[str, Json]) -> Json:
    """Return what the model gives for an item of a pack: the ids of a greedy answer, or the sums of
    log-probabilities in units of 2^-32.

    Raises:
        GateError: the prompt is refused, or does not fit.
        KeyError, TypeError: the row has another form.
    """
    given = row["item"]
    item = Item(
        id=given["id"],
        prompt=given["prompt"],
        choices=tuple(given["choices"]),
        suffix=given["suffix"],
        order=given["order"],
    )
    if row["kind"] == "generate":
        ((_, answers),) = decoder.generate([item], row["stops"], row["max_tokens"], GREEDY)
        return {"ids": list(answers[0].ids), "ended": answers[0].ended}
    if row["kind"] == "choice":
        ((_, likelihoods),) = decoder.likelihoods([item])
        return {"likelihoods": [[x.total, x.n_tokens, x.is_greedy] for x in likelihoods]}
    from sevenfold.evals.decoding import bits

    (measured,) = bits.measured(decoder, [item], bits.integer_scorer(decoder))
    return {"sums": measured["sums"]}
