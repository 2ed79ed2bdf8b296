"""Step `lines`: texts in the shape that people give them.

Data in text form (tables, blobs, dumps) is not.
"""

from __future__ import annotations

from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.working_document import Settings, WorkingDocument


def lines(text: WorkingDocument, settings: Settings) -> Reason | None:
    """Return the limits of `corpus.steps.lines`: longest and mean line in bytes, number of lines,
    share of letters.

    A line of prose may be a paragraph: the first two bind programs and data only.
    """
    limits = settings.spec.lines
    if limits is None:
        return None
    found = text.measures
    if found.n_lines > limits.max_lines:
        return "too_many_lines"
    if not text.is_prose and (
        found.longest_line > limits.max_line or text.n_in_lines > limits.max_mean_line * found.n_lines
    ):
        return "long_lines"
    return "not_alphabetic" if found.n_letters < limits.min_alphabetic * len(text.data) else None
