"""Find the tokens that begin, end and pad a text of a Hugging Face directory, by the rule of
transformers.

Only the post-processor of tokenizer.json puts a token before a text. The token that ends a text is
sought in this order: generation_config.json, config.json, tokenizer_config.json,
special_tokens_map.json, the default of a Llama.
"""

from __future__ import annotations

from pathlib import Path

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.core.run_files import TOKENIZER
from sevenfold.export.foreign import read_foreign_json
from sevenfold.export.hf.config import CONFIG, DEFAULTS, Config, shown
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.roles import MAX_ENDS, Roles

# The settings that change the tokens of a greedy decoder, each with the value that changes nothing.
GREEDY: dict[str, Json] = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "penalty_alpha": 0.0,
    "guidance_scale": 1.0,
    "bad_words_ids": [],
    "force_words_ids": [],
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "forced_decoder_ids": [],
    "sequence_bias": {},
    "exponential_decay_length_penalty": None,
    "stop_strings": [],
}
GENERATION, SETTINGS, MAP = "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"


def read_roles(path: Path, config: Config, raw: dict[str, Json], tokenizer: Tokenizer) -> Roles | None:
    """Return the roles of the files; None when they follow from the names of the vocabulary.

    Args:
        raw: tokenizer.json unchanged.

    Raises:
        StorageError: a value has another type, or a token is not in the vocabulary.
        UsageError: the post-processor does more than putting one token before a text.
    """
    generation, names = _object(path / GENERATION), _token_names(path)
    ids = {name: tokenizer.special_id(name) for name in tokenizer.special_tokens}
    vocabulary = _vocabulary(raw)

    def of(role: str) -> tuple[Json, str]:
        """Return the value of a role, and the file that contains it."""
        key = f"{role}_token_id"
        for values, file in ((generation, GENERATION), (config.value, CONFIG)):
            if values.get(key) is not None:
                return values[key], file
        name = names.get(f"{role}_token")
        if name is not None and name in ids.keys() | vocabulary.keys():
            return ids.get(name, vocabulary.get(name)), SETTINGS
        if name is not None and role != "pad":
            raise StorageError(
                f"{role}_token {shown(name)} is not in its vocabulary", where=str(path / SETTINGS)
            )
        absent = key not in config.value and key not in generation
        return (DEFAULTS[key] if absent else None), ""

    ends, ends_file = of("eos")
    listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if len(listed) > MAX_ENDS:
        raise StorageError(f"eos_token_id names {len(listed)} tokens, {MAX_ENDS} are read", where=str(path))
    kept = [_id(path, "eos_token_id", value, ends_file, tokenizer.vocab_size) for value in listed]
    found = Roles(
        begin=_leading(raw, ids, path),
        bos=_known("bos_token_id", *of("bos"), path, tokenizer.vocab_size),
        ends=tuple(dict.fromkeys(i for i in kept if i is not None)),
        pad=_known("pad_token_id", *of("pad"), path, tokenizer.vocab_size),
    )
    return None if found == tokenizer.roles else found


def unheard(path: Path) -> tuple[str, ...]:
    """Return a note for each setting of generation_config.json that chooses other tokens than the
    most likely ones. No run here does that.

    Raises:
        StorageError: the file is not a JSON object.
    """
    values = _object(path / GENERATION)
    asked = {
        key: value for key, value in values.items() if key in GREEDY and value not in (None, GREEDY[key])
    }
    return tuple(
        f"{GENERATION}: {key} {shown(value)} is ignored; the most likely token is chosen here"
        for key, value in sorted(asked.items())
    )


def _object(path: Path) -> dict[str, Json]:
    """Return a file that may be missing. Raises StorageError when it is not a JSON object."""
    value = read_foreign_json(path) if path.is_file() else {}
    if not isinstance(value, dict):
        raise StorageError("not a JSON object", where=str(path), remedy="get the model again")
    return value


def _vocabulary(raw: dict[str, Json]) -> dict[str, int]:
    entries = raw["model"]["vocab"]
    return entries if isinstance(entries, dict) else {name: i for i, (name, _) in enumerate(entries)}


def _token_names(path: Path) -> dict[str, str]:
    """Return `bos_token`, `eos_token`, `pad_token` by name.

    The map decides when the settings do not list the added tokens.
    """
    settings = _object(path / SETTINGS)
    merged = settings if "added_tokens_decoder" in settings else settings | _object(path / MAP)
    names = {}
    for key in ("bos_token", "eos_token", "pad_token"):
        value = merged.get(key)
        name = value.get("content") if isinstance(value, dict) else value
        if name is not None and not isinstance(name, str):
            raise StorageError(f"{key} is {shown(value)}, not a token", where=str(path / SETTINGS))
        if name is not None:
            names[key] = name
    return names


def _id(path: Path, key: str, value: Json, file: str, n_ids: int) -> int | None:
    """Return an id of the vocabulary. A default outside of it counts as none. Raises StorageError."""
    if type(value) is int and 0 <= value < n_ids:
        return value
    if type(value) is int and not file:
        return None
    raise StorageError(
        f"{key} is {shown(value)}, not an id of its vocabulary of {n_ids}",
        where=str(path / file),
        remedy="bring the tokenizer that the weights were trained with",
    )


def _known(key: str, value: Json, file: str, path: Path, n_ids: int) -> int | None:
    """Return an id that decides no answer. An id outside the vocabulary, such as -1, counts as
    none. Raises StorageError.
    """
    if value is not None and type(value) is not int:
        raise StorageError(f"{key} is {shown(value)}, not a token id", where=str(path / file))
    return value if value is not None and 0 <= value < n_ids else None


def _leading(raw: dict[str, Json], ids: dict[str, int], path: Path) -> int | None:
    """Return the id of the one token that the post-processor puts before a text, None for none.
    Raises UsageError.
    """
    steps = [raw.get("post_processor")]
    if isinstance(steps[0], dict) and steps[0].get("type") == "Sequence":
        steps = list(steps[0].get("processors", ()))
    put: list[str] = []
    for step in steps:
        # ByteLevel moves offsets, not ids.
        if step is None or (isinstance(step, dict) and step.get("type") == "ByteLevel"):
            continue
        if not isinstance(step, dict) or step.get("type") != "TemplateProcessing":
            raise _unread(path, f"post_processor {shown(step)}")
        *before, text = step["single"]
        if "Sequence" not in text or not all("SpecialToken" in item for item in before):
            raise _unread(path, "a post_processor that puts a token after a text")
        put += [item["SpecialToken"]["id"] for item in before]
        for name in put:
            if name not in ids or step["special_tokens"][name]["ids"] != [ids[name]]:
                raise _unread(
                    path, f"a post_processor with {shown(name)}, which is not one of its special tokens"
                )
    if len(put) > 1:
        raise _unread(path, f"a post_processor that puts {len(put)} tokens before a text")
    return ids[put[0]] if put else None


def _unread(path: Path, what: str) -> UsageError:
    return UsageError(
        f"it has {what}",
        where=str(path / TOKENIZER),
        remedy="this version runs models with at most one token before a text",
    )
