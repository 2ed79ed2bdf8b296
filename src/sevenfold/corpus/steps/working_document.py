"""The argument of a step: one document in processing, with values that several steps share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sevenfold.corpus.document import SourceDocument
from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.native import Measures
from sevenfold.corpus.text.measures import measure
from sevenfold.corpus.text.ngrams import word_hashes
from sevenfold.recipe.corpus_schema import StepsSpec

if TYPE_CHECKING:
    from sevenfold.corpus.text.contamination_index import ContaminationIndex

# Natural languages. Every other known language is one of programs or data.
PROSE = frozenset(("text", "markdown", "restructuredtext", "html"))


@dataclass(frozen=True, slots=True)
class StepFinding:
    """An observation of a step. It is counted, and kept for people to read."""

    step: str
    kind: str
    detail: str
    n: int = 1


@dataclass
class WorkingDocument:
    """A document between its source and the corpus. Steps may replace only `data`, `language` and
    `domain`.
    """

    found: SourceDocument
    data: bytes
    language: str
    domain: str
    findings: list[StepFinding] = field(default_factory=list)
    _tree: tuple[str, Any] | None = None

    @property
    def is_prose(self) -> bool:
        """Return whether the text is written for people and not for programs."""
        return self.language in PROSE

    @cached_property
    def measures(self) -> Measures:
        """Return the counts and lengths of its bytes."""
        return measure(self.data)

    @property
    def n_in_lines(self) -> int:
        """Return the size of all lines without their ends."""
        return len(self.data) - self.measures.n_lines + (not self.data.endswith(b"\n"))

    @cached_property
    def words_W(self) -> np.ndarray:  # noqa: N802 - shape suffix: W words
        """Return u64[W]: hash of each word."""
        return word_hashes(self.data)

    def tree(self, language: str) -> Any:
        """Return the syntax tree of the text in the given language. It is parsed once."""
        from sevenfold.corpus.text.grammars import parser

        if self._tree is None or self._tree[0] != language:
            self._tree = (language, parser(language).parse(self.data))
        return self._tree[1]

    def replace(self, data: bytes) -> None:
        """Replace the text, and discard everything computed from it."""
        self.data = data
        self._tree = None
        for name in ("measures", "words_W"):
            self.__dict__.pop(name, None)

    def note(self, step: str, kind: str, detail: str, n: int = 1) -> None:
        """Record a finding."""
        self.findings.append(StepFinding(step, kind, detail, n))


@dataclass(frozen=True)
class StepSettings:
    """The settings of the steps of one recipe. `eval_hashes` is None without decontamination."""

    spec: StepsSpec
    min_bytes: int
    eval_hashes: ContaminationIndex | None = None


@dataclass(frozen=True, kw_only=True)
class CorpusStep:
    """One row of the table of steps.

    `function` returns the reason for which the document is dropped, or None. Raise `version` when a
    change of code changes its decisions. Shards of an unfinished run are then made again.
    """

    name: str
    function: Callable[[WorkingDocument, StepSettings], Reason | None]
    reasons: tuple[Reason, ...]
    is_on: Callable[[StepsSpec], bool] = lambda _: True
    # Distributions that decide the result of the step.
    tools: tuple[str, ...] = ()
    version: int = 1
