"""Measure bits per byte of texts, exactly for the integer model, and for the FP32 weights on the
same windows.

The ids of a text begin with the id that separates documents or begins a text. They are cut into
windows of the model's context. Windows overlap by one id, so each id is predicted once, from the
ids before it in its window. The figures by position show what the beginning of a window costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sevenfold.artifact import Gate
from sevenfold.core.errors import StorageError
from sevenfold.core.files import read_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.numbers.fixed import Ints
from sevenfold.core.numbers.intervals import DIGITS, Z_95
from sevenfold.core.run_files import ARTIFACT, RECIPE, WEIGHTS
from sevenfold.engine.likelihood import FRACTION_BITS, log_probabilities
from sevenfold.engine.session import open_model
from sevenfold.evals.decoding.decoder import EvaluationDecoder
from sevenfold.evals.tasks.cards import Item

RULE = "windows that overlap by one id; each id is predicted from those before it in its window"
# The first position of each group by position.
POSITIONS = (0, 16, 64, 256, 1024)
GROUPS = ("domain", "language", "licence")
WINDOWS_AT_ONCE = 4
_LN2 = math.log(2.0)


class TokenScorer(Protocol):
    """The interface of a model for this module."""

    def __call__(self, windows: Sequence[Ints]) -> list[NDArray[np.float64] | Ints]:
        """Return the log-probability of each id of each window except the first id, in units of
        2^-32.
        """


def windows_of(ids: Sequence[int], context: int) -> list[Ints]:
    """Return the windows of a text, each of at most context + 1 ids."""
    starts = range(0, max(len(ids) - 1, 1), context)
    return [np.array(ids[start : start + context + 1], np.int64) for start in starts]


def integer_scorer(decoder: EvaluationDecoder) -> TokenScorer:
    """Return a scorer of the sealed model."""

    def score(windows: Sequence[Ints]) -> list[NDArray[np.float64] | Ints]:
        sessions = [decoder.model.engine.session() for _ in windows]
        rows = [session.forward(window[:-1]) for session, window in zip(sessions, windows, strict=True)]
        for session in sessions:
            session.close()
        return [
            log_probabilities(row, window[1:, None])[:, 0] for row, window in zip(rows, windows, strict=True)
        ]

    return score


def float_scorer(decoder: EvaluationDecoder, run: Path) -> TokenScorer | None:
    """Return a scorer of the FP32 weights of the sealed model, from its run. Return None when the
    run has no weights or those of another model.

    Raises:
        StorageError: the weights or the recipe cannot be read.
    """
    if not (run / ARTIFACT).is_file() or not (run / "train" / WEIGHTS).is_file():
        return None
    if open_model(run / ARTIFACT).root != decoder.model.artifact.root:
        return None
    import torch
    from safetensors.torch import load

    from sevenfold.recipe.schema import Recipe
    from sevenfold.runs.job import Job
    from sevenfold.train.evaluation.evaluate import token_losses
    from sevenfold.train.run_builder import build_model

    try:
        recipe = Recipe.model_validate_json(read_bytes(run / RECIPE))
    except ValueError as error:
        raise StorageError("not the recipe of a run", where=str(run / RECIPE)) from error
    model = build_model(Job(recipe=recipe, out=run))
    if model.expert_of_token is not None:
        return None
    if recipe.model.attention == "causal":
        model.document_start = None
    model.load_state_dict(load(read_bytes(run / "train" / WEIGHTS)))
    model.eval()

    @torch.no_grad()
    def score(windows: Sequence[Ints]) -> list[NDArray[np.float64] | Ints]:
        found: list[NDArray[np.float64] | Ints] = []
        for window in windows:
            row = torch.from_numpy(window)[None]
            losses = token_losses(model(row[:, :-1], None), row[:, 1:])[0]
            found.append(-losses.double().numpy() * float(1 << FRACTION_BITS))
        return found

    return score


def measured(decoder: EvaluationDecoder, items: Sequence[Item], score: TokenScorer) -> Iterator[Json]:
    """Yield a row for each text: [ids, bytes, sum of log-probabilities] by group of positions.

    Raises:
        GateError: a text is refused.
    """
    for item in items:
        with Gate().call(item.prompt):
            roles, eot_id = decoder.tokenizer.roles, decoder.tokenizer.eot_id
            before = eot_id if roles.begin is None else roles.begin
            ids = [before, *decoder.tokenizer.encode(item.prompt)]
            sums = [[0, 0, 0] for _ in POSITIONS]
            windows = windows_of(ids, decoder.model.context)
            for start in range(0, len(windows), WINDOWS_AT_ONCE):
                some = windows[start : start + WINDOWS_AT_ONCE]
                for window, values in zip(some, score(some), strict=True):
                    _add(sums, decoder, window, values)
        yield {"item": item.id, "sums": sums}


def _add(
    sums: list[list[int]], decoder: EvaluationDecoder, window: Ints, values: NDArray[np.float64] | Ints
) -> None:
    for i, edge in enumerate(POSITIONS):
        end = POSITIONS[i + 1] if i + 1 < len(POSITIONS) else len(window)
        part = values[edge:end]
        ids = window[1:][edge:end]
        sums[i][0] += len(part)
        sums[i][1] += sum(len(decoder.tokenizer.token_bytes(int(token))) for token in ids)
        # This is exact for integers; floats are rounded to the nearest integer.
        sums[i][2] += int(part.sum()) if part.dtype.kind == "i" else round(float(part.sum()))


def _groups(items: Sequence[Item], rows: Mapping[str, Json]) -> Iterator[tuple[str, list[list[int]]]]:
    """Yield the name of each figure, with [bytes, log-probability] for each of its texts."""
    whole = {item.id: [sum(part[k] for part in rows[item.id]["sums"]) for k in (1, 2)] for item in items}
    yield "bits_per_byte", list(whole.values())
    for group in GROUPS:
        values = sorted({str(item.target[group]) for item in items})
        for value in values:
            chosen = [whole[item.id] for item in items if item.target[group] == value]
            yield f"bits_per_byte {group}={value}", chosen
    for i, edge in enumerate(POSITIONS):
        parts = [rows[item.id]["sums"][i][1:] for item in items]
        if any(n_bytes for n_bytes, _ in parts):
            yield f"bits_per_byte position from {edge}", parts


def text_scores(items: Sequence[Item], rows: Mapping[str, Json]) -> list[Json]:
    """Return bits per byte over all texts and by group, with a 95 % interval over the texts.

    The interval is that of a ratio of two sums: 1.96 standard errors of bits minus rate times bytes.
    """
    scores: list[Json] = []
    for name, parts in _groups(items, rows):
        n_bytes, total = (sum(part[k] for part in parts) for k in (0, 1))
        if not n_bytes:
            continue
        bits = [-part[1] / (1 << FRACTION_BITS) / _LN2 for part in parts]
        rate = -total / (1 << FRACTION_BITS) / _LN2 / n_bytes
        rests = [(b - rate * part[0]) ** 2 for b, part in zip(bits, parts, strict=True)]
        spread = Z_95 * math.sqrt(math.fsum(rests)) / n_bytes
        scores.append({
            "metric": name, "value": round(rate, DIGITS), "exact": f"{-total}/2^{FRACTION_BITS} nats",
            "n_bytes": n_bytes, "n": len(parts), "low": round(max(rate - spread, 0.0), DIGITS),
            "high": round(rate + spread, DIGITS),
        })  # fmt: skip
    return scores


def float_figures(items: Sequence[Item], rows: Mapping[str, Json]) -> dict[str, float]:
    """Return the figures of the FP32 weights by name. Their last digits depend on the machine."""
    return {score["metric"]: score["value"] for score in text_scores(items, rows)}
