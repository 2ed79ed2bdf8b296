"""Anti-leak: evaluation items whose text or program stands in what the model was trained on (C14).

The hashes of a corpus are compared with those of each item: 13-grams of words, as the corpus stage
takes them. An item that collides is dropped, and the spans that matched are noted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sevenfold.core.hashing import Json


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """What was looked for, and what was found: spans of text by the id of the item."""

    is_checked: bool
    # The root of the corpus, or why nothing could be compared.
    against: str
    dropped: Mapping[str, list[str]] = field(default_factory=dict)

    def facts(self) -> Json:
        """Return the check as JSON."""
        return {"checked": self.is_checked, "against": self.against, "dropped": dict(self.dropped)}


NOT_CHECKABLE = Leaks(is_checked=False, against="not checkable: no corpus is given for this model")
