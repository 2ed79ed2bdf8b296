"""Needle probes: what a haystack holds, and that recall counts what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import ModelSpec
from sevenfold.train.evaluation import needles


def drawn(seed: int, **changes: object) -> needles.NeedleWindows:
    values: dict[str, object] = {
        "n_windows": 3,
        "sequence": 192,
        "n_needles": 8,
        "distances": [(20, 150)],
    }
    rng = np.random.default_rng(seed)
    return needles.haystacks(rng, **(values | changes))  # type: ignore[arg-type]  # as its table


@pytest.fixture
def model() -> Transformer:
    made = Transformer(
        ModelSpec(
            d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ffn=16, vocab_size=320, context=192
        )
    )
    made.initialize(torch.Generator().manual_seed(0), 0.3)
    return made


def test_every_question_has_its_needle_at_its_distance() -> None:
    found = drawn(1)
    assert len(found.row) > 12
    for row, column, distance, answer in zip(
        found.row, found.column, found.distance, found.answer, strict=True
    ):
        ids = found.ids[row]
        needle = column - distance  # where the needle's value stands
        assert ids[column - 1] == needles.QUESTION
        assert ids[needle - 2] == needles.NEEDLE
        assert ids[needle - 1] == ids[column]
        assert ids[needle] == answer == ids[column + 1]
        assert (ids == ids[column]).sum() == 2
        assert 17 <= distance <= 152
    assert found.ids.max() < needles.FILLER + needles.N_FILLER


def test_haystacks_depend_on_the_generator_alone() -> None:
    assert np.array_equal(drawn(2).ids, drawn(2).ids)
    assert not np.array_equal(drawn(2).ids, drawn(3).ids)


def test_needles_without_room_are_left_out() -> None:
    assert len(drawn(4, n_needles=32, sequence=96, distances=[(60, 90)]).row) < 3 * 32


@pytest.mark.parametrize("changes", [{"n_needles": 33}, {"distances": [(3, 192)]}])
def test_what_does_not_fit_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        drawn(1, **changes)


def test_recall_counts_right_answers(model: Transformer) -> None:
    found = drawn(5)
    choice = needles.answers(model, found).argmax(-1).numpy()
    logits = model(torch.from_numpy(found.ids))
    assert np.array_equal(choice, logits[found.row, found.column].argmax(-1).numpy())
    right, asked = needles.recall(model, found)
    assert (right, asked) == (int((choice == found.answer).sum()), len(found.row))
    told = needles.NeedleWindows(
        ids=found.ids, row=found.row, column=found.column, distance=found.distance, answer=choice
    )
    assert needles.recall(model, told) == (asked, asked)


def test_a_mimetic_start_looks_up_and_copies(model: Transformer) -> None:
    needles.start_mimetic(model)
    attention = model.layers["00"].attn
    for head in range(4):
        own = slice(8 * head, 8 * head + 8)
        shared = slice(8 * (head // 2), 8 * (head // 2) + 8)
        assert torch.equal(attention.q_proj.weight[own], attention.k_proj.weight[shared])
        assert torch.equal(attention.o_proj.weight[:, own], attention.v_proj.weight[shared].t())
