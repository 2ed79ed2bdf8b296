"""Encoding speed on real text, one core: ours beside the library, tiktoken over
rustbpe's merges, and SentencePiece.

    python benchmarks/encoding.py [--megabytes 24] [--entries 4096] \
        [--text NAME=FILE.jsonl ...] [--out FILE.json]

Text: Python of the running interpreter and its packages, and whatever `--text` names (JSON lines
with a key `text`). Every second file is held out; vocabularies are trained on the others. Processor
time, not time of the clock, so that other work on the machine does not count. `first` is a fresh
tokenizer over all held-out text once, which is what the tokenizer stage does; `again` is the same
text with everything seen; `without` is `first` where native/tokens was not built. The library is
asked for the first 3 MB; there all ids must be equal. Peers that are not installed are left out.
Beside FILE.json stands a picture, FILE.png.
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
from sevenfold.tokenizer import native
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.pieces import PIECES
from sevenfold.tokenizer.train import train_tokenizer

# Of the library, which is slow.
ASKED_BYTES = 3_000_000


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


def named_text(file: Path, n_bytes: int) -> list[str]:
    """Texts of a file of JSON lines, up to a size."""
    texts, total = [], 0
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            texts.append(json.loads(line)["text"])
            total += len(texts[-1].encode())
            if total >= n_bytes:
                break
    return texts


def ours(data: bytes, held: list[str]) -> Json:
    """MB/s of ours, fresh and with everything seen, of ours without native code, and of
    the library, on the same file.
    """
    tokenizer = Tokenizer.from_json(data)
    # Opened: tables are built.
    tokenizer.encode("")
    seconds = {}
    seconds["first"], ids = timed(lambda: [tokenizer.encode(text) for text in held])
    seconds["again"], _ = timed(lambda: [tokenizer.encode(text) for text in held])
    n_asked = (
        next(i for i in range(len(held)) if size(held[: i + 1]) >= ASKED_BYTES or i + 1 == len(held)) + 1
    )
    library, expected = timed(lambda: tokenizer._asked(held[:n_asked]))
    assert ids[:n_asked] == expected, "other ids than the library's"
    found, native.library = native.library, lambda: None
    fallback = Tokenizer.from_json(data)
    seconds["without"], same = timed(lambda: [fallback.encode(text) for text in held])
    native.library = found
    assert ids == same, "other ids without native code"
    rates = {name: size(held) / 1e6 / value for name, value in seconds.items()}
    return {"megabytes_per_second": rates | {"library": size(held[:n_asked]) / 1e6 / library}} | share(
        held, ids
    )


def size(texts: list[str]) -> int:
    """Bytes of texts."""
    return sum(len(text.encode()) for text in texts)


def share(held: list[str], ids: list[list[int]]) -> Json:
    """Bytes for each token."""
    return {"bytes_per_token": size(held) / sum(map(len, ids))}


def rustbpe(train: list[str], held: list[str], entries: int) -> Json:
    """rustbpe's merges, encoded by tiktoken."""
    import rustbpe as trainer
    import tiktoken

    learnt = trainer.Tokenizer()
    learnt.train_from_iterator(iter(train), entries, pattern=PIECES["code"])
    ranks = {bytes(token): rank for token, rank in learnt.get_mergeable_ranks()}
    encoding = tiktoken.Encoding("bench", pat_str=PIECES["code"], mergeable_ranks=ranks, special_tokens={})
    seconds, ids = timed(lambda: [encoding.encode_ordinary(text) for text in held])
    return {"megabytes_per_second": {"first": size(held) / 1e6 / seconds}} | share(held, ids)


def sentencepiece(train: list[str], held: list[str], entries: int, kind: str) -> Json:
    """SentencePiece's own model on lines of text, encoded by itself."""
    import sentencepiece as library

    model = io.BytesIO()
    lines = (line for text in train for line in text.splitlines() if line)
    library.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=model, model_type=kind, vocab_size=entries, byte_fallback=True,
        num_threads=1,
        normalization_rule_name="identity", remove_extra_whitespaces=False, input_sentence_size=200_000,
        minloglevel=2,
    )  # fmt: skip
    processor = library.SentencePieceProcessor(model_proto=model.getvalue())
    seconds, ids = timed(lambda: [processor.encode(text) for text in held])
    return {"megabytes_per_second": {"first": size(held) / 1e6 / seconds}} | share(held, ids)


def measured(name: str, texts: list[str], entries: int) -> dict[str, Json]:
    """Rows of one kind of text."""
    held, train = texts[::2], texts[1::2]
    rows: dict[str, Json] = {}
    for algo in ("bpe", "sentencepiece_unigram"):
        training, data = timed(
            lambda algo=algo: train_tokenizer(train, TokenizerSpec(algo=algo, vocab_size=entries))
        )
        rows[f"ours, {algo}"] = {"training_seconds": training, **ours(data, held)}
    peers = {
        "tiktoken over rustbpe": lambda: rustbpe(train, held, entries),
        "sentencepiece, bpe": lambda: sentencepiece(train, held, entries, "bpe"),
    }
    for peer, work in peers.items():
        try:
            rows[peer] = work()
        except ImportError as error:
            print(f"{peer}: left out, {error}")
    for row, value in rows.items():
        rates = "  ".join(f"{key} {rate:.2f}" for key, rate in value["megabytes_per_second"].items())
        print(f"{name:8} {row:28} {value['bytes_per_token']:.3f} bytes/token  MB/s: {rates}", flush=True)
    return {"held_out_bytes": size(held), "rows": rows}


def write_picture(path: Path, found: dict[str, Json]) -> None:
    """A bar for each way to encode, a group for each kind of text."""
    from matplotlib.figure import Figure

    labels = {
        ("ours, bpe", "first"): "ours, BPE, first sight",
        ("ours, sentencepiece_unigram", "first"): "ours, Unigram, first sight",
        ("ours, bpe", "without"): "ours, BPE, without native code",
        ("tiktoken over rustbpe", "first"): "tiktoken over rustbpe",
        ("sentencepiece, bpe", "first"): "SentencePiece, BPE", ("ours, bpe", "library"): "tokenizers (the "
            "library), BPE",
    }  # fmt: skip
    labels = {
        key: label for key, label in labels.items() if any(key[0] in one["rows"] for one in found.values())
    }
    figure = Figure(figsize=(9, 1 + 0.2 * len(labels) * len(found)), dpi=120, layout="constrained")
    axes, height = figure.subplots(), 0.85 / len(labels)
    for place, ((row, key), label) in enumerate(labels.items()):
        rates = [
            one["rows"].get(row, {}).get("megabytes_per_second", {}).get(key, 0.0) for one in found.values()
        ]
        bars = axes.barh(
            [-i - (place - (len(labels) - 1) / 2) * height for i in range(len(found))],
            rates,
            height,
            label=label,
        )
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    axes.axvline(10, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks([-i for i in range(len(found))], list(found))
    axes.set_xlabel("MB of unseen text per second of one core; dotted: what is asked for")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=24)
    parser.add_argument("--entries", type=int, default=4096)
    parser.add_argument("--text", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    n_bytes = options.megabytes * 1_000_000
    found = {"Python": measured("Python", real_text(n_bytes), options.entries)}
    for name, _, file in (text.partition("=") for text in options.text):
        found[name] = measured(name, named_text(Path(file), n_bytes), options.entries)
    if options.out:
        options.out.write_text(json.dumps({"entries": options.entries, "texts": found}, indent=1) + "\n")
        write_picture(options.out.with_suffix(".png"), found)


if __name__ == "__main__":
    main()
