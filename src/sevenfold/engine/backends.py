"""The backends of the engine: a table, fastest first, and a self-test that needs no file."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from sevenfold.core.errors import SevenfoldError, UsageError
from sevenfold.core.numbers.fixed import Ints
from sevenfold.engine import native, reference
from sevenfold.engine.ops import Norm, QuantizedLinear
from sevenfold.engine.weights import FeedForwardWeights, IntegerModel, Layer, ModelShape


class EngineSession(Protocol):
    """One KV cache on an engine."""

    def forward(self, ids: Ints, *, last_only: bool = False) -> Ints:
        """Return what `reference.forward` returns."""

    def close(self) -> None:
        """Free the cache."""


class Engine(Protocol):
    """A model on a backend."""

    @property
    def name(self) -> str:
        """Return the name of the backend."""

    @property
    def detail(self) -> str:
        """Return a description of how the backend runs, such as its instruction set."""

    def session(self) -> EngineSession:
        """Return an empty KV cache."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One backend: how to create it (None chooses the number of threads), why it is unavailable
    here, and why it does not take a model.
    """

    make: Callable[[IntegerModel, int | None], Engine]
    unavailable: Callable[[], str | None]
    # Returns why it does not take a model; None when it does.
    refuses: Callable[[IntegerModel], str | None] = lambda _model: None
    # Whether it is used only by its name, and never chosen for a session.
    by_name_only: bool = False


def _torch_engine(model: IntegerModel, _: int | None) -> Engine:
    # Loading PyTorch takes a second.
    from sevenfold.engine.pytorch.torch_backend import TorchEngine

    return TorchEngine(model)


def _torch_unavailable() -> str | None:
    found = importlib.util.find_spec("torch")
    return None if found else "PyTorch is not installed (pip install 'sevenfold[train]')"


def _refuses_hybrid(model: IntegerModel) -> str | None:
    return "it computes version 1 of the law, without hybrid attention" if model.shape.hybrid else None


BACKENDS = {
    native.NAME: Backend(
        make=lambda model, n: native.NativeEngine(model, n_threads=n),
        unavailable=lambda: native.unavailable(),
    ),
    "torch": Backend(
        make=_torch_engine, unavailable=_torch_unavailable, refuses=_refuses_hybrid, by_name_only=True
    ),
    reference.NAME: Backend(
        make=lambda model, _: reference.ReferenceEngine(model), unavailable=reference.unavailable
    ),
}


def available(model: IntegerModel | None = None) -> list[str]:
    """Return the backends for sessions that this machine can run (and that take `model`), fastest
    first. The reference is always the last.
    """
    here = [n for n, b in BACKENDS.items() if b.unavailable() is None and not b.by_name_only]
    return [name for name in here if model is None or BACKENDS[name].refuses(model) is None]


def find_backend(name: str) -> Backend:
    """Return a backend by name. Raises UsageError when there is none, or it is not available here."""
    if name not in BACKENDS:
        raise UsageError(
            f"no backend {name!r}", where="--backend", remedy=f"use one of {', '.join(BACKENDS)}"
        )
    if reason := BACKENDS[name].unavailable():
        raise UsageError(f"backend {name!r} is not available: {reason}", remedy="use --backend reference")
    return BACKENDS[name]


def make_engine(name: str, model: IntegerModel, n_threads: int | None = None) -> Engine:
    """Return the model on a backend. `n_threads` applies to backends with threads.

    Raises:
        UsageError: the backend is unknown, unavailable here, or does not take this model.
    """
    backend = find_backend(name)
    if reason := backend.refuses(model):
        raise UsageError(
            f"backend {name!r} does not take this model: {reason}", remedy="use --backend reference"
        )
    return backend.make(model, n_threads)


# A small model for the self-test without a file. It has two routed experts, grouped heads, and
# sizes that fill no vector.
_SHAPE = ModelShape(
    d_model=36, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=10, vocab_size=53, context=80, n_experts=2,
    residual_exponent=16, score_m=48022, score_e=30,
)  # fmt: skip
_FFN, _TOKENS = 23, 70


def _numbers(label: str, count: int, low: int, high: int) -> Ints:
    """Return `count` integers in [low, high], the same on every machine."""
    raw = hashlib.shake_256(label.encode()).digest(4 * count)
    return low + np.frombuffer(raw, ">u4").astype(np.int64) % (high - low + 1)


def built_in_model() -> IntegerModel:
    """Return the built-in model of random integers, which needs no file."""
    s = _SHAPE

    def linear(name: str, n_out: int, n_in: int) -> QuantizedLinear:
        return QuantizedLinear(
            codes_OI=_numbers(name, n_in * n_out, -127, 127).reshape(n_out, n_in).astype(np.int8),
            row_m_O=_numbers(f"{name}.m", n_out, 32768, 65535).astype(np.int32),
            row_s_O=_numbers(f"{name}.s", n_out, 16, 22).astype(np.int32),
            exponent=25,
        )

    def norm(name: str) -> Norm:
        return Norm(gain_D=_numbers(name, s.d_model, -32768, 32767), exponent=11, eps=343597)

    def ffn(name: str) -> FeedForwardWeights:
        return FeedForwardWeights(
            # The values of |g| are on both sides of 16.
            gate=replace(linear(f"{name}.gate", _FFN, s.d_model), exponent=23),
            up=linear(f"{name}.up", _FFN, s.d_model),
            down=linear(f"{name}.down", s.d_model, _FFN),
        )

    d_q, d_kv = s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim
    layers = tuple(
        Layer(
            attn_norm=norm(f"{i}.attn"),
            q=linear(f"{i}.q", d_q, s.d_model),
            k=linear(f"{i}.k", d_kv, s.d_model),
            v=linear(f"{i}.v", d_kv, s.d_model),
            o=linear(f"{i}.o", s.d_model, d_q),
            ffn_norm=norm(f"{i}.ffn"),
            experts=tuple(ffn(f"{i}.{e}") for e in range(s.n_experts)),
        )
        for i in range(s.n_layers)
    )
    return IntegerModel(
        shape=s,
        embedding_VD=_numbers("embedding", s.vocab_size * s.d_model, -127, 127)
        .reshape(s.vocab_size, s.d_model)
        .astype(np.int8),
        embedding_m_V=_numbers("embedding.m", s.vocab_size, 32768, 65535).astype(np.int32),
        embedding_s_V=_numbers("embedding.s", s.vocab_size, 4, 8).astype(np.int32),
        rope_CP2=_numbers("rope", s.context * s.head_dim, -32767, 32767)
        .astype(np.int16)
        .reshape(s.context, s.head_dim // 2, 2),
        router_V=np.arange(s.vocab_size, dtype=np.int64) % s.n_experts,
        layers=layers,
        final_norm=norm("final"),
        head=linear("head", s.vocab_size, s.d_model),
    )


def self_test(name: str) -> str:
    """Compare a backend with the reference on the built-in model, in one call and token by token.

    Returns:
        a description of how it runs ("avx512", "NumPy").

    Raises:
        SevenfoldError: a bit differs.
        UsageError: the backend is unknown or unavailable here.
    """
    model = built_in_model()
    engine = make_engine(name, model)
    ids = _numbers("ids", _TOKENS, 0, model.shape.vocab_size - 1)
    expected = reference.ReferenceEngine(model).session().forward(ids)
    at_once, stepped = engine.session(), engine.session()
    same = np.array_equal(at_once.forward(ids), expected)
    for index in range(_TOKENS):
        row = stepped.forward(ids[index : index + 1], last_only=True)
        same = same and np.array_equal(row[0], expected[index])
    at_once.close()
    stepped.close()
    if not same:
        raise SevenfoldError(
            f"backend {name!r} ({engine.detail}) gives other logits than the reference",
            remedy="do not use this backend on this machine; please report it",
        )
    return engine.detail
