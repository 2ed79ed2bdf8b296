"""Check a tree with locations against the schema. The result is the value, or one error that names
file, line, key and what is allowed.

There are two passes. The first walks the tree along the types of the schema. It refuses unknown keys
and turns quantities into numbers. The second lets pydantic check types and bounds strictly, and
finds the location of each of its findings.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sevenfold.core.errors import RecipeError
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.recipe.fields import Section, keys_of
from sevenfold.recipe.units import QuantityError, Unit, parse_quantity
from sevenfold.recipe.yamltree import Node, SourceLocation, show

S = TypeVar("S", bound=Section)

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.<-]{1,60}")


def build(section: type[S], tree: Node, prefix: str = "") -> S:
    """Return the section that `tree` describes. `prefix` is its key path in the recipe.

    Raises:
        RecipeError: the tree breaks the schema. `where` is file:line of the key at fault.
    """
    value = _plain(tree, section, None, prefix)
    try:
        return section.model_validate_json(canonical_json(value))
    except ValidationError as error:
        raise _translate(error, tree, prefix) from None


def locate(tree: Node, keys: Iterable[str | int]) -> tuple[SourceLocation, Node, list[str | int]]:
    """Follow `keys` as far as the tree has them. Return the location of the last key found, its node,
    and the keys followed.

    Elements that the tree does not have, such as pydantic's union tags, are skipped.
    """
    mark, node = tree.mark, tree
    followed: list[str | int] = []
    for key in keys:
        if isinstance(node.value, dict) and isinstance(key, str) and key in node.value:
            mark, node = node.value[key]
            followed.append(key)
        elif isinstance(node.value, list) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            mark = node.mark
            followed.append(key)
    return mark, node, followed


def join(prefix: str, keys: Iterable[str | int]) -> str:
    """Return the key path as it is shown: `corpus.sources[0].path`."""
    text = prefix
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if _PLAIN_KEY.fullmatch(key) else show(key))
    return text


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return `did you mean ...?` for the closest choice, or nothing."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? " if close else ""


def unwrap(annotation: Any, unit: Unit | None = None) -> tuple[Any, Unit | None]:
    """Return the type without `Annotated`, and the unit it carries."""
    while get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        unit = next((item for item in extra if isinstance(item, Unit)), unit)
    return annotation, unit


def options(annotation: Any) -> list[Any]:
    """Return the members of a union (each without `Annotated`), or the type alone."""
    annotation, _ = unwrap(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for option in get_args(annotation) for member in options(option)]
    return [annotation]


def sections_of(annotation: Any) -> list[type[Section]]:
    """Return the sections that a value of this type may be."""
    return [
        option for option in options(annotation) if isinstance(option, type) and issubclass(option, Section)
    ]


def tag_of(section: type[Section], sections: list[type[Section]]) -> tuple[str, str]:
    """Return the key and the value that identify `section` in a discriminated union."""
    shared = set.intersection(*(set(other.model_fields) for other in sections))
    for key in section.model_fields:
        annotation = section.model_fields[key].annotation
        if key in shared and get_origin(annotation) is Literal:
            return key, str(get_args(annotation)[0])
    raise TypeError(f"{section.__name__} has no tag")


def _choose(node: Node, annotation: Any, path: str) -> type[Section] | None:
    """Return the section that a mapping is meant to be, or None when the schema expects no section
    here.
    """
    sections = sections_of(annotation)
    if len(sections) < 2 or not isinstance(node.value, dict):
        return sections[0] if sections else None
    tags = {tag_of(section, sections)[1]: section for section in sections}
    key = tag_of(sections[0], sections)[0]
    if key not in node.value:
        raise RecipeError(
            f"{path}.{key}: required, and missing", where=str(node.mark), remedy=f"allowed: {', '.join(tags)}"
        )
    mark, tag = node.value[key]
    if not isinstance(tag.value, str) or tag.value not in tags:
        hint = nearest(str(tag.plain()), tags)
        raise RecipeError(
            f"{path}.{key}: {show(tag.plain())} is not a choice",
            where=str(mark),
            remedy=f"{hint}allowed: {', '.join(tags)}",
        )
    return tags[tag.value]


def _plain(node: Node, annotation: Any, unit: Unit | None, path: str) -> Json:
    """Return the node's value with quantities as numbers.

    Raises RecipeError for an unknown key or a wrong unit.
    """
    annotation, unit = unwrap(annotation, unit)
    if isinstance(node.value, dict):
        section = _choose(node, annotation, path)
        if section is not None:
            return _section(node.value, section, path)
        inner = _arguments(annotation, dict)[-1]
        return {key: _plain(item, inner, None, join(path, [key])) for key, (_, item) in node.value.items()}
    if isinstance(node.value, list):
        members = _arguments(annotation, tuple)
        fixed = ... not in members
        return [
            _plain(item, members[min(index, len(members) - 1) if fixed else 0], None, f"{path}[{index}]")
            for index, item in enumerate(node.value)
        ]
    unit = unit or next((u for u in map(_unit_of, _union_args(annotation)) if u), None)
    if unit is not None and isinstance(node.value, str):
        try:
            return parse_quantity(node.value, unit)
        except QuantityError as error:
            raise RecipeError(f"{path}: {show(node.value)} {error}", where=str(node.mark)) from None
    return node.value


def _arguments(annotation: Any, container: type) -> tuple[Any, ...]:
    """Return the type arguments of `tuple[...]` or `dict[...]` in a union, or (Any,) when the union
    has neither.
    """
    return next(
        (get_args(option) for option in options(annotation) if get_origin(option) is container), (Any,)
    )


def _unit_of(annotation: Any) -> Unit | None:
    return unwrap(annotation)[1]


def _union_args(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()


def _section(
    entries: dict[str, tuple[SourceLocation, Node]], section: type[Section], path: str
) -> dict[str, Json]:
    value, allowed = {}, keys_of(section)
    for key, (mark, item) in entries.items():
        field = allowed.get(key)
        if field is None:
            raise RecipeError(
                f"{join(path, [key])}: unknown key",
                where=str(mark),
                remedy=f"{nearest(key, allowed)}allowed here: {', '.join(allowed)}",
            )
        unit = next((extra for extra in field.metadata if isinstance(extra, Unit)), None)
        value[key] = _plain(item, field.annotation, unit, join(path, [key]))
    return value


# Type of a pydantic error -> what is allowed. {name} is taken from the context of the error.
_ALLOWED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text (quote it)",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "null",
    "literal_error": "{expected}",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "a number >= {ge}",
    "less_than": "a number < {lt}",
    "less_than_equal": "a number <= {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} items",
    "too_long": "at most {max_length} items",
}
_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of"}


def _allowed(error: ErrorDetails) -> str:
    text = _ALLOWED.get(error["type"])
    return text.format(**error.get("ctx", {})) if text else error["msg"]


def _problem(kind: str) -> str:
    if kind in _RANGE:
        return "out of range"
    if kind == "literal_error":
        return "not a choice"
    return "wrong length" if kind in ("too_short", "too_long", "string_too_long") else "wrong type or form"


def _translate(error: ValidationError, tree: Node, prefix: str) -> RecipeError:
    """Return an error about the first finding. Findings of other branches of its union are added."""
    findings = [(locate(tree, item["loc"]), item) for item in error.errors(include_url=False)]
    # A mapping is meant for the section of a union, so findings of its scalar branch are left out.
    useful = [
        (place, item)
        for place, item in findings
        if not (item["type"] == "literal_error" and isinstance(place[1].value, dict))
    ] or findings
    (mark, node, followed), first = useful[0]
    if first["type"] == "missing":
        key = join(prefix, [*followed, first["loc"][-1]])
        return RecipeError(f"{key}: required, and missing", where=str(mark), remedy="add it")
    same = [item for place, item in useful if place[2] == followed and item["type"] != "missing"]
    allowed = " or ".join(dict.fromkeys(_allowed(item) for item in same))
    hint = ""
    if first["type"] == "literal_error" and isinstance(node.value, str):
        hint = nearest(node.value, re.findall(r"'([^']*)'", _allowed(first)))
    return RecipeError(
        f"{join(prefix, followed) or 'the recipe'}: {show(node.plain())} is {_problem(first['type'])}",
        where=str(mark),
        remedy=f"{hint}allowed: {allowed}",
    )
