"""Items that stand in the corpus, gates over sealed runs, and guidance by the tests of a prompt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sevenfold.cli import app
from sevenfold.core.documents import read_documents
from sevenfold.core.errors import QualityError, RecipeError, StorageError, UsageError
from sevenfold.core.hashing import canonical_json, digest
from sevenfold.core.process.log import Silent
from sevenfold.engine.session import Model
from sevenfold.evals import gates
from sevenfold.evals.decoding.decoder import EvaluationDecoder
from sevenfold.evals.guidance.guided import choose, guided_score, visible_tests
from sevenfold.evals.leaks import corpus_of, find_leaks
from sevenfold.evals.run import EvaluationSettings, evaluate, read_run
from sevenfold.evals.tasks.cards import Item, Task, cards, task_root
from sevenfold.runs.job import Job

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
PROMPT = '''def add(a, b):
    """Add.
    >>> add(1, 2)
    3
    >>> print(add(1, 2))
    3
    >>> add(2, 2) == 4
    True
    """
'''
TARGET = {
    "prompt": PROMPT,
    "entry_point": "add",
    "test": "def check(c):\n    assert c(1, 2) == 3\n    assert c(-1, -1) == -2\n",
}


@pytest.fixture(scope="module")
def model(dense_run: Job) -> Model:
    return Model.open(dense_run.out / "model.s7l")


def test_items_of_the_corpus_are_dropped_with_their_spans(
    dense_run: Job, model: Model, tmp_path: Path
) -> None:
    corpus = corpus_of(model, dense_run.out)
    document = next(d for d in read_documents(corpus.path) if "def " in d.text and len(d.text) > 3000)
    words = " ".join(document.text.split()[100:140])
    program = document.text[document.text.index("def ") :]
    items = [
        # Another layout and case, and words before and after.
        Item(
            id="text",
            prompt="a",
            choices=(" b", " c"),
            target={"answer": 0},
            texts=(f"An own start: {words.upper()} end",),
        ),
        Item(
            id="clean",
            prompt="a",
            choices=(" b", " c"),
            target={"answer": 0},
            texts=("what nobody wrote " * 9,),
        ),
        Item(id="short", prompt="a", choices=(" b", " c"), target={"answer": 0}, texts=("def f(x):",)),
        Item(id="program", prompt="a", choices=(" b", " c"), target={"answer": 0}, program=program),
    ]
    leaks = find_leaks(items, corpus, Silent())
    assert leaks.is_checked
    assert leaks.against == corpus.root
    assert "text" in leaks.dropped
    assert not {"clean", "short"} & set(leaks.dropped)
    (span,) = leaks.dropped["text"]
    assert len(span.split()) >= 13
    assert "own start" not in span
    # The run leaves the item out, and says with what it collided.
    card = cards()["mmlu-cloze"]
    task = Task(card=card, items=tuple(items), n_in_set=4, root=task_root(card, items))
    found = evaluate(EvaluationDecoder(model), task, tmp_path, EvaluationSettings(), leaks, Silent())
    assert "text" not in [row["id"] for row in found["items"]]
    assert found["leaks"]["dropped"]["text"] == [span]
    assert found["scores"][0]["n"] == 4 - len(leaks.dropped)


def test_a_function_with_other_names_is_found(dense_run: Job, model: Model) -> None:
    from sevenfold.corpus.text import functions
    from sevenfold.corpus.text.grammars import parser

    corpus = corpus_of(model, dense_run.out)
    for document in read_documents(corpus.path):
        for node in functions.functions(parser("python").parse(document.text.encode()), "python"):
            source = node.text.decode()
            if functions.function_fingerprint(node) is not None and "\n" in source and '"""' not in source:
                item = Item(id="f", prompt="", program=source.replace("def ", "def renamed_", 1))
                dropped = find_leaks([item], corpus, Silent()).dropped
                assert any("a function of" in span for span in dropped["f"])
                return
    pytest.fail("the corpus has no function")


def test_a_corpus_of_another_model_is_refused(dense_run: Job, model: Model, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no finished corpus"):
        corpus_of(model, tmp_path)
    copy = tmp_path / "corpus"
    shutil.copytree(dense_run.out / "corpus", copy)
    (copy / "train.parquet").write_bytes(b"x")
    with pytest.raises(StorageError, match="missing or changed"):
        corpus_of(model, tmp_path)


def sealed(directory: Path, **changes: Any) -> None:
    card = cards()["gsm8k"]
    body = {
        "eval": 1, "name": "gsm8k", "card": card.facts(), "model": {"root": "m"},
        "task": {"root": "t", "n_items": 5, "n_in_set": 5},
        "scores": [
            {"metric": "maj@5", "extract": "gsm8k-flexible", "value": 0.75, "low": 0.7, "high": 0.8, "n": 5}
        ],
    } | changes  # fmt: skip
    directory.mkdir(exist_ok=True)
    root = digest("sevenfold/eval/1", canonical_json(body))
    (directory / "gsm8k.eval.json").write_text(json.dumps({**body, "root": root, "evidence": {}}))


def states(directory: Path) -> dict[str, str]:
    found, _ = gates.runs_of("m", directory)
    return {row.id: row.state for row in gates.scorecard(gates.load_gates("north-star"), found)}


def test_gates_are_met_not_met_or_not_measured(tmp_path: Path) -> None:
    assert set(states(tmp_path / "none").values()) == {"not measured"}
    sealed(tmp_path)
    assert states(tmp_path)["gsm8k"] == "met"
    assert states(tmp_path)["mmlu-core"] == "not measured"
    worse = [{"metric": "maj@5", "extract": "gsm8k-flexible", "value": 0.6, "low": 0.5, "high": 0.7, "n": 5}]
    sealed(tmp_path, scores=worse)
    assert states(tmp_path)["gsm8k"] == "not met"
    named = gates.load_gates("north-star")
    found, _ = gates.runs_of("m", tmp_path)
    with pytest.raises(QualityError, match="6 of 6 gates are not met") as raised:
        gates.require(gates.scorecard(named, found), "model.s7l")
    assert raised.value.exit_code == 6


@pytest.mark.parametrize(
    "changes",
    [{"model": {"root": "other"}}, {"task": {"root": "t", "n_items": 4, "n_in_set": 5}}, {"scores": []}],
)
def test_what_is_no_measurement_of_the_model_does_not_count(tmp_path: Path, changes: dict[str, Any]) -> None:
    sealed(tmp_path, **changes)
    assert states(tmp_path)["gsm8k"] == "not measured"


def test_an_altered_run_does_not_count(tmp_path: Path) -> None:
    sealed(tmp_path)
    path = tmp_path / "gsm8k.eval.json"
    path.write_text(path.read_text().replace("0.75", "0.99"))
    assert states(tmp_path)["gsm8k"] == "not measured"
    assert "altered" in gates.runs_of("m", tmp_path)[1][0]


@pytest.mark.parametrize(
    "text",
    [
        "", "gates: 2", "[1",
        "gates: 1\nname: a\nsummary: b\nrows: [{id: x}]",
        "gates: 1\nname: a\nsummary: b\nrows:\n"
        "- {id: x, requirement: r, text: t, card: nothing, metric: m, at_least: 1.0}",
        "gates: 1\nname: a\nsummary: b\nrows:\n- {id: x, requirement: r, text: t, needs: n}",
        "gates: 1\nname: a\nsummary: b\nrows:\n- {id: x, requirement: r, text: t, needs: n, at_least: .nan}",
        "gates: 1\nname: a\nsummary: b\nrows:\n"
        "- &x {id: x, requirement: r, text: t, needs: n, at_most: 1.0}\n- *x",
    ],
)  # fmt: skip
def test_files_of_gates_are_checked(tmp_path: Path, text: str) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match="no file of gates"):
        gates.load_gates(str(path))
    with pytest.raises(UsageError, match="no gates"):
        gates.load_gates("nothing")


def test_every_file_of_gates_that_ships_is_whole() -> None:
    for name in ("north-star", "small-code"):
        assert gates.load_gates(name).rows


def test_visible_tests_are_those_of_the_prompt() -> None:
    item = Item(id="a", prompt=PROMPT, target=TARGET)
    assert visible_tests(item) == [
        "assert (add(1, 2)) == (3)",
        # What prints gives no value: such an example fails for every sample.
        "assert (print(add(1, 2))) == (3)",
        "assert (add(2, 2) == 4) == (True)",
    ]
    tests = ["assert f(1) == 1", "assert f(2) == 2"]
    shown = Item(id="b", prompt='"""\nassert f(1) == 1\n"""\n', target={"tests": tests})
    assert visible_tests(shown) == tests[:1]


@needs_bubblewrap
def test_guidance_takes_the_first_that_passes_what_the_prompt_shows() -> None:
    card = cards()["humaneval"]
    target = {**TARGET, "prompt": PROMPT.replace("    >>> print(add(1, 2))\n    3\n", "")}
    item = Item(id="a", prompt=str(target["prompt"]), target=target)
    wrong, lucky, right = "    return a - b\n", "    return abs(a) + b\n", "    return a + b\n"
    assert choose(card, item, [wrong, lucky, right], "completion") == [1, 2]
    assert choose(card, item, [wrong, wrong], "completion") == [0, 2]
    bare = Item(id="n", prompt="def add(a, b):\n", target={**TARGET, "prompt": "def add(a, b):\n"})
    assert choose(card, bare, [wrong], "completion") == [0, 0]
    # The hidden tests decide, and choose nothing: the lucky one is taken and fails.
    verdicts = {"a": [["", "fail"], ["", "fail"], ["", "pass"]], "b": [["", "fail"], ["", "pass"]]}
    items = [item, Item(id="b", prompt="", target=target)]
    score = guided_score(items, verdicts, {"a": [1, 2], "b": [1, 2]}, "completion")
    assert (score["value"], score["unguided"], score["samples_executed"]) == (0.5, 0.0, 4)
    assert score["first_failures_mended"] == "1/2"


@needs_bubblewrap
def test_a_guided_run_is_sealed_with_its_choice(model: Model, tmp_path: Path) -> None:
    from sevenfold.engine.sampling import DecodingLaw

    card = cards()["humaneval"]
    items = [Item(id="a", prompt="def add(a, b):\n", target={**TARGET, "prompt": "def add(a, b):\n"})]
    task = Task(card=card, items=tuple(items), n_in_set=1, root=task_root(card, items))
    settings = EvaluationSettings(
        law=DecodingLaw.parse("0.8", seed=1), n_samples=2, is_guided=True, n_workers=1
    )
    from sevenfold.evals.leaks import NOT_CHECKABLE

    found = evaluate(EvaluationDecoder(model), task, tmp_path, settings, NOT_CHECKABLE, Silent())
    assert [score["metric"] for score in found["scores"]] == ["pass@1 guided", "pass@1", "ends_by_itself"]
    assert read_run(tmp_path / "humaneval.eval.json")["guided"] == {"a": [0, 0]}
    with pytest.raises(UsageError, match="among samples"):
        EvaluationSettings(is_guided=True)


def test_the_command_shows_gates_and_requires_them(dense_run: Job, model: Model, tmp_path: Path) -> None:
    file = str(dense_run.out / "model.s7l")
    shown = CliRunner().invoke(app, ["scorecard", file, "--runs", str(tmp_path), "--json"])
    assert shown.exit_code == 0
    rows = json.loads(shown.stdout)
    assert rows["model"] == model.artifact.root
    assert {row["state"] for row in rows["rows"]} == {"not measured"}
    refused = CliRunner().invoke(app, ["scorecard", file, "--runs", str(tmp_path), "--require"])
    assert refused.exit_code == 6
    sealed(tmp_path, model={"root": model.artifact.root})
    named = tmp_path / "one.yaml"
    row = "{id: a, requirement: C0, text: t, card: gsm8k, metric: maj@5, at_least: 0.7}"
    named.write_text(f"gates: 1\nname: one\nsummary: s\nrows: [{row}]\n")
    arguments = ["scorecard", file, "--runs", str(tmp_path), "--gates", str(named), "--require"]
    met = CliRunner().invoke(app, arguments)
    assert met.exit_code == 0, met.output
    assert "0.7500" in met.stdout
    named.write_text(named.read_text().replace("0.7}", "0.8}"))
    assert CliRunner().invoke(app, arguments).exit_code == 6
    assert CliRunner().invoke(app, ["scorecard", file, "--gates", "nowhere"]).exit_code == 2
