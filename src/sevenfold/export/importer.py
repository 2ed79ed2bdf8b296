"""A dense Llama from elsewhere, as a directory that the spine takes on: weights, vocabulary, origin, recipe.

The recipe names the weights by their digest (`model.pretrained`), so a family whose policy forbids external weights refuses it by
its rule, whatever the file says of itself. What the file says stays in origin.json and leaves again with an export: exported once
more in the same type, the file has the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.files import read_bytes, read_json, write_bytes, write_json
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.core.tables import rope_base
from sevenfold.export import vocabulary
from sevenfold.export.names import check_expressible, foreign_names
from sevenfold.export.source import KEY, ORIGIN, TOKENIZER, WEIGHTS, Source, check_vocabulary
from sevenfold.export.store import Floats, TensorFile, beside, open_tensors, write_tensors
from sevenfold.recipe.loader import load_recipe
from sevenfold.recipe.policy import check_policies
from sevenfold.recipe.schema import ModelSpec, Recipe
from sevenfold.recipe.sizing import count, tensors
from sevenfold.runs.pretrained import pretrained_digest
from sevenfold.tokenizer.codec import Tokenizer

RECIPE = "recipe.yaml"
WINDOW = 512
# What an import without a recipe of its own is measured and calibrated on: the interpreter's library.
BASE: dict[str, Json] = {
    "recipe": 1,
    "family": "s7",
    "corpus": {"sources": [{"kind": "stdlib"}], "licences": ["PSF-2.0"]},
    "train": {"seed": 0, "learning_rate": 1e-3, "batch_sequences": 4},
}


def import_model(kind: str, path: Path, out: Path, base: Recipe | None = None) -> dict[str, Json]:
    """Write `out`/{model.safetensors, tokenizer.json, origin.json, recipe.yaml}.

    Args:
        kind: `hf` (a directory) or `gguf` (a file).
        base: family, corpus and gates; default: those that the file carries, else BASE.

    Raises:
        UsageError: an unknown kind, or a model that is no Llama of the form that this version runs.
        PolicyError: a rule of the family forbids it (D2.pretrained: no external weights).
        StorageError: the file is missing, damaged, or its vocabulary is of another form.
    """
    if kind not in ("hf", "gguf"):
        raise UsageError(f"no kind {kind!r}", where="import", remedy="kinds are hf and gguf")
    with _one_line(path):
        foreign = (_from_hf if kind == "hf" else _from_gguf)(path)
        check_expressible(foreign.spec)
        check_vocabulary(foreign)
        # Rules first: what they forbid is not even copied. The digest stands in once the weights are there.
        recipe = _recipe(foreign, base, "sha256:" + "0" * 64)
        check_policies(Recipe.model_validate_json(canonical_json(recipe)))
        origin: dict[str, Json] = {"format": kind, "file": path.name, "provenance": foreign.provenance}
        canonical_json(origin)
    with beside(out) as work:
        write_tensors(work / WEIGHTS, tensors(foreign.spec), foreign.read, "F32", {})
        write_bytes(work / TOKENIZER, foreign.tokenizer)
        pretrained = pretrained_digest(work)
        write_json(
            work / ORIGIN, origin | {"pretrained": pretrained, "model": foreign.spec.model_dump(mode="json")}
        )
        write_json(work / RECIPE, _recipe(foreign, base, pretrained))
        load_recipe(work / RECIPE)
    return {
        "name": recipe["name"],
        "n_parameters": count(foreign.spec),
        "pretrained": pretrained,
        "format": kind,
    }


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """A value of another type than its place asks for, anywhere in a file from elsewhere, leaves as one line."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        what = " ".join(str(error).split())[:160]
        raise StorageError(
            f"not of the form that this version reads ({type(error).__name__}: {what})",
            where=str(path),
            remedy="check that it is a Llama as its own tools write it",
        ) from error


def _recipe(foreign: Source, base: Recipe | None, pretrained: str) -> dict[str, Json]:
    """The recipe as JSON, which is YAML."""
    carried = base.resolved() if base else _object(foreign.provenance.get("recipe")) | BASE | _family(foreign)
    spec = foreign.spec.model_dump(mode="json") | {"pretrained": pretrained}
    special = list(foreign.vocabulary().special_tokens)
    pieces = vocabulary.pieces_of(foreign.tokenizer)
    sequence = min(WINDOW, foreign.spec.context)
    train = carried["train"] | {
        "sequence": sequence,
        "tokens": carried["train"]["batch_sequences"] * sequence,
    }
    return {
        **carried,
        "name": _slug(foreign.name),
        "tier": "",
        "summary": "Imported weights; not trained here.",
        "model": spec,
        "tokenizer": {"vocab_size": foreign.spec.vocab_size, "special_tokens": special, "pieces": pieces},
        "train": train,
    }


def _family(foreign: Source) -> dict[str, Json]:
    """The family that the file names, whose rules then bind the import."""
    family = _object(foreign.provenance.get("recipe")).get("family")
    return {"family": family} if family else {}


def _origin(kind: str, path: Path, name: str) -> dict[str, Json]:
    """Provenance of a file that says nothing of itself."""
    return {"name": name, "origin": {"format": kind, "file": path.name}}


def _slug(name: str) -> str:
    kept = "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower()).strip("-")
    return kept[:60] or "imported"


def _spec(path: Path, **values: Json) -> ModelSpec:
    try:
        return ModelSpec.model_validate_json(json.dumps({k: v for k, v in values.items() if v is not None}))
    except ValueError as error:
        first = str(error).splitlines()[1:3]
        raise StorageError(f"its shape is out of range: {' '.join(first)}", where=str(path)) from error


def _scaling(kind: str | None, factor: float | None, where: Path) -> Json:
    if kind in (None, "none", "default"):
        return None
    if kind != "linear":
        raise UsageError(
            f"rope scaling {kind!r} is not run by this version",
            where=str(where),
            remedy="none and linear are",
        )
    return {"kind": "linear", "factor": float(factor or 1.0)}


def _from_hf(path: Path) -> Source:
    config = read_json(path / "config.json")
    if not isinstance(config, dict) or config.get("model_type") != "llama":
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise UsageError(
            f"a model of type {kind!r}, not llama",
            where=str(path),
            remedy="only a dense Llama can be imported",
        )
    wanted = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise UsageError(
                f"{key} is {config[key]!r}, this version runs {value!r}", where=str(path / "config.json")
            )
    heads = config.get("num_attention_heads")
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or rope
    width = config.get("head_dim") or (config["hidden_size"] // heads if heads else None)
    spec = _spec(
        path,
        d_model=config.get("hidden_size"),
        n_layers=config.get("num_hidden_layers"),
        n_heads=heads,
        n_kv_heads=config.get("num_key_value_heads", heads),
        head_dim=width,
        d_ffn=config.get("intermediate_size"),
        vocab_size=config.get("vocab_size"),
        context=config.get("max_position_embeddings"),
        rope_theta=float(config.get("rope_theta") or rope.get("rope_theta") or 10000.0),
        rope_scaling=_scaling(scaling.get("rope_type") or scaling.get("type"), scaling.get("factor"), path),
        norm_eps=config.get("rms_norm_eps"),
        tied=bool(config.get("tie_word_embeddings", False)),
    )
    files, names = _tensor_files(path), foreign_names(spec, "hf")

    def read(name: str) -> Floats:
        file = files.get(names[name])
        if file is None:
            raise StorageError(f"no tensor {names[name]!r}", where=str(path))
        return file.read(names[name])

    _check_shapes(path, spec, names, {n: f.places[n].shape for n, f in files.items()})
    tokenizer = json.loads(read_bytes(path / TOKENIZER)) if (path / TOKENIZER).is_file() else None
    if not isinstance(tokenizer, dict):
        raise StorageError(
            "the tokenizer is missing", where=str(path / TOKENIZER), remedy="a directory with tokenizer.json"
        )
    named = config.get(KEY)
    provenance: dict[str, Json] = named if isinstance(named, dict) else {}
    return Source(
        path=path,
        spec=_agreeing(_object(provenance.get("recipe")).get("model"), spec),
        tokenizer=_own_form({**tokenizer, "post_processor": None}),
        provenance=provenance or _origin("hf", path, path.name),
        read=read,
    )


def _own_form(tokenizer: Json) -> bytes:
    data = canonical_json(tokenizer)
    Tokenizer.from_json(data)
    vocabulary.pieces_of(data)
    return data


def _agreeing(own: Json, spec: ModelSpec) -> ModelSpec:
    """The shape as our recipe wrote it, where it says what the file's own keys say (`ntk` leaves as a larger base)."""

    def said(of: ModelSpec) -> tuple[object, ...]:
        linear = of.rope_scaling if of.rope_scaling.kind == "linear" else None
        base = rope_base(of.head_dim, of.rope_theta, of.rope_scaling.kind, of.rope_scaling.factor)
        return tensors(of), of.n_heads, of.context, linear, np.float32(base), np.float32(of.norm_eps)

    try:
        found = ModelSpec.model_validate_json(json.dumps(own))
        return found if said(found) == said(spec) else spec
    except ValueError:
        return spec


def _tensor_files(path: Path) -> dict[str, TensorFile]:
    """Which file holds each tensor: one file, or those that an index names."""
    index = path / f"{WEIGHTS}.index.json"
    if not index.is_file():
        file = open_tensors(path / WEIGHTS)
        return dict.fromkeys(file.places, file)
    names = sorted({str(name) for name in read_json(index).get("weight_map", {}).values()})
    if any("/" in name or name.startswith(".") for name in names):
        raise StorageError("an index may name files of its own directory only", where=str(index))
    opened = [open_tensors(path / name) for name in names]
    return {tensor: file for file in opened for tensor in file.places}


def _check_shapes(
    path: Path, spec: ModelSpec, names: dict[str, str], found: dict[str, tuple[int, ...]]
) -> None:
    wanted = {theirs: tensors(spec)[ours] for ours, theirs in names.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if spec.tied and name in ("lm_head.weight", "output.weight"):
            continue  # a copy of the embedding that some writers leave
        if wanted.get(name) != found.get(name):
            raise UsageError(
                f"tensor {name!r} is {found.get(name, 'missing')}, a Llama of this shape has {wanted.get(name, 'none')}",
                where=str(path),
                remedy="only a dense Llama without biases or adapters can be imported",
            )


def _from_gguf(path: Path) -> Source:
    from sevenfold.export import gguf

    keys, places = gguf.read_header(path)
    if keys.get("general.architecture") != "llama":
        raise UsageError(
            f"architecture {keys.get('general.architecture')!r}, not llama",
            where=str(path),
            remedy="only a dense Llama can be imported",
        )
    if keys.get("llama.expert_count"):
        raise UsageError("it has experts", where=str(path), remedy="only a dense Llama can be imported")

    def key(name: str) -> Json:
        return keys.get(f"llama.{name}")

    heads, width = key("attention.head_count"), key("embedding_length")
    spec = _spec(
        path,
        d_model=width,
        n_layers=key("block_count"),
        n_heads=heads,
        n_kv_heads=key("attention.head_count_kv") or heads,
        head_dim=key("attention.key_length") or (width // heads if heads else None),
        d_ffn=key("feed_forward_length"),
        vocab_size=len(keys.get("tokenizer.ggml.tokens") or ()) or None,
        context=key("context_length"),
        rope_theta=_short(key("rope.freq_base")) or 10000.0,
        rope_scaling=_scaling(key("rope.scaling.type"), key("rope.scaling.factor"), path),
        norm_eps=_short(key("attention.layer_norm_rms_epsilon")),
        tied="output.weight" not in places,
    )
    _check_shapes(
        path, spec, foreign_names(spec, "gguf"), {name: place.shape for name, place in places.items()}
    )
    provenance = _object(keys.get(gguf.PROVENANCE))
    own = _object(keys.get(gguf.MODEL))
    return Source(
        path=path,
        spec=_agreeing(own, spec),
        tokenizer=_gguf_tokenizer(keys, path),
        provenance=provenance or _origin("gguf", path, str(keys.get("general.name", path.stem))),
        read=gguf.stored_reader(path, spec),
    )


def _short(value: float | None) -> float | None:
    """The shortest decimal that is this float32: 1e-05, not 9.999999747e-06."""
    return None if value is None else float(str(np.float32(value)))


def _object(value: Json) -> dict[str, Json]:
    """A JSON object, or the text of one; anything else is an empty one."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _gguf_tokenizer(keys: dict[str, Json], path: Path) -> bytes:
    model, pre = keys.get("tokenizer.ggml.model"), keys.get("tokenizer.ggml.pre")
    pieces = keys.get(vocabulary.PIECES_KEY) or {vocabulary.PRE: "llama3"}.get(str(pre), str(pre))
    tokens, types, merges = (
        keys.get(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type", "merges")
    )
    if model != "gpt2" or not tokens or not types or merges is None or len(tokens) != len(types):
        raise StorageError(
            f"its tokenizer is {model!r} ({pre}), not a byte-level BPE with tokens, types and merges",
            where=str(path),
            remedy="import the Hugging Face directory, or a file with a gpt2 tokenizer",
        )
    return vocabulary.build(tokens, types, merges, pieces)
