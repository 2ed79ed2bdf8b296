"""Import a GGUF file of architecture `llama` as an `ExportSource`. Every key is read or refused."""

from __future__ import annotations

from pathlib import Path

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.export.foreign import Cut, agreeing, object_of, origin, sound
from sevenfold.export.gguf import gguf_file, rope_factors, tokens
from sevenfold.export.gguf.keys import HeaderKeys
from sevenfold.export.names import foreign_names
from sevenfold.export.source import ExportSource
from sevenfold.recipe.schema import ModelSpec
from sevenfold.recipe.sizing import tensors
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.roles import Roles

UNUSED = 5  # The type of an unused token, which pads the embedding.
Places = dict[str, gguf_file.StoredTensor]


def read_gguf(path: Path, *, cut_padding: bool) -> ExportSource:
    """Return the model in a file.

    Args:
        cut_padding: leave out rows of the embedding that belong only to unused tokens.

    Raises:
        UsageError: this version does not run the model; the error names the key or the tensor.
        StorageError: the file is damaged, or its vocabulary has another form.
    """
    values, places = gguf_file.read_header(path)
    keys = HeaderKeys(values, str(path))
    stored = keys.spec(tied="output.weight" not in places)
    places = dict(places)
    factors = places.pop(rope_factors.NAME, None)
    if factors is not None:
        stored = _scaled(stored, path, factors)
    _check_shapes(path, stored, places)
    n_tokens = stored.vocab_size - _n_unused(values)
    cut = Cut.of(stored.vocab_size, n_tokens, cut_padding, str(path))
    names = foreign_names(stored, "gguf")
    data = tokens.read_tokenizer(values, cut.n_rows, str(path))
    return ExportSource(
        path=path,
        spec=agreeing(
            object_of(values.get(gguf_file.MODEL)), stored.model_copy(update={"vocab_size": cut.n_rows})
        ),
        tokenizer=data,
        provenance=object_of(values.get(gguf_file.PROVENANCE))
        or origin("gguf", path, str(values.get("general.name", path.stem))),
        read=sound(cut.reader(gguf_file.stored_reader(path, stored)), names.__getitem__, str(path)),
        roles=_roles(values, Tokenizer.from_json(data), path),
    )


def _scaled(spec: ModelSpec, path: Path, place: gguf_file.StoredTensor) -> ModelSpec:
    """Return the shape with the scaling of `rope_freqs.weight`. Raises UsageError."""
    if spec.rope_scaling.kind != "none":
        raise UsageError(
            f"tensor {rope_factors.NAME!r} (Llama 3's position scaling) beside a scaling of its keys",
            where=str(path),
            remedy="import the Hugging Face directory that it was made from",
        )
    if place.shape != (spec.head_dim // 2,):
        raise UsageError(
            f"tensor {rope_factors.NAME!r} is {place.shape}, heads of {spec.head_dim} have"
            f" {spec.head_dim // 2} pairs",
            where=str(path),
        )
    found = gguf_file.read_stored(path, rope_factors.NAME, place)
    scaling = rope_factors.scaling_of(found, spec.head_dim, spec.rope_theta, str(path))
    if scaling is None:
        return spec
    return ModelSpec.model_validate(spec.model_dump() | {"rope_scaling": scaling}, strict=False)


def _check_shapes(path: Path, spec: ModelSpec, places: Places) -> None:
    wanted = {theirs: tensors(spec)[ours] for ours, theirs in foreign_names(spec, "gguf").items()}
    for name in sorted(wanted.keys() | places.keys()):
        found = places[name].shape if name in places else "missing"
        if found != wanted.get(name):
            raise UsageError(
                f"tensor {name!r} is {found}, a Llama of this shape has {wanted.get(name, 'none')}",
                where=str(path),
                remedy="only a dense Llama without biases or adapters can be imported",
            )


def _n_unused(values: dict[str, Json]) -> int:
    """Return how many of the last tokens are marked as unused. Converters pad a vocabulary with
    them.
    """
    types = values.get("tokenizer.ggml.token_type")
    count = 0
    for kind in reversed(types) if isinstance(types, list) else ():
        if kind != UNUSED:
            break
        count += 1
    return count


def _roles(values: dict[str, Json], tokenizer: Tokenizer, path: Path) -> Roles | None:
    """Return the tokens that begin and end a text by the rule of llama.cpp; None when they follow
    from the names of the vocabulary.

    Raises:
        StorageError: an id is not in the vocabulary.
        UsageError: a token follows every text, or none ends a text.
    """

    def ident(name: str) -> int | None:
        value = values.get(f"tokenizer.ggml.{name}_token_id")
        if value is None:
            return None
        if type(value) is not int or not 0 <= value < tokenizer.vocab_size:
            raise StorageError(f"tokenizer.ggml.{name}_token_id is {value!r}, no id", where=str(path))
        return value

    def flag(name: str, absent: bool) -> bool:
        value = values.get(f"tokenizer.ggml.{name}", absent)
        if type(value) is not bool:
            raise StorageError(f"tokenizer.ggml.{name} is {value!r}, not true or false", where=str(path))
        return value

    bos, ends = ident("bos"), [ident(name) for name in ("eos", "eot", "eom")]
    # For a file without the key, llama.cpp decides by the pre-tokenizer.
    begins = flag("add_bos_token", tokens.adds_bos(values))
    if flag("add_eos_token", False) or flag("add_sep_token", False):
        raise UsageError(
            "it puts a token after every text (add_eos_token, add_sep_token)",
            where=str(path),
            remedy="this version runs models with at most one token before a text",
        )
    if ends[0] is None or (begins and bos is None):
        missing = "eos" if ends[0] is None else "bos"
        raise UsageError(
            f"tokenizer.ggml.{missing}_token_id is missing",
            where=str(path),
            remedy="convert the model again; the token would be guessed",
        )
    found = Roles(
        begin=bos if begins else None,
        bos=bos,
        ends=tuple(dict.fromkeys(i for i in ends if i is not None)),
        pad=ident("padding"),
    )
    return None if found == tokenizer.roles else found
