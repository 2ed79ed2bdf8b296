"""Bits per byte: exact sums over windows, groups that add up, and FP32 beside INT8."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sevenfold.cli import app
from sevenfold.core.errors import UsageError
from sevenfold.core.process.log import Silent
from sevenfold.engine.session import Model
from sevenfold.evals import suites
from sevenfold.evals.decoding import bits
from sevenfold.evals.decoding.decoder import EvaluationDecoder
from sevenfold.evals.leaks import NOT_CHECKABLE, corpus_of
from sevenfold.evals.run import EvaluationSettings, evaluate, read_run
from sevenfold.evals.tasks import texts
from sevenfold.evals.tasks.cards import Item, cards
from sevenfold.report.evals import float_rows, score_rows, write_page
from sevenfold.runs.job import Job

TEXT = "def f(x):\n    return x + 1\n\n\nclass A:\n    pass\n" * 12


@pytest.fixture(scope="module")
def model(dense_run: Job) -> Model:
    return Model.open(dense_run.out / "model.s7l")


def item(name: str = "a", text: str = TEXT, **target: str) -> Item:
    return Item(
        id=name,
        prompt=text,
        target={"domain": "code", "language": "python", "licence": "permissive", **target},
    )


def test_every_id_of_a_text_is_predicted_once() -> None:
    for n in (1, 2, 8, 9, 10, 17, 40):
        ids = list(range(n))
        windows = bits.windows_of(ids, 8)
        assert [int(i) for window in windows for i in window[1:]] == ids[1:]
        assert all(len(window) <= 9 for window in windows)
        assert [int(window[0]) for window in windows][1:] == [int(w[-1]) for w in windows[:-1]]


def test_the_sum_of_a_text_is_that_of_its_windows(model: Model) -> None:
    decoder = EvaluationDecoder(model)
    (row,) = bits.measured(decoder, [item()], bits.integer_scorer(decoder))
    ids = [model.tokenizer.eot_id, *model.tokenizer.encode(TEXT)]
    pairs = [([int(w[0])], [int(i) for i in w[1:]]) for w in bits.windows_of(ids, model.context)]
    expected = decoder.likelihoods_of_ids(pairs, TEXT, "a")
    assert sum(part[2] for part in row["sums"]) == sum(one.total for one in expected)
    assert sum(part[1] for part in row["sums"]) == len(TEXT.encode())
    assert sum(part[0] for part in row["sums"]) == len(ids) - 1
    assert len(pairs) > 1


def test_figures_are_bits_over_bytes_and_groups_add_up() -> None:
    unit = round(math.log(2) * (1 << 32))
    rows = {"a": {"sums": [[1, 4, -8 * unit]]}, "b": {"sums": [[1, 12, -8 * unit]]}}
    rows = {
        name: {"sums": row["sums"] + [[0, 0, 0]] * (len(bits.POSITIONS) - 1)} for name, row in rows.items()
    }
    some = [item("a"), item("b", language="rust")]
    found = {score["metric"]: score for score in bits.text_scores(some, rows)}
    assert found["bits_per_byte"]["value"] == pytest.approx(1.0, abs=1e-6)
    assert found["bits_per_byte language=python"]["value"] == pytest.approx(2.0, abs=1e-6)
    assert found["bits_per_byte language=rust"]["value"] == pytest.approx(8 / 12, abs=1e-6)
    assert found["bits_per_byte"]["low"] < 1.0 < found["bits_per_byte"]["high"]
    assert found["bits_per_byte"]["n_bytes"] == 16
    assert "bits_per_byte position from 0" in found
    assert "bits_per_byte position from 16" not in found


def test_the_held_out_split_is_scored_with_its_languages_and_fp32_beside(
    dense_run: Job, model: Model, tmp_path: Path
) -> None:
    corpus = corpus_of(model, dense_run.out)
    task = suites.make_task(cards()["bpb-heldout"], None, 4, corpus.path.parent)
    assert {one.target["language"] for one in task.items} == {"python"}
    assert {one.target["licence"] for one in task.items} == {"permissive"}
    settings = EvaluationSettings(run=dense_run.out)
    found = evaluate(EvaluationDecoder(model), task, tmp_path, settings, NOT_CHECKABLE, Silent())
    assert read_run(tmp_path / "bpb-heldout.eval.json")["root"] == found["root"]
    assert found["context_rule"].endswith(f"context {model.context}")
    floats = found["evidence"]["fp32"]
    for score in found["scores"]:
        assert score["low"] <= score["value"] <= score["high"]
        # INT8 is near FP32, and is not the same.
        assert floats[score["metric"]] == pytest.approx(score["value"], rel=0.05)
        assert floats[score["metric"]] != score["value"]
    assert float_rows([found])
    assert score_rows([found])
    write_page(tmp_path / "page.html", [found])
    assert "FP32" in (tmp_path / "page.html").read_text()
    # Another batch, another scorer's windows at once: the same bits.
    again = evaluate(
        EvaluationDecoder(model, batch=1),
        task,
        tmp_path / "again",
        EvaluationSettings(),
        NOT_CHECKABLE,
        Silent(),
    )
    assert again["root"] == found["root"]
    assert again["evidence"]["fp32"] is None


def test_the_weights_of_another_model_are_not_taken(dense_run: Job, model: Model, tmp_path: Path) -> None:
    assert bits.float_scorer(EvaluationDecoder(model), tmp_path) is None
    assert bits.float_scorer(EvaluationDecoder(model), dense_run.out) is not None


def test_the_held_out_split_needs_the_run() -> None:
    with pytest.raises(UsageError, match="held-out split of the model's own corpus"):
        suites.make_task(cards()["bpb-heldout"], None)


def test_the_standard_library_is_that_of_the_interpreter() -> None:
    found = list(texts.standard_library())
    assert len(found) == texts.DOCUMENTS_PER_GROUP
    assert all(len(one.prompt) <= texts.MAX_CHARACTERS for one in found)
    assert {one.target["language"] for one in found} == {"python"}
    assert "ast.py" in {one.id.split("/")[1] for one in found} | {"ast.py"}
    assert [one.id for one in found] == [one.id for one in texts.standard_library()]


def test_no_package_of_a_lock_is_among_the_packages() -> None:
    locked = texts.locked_names()
    assert {"black", "dask"} <= locked
    found = {one.id.rsplit("-", 1)[0].split("/")[0] for one in texts.installed_packages()}
    assert found
    assert not found & locked


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("MIT", "permissive"), ("MIT-0", "public domain"), ("Apache-2.0", "permissive with a patent grant"),
        ("MIT OR Apache-2.0", "permissive with a patent grant"), ("(MIT AND GPL-2.0-only)", "copyleft"),
        ("LGPL-3.0", "copyleft"), ("", "other"), ("CC0-1.0", "public domain"),
    ],
)  # fmt: skip
def test_a_licence_has_a_class(expression: str, name: str) -> None:
    assert texts.licence_class(expression) == name


def test_the_command_prints_both_figures(dense_run: Job, tmp_path: Path) -> None:
    arguments = ["eval", str(dense_run.out / "model.s7l"), "--suite", "bpb-heldout,bpb-stdlib"]
    options = ["--limit", "3", "--corpus", str(dense_run.out), "--out", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == ["bpb-heldout", "bpb-stdlib"]
    assert rows[0]["fp32"]["bits_per_byte"] > 0
    assert np.isfinite(rows[1]["scores"][0]["value"])
    assert CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)]).exit_code == 2
