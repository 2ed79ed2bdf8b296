"""Opening a sealed file and running it: the self-test, the gate, the
context, and text as it streams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import Tiny, tiny

from sevenfold.artifact import (
    Golden,
    Identity,
    ModelClass,
    SealInput,
    Tensor,
    build_contents,
    header_only,
    verify,
    write_artifact,
)
from sevenfold.core.errors import ArtifactError, GateError, StorageError, UsageError
from sevenfold.engine import reference
from sevenfold.engine.backends import available, find_backend
from sevenfold.engine.session import Model, greedy_run, prompt_ids, replay
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.train import train_tokenizer

VOCAB, CONTEXT, STEPS = 300, 24, 5
TEXTS = [
    "def add(left, right):\n    return left + right\n",
    "class Adder:\n    def add(self, left, right):\n        return add(left, right)\n",
    "for number in range(10):\n    print(number, add(number, number))\n",
] * 3
Change = Callable[[SealInput], SealInput]


@pytest.fixture(scope="module")
def dictionary() -> bytes:
    return train_tokenizer(TEXTS, TokenizerSpec(vocab_size=VOCAB))


@pytest.fixture(scope="module")
def small() -> Tiny:
    return tiny("gqa", vocab_size=VOCAB, context=CONTEXT)


@pytest.fixture(scope="module")
def seal_input(dictionary: bytes, small: Tiny) -> SealInput:
    tokenizer, weights, golden = Tokenizer.from_json(dictionary), small.load(), []
    for prompt in ("def add(", "print"):
        ids = prompt_ids(tokenizer, prompt)
        run = greedy_run(weights, ids, STEPS)
        golden.append(
            Golden(prompt=prompt, ids=ids, n_steps=STEPS, tokens=run.tokens, logits_sha256=run.logits_sha256)
        )
    return SealInput(
        class_=ModelClass.DENSE,
        padded=False,
        dictionary=dictionary,
        tensors=[Tensor(r.name, r.dims, r.scale, r.data) for r in small.records.values()],
        graph=small.graph,
        trace=[{"step": 1, "loss": 1.0}],
        batch=[],
        identity=Identity(
            recipe_name="tiny",
            recipe_digest="11" * 32,
            dataset_root="22" * 32,
            tokenizer_digest=hashlib.sha256(dictionary).hexdigest(),
            training_seed=1,
            code_version="0",
        ),
        golden=golden,
    )


@pytest.fixture
def write(seal_input: SealInput, tmp_path: Path) -> Callable[..., Path]:
    """write(**changes of SealInput) -> path of a sealed file."""

    def build(**changes: Any) -> Path:
        path = tmp_path / "model.s7l"
        write_artifact(path, build_contents(replace(seal_input, **changes)))
        return path

    return build


@pytest.fixture(scope="module")
def model(seal_input: SealInput, tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("sealed") / "model.s7l"
    write_artifact(path, build_contents(seal_input))
    return Model.open(path, backend="reference")


# Opening.


def test_a_sealed_model_opens_verifies_and_replays(model: Model) -> None:
    assert model.context == CONTEXT
    assert len(model.golden) == 2
    rows = replay(model.artifact)
    assert all(row.ok for row in rows)
    assert [row.name for row in rows] == [f"golden prompt {i} on {b}" for b in available() for i in range(2)]
    assert verify(model.artifact, replay).ok


def test_other_golden_logits_are_refused(write: Callable[..., Path], seal_input: SealInput) -> None:
    first = replace(seal_input.golden[0], logits_sha256="ab" * 32)
    path = write(golden=[first, seal_input.golden[1]])
    with pytest.raises(
        ArtifactError, match=r"backend 'reference' fails the self-test.*abababababababab"
    ) as caught:
        Model.open(path)
    assert str(caught.value).startswith(str(path))
    assert caught.value.exit_code == 3


def test_one_changed_code_is_refused(write: Callable[..., Path], seal_input: SealInput) -> None:
    # A well-formed, well-sealed file of another model: only the golden logits can tell.
    tensors = [replace(t, data=t.data.copy()) for t in seal_input.tensors]
    next(t for t in tensors if t.name == "layers.01.ffn.down_proj.weight").data[5, 5] ^= 1
    path = write(tensors=tensors)
    with pytest.raises(ArtifactError, match="fails the self-test"):
        Model.open(path)


@pytest.mark.parametrize("ids", [[VOCAB], [1] * (CONTEXT + 1), [1] * CONTEXT])
def test_golden_ids_that_the_model_cannot_take(
    ids: list[int], write: Callable[..., Path], seal_input: SealInput
) -> None:
    path = write(golden=[replace(seal_input.golden[0], ids=ids)])
    with pytest.raises(ArtifactError, match="golden prompt does not fit the model"):
        Model.open(path)


def test_a_later_golden_prompt_is_replayed_by_verify(
    write: Callable[..., Path], seal_input: SealInput
) -> None:
    path = write(golden=[seal_input.golden[0], replace(seal_input.golden[1], logits_sha256="cd" * 32)])
    result = verify(Model.open(path).artifact, replay)
    assert [row.id for row in result.rows if row.status == "fail"] == ["V6"]


def test_a_record_that_is_missing_is_named(write: Callable[..., Path], seal_input: SealInput) -> None:
    path = write(tensors=[t for t in seal_input.tensors if t.name != "rope.cos_sin"])
    with pytest.raises(ArtifactError, match=r"record 'rope\.cos_sin' is missing"):
        Model.open(path)


def test_a_header_without_lanes_has_nothing_to_run(tmp_path: Path) -> None:
    path = tmp_path / "empty.s7l"
    path.write_bytes(header_only(ModelClass.DENSE))
    with pytest.raises(ArtifactError, match="header without lanes"):
        Model.open(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        Model.open(tmp_path / "absent.s7l")


def test_unknown_backends_are_refused(model: Model) -> None:
    find_backend("reference")
    for call in (find_backend, lambda name: Model(model.artifact, name)):
        with pytest.raises(UsageError, match=r"no backend 'gpu'.*use one of native, torch, reference"):
            call("gpu")


def test_the_hash_of_golden_logits_is_over_big_endian_int32(model: Model, seal_input: SealInput) -> None:
    golden, raw = seal_input.golden[0], b""
    held, pending = reference.Cache(model.weights.shape), list(golden.ids)
    for token in golden.tokens:
        row = reference.forward(model.weights, np.array(pending), held)[-1]
        raw += b"".join(int(v).to_bytes(4, "big", signed=True) for v in row)
        assert int(np.argmax(row)) == token
        pending = [token]
    assert hashlib.sha256(raw).hexdigest() == golden.logits_sha256


# The gate and the context.


def test_steps_equal_the_golden_run(model: Model, seal_input: SealInput) -> None:
    golden = seal_input.golden[0]
    with model.session(golden.prompt, max_tokens=STEPS) as session:
        assert [session.step() for _ in range(STEPS)] == list(golden.tokens) == session.tokens
        assert session.logits is not None
        assert session.logits.shape == (VOCAB,)


def test_no_step_outside_the_gate(model: Model) -> None:
    session = model.session("print")
    with pytest.raises(GateError, match=r"step outside STX\.\.ETX \(the gate is in state start\)"):
        session.step()
    with pytest.raises(GateError, match="outside STX"):
        next(session.generate(1))
    with session:
        session.step()
        assert session.gate.is_open
    assert not session.gate.is_open
    with pytest.raises(GateError, match=r"step outside STX\.\.ETX \(the gate is in state ended\)"):
        session.step()
    with pytest.raises(GateError), session:
        pass


def test_the_gate_shuts_when_the_block_raises(model: Model) -> None:
    session = model.session("print")
    with pytest.raises(KeyError), session:
        raise KeyError
    assert not session.gate.is_open


def test_the_gate_shuts_when_the_prompt_is_interrupted(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reference, "forward", interrupted)
    session = model.session("print")
    with pytest.raises(KeyboardInterrupt), session:
        pass
    assert not session.gate.is_open
    with pytest.raises(GateError):
        session.step()


@pytest.mark.parametrize(
    "character", ["\x08", "\x0b", "\x0c", "\x18", "\x1a", "\x00", "\x02", "\x03", "\x7f"]
)
def test_control_characters_in_a_prompt(model: Model, character: str) -> None:
    session = model.session(f"print{character}")
    with pytest.raises(GateError, match="at offset 5") as caught, session:
        pass
    assert caught.value.exit_code == 5
    assert not session.gate.is_open
    assert session.logits is None


def test_text_controls_are_text(model: Model) -> None:
    with model.session("def a():\r\n\treturn") as session:
        session.step()


def test_a_prompt_past_the_context(model: Model) -> None:
    prompt = "~ " * CONTEXT
    session = model.session(prompt)
    with pytest.raises(GateError, match=f"the context has {CONTEXT}.*shorten the prompt"), session:
        pass
    assert not session.gate.is_open


def test_room_for_the_answer_is_reserved(model: Model) -> None:
    n_prompt = len(prompt_ids(model.tokenizer, "print"))
    with model.session("print", max_tokens=CONTEXT - n_prompt):
        pass
    with (
        pytest.raises(GateError, match=f"{n_prompt} tokens and {CONTEXT - n_prompt + 1} are to follow"),
        model.session("print", max_tokens=CONTEXT - n_prompt + 1),
    ):
        pass


def test_the_context_ends_generation_with_an_error(model: Model) -> None:
    with model.session("print") as session:
        n_prompt = len(prompt_ids(model.tokenizer, "print"))
        for _ in range(CONTEXT - n_prompt + 1):
            session.step()
        with pytest.raises(GateError, match=f"{CONTEXT + 1} tokens exceed"):
            session.step()


def test_sessions_do_not_share_state(model: Model, seal_input: SealInput) -> None:
    first, second = model.session("def add("), model.session("print")
    with first, second:
        mixed = [(first.step(), second.step()) for _ in range(STEPS)]
    assert [a for a, _ in mixed] == list(seal_input.golden[0].tokens)
    assert [b for _, b in mixed] == list(seal_input.golden[1].tokens)


def test_ids_are_read_like_text(model: Model, seal_input: SealInput) -> None:
    golden = seal_input.golden[0]
    with model.session(golden.prompt) as whole, model.session() as pieces:
        with pytest.raises(GateError, match="a step before a prompt was read"):
            pieces.step()
        pieces.prefill(golden.ids[:1])
        pieces.prefill(golden.ids[1:])
        assert [whole.step() for _ in range(STEPS)] == [pieces.step() for _ in range(STEPS)]
        # More text after generated tokens is read after them.
        whole.prefill(golden.ids[1:])
        pieces.prefill(golden.ids[1:2])
        pieces.prefill(golden.ids[2:])
        assert whole.logits is not None
        assert np.array_equal(whole.logits, pieces.logits)
        assert whole.gate.body.count(golden.prompt) == 2
    with pytest.raises(GateError, match=r"prefill outside STX\.\.ETX"):
        pieces.prefill([1])


def test_ids_that_are_refused(model: Model) -> None:
    single = {model.tokenizer.token_bytes(i): i for i in range(VOCAB)}
    with model.session("print") as session:
        before = session.logits
        for bad, words in (
            ([], "at least one token id"),
            ([VOCAB], "outside the vocabulary"),
            ([1] * CONTEXT, "exceed"),
        ):
            with pytest.raises(GateError, match=words):
                session.prefill(bad)
        assert session.logits is before
        session.step()
        with pytest.raises(GateError, match="control character"):
            session.prefill([single[b"\x08"]])
        with pytest.raises(GateError, match="step outside"):
            session.step()


# Text.


@pytest.fixture
def script(model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[int]], None]]:
    """script(ids): the greedy choice gives these ids, then end-of-text."""

    def set_script(ids: list[int]) -> None:
        rest = iter([*ids, *[model.tokenizer.eot_id] * 3])
        monkeypatch.setattr(reference, "argmax", lambda _: next(rest))

    return set_script


def test_text_comes_in_whole_characters(model: Model, script: Callable[[list[int]], None]) -> None:
    text = "a\u00e9\u20ac\U0001f600b"
    single = {model.tokenizer.token_bytes(i): i for i in range(VOCAB)}
    raw = text.encode()
    script([single[raw[i : i + 1]] for i in range(len(raw))])
    with model.session("print") as session:
        assert list(session.generate(20)) == list(text)
        assert session.tokens[-1] == model.tokenizer.eot_id


def test_a_character_cut_by_the_end_is_marked(model: Model, script: Callable[[list[int]], None]) -> None:
    single = {model.tokenizer.token_bytes(i): i for i in range(VOCAB)}
    script([single[b"x"], single["\u20ac".encode()[:1]]])
    with model.session("print") as session:
        assert list(session.generate(20)) == ["x", "\ufffd"]


def test_generation_stops_at_max_tokens(model: Model) -> None:
    with model.session("def add(") as session:
        text = "".join(session.generate(3))
        assert len(session.tokens) == 3
        assert text == model.tokenizer.decode(session.tokens)
