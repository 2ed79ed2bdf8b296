"""Compress a program to a table of facts and an outline. Each fact has its byte range in the text.

Facts are imports, definitions with their signatures, constants and calls. tree-sitter reads the
languages of the corpus stage. A text in another language, or without an installed grammar, is read
line by line, and the result says so. The text and the version of the grammar determine the result.
See specs/memory.md, "Scratchpad".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sevenfold.agent.memory.chunks import INNER, TOP, line_levels, split_lines
from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import Json
from sevenfold.corpus.text.grammars import available, parser

IMPORT, DEFINITION, CONSTANT, CALLS = "import", "definition", "constant", "calls"
# The kinds in the order of their importance. A budget drops the last ones first.
ORDER = (DEFINITION, IMPORT, CONSTANT, CALLS)
MAX_DETAIL = 400
MAX_BYTES = 8 << 20
_MAX_CALLS = 64
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class OutlineGrammar:
    """The node types of a grammar for definitions, imports and calls, and the field of a call that
    holds what is called.
    """

    definitions: frozenset[str]
    imports: frozenset[str]
    calls: dict[str, str]
    constants: frozenset[str] = frozenset()


def _grammar(definitions: str, imports: str, calls: dict[str, str], constants: str = "") -> OutlineGrammar:
    return OutlineGrammar(
        frozenset(definitions.split()), frozenset(imports.split()), calls, frozenset(constants.split())
    )


_CALL = {"call_expression": "function"}
_INCLUDE = "preproc_include using_declaration"
_C = "function_definition struct_specifier enum_specifier union_specifier type_definition"
_JAVASCRIPT = "function_declaration generator_function_declaration class_declaration method_definition"
OUTLINES = {
    "bash": _grammar("function_definition", "", {"command": "name"}),
    "c": _grammar(_C, "preproc_include", _CALL, "preproc_def"),
    "cpp": _grammar(
        f"{_C} class_specifier namespace_definition", _INCLUDE, _CALL, "preproc_def"
    ),
    "go": _grammar(
        "function_declaration method_declaration type_declaration", "import_declaration", _CALL,
        "const_declaration",
    ),
    "java": _grammar(
        "class_declaration interface_declaration enum_declaration record_declaration method_declaration"
        " constructor_declaration",
        "import_declaration",
        {"method_invocation": "name", "object_creation_expression": "type"},
    ),
    "javascript": _grammar(_JAVASCRIPT, "import_statement", _CALL | {"new_expression": "constructor"}),
    "python": _grammar(
        "function_definition class_definition",
        "import_statement import_from_statement future_import_statement",
        {"call": "function"},
        "assignment",
    ),
    "rust": _grammar(
        "function_item function_signature_item struct_item enum_item trait_item impl_item mod_item type_item"
        " union_item macro_definition",
        "use_declaration",
        _CALL | {"macro_invocation": "macro"},
        "const_item static_item",
    ),
    "typescript": _grammar(
        f"{_JAVASCRIPT} abstract_class_declaration interface_declaration type_alias_declaration"
        " enum_declaration method_signature function_signature",
        "import_statement",
        _CALL | {"new_expression": "constructor"},
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact and its bytes [start, end) in the text.

    Attributes:
        name: the qualified name, as in `Class.method`; for an import its text.
        depth: the number of enclosing definitions.
    """

    kind: str
    name: str
    detail: str
    start: int
    end: int
    line: int
    depth: int


@dataclass(frozen=True, kw_only=True)
class Scratchpad:
    """A compressed text.

    Attributes:
        read_by: "tree-sitter" or "lines".
        text: the outline, with one line for each fact.
        n_dropped: the number of facts that the budget left out.
    """

    facts: tuple[Fact, ...]
    text: str
    language: str
    read_by: str
    n_text: int
    n_dropped: int

    def value(self) -> dict[str, Json]:
        """Return the scratchpad as JSON."""
        rows = [
            {
                **{"kind": fact.kind, "name": fact.name, "detail": fact.detail, "line": fact.line},
                "bytes": [fact.start, fact.end],
            }
            for fact in self.facts
        ]
        return {
            "language": self.language,
            "read_by": self.read_by,
            "bytes": self.n_text,
            "bytes_kept": len(self.text.encode()),
            "facts": rows,
            "facts_dropped": self.n_dropped,
            "outline": self.text,
        }


def compress(text: bytes, language: str, *, budget: int | None = None, where: str = "") -> Scratchpad:
    """Return the facts of a text and their outline.

    Args:
        budget: the most bytes of the outline. Calls are dropped first, then constants, imports,
            definitions.

    Raises:
        UsageError: the text is too long or not UTF-8, or the budget is negative.
    """
    if len(text) > MAX_BYTES or (budget is not None and budget < 0):
        raise UsageError(
            f"{len(text)} bytes, budget {budget}",
            where=where,
            remedy=f"at most {MAX_BYTES} bytes, budget >= 0",
        )
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"no UTF-8 at byte {error.start}", where=where, remedy="give a text") from None
    fast = language in OUTLINES and available(language)
    found = list(_facts(text, language) if fast else _facts_by_lines(text, language))
    facts = sorted(found, key=lambda fact: (fact.start, ORDER.index(fact.kind), fact.end, fact.name))
    kept = facts if budget is None else _within(facts, budget)
    return Scratchpad(
        facts=tuple(kept),
        text="".join(map(_line, kept)),
        language=language,
        read_by="tree-sitter" if fast else "lines",
        n_text=len(text),
        n_dropped=len(facts) - len(kept),
    )


def _line(fact: Fact) -> str:
    shown = f"-> {fact.detail}" if fact.kind == CALLS else fact.detail
    return f"{'  ' * fact.depth}{fact.line}: {shown}\n"


def _within(facts: list[Fact], budget: int) -> list[Fact]:
    """Return the facts that fit. They are chosen by kind, and outer definitions before inner ones."""
    order = sorted(range(len(facts)), key=lambda i: (ORDER.index(facts[i].kind), facts[i].depth, i))
    kept: list[int] = []
    for i in order:
        size = len(_line(facts[i]).encode())
        if size > budget:
            break
        budget -= size
        kept.append(i)
    return [facts[i] for i in sorted(kept)]


def _one_line(text: bytes) -> str:
    flat = _SPACE.sub(" ", text.decode()).strip()
    return flat if len(flat) <= MAX_DETAIL else flat[: MAX_DETAIL - 3] + "..."


def _facts(text: bytes, language: str) -> Iterator[Fact]:
    """Yield the facts of a text that tree-sitter reads. The walk uses an explicit stack."""
    grammar = OUTLINES[language]
    root = parser(language).parse(text).root_node
    # Each node with the names around it, and the calls of the innermost definition.
    waiting: list[tuple[Any, tuple[str, ...], dict[str, None]]] = [(root, (), {})]
    edges: list[tuple[Fact, dict[str, None]]] = []
    while waiting:
        node, around, calls = waiting.pop()
        if node.type in grammar.definitions:
            fact = _definition(node, text, around)
            if fact is not None:
                yield fact
                around, calls = (*around, fact.name.rsplit(".", 1)[-1]), {}
                edges.append((fact, calls))
        elif node.type in grammar.imports:
            detail = _one_line(text[node.start_byte : node.end_byte])
            yield _fact(IMPORT, detail, detail, node, len(around))
            continue
        elif node.type in grammar.constants and not around and _is_constant(node, text, language):
            detail = _one_line(text[node.start_byte : node.end_byte])
            yield _fact(CONSTANT, detail.partition("=")[0].strip(), detail, node, 0)
        elif node.type in grammar.calls:
            target = node.child_by_field_name(grammar.calls[node.type])
            name = "" if target is None else _last_name(text[target.start_byte : target.end_byte])
            if name:
                calls[name] = None
        waiting += [(child, around, calls) for child in reversed(node.children)]
    for fact, called in edges:
        if called:
            detail = ", ".join(list(called)[:_MAX_CALLS])
            yield Fact(CALLS, fact.name, detail, fact.start, fact.end, fact.line, fact.depth + 1)


def _fact(kind: str, name: str, detail: str, node: Any, depth: int) -> Fact:
    return Fact(kind, name, detail, node.start_byte, node.end_byte, node.start_point[0] + 1, depth)


def _definition(node: Any, text: bytes, around: tuple[str, ...]) -> Fact | None:
    """Return the fact of a definition. Its signature ends before its body."""
    named, declarator = node.child_by_field_name("name"), node.child_by_field_name("declarator")
    while named is None and declarator is not None:
        inner = declarator.child_by_field_name("declarator")
        named, declarator = (declarator, None) if inner is None else (None, inner)
    body = node.child_by_field_name("body")
    if named is None:
        named = node.child_by_field_name("type")
    if named is None and node.named_children:
        named = node.named_children[0].child_by_field_name("name")
    if named is None:
        return None
    name = _one_line(text[named.start_byte : named.end_byte])
    end = node.end_byte if body is None else body.start_byte
    detail = _one_line(text[node.start_byte : end]).rstrip("{: ")
    fact = _fact(DEFINITION, ".".join((*around, name)), detail, node, len(around))
    return fact if detail and name else None


def _is_constant(node: Any, text: bytes, language: str) -> bool:
    """Return whether a node is a constant of the file. In Python that is a top-level name in
    capitals.
    """
    if language != "python":
        return True
    left = node.child_by_field_name("left")
    name = b"" if left is None else text[left.start_byte : left.end_byte]
    on_top = node.parent is not None and node.parent.parent is not None and node.parent.parent.parent is None
    return bool(on_top and name.isupper())


def _last_name(text: bytes) -> str:
    """Return the last name of the called expression: c for `a.b.c`."""
    found = re.findall(r"[A-Za-z_$][A-Za-z0-9_$]*!?", text.decode())
    return found[-1] if found and not text.rstrip().endswith((b")", b"]")) else ""


def _facts_by_lines(text: bytes, language: str) -> Iterator[Fact]:
    """Yield the lines that begin a definition or a heading, by the rule that cuts chunks."""
    lines, numbers = split_lines(text)
    place = 0
    for line, number, level in zip(lines, numbers, line_levels(lines, language), strict=True):
        if level <= INNER and (detail := _one_line(line)):
            yield Fact(DEFINITION, detail, detail, place, place + len(line), number, 0 if level == TOP else 1)
        place += len(line)
