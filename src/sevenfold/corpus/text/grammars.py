"""The grammars of tree-sitter that corpus steps read programs with, and their parsers."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from sevenfold.core.process.modules import require_module
from sevenfold.corpus import native
from sevenfold.corpus.native import SyntaxReader


@dataclass(frozen=True, slots=True)
class SyntaxGrammar:
    """Module and function of a grammar; the share of a file's bytes that may be unreadable."""

    module: str
    function: str = "language"
    max_error_share: float = 0.0


GRAMMARS = {
    "bash": SyntaxGrammar("tree_sitter_bash", max_error_share=0.02),
    "c": SyntaxGrammar("tree_sitter_c", max_error_share=0.05),
    "cpp": SyntaxGrammar("tree_sitter_cpp", max_error_share=0.05),
    "go": SyntaxGrammar("tree_sitter_go"),
    "java": SyntaxGrammar("tree_sitter_java"),
    "javascript": SyntaxGrammar("tree_sitter_javascript"),
    "python": SyntaxGrammar("tree_sitter_python"),
    "rust": SyntaxGrammar("tree_sitter_rust"),
    "typescript": SyntaxGrammar("tree_sitter_typescript", "language_typescript"),
}
# A file of the first may turn out to be one of the second: `.h` is C and C++. Where the third is
# found, the second is tried first: repairing C++ as if it were C takes ten times as long as reading
# it.
OTHERWISE = {"c": ("cpp", re.compile(rb"^[ \t]*(?:namespace|class|template[ \t]*<)", re.MULTILINE))}


@cache
def parser(language: str) -> Any:
    """Return tree-sitter's parser of a language in GRAMMARS."""
    library = require_module("tree_sitter")
    return library.Parser(library.Language(_capsule(language)))


def _capsule(language: str) -> object:
    grammar = GRAMMARS[language]
    return getattr(require_module(grammar.module), grammar.function)()


@cache
def reader(language: str) -> SyntaxReader | None:
    """Return the fast way through a language in GRAMMARS, None where its library is not built."""
    found = native.library()
    return None if found is None else native.SyntaxReader(found, _capsule(language))


def available(language: str) -> bool:
    """Return whether a grammar for the language is known and installed."""
    try:
        importlib.import_module(GRAMMARS[language].module)
    except (KeyError, ImportError):
        return False
    return True
