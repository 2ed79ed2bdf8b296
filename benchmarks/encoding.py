"""Encoding speed on real text, one core: ours beside the library behind it, tiktoken over rustbpe's merges, and SentencePiece.

    python benchmarks/encoding.py [--megabytes 20] [--entries 4096] [--out FILE]

Text: the running interpreter's own library and installed packages. Every fourth file is held out; the vocabularies are trained
on the others. Processor time, not time of the clock, so that other work on the machine does not count. `first` is a
fresh tokenizer over all held-out text once, which is what the tokenizer stage does; `again` is the same text with everything seen.
Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from sevenfold.core.hashing import Json
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.pieces import PIECES
from sevenfold.tokenizer.train import train_tokenizer


def real_text(n_bytes: int) -> list[str]:
    """Python files of this installation, by path, up to a size."""
    texts, total = [], 0
    for root in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")):
        for path in sorted(Path(root).rglob("*.py")):
            if total >= n_bytes:
                return texts
            try:
                texts.append(path.read_text(encoding="utf-8"))
            except (UnicodeDecodeError, OSError):
                continue
            total += len(texts[-1].encode())
    return texts


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of a call, and what it gave."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def ours(data: bytes, held: list[str]) -> Json:
    """Ours, cold and warm; and the library on the same file, whose ids must be the same."""
    tokenizer = Tokenizer.from_json(data)
    first, ids = timed(lambda: [tokenizer.encode(text) for text in held])
    again, _ = timed(lambda: [tokenizer.encode(text) for text in held])
    library, expected = timed(lambda: tokenizer._asked(held))
    assert ids == expected, "the cache gives other ids than the library"
    return {"first": first, "again": again, "library": library, "tokens": sum(map(len, ids))}


def rustbpe(train: list[str], held: list[str], entries: int) -> Json:
    """rustbpe's merges, encoded by tiktoken."""
    import rustbpe as trainer
    import tiktoken

    learnt = trainer.Tokenizer()
    learnt.train_from_iterator(iter(train), entries, pattern=PIECES["code"])
    ranks = {bytes(token): rank for token, rank in learnt.get_mergeable_ranks()}
    encoding = tiktoken.Encoding("bench", pat_str=PIECES["code"], mergeable_ranks=ranks, special_tokens={})
    seconds, ids = timed(lambda: [encoding.encode_ordinary(text) for text in held])
    return {"first": seconds, "tokens": sum(map(len, ids))}


def sentencepiece(train: list[str], held: list[str], entries: int, kind: str) -> Json:
    """SentencePiece's own model on lines of text, encoded by itself."""
    import sentencepiece as library

    model = io.BytesIO()
    lines = (line for text in train for line in text.splitlines() if line)
    library.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=model, model_type=kind, vocab_size=entries, byte_fallback=True, num_threads=1,
        normalization_rule_name="identity", remove_extra_whitespaces=False, input_sentence_size=200_000, minloglevel=2,
    )  # fmt: skip
    processor = library.SentencePieceProcessor(model_proto=model.getvalue())
    seconds, ids = timed(lambda: [processor.encode(text) for text in held])
    return {"first": seconds, "tokens": sum(map(len, ids))}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--entries", type=int, default=4096)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    texts = real_text(options.megabytes * 1_000_000)
    held, train = texts[::4], [text for i, text in enumerate(texts) if i % 4]
    n_bytes = sum(len(text.encode()) for text in held)
    rows: dict[str, Json] = {}
    for algo in ("bpe", "sentencepiece_unigram", "sentencepiece_bpe"):
        spec = TokenizerSpec(algo=algo, vocab_size=options.entries)
        seconds, data = timed(lambda spec=spec: train_tokenizer(train, spec))
        rows[f"ours, {algo}"] = {"training": seconds, **ours(data, held)}
        print(f"ours, {algo}: done", flush=True)
    for name, work in (
        ("tiktoken over rustbpe", lambda: rustbpe(train, held, options.entries)),
        ("sentencepiece, bpe", lambda: sentencepiece(train, held, options.entries, "bpe")),
    ):
        try:
            rows[name] = work()
        except ImportError as error:
            print(f"{name}: left out, {error}")
    for name, row in rows.items():
        rates = {key: n_bytes / row[key] / 1e6 for key in ("first", "again", "library") if key in row}
        row |= {"bytes_per_token": n_bytes / row["tokens"], "megabytes_per_second": rates}
        print(
            f"{name:28} {row['bytes_per_token']:.3f} bytes/token  "
            + "  ".join(f"{key} {rate:.2f} MB/s" for key, rate in rates.items())
        )
    if options.out:
        options.out.write_text(
            json.dumps({"held_out_bytes": n_bytes, "entries": options.entries, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
