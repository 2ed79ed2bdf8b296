"""Measure bits per byte of the integer model on the windows on which the float model was scored.

The engine returns integer logits. Turning them into a loss is measurement and not inference, so
floats are allowed here.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sevenfold.core.errors import QualityError
from sevenfold.core.numbers.floats import sum_in_order
from sevenfold.core.process.log import Progress
from sevenfold.engine import reference
from sevenfold.engine.backends import BACKENDS, available, make_engine
from sevenfold.engine.ops import LOGIT_FRACTION
from sevenfold.engine.weights import IntegerModel
from sevenfold.model.kernels import operators
from sevenfold.train.evaluation.evaluate import Score, predicted_bytes, token_losses


def integer_score(
    model: IntegerModel,
    rows: NDArray[np.int64],
    token_lengths: NDArray[np.int64],
    progress: Progress,
) -> tuple[Score, NDArray[np.int64]]:
    """Return the score and the greedy choices ([n_windows, sequence]) of the
    integer model on windows of tokens.

    Raises:
        QualityError: the backend of this machine gives other logits than the reference.
    """
    nats, choices = 0.0, []
    # Every backend gives the same bits, so the fastest one measures, and the first window is
    # compared with the reference. Without a native engine, the integers of PyTorch are four times
    # as fast as those of NumPy, and quantising needs PyTorch anyway.
    fastest = available(model)[0]
    if fastest == reference.NAME and BACKENDS["torch"].refuses(model) is None:
        fastest = "torch"
    engine = make_engine(fastest, model)
    oracle = reference.ReferenceEngine(model)
    for index, row in enumerate(rows):
        session = engine.session()
        logits = session.forward(row[:-1])
        session.close()
        if index == 0 and not np.array_equal(logits, oracle.session().forward(row[:-1])):
            raise QualityError(
                f"backend {engine.name!r} ({engine.detail}) gives other logits than the reference",
                remedy="please report it; with S7_ISA=scalar it may work",
            )
        choices.append(np.argmax(logits, axis=1))
        real = np.ldexp(logits.astype(np.float64), -LOGIT_FRACTION).astype(np.float32)
        # The losses are computed as for the float model. Exponentials of NumPy depend on the
        # processor, and these figures are sealed.
        losses = token_losses(torch.from_numpy(real)[None], torch.from_numpy(row[None, 1:]))
        nats += sum_in_order(operators.nats(losses, None))
        progress.advance(index + 1)
    score = Score(nats=nats, n_tokens=rows[:, 1:].size, n_bytes=predicted_bytes(rows, token_lengths))
    return score, np.stack(choices)
