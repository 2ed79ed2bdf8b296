"""Step `syntax`: drop a program that does not parse in its language (tree-sitter: 10 MB/s; with
`corpus.native`: 55 MB/s).

tree-sitter recovers from errors, so it reports how much of a file it could not read. For most
languages that share has to be zero. C, C++ and shell are read without a preprocessor or the syntax
of other commands, so a share is allowed.
"""

from __future__ import annotations

from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.working_document import StepSettings, WorkingDocument
from sevenfold.corpus.text.grammars import GRAMMARS, OTHERWISE, reader


def syntax(text: WorkingDocument, settings: StepSettings) -> Reason | None:
    """Refuse a program that its grammar cannot read."""
    if text.language not in settings.spec.syntax:
        return None
    for language in _languages(text):
        if unreadable_share(text, language) <= GRAMMARS[language].max_error_share:
            text.language = language
            return None
    return "syntax_error"


def _languages(text: WorkingDocument) -> tuple[str, ...]:
    """Return the possible languages of a text, the most likely first."""
    if text.language not in OTHERWISE:
        return (text.language,)
    other, marks = OTHERWISE[text.language]
    return (other, text.language) if marks.search(text.data) else (text.language, other)


def unreadable_share(text: WorkingDocument, language: str) -> float:
    """Return the share of bytes that lie in errors of the syntax tree. A token that the parser
    inserted counts as one byte.
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
