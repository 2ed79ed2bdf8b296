"""Step `quality`: rules as data. A rule bounds one measure of a text, and the first broken rule is
the finding.

The measures are those of Gopher (Rae et al., 2021, table A1) that need no word list, and their
counterparts for programs. Every bound is a share or a length, so a rule means the same for short
and long documents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sevenfold.core.documents import SYNTHETIC
from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.native import distinct_lines
from sevenfold.corpus.steps.working_document import StepSettings, WorkingDocument
from sevenfold.corpus.text.ngrams import n_different

# In shorter texts, repeated lines mean nothing.
MIN_LINES = 10
# In shorter texts, a small vocabulary means nothing.
MIN_WORDS = 200


def n_words(text: WorkingDocument) -> float:
    """Return the number of words."""
    return len(text.words_W)


def mean_word(text: WorkingDocument) -> float:
    """Return the mean length of a word in letters."""
    return text.measures.n_letters / max(1, len(text.words_W))


def letters(text: WorkingDocument) -> float:
    """Return the share of letters."""
    return text.measures.n_letters / len(text.data)


def digits(text: WorkingDocument) -> float:
    """Return the share of decimal digits."""
    return 1 - (len(text.data) - text.measures.n_digits) / len(text.data)


def repeated_lines(text: WorkingDocument) -> float:
    """Return the share of bytes in lines that occurred before."""
    n_ends = len(text.data) - text.n_in_lines
    if n_ends + 1 < MIN_LINES:
        return 0.0
    return 1 - distinct_lines(text.data) / max(1, text.n_in_lines)


def vocabulary(text: WorkingDocument) -> float:
    """Return the number of different words among the first MIN_WORDS * 5, as a share of MIN_WORDS;
    1 for a short text.
    """
    words = text.words_W[: MIN_WORDS * 5]
    return n_different(words) / MIN_WORDS if len(words) >= MIN_WORDS else 1.0


def longest_word(text: WorkingDocument) -> float:
    """Return the longest run of bytes without a space, tab or line end."""
    return text.measures.longest_word


@dataclass(frozen=True, slots=True)
class QualityRule:
    """The measure must be within both bounds."""

    measure: Callable[[WorkingDocument], float]
    least: float = 0.0
    most: float = float("inf")


PROSE_RULES = (
    QualityRule(n_words, least=20),
    QualityRule(mean_word, least=2.5, most=12),
    QualityRule(letters, least=0.5),
    QualityRule(vocabulary, least=0.15),
    QualityRule(repeated_lines, most=0.3),
)
CODE_RULES = (
    QualityRule(letters, least=0.2),
    QualityRule(digits, most=0.4),
    QualityRule(longest_word, most=1000),
    QualityRule(vocabulary, least=0.05),
    QualityRule(repeated_lines, most=0.7),
)


def quality(text: WorkingDocument, _settings: StepSettings) -> Reason | None:
    """Refuse a text that breaks one of the rules for its kind. They apply only to found texts.
    Samples of our generators are proved in other ways (specs/synthetic.md), and rows of figures
    would break these rules.
    """
    if text.found.origin.source == SYNTHETIC:
        return None
    for rule in PROSE_RULES if text.is_prose else CODE_RULES:
        value = rule.measure(text)
        if not rule.least <= value <= rule.most:
            text.note("quality", rule.measure.__name__, f"{value:.4g}")
            return "low_quality_prose" if text.is_prose else "low_quality_code"
    return None
