"""Step `language`: identify the language of a document.

Name, first line and parser identify programs. A model identifies prose. The model is that of
py3langid (99 languages, naive Bayes over byte n-grams, with its data in the package). It reads a
sample, because a kilobyte of prose is enough. Its automaton runs in C++ where the library is built,
with the same numbers. Everything after that is py3langid's own code.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np

from sevenfold.core.process.modules import require_module
from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.native import Automaton, library
from sevenfold.corpus.steps.working_document import StepSettings, WorkingDocument

SAMPLE_BYTES = 1024
# With fewer letters the language is unknown, and the document stays.
MIN_SAMPLE = 64
SHEBANGS = {
    "python": "python", "sh": "bash", "bash": "bash", "dash": "bash", "zsh": "bash", "node": "javascript",
}  # fmt: skip
_SHEBANG = re.compile(rb"#!\s*(?:/[^\s]*/)?(?:env\s+(?:-S\s+)?)?([a-z]+)[0-9.]*\b")
# Parts of a prose file that are not prose: fenced and indented code, markup, addresses.
_NOT_PROSE = re.compile(
    rb"```.*?```|^(?: {4}|\t)[^\n]*$|<[^>]*>|https?://\S+|[`*_#|=~-]+", re.DOTALL | re.MULTILINE
)


def language(text: WorkingDocument, settings: StepSettings) -> Reason | None:
    """Name the language of a script without an extension; refuse prose in languages that the recipe
    does not list.
    """
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
    """Return at most SAMPLE_BYTES of running text of a document."""
    return _NOT_PROSE.sub(b" ", data[: 4 * SAMPLE_BYTES])[:SAMPLE_BYTES].strip()


@cache
def _model() -> Any:
    """Return the identifier of py3langid."""
    langid, fast = require_module("py3langid.langid"), library()
    if fast is None:
        return langid

    def score(self: Any, text: bytes) -> np.ndarray:
        features, counts = automaton.visits(fast, text)
        if not len(features):
            return np.asarray(langid.LanguageIdentifier._raw_score(self, text))
        # As in `_sparse_score`: the same floats in the same order.
        return np.asarray(np.log1p(counts.astype(np.float32)) @ self.nb_ptc[features] + self.nb_pc)

    walker: Any = type("Walker", (langid.LanguageIdentifier,), {"_raw_score": score, "__slots__": ()})
    known = walker.from_model_file(langid.MODEL_FILE)
    automaton = Automaton(known.tk_nextmove, known.tk_row, known.tk_output)
    return known
