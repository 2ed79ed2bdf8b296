"""The router: the file is what training gives, new skeletons meet the gate, arithmetic is integer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.agent.router.features import N_PLACES, places_of
from sevenfold.agent.router.head import SHIPPED, RouterHead, read_head, shipped_head
from sevenfold.agent.router.measure import GATE, measured
from sevenfold.agent.router.suite import actions, examples, is_held_out
from sevenfold.agent.router.train import TRAIN_FILLINGS, train_head
from sevenfold.core.errors import StorageError
from sevenfold.core.files import write_json

HEAD = shipped_head()


def test_training_gives_the_file_that_ships(tmp_path: Path) -> None:
    head = train_head(examples(held_out=False, n=TRAIN_FILLINGS), actions())
    write_json(tmp_path / "head.json", head.as_json())
    assert (tmp_path / "head.json").read_bytes() == SHIPPED.read_bytes()


def test_new_skeletons_meet_the_gate() -> None:
    rows = measured(HEAD)
    assert [row.name for row in rows] == ["when", *actions()[1:], "stop"]
    assert all(row.precision >= GATE and row.recall >= GATE and row.n >= 100 for row in rows), rows


def test_a_head_that_knows_nothing_is_seen() -> None:
    empty = RouterHead(actions=actions(), weights_AP=np.zeros((len(actions()), N_PLACES), np.int8))
    assert any(min(row.precision, row.recall) < GATE for row in measured(empty))


def test_no_skeleton_is_in_both_parts() -> None:
    parts = [{row.skeleton for row in examples(held_out=held_out, n=1)} for held_out in (False, True)]
    assert not parts[0] & parts[1]
    assert min(map(len, parts)) >= 100
    assert all(is_held_out(one) for one in parts[1])


STEPS = st.tuples(st.sampled_from(actions()), st.sampled_from(["ok", "error", "refused"]))
TABLE = HEAD.weights_AP.tolist()


@settings(max_examples=30)
@given(st.text(max_size=300), st.lists(STEPS, max_size=6))
def test_scores_are_sums_of_integers(question: str, steps: list[tuple[str, str]]) -> None:
    places = places_of(question, steps)
    assert places == sorted(set(places))
    sums = [sum(row[place] for place in places) for row in TABLE]
    assert HEAD.scores(question, steps).tolist() == sums
    best = actions()[sums.index(max(sums))]
    assert HEAD.choose(question, steps) == ("" if best == "answer" else best)


def test_a_call_that_fails_is_tried_once_more_then_it_stops() -> None:
    question = "What is 12 * 34?"
    for steps, action in (
        ([], "calculator"),
        ([("calculator", "ok")], ""),
        ([("calculator", "error")], "calculator"),
        ([("calculator", "error")] * 2, ""),
        ([("calculator", "refused")], ""),
    ):
        assert HEAD.choose(question, steps) == action


def test_every_changed_head_is_refused(tmp_path: Path) -> None:
    value = json.loads(SHIPPED.read_text())
    weights = value["weights"]
    for changed in (
        {**value, "weights": "B" + weights[1:] if weights[0] != "B" else "A" + weights[1:]},
        {**value, "weights": weights[:-8]},
        {**value, "weights": "*"},
        {**value, "actions": value["actions"][::-1]},
        {**value, "format": 2},
        {key: value[key] for key in value if key != "digest"},
        [],
    ):
        (tmp_path / "head.json").write_text(json.dumps(changed))
        with pytest.raises(StorageError):
            read_head(tmp_path / "head.json")
