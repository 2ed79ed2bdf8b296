"""The PyTorch engine: batches of independent sequences in integer tensors, on the CPU or on a CUDA
device.

It evaluates many windows at once, and uses machines whose integer speed is in a GPU. It equals the
reference bit for bit. With its operations in `torch_ops` it is the only part of the engine that
imports PyTorch, and `backends` imports it on request. Rows of all sequences share the projections.
Attention is computed for each sequence. Legend: as in `torch_ops`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sevenfold.core.errors import GateError, StorageError, UsageError
from sevenfold.core.numbers.fixed import INT32_MAX, INT32_MIN, MAX_SHIFT, Ints, as_ints
from sevenfold.engine.native import KeyValues
from sevenfold.engine.ops import LOGIT_FRACTION, QuantizedLinear
from sevenfold.engine.pytorch.torch_ops import (
    PASS_ROWS,
    SCORES,
    Arithmetic,
    ProjectionWeights,
    TScale,
    aligned,
    mulsh,
    shifted,
)
from sevenfold.engine.reference import check_ids
from sevenfold.engine.weights import FeedForwardWeights, IntegerModel, Layer, ModelShape

NAME = "torch"
# Positions of a new cache.
FIRST_ROWS = 64
# Alignment of the positions of a cache.
K, V = 0, 1


class _FeedForward(NamedTuple):
    gate_up: ProjectionWeights
    down: ProjectionWeights
    law: FeedForwardWeights


class _Layer(NamedTuple):
    attn_gain_D: Tensor
    qkv: ProjectionWeights
    o: ProjectionWeights
    ffn_gain_D: Tensor
    experts: tuple[_FeedForward, ...]
    law: Layer


class _Piece(NamedTuple):
    """The ids of one sequence in a pass, and the place for the logits of the last of them."""

    cache: _Cache
    ids: Ints
    logits_TV: Ints


def choose_device(device: str | None = None) -> torch.device:
    """Return the named device; without a name, CUDA if it is available. Raises UsageError."""
    here = torch.cuda.is_available()
    try:
        chosen = torch.device(device or ("cuda" if here else "cpu"))
    except RuntimeError as error:
        raise UsageError(f"{device!r} is no device of PyTorch", remedy="use cpu or cuda") from error
    if chosen.type not in ("cpu", "cuda") or (chosen.type == "cuda" and not here):
        raise UsageError(f"device {device!r} is not on this machine", remedy="use cpu")
    return chosen


class TorchEngine:
    """A model on one device. Calls from several threads wait for each other."""

    name = NAME

    def __init__(self, model: IntegerModel, device: str | None = None) -> None:
        self.model = model
        self.device = choose_device(device)
        self.law = law = Arithmetic(self.device)
        self.lock = threading.Lock()
        self._embedding_VD = law.tensor(as_ints(model.embedding_VD), torch.int8)
        self._embedding_V = TScale(law.tensor(model.embedding_m_V), law.tensor(model.embedding_s_V))
        self._rope_CP2 = law.tensor(model.rope_CP2)
        self._router_V = law.tensor(model.router_V)
        self._layers = [self._layer(layer) for layer in model.layers]
        self._stacks = [[self._layer(layer) for layer in stack] for stack in model.stacks]
        self._final_gain_D = law.tensor(model.final_norm.gain_D)
        self._head = law.weights(model.head)

    def _layer(self, layer: Layer) -> _Layer:
        law = self.law
        return _Layer(
            attn_gain_D=law.tensor(layer.attn_norm.gain_D),
            qkv=law.weights(layer.q, layer.k, layer.v),
            o=law.weights(layer.o),
            ffn_gain_D=law.tensor(layer.ffn_norm.gain_D),
            experts=tuple(
                _FeedForward(law.weights(f.gate, f.up), law.weights(f.down), f) for f in layer.experts
            ),
            law=layer,
        )

    @property
    def detail(self) -> str:
        """Return the device, and the kind of product if it is not the fast one."""
        slow = "" if self.law.exact_int8 else ", int8 products are not exact here: int32"
        return f"{self.device.type}, PyTorch {torch.__version__}{slow}"

    def session(self) -> TorchSession:
        """Return an empty KV cache."""
        return TorchSession(self)

    def forward_batch(
        self, calls: Sequence[tuple[TorchSession, Ints]], *, last_only: bool = True
    ) -> list[Ints]:
        """Return the logits of the ids of each session after its cached prefix. The ids are added
        to the caches.

        Args:
            calls: sessions of this engine, each once, and their ids [T], of any length each.
            last_only: compute the head for the last token of each alone.

        Returns:
            for each call, the result of `reference.forward`.

        Raises:
            GateError: what `Session.forward` refuses, no calls, or a session that is repeated or
                belongs to another engine; nothing is changed.
            StorageError: there is no memory; the sessions are unchanged.
        """
        with self.lock:
            held = [(session.cache, as_ints(ids)) for session, ids in calls]
            if any(session.engine is not self for session, _ in calls):
                raise GateError("a session of another engine", remedy="open it with this engine's session()")
            if not held or len({id(cache) for cache, _ in held}) < len(held):
                raise GateError(
                    "a batch is empty, or a session is in it twice",
                    remedy="give each session once, one at least",
                )
            for cache, ids in held:
                check_ids(self.model, ids, cache.length)
            before = [cache.length for cache, _ in held]
            try:
                vocab = self.model.shape.vocab_size
                logits = [np.empty((1 if last_only else ids.size, vocab), np.int64) for _, ids in held]
                for pieces in _passes(held, logits, PASS_ROWS[self.device.type]):
                    self._forward(pieces)
            except BaseException as error:
                for (cache, _), length in zip(held, before, strict=True):
                    cache.length = length
                if not _is_no_memory(error):
                    raise
                raise StorageError(
                    f"the torch engine cannot run these ids: {str(error).splitlines()[0]}",
                    remedy="give it fewer sequences at once, or more memory",
                ) from error
        return logits

    def _forward(self, pieces: list[_Piece]) -> None:
        """Run one forward pass, which fills the logits of each piece."""
        law = self.law
        ids = torch.cat([law.tensor(piece.ids) for piece in pieces])
        starts = [piece.cache.length for piece in pieces]
        for piece, start in zip(pieces, starts, strict=True):
            piece.cache.make_room(start + piece.ids.size)
            if start == 0:
                piece.cache.stack = int(self.model.router_V[piece.ids[0]])
        table = torch.cat(
            [self._rope_CP2[start : start + p.ids.size] for p, start in zip(pieces, starts, strict=True)]
        )
        m, s = self._embedding_V.m[ids, None], self._embedding_V.e[ids, None]
        x_RD, experts_R = mulsh(self._embedding_VD[ids].long(), m, s), self._router_V[ids]
        x_RD = self._blocks(self._layers, 0, x_RD, table, experts_R, pieces)
        sizes = [piece.ids.size for piece in pieces]
        rows, tables = list(x_RD.split(sizes)), table.split(sizes)
        # Sequences of one expert go through its stack together.
        for stack in sorted({piece.cache.stack for piece in pieces}) if self._stacks else ():
            mine = [i for i, piece in enumerate(pieces) if piece.cache.stack == stack]
            x_RD, table = torch.cat([rows[i] for i in mine]), torch.cat([tables[i] for i in mine])
            x_RD = self._blocks(
                self._stacks[stack], len(self._layers), x_RD, table, experts_R, [pieces[i] for i in mine]
            )
            for i, x in zip(mine, x_RD.split([sizes[i] for i in mine]), strict=True):
                rows[i] = x
        for piece, start in zip(pieces, starts, strict=True):
            piece.cache.length = start + piece.ids.size
        wanted = [x[len(x) - len(piece.logits_TV) :] for piece, x in zip(pieces, rows, strict=True)]
        if sum(len(x) for x in wanted) == 0:
            return
        codes, scale = law.rms_norm(torch.cat(wanted), self._final_gain_D, self.model.final_norm)
        (y_RV,) = law.linear(codes, self._head)
        logits = _to_units(y_RV, scale, self.model.head, LOGIT_FRACTION).cpu()
        for piece, rows in zip(pieces, logits.split([len(x) for x in wanted]), strict=True):
            piece.logits_TV[...] = rows.numpy()

    def _blocks(
        self,
        layers: list[_Layer],
        first: int,
        x_RD: Tensor,
        table: Tensor,
        experts_R: Tensor,
        pieces: list[_Piece],
    ) -> Tensor:
        """Apply the layers in order. The first of them has number `first` in the caches."""
        for index, layer in enumerate(layers, first):
            x_RD = _add(x_RD, self._attention(layer, index, x_RD, table, pieces))
            x_RD = _add(x_RD, self._feed_forward(layer, x_RD, experts_R))
        return x_RD

    def _attention(
        self, layer: _Layer, index: int, x_RD: Tensor, table: Tensor, pieces: list[_Piece]
    ) -> Tensor:
        """Return what the attention block adds to the residual, [R, D]."""
        law, shape = self.law, self.model.shape
        codes, token = law.rms_norm(x_RD, layer.attn_gain_D, layer.law.attn_norm)
        q, k, v = (y.unflatten(-1, (-1, shape.head_dim)) for y in law.linear(codes, layer.qkv))

        def scaled(scale: TScale, exponent: int) -> TScale:
            product = law.multiply(scale, TScale(token.m[:, None], token.e[:, None]))
            return TScale(product.m, product.e + exponent)

        q_codes, q_scale = law.turn(q, table)
        score = TScale(torch.full_like(q_scale.m, shape.score_m), torch.full_like(q_scale.e, shape.score_e))
        q_scale = law.multiply(scaled(q_scale, layer.law.q.exponent), score)
        k_codes, k_scale = law.turn(k, table)
        k_scale = scaled(k_scale, layer.law.k.exponent)
        v_codes, v_scale = law.quantize(v)
        v_scale = scaled(v_scale, layer.law.v.exponent)
        outputs, lows, first = [], [], 0
        for piece in pieces:
            mine = slice(first, first + piece.ids.size)
            first = mine.stop
            cache = piece.cache
            for kind, codes, (m, e) in ((K, k_codes, k_scale), (V, v_codes, v_scale)):
                cache.write(index, kind, codes[mine], TScale(m[mine], e[mine]))
            o, low = self._attend(cache, index, q_codes[mine], TScale(q_scale.m[mine], q_scale.e[mine]))
            outputs.append(o)
            lows.append(low)
        o_RHE, low_RH = torch.cat(outputs), torch.cat(lows)
        lowest = low_RH.amin(-1)
        joined = shifted(o_RHE, (low_RH - lowest[:, None]).clamp_(max=MAX_SHIFT)[..., None])
        codes, scale = law.quantize(joined.flatten(1))
        (y_RD,) = law.linear(codes, layer.o)
        return _to_units(y_RD, TScale(scale.m, scale.e + lowest), layer.law.o, shape.residual_exponent)

    def _attend(self, cache: _Cache, index: int, q_RHE: Tensor, scale: TScale) -> tuple[Tensor, Tensor]:
        """Return the attention of one sequence, computed for blocks of its tokens: o [R, H, E] and
        exponents [R, H].
        """
        shape, past, n_rows = self.model.shape, cache.length, q_RHE.shape[0]
        heads = (shape.n_kv_heads, shape.n_heads // shape.n_kv_heads)
        q_KGTE = q_RHE.unflatten(1, heads).permute(1, 2, 0, 3)
        m_KGT, e_KGT = (part.unflatten(1, heads).permute(1, 2, 0) for part in scale)
        block = max(SCORES[self.device.type] // (shape.n_heads * (past + n_rows)), 1)
        outputs, lows = [], []
        for first in range(0, n_rows, block):
            rows = slice(first, min(first + block, n_rows))
            n_keys = aligned(past + rows.stop)
            o_KGTE, low_KT = self.law.attend(
                q_KGTE[:, :, rows].flatten(1, 2),
                TScale(m_KGT[..., rows], e_KGT[..., rows]),
                cache.k[index, :, :n_keys],
                cache.scale(index, K, n_keys),
                cache.v[index, :, :, :n_keys],
                cache.scale(index, V, n_keys),
                past + first,
            )
            outputs.append(o_KGTE[..., : shape.head_dim].permute(2, 0, 1, 3).flatten(1, 2))
            lows.append(low_KT.t().repeat_interleave(heads[1], dim=1))
        return torch.cat(outputs), torch.cat(lows)

    def _feed_forward(self, layer: _Layer, x_RD: Tensor, experts_R: Tensor) -> Tensor:
        """Return what the feed-forward block adds to the residual, [R, D]. Each token uses its one
        expert.
        """
        codes, token = self.law.rms_norm(x_RD, layer.ffn_gain_D, layer.law.ffn_norm)
        if len(layer.experts) == 1:
            return self._expert(layer.experts[0], codes, token)
        out_RD = torch.zeros_like(x_RD)
        for index, expert in enumerate(layer.experts):
            rows = (experts_R == index).nonzero()[:, 0]
            if rows.numel():
                out_RD[rows] = self._expert(expert, codes[rows], TScale(token.m[rows], token.e[rows]))
        return out_RD

    def _expert(self, ffn: _FeedForward, codes: Tensor, token: TScale) -> Tensor:
        law, exponents = self.law, ffn.law
        gate, up = law.linear(codes, ffn.gate_up)
        h, scale = law.swiglu(gate, up, token, exponents.gate.exponent)
        (y_RD,) = law.linear(h, ffn.down)
        scale = TScale(scale.m, scale.e + exponents.up.exponent)
        return _to_units(y_RD, scale, exponents.down, self.model.shape.residual_exponent)


def _is_no_memory(error: BaseException) -> bool:
    """Return whether memory ran out. PyTorch has an error class for this only on CUDA."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _add(x_RD: Tensor, delta_RD: Tensor) -> Tensor:
    """Return ADD."""
    return x_RD.add_(delta_RD).clamp_(INT32_MIN, INT32_MAX)


def _to_units(y_RO: Tensor, token: TScale, layer: QuantizedLinear, fraction: int) -> Tensor:
    """Return the output of a projection in fixed point with `fraction` fraction bits."""
    return mulsh(y_RO, token.m[:, None], token.e[:, None] + (layer.exponent - fraction))


def _passes(
    calls: Sequence[tuple[_Cache, Ints]], logits: Sequence[Ints], pass_rows: int
) -> Iterator[list[_Piece]]:
    """Cut calls into passes of `pass_rows` tokens. A prompt may be cut anywhere. Logits belong to
    the last tokens of a call.
    """
    pieces: list[_Piece] = []
    room = pass_rows
    for (cache, ids), logits_TV in zip(calls, logits, strict=True):
        first, silent = 0, ids.size - len(logits_TV)
        while first < ids.size:
            last = min(first + room, ids.size)
            wanted = logits_TV[max(first - silent, 0) : max(last - silent, 0)]
            pieces.append(_Piece(cache, ids[first:last], wanted))
            first, room = last, room - (last - first)
            if room == 0:
                yield pieces
                pieces, room = [], pass_rows
    if pieces:
        yield pieces


class _Cache:
    """Keys and values of one sequence on the device. It grows by doubling. Rows from `length` on
    are unused.
    """

    def __init__(self, law: Arithmetic, shape: ModelShape) -> None:
        heads = (shape.n_layers + shape.stack_layers, shape.n_kv_heads)
        width, self._context = aligned(shape.head_dim), aligned(shape.context)
        # Number of positions, and the expert that the first id of the sequence chose.
        self.length = self.stack = 0
        # Values are stored by feature, so that both products read their second factor by rows.
        self.k = torch.zeros((*heads, 0, width), dtype=torch.int8, device=law.device)
        self.v = torch.zeros((*heads, width, 0), dtype=torch.int8, device=law.device)
        self.scales = torch.zeros((2, 2, *heads, 0), dtype=torch.int32, device=law.device)

    def make_room(self, rows: int) -> None:
        """Make room for `rows` positions, a multiple of ALIGN."""
        held = self.k.shape[2]
        if rows > held:
            more = min(max(2 * held, aligned(rows), FIRST_ROWS), self._context) - held
            self.k, self.v = (
                torch.constant_pad_nd(self.k, (0, 0, 0, more)),
                torch.constant_pad_nd(self.v, (0, more)),
            )
            self.scales = torch.constant_pad_nd(self.scales, (0, more))

    def write(self, index: int, kind: int, codes_RKE: Tensor, scale: TScale) -> None:
        """Write keys or values of a layer after the held ones. `length` stays."""
        rows = slice(self.length, self.length + codes_RKE.shape[0])
        if kind == K:
            self.k[index, :, rows, : codes_RKE.shape[-1]] = codes_RKE.permute(1, 0, 2)
        else:
            self.v[index, :, : codes_RKE.shape[-1], rows] = codes_RKE.permute(1, 2, 0)
        for part, values in enumerate(scale):
            self.scales[kind, part, index, :, rows] = values.t()

    def scale(self, index: int, kind: int, n_keys: int) -> TScale:
        """Return the scales [K, S] of the first positions of a layer."""
        m, e = self.scales[kind, :, index, :, :n_keys].long()
        return TScale(m, e)


class TorchSession:
    """One KV cache on an engine."""

    def __init__(self, engine: TorchEngine) -> None:
        self.engine = engine
        self._cache: _Cache | None = _Cache(engine.law, engine.model.shape)

    @property
    def cache(self) -> _Cache:
        """Return the cache. Raises GateError when the session is closed."""
        if self._cache is None:
            raise GateError("the session is closed", remedy="open another")
        return self._cache

    def close(self) -> None:
        """Drop the cache. Later calls raise GateError. Closing twice is allowed."""
        self._cache = None

    @property
    def length(self) -> int:
        """Return the number of held positions."""
        return self.cache.length

    def forward(self, ids: Ints, *, last_only: bool = False) -> Ints:
        """Return what `reference.forward` returns, on this cache.

        Raises GateError, also when closed; StorageError without memory.
        """
        return self.engine.forward_batch([(self, ids)], last_only=last_only)[0]

    def truncate(self, length: int) -> None:
        """Keep only the first `length` positions.

        Raises GateError for more positions than are held, or a closed session.
        """
        with self.engine.lock:
            held = self.cache.length
            if not 0 <= length <= held:
                raise GateError(f"position {length} of a session of {held}", remedy=f"use 0 to {held}")
            self.cache.length = length

    def key_values(self, layer: int) -> tuple[KeyValues, KeyValues]:
        """Return the keys and values of one layer in the form of specs/arithmetic.md: codes [S, K,
        E], scales [S, K].
        """
        with self.engine.lock:
            cache, width = self.cache, self.engine.model.shape.head_dim
            held = slice(0, cache.length)
            codes = (
                cache.k[layer, :, held, :width].transpose(0, 1),
                cache.v[layer, :, :width, held].permute(2, 0, 1),
            )
            k, v = (
                KeyValues(*(as_ints(part.cpu().numpy()) for part in (c, *(x.t() for x in scale))))
                for c, scale in zip(codes, cache.scales[:, :, layer, :, held], strict=True)
            )
        return k, v
