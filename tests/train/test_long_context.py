"""Bits per byte by position: the buckets share out exactly what the whole score counts."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import ModelSpec
from sevenfold.train.evaluation.evaluate import float_score
from sevenfold.train.evaluation.long_context import Buckets, positions


@pytest.fixture(scope="module")
def model() -> Transformer:
    made = Transformer(
        ModelSpec(
            d_model=16, n_layers=1, n_heads=2, n_kv_heads=2, head_dim=8, d_ffn=16, vocab_size=300, context=64
        )
    )
    made.initialize(torch.Generator().manual_seed(0), 0.3)
    return made


def test_positions_restart_with_each_document() -> None:
    rows = np.array([[7, 7, 0, 7, 7, 0], [0, 7, 7, 7, 0, 7]])
    assert positions(rows, 0).tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 3, 0]]
    assert positions(rows, None).tolist() == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("document_start", [None, 0])
def test_buckets_add_up_to_the_score(document_start: int | None, model: Transformer) -> None:
    generator = np.random.default_rng(1)
    rows, lengths = generator.integers(0, 20, (11, 49)), generator.integers(0, 5, 300)
    model.document_start = document_start
    buckets = Buckets(rows, lengths, 8, document_start)
    score, _ = float_score(model, rows, lengths, watch=partial(buckets.add, 0))
    where = positions(rows, document_start)
    total = 0.0
    for name, value in buckets.table().items():
        low, high = map(int, name.split("-"))
        total += value * lengths[rows[:, 1:]][(where >= low) & (where <= high)].sum()
    assert total == pytest.approx(score.nats / math.log(2))
    if document_start is None:
        assert list(buckets.table()) == ["0-7", "8-15", "16-31", "32-63"]


def test_a_bucket_without_bytes_is_left_out() -> None:
    rows = np.ones((1, 17), np.int64)
    buckets = Buckets(rows, np.zeros(300, np.int64), 8, None)
    assert buckets.table() == {}
