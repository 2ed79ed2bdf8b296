"""Open a sealed model, verify and self-test it, and run it only behind the CM-1 gate.

    model = Model.open("model.s7l")
    with model.session("def fib(n):") as session:
        text = "".join(session.generate(64))

`Model.open` checks every hash and rule. It replays a golden prompt on the chosen backend and
refuses to run on a mismatch. A session is one gate and one KV cache. Calls before the gate opens or
after it closes raise GateError.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from sevenfold.artifact import Artifact, Gate, ReplayRow, open_artifact, run_check, verify
from sevenfold.artifact.bundle import is_bundle, open_bundle, refuse_unverified
from sevenfold.artifact.errors import AnonymousError, HeaderOnlyError, PublishedError
from sevenfold.artifact.verify import CHECKS, Verification
from sevenfold.core.errors import ArtifactError, GateError, SevenfoldError, StorageError
from sevenfold.core.hashing import Json, sha256
from sevenfold.core.numbers.fixed import Ints
from sevenfold.engine import reference
from sevenfold.engine.backends import (
    BACKENDS,
    Engine,
    available,
    built_in_model,
    find_backend,
    make_engine,
    self_test,
)
from sevenfold.engine.decoding import GreedyDecoder
from sevenfold.engine.reference import check_ids
from sevenfold.engine.weights import IntegerModel, load_weights, with_kv_bits
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.roles import Roles

GOLDEN_STEPS = 8
# The graph key of the token roles, which an import may set.
TOKENS = "tokens"


@dataclass(frozen=True, kw_only=True)
class GreedyRun:
    """The result of a prompt: the tokens of `n_steps` greedy steps and their logits."""

    ids: tuple[int, ...]
    tokens: tuple[int, ...]
    logits_sha256: str


def greedy_steps(engine: Engine, ids: Sequence[int], n_steps: int) -> GreedyRun:
    """Take greedy steps from a prompt on an engine.

    `logits_sha256` covers the int32 big-endian logits of each step, in order (V6).

    Raises:
        GateError: ids that the model refuses, or more positions than the context has.
    """
    session, tokens, raw = engine.session(), [], []
    pending = np.array(ids, np.int64)
    for _ in range(n_steps):
        logits_V = session.forward(pending, last_only=True)[0]
        raw.append(logits_V.astype(">i4").tobytes())
        tokens.append(reference.argmax(logits_V))
        pending = np.array(tokens[-1:], np.int64)
    session.close()
    return GreedyRun(ids=tuple(ids), tokens=tuple(tokens), logits_sha256=sha256(b"".join(raw)).hex())


def greedy_run(model: IntegerModel, ids: Sequence[int], n_steps: int) -> GreedyRun:
    """Return `greedy_steps` on the reference, which makes golden logits."""
    return greedy_steps(reference.ReferenceEngine(model), ids, n_steps)


def replay(artifact: Artifact) -> list[ReplayRow]:
    """Replay every golden prompt of a file on every backend of this machine (V6).

    Raises:
        ArtifactError: the file cannot be run.
        UsageError: S7_ISA names an instruction set that is not here.
    """
    weights = load_weights(artifact.tensors, artifact.graph, str(artifact.path))
    tokenizer = open_tokenizer(artifact, weights)
    rows = []
    for backend in available(weights):
        # One engine for each width of cached codes that the golden prompts ask for.
        engines: dict[int | None, Engine] = {}
        for index, golden in enumerate(artifact.provenance["golden"]):
            bits = golden.get("kv_bits")
            if bits not in engines:
                engines[bits] = make_engine(backend, with_kv_bits(weights, bits))
            engine = engines[bits]
            ids = prompt_ids(tokenizer, golden["prompt"], golden.get("domain", ""))
            run = greedy_steps(engine, ids, golden["n_steps"])
            rows.append(
                ReplayRow(
                    name=f"golden prompt {index} on {backend}",
                    expected=f"{golden['ids']} -> {golden['tokens']} {golden['logits_sha256']}",
                    actual=f"{list(run.ids)} -> {list(run.tokens)} {run.logits_sha256}",
                )
            )
    return rows


def backend_states(path: Path | None = None) -> list[dict[str, str]]:
    """Return every backend with its name, status ("pass", "fail", "not here") and detail.

    Each is tested on a file or on the built-in model.

    Raises:
        ArtifactError, StorageError: the file is refused.
        UsageError: S7_ISA names an instruction set that is not here.
    """
    model = built_in_model() if path is None else Model.open(path, backend=reference.NAME).weights
    states = []
    for name, backend in BACKENDS.items():
        if reason := backend.unavailable() or backend.refuses(model):
            states.append({"name": name, "status": "not here", "detail": reason})
            continue
        detail = make_engine(name, built_in_model()).detail
        try:
            if path is None:
                self_test(name)
            else:
                Model.open(path, backend=name)
            states.append({"name": name, "status": "pass", "detail": detail})
        except SevenfoldError as error:
            states.append({"name": name, "status": "fail", "detail": f"{detail}: {error}"})
    return states


def open_tokenizer(artifact: Artifact, weights: IntegerModel) -> Tokenizer:
    """Return the tokenizer in the DICT lane. Raises ArtifactError when it is invalid or has another
    size than the vocabulary of the model.
    """
    remedy = "the file was not written by a compatible `s7 seal`; seal it again"
    try:
        named = artifact.graph.get(TOKENS)
        roles = None if named is None else Roles.read(named)
        tokenizer = Tokenizer.from_json(artifact.dictionary, roles)
    except StorageError as error:
        raise ArtifactError(f"DICT: {error.what}", where=str(artifact.path), remedy=remedy) from error
    except ValueError as error:
        raise ArtifactError(f"graph: {TOKENS}: {error}", where=str(artifact.path), remedy=remedy) from error
    if tokenizer.vocab_size != weights.shape.vocab_size:
        raise ArtifactError(
            f"DICT has {tokenizer.vocab_size} entries, the model {weights.shape.vocab_size}",
            where=str(artifact.path),
            remedy=remedy,
        )
    return tokenizer


def prompt_ids(tokenizer: Tokenizer, prompt: str, domain: str = "") -> list[int]:
    """Return the ids of a prompt in the form of training text: the end-of-text token, then the
    text.

    With expert stacks, this function routes the text. The token of `domain` comes first, and the
    table of the engine gives its stack (specs/arithmetic.md). Without a domain the end-of-text
    token is first, which chooses the last stack of the recipe.

    Raises:
        UsageError: the vocabulary has no token for the domain.
    """
    lead = [tokenizer.domain_id(domain)] if domain else []
    return [*lead, *tokenizer.begun(tokenizer.encode(prompt))]


def open_model(path: Path | str, *, allow_anonymous: bool = False) -> Artifact:
    """Return a sealed file or a bundle in which every hash and rule holds. `Model` itself refuses a
    file without lanes.

    Raises:
        AnonymousError: it does not record its origin, and that was not allowed. If it is allowed,
            only the order (V0) is checked.
        PublishedError: it is a file of the published contract, which contains nothing that the
            engine can run.
        ArtifactError: it is refused.
        StorageError: it cannot be read.
    """
    path = Path(path)
    artifact = open_bundle(path, allow_anonymous=allow_anonymous) if is_bundle(path) else open_artifact(path)
    artifact.prove()
    if artifact.header_only:
        return artifact
    if artifact.published:
        raise PublishedError(
            f"format version {artifact.version} of the published contract: it holds no graph that the engine"
            " could run, no seal binds it, and no golden logits prove a backend on it",
            where=str(path),
            remedy="`s7 inspect` shows its contents; only files that `s7 seal` wrote can be run",
        )
    if not artifact.anonymous:
        refuse_unverified(verify(artifact))
    elif allow_anonymous:
        refuse_unverified(Verification(str(path), artifact.root, (run_check(CHECKS[0], artifact),)))
    else:
        raise AnonymousError(
            "the file does not record its origin (rule D6)",
            where=str(path),
            remedy="--allow-anonymous runs it anyway",
        )
    return artifact


class Model:
    """A verified model. It is immutable after `open`, so it is safe to share."""

    def __init__(
        self,
        artifact: Artifact,
        backend: str = reference.NAME,
        n_threads: int | None = None,
        kv_bits: int | None = None,
    ) -> None:
        find_backend(backend)
        self.artifact = artifact
        # Why the fastest backend was not chosen.
        self.note = ""
        if artifact.header_only:
            raise HeaderOnlyError(
                "the file is a header without lanes: zero tensors (A11) are for tests, never to be run or"
                " served",
                where=str(artifact.path),
                remedy="seal a trained model",
            )
        loaded = load_weights(artifact.tensors, artifact.graph, str(artifact.path))
        self.weights = with_kv_bits(loaded, kv_bits)
        self.tokenizer = open_tokenizer(artifact, self.weights)
        self.engine: Engine = make_engine(backend, self.weights, n_threads)

    @property
    def backend(self) -> str:
        """Return the name of the backend."""
        return self.engine.name

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        backend: str | None = None,
        n_threads: int | None = None,
        allow_anonymous: bool = False,
        kv_bits: int | None = None,
    ) -> Model:
        """Read a sealed file or a bundle, check every hash and rule, and prove the backend on the
        first golden prompt.

        Args:
            backend: a name from `s7 backends`; None takes the fastest one that is available and
                passes, else the reference. `note` then says why.
            n_threads: threads of a call, for the native engine; None: see `native.default_threads`.
                The bits are the same.
            kv_bits: bits of cached keys and values, one of those that the file allows; None takes
                the default of the file.
            allow_anonymous: accept a file that does not name its origin (D6). Its hashes are
                checked and its order is canonical, and the backend is proved on the built-in model.
                `note` says so.

        Raises:
            ArtifactError: the file is refused, or the backend gives other logits than the seal.
            StorageError: the file cannot be read.
            UsageError: the backend is unknown or unavailable here, or the file does not allow
                `kv_bits`.
        """
        if backend:
            find_backend(backend)
        artifact = open_model(path, allow_anonymous=allow_anonymous)
        return cls.of(artifact, backend=backend, n_threads=n_threads, kv_bits=kv_bits)

    @classmethod
    def of(
        cls,
        artifact: Artifact,
        *,
        backend: str | None = None,
        n_threads: int | None = None,
        kv_bits: int | None = None,
    ) -> Model:
        """Return the model of an artifact whose hashes and rules were checked before.

        The arguments and errors are those of `open`.
        """
        model = cls(artifact, kv_bits=kv_bits)
        names = [backend] if backend else available(model.weights)
        model.engine = make_engine(names[0], model.weights, n_threads)
        try:
            model.self_test()
        except SevenfoldError as error:
            if len(names) == 1:
                raise
            model.note = str(error)
            model.engine = make_engine(reference.NAME, model.weights)
            model.self_test()
        if artifact.anonymous:
            model.note = f"anonymous: the origin of these weights is unknown. {model.note}".strip()
        # An engine that packs the weights keeps its own copy. The reference reads the file again
        # when needed.
        artifact.release()
        return model

    def on(self, engine: Engine) -> Model:
        """Return the same model with sessions on another engine that holds its weights."""
        other = copy.copy(self)
        other.engine = engine
        return other

    @property
    def context(self) -> int:
        """Return how many positions a session has for prompt and answer together."""
        return self.weights.shape.context

    @property
    def golden(self) -> list[Mapping[str, Json]]:
        """Return the golden prompts of the file."""
        rows = self.artifact.provenance.get("golden")
        return rows if isinstance(rows, list) else []

    def self_test(self) -> None:
        """Replay the steps of the first golden prompt on this backend.

        An anonymous model has none. Its backend is proved on the built-in model. Raises
        ArtifactError when a bit differs.
        """
        if self.artifact.anonymous:
            self_test(self.backend)
            return
        if not self.golden:
            raise ArtifactError(
                "this file has no golden logits, so no backend can be proved on it",
                where=str(self.artifact.path),
                remedy="use a file sealed by `s7 seal`",
            )
        bits = self.weights.shape.kv_bits
        golden = next((row for row in self.golden if row.get("kv_bits", bits) == bits), None)
        if golden is None:
            raise ArtifactError(
                f"no golden logits of the file prove keys and values of {bits} bits",
                where=str(self.artifact.path),
                remedy="use a width that the file was sealed with",
            )
        try:
            run = greedy_steps(self.engine, golden["ids"], golden["n_steps"])
        except GateError as error:
            raise ArtifactError(
                f"the golden prompt does not fit the model: {error}",
                where=str(self.artifact.path),
                remedy="the file was not written by `s7 seal`; get it again from its author",
            ) from error
        if run.logits_sha256 != golden["logits_sha256"]:
            raise ArtifactError(
                f"backend {self.backend!r} fails the self-test: logits {run.logits_sha256[:16]}, "
                f"the seal says {golden['logits_sha256'][:16]}",
                where=str(self.artifact.path),
                remedy="do not use this backend on this machine; please report it",
            )

    def session(self, prompt: str | None = None, *, max_tokens: int = 0, domain: str = "") -> Session:
        """Return a session. Entering it with `with` opens the gate and reads the prompt, if there
        is one.

        Args:
            prompt: text; None to begin with `Session.prefill`.
            max_tokens: room to reserve, so that a too long answer is refused at once.
            domain: whose expert stack reads the prompt; "" is the default of the model
                (`prompt_ids`).

        Raises:
            GateError: forbidden control characters, or prompt and answer exceed the context.
        """
        return Session(self, prompt, max_tokens, domain)


class Session:
    """One gate and one KV cache. Decoding is greedy (A8: top-k = 1).

    Calls before the gate opens, or after it is closed, raise GateError. Tokens are computed several
    at a time where the engine can (`decoding`).
    """

    def __init__(
        self, model: Model, prompt: str | None = None, max_tokens: int = 0, domain: str = ""
    ) -> None:
        self.model = model
        self._domain = domain
        self.gate = Gate()
        self._prompt = prompt
        self._max_tokens = max_tokens
        self._decoder = GreedyDecoder(model.engine, model.tokenizer.roles.ends)
        self._stack = ExitStack()

    def __enter__(self) -> Session:
        with ExitStack() as stack:
            body = stack.enter_context(self.gate.call(self._prompt or ""))
            # This is inside the block, so that an interrupted prefill closes the gate.
            if self._prompt is not None:
                self._append("prefill", prompt_ids(self.model.tokenizer, body, self._domain))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._decoder.close()

    @property
    def logits(self) -> Ints | None:
        """Return the logits of the next token, or those from which `step` took the last one: [V]
        int64 holding int32 values (natural-log units with 16 fraction bits); None before the first
        prefill.
        """
        return self._decoder.logits

    @property
    def tokens(self) -> list[int]:
        """Return the generated ids."""
        return self._decoder.tokens

    @property
    def room(self) -> int:
        """Return the free positions of the context after what was read and generated."""
        return self.model.context - self._decoder.n_used

    def prefill(self, ids: Sequence[int]) -> None:
        """Append token ids to the body, after what was read and generated; `logits` are those after
        the last of them.

        Every training text begins with `model.tokenizer.begun`. The text of the ids passes the gate
        like any other text.

        Raises:
            GateError: the gate is closed, the text contains a forbidden control character, there
                are no ids, an id is outside the vocabulary, or the context is full. Nothing is
                appended in these cases. A refused character also closes the gate.
        """
        self.gate.require_open("prefill")
        check_ids(self.model.weights, np.array(ids, np.int64), self._decoder.n_used)
        tokenizer = self.model.tokenizer
        self.gate.feed(tokenizer.decode_bytes(ids))
        self._append("prefill", ids)

    def _append(self, call: str, ids: Sequence[int]) -> None:
        self.gate.require_open(call)
        n_prompt = self._decoder.n_used + len(ids)
        needed, context = n_prompt + self._max_tokens - len(self.tokens), self.model.context
        if needed > context:
            most = f" to {context - n_prompt} at most" if n_prompt < context else ""
            raise GateError(
                f"the prompt has {n_prompt} tokens and {self._max_tokens} are to follow; the context has"
                f" {context}",
                where="prompt",
                remedy=f"shorten the prompt or lower --max-tokens{most}",
            )
        self._decoder.append(ids)

    def step(self) -> int:
        """Return the next token id, greedy; ties go to the lowest id.

        Raises:
            GateError: the gate is shut, or the context is full.
        """
        self.gate.require_open("step")
        return self._decoder.step()

    def generate(self, max_tokens: int) -> Iterator[str]:
        """Yield the text as it is generated, up to `max_tokens` tokens or the end-of-text token.

        Pieces are whole characters, of one token or of several that were computed together.

        Raises:
            GateError: the gate is shut, or the context is full.
        """
        stream, ends = self.model.tokenizer.stream(), self.model.tokenizer.roles.ends
        n_left, is_ended = max_tokens, False
        while n_left > 0 and not is_ended:
            self.gate.require_open("step")
            tokens = self._decoder.take(n_left)
            n_left -= len(tokens)
            # Nothing is computed after an end token, so it can only be the last one.
            is_ended = tokens[-1] in ends
            if piece := stream.feed_all(tokens[:-1] if is_ended else tokens):
                yield piece
        if rest := stream.close():
            yield rest
