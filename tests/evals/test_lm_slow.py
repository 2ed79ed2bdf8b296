"""lm-eval's own task files on local data, on a sealed model: equal to this project's runners."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sevenfold import pipeline
from sevenfold.core.process.log import Silent
from sevenfold.engine.session import Model
from sevenfold.evals.decoding.decoder import EvaluationDecoder
from sevenfold.evals.leaks import NOT_CHECKABLE
from sevenfold.evals.run import EvaluationSettings, evaluate
from sevenfold.evals.tasks.builders import gsm8k, mmlu_cloze, mmlu_letters
from sevenfold.evals.tasks.cards import Card, Item, Task, cards, task_root
from sevenfold.evals.tasks.data import csv_rows, json_lines, read_set, six_lines
from sevenfold.runs.job import Job

lm_eval = pytest.importorskip("lm_eval")
DATA = Path(os.environ.get("SEVENFOLD_DATA", "../shared/data")).resolve() / "eval"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the evaluation sets are not here (SEVENFOLD_DATA)"),
    # What lm-eval and its libraries warn about is theirs.
    pytest.mark.filterwarnings("ignore"),
]
SUBJECT, N = "abstract_algebra", 12


def write_task(directory: Path, name: str, included: str, rows: dict[str, list[Any]], **more: Any) -> None:
    """A task file that takes lm-eval's own and changes where the data comes from."""
    import yaml

    files = {}
    for split, found in rows.items():
        files[split] = str(directory / f"{name}.{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    own = Path(lm_eval.__file__).parent / "tasks" / included
    value = {
        "include": str(own), "task": name, "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {"data_files": files}, **more,
    }  # fmt: skip
    (directory / f"{name}.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")


@pytest.fixture(scope="module")
def wide_run(tmp_path_factory: pytest.TempPathFactory, make_job: Callable[..., Job]) -> Job:
    """A run of a context that holds the longest choice."""
    job = make_job(tmp_path_factory.mktemp("run") / "wide", "dense", model={"context": 512})
    pipeline.make(job)
    return job


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tasks")
    os.environ["HF_HOME"], os.environ["HF_DATASETS_OFFLINE"] = str(directory / "hf"), "1"
    train, test = (json_lines(read_set("gsm8k", DATA)[f"gsm8k/{part}.jsonl"]) for part in ("train", "test"))
    first_n = {"fewshot_config": {"sampler": "first_n"}}
    write_task(
        directory, "local_gsm8k", "gsm8k/gsm8k.yaml", {"train": train[:5], "test": test[:4]}, **first_n
    )
    mmlu = read_set("mmlu", DATA)
    parts = {
        part: [
            {"question": row[0], "choices": row[1:5], "answer": int(row[5])}
            for row in csv_rows(mmlu[f"mmlu/{part}/{SUBJECT}_{part}.csv"])
        ]
        for part in ("dev", "test")
    }
    parts["test"] = parts["test"][:N]
    write_task(directory, "local_mmlu", f"mmlu/default/mmlu_{SUBJECT}.yaml", parts, num_fewshot=5)
    metrics = [
        {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
    ]
    continuation = "mmlu/continuation/_continuation_template_yaml"
    write_task(directory, "local_cloze", continuation, parts, num_fewshot=0, metric_list=metrics)
    arc = [
        {
            "question": row["question"],
            "choices": {"text": row["choices"], "label": list("ABCD")},
            "answerKey": "ABCD"[row["answer"]],
        }
        for row in parts["test"]
    ]
    write_task(directory, "local_arc", "arc/arc_easy.yaml", {"train": arc, "validation": arc, "test": arc})
    (lines,) = read_set("hellaswag", DATA).values()
    swag = []
    for context, label, endings in six_lines(lines)[:N]:
        activity, _, rest = context.partition(": ")
        row = {"activity_label": activity, "ctx_a": rest, "ctx_b": "", "label": str(label)}
        swag.append(row | {"endings": endings})
    write_task(directory, "local_hellaswag", "hellaswag/hellaswag.yaml", {"train": swag, "validation": swag})
    pages = [{"page": "x1 = y2 + z3\n" * n} for n in (1, 90)]
    write_task(
        directory,
        "local_text",
        "wikitext/wikitext.yaml",
        {"train": pages, "validation": pages, "test": pages},
    )
    return directory


@pytest.fixture(scope="module")
def results(tasks: Path, wide_run: Job) -> Any:
    from lm_eval.tasks import TaskManager

    from sevenfold.evals.lm import SevenfoldLM

    model = SevenfoldLM(wide_run.out / "model.s7l", truncation="left")
    names = ["local_gsm8k", "local_mmlu", "local_cloze", "local_arc", "local_hellaswag", "local_text"]
    manager = TaskManager(include_path=str(tasks))
    return lm_eval.simple_evaluate(
        model=model, tasks=names, task_manager=manager, bootstrap_iters=0, log_samples=True
    )


def ours(wide_run: Job, card: Card, items: list[Item], out: Path) -> Any:
    decoder = EvaluationDecoder(Model.open(wide_run.out / "model.s7l"), truncation="left")
    task = Task(card=card, items=tuple(items), n_in_set=len(items), root=task_root(card, items))
    return evaluate(decoder, task, out, EvaluationSettings(), NOT_CHECKABLE, Silent())


def likelihoods(results: Any, name: str) -> list[list[tuple[float, bool]]]:
    """Log-likelihoods of each item of a task, in lm-eval's own record."""
    samples = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
    return [[(float(x), str(y) == "True") for ((x, y),) in sample["resps"]] for sample in samples]


@pytest.mark.parametrize("name", ["local_mmlu", "local_cloze", "local_arc", "local_hellaswag"])
def test_choices_are_scored_as_ours(results: Any, wide_run: Job, name: str, tmp_path: Path) -> None:
    from sevenfold.evals.tasks.builders import hellaswag

    mmlu = {path: data for path, data in read_set("mmlu", DATA).items() if SUBJECT in path}
    card, items = {
        "local_mmlu": (cards()["mmlu"], lambda: list(mmlu_letters(mmlu))[:N]),
        "local_cloze": (cards()["mmlu-cloze"], lambda: list(mmlu_cloze(mmlu))[:N]),
        "local_arc": (cards()["mmlu-cloze"], lambda: list(mmlu_cloze(mmlu))[:N]),
        "local_hellaswag": (cards()["hellaswag"], lambda: list(hellaswag(read_set("hellaswag", DATA)))[:N]),
    }[name]
    run = ours(wide_run, card, items(), tmp_path)
    assert likelihoods(results, name) == [
        [(total / 2**32, is_greedy) for total, _, is_greedy in item["likelihoods"]] for item in run["items"]
    ]
    for score in run["scores"]:
        theirs = results["results"][name][f"{score['metric']},none"]
        # A tie is 1/n here and the first there; no item of these is tied.
        assert score["n_ties"] == 0
        assert score["value"] == pytest.approx(theirs, abs=1e-6)


def test_answers_are_decoded_and_extracted_as_ours(results: Any, wide_run: Job, tmp_path: Path) -> None:
    items = list(gsm8k(read_set("gsm8k", DATA)))[:4]
    run = ours(wide_run, cards()["gsm8k"], items, tmp_path)
    samples = results["samples"]["local_gsm8k"]
    texts = {sample["doc_id"]: sample["resps"][0][0] for sample in samples}
    tokenizer = Model.open(wide_run.out / "model.s7l").tokenizer
    for number, (item, row) in enumerate(zip(items, run["items"], strict=True)):
        assert next(s for s in samples if s["doc_id"] == number)["arguments"][0][0] == item.prompt
        assert texts[number] == tokenizer.decode(row["answers"][0]["ids"]).split("Question:")[0]
    found = results["results"]["local_gsm8k"]
    for score, name in zip(run["scores"], ("strict-match", "flexible-extract"), strict=True):
        assert score["value"] == pytest.approx(found[f"exact_match,{name}"], abs=1e-6)


def test_whole_texts_are_scored_over_windows(results: Any, wide_run: Job) -> None:
    decoder = EvaluationDecoder(Model.open(wide_run.out / "model.s7l"))
    tokenizer, most = decoder.tokenizer, decoder.model.context - 1
    total = n_bytes = 0
    for n in (1, 90):
        text = "x1 = y2 + z3\n" * n
        ids = [tokenizer.eot_id, *tokenizer.encode(text)]
        # Windows that do not overlap: each begins with the last id of the one before.
        rows, place = [], 1
        while place < len(ids):
            end = min(place + most, len(ids))
            begin = max(end - most - 1, 0)
            rows.append((ids[begin:place], ids[place:end]))
            place = end
        total += sum(x.total for x in decoder.likelihoods_of_ids(rows, text, "text"))
        n_bytes += len(text.encode())
    theirs = results["results"]["local_text"]["bits_per_byte,none"]
    assert -total / 2**32 / math.log(2) / n_bytes == pytest.approx(theirs, rel=1e-9)


def test_sampling_is_refused(wide_run: Job) -> None:
    from types import SimpleNamespace

    from sevenfold.core.errors import UsageError
    from sevenfold.evals.lm import SevenfoldLM

    model = SevenfoldLM(wide_run.out / "model.s7l")
    request = SimpleNamespace(args=("def", {"until": ["x"], "do_sample": True, "temperature": 0.7}))
    with pytest.raises(UsageError, match="sampling"):
        model.generate_until([request])
    shutil.rmtree(os.environ.get("HF_HOME", "/nowhere"), ignore_errors=True)
