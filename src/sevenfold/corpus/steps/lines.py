"""Step `lines`: drop data in text form, such as tables, blobs and dumps, by the shape of its lines."""

from __future__ import annotations

from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.working_document import StepSettings, WorkingDocument


def lines(text: WorkingDocument, settings: StepSettings) -> Reason | None:
    """Refuse a text outside the limits of `corpus.steps.lines`: longest and mean line in bytes,
    number of lines, share of letters.

    A line of prose may be a paragraph, so the first two limits apply only to programs and data.
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
