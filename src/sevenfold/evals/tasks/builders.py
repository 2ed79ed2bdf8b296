"""Make items from the rows of a set, with one function for each form of prompt. Prompts equal those
of the sources that the cards name, byte for byte.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from sevenfold.core.hashing import Json, digest
from sevenfold.evals.tasks.cards import Item
from sevenfold.evals.tasks.data import csv_rows, json_lines, plain, six_lines
from sevenfold.evals.tasks.programs import parsed

Files = Mapping[str, bytes]
LETTERS = "ABCD"
# The rows of MBPP: 1 to 10 are examples, 11 to 510 the test part.
MBPP_TEST = range(11, 511)
MBPP_SHOTS = (2, 3, 4)
GSM8K_SHOTS = 5
# The bounds of multi-line infilling.
SPANS_PER_TASK = 4


def _only(files: Files) -> bytes:
    return next(iter(files.values()))


def _leaks_of_code(row: Json) -> dict[str, Any]:
    program = row["prompt"] + row["canonical_solution"] + row.get("suffix", "")
    return {"texts": (program, row["test"]), "program": program}


def humaneval(files: Files) -> Iterator[Item]:
    """Yield HumanEval with its prompts unchanged."""
    for row in json_lines(_only(files)):
        target = {key: row[key] for key in ("prompt", "test", "entry_point")}
        yield Item(id=row["task_id"], prompt=plain(row["prompt"]), target=target, **_leaks_of_code(row))


def infilling(files: Files) -> Iterator[Item]:
    """Yield single-line infilling. The prompt is the text before the line."""
    for row in json_lines(_only(files)):
        target = {key: row[key] for key in ("prompt", "suffix", "test", "entry_point")}
        yield Item(id=row["task_id"], prompt=plain(row["prompt"]), target=target, **_leaks_of_code(row))


def _filled(order: str) -> Callable[[Files], Iterator[Item]]:
    """Return a builder of single-line infilling as fill-in-middle prompts."""

    def build(files: Files) -> Iterator[Item]:
        for item, row in zip(infilling(files), json_lines(_only(files)), strict=True):
            target = {**item.target, "middle": row["canonical_solution"]}
            yield replace(item, suffix=plain(row["suffix"]), order=order, target=target)

    return build


def _spans(row: Json) -> list[tuple[int, int]]:
    """Return up to SPANS_PER_TASK spans of at least two lines of a solution, each without at least
    one line.
    """
    n = len(row["canonical_solution"].splitlines())
    spans = [(a, b) for a in range(n) for b in range(a + 2, n + 1) if b - a < n]
    name = str(row["task_id"])
    spans.sort(key=lambda span: digest("sevenfold/eval-span/1", name, *map(str, span)))
    return spans[:SPANS_PER_TASK]


def _filled_spans(order: str) -> Callable[[Files], Iterator[Item]]:
    """Return a builder of multi-line infilling of HumanEval's solutions."""

    def build(files: Files) -> Iterator[Item]:
        for row in json_lines(_only(files)):
            lines = row["canonical_solution"].splitlines(keepends=True)
            for a, b in _spans(row):
                before = row["prompt"] + "".join(lines[:a])
                middle, after = "".join(lines[a:b]), "".join(lines[b:])
                shared = {key: row[key] for key in ("test", "entry_point")}
                yield Item(
                    id=f"{row['task_id']}/{a}-{b}",
                    prompt=plain(before),
                    suffix=plain(after),
                    order=order,
                    target={**shared, "prompt": before, "suffix": after, "middle": middle},
                    **_leaks_of_code(row),
                )

    return build


def _mbpp_rows(files: Files) -> dict[int, Json]:
    return {row["task_id"]: row for row in json_lines(_only(files))}


def _mbpp_target(row: Json) -> dict[str, Json]:
    code = row["code"].replace("\r", "")
    defined = [
        node.name
        for node in parsed(code).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    ]
    asked = " ".join([row["test_setup_code"], *row["test_list"]])
    functions = [name for name in defined if re.search(rf"\b{re.escape(name)}\b", asked)]
    return {"setup": row["test_setup_code"], "tests": row["test_list"], "functions": functions}


def _leaks_of_mbpp(row: Json) -> dict[str, Any]:
    return {"texts": (row["text"], row["code"], "\n".join(row["test_list"])), "program": row["code"]}


def _mbpp_question(row: Json) -> str:
    tests = "\n".join(row["test_list"][:3])
    head = f"You are an expert Python programmer, and here is your task: {row['text']}"
    return f"{head} Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"


def mbpp_3shot(files: Files) -> Iterator[Item]:
    """Yield MBPP with three examples and all asserts."""
    rows = _mbpp_rows(files)
    shots = "".join(f"{_mbpp_question(rows[i])}{rows[i]['code']}\n[DONE]\n\n" for i in MBPP_SHOTS)
    for i in MBPP_TEST:
        prompt = plain(shots + _mbpp_question(rows[i]))
        yield Item(id=f"MBPP/{i}", prompt=prompt, target=_mbpp_target(rows[i]), **_leaks_of_mbpp(rows[i]))


def mbpp_0shot(files: Files) -> Iterator[Item]:
    """Yield MBPP as a docstring with the first assert."""
    rows = _mbpp_rows(files)
    for i in MBPP_TEST:
        prompt = f'"""\n{rows[i]["text"]}\n{rows[i]["test_list"][0]}\n"""\n'
        yield Item(
            id=f"MBPP/{i}", prompt=plain(prompt), target=_mbpp_target(rows[i]), **_leaks_of_mbpp(rows[i])
        )


def gsm8k(files: Files) -> Iterator[Item]:
    """Yield GSM8K after five worked examples."""
    train, test = (json_lines(files[f"gsm8k/{part}.jsonl"]) for part in ("train", "test"))
    shots = "".join(
        f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in islice(train, GSM8K_SHOTS)
    )
    for i, row in enumerate(test):
        prompt = f"{shots}Question: {row['question']}\nAnswer:"
        texts = (row["question"], row["answer"])
        yield Item(id=f"GSM8K/{i}", prompt=plain(prompt), target={"answer": row["answer"]}, texts=texts)


def gsm8k_0shot(files: Files) -> Iterator[Item]:
    """Yield GSM8K without examples, in the form of the corpus' instructions. They fit a context of
    512.
    """
    for i, row in enumerate(json_lines(files["gsm8k/test.jsonl"])):
        prompt = f"### Instruction:\n{row['question']}\n\n### Response:\n"
        texts = (row["question"], row["answer"])
        yield Item(id=f"GSM8K/{i}", prompt=plain(prompt), target={"answer": row["answer"]}, texts=texts)


def math500(files: Files) -> Iterator[Item]:
    """Yield MATH-500 without examples."""
    for row in json_lines(_only(files)):
        prompt = f"Problem:\n{row['problem']}\n\nSolution:"
        texts = (row["problem"], row["solution"])
        yield Item(id=row["unique_id"], prompt=plain(prompt), target={"answer": row["answer"]}, texts=texts)


def rust(files: Files) -> Iterator[Item]:
    """Yield HumanEval in Rust."""
    for row in json_lines(_only(files)):
        target = {"prompt": row["prompt"], "tests": row["tests"]}
        texts = (row["prompt"], row["tests"])
        yield Item(id=row["name"], prompt=plain(row["prompt"]), target=target, texts=texts)


def _mmlu(files: Files) -> Iterator[tuple[str, int, list[str], list[list[str]]]]:
    """Yield (subject, number, row, first five rows of the dev part)."""
    for path, data in files.items():
        folder, name = PurePosixPath(path).parts[-2:]
        if folder != "test":
            continue
        subject = name.removesuffix("_test.csv")
        dev = csv_rows(files[f"mmlu/dev/{subject}_dev.csv"])[:5]
        for i, row in enumerate(csv_rows(data)):
            yield subject, i, row, dev


def _letters(row: list[str], *, answered: bool) -> str:
    choices = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, row[1:5], strict=True))
    answer = f" {LETTERS[int(row[5])]}\n\n" if answered else ""
    return f"{row[0].strip()}\n{choices}\nAnswer:{answer}"


def _choice(name: str, prompt: str, choices: tuple[str, ...], answer: int, text: str) -> Item:
    return Item(id=name, prompt=plain(prompt), choices=choices, target={"answer": answer}, texts=(text,))


def mmlu_letters(files: Files) -> Iterator[Item]:
    """Yield MMLU with five examples. The choices are the letters."""
    for subject, i, row, dev in _mmlu(files):
        named = subject.replace("_", " ")
        head = f"The following are multiple choice questions (with answers) about {named}.\n\n"
        prompt = head + "".join(_letters(shot, answered=True) for shot in dev) + _letters(row, answered=False)
        choices = tuple(f" {letter}" for letter in LETTERS)
        yield Item(id=f"{subject}/{i}", prompt=plain(prompt), choices=choices, target={"answer": int(row[5])})


def mmlu_cloze(files: Files) -> Iterator[Item]:
    """Yield MMLU without examples. The choices are the texts."""
    for subject, i, row, _ in _mmlu(files):
        prompt = f"Question: {row[0].strip()}\nAnswer:"
        choices = tuple(plain(f" {text}") for text in row[1:5])
        yield Item(id=f"{subject}/{i}", prompt=plain(prompt), choices=choices, target={"answer": int(row[5])})


def _clean(text: str) -> str:
    """Return a text of HellaSwag, cleaned as in the harness of its authors."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def hellaswag(files: Files) -> Iterator[Item]:
    """Yield HellaSwag: contexts and endings without markers in brackets."""
    for i, (context, label, endings) in enumerate(six_lines(_only(files))):
        choices = tuple(plain(f" {_clean(ending)}") for ending in endings)
        text = f"{context} {endings[label]}"
        yield _choice(f"HellaSwag/{i}", _clean(context), choices, label, text)


BUILDERS: dict[str, Callable[[Files], Iterator[Item]]] = {
    "humaneval": humaneval,
    "infilling": infilling,
    "infilling-psm": _filled("PSM"),
    "infilling-spm": _filled("SPM"),
    "infilling-multi-psm": _filled_spans("PSM"),
    "infilling-multi-spm": _filled_spans("SPM"),
    "mbpp-3shot": mbpp_3shot,
    "mbpp-0shot": mbpp_0shot,
    "gsm8k": gsm8k,
    "gsm8k-0shot": gsm8k_0shot,
    "math500": math500,
    "rust": rust,
    "mmlu-letters": mmlu_letters,
    "mmlu-cloze": mmlu_cloze,
    "hellaswag": hellaswag,
}
