"""The native engine: native/ behind its one C header (native/s7.h), called through ctypes, which releases the GIL.

Equal bit for bit to the reference. The library is built by scripts/setup.sh into `_native/` beside this file; an
installation without it runs on the reference. The tables go to the library from `core.tables`, so that there is one copy.
Legend of shape suffixes: as in `ops`.
"""

from __future__ import annotations

import ctypes
import os
import threading
from ctypes import POINTER, Structure, byref, c_char_p, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sevenfold.core import fixed
from sevenfold.core.errors import GateError, SevenfoldError, StorageError, UsageError
from sevenfold.core.fixed import Ints, as_ints
from sevenfold.engine.ops import LONG_CONTEXT, Linear, Norm
from sevenfold.engine.reference import check_ids
from sevenfold.engine.weights import FeedForward, IntegerModel, Layer

NAME = "native"
LIBRARY = Path(__file__).resolve().parent / "_native" / "libs7.so"
ABI = 1
ISAS = ("scalar", "avx2", "avx512")  # in the order of s7_isa; the last that the machine has is chosen
ISA_VARIABLE = "S7_ISA"
_OK, _NO_MEMORY = 0, 4
_SHAPE_FIELDS = [
    "d_model",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "d_ffn",
    "vocab_size",
    "context",
    "n_experts",
    "residual_exponent",
    "score_m",
    "score_e",
]


class _Shape(Structure):
    _fields_ = [(name, c_int32) for name in _SHAPE_FIELDS]


class _Linear(Structure):
    _fields_ = [
        ("codes", c_void_p), ("row_m", c_void_p), ("row_s", c_void_p),
        ("n_out", c_int32), ("n_in", c_int32), ("exponent", c_int32),
    ]  # fmt: skip


class _Norm(Structure):
    _fields_ = [("gain", c_void_p), ("eps", c_int64), ("n", c_int32), ("exponent", c_int32)]


class _FeedForward(Structure):
    _fields_ = [("gate", _Linear), ("up", _Linear), ("down", _Linear)]


class _Layer(Structure):
    _fields_ = [
        ("attn_norm", _Norm), ("ffn_norm", _Norm),
        ("q", _Linear), ("k", _Linear), ("v", _Linear), ("o", _Linear),
        ("experts", POINTER(_FeedForward)),
    ]  # fmt: skip


class _Tables(Structure):
    _fields_ = [("exp2", c_int32 * 65), ("sigmoid", c_int32 * 513), ("rsqrt", c_int32 * 192)]


class _Weights(Structure):
    _fields_ = [
        ("embedding", _Linear), ("cos_sin", c_void_p), ("n_cos_sin", c_int64), ("router", c_void_p),
        ("layers", POINTER(_Layer)), ("final_norm", _Norm), ("head", _Linear),
    ]  # fmt: skip


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "s7_abi": (c_int32, []),
    "s7_status_text": (c_char_p, [c_int32]),
    "s7_isa_supported": (c_int32, [c_int32]),
    "s7_model_create": (
        c_int32,
        [POINTER(_Shape), POINTER(_Tables), POINTER(_Weights), c_int32, POINTER(c_void_p)],
    ),
    "s7_model_free": (None, [c_void_p]),
    "s7_session_create": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "s7_session_free": (None, [c_void_p]),
    "s7_session_length": (c_int32, [c_void_p]),
    "s7_forward": (c_int32, [c_void_p, c_void_p, c_int32, c_int32, c_void_p, c_int64]),
    "s7_session_kv": (
        c_int32,
        [c_void_p, c_int32, c_int32, c_void_p, c_int64, c_void_p, c_void_p, c_int64],
    ),
}


class KeyValues(NamedTuple):
    """What a cache holds of one layer: codes [S, K, E], scales [S, K]."""

    codes: Ints
    m: Ints
    e: Ints


@cache
def _load(path: Path) -> ctypes.CDLL:
    """The library. Raises OSError when it cannot be loaded, or is of another version."""
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise OSError(f"{path.name} has no {name}") from error
        function.restype, function.argtypes = result, arguments
    if library.s7_abi() != ABI:
        raise OSError(f"{path.name} is of interface {library.s7_abi()}, this package needs {ABI}")
    return library


def unavailable() -> str | None:
    """Why this backend cannot run here; None when it can."""
    if not LIBRARY.is_file():
        return f"{LIBRARY.name} was not built (a C++20 compiler and scripts/setup.sh make it)"
    try:
        _load(LIBRARY)
    except OSError as error:
        return f"{LIBRARY.name} does not load: {error}"
    return None


def refuses(model: IntegerModel) -> str | None:
    """Why this backend does not take a model; None when it does."""
    if model.stacks:
        return "it has expert stacks"
    if model.shape.context > LONG_CONTEXT:
        return f"its context is {model.shape.context}, past {LONG_CONTEXT}"
    return None


def _library() -> ctypes.CDLL:
    if reason := unavailable():
        raise UsageError(f"the native engine is not available: {reason}", remedy="use --backend reference")
    return _load(LIBRARY)


def instruction_sets() -> list[str]:
    """Instruction sets that this machine and this build have, narrowest first."""
    library = _library()
    return [name for index, name in enumerate(ISAS) if library.s7_isa_supported(index)]


def choose_isa() -> str:
    """The widest instruction set, or the one that S7_ISA names. Raises UsageError when that is not there."""
    here = instruction_sets()
    wanted = os.environ.get(ISA_VARIABLE) or here[-1]
    if wanted not in here:
        known = "is no instruction set" if wanted not in ISAS else "is not on this machine"
        raise UsageError(f"{wanted!r} {known}", where=ISA_VARIABLE, remedy=f"use one of {', '.join(here)}")
    return wanted


def _check(library: ctypes.CDLL, status: int, what: str) -> None:
    """Raise what a status means, unless it is none."""
    if status == _OK:
        return
    text = f"the native engine cannot {what}: {library.s7_status_text(status).decode()}"
    if status == _NO_MEMORY:
        raise StorageError(text, remedy="give the process more memory, or use a model of a smaller context")
    raise SevenfoldError(text, remedy="please report it")


class _Arrays:
    """Structures over arrays, which are kept alive as long as this object."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def pointer(self, values: Any, dtype: type) -> int:
        array: NDArray[Any] = np.ascontiguousarray(values, dtype)
        self.kept.append(array)
        return int(array.ctypes.data)

    def projection(self, codes_OI: Any, m: Ints, s: Ints, exponent: int) -> _Linear:
        n_out, n_in = codes_OI.shape
        return _Linear(
            self.pointer(codes_OI, np.int8), self.pointer(m, np.uint16), self.pointer(s, np.uint16),
            n_out, n_in, exponent,
        )  # fmt: skip

    def linear(self, layer: Linear) -> _Linear:
        return self.projection(layer.weight_IO.T, layer.row_m_O, layer.row_s_O, layer.exponent)

    def norm(self, norm: Norm) -> _Norm:
        return _Norm(self.pointer(norm.gain_D, np.int16), norm.eps, norm.gain_D.size, norm.exponent)

    def feed_forward(self, ffn: FeedForward) -> _FeedForward:
        return _FeedForward(self.linear(ffn.gate), self.linear(ffn.up), self.linear(ffn.down))

    def layer(self, layer: Layer) -> _Layer:
        experts = (_FeedForward * len(layer.experts))(*(self.feed_forward(f) for f in layer.experts))
        self.kept.append(experts)
        projections = (self.linear(w) for w in (layer.q, layer.k, layer.v, layer.o))
        return _Layer(self.norm(layer.attn_norm), self.norm(layer.ffn_norm), *projections, experts)

    def weights(self, model: IntegerModel) -> _Weights:
        layers = (_Layer * len(model.layers))(*(self.layer(layer) for layer in model.layers))
        self.kept.append(layers)
        embedding = self.projection(model.embedding_VD, model.embedding_m_V, model.embedding_s_V, 0)
        return _Weights(
            embedding, self.pointer(model.rope_CP2, np.int16), model.rope_CP2.size,
            self.pointer(model.router_V, np.uint8), layers, self.norm(model.final_norm), self.linear(model.head),
        )  # fmt: skip


def _tables() -> _Tables:
    exp2, sigmoid, rsqrt = (
        t.tolist() for t in (fixed.exp2_table(), fixed.sigmoid_table(), fixed.rsqrt_table())
    )
    return _Tables((c_int32 * 65)(*exp2), (c_int32 * 513)(*sigmoid), (c_int32 * 192)(*rsqrt))


class Engine:
    """A model packed for one instruction set. Never written after it is made; safe to share between threads."""

    name = NAME

    def __init__(self, model: IntegerModel, isa: str | None = None) -> None:
        self.model = model
        self.isa = isa or choose_isa()
        self._library, arrays, shape = _library(), _Arrays(), model.shape
        values = {name: getattr(shape, name) for name in _SHAPE_FIELDS if name != "d_ffn"}
        handle = c_void_p()
        status = self._library.s7_model_create(
            byref(_Shape(**values, d_ffn=model.layers[0].experts[0].gate.row_m_O.size)),
            byref(_tables()),
            byref(arrays.weights(model)),
            ISAS.index(self.isa),
            byref(handle),
        )
        _check(self._library, status, f"take this model on {self.isa}")
        self.handle = handle

    def __del__(self) -> None:
        if handle := getattr(self, "handle", None):
            self._library.s7_model_free(handle)

    @property
    def detail(self) -> str:
        """The instruction set."""
        return self.isa

    def session(self) -> Session:
        """An empty KV cache. Raises StorageError when there is no memory for it."""
        return Session(self)


class Session:
    """One KV cache. A lock makes calls from several threads wait for each other."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine  # a session borrows the model: this reference keeps it
        self._library, self._lock, handle = engine._library, threading.Lock(), c_void_p()
        _check(self._library, self._library.s7_session_create(engine.handle, byref(handle)), "open a session")
        self._handle: c_void_p | None = handle

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()

    def close(self) -> None:
        """Free the cache. Later calls raise GateError; closing twice is fine."""
        with self._lock:
            handle, self._handle = self._handle, None
            if handle is not None:
                self._library.s7_session_free(handle)

    def _open(self) -> c_void_p:
        if self._handle is None:
            raise GateError("the session is closed", remedy="open another")
        return self._handle

    @property
    def length(self) -> int:
        """Positions held."""
        with self._lock:
            return int(self._library.s7_session_length(self._open()))

    def forward(self, ids: Ints, *, last_only: bool = False) -> Ints:
        """Logits of `ids` after the cached prefix, [T, V] (or [1, V]): as `reference.forward`.

        Raises:
            GateError: an id outside the vocabulary, no ids, more positions than the context has, or a closed session.
        """
        ids = as_ints(ids)
        with self._lock:
            handle = self._open()
            check_ids(self.engine.model, ids, int(self._library.s7_session_length(handle)))
            narrow = np.ascontiguousarray(ids, np.int32)
            rows = 1 if last_only else ids.size
            logits = np.empty((rows, self.engine.model.shape.vocab_size), np.int32)
            status = self._library.s7_forward(
                handle, narrow.ctypes.data, narrow.size, int(last_only), logits.ctypes.data, logits.size
            )
        _check(self._library, status, "run these ids")
        return as_ints(logits)

    def key_values(self, layer: int) -> tuple[KeyValues, KeyValues]:
        """Keys and values of one layer, as the law stores them."""
        shape = self.engine.model.shape
        with self._lock:
            handle = self._open()
            dims = (int(self._library.s7_session_length(handle)), shape.n_kv_heads)
            held = []
            for values in (0, 1):
                codes = np.empty((*dims, shape.head_dim), np.int8)
                m, e = np.empty(dims, np.int32), np.empty(dims, np.int32)
                status = self._library.s7_session_kv(
                    handle, layer, values, codes.ctypes.data, codes.size, m.ctypes.data, e.ctypes.data, m.size
                )
                _check(self._library, status, f"show layer {layer}")
                held.append(KeyValues(as_ints(codes), as_ints(m), as_ints(e)))
        return held[0], held[1]
