"""Receipts: an answer is accepted, and every forgery is refused for its reason."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from serving_client import Client
from together import run, scheduling

from sevenfold.core.hashing import canonical_json
from sevenfold.engine.sampling import DecodingLaw
from sevenfold.engine.session import Model
from sevenfold.release import dsse
from sevenfold.release.signature import make_key_pair
from sevenfold.serve import receipt
from sevenfold.serve.batching.request import Finished, Generation
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.receipt_check import ACCEPT, MALFORMED, REJECT, UNVERIFIABLE, verify_answer

Change = Callable[[dict[str, Any], dict[str, Any]], None]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    path = tmp_path_factory.mktemp("keys") / "key"
    public = make_key_pair(path)
    return dsse.load_private_key(path), dsse.load_public_key(public), public


def made(model: Model, generation: Generation, key: Any = None, salt: bytes = b"") -> list[dict[str, Any]]:
    with scheduling(model, ServerLimits()) as scheduler:
        (events,) = run(scheduler, [generation])
    root = model.artifact.root
    return [
        receipt.make(root, generation, e.index, e, key=key, salt=salt)
        for e in events
        if isinstance(e, Finished)
    ]


def base(model: Model) -> Generation:
    ids = model.tokenizer.begun(model.tokenizer.encode("def f(x):\n    return"))
    return Generation(ids=tuple(ids), max_tokens=12, receipt=True, ignore_end=True)


def check(value: dict[str, Any], model: Model, public: Any = None) -> tuple[str, str]:
    verdict = verify_answer(json.dumps(value).encode(), model, public)
    return verdict.word, verdict.why


def test_every_kind_of_answer_is_accepted(model: Model, keys: tuple[Any, Any, Path]) -> None:
    plain = base(model)
    kinds = [
        plain,
        replace(plain, max_tokens=0),
        replace(plain, max_tokens=1),
        replace(plain, law=DecodingLaw.parse("0.8", 20, "0.02", "0.9", 2**63 + 5), n=3),
        replace(plain, biases=((40, 3 << 16), (7, -(1 << 62)))),
        replace(plain, stops=("e", " "), max_tokens=30),
        replace(plain, ignore_end=False, max_tokens=60),
    ]
    for generation in kinds:
        for value in made(model, generation, keys[0], b"salt"):
            verdict = verify_answer(json.dumps(value).encode(), model, keys[1])
            assert verdict.word == ACCEPT, verdict.why
            assert verdict.signers == (dsse.key_id(keys[1]),)


def test_a_server_gives_one_that_holds(client: Client, model: Model) -> None:
    for stream in (False, True):
        body = {"prompt": "def f(", "max_tokens": 5, "receipt": True, "stream": stream}
        reply = client.post("/v1/completions", body)
        given = (reply.events[-1] if stream else reply.json)["receipt"][0]
        stored = client.get(f"/v1/receipts/{given.pop('id')}").json
        assert stored == given
        assert check(given, model)[0] == ACCEPT


def rewrite(value: dict[str, Any], said: Callable[[dict[str, Any]], None], whole: bool = False) -> None:
    """Change the statement inside the envelope, and write it canonically again."""
    statement = json.loads(base64.b64decode(value["envelope"]["payload"]))
    said(statement if whole else statement["predicate"])
    value["envelope"]["payload"] = base64.b64encode(canonical_json(statement)).decode()


def at(section: str, name: str, new: Any) -> Change:
    return lambda value, _: rewrite(value, lambda said: said[section].__setitem__(name, new))


def top(name: str, new: Any) -> Change:
    return lambda value, _: value.__setitem__(name, new)


def other_token(place: int) -> Change:
    """Another token, with every digest made to fit."""

    def change(value: dict[str, Any], _: dict[str, Any]) -> None:
        ids = value["output_ids"]
        ids[place] = (ids[place] + 1) % 400
        digest = receipt.ids_digest(ids)
        steps = [bytes.fromhex(step) for step in value["steps"]]

        def said(statement: dict[str, Any]) -> None:
            statement["subject"][0]["digest"]["sha256"] = digest
            statement["predicate"]["output"]["ids_sha256"] = digest
            statement["predicate"]["trace"]["root"] = receipt.trace_root(ids, steps)

        rewrite(value, said, whole=True)

    return change


def cut(n: int) -> Change:
    """A shorter answer, with every digest made to fit."""

    def change(value: dict[str, Any], _: dict[str, Any]) -> None:
        value["output_ids"], value["steps"] = value["output_ids"][:n], value["steps"][:n]
        ids, steps = value["output_ids"], [bytes.fromhex(step) for step in value["steps"]]

        def said(statement: dict[str, Any]) -> None:
            statement["subject"][0]["digest"]["sha256"] = receipt.ids_digest(ids)
            output = statement["predicate"]["output"]
            output["ids_sha256"], output["n_tokens"] = receipt.ids_digest(ids), n
            statement["predicate"]["trace"] = {"root": receipt.trace_root(ids, steps), "n_steps": n}

        rewrite(value, said, whole=True)

    return change


FORGED: list[tuple[str, Change, str]] = [
    # What is no receipt.
    *((f"without {name}", (lambda n: lambda v, _: v.pop(n))(name), MALFORMED)
      for name in ("envelope", "prompt_ids", "output_ids", "salt", "steps")),
    ("with more", top("more", 1), MALFORMED),
    ("envelope none", top("envelope", None), MALFORMED),
    ("prompt no list", top("prompt_ids", "x"), MALFORMED),
    ("prompt of texts", top("prompt_ids", ["x"]), MALFORMED),
    ("prompt of booleans", top("prompt_ids", [True]), MALFORMED),
    ("id past the vocabulary", top("output_ids", [400]), MALFORMED),
    ("negative id", top("output_ids", [-1]), MALFORMED),
    ("salt no hex", top("salt", "zz"), MALFORMED),
    ("salt in capitals", top("salt", "AB"), MALFORMED),
    ("salt with a blank", top("salt", "ab cd"), MALFORMED),
    ("salt a number", top("salt", 3), MALFORMED),
    ("payload cut", lambda v, _: v["envelope"].update(payload=v["envelope"]["payload"][:-8]), MALFORMED),
    ("payload no base64", lambda v, _: v["envelope"].update(payload="?"), MALFORMED),
    ("payload not canonical", lambda v, _: v["envelope"].update(
        payload=base64.b64encode(base64.b64decode(v["envelope"]["payload"]) + b" ").decode()), MALFORMED),
    ("another type of payload", lambda v, _: v["envelope"].update(payloadType="text/plain"), MALFORMED),
    ("another predicate", lambda v, _: rewrite(
        v, lambda s: s.update(predicateType="x"), whole=True), MALFORMED),
    ("two subjects", lambda v, _: rewrite(
        v, lambda s: s["subject"].append(s["subject"][0]), whole=True), MALFORMED),
    ("a rule that is no text", lambda v, _: rewrite(
        v, lambda s: s["predicate"]["output"].update(rule={}), whole=True), MALFORMED),
    ("true for 1", lambda v, _: rewrite(
        v, lambda s: s["predicate"].update(format=True), whole=True), MALFORMED),
    ("true for a version", lambda v, _: rewrite(
        v, lambda s: s["predicate"]["model"].update(sampling=True), whole=True), MALFORMED),
    ("subject of another name", lambda v, _: rewrite(
        v, lambda s: s["subject"][0].update(name="anwer"), whole=True), MALFORMED),
    ("subject with more", lambda v, _: rewrite(
        v, lambda s: s["subject"][0].update(uri="a"), whole=True), MALFORMED),
    ("subject of another", lambda v, _: rewrite(
        v, lambda s: s["subject"][0]["digest"].update(sha256="0" * 64), whole=True), MALFORMED),
    ("another format", lambda v, _: rewrite(v, lambda p: p.update(format=2)), MALFORMED),
    ("a section more", lambda v, _: rewrite(v, lambda p: p.update(evidence={})), MALFORMED),
    ("a section less", lambda v, _: rewrite(v, lambda p: p.pop("trace")), MALFORMED),
    ("a field more", at("output", "time", 1), MALFORMED),
    ("n_prompt a text", at("request", "n_prompt", "9"), MALFORMED),
    ("n_prompt a boolean", at("request", "n_prompt", True), MALFORMED),
    ("max_tokens negative", at("request", "max_tokens", -1), MALFORMED),
    ("n_steps huge", at("trace", "n_steps", 2**40), MALFORMED),
    ("sample negative", at("sampling", "sample", -1), MALFORMED),
    ("stops no list", at("request", "stops", "x"), MALFORMED),
    ("stops of numbers", at("request", "stops", [1]), MALFORMED),
    ("flag a number", at("request", "ignore_end", 1), MALFORMED),
    ("bias no pair", at("request", "biases", [[1]]), MALFORMED),
    ("bias of a text", at("request", "biases", [[1, "x"]]), MALFORMED),
    ("bias of no token", at("request", "biases", [[4000, 1]]), MALFORMED),
    ("no such rule", at("output", "rule", "whim"), MALFORMED),
    ("reason of another rule", at("output", "reason", "stop"), MALFORMED),
    ("temperature a number", at("sampling", "temperature", 1), MALFORMED),
    ("temperature over zero", at("sampling", "temperature", [1, 0]), MALFORMED),
    ("top-p zero", at("sampling", "top_p", [0, 1]), MALFORMED),
    ("seed a number", at("sampling", "seed", 3), MALFORMED),
    ("seed too large", at("sampling", "seed", str(2**64)), MALFORMED),
    ("steps no list", top("steps", "x"), MALFORMED),
    ("a step less", lambda v, _: v["steps"].pop(), MALFORMED),
    # What this verifier cannot decide.
    ("root of another model", at("model", "root", "0" * 64), UNVERIFIABLE),
    ("another arithmetic", at("model", "arithmetic", 2), UNVERIFIABLE),
    ("another sampling law", at("model", "sampling", 9), UNVERIFIABLE),
    ("a grammar", at("request", "is_constrained", True), UNVERIFIABLE),
    # What is wrong.
    ("another prompt", lambda v, _: v["prompt_ids"].__setitem__(2, 9), REJECT),
    ("a longer prompt", lambda v, _: v["prompt_ids"].append(9), REJECT),
    ("prompt moved to the answer", lambda v, _: v["output_ids"].insert(0, v["prompt_ids"].pop()), REJECT),
    ("a salt that was not there", top("salt", "00"), REJECT),
    ("salted, and none given", at("request", "is_salted", True), REJECT),
    ("prompt digest of another", at("request", "prompt_sha256", "0" * 64), REJECT),
    ("another answer", lambda v, _: v["output_ids"].__setitem__(0, 9), REJECT),
    ("first token, all digests fit", other_token(0), REJECT),
    ("middle token, all digests fit", other_token(5), REJECT),
    ("last token, all digests fit", other_token(-1), REJECT),
    ("cut short, all digests fit", cut(5), REJECT),
    ("cut to nothing", cut(0), REJECT),
    ("greedy said to be sampled", at("sampling", "temperature", [3, 1]), REJECT),
    ("a bias that was not there", at("request", "biases", [[9, 60 << 16]]), REJECT),
    ("a stop that was not there", at("request", "stops", [" ", "e", "\n", "x", "t"]), REJECT),
    ("an end by another rule", lambda v, _: rewrite(
        v, lambda p: p["output"].update(rule="cancel", reason="cancelled")), REJECT),
    ("an end by time", at("output", "rule", "time"), REJECT),
    ("a word that did not stop it", at("output", "word", "x"), REJECT),
    ("another limit", at("request", "max_tokens", 200), REJECT),
    ("a smaller limit", at("request", "max_tokens", 3), REJECT),
    ("a limit of none", at("request", "max_tokens", 0), REJECT),
    ("text of another", at("output", "text_sha256", "0" * 64), REJECT),
    ("root of other steps", at("trace", "root", "0" * 64), REJECT),
    ("logits of a step", lambda v, _: v["steps"].__setitem__(4, "0" * 64), REJECT),
    ("two steps swapped", lambda v, _: v["steps"].__setitem__(slice(2, 4), v["steps"][3:1:-1]), REJECT),
]  # fmt: skip


@pytest.fixture(scope="module")
def honest(model: Model) -> dict[str, Any]:
    (value,) = made(model, base(model))
    assert check(value, model)[0] == ACCEPT
    return value


def test_there_are_sixty_forgeries() -> None:
    assert len({name for name, *_ in FORGED}) == len(FORGED) >= 60


@pytest.mark.parametrize(("name", "change", "word"), FORGED, ids=[name for name, *_ in FORGED])
def test_a_forgery_is_refused(
    model: Model, honest: dict[str, Any], name: str, change: Change, word: str
) -> None:
    value = copy.deepcopy(honest)
    change(value, honest)
    got, why = check(value, model)
    assert got == word, why
    assert why


def test_a_step_that_differs_is_named(model: Model, honest: dict[str, Any]) -> None:
    value = copy.deepcopy(honest)
    other_token(5)(value, honest)
    assert verify_answer(json.dumps(value).encode(), model).step == 5


def test_a_signature_is_asked_for_and_must_hold(
    model: Model, honest: dict[str, Any], keys: tuple[Any, Any, Path]
) -> None:
    private, public, _ = keys
    assert check(honest, model, public)[0] == REJECT
    (signed,) = made(model, base(model), private)
    assert check(signed, model, public)[0] == ACCEPT
    at("output", "word", "x")(signed, honest)
    assert check(signed, model, public) == (
        REJECT,
        f"the signature of key {dsse.key_id(public)[:16]} does not hold",
    )


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"null", b'{"envelope":NaN}'])
def test_any_other_bytes_are_malformed(model: Model, data: bytes) -> None:
    assert verify_answer(data, model).word == MALFORMED
