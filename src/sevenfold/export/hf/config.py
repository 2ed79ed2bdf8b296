"""Read config.json of a foreign Llama. Every key is read, known to change no answer, or refused.

Absent keys have the defaults of LlamaConfig of transformers. When a value is in two places, the
rule of LlamaConfig decides: `rope_scaling` wins over `rope_parameters`, and a value inside of
either wins over one beside it. Two places that differ are refused, unless the difference is a known
relic.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.recipe.schema import ModelSpec

CONFIG = "config.json"
# The defaults of LlamaConfig of transformers, for absent keys.
DEFAULTS: dict[str, Json] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
THETA = 10000.0
# The one value that this version runs, which is also the default.
WANTED: dict[str, Json] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    # transformers sees later tokens, too, where it is false.
    "is_causal": True,
    "is_encoder_decoder": False,
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_encoder_decoder": False,
    "pruned_heads": {},
    "use_sliding_window": False,
    "partial_rotary_factor": 1.0,
    "use_qk_norm": False,
    "qk_norm": False,
    "qkv_bias": False,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
    "logits_scaling": 1.0,
    "logit_scale": 1.0,
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,
    "rope_interleaved": False,
    "use_parallel_residual": False,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "num_beams": 1,
    "num_beam_groups": 1,
}
# Keys that decide no logit of a Llama, with the types that their values may have (null is always
# allowed).
_NUMBER = (int, float)
HARMLESS: dict[str, type | tuple[type, ...]] = {
    "model_type": str,
    "transformers_version": str,
    "_name_or_path": str,
    "name_or_path": str,
    "_commit_hash": str,
    "_attn_implementation": str,
    "_attn_implementation_autoset": bool,
    "_flash_attn_2_enabled": bool,
    "attn_implementation": str,
    "unsloth_fixed": bool,
    "unsloth_version": str,
    "tokenizer_class": str,
    "finetuning_task": str,
    "problem_type": str,
    "prefix": str,
    "id2label": dict,
    "label2id": dict,
    "num_labels": int,
    "task_specific_params": dict,
    "initializer_range": _NUMBER,
    # Dropout and the slicing of products during training.
    "attention_dropout": _NUMBER,
    "hidden_dropout": _NUMBER,
    "resid_pdrop": _NUMBER,
    "embd_pdrop": _NUMBER,
    "pretraining_tp": int,
    "chunk_size_feed_forward": int,
    "use_cache": bool,
    "return_dict": bool,
    "output_hidden_states": bool,
    "output_attentions": bool,
    "output_scores": bool,
    "return_dict_in_generate": bool,
    "torchscript": bool,
    "use_bfloat16": bool,
    "tie_last_hidden_states": bool,
    "tf_legacy_loss": bool,
    # It is used only with use_sliding_window.
    "max_window_layers": int,
    # Settings of a sampler, which do not change the model.
    "max_length": int,
    "min_length": int,
    "do_sample": bool,
    "early_stopping": (bool, str),
    "num_return_sequences": int,
    "diversity_penalty": _NUMBER,
    "temperature": _NUMBER,
    "top_k": int,
    "top_p": _NUMBER,
    "typical_p": _NUMBER,
    "length_penalty": _NUMBER,
    "remove_invalid_values": bool,
    "sep_token_id": int,
    "decoder_start_token_id": int,
    "cross_attention_hidden_size": int,
}
# The types that `torch_dtype` may name, which are those whose weights are read. It says how
# transformers computes, not what is stored.
_DTYPES = ("float32", "float16", "bfloat16", "float64", "auto")
_ROPE_KEYS = {"rope_type", "type", "rope_theta", "factor", "partial_rotary_factor"}
_LLAMA3_KEYS = ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_READ = {
    *DEFAULTS,
    *WANTED,
    *HARMLESS,
    "architectures",
    "torch_dtype",
    "dtype",
    "layer_types",
    "sliding_window",
}
_READ |= {"rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings", "sevenfold"}


class Config:
    """A config.json, checked key by key when it is made.

    Raises:
        StorageError: a value does not have the type of its key.
        UsageError: this version does not run a key or value, which the error names.
    """

    def __init__(self, value: Json, path: Path) -> None:
        self.where = str(path)
        if not isinstance(value, dict):
            raise StorageError("not a JSON object", where=self.where, remedy="get the model again")
        self.value: dict[str, Json] = value
        self._check_kind()
        for key in value:
            self._check_known(key)
        for key, kind in HARMLESS.items():
            self._typed(key, value.get(key), kind)
        for key, wanted in WANTED.items():
            self._check_wanted(key, wanted)
        for key in ("torch_dtype", "dtype"):
            if value.get(key) is not None and str(value[key]).removeprefix("torch.") not in _DTYPES:
                raise self._refusal(f"{key} is {shown(value[key])}", f"one of {', '.join(_DTYPES)}")
        layers = value.get("layer_types")
        if layers is not None and (
            not isinstance(layers, list) or any(kind != "full_attention" for kind in layers)
        ):
            raise self._refusal(f"layer_types is {shown(layers)}", "full_attention in every layer")
        self._check_window()

    def _refusal(self, what: str, runs: str) -> UsageError:
        return UsageError(
            f"{what}, this version runs {runs}",
            where=self.where,
            remedy="only a dense Llama of plain form can be imported",
        )

    def _check_kind(self) -> None:
        kind, names = self.value.get("model_type"), self.value.get("architectures")
        if kind != "llama":
            raise UsageError(
                f"a model of type {shown(kind)}, not llama",
                where=self.where,
                remedy="only a dense Llama can be imported",
            )
        if names is not None and names != [] and names != ["LlamaForCausalLM"]:
            raise self._refusal(f"architectures is {shown(names)}", "LlamaForCausalLM")

    def _check_known(self, key: str) -> None:
        value = self.value[key]
        # A value that is null, false or empty has no effect.
        if key in _READ or value is None or value is False or value in ({}, []):
            return
        if key in ("quantization_config", "compression_config"):
            raise UsageError(
                f"{key}: its weights are quantised",
                where=self.where,
                remedy="import the model that it was quantised from",
            )
        raise UsageError(
            f"{key} is {shown(value)}, and this version does not know the key",
            where=self.where,
            remedy="if the key changes no answer, remove it from a copy and import the copy",
        )

    def _typed(self, key: str, value: Json, kind: type | tuple[type, ...]) -> None:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if value is None or (type(value) in kinds and _is_finite(value)):
            return
        names = " or ".join(k.__name__ for k in kinds)
        raise StorageError(
            f"{key} is {shown(value)}, of another type than {names}",
            where=self.where,
            remedy="get the model again",
        )

    def _check_wanted(self, key: str, wanted: Json) -> None:
        value = self.value.get(key, wanted)
        if value is None and key != "hidden_act" and not key.endswith("_bias"):
            return
        same = type(value) is type(wanted) or (_is_number(value) and _is_number(wanted))
        if not same or value != wanted:
            raise self._refusal(f"{key} is {shown(value)}", shown(wanted))

    def _check_window(self) -> None:
        """Refuse a sliding window that is shorter than the context."""
        window, used = self.value.get("sliding_window"), self.value.get("use_sliding_window")
        self._typed("sliding_window", window, int)
        if window is not None and used is not False and window < self.count("max_position_embeddings"):
            raise self._refusal(f"sliding_window is {window}", "full attention")

    def count(self, key: str) -> int:
        """Return a positive integer. Raises StorageError."""
        value = self.value.get(key, DEFAULTS[key])
        if type(value) is not int or value < 1:
            raise StorageError(
                f"{key} is {shown(value)}, not a positive integer",
                where=self.where,
                remedy="get the model again",
            )
        return value

    def number(self, key: str, value: Json, least: float = 0.0) -> float:
        """Return a finite number above `least`. Raises StorageError."""
        if not _is_number(value) or not _is_finite(value) or value <= least:
            raise StorageError(
                f"{key} is {shown(value)}, not a number above {least:g}",
                where=self.where,
                remedy="get the model again",
            )
        return float(value)

    def spec(self) -> ModelSpec:
        """Return the shape. Raises StorageError, UsageError."""
        heads, width = self.count("num_attention_heads"), self.count("hidden_size")
        if width % heads:
            raise StorageError(
                f"hidden_size {width} is not a multiple of num_attention_heads {heads}",
                where=self.where,
                remedy="get the model again",
            )
        groups, head = self.value.get("num_key_value_heads"), self.value.get("head_dim")
        tied = self.value.get("tie_word_embeddings", DEFAULTS["tie_word_embeddings"])
        if type(tied) is not bool:
            raise StorageError(f"tie_word_embeddings is {shown(tied)}, not true or false", where=self.where)
        theta, scaling = self.rotation()
        return make_spec(
            self.where,
            d_model=width,
            n_layers=self.count("num_hidden_layers"),
            n_heads=heads,
            n_kv_heads=heads if groups is None else self.count("num_key_value_heads"),
            head_dim=width // heads if head is None else self.integer("head_dim", head),
            d_ffn=self.count("intermediate_size"),
            vocab_size=self.count("vocab_size"),
            context=self.count("max_position_embeddings"),
            rope_theta=theta,
            rope_scaling=scaling,
            norm_eps=self.number("rms_norm_eps", self.value.get("rms_norm_eps", DEFAULTS["rms_norm_eps"])),
            tied=tied,
        )

    def integer(self, key: str, value: Json) -> int:
        """Return a positive integer. Raises StorageError."""
        if type(value) is not int or value < 1:
            raise StorageError(f"{key} is {shown(value)}, not a positive integer", where=self.where)
        return value

    def rotation(self) -> tuple[float, dict[str, Json] | None]:
        """Return theta and scaling from the places in which transformers looks for them. Raises
        StorageError, UsageError.
        """
        block = self._rope_block()
        theta = block.get("rope_theta", self.value.get("rope_theta", THETA))
        kind = block.get("rope_type", block.get("type", "default"))
        if "type" in block and block["type"] != kind:
            raise self._refusal(
                f"rope_type is {shown(kind)} beside type {shown(block['type'])}", "one of them"
            )
        extra = _LLAMA3_KEYS if kind == "llama3" else ()
        # Each kind of layer with a rotation of its own.
        if nested := sorted(key for key, value in block.items() if isinstance(value, dict)):
            raise self._refusal(f"the rotation of {nested[0]} stands by itself", "one for all layers")
        # A plain rotation ignores the numbers of a scaling that is not there.
        for key in block.keys() - _ROPE_KEYS - {*extra} if kind != "default" else ():
            if block[key] is not None:
                raise self._refusal(f"rope scaling {shown(kind)} has {key}", "no such key with it")
        self._check_partial(block)
        return self.number("rope_theta", theta, 1.0), self._scaling(kind, block)

    def _rope_block(self) -> dict[str, Json]:
        """Return `rope_scaling` or `rope_parameters`. When both are set and differ, they are
        refused.
        """
        blocks = {key: self.value.get(key) for key in ("rope_scaling", "rope_parameters")}
        for key, block in blocks.items():
            if block is not None and not isinstance(block, dict):
                raise StorageError(f"{key} is {shown(block)}, not an object", where=self.where)
        scaling, parameters = blocks["rope_scaling"] or {}, blocks["rope_parameters"] or {}
        if scaling and parameters and scaling != parameters:
            both = scaling.keys() & parameters.keys()
            named = next(
                (key for key in sorted(both) if scaling[key] != parameters[key]), "one has more keys"
            )
            raise UsageError(
                f"rope_scaling and rope_parameters are both set and differ: {named}",
                where=self.where,
                remedy="keep the one that the model was trained with",
            )
        return scaling or parameters

    def _check_partial(self, block: dict[str, Json]) -> None:
        share = block.get("partial_rotary_factor")
        if share is not None and (not _is_number(share) or share != 1):
            raise self._refusal(f"partial_rotary_factor is {shown(share)}", "1")

    def _scaling(self, kind: Json, block: dict[str, Json]) -> dict[str, Json] | None:
        if kind not in ("default", "linear", "llama3"):
            raise self._refusal(f"rope scaling {shown(kind)}", "default, linear and llama3")
        if kind == "default":
            return None
        factor = self.number("rope scaling factor", block.get("factor"))
        if kind == "linear":
            return None if factor == 1 else {"kind": "linear", "factor": factor}
        low, high = (self.number(key, block.get(key)) for key in _LLAMA3_KEYS[:2])
        beside = self.value.get("original_max_position_embeddings")
        inside = block.get("original_max_position_embeddings")
        if beside is not None and inside is not None and beside != inside:
            raise self._refusal(
                f"original_max_position_embeddings is {shown(inside)} inside and {shown(beside)} beside",
                "one of them",
            )
        found = next((v for v in (beside, inside) if v is not None), None)
        original = self.count("max_position_embeddings") if found is None else found
        return llama3_scaling(
            self.where, factor, low, high, self.integer("original_max_position_embeddings", original)
        )


def llama3_scaling(
    where: str, factor: float, low: float, high: float, original: int
) -> dict[str, Json] | None:
    """Return the scaling of a recipe for the keys of Llama 3; None when it changes nothing. Raises
    StorageError.
    """
    if high <= low:
        raise StorageError(f"low_freq_factor {low:g} is not below high_freq_factor {high:g}", where=where)
    if factor == 1:
        return None
    keys = {"low_frequency": low, "high_frequency": high, "original_context": original}
    return {"kind": "llama3", "factor": factor, **keys}


def make_spec(where: str, **values: Json) -> ModelSpec:
    """Return the model section of a recipe. Raises StorageError when a value is outside its range."""
    try:
        return ModelSpec.model_validate_json(json.dumps({k: v for k, v in values.items() if v is not None}))
    except ValueError as error:
        first = str(error).splitlines()[1:3]
        raise StorageError(f"its shape is out of range: {' '.join(first)}", where=where) from error


def _is_number(value: Json) -> bool:
    return type(value) in (int, float)


def _is_finite(value: Json) -> bool:
    return type(value) is not float or math.isfinite(value)


def shown(value: Json) -> str:
    """Return a foreign value as short printable text in one line."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
