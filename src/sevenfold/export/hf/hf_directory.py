"""Write a Hugging Face directory that `transformers` loads without code of ours, or one safetensors
file with our names.

The tokenizer is our file with two additions. The token that begins a document is put before a text,
as in training. The characters of that token in a text remain text (`split_special_tokens`).
"""

from __future__ import annotations

import json
from pathlib import Path

from sevenfold.core.files import write_bytes, write_json
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.core.numbers.tables import rope_base
from sevenfold.core.run_files import TOKENIZER, WEIGHTS
from sevenfold.export.hf.config import CONFIG
from sevenfold.export.hf.roles import GENERATION, SETTINGS
from sevenfold.export.names import foreign_names
from sevenfold.export.source import KEY, ExportSource
from sevenfold.export.store import write_tensors
from sevenfold.recipe.schema import ModelSpec, RopeScaling
from sevenfold.recipe.sizing import tensors
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.roles import Roles

DTYPES = {"f32": ("F32", "float32"), "f16": ("F16", "float16"), "bf16": ("BF16", "bfloat16")}


def config(spec: ModelSpec, roles: Roles, dtype: str, provenance: Json) -> dict[str, Json]:
    """Return config.json. An `ntk` scaling is written as a larger base, which is the same."""
    scaling = spec.rope_scaling
    base = scaling.kind if scaling.kind == "ntk" else "none"
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.d_model,
        "intermediate_size": spec.d_ffn,
        "num_hidden_layers": spec.n_layers,
        "num_attention_heads": spec.n_heads,
        "num_key_value_heads": spec.n_kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": spec.context,
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": rope_base(spec.head_dim, spec.rope_theta, base, scaling.factor),
        "rope_scaling": _scaling(scaling),
        "tie_word_embeddings": spec.tied,
        "attention_bias": False,
        "mlp_bias": False,
        **_ids(roles),
        "torch_dtype": dtype,
        "use_cache": True,
        KEY: provenance,
    }


def _scaling(scaling: RopeScaling) -> dict[str, Json] | None:
    """Return `rope_scaling` of config.json."""
    if scaling.kind not in ("linear", "llama3"):
        return None
    value: dict[str, Json] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        value |= {
            "low_freq_factor": scaling.low_frequency,
            "high_freq_factor": scaling.high_frequency,
            "original_max_position_embeddings": scaling.original_context,
        }
    return value


def _ids(roles: Roles) -> dict[str, Json]:
    """Return the roles by id under the names of config.json and generation_config.json. Null means
    none and never a default.
    """
    ends = list(roles.ends)
    value: dict[str, Json] = {
        "bos_token_id": roles.bos,
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
    }
    return value if roles.pad is None else value | {"pad_token_id": roles.pad}


def tokenizer_file(data: bytes, tokenizer: Tokenizer) -> bytes:
    """Return our tokenizer.json with a rule that puts the token that begins a document before every
    text, if there is such a token.
    """
    value, begin = json.loads(data), tokenizer.roles.begin
    if begin is None:
        return canonical_json(value)
    name = tokenizer.special_name(begin)
    token = {"SpecialToken": {"id": name, "type_id": 0}}
    value["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [token, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [token, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {name: {"id": name, "ids": [begin], "tokens": [name]}},
    }
    return canonical_json(value)


def write_hf(source: ExportSource, out: Path, dtype: str) -> None:
    """Write config.json, generation_config.json, tokenizer.json, tokenizer_config.json and
    model.safetensors into `out`.

    Args:
        dtype: a key of `DTYPES`.

    Raises:
        StorageError: the disk is full, or a weight is beyond the range of F16.
    """
    spec, tokenizer = source.spec, source.vocabulary()
    stored, name = DTYPES[dtype]
    ours = {theirs: mine for mine, theirs in foreign_names(spec, "hf").items()}
    shapes = {theirs: tensors(spec)[mine] for theirs, mine in ours.items()}
    metadata = {"format": "pt", KEY: canonical_json(source.provenance).decode()}
    write_tensors(out / WEIGHTS, shapes, lambda theirs: source.read(ours[theirs]), stored, metadata)
    roles = tokenizer.roles
    write_bytes(out / TOKENIZER, tokenizer_file(source.tokenizer, tokenizer))
    write_json(
        out / SETTINGS,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **_token_names(tokenizer),
            "model_max_length": spec.context,
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": True,
        },
    )
    generation = {**_ids(roles), "do_sample": False, "max_length": spec.context}
    write_json(out / GENERATION, generation)
    # config.json is written last, because other programs take a directory with one for a complete
    # model.
    write_json(out / CONFIG, config(spec, roles, name, source.provenance))


def _token_names(tokenizer: Tokenizer) -> dict[str, Json]:
    """Return `bos_token`, `eos_token`, `pad_token`.

    An ordinary token is not named there, because it would then be found in a text.
    """
    roles = tokenizer.roles
    end = roles.ends[0] if roles.ends else None
    named = {"bos_token": roles.bos, "eos_token": end, "pad_token": roles.pad}
    names = {key: tokenizer.special_name(i) for key, i in named.items() if i is not None}
    return {key: name for key, name in names.items() if name is not None}


def write_safetensors(source: ExportSource, out: Path, dtype: str) -> None:
    """Write one safetensors file with provenance, shape and tokenizer in its metadata. Raises
    StorageError.
    """
    metadata = {
        "format": "pt",
        KEY: canonical_json(source.provenance).decode(),
        f"{KEY}.model": canonical_json(source.spec.model_dump(mode="json")).decode(),
        f"{KEY}.tokenizer": source.tokenizer.decode(),
        **({f"{KEY}.roles": canonical_json(source.roles.as_json()).decode()} if source.roles else {}),
    }
    write_tensors(out, tensors(source.spec), source.read, DTYPES[dtype][0], metadata)
