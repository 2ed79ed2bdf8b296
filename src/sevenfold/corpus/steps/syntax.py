"""Step `syntax`: a program in a language that the recipe names must parse (tree-sitter: 10 MB/s;
what `corpus.native` knows: 55).

tree-sitter recovers from errors, so it can say how much of a file it could not read. For most
languages nothing may be left over; C, C++ and shell are read without their preprocessor or other
commands, hence their shares.
"""

from __future__ import annotations

from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.working_document import Settings, WorkingDocument
from sevenfold.corpus.text.grammars import GRAMMARS, OTHERWISE, reader


def syntax(text: WorkingDocument, settings: Settings) -> Reason | None:
    """Refuse a program whose text its grammar cannot read."""
    if text.language not in settings.spec.syntax:
        return None
    for language in _languages(text):
        if unreadable_share(text, language) <= GRAMMARS[language].max_error_share:
            text.language = language
            return None
    return "syntax_error"


def _languages(text: WorkingDocument) -> tuple[str, ...]:
    """Return what a text may be written in, the likeliest first."""
    if text.language not in OTHERWISE:
        return (text.language,)
    other, marks = OTHERWISE[text.language]
    return (other, text.language) if marks.search(text.data) else (text.language, other)


def unreadable_share(text: WorkingDocument, language: str) -> float:
    """Return the share of the bytes that lie in errors of the syntax tree; a token that had to be
    invented counts as one byte.
    """
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
