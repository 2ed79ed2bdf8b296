"""Train the head: an averaged perceptron with a margin, in integers, in a fixed order.

The same suite gives the same bytes on every machine, because every step is integer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sevenfold.agent.router.features import N_PLACES, places_of
from sevenfold.agent.router.head import RouterHead
from sevenfold.agent.router.suite import RouterExample

# Questions of each skeleton.
TRAIN_FILLINGS = 6
EPOCHS = 4
# The right action has to be ahead of every other by so much for each place of the question, in halves.
_MARGIN_HALVES = 1
# A fixed stride through the examples, so that neighbours are not of one skeleton. Prime.
_STRIDE = 7919


def train_head(rows: Sequence[RouterExample], actions: Sequence[str]) -> RouterHead:
    """Return the head that these examples give."""
    place = {action: i for i, action in enumerate(actions)}
    read = [(np.array(places_of(row.question, row.steps)), place[row.action]) for row in rows]
    weights_AP = np.zeros((len(actions), N_PLACES), np.int64)
    # The sum of the weights after every step is n * weights - late, where late counts each change
    # times the steps before it.
    late_AP = np.zeros_like(weights_AP)
    n_steps = 0
    for _ in range(EPOCHS):
        for i in range(len(read)):
            places, right = read[i * _STRIDE % len(read)]
            scores = weights_AP[:, places].sum(axis=1)
            margin = len(places) * _MARGIN_HALVES // 2
            scores[right] -= margin
            wrong = int(np.argmax(scores))
            if wrong != right:
                for action, sign in ((right, 1), (wrong, -1)):
                    weights_AP[action, places] += sign
                    late_AP[action, places] += sign * n_steps
            n_steps += 1
    total_AP = n_steps * weights_AP - late_AP
    most = max(int(np.abs(total_AP).max()), 1)
    # Towards zero.
    scaled_AP = np.sign(total_AP) * (np.abs(total_AP) * 127 // most)
    return RouterHead(actions=tuple(actions), weights_AP=scaled_AP.astype(np.int8))
