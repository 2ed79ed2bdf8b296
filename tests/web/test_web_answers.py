"""Answers, stop strings and receipts: the package in Node.js does what the server does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_models import seal_input

from sevenfold.artifact import build_contents, write_artifact
from sevenfold.core.hashing import canonical_json
from sevenfold.engine.sampling import DecodingLaw
from sevenfold.engine.session import Model
from sevenfold.release import dsse
from sevenfold.release.signature import make_key_pair
from sevenfold.serve import receipt as form
from sevenfold.serve.batching.request import BANNED, Finished, Generation, GenerationJob
from sevenfold.serve.batching.sequence import Sequence
from sevenfold.serve.receipt_check import verify_answer

PROMPTS = ("def add(", "print", "gr\u00fc\u00dfe", "class Adder:\n    ")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """sealed(kind) -> path of a sealed file."""
    directory = tmp_path_factory.mktemp("web")

    def build(kind: str = "plain") -> Path:
        path = directory / f"{kind}.s7l"
        if not path.is_file():
            write_artifact(path, build_contents(seal_input(kind)))
        return path

    return build


def generations(model: Model) -> list[tuple[Generation, int]]:
    """Requests of every kind that the package knows."""
    laws = [
        DecodingLaw(),
        DecodingLaw.parse("1", seed=7),
        DecodingLaw.parse("0.8", 40, "0.05", "0.9", 2**64 - 1),
    ]
    found = []
    for place, prompt in enumerate(PROMPTS):
        ids = tuple(model.tokenizer.begun(model.tokenizer.encode(prompt)))
        for number, law in enumerate(laws):
            made = Generation(ids=ids, max_tokens=20, law=law, receipt=number > 0)
            found.append((made, place % 2 if number else 0))
    ids = found[0][0].ids
    text = answer(model, found[0][0], 0).text
    stops = (text[3:6], text[2:9], "never") if len(text) > 9 else ("e",)
    found.append((Generation(ids=ids, max_tokens=30, stops=stops), 0))
    found.append((Generation(ids=ids, max_tokens=30, stops=(text[-2:] or "x",), receipt=True), 0))
    first = answer(model, found[0][0], 0).ids[0]
    biases = ((first, BANNED), ((first + 1) % model.tokenizer.vocab_size, 90_000))
    found.append((Generation(ids=ids, max_tokens=12, biases=biases, receipt=True), 0))
    found.append((Generation(ids=ids, max_tokens=60, ignore_end=True), 0))
    found.append((Generation(ids=ids, max_tokens=0, receipt=True), 0))
    return found


def answer(model: Model, generation: Generation, index: int) -> Finished:
    """Return the answer of the server's own sequence on the reference."""
    session = model.engine.session()
    sequence = Sequence(GenerationJob(generation, lambda _: None), index, model.tokenizer)
    if generation.max_tokens == 0:
        sequence.end("length", "limit")
    while sequence.finished is None:
        sequence.take_logits(session.forward(np.array(sequence.pending, np.int64))[-1])
    return sequence.finished


def as_case(generation: Generation, index: int) -> dict[str, Any]:
    law = generation.law
    return {
        "ids": generation.ids, "max_tokens": generation.max_tokens, "temperature": law.temperature,
        "top_k": law.top_k, "min_p": law.min_p, "top_p": law.top_p, "seed": str(law.seed),
        "stops": generation.stops, "ignore_end": generation.ignore_end, "receipt": generation.receipt,
        "biases": [[token, None if bias == BANNED else bias] for token, bias in generation.biases],
        "sample": index,
    }  # fmt: skip


def changed(receipt: dict[str, Any], path: list[Any], value: Any, *, inside: bool = False) -> dict[str, Any]:
    """A receipt with one value changed; `inside` changes the statement in its envelope."""
    import base64

    made = copy.deepcopy(receipt)
    statement = json.loads(base64.b64decode(made["envelope"]["payload"]))
    owner = statement if inside else made
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value(owner[path[-1]]) if callable(value) else value
    if inside:
        made["envelope"]["payload"] = base64.b64encode(canonical_json(statement)).decode()
    return made


def forgeries(receipt: dict[str, Any]) -> list[Any]:
    """Receipts that say something else."""

    of = ["predicate"]
    inside = [
        ([*of, "model", "root"], "00" * 32),
        ([*of, "model", "arithmetic"], 2),
        ([*of, "model", "sampling"], 9),
        ([*of, "request", "max_tokens"], lambda n: n + 1),
        ([*of, "request", "max_tokens"], lambda n: n - 1),
        ([*of, "request", "max_tokens"], 0),
        ([*of, "request", "stops"], ["a"]),
        ([*of, "request", "stops"], [1]),
        ([*of, "request", "is_salted"], True),
        ([*of, "request", "n_prompt"], 1),
        ([*of, "request", "prompt_sha256"], "11" * 32),
        ([*of, "request", "ignore_end"], 1),
        ([*of, "request", "is_constrained"], True),
        ([*of, "request", "biases"], [[3, 70000]]),
        ([*of, "request", "biases"], [[3, None]]),
        ([*of, "request", "biases"], [[-1, 0]]),
        ([*of, "sampling", "temperature"], [1, 3]),
        ([*of, "sampling", "temperature"], [1, 0]),
        ([*of, "sampling", "seed"], "8"),
        ([*of, "sampling", "seed"], 8),
        ([*of, "sampling", "top_k"], 1),
        ([*of, "sampling", "sample"], 1),
        ([*of, "output", "text_sha256"], "22" * 32),
        ([*of, "output", "rule"], "end"),
        ([*of, "output", "rule"], "x"),
        ([*of, "output", "rule"], {}),
        ([*of, "output", "reason"], "stop"),
        ([*of, "output", "word"], "w"),
        ([*of, "output", "n_tokens"], 2),
        ([*of, "trace", "root"], "33" * 32),
        ([*of, "trace", "n_steps"], 1),
        ([*of, "format"], 2),
        ([*of, "format"], True),
        ([*of, "model", "arithmetic"], True),
        (["predicateType"], "x"),
        (["_type"], "x"),
        (["subject"], []),
    ]
    outside = [
        (["prompt_ids", 0], lambda i: (i + 1) % 300),
        (["output_ids", -1], lambda i: (i + 1) % 300),
        (["output_ids", 0], -1),
        (["salt"], "00"),
        (["salt"], "zz"),
        (["salt"], "0A"),
        (["steps", 0], "00" * 32),
        (["steps"], []),
        (["steps"], None),
        (["envelope"], {}),
        (["envelope", "payload"], "!"),
        (["envelope", "signatures"], 1),
    ]
    found = [changed(receipt, path, value, inside=True) for path, value in inside]
    found += [changed(receipt, path, value) for path, value in outside]
    return [*found, {}, [], 1, receipt]


@pytest.mark.parametrize("kind", ["plain", "stacks"])
def test_answers_and_receipts(
    kind: str, sealed: Callable[..., Path], node: Callable[..., str], tmp_path: Path
) -> None:
    model = Model.open(sealed(kind), backend="reference")
    wanted = generations(model)
    finished = [answer(model, generation, index) for generation, index in wanted]
    receipts: list[Any] = [
        form.make(model.artifact.root, generation, index, end)
        for (generation, index), end in zip(wanted, finished, strict=True)
        if generation.receipt
    ]
    receipts += forgeries(receipts[0]) if kind == "plain" else []
    cases = [as_case(generation, index) for generation, index in wanted]
    (tmp_path / "wanted").write_text(json.dumps({"cases": cases, "receipts": receipts}))
    lines = [
        json.loads(line) for line in node("tools/answers", sealed(kind), tmp_path / "wanted").splitlines()
    ]
    expected: list[Any] = [
        [list(end.ids), end.text, end.rule, end.word, [leaf.hex() for leaf in end.leaves]] for end in finished
    ]
    assert lines[: len(cases)] == expected
    verdicts = [verify_answer(json.dumps(receipt).encode(), model) for receipt in receipts]
    assert lines[len(cases) :] == [[verdict.word, verdict.step] for verdict in verdicts]
    assert {"ACCEPT"} < {verdict.word for verdict in verdicts} or kind != "plain"
    assert {end.rule for end in finished} >= {"limit", "word"} or kind != "plain"


def test_signatures_of_receipts(
    sealed: Callable[..., Path], node: Callable[..., str], tmp_path: Path
) -> None:
    """Signed by the key, by another, by none, and with signatures that do not hold."""
    import base64

    private, public = (tmp_path / "key", make_key_pair(tmp_path / "key"))
    key, other = dsse.load_private_key(private), tmp_path / "other"
    make_key_pair(other)
    model = Model.open(sealed(), backend="reference")
    generation, index = next(pair for pair in generations(model) if pair[0].receipt)
    end = answer(model, generation, index)

    def made(signer: Any) -> dict[str, Any]:
        return form.make(model.artifact.root, generation, index, end, key=signer)

    # Numbers of a signature are of one length in 255 of 256 cases, so some are tried.
    receipts: list[Any] = [made(key) for _ in range(24)]
    receipts += [made(None), made(dsse.load_private_key(other))]
    for change in (lambda sig: sig[:-1] + bytes([sig[-1] ^ 1]), lambda sig: sig[:-1], lambda _: b""):
        wrong = made(key)
        signature = wrong["envelope"]["signatures"][0]
        signature["sig"] = base64.b64encode(change(base64.b64decode(signature["sig"]))).decode()
        receipts.append(wrong)
    moved = made(key)
    moved["envelope"]["signatures"][0]["keyid"] = "00" * 32
    receipts.append(moved)
    (tmp_path / "wanted").write_text(json.dumps({"cases": [], "receipts": receipts}))
    printed = node("tools/answers", sealed(), tmp_path / "wanted", public)
    loaded = dsse.load_public_key(public)
    verdicts = [verify_answer(json.dumps(receipt).encode(), model, loaded) for receipt in receipts]
    expected = [[verdict.word, verdict.step, bool(verdict.signers)] for verdict in verdicts]
    assert [json.loads(line) for line in printed.splitlines()] == expected
    assert expected[:24] == [["ACCEPT", -1, True]] * 24
    assert all(not is_signed and word != "ACCEPT" for word, _, is_signed in expected[24:])
