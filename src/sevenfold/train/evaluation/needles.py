"""Needle probes (C5, C14): synthetic key-value recall by distance.

A window is a sentence of N_FILLER words, repeated, in slots of three tokens. A needle is a slot
[NEEDLE, key, value]. A later slot [QUESTION, key, value] asks for it, and the token after its key
must be the value of the needle. The keys of a window are distinct. The distance runs from the key
of the question back to the value of the needle. The generator is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sevenfold.model.attention import Attention
from sevenfold.model.transformer import Transformer

NEEDLE, QUESTION, N_MARKS = 1, 2, 3
N_KEYS, N_VALUES, N_FILLER = 32, 32, 7
KEY, VALUE = N_MARKS, N_MARKS + N_KEYS
FILLER = VALUE + N_VALUES
SLOT = 3
_TRIES = 50


@dataclass(frozen=True, kw_only=True)
class NeedleWindows:
    """Windows with questions. ids int64 [n, T]; for each question its row, the column of its key,
    its distance, and its answer.
    """

    ids: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    distance: NDArray[np.int64]
    answer: NDArray[np.int64]


def _slots(
    generator: np.random.Generator, free: NDArray[np.bool_], low: int, high: int
) -> tuple[int, int] | None:
    """Return a free slot, and another one between `low` and `high` slots after it; None when no
    attempt finds them.
    """
    for _ in range(_TRIES):
        gap = int(generator.integers(low, high + 1))
        first = int(generator.integers(0, len(free) - gap))
        if free[first] and free[first + gap]:
            free[[first, first + gap]] = False
            return first, first + gap
    return None


def haystacks(
    generator: np.random.Generator,
    n_windows: int,
    sequence: int,
    n_needles: int,
    distances: list[tuple[int, int]],
) -> NeedleWindows:
    """Return the windows of `sequence` tokens with up to `n_needles` questions each.

    Args:
        generator: source of everything that is drawn.
        n_windows: rows.
        sequence: tokens in a row.
        n_needles: needles in a row, at most N_KEYS; one that finds no room is left out.
        distances: ranges in tokens (least, most); each needle draws one of
            them, then a distance in it.

    Raises:
        ValueError: more needles than keys, or a distance that the window cannot hold.
    """
    n_slots = sequence // SLOT
    if n_needles > N_KEYS or max(high for _, high in distances) // SLOT >= n_slots:
        raise ValueError(f"{n_needles} needles at {distances} do not fit {n_slots} slots and {N_KEYS} keys")
    ids = (np.arange(sequence) + generator.integers(N_FILLER, size=(n_windows, 1))) % N_FILLER + FILLER
    found = []
    for row in range(n_windows):
        free = np.ones(n_slots, np.bool_)
        for key in generator.permutation(N_KEYS)[:n_needles]:
            value = VALUE + int(generator.integers(N_VALUES))
            low, high = distances[int(generator.integers(len(distances)))]
            place = _slots(generator, free, max(1, low // SLOT), max(1, high // SLOT))
            if place is None:
                continue
            for slot, mark in zip(place, (NEEDLE, QUESTION), strict=True):
                ids[row, SLOT * slot : SLOT * (slot + 1)] = mark, KEY + key, value
            found.append((row, SLOT * place[1] + 1, SLOT * (place[1] - place[0]) - 1, value))
    columns = np.array(found, np.int64).reshape(-1, 4).T
    return NeedleWindows(ids=ids, row=columns[0], column=columns[1], distance=columns[2], answer=columns[3])


def answers(model: Transformer, needles: NeedleWindows) -> Tensor:
    """Return the logits of the token after the key of each question, [n_questions, V]. The head
    runs only for those.
    """
    hidden = model.hidden(torch.from_numpy(needles.ids))
    return hidden[torch.from_numpy(needles.row), torch.from_numpy(needles.column)] @ model.head_weight.t()


@torch.no_grad()
def recall(model: Transformer, needles: NeedleWindows) -> tuple[int, int]:
    """Return (right, asked): how many greedy answers are the value of the needle, and how many
    questions there were.
    """
    model.eval()
    right = answers(model, needles).argmax(-1) == torch.from_numpy(needles.answer)
    return int(right.sum()), len(right)


@torch.no_grad()
def start_mimetic(model: Transformer) -> None:
    """Initialise queries like keys and outputs like transposed values (arXiv 2305.09828), so that
    attention begins as a copy.
    """
    for module in model.modules():
        if isinstance(module, Attention):
            group, width = module.n_heads // module.n_kv_heads, module.head_dim

            def repeated(weight: Tensor, group: int = group, width: int = width) -> Tensor:
                heads: Tensor = weight.unflatten(0, (-1, width))
                return heads.repeat_interleave(group, 0).flatten(0, 1)

            module.q_proj.weight.copy_(repeated(module.k_proj.weight))
            module.o_proj.weight.copy_(repeated(module.v_proj.weight).t())
