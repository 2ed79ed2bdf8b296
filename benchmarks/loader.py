"""The loader: time to make a batch beside the time of a step, and memory over a dataset of 100 GB.

    python benchmarks/loader.py \
        [--gigabytes 100] [--step-ms 1011] [--out benchmarks/results/loader.json]

The dataset is as large as said and takes no disk: files of the real format whose tokens are a hole
(every id 0), with documents of 700 tokens in four domains. Opened as training opens it, digest and
every id checked (--no-verify leaves that out: it reads all bytes twice), then batches of 8 x 512
all over it, by file order and by a mix. Memory is what the process holds resident; times are of
processor time, medians of a batch. --step-ms: of a step of the 8M recipe (benchmarks/train.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.tokenizer import index, token_file
from sevenfold.train.data.indexed_tokens import IndexedTokens
from sevenfold.train.data.interleave import MixedBatches
from sevenfold.train.data.windows import Batches, BatchSource

SEQUENCE, BATCH, DOCUMENT, VOCABULARY = 512, 8, 700, 4096
DOMAINS = ("code", "general", "math", "reasoning")
MIX = {"code": 0.4, "math": 0.2, "reasoning": 0.25, "general": 0.15}
HOLE = bytes(1 << 24)


def resident() -> int:
    """Bytes that this process holds in memory now, mapped pages included."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


def write_with_hole(
    path: Path, header: bytes, before: bytes, n_zeros: int, tail: NDArray[Any], *, digest: bool
) -> None:
    """header, SHA-256 of (all that follows, then the header), `before`,
    zeros that take no disk, `tail`.
    """
    hasher = hashlib.sha256(before)
    for start in range(0, n_zeros if digest else 0, len(HOLE)):
        hasher.update(HOLE[: n_zeros - start])
    hasher.update(tail.data)
    hasher.update(header)
    with path.open("wb") as file:
        file.write(header + hasher.digest() + before)
        file.seek(n_zeros, os.SEEK_CUR)
        file.write(tail.data)


def write_dataset(path: Path, n_bytes: int, *, digest: bool) -> int:
    """A token file of `n_bytes` of tokens, all of them a hole, and its index, whose ids are
    one; the number of documents.
    """
    n_documents = max(4, n_bytes // 2 // DOCUMENT)
    n_tokens = n_documents * DOCUMENT
    header = token_file._HEADER.pack(
        token_file.MAGIC, token_file.VERSION, 2, 0, VOCABULARY, 0, n_tokens, n_documents
    )
    offsets = np.arange(n_documents + 1, dtype="<u8") * DOCUMENT
    write_with_hole(path, header, b"", n_tokens * 2 + -n_tokens * 2 % 8, offsets, digest=digest)
    names = b"".join(bytes([len(name)]) + name.encode("ascii") for name in DOMAINS)
    names += bytes(-len(names) % 8)
    head = index._HEADER.pack(index.MAGIC, index.VERSION, len(DOMAINS), n_documents, len(names), 0)
    number = np.arange(n_documents)
    # In long runs and short ones.
    domains = ((number // 5000 + number % 3) % len(DOMAINS)).astype("<u2")
    write_with_hole(index.index_path(path), head, names, n_documents * index.ID_BYTES, domains, digest=True)
    return n_documents


def measured(source: BatchSource, n_steps: int, total: int) -> dict[str, Any]:
    """Batches spread over a run of `total` steps: time of each, and the most memory held."""
    times, most = [], 0
    # What is made once is not a batch's.
    source.batch(0)
    for step in range(n_steps):
        began = time.process_time()
        source.batch(step * total // n_steps)
        times.append(time.process_time() - began)
        most = max(most, resident())
    return {"ms_per_batch": statistics.median(times) * 1e3, "resident_mib": most / 2**20}


def run(args: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Write, open, read."""
    path = directory / "train.tokens"
    n_documents = write_dataset(path, int(args.gigabytes * 1e9), digest=args.verify)
    before, began = resident(), time.process_time()
    split = IndexedTokens(path=path)
    if not args.verify:
        split.__dict__["file"] = token_file.open_tokens(path, verify=False)
    whole = Batches(tokens=split.file, sequence=SEQUENCE, batch_sequences=BATCH)
    streams = {
        name: Batches(
            tokens=split.domain(name), sequence=SEQUENCE, batch_sequences=BATCH, domain=name, lead=None
        )
        for name in DOMAINS
    }
    mixed = MixedBatches(streams=streams, mix=MIX, sequence=SEQUENCE, batch_sequences=BATCH)
    opened = time.process_time() - began
    total = whole.n_windows // BATCH
    rows = {name: measured(s, args.batches, total) for name, s in (("one stream", whole), ("mix", mixed))}
    for row in rows.values():
        row["share_of_step"] = row["ms_per_batch"] / args.step_ms
    return {
        "gigabytes": args.gigabytes, "n_documents": n_documents, "verified": args.verify,
        "seconds_to_open": opened,
        "resident_before_mib": before / 2**20, "step_ms": args.step_ms, "batches": args.batches, "rows": rows,
    }  # fmt: skip


def main() -> None:
    """Measure, print and write; exit code 1 when a bound is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=100.0)
    parser.add_argument("--batches", type=int, default=3000)
    parser.add_argument("--step-ms", type=float, default=1011.0)
    parser.add_argument("--no-verify", dest="verify", action="store_false")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = run(args, Path(name))
    print(
        f"{result['gigabytes']:g} GB, {result['n_documents']:,} documents; "
        f"opened in {result['seconds_to_open']:.1f} s of processor time"
    )
    for name, row in result["rows"].items():
        print(
            f"{name:12} {row['ms_per_batch']:.3f} ms a batch, {row['share_of_step']:.3%} of a step; "
            f"{row['resident_mib']:.0f} MiB at most ({result['resident_before_mib']:.0f} before)"
        )
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    bounded = all(
        row["share_of_step"] < 0.01 and row["resident_mib"] < result["resident_before_mib"] + 256
        for row in result["rows"].values()
    )
    raise SystemExit(0 if bounded else "a batch takes 1 % of a step or more, or memory grows with the data")


if __name__ == "__main__":
    main()
