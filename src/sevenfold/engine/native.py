"""Call the native engine: native/engine through its C header (native/engine/s7.h) and ctypes.

The result equals that of the reference bit for bit. ctypes releases the interpreter lock during a
call. scripts/setup.sh builds the library into `_native/` beside this file. An installation without
it runs on the reference. The library receives its tables from `core.numbers.tables`, so there is
one copy. Legend of shape suffixes: as in `ops`.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import GateError, SevenfoldError, StorageError, UsageError
from sevenfold.core.numbers.fixed import Ints, as_ints
from sevenfold.engine import native_ffi as abi
from sevenfold.engine.reference import check_ids
from sevenfold.engine.weights import IntegerModel

NAME = "native"
LIBRARY = Path(__file__).resolve().parent / "_native" / "libs7.so"
# Instruction sets by their number in s7_isa, narrow before wide. The last available one is chosen.
ISAS = {"scalar": 0, "avx2": 1, "avxvnni": 5, "avx512": 2, "neon": 3, "wasm": 4}
ISA_VARIABLE, THREADS_VARIABLE = "S7_ISA", "S7_THREADS"
MAX_THREADS = 64
_OK, _NO_MEMORY = 0, 4


class KeyValues(NamedTuple):
    """The contents of a cache for one layer: codes [S, K, E], scales [S, K]."""

    codes: Ints
    m: Ints
    e: Ints


@cache
def _load(path: Path) -> ctypes.CDLL:
    """Load the library. Raises OSError when it cannot be loaded or has another version."""
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in abi.SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise OSError(f"{path.name} has no {name}") from error
        function.restype, function.argtypes = result, arguments
    if library.s7_abi() != abi.ABI:
        raise OSError(f"{path.name} is of interface {library.s7_abi()}, this package needs {abi.ABI}")
    return library


def unavailable() -> str | None:
    """Return why this backend cannot run here; None when it can."""
    if not LIBRARY.is_file():
        return f"{LIBRARY.name} was not built (a C++20 compiler and scripts/setup.sh make it)"
    try:
        _load(LIBRARY)
    except OSError as error:
        return f"{LIBRARY.name} does not load: {error}"
    return None


def open_library() -> ctypes.CDLL:
    """Return the native engine. Raises UsageError where it was not built or does not load."""
    if reason := unavailable():
        raise UsageError(f"the native engine is not available: {reason}", remedy="use --backend reference")
    return _load(LIBRARY)


def instruction_sets() -> list[str]:
    """Return the instruction sets that this machine and this build support, narrowest first."""
    library = open_library()
    return [name for name, number in ISAS.items() if library.s7_isa_supported(number)]


def choose_isa() -> str:
    """Return the widest instruction set, or the one that S7_ISA names. Raises UsageError when that
    is not available.
    """
    here = instruction_sets()
    wanted = os.environ.get(ISA_VARIABLE) or here[-1]
    if wanted not in here:
        known = "is no instruction set" if wanted not in ISAS else "is not on this machine"
        raise UsageError(f"{wanted!r} {known}", where=ISA_VARIABLE, remedy=f"use one of {', '.join(here)}")
    return wanted


def check_status(library: ctypes.CDLL, status: int, what: str) -> None:
    """Raise the error of a status that is not success."""
    if status == _OK:
        return
    text = f"the native engine cannot {what}: {library.s7_status_text(status).decode()}"
    if status == _NO_MEMORY:
        raise StorageError(text, remedy="give the process more memory, or use a model of a smaller context")
    raise SevenfoldError(text, remedy="please report it")


def default_threads() -> int:
    """Return the number of threads of a call.

    It is S7_THREADS, else the number of processors that this process may use, at most eight.

    Raises:
        UsageError: S7_THREADS is not a number from 1 to 64.
    """
    text = os.environ.get(THREADS_VARIABLE, "")
    if not text:
        return min(len(os.sched_getaffinity(0)), 8)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_THREADS:
        raise UsageError(
            f"{text!r} is no number of threads", where=THREADS_VARIABLE, remedy=f"use 1 to {MAX_THREADS}"
        )
    return int(text)


def peak_rate(isa: str, n_threads: int) -> float:
    """Return how many 8-bit multiply-adds per second this machine does in registers, which is the
    peak of `isa`.
    """
    library, done, nanoseconds = open_library(), c_int64(), c_int64()
    status = library.s7_peak(ISAS[isa], n_threads, byref(done), byref(nanoseconds))
    check_status(library, status, f"measure {isa}")
    return done.value / nanoseconds.value * 1e9


class NativeEngine:
    """A model packed for one instruction set.

    It is immutable and safe to share between threads.

    Args:
        isa: one of `instruction_sets()`; None takes the widest, or the one that S7_ISA names.
        n_threads: threads of a call; None takes `default_threads()`. The bits are the same for any
            number.
    """

    name = NAME

    def __init__(self, model: IntegerModel, isa: str | None = None, n_threads: int | None = None) -> None:
        self.model = model
        self.isa = isa or choose_isa()
        self.n_threads = default_threads() if n_threads is None else n_threads
        self._library, arrays, shape = open_library(), abi.Arrays(), model.shape
        # A team holds threads and scratch memory. A team that no call uses waits here.
        self._idle: list[c_void_p] = []
        widths = {
            "d_ffn": model.layers[0].experts[0].gate.row_m_O.size,
            "stack_d_ffn": model.stacks[0][0].experts[0].gate.row_m_O.size if model.stacks else 0,
        }
        values = widths | {name: getattr(shape, name) for name in abi.SHAPE_FIELDS if name not in widths}
        handle, sizes, library = c_void_p(), byref(abi.NativeShape(**values)), self._library
        tables, packed = byref(abi.tables()), byref(arrays.weights(model))
        hybrid = abi.hybrid_view(shape)
        if hybrid is None:
            status = library.s7_model_create(sizes, tables, packed, ISAS[self.isa], byref(handle))
        else:
            marks, isa_number = arrays.summaries(model), ISAS[self.isa]
            create = library.s7_hybrid_model_create
            status = create(sizes, byref(hybrid), tables, packed, marks, isa_number, byref(handle))
        check_status(self._library, status, f"take this model on {self.isa}")
        self.handle = handle
        with self.team():
            # Threads that cannot be created are reported here, not in the middle of a prompt.
            pass

    def __del__(self) -> None:
        for team in getattr(self, "_idle", []):
            self._library.s7_team_free(team)
        if handle := getattr(self, "handle", None):
            self._library.s7_model_free(handle)

    @contextmanager
    def team(self) -> Iterator[c_void_p]:
        """Yield threads and scratch memory for one call. Raises SevenfoldError or StorageError when
        they cannot be had.
        """
        try:
            team = self._idle.pop()
        except IndexError:
            team = c_void_p()
            status = self._library.s7_team_create(self.handle, self.n_threads, byref(team))
            check_status(self._library, status, f"start {self.n_threads} threads")
        try:
            yield team
        finally:
            self._idle.append(team)

    @property
    def detail(self) -> str:
        """Return the instruction set and the number of threads."""
        return f"{self.isa}, {self.n_threads} thread{'s' if self.n_threads > 1 else ''}"

    @property
    def n_bytes(self) -> int:
        """Return the memory of the packed weights, in bytes."""
        return int(self._library.s7_model_bytes(self.handle))

    def session(self) -> NativeSession:
        """Return an empty KV cache. Raises StorageError when there is no memory for it."""
        handle = c_void_p()
        check_status(
            self._library, self._library.s7_session_create(self.handle, byref(handle)), "open a session"
        )
        return NativeSession(self, handle)

    def forward_batch(
        self, calls: Sequence[tuple[NativeSession, Ints]], *, last_only: bool = True
    ) -> list[Ints]:
        """Run `Session.forward` for several sequences at once, each with its own length.

        The bits are those of single calls.

        Returns:
            logits of each sequence, [1, V], or [T, V] for last_only=False.

        Raises:
            GateError: what `Session.forward` refuses, no calls, or a repeated session; nothing is
                changed.
        """
        logits = [
            np.empty((1 if last_only else np.size(ids), self.model.shape.vocab_size), np.int32)
            for _, ids in calls
        ]
        with self._runs(calls, logits) as runs, self.team() as team:
            check_status(self._library, self._library.s7_forward(team, runs, len(runs)), "run these ids")
        return [as_ints(rows) for rows in logits]

    def greedy_batch(
        self, calls: Sequence[tuple[NativeSession, Ints]], n_tokens: int, *, stop: int | None = None
    ) -> list[list[int]]:
        """Append ids to several sequences, then take up to `n_tokens` greedy steps of each in one
        call.

        Ties go to the lowest id. The last token is not appended. A token equal to `stop` ends its
        sequence and is returned.

        Raises:
            GateError: what `forward_batch` refuses, or ids and tokens exceed the context; nothing
                is changed.
        """
        if n_tokens < 1:
            raise GateError(f"{n_tokens} tokens", remedy="ask for at least one token")
        tokens = np.empty((len(calls), n_tokens), np.int32)
        n_made = np.zeros(len(calls), np.int32)
        with self._runs(calls, [None] * len(calls), [n_tokens - 1] * len(calls)) as runs, self.team() as team:
            status = self._library.s7_greedy(
                team,
                runs,
                len(runs),
                -1 if stop is None else stop,
                tokens.ctypes.data,
                n_tokens,
                n_made.ctypes.data,
            )
            check_status(self._library, status, "run these ids")
        return [row[:n].tolist() for row, n in zip(tokens, n_made, strict=True)]

    def decode_batch(
        self,
        calls: Sequence[tuple[NativeSession, Ints]],
        limits: Sequence[int],
        *,
        stop: int | None = None,
        interrupt: c_int32 | None = None,
    ) -> list[list[int]]:
        """Append ids to several sequences, then take up to `limits[i]` greedy steps of sequence i.

        With a limit of 0 the ids are only read. When another thread writes `interrupt`, all
        sequences end after the running step, so a caller waits for at most one step.

        Raises:
            GateError: what `greedy_batch` refuses, or a negative limit; nothing is changed.
        """
        n_tokens = max(limits, default=0)
        if min(limits, default=0) < 0:
            raise GateError(f"{min(limits)} tokens", remedy="ask for none at least")
        tokens = np.empty((len(calls), max(1, n_tokens)), np.int32)
        n_made = np.zeros(len(calls), np.int32)
        most = (c_int32 * len(calls))(*limits)
        more = [max(0, limit - 1) for limit in limits]
        with self._runs(calls, [None] * len(calls), more) as runs, self.team() as team:
            status = self._library.s7_decode(
                team, runs, most, len(runs), -1 if stop is None else stop, tokens.ctypes.data,
                tokens.shape[1], n_made.ctypes.data, None if interrupt is None else byref(interrupt),
            )  # fmt: skip
            check_status(self._library, status, "run these ids")
        return [row[:n].tolist() for row, n in zip(tokens, n_made.tolist(), strict=True)]

    @contextmanager
    def _runs(
        self,
        calls: Sequence[tuple[NativeSession, Ints]],
        logits: Sequence[NDArray[np.int32] | None],
        n_more: Sequence[int] = (),
    ) -> Iterator[Any]:
        """Yield the checked structures of a call, with every session locked. `n_more[i]` positions
        follow the ids of call i; without `n_more` none follow.
        """
        sessions = [session for session, _ in calls]
        if not calls or len({id(session) for session in sessions}) < len(sessions):
            raise GateError(
                "a batch is empty, or a session is in it twice", remedy="give each session once, one at least"
            )
        # All callers lock in one order, so that two batches cannot wait for each other.
        order = sorted(sessions, key=id)
        for session in order:
            session.lock.acquire()
        try:
            runs, kept = (abi.NativeRun * len(calls))(), []
            for place, (run, (session, ids), rows) in enumerate(zip(runs, calls, logits, strict=True)):
                narrow = self._checked(session, ids, n_more[place] if n_more else 0)
                kept.append(narrow)
                run.session, run.ids, run.n_ids = session.handle, narrow.ctypes.data, narrow.size
                if rows is not None:
                    run.logits, run.n_logits = rows.ctypes.data, len(rows)
            yield runs
        finally:
            for session in order:
                session.lock.release()

    def _checked(self, session: NativeSession, ids: Ints, n_more: int) -> NDArray[np.int32]:
        wide = as_ints(ids)
        check_ids(self.model, wide, session.held())
        needed, context = session.held() + wide.size + n_more, self.model.shape.context
        if needed > context:
            raise GateError(f"{needed} tokens exceed the context of {context}", remedy="ask for fewer tokens")
        return np.ascontiguousarray(wide, np.int32)


class NativeSession:
    """One KV cache, in pages of 64 positions.

    A lock makes calls from several threads wait for each other.
    """

    def __init__(self, engine: NativeEngine, handle: c_void_p) -> None:
        # A session uses the memory of the model, so it keeps this reference.
        self.engine = engine
        self.lock = threading.Lock()
        self._library, self._handle = engine._library, handle

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Free the cache. Later calls raise GateError. Closing twice is allowed."""
        with self.lock:
            handle, self._handle = self._handle, c_void_p()
            self._library.s7_session_free(handle)

    @property
    def handle(self) -> c_void_p:
        """Return the handle of the sequence in the library. Raises GateError when the session is
        closed.
        """
        if not self._handle:
            raise GateError("the session is closed", remedy="open another")
        return self._handle

    def held(self) -> int:
        """Return the number of held positions, for a caller that has the lock."""
        return int(self._library.s7_session_length(self.handle))

    @property
    def length(self) -> int:
        """Return the number of held positions."""
        with self.lock:
            return self.held()

    @property
    def n_bytes(self) -> int:
        """Return the bytes of keys and values. Pages shared with other sessions are counted."""
        with self.lock:
            return int(self._library.s7_session_bytes(self.handle))

    def forward(self, ids: Ints, *, last_only: bool = False) -> Ints:
        """Return the logits of `ids` after the cached prefix, [T, V] (or [1,
        V]): as `reference.forward`.

        Raises:
            GateError: an id outside the vocabulary, no ids, more positions than the context has, or
                a closed session.
        """
        return self.engine.forward_batch([(self, ids)], last_only=last_only)[0]

    def greedy(self, ids: Ints, n_tokens: int, *, stop: int | None = None) -> list[int]:
        """Return the result of `Engine.greedy_batch` for this sequence alone."""
        return self.engine.greedy_batch([(self, ids)], n_tokens, stop=stop)[0]

    def generate(
        self, ids: Ints, n_tokens: int, stops: Sequence[int] = ()
    ) -> tuple[list[int], NDArray[np.int32]]:
        """Append ids, then take up to `n_tokens` greedy steps in one call.

        Ties go to the lowest id. The last token is not appended. A token among `stops` ends the
        steps and is returned.

        Returns:
            the tokens, at least one, and the logits of each, [tokens, V].

        Raises:
            GateError: as `greedy_batch`.
        """
        engine = self.engine
        rows = np.empty((n_tokens, engine.model.shape.vocab_size), np.int32)
        tokens, n_made = (c_int32 * n_tokens)(), c_int32()
        ends = (c_int32 * len(stops))(*stops)
        with self.lock, engine.team() as team:
            narrow = engine._checked(self, ids, n_tokens - 1)
            run = abi.NativeRun(
                self.handle, narrow.ctypes.data, narrow.size, n_tokens, rows.ctypes.data
            )  # fmt: skip
            status = self._library.s7_generate(
                team, byref(run), ends, len(ends), tokens, n_tokens, byref(n_made)
            )
            check_status(self._library, status, "run these ids")
        return tokens[: n_made.value], rows[: n_made.value]

    @property
    def least_length(self) -> int:
        """Return the least length but 0 to which it can be taken back (hybrid: 64 positions)."""
        with self.lock:
            return int(self._library.s7_session_least(self.handle))

    def nearest(self, length: int) -> int:
        """Return the greatest length up to `length` to which the session can be taken back."""
        return length if length >= self.least_length else 0

    def fork(self, length: int | None = None) -> NativeSession:
        """Return a second sequence with the first `length` positions (all, if None).

        Whole pages are shared and not copied.

        Raises:
            GateError: more positions than are held, or a closed session.
            StorageError: there is no memory.
        """
        handle = c_void_p()
        with self.lock:
            length = self._position(length)
            status = self._library.s7_session_fork(self.handle, length, byref(handle))
        check_status(self._library, status, "fork a session")
        return NativeSession(self.engine, handle)

    def truncate(self, length: int) -> None:
        """Keep only the first `length` positions.

        Raises GateError for more positions than are held, or a closed session.
        """
        with self.lock:
            status = self._library.s7_session_truncate(self.handle, self._position(length))
        check_status(self._library, status, "truncate a session")

    def _position(self, length: int | None) -> int:
        held = self.held()
        if length is None:
            return held
        if not 0 <= length <= held:
            raise GateError(f"position {length} of a session of {held}", remedy=f"use 0 to {held}")
        least = int(self._library.s7_session_least(self.handle))
        if 0 < length < least:
            raise GateError(
                f"position {length} of a session of {held} is gone (hybrid attention)",
                remedy=f"use 0, or {least} to {held}",
            )
        return length

    def key_values(self, layer: int) -> tuple[KeyValues, KeyValues]:
        """Return the keys and values of one layer in the form of specs/arithmetic.md."""
        shape = self.engine.model.shape
        with self.lock:
            dims = (self.held(), shape.n_kv_heads)
            held = []
            for values in (0, 1):
                codes = np.empty((*dims, shape.head_dim), np.int8)
                m, e = np.empty(dims, np.int32), np.empty(dims, np.int32)
                status = self._library.s7_session_kv(
                    self.handle,
                    layer,
                    values,
                    codes.ctypes.data,
                    codes.size,
                    m.ctypes.data,
                    e.ctypes.data,
                    m.size,
                )
                check_status(self._library, status, f"show layer {layer}")
                held.append(KeyValues(as_ints(codes), as_ints(m), as_ints(e)))
        return held[0], held[1]
