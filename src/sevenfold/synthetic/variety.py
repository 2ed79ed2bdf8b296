"""Measure the variety of samples: shapes of programs and texts without names and numbers, entropy,
repeats.

The shape of a program is its syntax tree without names and constants. The shape of a text is its words
without digits, names and topic words. A cap of samples for each shape (recipe key `max_per_shape`)
keeps a template from being repeated. Refused samples are counted.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from functools import cache
from typing import Any

from sevenfold.core.hashing import Json, digest
from sevenfold.core.process.modules import require_module
from sevenfold.synthetic.generators.words import CONTAINERS, PEOPLE, PLACES, TOPICS

GRAMMARS = {
    "javascript": "tree_sitter_javascript",
    "bash": "tree_sitter_bash",
    "c": "tree_sitter_c",
    "rust": "tree_sitter_rust",
}
NGRAM = 4
_WORD = re.compile(r"[A-Za-z_]+|\d+|[^\sA-Za-z_\d]")
_NUMBER = re.compile(r"\d[\d,.]*")
_LETTERS = re.compile(r"[A-Za-z_]+")


@cache
def parser(language: str) -> Any:
    """Return tree-sitter's parser of a language in GRAMMARS. Raises UsageError when the grammar is
    not installed.
    """
    need = f"samples in {language} are parsed by {GRAMMARS[language]}"
    library, grammar = require_module("tree_sitter", need), require_module(GRAMMARS[language], need)
    return library.Parser(library.Language(grammar.language()))


def parses(source: str, language: str) -> bool:
    """Return whether the grammar parses the source without an error or an inserted token."""
    return not parser(language).parse(source.encode()).root_node.has_error


def code_shape(source: str, language: str) -> str:
    """Return a digest of the kinds of the nodes of the syntax tree, in order. Names and constants are
    not in it.
    """
    if language == "python":
        kinds = [type(node).__name__ for node in ast.walk(ast.parse(source))]
    else:
        kinds, waiting = [], [parser(language).parse(source.encode()).root_node]
        while waiting:
            node = waiting.pop()
            kinds.append(node.type)
            waiting += node.children
    return digest("sevenfold/shape/2", "\0".join(kinds))[:16]


@cache
def _topic_words() -> frozenset[str]:
    pairs = [
        pair
        for topic in TOPICS.values()
        for group in (topic.numbers, topic.texts, topic.things)
        for pair in group
    ]
    words = {word.lower() for pair in (*pairs, *CONTAINERS) for word in pair}
    return frozenset(words | {word.lower() for word in (*PEOPLE, *PLACES)})


def text_shape(text: str) -> str:
    """Return a digest of the text with its numbers and topic words masked."""
    known = _topic_words()
    masked = _LETTERS.sub(
        lambda match: "_" if match[0].lower() in known else match[0], _NUMBER.sub("0", text)
    )
    return digest("sevenfold/shape/1", masked)[:16]


class Variety:
    """Counts over the samples of one generator. Memory: one entry for each shape, and for each
    n-gram of every 16th sample.
    """

    def __init__(self) -> None:
        self.shapes: Counter[str] = Counter()
        self.ngrams: Counter[str] = Counter()
        self.n_samples = self.n_bytes = self.n_refused_cap = self.n_repeats = self.n_failed = 0
        self.n_asked = 0

    def add(self, text: str, shape: str) -> None:
        """Count a sample that was kept."""
        self.shapes[shape] += 1
        self.n_bytes += len(text.encode())
        if self.n_samples % 16 == 0:
            words = _WORD.findall(text)
            self.ngrams.update("\0".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1))
        self.n_samples += 1

    def facts(self) -> dict[str, Json]:
        """Return the figures, as JSON."""
        n_ngrams = sum(self.ngrams.values())
        entropy = (
            -sum(n / n_ngrams * math.log2(n / n_ngrams) for n in self.ngrams.values()) if n_ngrams else 0.0
        )
        return {
            "n_asked": self.n_asked,
            "n_samples": self.n_samples,
            "n_bytes": self.n_bytes,
            "n_shortfall": self.n_asked - self.n_samples,
            "n_shapes": len(self.shapes),
            "most_samples_of_a_shape": max(self.shapes.values(), default=0),
            "n_refused_by_cap": self.n_refused_cap,
            "n_refused_as_repeats": self.n_repeats,
            "n_refused_by_check": self.n_failed,
            f"distinct_{NGRAM}grams_share": len(self.ngrams) / n_ngrams if n_ngrams else 0.0,
            f"entropy_{NGRAM}grams_bits": round(entropy, 4),
        }
