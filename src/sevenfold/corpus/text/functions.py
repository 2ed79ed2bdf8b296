"""Compare functions of a program without names, layout, comments, documentation, annotations and
brackets.

The hash of a function is that of its syntax tree: the kinds of its nodes, operators and literals
unchanged, and every identifier as the number of its first occurrence. Few functions of a corpus can
match one of an evaluation set. Size and kinds of statements exclude most of them before the whole
tree is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Set
from functools import cache, lru_cache
from typing import Any

from sevenfold.core.hashing import digest
from sevenfold.core.process.modules import require_module
from sevenfold.corpus.native import hashed
from sevenfold.corpus.text.grammars import parser, reader

# Smaller functions are common: `__init__` with three arguments has 39 nodes and 31 parts.
MIN_NODES = 40
MIN_PARTS = 36
# There is one language so far, because the sets with solutions are in Python.
QUERIES = {"python": "(function_definition) @function"}
_SKIPPED = frozenset(("comment", "type", "(", ")", "[", "]", "{", "}", ",", ":", ";", "line_continuation"))
_TRANSPARENT = frozenset(
    (
        "parenthesized_expression",
        "expression_statement",
        "block",
        "typed_parameter",
        "typed_default_parameter",
    )
)
_OPAQUE = {"string": "S", "concatenated_string": "S"}
_TAG = "sevenfold/function/1"
# Roles in native/corpus/functions.h. A later row replaces an earlier one.
_ROLES = (
    _SKIPPED, _TRANSPARENT, frozenset(_OPAQUE), frozenset(("identifier",)),
    frozenset(("expression_statement",)),
    frozenset(("function_definition",)), frozenset(("parameters",)), frozenset(("block",)),
)  # fmt: skip


@cache
def _query(language: str) -> Any:
    # This names what is missing.
    parser(language)
    library, grammar = require_module("tree_sitter"), require_module(f"tree_sitter_{language}")
    return library.Query(library.Language(grammar.language()), QUERIES[language])


def functions(tree: Any, language: str) -> list[Any]:
    """Return the nodes of all functions that are large enough, including nested ones, in order."""
    cursor = require_module("tree_sitter").QueryCursor(_query(language))
    found: list[Any] = cursor.captures(tree.root_node).get("function", [])
    return [node for node in found if node.descendant_count >= MIN_NODES]


def _children(node: Any) -> Iterator[Any]:
    """Yield the children of a node, without skipped ones and through transparent ones."""
    for child in node.children:
        kind = child.type
        if kind in _SKIPPED or (kind == "expression_statement" and _is_documentation(child)):
            continue
        if kind in _TRANSPARENT:
            yield from _children(child)
        else:
            yield child


def _is_documentation(statement: Any) -> bool:
    """Return whether a statement consists of one string."""
    return bool(statement.named_child_count == 1 and statement.named_child(0).type in _OPAQUE)


def _hash(parts: list[str]) -> int:
    return _number(digest(_TAG, *parts))


def _number(hexadecimal: str) -> int:
    return int(hexadecimal[:16], 16)


def statement_signature(node: Any) -> int:
    """Return the hash of the kinds of the statements of a function. It is cheap, and different for
    most functions.
    """
    kinds = []
    for child in node.child_by_field_name("body").named_children:
        kind = child.type
        if kind == "expression_statement":
            kind = child.named_child(0).type
            if kind in _OPAQUE:
                continue
        if kind not in _SKIPPED:
            kinds.append(kind)
    return _hash(kinds)


def function_fingerprint(node: Any) -> int | None:
    """Return the 64-bit hash of the parameters and the body of a function; None when it has fewer
    than MIN_PARTS.
    """
    parts = _parts_of(node)
    return _hash(parts) if len(parts) >= MIN_PARTS else None


def forms(node: Any) -> set[int]:
    """Return the hashes of a function as it is, and as a function without receiver and defaults."""
    parts = _parts_of(node)
    if len(parts) < MIN_PARTS:
        return set()
    framed = b"".join(len(x).to_bytes(8, "big") + x for x in (part.encode() for part in parts))
    return {_hash(parts), *(_number(hashed(_TAG, form)) for form in _as_functions(framed))}


def _parts_of(node: Any) -> list[str]:
    names: dict[bytes, int] = {}
    return [
        part
        for field in ("parameters", "body")
        if (child := node.child_by_field_name(field)) is not None
        for part in _parts(child, names)
    ]


def _parts(node: Any, names: dict[bytes, int]) -> Iterator[str]:
    for child in _children(node):
        kind = child.type
        if kind == "identifier":
            yield f"v{names.setdefault(child.text, len(names))}"
        elif kind in _OPAQUE:
            yield _OPAQUE[kind]
        elif child.child_count:
            yield kind
            yield from _parts(child, names)
            yield ")"
        else:
            yield child.text.decode("utf-8", "replace") if child.is_named else kind


def of_shapes(data: bytes, language: str, shapes: Set[int]) -> set[int] | None:
    """Return the hashes of the functions in a text whose shape is one of `shapes`, without its
    tree; None where the tree is needed.

    The result is that of `forms` for the nodes that `functions` finds and `statement_signature`
    selects.
    """
    fast = reader(language)
    if fast is None or not fast.is_clean(data):
        return None
    found = set[int]()
    for i, kinds in enumerate(fast.find_functions(_roles(language), MIN_NODES)):
        if _shape(kinds) in shapes:
            n_parts, parts = fast.write_function(i)
            if n_parts >= MIN_PARTS:
                forms = (parts, *fast.as_functions(parts, MIN_PARTS)) if _may_differ(parts) else (parts,)
                found.update(_number(hashed(_TAG, form)) for form in forms)
    return found


# The part of the first name of a function, with its length, and the part of a default.
_FIRST = (2).to_bytes(8, "big") + b"v0"
_DEFAULT = (17).to_bytes(8, "big") + b"default_parameter"


def in_python(data: bytes, shapes: Set[int]) -> set[int]:
    """Return the hashes of the functions in a Python text whose statement signature is one of
    `shapes`. The library reads it, or tree-sitter where the library cannot decide.
    """
    found = of_shapes(data, "python", shapes)
    if found is not None:
        return found
    nodes = functions(parser("python").parse(data), "python")
    return {hashed for node in nodes if statement_signature(node) in shapes for hashed in forms(node)}


def _may_differ(parts: bytes) -> bool:
    """Return whether a function has a default, or begins with a parameter that it does not use."""
    return _DEFAULT in parts or (parts.startswith(_FIRST) and parts.count(_FIRST) == 1)


def _as_functions(parts: bytes) -> Iterator[bytes]:
    """Yield a function as it would be without a first parameter that it does not use, and without
    plain defaults; forms of fewer parts than MIN_PARTS are left out.
    """
    bare = _without_defaults(parts) if _DEFAULT in parts else parts
    forms = [bare] if len(bare) < len(parts) else []
    for form in (parts, bare):
        if form.startswith(_FIRST) and form.count(_FIRST) == 1:
            names = list(_split(form))[1:]
            rest = [b"v%d" % (int(x[1:]) - 1) if x[:1] == b"v" and x[1:].isdigit() else x for x in names]
            forms.append(b"".join(len(x).to_bytes(8, "big") + x for x in rest))
    for form in forms:
        if sum(1 for _ in itertools.islice(_split(form), MIN_PARTS)) == MIN_PARTS:
            yield form


def _split(parts: bytes, place: int = 0) -> Iterator[bytes]:
    """Yield each part from `place` on."""
    while place < len(parts):
        end = place + 8 + int.from_bytes(parts[place : place + 8], "big")
        yield parts[place + 8 : end]
        place = end


def _without_defaults(parts: bytes) -> bytes:
    """Return the parts without defaults of one part, or of an empty list, tuple or dictionary."""
    kept, behind = list[bytes](), 0
    place = parts.find(_DEFAULT)
    while place >= 0:
        after = place + len(_DEFAULT)
        names = list(itertools.islice(_split(parts, after), 5))
        n = next((n for n in (4, 5) if names[n - 1 : n] == [b")"]), 0) if names[1:2] == [b"="] else 0
        if n:
            kept += (parts[behind:place], len(names[0]).to_bytes(8, "big"), names[0])
            after = behind = after + sum(8 + len(name) for name in names[:n])
        place = parts.find(_DEFAULT, after)
    return b"".join((*kept, parts[behind:]))


@lru_cache(1 << 14)
def _shape(kinds: bytes) -> int:
    return _number(hashed(_TAG, kinds))


@cache
def _roles(language: str) -> bytes:
    """Return a byte for each symbol of the grammar: the place of its kind
    in _ROLES, 0 when it has none.
    """
    grammar = parser(language).language
    roles = {kind: role for role, kinds in enumerate(_ROLES, 1) for kind in kinds}
    return bytes(roles.get(grammar.node_kind_for_id(i), 0) for i in range(grammar.node_kind_count))
