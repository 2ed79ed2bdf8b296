"""Runs: one output in any batch, thread count and backend; resumed, rescored, sealed, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sevenfold.core.errors import GateError, StorageError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.engine import native
from sevenfold.engine.likelihood import log_probabilities
from sevenfold.engine.sampling import GREEDY, DecodingLaw
from sevenfold.engine.session import Model, prompt_ids
from sevenfold.evals.decoding.decoder import Answer, EvaluationDecoder
from sevenfold.evals.grading import graders
from sevenfold.evals.journal import Journal
from sevenfold.evals.leaks import NOT_CHECKABLE
from sevenfold.evals.run import EvaluationSettings, NoVerdictError, evaluate, read_run
from sevenfold.evals.tasks.cards import Card, Item, Task, cards, task_root
from sevenfold.report.evals import score_rows, write_page
from sevenfold.runs.job import Job
from sevenfold.sandbox.grading import GradingVerdict

PROMPTS = [
    "def f(x):",
    "import os\n",
    "class A",
    "def f(x, y):\n    return",
    "# one",
    "x = [",
    "def g(",
    "return ",
]
SAMPLED = DecodingLaw.parse("0.9", 40, "0.01", "0.95", 11)
needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
needs_native = pytest.mark.skipif(native.unavailable() is not None, reason="the native engine was not built")


@pytest.fixture(scope="module")
def model(dense_run: Job) -> Model:
    return Model.open(dense_run.out / "model.s7l")


def generating(prompts: list[str] = PROMPTS, grade: str = "number") -> Task:
    card = Card(
        name="made", set="gsm8k", protocol="a test", kind="generate", build="gsm8k", stops=("\n\n",),
        max_tokens=12, extract=("gsm8k-flexible",), grade=grade,
    )  # fmt: skip
    items = tuple(Item(id=f"i{i}", prompt=p, target={"answer": "#### 1"}) for i, p in enumerate(prompts))
    return Task(card=card, items=items, n_in_set=len(items), root=task_root(card, items))


def choosing() -> Task:
    card = cards()["mmlu-cloze"]
    items = tuple(
        Item(id=f"c{i}", prompt=p, choices=(" a", " return x", "(self", " 1 2 3"), target={"answer": i % 4})
        for i, p in enumerate(PROMPTS)
    )
    return Task(card=card, items=items, n_in_set=len(items), root=task_root(card, items))


def answers(decoder: EvaluationDecoder, law: DecodingLaw = GREEDY, n: int = 1) -> list[list[Answer]]:
    task = generating()
    return [found for _, found in decoder.generate(task.items, task.card.stops, task.card.max_tokens, law, n)]


def reference(model: Model) -> Model:
    from sevenfold.engine.backends import make_engine

    other = Model(model.artifact)
    other.engine = make_engine("reference", model.weights)
    return other


@needs_native
@pytest.mark.parametrize(("law", "n"), [(GREEDY, 1), (SAMPLED, 3)])
def test_outputs_do_not_depend_on_batch_threads_or_backend(model: Model, law: DecodingLaw, n: int) -> None:
    expected = answers(EvaluationDecoder(model, batch=1), law, n)
    assert answers(EvaluationDecoder(model, batch=5), law, n) == expected
    assert answers(EvaluationDecoder(model, batch=64), law, n) == expected
    threads = Model(model.artifact)
    threads.engine = native.NativeEngine(model.weights, n_threads=3)
    assert answers(EvaluationDecoder(threads, batch=3), law, n) == expected
    assert answers(EvaluationDecoder(reference(model), batch=4), law, n) == expected


@needs_native
def test_likelihoods_do_not_depend_on_batch_prefix_or_backend(model: Model) -> None:
    items = choosing().items
    found = [row for _, row in EvaluationDecoder(model, batch=16).likelihoods(items)]
    assert [row for _, row in EvaluationDecoder(model, batch=1).likelihoods(items[::-1])] == found[::-1]
    assert [row for _, row in EvaluationDecoder(reference(model), batch=2).likelihoods(items)] == found


def test_a_likelihood_is_the_sum_over_the_continuation(model: Model) -> None:
    item = choosing().items[3]
    decoder = EvaluationDecoder(model)
    (_, found), *_ = decoder.likelihoods([item])
    for choice, likelihood in zip(item.choices, found, strict=True):
        context = prompt_ids(model.tokenizer, item.prompt)
        whole = prompt_ids(model.tokenizer, item.prompt + choice)
        session = reference(model).engine.session()
        logits = session.forward(np.array(whole[:-1], np.int64))
        wanted = np.array(whole[1:], np.int64)
        values = log_probabilities(logits, wanted[:, None])[len(context) - 1 :, 0]
        assert likelihood.total == int(values.sum())
        assert likelihood.n_tokens == len(whole) - len(context)


def test_greedy_answers_are_those_of_a_session(model: Model) -> None:
    task = generating()
    for item, (answer,) in EvaluationDecoder(model).generate(task.items, (), 12, GREEDY):
        with model.session(item.prompt, max_tokens=12) as session:
            list(session.generate(12))
            ends = model.tokenizer.roles.ends
            assert list(answer.ids) == [token for token in session.tokens if token not in ends]


def test_spaces_at_the_end_of_a_context_belong_to_the_continuation(model: Model) -> None:
    decoder = EvaluationDecoder(model)
    assert decoder.pair_ids("def f(x):  ", "return", "a") == decoder.pair_ids("def f(x):", "  return", "a")
    context, continuation = decoder.pair_ids("a", " b", "a")
    assert context + continuation == prompt_ids(model.tokenizer, "a b")
    with pytest.raises(UsageError, match="nothing is left"):
        decoder.pair_ids("a", "", "a")


def test_a_prompt_past_the_context_is_refused_or_cut_by_name(model: Model, tmp_path: Path) -> None:
    task = generating(["x = 1\n" * 80])
    with pytest.raises(GateError, match="i0: the prompt has") as raised:
        evaluate(EvaluationDecoder(model), task, tmp_path, EvaluationSettings(), NOT_CHECKABLE, Silent())
    assert raised.value.exit_code == 5
    found = evaluate(
        EvaluationDecoder(model, truncation="left"),
        task,
        tmp_path,
        EvaluationSettings(),
        NOT_CHECKABLE,
        Silent(),
    )
    assert found["law"]["truncation"] == "left"
    assert found["items"][0]["answers"][0]["ended"] == "context"


def test_a_prompt_with_control_characters_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(GateError):
        evaluate(
            EvaluationDecoder(model),
            generating(["a\x0bb"]),
            tmp_path,
            EvaluationSettings(),
            NOT_CHECKABLE,
            Silent(),
        )


def run(model: Model, task: Task, out: Path, **settings: Any) -> Any:
    return evaluate(
        EvaluationDecoder(model),
        task,
        out,
        EvaluationSettings(n_workers=2, **settings),
        NOT_CHECKABLE,
        Silent(),
    )


def test_two_runs_have_one_root_and_an_altered_run_is_refused(model: Model, tmp_path: Path) -> None:
    for task in (generating(), choosing()):
        first = run(model, task, tmp_path / "a")
        again = run(model, task, tmp_path / "b")
        assert first["root"] == again["root"]
        path = tmp_path / "a" / f"{task.card.name}.eval.json"
        assert read_run(path)["scores"] == first["scores"]
        changed = json.loads(path.read_text())
        changed["scores"][0]["value"] = 0.99
        path.write_text(json.dumps(changed))
        with pytest.raises(StorageError, match="altered"):
            read_run(path)


def test_outputs_are_kept_by_model_task_and_law_alone(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(model, generating(), tmp_path)
    keys = {first["key"]}
    keys.add(run(model, generating(PROMPTS[:2]), tmp_path)["key"])
    keys.add(run(model, generating(), tmp_path, law=SAMPLED)["key"])
    keys.add(run(model, generating(), tmp_path, law=DecodingLaw.parse("0.9", 40, "0.01", "0.95", 12))["key"])
    assert len(keys) == 4
    # The same key: nothing is generated again.
    monkeypatch.setattr(EvaluationDecoder, "_started", lambda *_: pytest.fail("generated again"))
    assert run(model, generating(), tmp_path)["root"] == first["root"]


def test_a_run_that_stopped_goes_on(model: Model, tmp_path: Path) -> None:
    whole = run(model, generating(), tmp_path / "whole")
    run(model, generating(), tmp_path / "cut")
    (journal,) = (tmp_path / "cut").glob("*/outputs.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    # Half of the fourth row was written; the third was damaged.
    journal.write_bytes(b"".join(lines[:2]) + lines[2].replace(b'"ids"', b'"idz"') + lines[3][:20])
    assert run(model, generating(), tmp_path / "cut")["root"] == whole["root"]
    assert len(journal.read_bytes().splitlines()) == len(PROMPTS)


@pytest.mark.slow
def test_a_killed_run_goes_on(dense_run: Job, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_runs_of_evaluation as t\n"
        "from pathlib import Path\n"
        "model = t.Model.open(sys.argv[2]); print('go', flush=True)\n"
        "task = t.generating([f'{p}{i}' for p in t.PROMPTS for i in range(40)])\n"
        "print(t.run(model, task, Path(sys.argv[3]))['root'])"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(dense_run.out / "model.s7l")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    expected = subprocess.run(
        [*command, str(tmp_path / "a")], env=environment, capture_output=True, text=True, check=True
    )
    for _ in range(3):
        with subprocess.Popen(
            [*command, str(tmp_path / "b")], env=environment, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
    again = subprocess.run(
        [*command, str(tmp_path / "b")], env=environment, capture_output=True, text=True, check=True
    )
    assert again.stdout.split()[-1] == expected.stdout.split()[-1]


def test_rescoring_keeps_the_outputs_and_shows_both(model: Model, tmp_path: Path) -> None:
    first = run(model, generating(), tmp_path)
    second = run(model, generating(), tmp_path, rules=("boxed",))
    assert [s["extract"] for s in second["scores"] if "extract" in s] == ["gsm8k-flexible", "boxed"]
    assert [i["answers"] for i in second["items"]] == [i["answers"] for i in first["items"]]
    assert second["key"] == first["key"]
    with pytest.raises(UsageError, match="no rule"):
        EvaluationSettings(rules=("nothing",))


def test_a_run_without_a_verdict_has_no_score(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = {"i3": "none"}
    monkeypatch.setitem(
        graders.GRADERS,
        "number",
        lambda item, _: GradingVerdict(verdict=verdicts.get(item.id, "pass"), reason="x"),
    )
    with pytest.raises(NoVerdictError, match=r"1 samples have no verdict \(i3 is the first") as raised:
        run(model, generating(), tmp_path)
    assert raised.value.exit_code == 6
    sealed = read_run(tmp_path / "made.eval.json")
    assert sealed["scores"] == []
    # What has a verdict keeps it; what has none is graded again.
    graded: list[str] = []
    monkeypatch.setitem(
        graders.GRADERS,
        "number",
        lambda item, _: graded.append(item.id) or GradingVerdict(verdict="pass"),  # type: ignore[func-returns-value]
    )
    assert run(model, generating(), tmp_path)["scores"][0]["value"] == 1.0
    assert graded == ["i3"]


def test_without_isolation_nothing_is_generated(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sevenfold.sandbox import confined

    monkeypatch.setattr(shutil, "which", lambda *_a, **_k: None)
    confined.bubblewrap.cache_clear()
    try:
        with pytest.raises(confined.SandboxError) as raised:
            run(model, generating(grade="humaneval"), tmp_path)
        assert raised.value.exit_code == 4
        assert list(tmp_path.iterdir()) == []
    finally:
        confined.bubblewrap.cache_clear()


def test_samples_and_k_that_make_no_sense_are_refused() -> None:
    for values in ({"n_samples": 2}, {"n_samples": 0}, {"ks": (2,)}, {"ks": (0,)}):
        with pytest.raises(UsageError):
            EvaluationSettings(**values)  # type: ignore[arg-type]


def test_a_journal_takes_no_row_of_another(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.add([{"item": "a", "x": 1}, {"item": "b", "x": 2}])
    journal.close()
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"row":{"item":"c"},"digest":"00"}\n{"half')
    journal = Journal(tmp_path / "j")
    assert list(journal.rows) == ["a", "b"]
    journal.add([{"item": "c", "x": 3}])
    journal.close()
    journal = Journal(tmp_path / "j")
    assert list(journal.rows) == ["a", "b", "c"]
    journal.close()


def test_the_page_and_the_table_show_what_the_run_says(model: Model, tmp_path: Path) -> None:
    runs = [run(model, generating(["<script>alert(1)</script>"]), tmp_path), run(model, choosing(), tmp_path)]
    write_page(tmp_path / "evaluation.html", runs)
    page = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    for one in runs:
        assert one["root"] in page
    assert [row[0] for row in score_rows(runs)] == ["made", "made", "mmlu-cloze", "mmlu-cloze"]


@pytest.mark.subprocess
@needs_bubblewrap
def test_the_verb(dense_run: Job, tmp_path: Path) -> None:
    data = Path(os.environ.get("SEVENFOLD_DATA", "../shared/data")).resolve() / "eval"

    def s7(*words: object) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "sevenfold",
            "eval",
            dense_run.out / "model.s7l",
            *words,
            "--out",
            tmp_path / "o",
        ]
        return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=300)

    wrong = s7("--suite", "arc")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert s7("--suite", "quick", "--data", tmp_path / "none").returncode == 4
    if not data.is_dir():
        pytest.skip("the evaluation sets are not here (SEVENFOLD_DATA)")
    words = ("--suite", "humaneval,math500", "--data", data, "--limit", 2, "--truncate", "left")
    done = s7(*words, "--json", "--png", tmp_path / "p.png")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert [(run["name"], run["scores"][0]["n"]) for run in shown] == [("humaneval", 2), ("math500", 2)]
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads(s7(*words, "--json").stdout) == shown
    assert s7("--suite", "humaneval", "--data", data).returncode == 5
