"""Step `decode`: accept bytes that are text, and drop all others before another step reads them."""

from __future__ import annotations

from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.working_document import StepSettings, WorkingDocument


def decode(text: WorkingDocument, settings: StepSettings) -> Reason | None:
    """Refuse a document that is empty, too small, not UTF-8, or holds control characters."""
    data = text.data
    if not data.strip():
        return "empty"
    if len(data) < settings.min_bytes:
        return "too_small"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "not_utf8"
    # Below 0x80 every byte of UTF-8 is one character.
    return "forbidden_control" if text.measures.n_controls else None
