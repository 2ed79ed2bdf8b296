"""Cut samples of the objectives fill-in-middle and chain of thought (D3) at tokenise time
(specs/dataset.md).

A sample has two runs of ids: a context, which is read, and targets, which count in the loss. Only
the seed of the recipe and the id of the document decide it. Training can therefore be resumed or
audited at any step without a random state.

Fill-in-middle (arXiv 2207.14255) cuts a piece of text in three at two characters and not at tokens,
because the cursor of an editor can be anywhere. Half of the pieces are ordered prefix, suffix,
middle; the others suffix, prefix, middle.

Chain of thought uses documents with the headings `### Instruction:`, `### Reasoning:` and `###
Response:`. A sample has one of three forms: the reasoning is comment lines before the response; it
is in a scratchpad; or it is in a scratchpad that is read and never a target.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sevenfold.core.documents import Document
from sevenfold.core.errors import StorageError
from sevenfold.core.hashing import digest
from sevenfold.core.process.log import Progress
from sevenfold.recipe.schema import FIM_TOKENS, REASON_TOKENS, Objectives
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.index import index_path, write_index
from sevenfold.tokenizer.token_file import write_tokens

REPORT_EVERY = 64
FORMS = ("comment", "scratchpad", "hidden")
_SECTIONS = re.compile(
    r"\A### Instruction:\n(?P<instruction>.+?)\n### Reasoning:\n(?P<reasoning>.+?)\n###"
    r" Response:\n(?P<response>.+)\Z",
    re.DOTALL,
)


@dataclass(frozen=True)
class ObjectiveSample:
    """One sample. Ids of the context, ids of the targets (end of text last), and the document that
    they come from.
    """

    context: list[int]
    targets: list[int]
    document: Document

    @property
    def n_tokens(self) -> int:
        """Return the number of ids of both runs."""
        return len(self.context) + len(self.targets)


def _numbers(purpose: str, seed: int, *parts: str) -> tuple[int, int, int]:
    """Return three 64-bit numbers for one decision."""
    text = digest(f"sevenfold/{purpose}/1", str(seed), *parts)
    return int(text[:16], 16), int(text[16:32], 16), int(text[32:48], 16)


def split_piece(text: str, seed: int, name: str) -> tuple[str, str, str, bool]:
    """Return the prefix, the middle (at least one character) and the suffix of a piece, and whether
    the prefix comes first.
    """
    first, second, order = _numbers("fim", seed, name)
    low, high = sorted((first % (len(text) + 1), second % (len(text) + 1)))
    if low == high:
        low, high = (low, low + 1) if low < len(text) else (low - 1, low)
    return text[:low], text[low:high], text[high:], order % 2 == 0


@dataclass(kw_only=True)
class Sampler:
    """Cuts samples that fit a row of `room` tokens. It counts those that it gives and those that it
    leaves out.
    """

    tokenizer: Tokenizer
    objectives: Objectives
    seed: int
    room: int
    counts: Counter[str] = field(default_factory=Counter)

    def fim(self, documents: Iterable[Document]) -> Iterator[ObjectiveSample]:
        """Yield samples of every document, in pieces of `room` characters, which take about a third
        of a row.
        """
        for document in documents:
            for start in range(0, len(document.text), self.room):
                yield from self._pieces(document, start, document.text[start : start + self.room])

    def _pieces(self, document: Document, start: int, text: str) -> Iterator[ObjectiveSample]:
        prefix, middle, suffix, prefix_first = split_piece(text, self.seed, f"{document.id}:{start}")
        mark = [self.tokenizer.special_id(name) for name in FIM_TOKENS]
        before, targets, after = map(self.tokenizer.encoding_of(document), (prefix, middle, suffix))
        parts = [[mark[0], *before], [mark[1], *after]]
        first, second = parts if prefix_first else reversed(parts)
        sample = ObjectiveSample([*first, *second, mark[2]], [*targets, self.tokenizer.eot_id], document)
        if sample.n_tokens <= self.room:
            self.counts["fim_psm" if prefix_first else "fim_spm"] += 1
            yield sample
        elif len(text) > 1:  # text of many tokens a character: in halves
            half = len(text) // 2
            yield from self._pieces(document, start, text[:half])
            yield from self._pieces(document, start + half, text[half:])
        else:
            self.counts["fim_too_long"] += 1

    def cot(self, documents: Iterable[Document]) -> Iterator[ObjectiveSample]:
        """Yield a sample of every document that has the three headings and fits a row.

        Raises:
            StorageError: no document of the corpus has them.
        """
        for document in documents:
            match = _SECTIONS.match(document.text)
            if match is None:
                self.counts["cot_other"] += 1
                continue
            form = FORMS[_numbers("cot", self.seed, document.id)[0] % len(FORMS)]
            sample = self._reasoned(document, form, match)
            if sample.n_tokens > self.room:
                self.counts["cot_too_long"] += 1
                continue
            self.counts[f"cot_{form}"] += 1
            yield sample
        if not any(self.counts[f"cot_{form}"] for form in FORMS):
            raise StorageError(
                f"no training document has reasoning that fits a row of {self.room} tokens",
                where="train.objectives.cot",
                remedy=(
                    "add documents of the form ### Instruction: / ### Reasoning: / ### Response:, or set cot"
                    " to 0"
                ),
            )

    def _reasoned(self, document: Document, form: str, match: re.Match[str]) -> ObjectiveSample:
        reason, answer = (self.tokenizer.special_id(name) for name in REASON_TOKENS)
        mark = self.objectives.comment
        comment = "".join(f"{mark} {line}".rstrip() + "\n" for line in match["reasoning"].splitlines())
        prompt, plain, thought, response = map(
            self.tokenizer.encoding_of(document),
            (
                f"### Instruction:\n{match['instruction']}\n### Response:\n",
                comment + match["response"],
                match["reasoning"],
                match["response"],
            ),
        )
        end = self.tokenizer.eot_id
        if form == "comment":
            return ObjectiveSample(prompt, [*plain, end], document)
        if form == "scratchpad":
            return ObjectiveSample(prompt, [reason, *thought, answer, *response, end], document)
        return ObjectiveSample([*prompt, reason, *thought, answer], [*response, end], document)


def write_samples(
    path: Path, samples: Iterable[ObjectiveSample], vocab_size: int, progress: Progress
) -> None:
    """Write samples as a token file of two documents each, with its index. Raises StorageError."""
    documents: list[tuple[str, str]] = []

    def runs() -> Iterator[list[int]]:
        for number, sample in enumerate(samples, start=1):
            documents.extend([(sample.document.id, sample.document.domain)] * 2)
            yield sample.context
            yield sample.targets
            if number % REPORT_EVERY == 0:
                progress.advance(number)

    write_tokens(path, runs(), vocab_size)
    write_index(index_path(path), documents)
