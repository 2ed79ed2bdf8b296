"""Define which fields and values of `tokenizer.json` this version reads.

A field that decides ids or text is obeyed, or the file is refused and the field is named. A field
that decides nothing here may have any value of its type. A field outside the tables is refused,
because its effect is unknown. Absent optional fields have the defaults of the `tokenizers` library.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sevenfold.core.hashing import Json

Check = Callable[[Json], bool]


def _one_of(*values: Json) -> Check:
    # A bool is not accepted as a number, although `True == 1` in Python.
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def _is(*kinds: type) -> Check:
    return lambda value: type(value) in kinds


_NULL = _one_of(None)
# These may be absent, because the default of the library equals the value given here.
_REQUIRED = object()
Table = Mapping[str, tuple[Check, Any]]

_TOP: Table = {
    "version": (_one_of("1.0"), "1.0"),
    "truncation": (_NULL, None),
    "padding": (_NULL, None),
    "added_tokens": (_is(list), _REQUIRED),
    "normalizer": (_NULL, None),
    "pre_tokenizer": (_is(dict), _REQUIRED),
    "post_processor": (_NULL, None),
    "decoder": (_is(dict), _REQUIRED),
    "model": (_is(dict), _REQUIRED),
}
_ADDED_TOKEN: Table = {
    "id": (_is(int), _REQUIRED),
    "content": (_is(str), _REQUIRED),
    # Each of the first three lets the library include blanks around the token, or match only whole
    # words.
    "single_word": (_one_of(False), False),
    "lstrip": (_one_of(False), False),
    "rstrip": (_one_of(False), False),
    # It decides whether a normalizer runs first, and there is no normalizer.
    "normalized": (_is(bool), False),
    # The library finds a token that is not special in any text. Special tokens of ours are never
    # found in one.
    "special": (_one_of(True), _REQUIRED),
}
_SEQUENCE: Table = {"type": (_one_of("Sequence"), _REQUIRED), "pretokenizers": (_is(list), _REQUIRED)}
_SPLIT: Table = {
    "type": (_one_of("Split"), _REQUIRED),
    "pattern": (_is(dict), _REQUIRED),
    "behavior": (_one_of("Isolated"), _REQUIRED),
    "invert": (_one_of(False), False),
}
_PATTERN: Table = {"Regex": (_is(str), _REQUIRED)}
_BYTE_LEVEL: Table = {
    "type": (_one_of("ByteLevel"), _REQUIRED),
    "add_prefix_space": (_one_of(False), _REQUIRED),
    # It decides offsets in the text, which nothing here reads.
    "trim_offsets": (_is(bool), True),
    # The default of the library is True, which would cut once more by the rule of GPT-2.
    "use_regex": (_one_of(False), True),
}
# A byte-level decoder reads none of these fields. Only their type is checked.
_DECODER: Table = {
    "type": (_one_of("ByteLevel"), _REQUIRED),
    "add_prefix_space": (_is(bool), True),
    "trim_offsets": (_is(bool), True),
    "use_regex": (_is(bool), True),
}
_BPE: Table = {
    "type": (_one_of("BPE"), _REQUIRED),
    "dropout": (_NULL, None),
    # Every byte is an entry, so nothing is unknown, and these three decide nothing.
    "unk_token": (_is(str, type(None)), None),
    "fuse_unk": (_is(bool), False),
    "byte_fallback": (_is(bool), False),
    "continuing_subword_prefix": (_one_of(None, ""), None),
    "end_of_word_suffix": (_one_of(None, ""), None),
    "ignore_merges": (_is(bool), False),
    "vocab": (_is(dict), _REQUIRED),
    "merges": (_is(list), _REQUIRED),
}
_UNIGRAM: Table = {
    "type": (_one_of("Unigram"), _REQUIRED),
    "unk_id": (_NULL, None),
    "byte_fallback": (_one_of(False), False),
    "vocab": (_is(list), _REQUIRED),
}
_MODELS = {"BPE": _BPE, "Unigram": _UNIGRAM}


def read_form(data: bytes) -> Json:
    """Return the value of a tokenizer file in one normal form.

    Absent fields get their defaults, and merges are pairs of names.

    Raises:
        ValueError: a field is unknown, missing or repeated, or has a value that is not supported.
            The message names the field.
    """
    value = _filled(json.loads(data, object_pairs_hook=_without_repeats), _TOP, "")
    for place, token in enumerate(value["added_tokens"]):
        value["added_tokens"][place] = _filled(token, _ADDED_TOKEN, f"added_tokens[{place}]")
    value["pre_tokenizer"] = _pre_tokenizer(value["pre_tokenizer"])
    value["decoder"] = _filled(value["decoder"], _DECODER, "decoder")
    kind = value["model"].get("type")
    if kind not in _MODELS:
        raise ValueError(f"model.type is {_shown(kind)}, not one of {', '.join(_MODELS)}")
    value["model"] = _filled(value["model"], _MODELS[kind], "model")
    if kind == "BPE":
        value["model"]["merges"] = [_pair(i, merge) for i, merge in enumerate(value["model"]["merges"])]
        for name, token_id in value["model"]["vocab"].items():
            if type(token_id) is not int:
                raise ValueError(f"model.vocab gives {_shown(name)} the id {_shown(token_id)}")
    return value


def _pre_tokenizer(value: Json) -> Json:
    value = _filled(value, _SEQUENCE, "pre_tokenizer")
    steps = value["pretokenizers"]
    kinds = [step.get("type") if isinstance(step, dict) else step for step in steps]
    if kinds not in (["Split", "ByteLevel"], ["Split", "Split", "ByteLevel"]):
        raise ValueError(f"pre_tokenizer is {_shown(kinds)}, not Split, ByteLevel, or one Split more")
    filled = []
    for place, step in enumerate(steps):
        where = f"pre_tokenizer.pretokenizers[{place}]"
        step = _filled(step, _SPLIT if step["type"] == "Split" else _BYTE_LEVEL, where)
        if step["type"] == "Split":
            step["pattern"] = _filled(step["pattern"], _PATTERN, f"{where}.pattern")
        filled.append(step)
    return {**value, "pretokenizers": filled}


def _filled(value: Json, table: Table, where: str) -> dict[str, Json]:
    """Return an object with every field of its table. Raises ValueError as `read_form` does."""
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'the file'} is {_shown(value)}, not an object")
    prefix = f"{where}." if where else ""
    for name in value:
        if name not in table:
            raise ValueError(f"{prefix}{name} is a field that this version does not know")
    filled = {}
    for name, (is_read, default) in table.items():
        if name not in value and default is _REQUIRED:
            raise ValueError(f"{prefix}{name} is missing")
        filled[name] = value.get(name, default)
        if not is_read(filled[name]):
            absent = "" if name in value else ", as it is where the field is absent"
            raise ValueError(f"{prefix}{name} is {_shown(filled[name])}{absent}: it is not obeyed here")
    return filled


def _pair(place: int, merge: Json) -> list[str]:
    """Return a merge as two names. The library writes a pair; earlier versions wrote "left right"."""
    pair = merge.split(" ") if isinstance(merge, str) else merge
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)):
        raise ValueError(f"model.merges[{place}] is {_shown(merge)}, not two names")
    return pair


def _without_repeats(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)} stands twice in one object")
    return value


def _shown(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
