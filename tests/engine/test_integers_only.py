"""Law 1: no floating-point value between token ids and argmax.

The whole forward runs on arrays of a class that refuses to hold, see or produce anything but
integers and truth values, under a NumPy whose every function gives such arrays; and the source of
the path holds no float literal, true division or call of a float function.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import ids, tiny

from sevenfold.core.numbers import fixed
from sevenfold.engine import ops, reference
from sevenfold.engine.reference import Cache, LayerCache, forward
from sevenfold.engine.weights import IntegerModel

ALLOWED_KINDS = "biu"
calls: set[str] = set()


class FloatError(Exception):
    """A value that is not an integer."""


def check(value: Any, where: str) -> None:
    """Refuse floats and complex numbers anywhere inside `value`."""
    if isinstance(value, (tuple, list)):
        for item in value:
            check(item, where)
    elif isinstance(value, dict):
        check(list(value.values()), where)
    elif isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind not in ALLOWED_KINDS:
            raise FloatError(f"{where}: {value.dtype}")
    elif isinstance(value, (float, complex)):
        raise FloatError(f"{where}: {value!r}")
    elif isinstance(value, (type, np.dtype)) and np.dtype(value).kind not in ALLOWED_KINDS:
        raise FloatError(f"{where}: asks for {value}")


def bare(value: Any) -> Any:
    """The same with plain arrays inside."""
    if isinstance(value, Whole):
        return value.view(np.ndarray)
    if isinstance(value, (tuple, list)):
        return type(value)(bare(v) for v in value)
    if isinstance(value, dict):
        return {k: bare(v) for k, v in value.items()}
    return value


def guarded(value: Any) -> Any:
    """The same with guarded arrays inside; numbers that NumPy returns
    become arrays of no dimension.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value).view(Whole)
    if isinstance(value, (tuple, list)):
        return type(value)(guarded(v) for v in value)
    return value


class Whole(np.ndarray):
    """An array of whole numbers, checked at every ufunc, every array function and every creation."""

    def __array_finalize__(self, source: Any) -> None:
        check(np.empty(0, self.dtype), "a new array")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        where = f"{ufunc.__name__}.{method}"
        calls.add(where)
        check((inputs, kwargs), where)
        result = getattr(ufunc, method)(*bare(inputs), **bare(kwargs))
        check(result, where)
        return guarded(result)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        calls.add(func.__name__)
        check((args, kwargs), func.__name__)
        result = func(*bare(args), **bare(kwargs))
        check(result, func.__name__)
        return guarded(result)

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        check(np.empty(0, dtype), "astype")
        return super().astype(dtype, *args, **kwargs)

    def view(self, *args: Any, **kwargs: Any) -> Any:
        for kind in (*args, *kwargs.values()):
            if not (isinstance(kind, type) and issubclass(kind, np.ndarray)):
                check(np.empty(0, kind), "view")
        return super().view(*args, **kwargs)


def guard(value: Any) -> Any:
    """A model or cache whose every array is guarded."""
    if isinstance(value, np.ndarray):
        return value.view(Whole)
    if isinstance(value, fixed.Scale):
        return fixed.Scale(*(guard(v) for v in value))
    if isinstance(value, tuple):
        return tuple(guard(v) for v in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: guard(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return type(value)(**fields)
    check(value, "a number of the model")
    return value


def guarded_cache(model: IntegerModel) -> Cache:
    held = Cache(model.shape)
    held.layers = [guard(layer) for layer in held.layers]
    return held


class GuardedNumPy:
    """NumPy, with functions that take whole numbers only and give guarded arrays
    (`asarray` would strip the guard).
    """

    def __getattr__(self, name: str) -> Any:
        original = getattr(np, name)
        if isinstance(original, (type, np.ufunc)) or not callable(original):
            return original

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.add(name)
            check((args, kwargs), name)
            result = original(*args, **kwargs)
            check(result, name)
            return guarded(result)

        return call


@pytest.fixture
def guard_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fixed, ops, reference):
        monkeypatch.setattr(module, "np", GuardedNumPy())
    for table in ("_EXP2", "_SIGMOID", "_RSQRT"):
        monkeypatch.setattr(fixed, table, guard(getattr(fixed, table)))
    calls.clear()


def generate(
    model: IntegerModel, held: Cache, prompt: np.ndarray, steps: int
) -> tuple[list[int], np.ndarray]:
    """Prefill, then greedy steps: the whole path from ids to argmax."""
    logits, tokens = forward(model, prompt, held), []
    for _ in range(steps):
        tokens.append(reference.argmax(logits[-1]))
        logits = forward(model, np.array(tokens[-1:]).view(type(prompt)), held, last_only=True)
    return tokens, logits


@pytest.mark.parametrize("shape", ["dense", "gqa", "moe"])
def test_the_forward_pass_sees_integers_only(shape: str, request: pytest.FixtureRequest) -> None:
    plain = tiny(shape).load()
    expected = generate(plain, Cache(plain.shape), ids(9), 4)
    request.getfixturevalue("guard_everything")
    model = guard(plain)
    held = guarded_cache(model)
    tokens, logits = generate(model, held, ids(9).view(Whole), 4)
    assert type(logits) is Whole, "the guard reached the end of the path"
    assert tokens == expected[0]
    assert np.array_equal(bare(logits), expected[1])
    assert all(
        type(getattr(layer, f.name)) is Whole for layer in held.layers for f in dataclasses.fields(LayerCache)
    )
    # The guard was on the path where it matters: products, sums, choices, shifts, table look-ups.
    for name in ("einsum", "sum", "where", "max", "argmax", "split", "concatenate", "stack", "transpose"):
        assert name in calls, name
    for name in ("multiply", "left_shift", "right_shift", "floor_divide", "bitwise_count", "absolute"):
        assert f"{name}.__call__" in calls, name


def halved(v: Any, *_: Any) -> Any:
    return (v / 2).astype(np.int64)


def by_root(v: Any, *_: Any) -> Any:
    return np.sqrt(np.abs(v)).astype(np.int64)


def by_mean(v: Any, *_: Any) -> Any:
    return v - np.mean(v, axis=-1, keepdims=True).astype(np.int64)


def by_cast(v: Any, *_: Any) -> Any:
    return v.astype(np.float32).astype(np.int64)


def by_scalar(v: Any, *_: Any) -> Any:
    return np.multiply(v, 1.0).astype(np.int64)


def by_view(v: Any, *_: Any) -> Any:
    return v.view(np.float64).view(np.int64)


def by_strip(v: Any, *_: Any) -> Any:
    return (ops.np.asarray(v) * 0.5).astype(np.int64)


def by_creation(v: Any, *_: Any) -> Any:
    return v + ops.np.zeros(v.shape).astype(np.int64)


FLOAT_OPS = [halved, by_root, by_mean, by_cast, by_scalar, by_view, by_strip, by_creation]


@pytest.mark.parametrize("float_op", FLOAT_OPS)
@pytest.mark.parametrize("place", ["saturate32", "add_residual", "embed"])
def test_an_injected_float_is_caught(
    place: str, float_op: Callable[..., Any], guard_everything: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = guard(tiny("dense").load())
    original = getattr(ops, place)

    def with_float(v: Any, *args: Any) -> Any:
        return original(float_op(v), *args)

    monkeypatch.setattr(ops, place, with_float)
    with pytest.raises(FloatError):
        forward(model, ids(5).view(Whole), guarded_cache(model))


def test_einsum_with_floats_is_caught(guard_everything: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = guard(tiny("dense").load())

    def float_matmul(codes: Any, weight: Any) -> Any:
        return np.einsum("ti,io->to", codes, weight, dtype=np.float64, casting="unsafe").astype(np.int64)

    monkeypatch.setattr(ops, "matmul", float_matmul)
    with pytest.raises(FloatError, match="einsum"):
        forward(model, ids(5).view(Whole), guarded_cache(model))


def test_a_float_in_the_model_is_caught() -> None:
    model = tiny("dense").load()
    norm = dataclasses.replace(model.final_norm, gain_D=model.final_norm.gain_D.astype(np.float64))
    with pytest.raises(FloatError):
        guard(dataclasses.replace(model, final_norm=norm))


def test_floats_do_not_enter_the_arithmetic() -> None:
    for bad in (np.array([1.0]), np.array([1j]), np.array([True]), 0.5, "1"):
        with pytest.raises(TypeError, match="integers expected"):
            fixed.as_ints(bad)


FLOAT_NAMES = {
    "float", "float16", "float32", "float64", "double", "mean", "sqrt", "exp", "exp2", "log", "log2",
    "true_divide",
    "divide", "power", "linspace", "round", "tanh", "softmax", "average", "std", "var", "ldexp", "frexp",
}  # fmt: skip


@pytest.mark.parametrize("module", [fixed, ops, reference], ids=lambda m: m.__name__)
def test_the_source_of_the_path_has_no_floats(module: Any) -> None:
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        where = f"{module.__name__}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Constant):
            assert not isinstance(node.value, (float, complex)), where
        if isinstance(node, (ast.BinOp, ast.AugAssign)):
            assert not isinstance(node.op, ast.Div), where
        # `tables.exp2()` is the integer table.
        if isinstance(node, ast.Attribute) and not (
            isinstance(node.value, ast.Name) and node.value.id == "tables"
        ):
            assert node.attr not in FLOAT_NAMES, where
        if isinstance(node, ast.Name):
            assert node.id not in FLOAT_NAMES, where
