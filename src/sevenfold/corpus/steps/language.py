"""Step `language`: what a document is written in. Programs by name, first line and parser; prose by a model.

The model is py3langid's (99 languages, naive Bayes over byte n-grams, its data inside the package): 17 us for a
paragraph. It sees a sample, because a kilobyte of prose settles the question.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.text import Settings, Text, need

SAMPLE_BYTES = 1024
MIN_SAMPLE = 64  # fewer letters than these settle nothing: the document stays
SHEBANGS = {
    "python": "python", "sh": "bash", "bash": "bash", "dash": "bash", "zsh": "bash", "node": "javascript",
}  # fmt: skip
_SHEBANG = re.compile(rb"#!\s*(?:/[^\s]*/)?(?:env\s+(?:-S\s+)?)?([a-z]+)[0-9.]*\b")
# What is not prose in a file of prose: fenced and indented code, markup, addresses.
_NOT_PROSE = re.compile(
    rb"```.*?```|^(?: {4}|\t)[^\n]*$|<[^>]*>|https?://\S+|[`*_#|=~-]+", re.DOTALL | re.MULTILINE
)


def language(text: Text, settings: Settings) -> Reason | None:
    """Name the language of a script without an extension; refuse prose in languages that the recipe does not list."""
    if text.language == "unknown" and text.data.startswith(b"#!"):
        match = _SHEBANG.match(text.data[:200])
        text.language = SHEBANGS.get(match[1].decode(), "unknown") if match else "unknown"
    wanted = settings.spec.prose_languages
    if not wanted or not text.is_prose:
        return None
    sample = prose_sample(text.data)
    if len(sample) < MIN_SAMPLE:
        return None
    spoken = _model().classify(sample.decode("utf-8", "ignore"))[0]
    if spoken in wanted:
        return None
    text.note("language", "prose", spoken)
    return "language_not_wanted"


def prose_sample(data: bytes) -> bytes:
    """At most SAMPLE_BYTES of running text out of a document."""
    return _NOT_PROSE.sub(b" ", data[: 4 * SAMPLE_BYTES])[:SAMPLE_BYTES].strip()


@cache
def _model() -> Any:
    return need("py3langid")
