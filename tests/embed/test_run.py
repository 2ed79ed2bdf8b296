"""A model of libsevenfold answers as `s7 run` does, byte for byte; the example, and the interface."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_int32, c_size_t, c_uint64, c_void_p
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from embed_library import ON_TEXT, ROOT, STATUSES, Error, Info, Library
from embed_models import KINDS, TEXTS, seal_input
from numpy.typing import NDArray

from sevenfold.artifact import (
    Gate,
    SealInput,
    build_contents,
    parse_artifact,
    verify,
    visible_text,
    write_artifact,
)
from sevenfold.cli.models.run import run as s7_run
from sevenfold.core.errors import GateError, SevenfoldError
from sevenfold.engine.session import Model, prompt_ids, replay

CC = os.environ.get("CC", "gcc").split()
Sealed = Callable[[str], Path]


class Opened:
    """A model of the library; each call raises AssertionError with what the library said."""

    def __init__(self, library: Library, path: Path) -> None:
        self.calls, self.handle, self.error = library.calls, c_void_p(), Error()
        self.need(
            self.calls.s7f_model_open_path(os.fsencode(path), None, byref(self.handle), byref(self.error))
        )
        self.info = Info()
        self.need(self.calls.s7f_model_info(self.handle, byref(self.info)))

    def need(self, status: int) -> None:
        assert status == 0, (STATUSES[status], self.error.what, self.error.where)

    def close(self) -> None:
        self.calls.s7f_model_close(byref(self.handle))

    def encode(self, text: str) -> list[int]:
        data = text.encode()
        ids, n = (c_int32 * max(len(data), 1))(), c_size_t()
        self.need(
            self.calls.s7f_encode(self.handle, data, c_size_t(len(data)), ids, c_size_t(len(ids)), byref(n))
        )
        return list(ids[: n.value])

    def decode(self, ids: list[int]) -> bytes:
        row, n = (c_int32 * len(ids))(*ids), c_size_t()
        self.calls.s7f_decode(self.handle, row, c_size_t(len(ids)), None, c_size_t(0), byref(n))
        text = ctypes.create_string_buffer(n.value + 1)
        self.need(self.calls.s7f_decode(self.handle, row, c_size_t(len(ids)), text, n, byref(n)))
        return text.raw[: n.value]

    def session(self, prompt: str | None = None, domain: str = "") -> c_uint64:
        session = c_uint64()
        self.need(self.calls.s7f_session_open(self.handle, byref(session), byref(self.error)))
        if prompt is not None:
            data = prompt.encode()
            self.need(
                self.calls.s7f_session_prompt(
                    self.handle, session, data, c_size_t(len(data)), domain.encode(), 0, byref(self.error)
                )
            )
        return session

    def step(self, session: c_uint64) -> int:
        token = c_int32()
        self.need(self.calls.s7f_session_step(self.handle, session, byref(token), byref(self.error)))
        return token.value

    def logits(self, session: c_uint64) -> NDArray[np.int32]:
        row = np.zeros(self.info.vocab_size, np.int32)
        self.need(
            self.calls.s7f_session_logits(
                self.handle, session, c_void_p(row.ctypes.data), c_size_t(row.size), byref(self.error)
            )
        )
        return row

    def generate(self, session: c_uint64, max_tokens: int) -> tuple[int, bytes]:
        pieces: list[bytes] = []
        taker = ON_TEXT(lambda _, text, n: pieces.append(ctypes.string_at(text, n)) or 0)
        status = self.calls.s7f_session_generate(
            self.handle, session, max_tokens, taker, None, None, byref(self.error)
        )
        for piece in pieces:
            piece.decode()
        return status, b"".join(pieces)


@contextmanager
def opened(library: Library, path: Path) -> Iterator[Opened]:
    model = Opened(library, path)
    try:
        yield model
    finally:
        model.close()


def prompts(count: int) -> list[str]:
    """Cut from real texts and from noise; some end within a word, some hold more than ASCII."""
    rng, whole = random.Random(11), "".join(TEXTS)
    alphabet = "def (x):\n\t  ->'a|fn_1239\u00e9\u00df\u4e16\u0301\U0001f600\u00a0."
    found = ["", " ", "\n", "def ", "def add(left", "\t\tx"]
    while len(found) < count:
        start = rng.randrange(len(whole))
        found.append(whole[start : start + rng.randint(1, 60)])
        found.append("".join(rng.choices(alphabet, k=rng.randint(1, 20))))
    return found[:count]


# The example.


@pytest.fixture(scope="module")
def example(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/embed.c, compiled."""
    if shutil.which(CC[0]) is None:
        pytest.skip(f"no {CC[0]}")
    program = tmp_path_factory.mktemp("example") / "embed"
    library = tree / "lib"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{tree / 'include'}"]
    links = [f"-L{library}", "-lsevenfold", f"-Wl,-rpath,{library}", "-o", program]
    subprocess.run([*CC, *flags, ROOT / "examples" / "embed.c", *links], check=True)
    return program


def compare_with_s7_run(
    example: Path, path: Path, texts: list[str], capsys: pytest.CaptureFixture[bytes]
) -> None:
    for text in texts:
        # An argument holds no NUL, and an empty one is a prompt.
        done = subprocess.run([example, path, text, "16"], capture_output=True, check=False)
        s7_run(path, text, 16, None, None, "", False, False)
        assert (done.returncode, done.stdout) == (0, capsys.readouterr().out), (text, done.stderr)


def test_the_example_is_short() -> None:
    assert len((ROOT / "examples" / "embed.c").read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.subprocess
def test_the_example_prints_what_s7_run_prints(
    example: Path, sealed: Sealed, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    compare_with_s7_run(example, sealed("plain"), prompts(20), capsysbinary)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_200_prompts_of_every_kind_of_model(
    kind: str, example: Path, sealed: Sealed, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    compare_with_s7_run(example, sealed(kind), prompts(200), capsysbinary)


@pytest.mark.subprocess
def test_the_example_says_what_is_wrong(example: Path, sealed: Sealed, tmp_path: Path) -> None:
    data = bytearray(sealed("plain").read_bytes())
    data[-40] ^= 1
    (tmp_path / "changed.s7l").write_bytes(data)
    for path, words in ((tmp_path / "no.s7l", "no.s7l"), (tmp_path / "changed.s7l", "lane ")):
        done = subprocess.run([example, path, "x"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
    done = subprocess.run([example, sealed("plain"), "a\x1b[1m"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "control character U+001B" in done.stderr


# The calls, against Python's session.


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_gives_pythons_ids_logits_and_text(
    kind: str, library: Library, sealed: Sealed
) -> None:
    theirs = Model.open(sealed(kind), backend="reference")
    with opened(library, sealed(kind)) as ours:
        roles = theirs.tokenizer.roles
        assert ours.info.root.decode() == theirs.artifact.root
        assert list(ours.info.ends[: ours.info.n_ends]) == list(roles.ends)
        named = {"begin": roles.begin, "pad": roles.pad, "boundary": theirs.tokenizer.eot_id}
        assert {name: getattr(ours.info, name) for name in named} == {
            name: -1 if value is None else value for name, value in named.items()
        }
        for text in prompts(40):
            ids = theirs.tokenizer.encode(text)
            assert ours.encode(text) == ids
            assert ours.decode([*ids, 0]) == theirs.tokenizer.decode_bytes([*ids, 0])
        domains = ("", "code") if kind == "stacks" else ("",)
        for domain in domains:
            for text in prompts(3):
                session = ours.session(text, domain)
                with theirs.session(text, domain=domain) as expected:
                    for _ in range(4):
                        token = expected.step()
                        assert ours.step(session) == token
                    assert expected.step() is not None
                    assert np.array_equal(ours.logits(session), np.asarray(expected.logits, np.int32))
                ours.need(ours.calls.s7f_session_close(ours.handle, byref(session)))


def test_rules_and_golden_prompts_hold_on_every_instruction_set(library: Library, sealed: Sealed) -> None:
    for kind in KINDS:
        assert library.verdict(sealed(kind).read_bytes(), replay=True).rules == ("pass",) * 8, kind


def test_forged_golden_logits_are_found(library: Library, tmp_path: Path) -> None:
    made = seal_input("plain")
    for index in (0, 1):
        golden = [*made.golden]
        golden[index] = replace(golden[index], logits_sha256="ab" * 32)
        path = tmp_path / f"{index}.s7l"
        write_artifact(path, build_contents(replace(made, golden=golden)))
        data = path.read_bytes()
        assert library.verdict(data).rules[6] == "skipped"
        found = library.verdict(data, replay=True)
        assert found.rules[6] == "fail"
        assert f"golden prompt {index} " in found.said[6]
        assert not verify(parse_artifact(data), replay).ok
        file, model, error = c_void_p(), c_void_p(), Error()
        assert not library.calls.s7f_file_open_memory(data, c_size_t(len(data)), byref(file), byref(error))
        status = library.calls.s7f_model_open(file, None, byref(model), byref(error))
        assert STATUSES[status] == ("S7F_SELF_TEST" if index == 0 else "S7F_OK")
        library.calls.s7f_model_close(byref(model))
        library.calls.s7f_file_close(byref(file))


def test_text_comes_as_python_hands_it_over(library: Library, sealed: Sealed) -> None:
    theirs = Model.open(sealed("plain"), backend="reference")
    with opened(library, sealed("plain")) as ours:
        for text in prompts(8):
            session = ours.session(text)
            with theirs.session(text) as expected:
                whole = "".join(expected.generate(30))
            status, found = ours.generate(session, 30)
            assert (status, found.decode()) == (0, whole)
            ours.need(ours.calls.s7f_session_close(ours.handle, byref(session)))


def test_forks_and_batches_are_single_sessions(library: Library, sealed: Sealed) -> None:
    with opened(library, sealed("plain")) as model:
        calls = model.calls
        first = model.session("def add(left")
        model.step(first)
        expected = [model.step(first) for _ in range(6)]
        again = model.session("def add(left")
        model.step(again)
        forks = [c_uint64() for _ in range(3)]
        for fork in forks:
            model.need(calls.s7f_session_fork(model.handle, again, -1, byref(fork), byref(model.error)))
        rows = []
        handles = (c_uint64 * 4)(again.value, *(fork.value for fork in forks))
        for _ in range(6):
            ids = (c_int32 * 4)()
            model.need(calls.s7f_step_batch(model.handle, handles, 4, ids, byref(model.error)))
            rows.append(list(ids))
        assert rows == [[token] * 4 for token in expected]
        # A shorter fork has the prefix alone.
        short, ids = c_uint64(), (c_int32 * 2)(40, 41)
        model.need(calls.s7f_session_fork(model.handle, first, 3, byref(short), byref(model.error)))
        assert calls.s7f_session_length(model.handle, short) == 3
        token = c_int32()
        assert STATUSES[calls.s7f_session_step(model.handle, short, byref(token), None)] == "S7F_GATE"
        model.need(calls.s7f_session_append(model.handle, short, ids, c_size_t(2), byref(model.error)))
        prefix = prompt_ids(Model.open(sealed("plain")).tokenizer, "def add(left")[:3]
        plain, row = model.session(), (c_int32 * 5)(*prefix, 40, 41)
        model.need(calls.s7f_session_append(model.handle, plain, row, c_size_t(5), byref(model.error)))
        assert np.array_equal(model.logits(short), model.logits(plain))


def test_ids_that_the_gate_refuses_shut_it(library: Library, sealed: Sealed) -> None:
    theirs = Model.open(sealed("plain"))
    escape = next(i for i in range(theirs.tokenizer.vocab_size) if theirs.tokenizer.token_bytes(i) == b"\x1b")
    with opened(library, sealed("plain")) as model:
        session, ids = model.session("x"), (c_int32 * 1)(escape)
        status = model.calls.s7f_session_append(model.handle, session, ids, c_size_t(1), byref(model.error))
        assert STATUSES[status] == "S7F_GATE"
        assert STATUSES[model.calls.s7f_session_end(model.handle, session, None)] == "S7F_GATE"


def test_the_context_is_the_end(library: Library, sealed: Sealed) -> None:
    theirs = Model.open(sealed("plain"))
    with opened(library, sealed("plain")) as model:
        session = model.session("def add(left, right):")
        status, text = model.generate(session, 10_000)
        with theirs.session("def add(left, right):") as expected:
            pieces = []
            try:
                for piece in expected.generate(10_000):
                    pieces.append(piece)
            except GateError:
                assert STATUSES[status] == "S7F_CONTEXT"
            else:
                assert STATUSES[status] == "S7F_OK"
        assert text.decode() == "".join(pieces)


def without(name: str) -> SealInput:
    made = seal_input("plain")
    return replace(made, tensors=[t for t in made.tensors if t.name != name])


def graph_with(**changes: object) -> SealInput:
    made = seal_input("plain")
    return replace(made, graph=made.graph | changes)


def shaped(**changes: object) -> SealInput:
    return graph_with(model=seal_input("plain").graph["model"] | changes)


def with_low_code() -> SealInput:
    made = seal_input("plain")
    code = next(t for t in made.tensors if t.name == "layers.00.attn.q_proj.weight")
    low = code.data.copy().reshape(-1)
    low[3] = -128
    changed = replace(code, data=low.reshape(code.dims))
    return replace(made, tensors=[changed if t is code else t for t in made.tensors])


OTHER_LAW = {"version": 2, "tables": "0" * 64}
# Files that hold every rule and do not run, with the code that says why.
REFUSED = {
    "no gain": ("S7F_GRAPH", lambda: without("final_norm.weight.gain")),
    "no rope": ("S7F_GRAPH", lambda: without("rope.cos_sin")),
    "code -128": ("S7F_GRAPH", with_low_code),
    "another law": ("S7F_GRAPH", lambda: graph_with(arithmetic=OTHER_LAW)),
    "heads": ("S7F_GRAPH", lambda: shaped(n_heads=3)),
    "a float": ("S7F_GRAPH", lambda: shaped(n_heads=4.0)),
    "layers": ("S7F_GRAPH", lambda: shaped(n_layers=1000)),
    "context": ("S7F_GRAPH", lambda: shaped(context=97)),
    "roles": ("S7F_TOKENIZER", lambda: graph_with(tokens={"begin": 1})),
    "role": (
        "S7F_TOKENIZER",
        lambda: graph_with(tokens={"begin": 9999, "bos": 0, "ends": [], "pad": None}),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_python_does_not_run_the_library_does_not(name: str, library: Library, tmp_path: Path) -> None:
    code, made = REFUSED[name]
    path = tmp_path / "model.s7l"
    write_artifact(path, build_contents(made()))
    with pytest.raises(SevenfoldError):
        Model.open(path, backend="reference")
    assert library.verdict(path.read_bytes()).ok
    model, error = c_void_p(), Error()
    status = library.calls.s7f_model_open_path(os.fsencode(path), None, byref(model), byref(error))
    assert STATUSES[status] == code, error.what
    assert error.what
    assert error.remedy
    assert not model


@pytest.mark.parametrize("change", ["prefix", "dropout", "letter", "rule", "twice", "merge", "ids"])
def test_tokenizers_that_are_not_obeyed_are_refused(change: str, library: Library, tmp_path: Path) -> None:
    made = seal_input("plain")
    value = json.loads(made.dictionary)
    if change == "prefix":
        value["pre_tokenizer"]["pretokenizers"][-1]["add_prefix_space"] = True
    elif change == "dropout":
        value["model"]["dropout"] = 0.5
    elif change == "letter":
        name = next(n for n, i in value["model"]["vocab"].items() if i == 300)
        value["model"]["vocab"]["\u4e16"] = value["model"]["vocab"].pop(name)
    elif change == "rule":
        value["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+"
    elif change == "merge":
        value["model"]["merges"].append(["a", "\u0100\u0100\u0100"])
    elif change == "ids":
        value["model"]["vocab"]["zzzz"] = 999
    data = json.dumps(value).encode()
    if change == "twice":
        data = data.replace(b'"version":', b'"version": "1.0", "version":', 1)
    identity = replace(made.identity, tokenizer_digest=hashlib.sha256(data).hexdigest())
    path = tmp_path / "model.s7l"
    write_artifact(path, build_contents(replace(made, dictionary=data, identity=identity)))
    model, error = c_void_p(), Error()
    status = library.calls.s7f_model_open_path(os.fsencode(path), None, byref(model), byref(error))
    assert STATUSES[status] == "S7F_TOKENIZER", error.what
    assert error.where == b"DICT"


# Text and the gate, against Python's.


def test_a_stream_of_tokens_is_pythons(library: Library, sealed: Sealed) -> None:
    rng = random.Random(3)
    theirs = Model.open(sealed("plain")).tokenizer
    single = {theirs.token_bytes(i): i for i in range(theirs.vocab_size) if len(theirs.token_bytes(i)) == 1}
    with opened(library, sealed("plain")) as model:
        for _ in range(300):
            data = bytearray("a\u00e9\u4e16\U0001f600\u0301".encode() * 2)
            for _ in range(rng.randint(0, 4)):
                data[rng.randrange(len(data))] = rng.choice(
                    (0xFF, 0xC0, 0xED, 0xA0, 0xF4, 0x90, 0x80, 0x41, 0xE2)
                )
            state, pieces = (ctypes.c_uint8 * 8)(), []
            for ids in (*([single[bytes([byte])]] for byte in data), []):
                room, n, row = ctypes.create_string_buffer(16), c_size_t(), (c_int32 * 1)(*ids)
                model.need(
                    model.calls.s7f_text_feed(
                        model.handle, state, row, c_size_t(len(ids)), room, c_size_t(16), byref(n)
                    )
                )
                pieces.append(room.raw[: n.value].decode())
            assert "".join(pieces) == data.decode(errors="replace")
            if 0xED not in data:
                # Behind ED Python waits for a third byte that cannot make a character.
                stream = theirs.stream()
                assert pieces == [*(stream.feed(single[bytes([byte])]) for byte in data), stream.close()]


def test_visible_text_is_pythons(library: Library) -> None:
    rng = random.Random(5)
    library.calls.s7f_visible_text.restype = c_size_t
    for _ in range(300):
        text = "".join(
            chr(rng.choice((9, 10, 13, 27, 127, 128, 155, 159, 160, 65, 0x4E16))) for _ in range(20)
        )
        buffer = ctypes.create_string_buffer(text.encode())
        n = library.calls.s7f_visible_text(buffer, c_size_t(len(buffer) - 1))
        assert buffer.raw[:n].decode() == visible_text(text)


def test_the_gate_is_pythons(library: Library) -> None:
    rng, calls = random.Random(7), library.calls
    for name in ("s7f_gate_header", "s7f_gate_body"):
        getattr(calls, name).restype = c_void_p
    pieces = [bytes([c]) for c in (1, 2, 3, 4, 14, 15, 16, 9, 10, 0, 8, 27, 127, 65)] + [
        b"\1h\2",
        b"\3\4",
        b"\x0eb\x0f",
        b"\x10\3",
        "\u00e9\u4e16\U0001f600".encode(),
        b"\xc2\x85",
        b"\xff",
        b"\xe4\xb8",
        b"\x96",
        b"\x0e" * 15,
        b"\x0f" * 15,
    ]
    taken = 0
    for _ in range(4000):
        stream = b"\1h\2" * (rng.random() < 0.7) + b"".join(rng.choices(pieces, k=rng.randint(0, 7)))
        stream += b"\3\4" * (rng.random() < 0.5)
        ours, theirs, refused, status = c_void_p(), Gate(), False, 0
        assert calls.s7f_gate_open(byref(ours)) == 0
        cuts = sorted(rng.choices(range(len(stream) + 1), k=2))
        for part in (stream[: cuts[0]], stream[cuts[0] : cuts[1]], stream[cuts[1] :]):
            try:
                theirs.feed(part)
            except GateError:
                refused = True
            status = calls.s7f_gate_feed(ours, part, c_size_t(len(part)), None)
            assert (STATUSES[status] == "S7F_GATE") == refused or not part
            assert bool(calls.s7f_gate_is_open(ours)) == theirs.is_open
        taken += theirs.state.value == "ended"
        assert bool(calls.s7f_gate_is_ended(ours)) == (theirs.state.value == "ended")
        if not refused:
            for name, text in (("s7f_gate_header", theirs.header), ("s7f_gate_body", theirs.body)):
                n = c_size_t()
                at = getattr(calls, name)(ours, byref(n))
                assert ctypes.string_at(at, n.value) == text.encode() if n.value else text == ""
        calls.s7f_gate_close(byref(ours))
    assert taken > 100
