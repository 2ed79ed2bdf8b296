"""Step `syntax`: a program in a language that the recipe names must parse (tree-sitter; about 10 MB/s).

tree-sitter recovers from errors, so it can say how much of a file it could not read. For most languages nothing
may be left over; C, C++ and shell are read without their preprocessor or other commands, hence their shares.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from sevenfold.corpus.ledger import Reason
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
# A file of the first may turn out to be one of the second: `.h` is C and C++.
OTHERWISE = {"c": "cpp"}


@cache
def parser(language: str) -> Any:
    """tree-sitter's parser of a language in GRAMMARS."""
    library, grammar = need("tree_sitter"), GRAMMARS[language]
    module = need(grammar.module)
    return library.Parser(library.Language(getattr(module, grammar.function)()))


def syntax(text: Text, settings: Settings) -> Reason | None:
    """Refuse a program whose text its grammar cannot read."""
    if text.language not in settings.spec.syntax:
        return None
    for language in (text.language, OTHERWISE.get(text.language)):
        if language and unreadable_share(text, language) <= GRAMMARS[language].max_error_share:
            text.language = language
            return None
    return "syntax_error"


def unreadable_share(text: Text, language: str) -> float:
    """Share of the bytes that lie in errors of the syntax tree; a token that had to be invented counts as one byte."""
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
