"""Step `decode`: bytes that are text. Anything else leaves here, before a step has to look at it."""

from __future__ import annotations

from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.text import Settings, Text

# A text file may hold these; any other C0 control marks binary data, or moves a terminal's cursor (CM-1).
ALLOWED_CONTROLS = "\t\n\f\r"
_FORBIDDEN = bytes(code for code in range(32) if chr(code) not in ALLOWED_CONTROLS)


def decode(text: Text, settings: Settings) -> Reason | None:
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
    return "forbidden_control" if len(data.translate(None, _FORBIDDEN)) != len(data) else None
