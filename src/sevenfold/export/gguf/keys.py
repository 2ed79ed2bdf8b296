"""Read the `llama.*` keys of a GGUF file. Each is read, known to change no answer, or refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.export.hf.config import make_spec, shown
from sevenfold.recipe.schema import ModelSpec

_READ = {
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    # Only YaRN uses them, and it is refused.
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    # They describe the layout of the source file. This format has one order.
    "tensor_data_layout",
}
# The one value that this version runs, which is also the value of an absent key.
_WANTED: dict[str, Json] = {
    "attention.causal": True,
    "use_parallel_residual": False,
    "expert_count": 0,
    "expert_used_count": 0,
    "expert_shared_count": 0,
    "leading_dense_block_count": 0,
    "attention.sliding_window": 0,
    "attention.max_alibi_bias": 0.0,
    "attention.clamp_kqv": 0.0,
    "attention.scale": 0.0,
    "logit_scale": 0.0,
    "residual_scale": 0.0,
    "embedding_scale": 0.0,
    "attn_logit_softcapping": 0.0,
    "final_logit_softcapping": 0.0,
    "rope.scaling.attn_factor": 1.0,
    "pooling_type": 0,
}
THETA = 10000.0
_PREFIX = "llama."


class HeaderKeys:
    """The keys of a header, checked one by one when it is made.

    Raises:
        UsageError: this version does not run a key or value, which the error names.
    """

    def __init__(self, values: dict[str, Json], where: str) -> None:
        self.values, self.where = values, where
        self._check_file()
        for key in sorted(key for key in values if key.startswith(_PREFIX)):
            self._check_key(key)

    def _check_file(self) -> None:
        kind, parts = self.values.get("general.type", "model"), self.values.get("split.count", 0)
        if type(parts) is int and parts > 1:
            number = self.values.get("split.no", 0)
            raise UsageError(
                f"shard {number + 1 if type(number) is int else shown(number)} of {parts} of a split file",
                where=self.where,
                remedy="merge the shards (llama-gguf-split --merge) and import the result",
            )
        if kind != "model" or "adapter.type" in self.values:
            raise UsageError(
                f"a file of type {shown(kind)}, not a model",
                where=self.where,
                remedy="merge an adapter into its base and import the result",
            )
        architecture = self.values.get("general.architecture")
        if architecture != "llama":
            raise UsageError(
                f"architecture {shown(architecture)}, not llama",
                where=self.where,
                remedy="only a dense Llama can be imported",
            )

    def _check_key(self, key: str) -> None:
        name, value = key.removeprefix(_PREFIX), self.values[key]
        if name in _READ:
            return
        if name not in _WANTED:
            raise UsageError(
                f"{key} is {shown(value)}, and this version does not know the key",
                where=self.where,
                remedy="import the Hugging Face directory that it was made from",
            )
        if type(value) is not type(_WANTED[name]) or value != _WANTED[name]:
            raise UsageError(
                f"{key} is {shown(value)}, this version runs {_WANTED[name]}",
                where=self.where,
                remedy="only a dense Llama of plain form can be imported",
            )

    def get(self, name: str) -> Json:
        """Return a value by its name without `llama.`; None when it is absent. Of a list with equal
        values for all layers, return that value.
        """
        value = self.values.get(_PREFIX + name)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            return value[0]
        return value

    def count(self, name: str, absent: int | None = None) -> int:
        """Return a positive integer. Raises StorageError when it is absent without a default, or is
        another value.
        """
        value = self.get(name)
        value = absent if value is None else value
        if type(value) is not int or value < 1:
            raise StorageError(
                f"{_PREFIX}{name} is {'missing' if value is None else shown(value)}, not a positive integer",
                where=self.where,
                remedy="get the file again",
            )
        return value

    def number(self, name: str, absent: float | None = None) -> float:
        """Return a positive number as the shortest decimal of this float32. Raises StorageError."""
        found = self.get(name)
        value: Any = absent if found is None else found
        if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            raise StorageError(
                f"{_PREFIX}{name} is {'missing' if value is None else shown(value)}, not a positive number",
                where=self.where,
                remedy="get the file again",
            )
        return float(str(np.float32(value)))

    def spec(self, *, tied: bool) -> ModelSpec:
        """Return the shape. Raises StorageError, UsageError."""
        heads, width = self.count("attention.head_count"), self.count("embedding_length")
        head = self.count("attention.key_length", width // heads or None)
        for name in ("attention.value_length", "rope.dimension_count"):
            if self.count(name, head) != head:
                raise UsageError(
                    f"{_PREFIX}{name} is {self.get(name)}, the heads have {head}",
                    where=self.where,
                    remedy="this version runs heads of one width that are rotated completely",
                )
        tokens = self.values.get("tokenizer.ggml.tokens")
        n_tokens = len(tokens) if isinstance(tokens, list) else 0
        if self.get("vocab_size") not in (None, n_tokens):
            raise StorageError(
                f"{_PREFIX}vocab_size is {shown(self.get('vocab_size'))}, its tokenizer has {n_tokens}"
                " entries",
                where=self.where,
                remedy="get the file again",
            )
        return make_spec(
            self.where,
            d_model=width,
            n_layers=self.count("block_count"),
            n_heads=heads,
            n_kv_heads=self.count("attention.head_count_kv", heads),
            head_dim=head,
            d_ffn=self.count("feed_forward_length"),
            vocab_size=n_tokens or None,
            context=self.count("context_length"),
            rope_theta=self.number("rope.freq_base", THETA),
            rope_scaling=self._scaling(),
            norm_eps=self.number("attention.layer_norm_rms_epsilon"),
            tied=tied,
        )

    def _scaling(self) -> dict[str, Json] | None:
        """Return the linear scaling of either key. A factor without a type is linear, as in
        llama.cpp.
        """
        kind = self.get("rope.scaling.type")
        if kind == "none":
            return None
        if kind not in (None, "linear"):
            raise UsageError(
                f"{_PREFIX}rope.scaling.type is {shown(kind)}, this version runs none and linear",
                where=self.where,
                remedy="only a dense Llama of plain form can be imported",
            )
        found = [
            name for name in ("rope.scaling.factor", "rope.scale_linear") if self.get(name) not in (None, 0)
        ]
        factors = {self.number(name) for name in found}
        if len(factors) > 1:
            raise UsageError(
                f"{_PREFIX}rope.scaling.factor and {_PREFIX}rope.scale_linear differ", where=self.where
            )
        factor = next(iter(factors), 1.0)
        return None if factor == 1 else {"kind": "linear", "factor": factor}
