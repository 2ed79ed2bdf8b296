"""Step `syntax`: a program in a language that the recipe names must parse (tree-sitter: 10 MB/s; what `corpus.native` knows: 55).

tree-sitter recovers from errors, so it can say how much of a file it could not read. For most languages nothing
may be left over; C, C++ and shell are read without their preprocessor or other commands, hence their shares.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from sevenfold.corpus import native
from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.native import Reader
from sevenfold.corpus.steps.text import Settings, Text, need


@dataclass(frozen=True, slots=True)
class Grammar:
    """Module and function of a grammar; the share of a file's bytes that may be unreadable."""

    module: str
    function: str = "language"
    max_error_share: float = 0.0


GRAMMARS = {
    "bash": Grammar("tree_sitter_bash", max_error_share=0.02),
    "c": Grammar("tree_sitter_c", max_error_share=0.05),
    "cpp": Grammar("tree_sitter_cpp", max_error_share=0.05),
    "go": Grammar("tree_sitter_go"),
    "java": Grammar("tree_sitter_java"),
    "javascript": Grammar("tree_sitter_javascript"),
    "python": Grammar("tree_sitter_python"),
    "rust": Grammar("tree_sitter_rust"),
    "typescript": Grammar("tree_sitter_typescript", "language_typescript"),
}
# A file of the first may turn out to be one of the second: `.h` is C and C++. Where the third is found, the second is tried first:
# repairing C++ as if it were C takes ten times as long as reading it.
OTHERWISE = {"c": ("cpp", re.compile(rb"^[ \t]*(?:namespace|class|template[ \t]*<)", re.MULTILINE))}


@cache
def parser(language: str) -> Any:
    """tree-sitter's parser of a language in GRAMMARS."""
    library = need("tree_sitter")
    return library.Parser(library.Language(_capsule(language)))


def _capsule(language: str) -> object:
    grammar = GRAMMARS[language]
    return getattr(need(grammar.module), grammar.function)()


@cache
def reader(language: str) -> Reader | None:
    """The fast way through a language in GRAMMARS, None where its library is not built."""
    found = native.library()
    return None if found is None else native.Reader(found, _capsule(language))


def syntax(text: Text, settings: Settings) -> Reason | None:
    """Refuse a program whose text its grammar cannot read."""
    if text.language not in settings.spec.syntax:
        return None
    for language in _languages(text):
        if unreadable_share(text, language) <= GRAMMARS[language].max_error_share:
            text.language = language
            return None
    return "syntax_error"


def _languages(text: Text) -> tuple[str, ...]:
    """What a text may be written in, the likeliest first."""
    if text.language not in OTHERWISE:
        return (text.language,)
    other, marks = OTHERWISE[text.language]
    return (other, text.language) if marks.search(text.data) else (text.language, other)


def unreadable_share(text: Text, language: str) -> float:
    """Share of the bytes that lie in errors of the syntax tree; a token that had to be invented counts as one byte."""
    fast = reader(language)
    if fast is not None and fast.is_clean(text.data):
        return 0.0
    root = text.tree(language).root_node
    if not root.has_error:
        return 0.0
    n_bytes, waiting = 0, [root]
    while waiting:
        node = waiting.pop()
        if node.is_error or node.is_missing:
            n_bytes += max(1, node.end_byte - node.start_byte)
        elif node.has_error:
            waiting += node.children
    return max(1, n_bytes) / len(text.data)


def available(language: str) -> bool:
    """Whether a grammar for the language is known and installed."""
    try:
        importlib.import_module(GRAMMARS[language].module)
    except (KeyError, ImportError):
        return False
    return True
