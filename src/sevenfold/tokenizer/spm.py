"""Learn vocabularies with SentencePiece, over bytes: Unigram and BPE.

SentencePiece gets the pieces of the text with their counts, each written in the 256 letters that
stand for bytes. Its own normalisation, dummy prefix and blank character are switched off. Every
byte is therefore an entry (the byte fallback of C2), any byte string can be decoded, and a literal
U+2581 stays itself. One thread is used, because the expectation step adds floating-point numbers by
thread. Cost: counts of pieces, pruned to MAX_PIECES, then the cost of the library (Unigram: about
60 bytes for each byte of distinct pieces).
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping

from sevenfold.core.errors import StorageError
from sevenfold.core.process.modules import require_module

MAX_PIECES = 2_000_000
# Characters of one entry.
_MAX_LETTERS = 24
# The library requires an unknown token. No text needs it, and it is left out of the result.
_UNKNOWN = "<unk>"


class PieceCounts:
    """Counts of pieces in bounded memory. When the table is full, the rarest pieces are removed."""

    def __init__(self, limit: int = MAX_PIECES) -> None:
        self._limit = limit
        self._counts: Counter[str] = Counter()

    def add(self, pieces: Iterable[str]) -> None:
        """Count pieces."""
        self._counts.update(pieces)
        least = 1
        while len(self._counts) > self._limit:
            self._counts = Counter({piece: n for piece, n in self._counts.items() if n > least})
            least += 1

    def ranked(self) -> list[tuple[str, int]]:
        """Return the pieces with their counts, the most frequent first, ties by code points."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))


def train(counts: Iterable[tuple[str, int]], kind: str, size: int, letters: str) -> list[tuple[str, float]]:
    """Return `size` entries with their scores, all letters among them. Unigram scores are log
    probabilities, BPE scores minus the rank.

    Args:
        counts: pieces in byte letters, with their counts, in a fixed order.
        kind: "unigram" or "bpe".
        letters: the 256 letters, which become entries whether they occur or not.

    Raises:
        StorageError: the pieces do not give as many entries.
        UsageError: sentencepiece is not installed.
    """
    need = f"tokenizer.algo sentencepiece_{kind} needs sentencepiece"
    sentencepiece = require_module("sentencepiece", need)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(f"{piece}\t{count}" for piece, count in counts),
            model_writer=model,
            model_type=kind,
            vocab_size=size + 1,
            input_format="tsv",
            num_threads=1,
            character_coverage=1.0,
            required_chars=letters,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_unicode_script=False,
            split_by_number=False,
            split_by_whitespace=False,
            max_sentencepiece_length=_MAX_LETTERS,
            max_sentence_length=1 << 20,
            unk_id=0,
            unk_piece=_UNKNOWN,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            shuffle_input_sentence=False,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        raise StorageError(
            f"SentencePiece learns no vocabulary of {size} entries from this text: {error}",
            where="tokenizer",
            remedy="add text, or set tokenizer.vocab_size and model.vocab_size lower",
        ) from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    found = {processor.id_to_piece(i): processor.get_score(i) for i in range(1, processor.get_piece_size())}
    return _with_letters(found, letters, size)


def _with_letters(found: Mapping[str, float], letters: str, size: int) -> list[tuple[str, float]]:
    """Return the entries in the order of the library. Letters that it left out replace the last
    entries.
    """
    lacking = [letter for letter in letters if letter not in found]
    worst = min((score for score in found.values() if math.isfinite(score)), default=0.0)
    multi = [entry for entry in found if len(entry) > 1]
    dropped = (
        set(multi[len(multi) - max(0, len(found) + len(lacking) - size) :])
        if len(found) + len(lacking) > size
        else set()
    )
    kept = [(entry, float(score)) for entry, score in found.items() if entry not in dropped]
    return [*kept, *((letter, float(worst) - 10.0) for letter in lacking)]
