"""Step `decode`: bytes that are text. Anything else leaves here, before a step has to look at it."""

from __future__ import annotations

from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.working_document import Settings, WorkingDocument


def decode(text: WorkingDocument, settings: Settings) -> Reason | None:
    """Refuse what is empty, too small, not UTF-8, or holds control characters."""
    data = text.data
    if not data.strip():
        return "empty"
    if len(data) < settings.min_bytes:
        return "too_small"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "not_utf8"
    # Below 0x80 every byte of UTF-8 is a character of its own.
    return "forbidden_control" if text.measures.n_controls else None
