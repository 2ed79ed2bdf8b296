"""Read the `tokenizer.*` keys of a GGUF file. Each is read, known to change no id, or refused.

A key means what it means in llama.cpp. llama.cpp finds USER_DEFINED tokens in a text before it
merges, does not split a piece that is a token, and ends a text at some of the fill-in-the-middle
tokens.
"""

from __future__ import annotations

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.export.gguf import vocabulary
from sevenfold.export.hf.config import shown

# The names that llama.cpp uses for the same rule. With each of them it puts bos before a text
# unless the file says otherwise.
LLAMA3_NAMES = frozenset(
    {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"}
)
_PREFIX = "tokenizer.ggml."
_LISTS = ("tokens", "token_type", "merges")
_READ = {"model", "pre", *_LISTS, "add_bos_token", "add_eos_token", "add_sep_token"}
_READ |= {f"{role}_token_id" for role in ("bos", "eos", "eot", "eom", "padding")}
_DECIDES_NOTHING = {
    # A BPE vocabulary ranks by its merges.
    "scores",
    # Every byte is a token, so no text is unknown.
    "unknown_token_id",
    # Only a caller or `add_sep_token` puts these into a text.
    "seperator_token_id",
    "cls_token_id",
    "mask_token_id",
    "prefix_token_id",
    "suffix_token_id",
    "middle_token_id",
    "fim_pre_token_id",
    "fim_suf_token_id",
    "fim_mid_token_id",
}
# The one value that this version obeys, which is also the value of an absent key.
_WANTED: dict[str, Json] = {
    "add_space_prefix": False,
    "remove_extra_whitespaces": False,
    "normalizer.lowercase": False,
    "normalizer.strip_accents": False,
}
_TYPES = {2: "UNKNOWN", 4: "USER_DEFINED", 5: "UNUSED", 6: "BYTE"}
_NORMAL_OR_CONTROL = (1, 3)
_HF_DIRECTORY = "import the Hugging Face directory that it was made from"


def read_tokenizer(values: dict[str, Json], n_tokens: int, where: str) -> bytes:
    """Return the first `n_tokens` entries of a vocabulary as a tokenizer file in our form.

    Args:
        values: the header of the file.
        n_tokens: the number of tokens before the padding of the embedding.
        where: the file, as errors name it.

    Raises:
        StorageError: the lists are damaged, or they are not a byte-level BPE of our form.
        UsageError: this version does not obey a key, a rule or a token type, which the error names.
    """
    for key in sorted(key for key in values if key.startswith(_PREFIX)):
        _check_key(key, values[key], where)
    if values.get("tokenizer.ggml.model") != "gpt2":
        raise StorageError(
            f"tokenizer.ggml.model is {shown(values.get('tokenizer.ggml.model'))}, not gpt2: no"
            " byte-level BPE",
            where=where,
            remedy="import the Hugging Face directory, or a file with a gpt2 tokenizer",
        )
    tokens, types, merges = (_list(values, name, where) for name in _LISTS)
    if len(tokens) != len(types):
        raise StorageError(
            f"tokenizer.ggml.token_type has {len(types)} entries, tokenizer.ggml.tokens {len(tokens)}",
            where=where,
            remedy="get the file again",
        )
    tokens, types = tokens[:n_tokens], types[:n_tokens]
    for token_id, kind in enumerate(types):
        if kind not in _NORMAL_OR_CONTROL:
            raise UsageError(
                f"tokenizer.ggml.token_type[{token_id}] is {_TYPES.get(kind, kind)}"
                f" ({shown(tokens[token_id])}), not NORMAL or CONTROL",
                where=where,
                remedy=_HF_DIRECTORY,
            )
    pieces = _pieces(values, where)
    data = vocabulary.build(
        tokens, types, merges, pieces, takes_whole=values.get(vocabulary.WHOLE_KEY) is True
    )
    if vocabulary.PIECES_KEY not in values and vocabulary.stray_tokens(data):
        # llama.cpp does not split a piece that is a token, even when no merge builds it (Llama 3).
        return vocabulary.build(tokens, types, merges, pieces, takes_whole=True)
    return data


def adds_bos(values: dict[str, Json]) -> bool:
    """Return whether llama.cpp puts bos before a text when `add_bos_token` is absent."""
    pre = values.get("tokenizer.ggml.pre")
    return isinstance(pre, str) and pre in LLAMA3_NAMES


def _check_key(key: str, value: Json, where: str) -> None:
    name = key.removeprefix(_PREFIX)
    if name in _READ or name in _DECIDES_NOTHING:
        return
    if name not in _WANTED:
        raise UsageError(
            f"{key} is {shown(value)}, and this version does not obey the key",
            where=where,
            remedy=_HF_DIRECTORY,
        )
    if type(value) is not bool or value != _WANTED[name]:
        raise UsageError(
            f"{key} is {shown(value)}, this version obeys {_WANTED[name]}", where=where, remedy=_HF_DIRECTORY
        )


def _list(values: dict[str, Json], name: str, where: str) -> list[Json]:
    """Return one list of the vocabulary.

    Raises StorageError when it is missing or has another type.
    """
    value, kind = values.get(_PREFIX + name), int if name == "token_type" else str
    if not isinstance(value, list) or (not value and name != "merges"):
        raise StorageError(
            f"{_PREFIX}{name} is {'missing' if value is None else shown(value)}, not a list of its"
            " vocabulary",
            where=where,
            remedy="get the file again",
        )
    for place, item in enumerate(value):
        if type(item) is not kind:
            raise StorageError(
                f"{_PREFIX}{name}[{place}] is {shown(item)}, not a {'number' if kind is int else 'text'}",
                where=where,
                remedy="get the file again",
            )
    return value


def _pieces(values: dict[str, Json], where: str) -> str:
    """Return our name of the rule that splits text. Raises UsageError for an unknown rule."""
    ours, pre = values.get(vocabulary.PIECES_KEY), values.get("tokenizer.ggml.pre")
    if isinstance(ours, str):
        return ours
    if ours is None and adds_bos(values):
        return "llama3"
    key, value = ("tokenizer.ggml.pre", pre) if ours is None else (vocabulary.PIECES_KEY, ours)
    raise UsageError(
        f"{key} is {'missing' if value is None else shown(value)}: text is cut by a rule that is not known"
        " here",
        where=where,
        remedy=f"only {', '.join(sorted(LLAMA3_NAMES))} can be imported",
    )
