"""Check a receipt. The verdict is ACCEPT, REJECT with the first step that differs, UNVERIFIABLE or
MALFORMED.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sevenfold.core.errors import ArtifactError, GateError, SevenfoldError
from sevenfold.core.hashing import hex_bytes
from sevenfold.core.numbers.fixed import Ints
from sevenfold.engine.sampling import LAW_VERSION
from sevenfold.engine.session import Model
from sevenfold.release import dsse
from sevenfold.serve import receipt as form
from sevenfold.serve.batching.request import BANNED, Generation, GenerationJob
from sevenfold.serve.batching.sequence import Sequence

ACCEPT, REJECT, UNVERIFIABLE, MALFORMED = "ACCEPT", "REJECT", "UNVERIFIABLE", "MALFORMED"
MAX_BYTES = 64 << 20
REASONS = {
    "end": "stop",
    "word": "stop",
    "grammar": "stop",
    "limit": "length",
    "time": "length",
    "cancel": "cancelled",
}
_SECTIONS = {
    "model": {"root", "arithmetic", "sampling"},
    "request": {
        "prompt_sha256", "is_salted", "n_prompt", "max_tokens", "stops", "biases", "ignore_end",
        "is_constrained",
    },
    "sampling": {"temperature", "top_k", "min_p", "top_p", "seed", "sample"},
    "output": {"ids_sha256", "text_sha256", "n_tokens", "reason", "rule", "word"},
    "trace": {"root", "n_steps"},
}  # fmt: skip


@dataclass(frozen=True)
class ReceiptVerdict:
    """The result of a check. `step` is the first one that differs, or -1 when the verdict is not
    about a step.
    """

    word: str
    why: str
    step: int = -1
    signers: tuple[str, ...] = ()


class VerdictError(SevenfoldError):
    """Ends a check early with its verdict."""

    def __init__(self, word: str, why: str, step: int = -1) -> None:
        super().__init__(why)
        self.verdict = ReceiptVerdict(word, why, step)


def _need(is_true: bool, why: str, word: str = REJECT, step: int = -1) -> None:
    if not is_true:
        raise VerdictError(word, why, step)


def _ids(value: object, name: str, size: int) -> list[int]:
    _need(isinstance(value, list), f"{name} is no list", MALFORMED)
    ids: list[Any] = list(value) if isinstance(value, list) else []
    _need(all(type(i) is int and 0 <= i < size for i in ids), f"{name} holds no ids of this model", MALFORMED)
    return ids


def _read(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the receipt and its predicate after checking their form (specs/receipt.md)."""
    _need(len(data) <= MAX_BYTES, f"more than {MAX_BYTES} bytes", MALFORMED)
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise VerdictError(MALFORMED, f"it is not JSON: {error}") from error
    names = {"envelope", "prompt_ids", "output_ids", "salt", "steps"}
    _need(
        isinstance(value, dict) and {*value} == names, f"a receipt has {', '.join(sorted(names))}", MALFORMED
    )
    try:
        read: dict[str, Any] = dsse.read_envelope(value["envelope"])
    except ArtifactError as error:
        raise VerdictError(MALFORMED, error.what) from error
    _need(read["predicateType"] == form.PREDICATE_TYPE, "the statement is no receipt", MALFORMED)
    said = read["predicate"]
    _need({*said} == form.KEYS and said["format"] == form.FORMAT, "another form of receipt", MALFORMED)
    for section, keys in _SECTIONS.items():
        part = said[section]
        _need(isinstance(part, dict) and {*part} == keys, f"{section} has other fields", MALFORMED)
    subject = [{"name": form.SUBJECT, "digest": {"sha256": said["output"]["ids_sha256"]}}]
    _need(read["subject"] == subject, "the subject is not the answer", MALFORMED)
    return value, said


def _check_types(said: Mapping[str, Any]) -> None:
    request, output = said["request"], said["output"]
    counts = [request["n_prompt"], request["max_tokens"], output["n_tokens"]]
    counts += [said["sampling"]["sample"], said["trace"]["n_steps"]]
    # JSON distinguishes true from 1, but Python treats them as equal.
    counts += [said["format"], said["model"]["arithmetic"], said["model"]["sampling"]]
    _need(all(type(n) is int and 0 <= n < 1 << 31 for n in counts), "a count is no count", MALFORMED)
    stops = request["stops"]
    _need(isinstance(stops, list) and all(isinstance(s, str) for s in stops), "stops are no texts", MALFORMED)
    flags = (request["is_salted"], request["ignore_end"], request["is_constrained"])
    _need(all(type(flag) is bool for flag in flags), "a flag is no flag", MALFORMED)
    biases = request["biases"]
    good = isinstance(biases, list) and all(
        isinstance(b, list) and len(b) == 2 and type(b[0]) is int and (b[1] is None or type(b[1]) is int)
        for b in biases
    )
    _need(good, "biases are no pairs", MALFORMED)
    is_rule = isinstance(output["rule"], str) and output["rule"] in REASONS
    _need(is_rule, f"no rule {output['rule']!r:.40}", MALFORMED)
    _need(output["reason"] == REASONS[output["rule"]], "the reason is not the rule's", MALFORMED)


def _generation(
    value: Mapping[str, Any], said: Mapping[str, Any], model: Model
) -> tuple[Generation, list[int]]:
    """Compare all digests, and return the request and the ids of the answer."""
    size = model.tokenizer.vocab_size
    prompt, output = (
        _ids(value["prompt_ids"], "prompt_ids", size),
        _ids(value["output_ids"], "output_ids", size),
    )
    try:
        salt = hex_bytes(value["salt"])
        law = form.law_from(said["sampling"])
    except (ValueError, TypeError, SevenfoldError) as error:
        raise VerdictError(MALFORMED, f"salt or sampling: {error}") from error
    request = said["request"]
    _need(bool(salt) == request["is_salted"], "the salt is missing, or one too many")
    _need(len(prompt) == request["n_prompt"] > 0, "the prompt has another length")
    _need(form.ids_digest(prompt, salt) == request["prompt_sha256"], "the prompt is another")
    _need(
        len(output) == said["output"]["n_tokens"] == said["trace"]["n_steps"], "the answer has another length"
    )
    _need(form.ids_digest(output) == said["output"]["ids_sha256"], "the answer is another")
    _need(len(output) <= request["max_tokens"], "the answer is longer than its limit")
    biases = tuple((token, BANNED if bias is None else bias) for token, bias in request["biases"])
    _need(all(0 <= token < size for token, _ in biases), "a bias of no token", MALFORMED)
    generation = Generation(
        ids=tuple(prompt),
        max_tokens=request["max_tokens"],
        law=law,
        stops=tuple(request["stops"]),
        biases=biases,
        ignore_end=request["ignore_end"],
        receipt=True,
    )
    return generation, output


def _replay(model: Model, generation: Generation, index: int, output: list[int]) -> Sequence:
    """Choose every token again from the logits of one prefill, and compare the end of the answer."""
    ids = [*generation.ids, *output]
    session = model.engine.session()
    try:
        rows_TV: Ints = session.forward(np.array(ids[: max(1, len(ids) - 1)], np.int64))
    except GateError as error:
        raise VerdictError(REJECT, f"the model refuses these ids: {error}") from error
    finally:
        session.close()
    sequence = Sequence(GenerationJob(generation, lambda _: None), index, model.tokenizer)
    for step, token in enumerate(output):
        _need(sequence.finished is None, f"the answer ended before step {step}", REJECT, step)
        sequence.take_logits(rows_TV[len(generation.ids) - 1 + step])
        chosen = sequence.tokens[-1]
        _need(chosen == token, f"step {step} gives token {chosen}, the receipt says {token}", REJECT, step)
    return sequence


def _check_end(sequence: Sequence, said: Mapping[str, Any], output: list[int]) -> None:
    rule, n = said["output"]["rule"], len(output)
    ended = sequence.finished
    if rule in ("time", "cancel"):
        _need(ended is None, "the answer ended by another rule", REJECT, n - 1)
        _need(rule != "time" or "\n" in sequence.answer.text, "a time limit ends at a newline", REJECT, n - 1)
        sequence.end(said["output"]["reason"], rule)
        ended = sequence.finished
    elif n == 0:
        _need(
            rule == "limit" and sequence.generation.max_tokens == 0, "nothing was said, and no rule says why"
        )
        sequence.end("length", "limit")
        ended = sequence.finished
    if ended is None:
        raise VerdictError(REJECT, f"the answer goes on behind step {n - 1}", n - 1)
    _need(ended.rule == rule, f"the answer ended by the rule {ended.rule}, not {rule}", REJECT, n - 1)
    _need(ended.word == said["output"]["word"], "it ended at another stop string", REJECT, n - 1)
    text = hashlib.sha256(ended.text.encode("utf-8", "replace")).hexdigest()
    _need(text == said["output"]["text_sha256"], "the text is another")


def _check_trace(
    value: Mapping[str, Any], said: Mapping[str, Any], sequence: Sequence, output: list[int]
) -> None:
    steps = value["steps"]
    good = isinstance(steps, list) and len(steps) == len(output)
    for step, (ours, theirs) in enumerate(zip(sequence.leaves, steps if good else (), strict=False)):
        _need(ours.hex() == theirs, f"step {step} has other logits", REJECT, step)
    _need(good, "the hashes of the steps are not as many as the steps", MALFORMED)
    _need(
        form.trace_root(output, sequence.leaves) == said["trace"]["root"], "the root of the steps is another"
    )


def verify_answer(data: bytes, model: Model, public: Any = None) -> ReceiptVerdict:
    """Check a receipt on a model with one prefill on any backend.

    Args:
        public: a key (`dsse.load_public_key`) whose signature must be present and valid.
    """
    try:
        value, said = _read(data)
        _check_types(said)
        signers: tuple[str, ...] = ()
        if public is not None:
            try:
                signers = tuple(dsse.signers(value["envelope"], public))
            except ArtifactError as error:
                raise VerdictError(REJECT, error.what) from error
            _need(bool(signers), "no signature of this key")
        named = said["model"]
        _need(
            named["root"] == model.artifact.root,
            f"the model's root is {named['root']!r:.70}, not this file's",
            UNVERIFIABLE,
        )
        laws = (named["arithmetic"], named["sampling"])
        _need(
            laws == (model.weights.shape.law_version, LAW_VERSION),
            f"other versions of the laws: {laws}",
            UNVERIFIABLE,
        )
        generation, output = _generation(value, said, model)
        _need(not said["request"]["is_constrained"], "a grammar chose among the tokens", UNVERIFIABLE)
        sequence = _replay(model, generation, said["sampling"]["sample"], output)
        _check_end(sequence, said, output)
        _check_trace(value, said, sequence, output)
    except VerdictError as stop:
        return stop.verdict
    return ReceiptVerdict(ACCEPT, f"{len(output)} steps, the same bits", signers=signers)


def named_root(value: Mapping[str, Any]) -> str:
    """Return the root of the model that a receipt names; "" when it names none, which the check
    reports.
    """
    try:
        root = dsse.read_envelope(value["envelope"])["predicate"]["model"]["root"]
    except (ArtifactError, KeyError, TypeError):
        return ""
    return root if isinstance(root, str) else ""
