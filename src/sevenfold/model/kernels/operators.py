"""The operators of specs/training-arithmetic.md on tensors: kernels of `native/train`, without
autograd.

All are FP32, on the CPU or on a GPU. The page defines every result to the bit. No sum, product or
function of a library takes part, and neither the number of threads nor the processor decides a bit.
`model.kernels.functions` adds their gradients.

Shape suffixes: N rows, I inputs, O outputs, D channels, V vocabulary, B batch, H heads, T
positions, E head_dim, P pairs.
"""

from __future__ import annotations

import ctypes
import math
from ctypes import c_double, c_float, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sevenfold.model import native
from sevenfold.model.kernels.observe import observed
from sevenfold.model.native import reduced_dtype

LAW = "training-arithmetic/1"
ISAS = ("", "scalar", "avx2", "avx512", "neon")


class _Product(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("a", "b", "c")),
        *((n, c_int64) for n in ("m", "n", "k", "a_row", "a_column", "b_row", "b_column", "c_row")),
        *((name, c_int32) for name in ("is_added", "n_threads")),
    ]


class _Turn(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("x", "cosine", "sine", "y")),
        *((name, c_int64) for name in ("n_batch", "n_heads", "length", "n_pairs")),
        *((f"{t}_{axis}", c_int64) for t in "xy" for axis in ("batch", "head", "position")),
        *((name, c_int32) for name in ("direction", "n_threads")),
    ]


class _Losses(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("logits", "target", "factor", "loss")),
        *((name, c_int64) for name in ("n_rows", "n")),
        ("n_threads", c_int32),
    ]


_ADAM_SCALARS = (
    "beta1", "one_minus_beta1", "beta2", "one_minus_beta2",
    "step_size", "root_correction", "eps", "decay", "added_decay",
)  # fmt: skip


class _Adam(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("weight", "mean", "square", "grad")),
        ("n", c_int64),
        *((name, c_float) for name in _ADAM_SCALARS),
        ("n_threads", c_int32),
    ]


@dataclass(frozen=True, kw_only=True)
class AdamScalars:
    """The numbers of one update. The call rounds them to FP32 (s7_adam_of of
    native/train/arithmetic.h).
    """

    beta1: float
    one_minus_beta1: float
    beta2: float
    one_minus_beta2: float
    step_size: float
    root_correction: float
    eps: float
    decay: float = 1.0
    added_decay: float = 0.0


def is_available(kind: str = "cpu") -> bool:
    """Return whether the kernels for a kind of device were built and run here. On a CPU, S7_ISA
    chooses the instruction set.
    """
    return native.is_available("s7_arithmetic_available", kind)


def is_taken(x: Tensor) -> bool:
    """Return whether these operators compute the next operation on x: in FP32, outside autocast."""
    return x.dtype == torch.float32 and is_available(x.device.type) and reduced_dtype(x) is None


def isa() -> str:
    """Return the instruction set in use; "" without one. It decides no bit."""
    found = native.library()
    return ISAS[found.s7_arithmetic_isa()] if found is not None else ""


def _at(tensor: Tensor | None) -> c_void_p:
    return c_void_p(None if tensor is None else tensor.data_ptr())


def _rows(tensor: Tensor) -> Tensor:
    """Return [..., D] as dense rows [N, D]."""
    return tensor.reshape(math.prod(tensor.shape[:-1]), tensor.shape[-1]).contiguous()


@observed(out=("c",), unless="is_added")
def matrix_product(a: Tensor, b: Tensor, c: Tensor, *, is_added: bool = False) -> Tensor:
    """Write c = a @ b, or c + a @ b, in which case the chain of a sum begins with c. Strided a [M,
    K] and b [K, N]; c [M, N] with dense rows.
    """
    product = _Product(
        a.data_ptr(), b.data_ptr(), c.data_ptr(), a.shape[0], b.shape[1], a.shape[1],
        *a.stride(), *b.stride(), c.stride(0), is_added, native.n_threads(),
    )  # fmt: skip
    native.call(a.device, "s7_product", ctypes.byref(product))
    return c


def project(x: Tensor, weight_OI: Tensor) -> Tensor:
    """Return x @ weight.T. [..., I] -> [..., O]."""
    x_NI = _rows(x)
    y_NO = x.new_empty(len(x_NI), len(weight_OI))
    return matrix_product(x_NI, weight_OI.t(), y_NO).view(*x.shape[:-1], len(weight_OI))


def input_slope(
    grad: Tensor, weight_OI: Tensor, into: Tensor | None = None, *, is_added: bool = True
) -> Tensor:
    """Return grad @ weight, [..., O] -> [..., I]. It is added to a dense `into` if one is given."""
    grad_NO = _rows(grad)
    shape = (*grad.shape[:-1], weight_OI.shape[1])
    to = grad.new_empty(shape) if into is None else into
    matrix_product(grad_NO, weight_OI, to.view(-1, shape[-1]), is_added=is_added and into is not None)
    return to


def weight_slope(grad: Tensor, x: Tensor, into: Tensor | None = None) -> Tensor:
    """Return grad.T @ x over all rows, [O, I]. It is added to `into` if one is given."""
    grad_NO, x_NI = _rows(grad), _rows(x)
    to = grad.new_empty(grad.shape[-1], x.shape[-1]) if into is None else into
    return matrix_product(grad_NO.t(), x_NI, to, is_added=into is not None)


@observed()
def norm(x: Tensor, gain_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the RMSNorm of dense x [..., D], and the scale of each row, which the gradient needs."""
    y, scale = torch.empty_like(x), x.new_empty(x.shape[:-1])
    native.call(
        x.device, "s7_norm", _at(x), _at(gain_D), c_float(eps), _at(y), _at(scale),
        c_int64(scale.numel()), c_int64(x.shape[-1]), native.n_threads(),
    )  # fmt: skip
    return y, scale


@observed()
def norm_slope(
    x: Tensor, gain_D: Tensor, scale: Tensor, grad: Tensor, beside: Tensor | None, *, is_trained: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the gradient of x, with `beside` added, and that of the gain unless it is frozen. All
    are dense.
    """
    grad_x, grad_gain = torch.empty_like(x), torch.empty_like(gain_D) if is_trained else None
    native.call(
        x.device, "s7_norm_slope",
        _at(x), _at(gain_D), _at(scale), _at(grad), _at(beside), _at(grad_x), _at(grad_gain),
        c_int64(scale.numel()), c_int64(x.shape[-1]), native.n_threads(),
    )  # fmt: skip
    return grad_x, grad_gain


@observed()
def gate(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up of dense tensors with one shape."""
    y = torch.empty_like(gate)
    native.call(gate.device, "s7_gate", _at(gate), _at(up), _at(y), c_int64(y.numel()), native.n_threads())
    return y


@observed()
def gate_slope(gate: Tensor, up: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of both factors of `gate`. All are dense."""
    out = torch.empty_like(gate), torch.empty_like(up)
    pointers = (_at(t) for t in (gate, up, grad, *out))
    native.call(gate.device, "s7_gate_slope", *pointers, c_int64(gate.numel()), native.n_threads())
    return out


@observed(out=("y_BHTE",))
def rotate(x_BHTE: Tensor, cos_TP: Tensor, sin_TP: Tensor, y_BHTE: Tensor, *, back: bool = False) -> None:
    """Rotate the vectors of each head by their position, or back, into y. The last axes are
    adjacent, and other strides are free.
    """
    n_batch, n_heads, length, _ = x_BHTE.shape
    strides = [t.stride(axis) for t in (x_BHTE, y_BHTE) for axis in range(3)]
    turn = _Turn(
        *(t.data_ptr() for t in (x_BHTE, cos_TP, sin_TP, y_BHTE)),
        n_batch, n_heads, length, cos_TP.shape[1], *strides, -1 if back else 1, native.n_threads(),
    )  # fmt: skip
    native.call(x_BHTE.device, "s7_rotate", ctypes.byref(turn))


def rotation_tables(frequencies: list[float], temperature: float, length: int) -> tuple[Tensor, Tensor]:
    """Return cos and sin of position times frequency, each times temperature, [T, P], on the CPU."""
    given = (c_double * len(frequencies))(*frequencies)
    cos_TP, sin_TP = (torch.empty(length, len(frequencies)) for _ in range(2))
    native.call(
        cos_TP.device, "s7_rotation_tables", given, c_double(temperature), _at(cos_TP), _at(sin_TP),
        c_int64(length), c_int64(len(frequencies)),
    )  # fmt: skip
    return cos_TP, sin_TP


@observed(changed=("logits_NV",))
def losses(logits_NV: Tensor, target_N: Tensor, factor_N: Tensor | None) -> Tensor:
    """Return the cross entropies [N] (nats). With a factor, the logits become their gradients times
    the factor. All are dense.
    """
    loss_N = logits_NV.new_empty(len(logits_NV))
    call = _Losses(
        logits_NV.data_ptr(), target_N.data_ptr(), None if factor_N is None else factor_N.data_ptr(),
        loss_N.data_ptr(), *logits_NV.shape, native.n_threads(),
    )  # fmt: skip
    native.call(logits_NV.device, "s7_losses", ctypes.byref(call))
    return loss_N


@observed(changed=("table_VD",))
def scatter_add(ids: Tensor, grad: Tensor, table_VD: Tensor) -> None:
    """Add grad[i] to table[ids[i]] for ascending i. ids int64, grad [..., D] and the table are
    dense.
    """
    native.call(
        grad.device, "s7_scatter_add", _at(ids), _at(grad), _at(table_VD), c_int64(ids.numel()),
        *(c_int64(n) for n in table_VD.shape), native.n_threads(),
    )  # fmt: skip


@observed(out=("out",))
def add(x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    """Return x + y of dense tensors with one shape. `out` may be x."""
    out = torch.empty_like(x) if out is None else out
    native.call(x.device, "s7_add", _at(x), _at(y), _at(out), c_int64(x.numel()), native.n_threads())
    return out


@observed(out=("out",))
def scale(x: Tensor, factor: float, out: Tensor | None = None) -> Tensor:
    """Return x * factor, dense. `out` may be x. The factor is rounded to FP32."""
    out = torch.empty_like(x) if out is None else out
    native.call(
        x.device, "s7_scale", _at(x), c_float(factor), _at(out), c_int64(x.numel()), native.n_threads()
    )
    return out


@observed()
def row_squares(x: Tensor) -> Tensor:
    """Return the sum of the squares of each row of dense x, [N]; of a vector, the square of each
    element.
    """
    sums, width = x.new_empty(len(x)), x[0].numel() if len(x) else 1
    native.call(
        x.device, "s7_row_squares", _at(x), _at(sums), c_int64(len(x)), c_int64(max(1, width)),
        native.n_threads(),
    )  # fmt: skip
    return sums


@observed()
def total(x: Tensor) -> float:
    """Return the sum of all elements of dense x in binary64, added in order."""
    found = c_double()
    native.call(x.device, "s7_sum", _at(x), c_int64(x.numel()), ctypes.byref(found))
    return found.value


@observed(changed=("weight", "mean", "square"))
def adam(weight: Tensor, mean: Tensor, square: Tensor, grad: Tensor, scalars: AdamScalars) -> None:
    """Apply one update in place to four dense tensors of one shape."""
    call = _Adam(
        *(t.data_ptr() for t in (weight, mean, square, grad)), weight.numel(),
        *(getattr(scalars, name) for name in _ADAM_SCALARS), native.n_threads(),
    )  # fmt: skip
    native.call(weight.device, "s7_adam", ctypes.byref(call))


def normal(shape: torch.Size, key: int, stream: int, std: float) -> Tensor:
    """Return the normal deviates of a stream under a 64-bit key, on the CPU."""
    to = torch.empty(shape)
    native.call(
        to.device, "s7_normal", c_uint64(key), c_uint64(stream), c_uint64(0), c_double(std), _at(to),
        c_int64(to.numel()), native.n_threads(),
    )  # fmt: skip
    return to


@observed()
def dropout(x: Tensor, share: float, key: int, stream: int) -> Tensor:
    """Return x with a share of its elements set to zero and the others divided by the remaining
    share. A gradient uses the same elements. x is dense.
    """
    y = torch.empty_like(x)
    native.call(
        x.device, "s7_dropout", c_uint64(key), c_uint64(stream), c_uint32(int(share * 2.0**32)),
        c_float(1.0 / (1.0 - share)), _at(x), _at(y), c_int64(x.numel()), native.n_threads(),
    )  # fmt: skip
    return y


@observed()
def nats(losses: Tensor, counted: Tensor | None) -> list[float]:
    """Return the sum of each row of token losses [B, T] over the tokens that count, in binary64,
    added in order.
    """
    rows = losses.cpu().numpy().astype(np.float64)
    if counted is not None:
        rows = np.where(counted.cpu().numpy() != 0, rows, 0.0)
    return [float(row[-1]) for row in np.add.accumulate(rows, axis=1)]
