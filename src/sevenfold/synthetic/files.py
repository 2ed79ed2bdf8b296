"""An order of samples as a JSONL file: what the source kind `synthetic`
reads, and `s7 synth` writes.

Making 100,000 samples takes minutes and the corpus stage reads its sources twice, so what an order
gave is kept in the user's cache, a file for each generator, named by a digest of all that decides
it and closed by a digest of its own; a file that does not hold is made again, and recipes that ask
one generator for the same share its file. Finished blocks stand beside a file until it is whole
(`blocks`), so a run that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sevenfold.core.errors import StorageError
from sevenfold.core.files import atomic_writer
from sevenfold.core.hashing import Json, canonical_json, digest
from sevenfold.core.process.log import Progress, Silent
from sevenfold.synthetic import blocks
from sevenfold.synthetic.generate import BLOCK, GenerationReport, GenerationRequest, generate
from sevenfold.synthetic.table import GENERATORS, made_with

# Of this project: its generators wrote these texts.
LICENCE = "Apache-2.0"
EVIDENCE = "made by this project's generators, which are under that licence (LICENSE)"
_END = "sha256"
_SILENT = Silent()


def cached(order: GenerationRequest, progress: Progress = _SILENT) -> list[Path]:
    """Return the files of an order, one for each generator, from the user's cache or made now.
    Raises as `generate` does.
    """
    root = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    files = []
    for generator, count in order.counts.items():
        asked = [generator, count, order.seed, order.max_per_shape]
        name = digest("sevenfold/synthetic/2", made_with(), canonical_json(asked))
        file = Path(root, "sevenfold", "synthetic", f"{name}.jsonl")
        if not _is_whole(file):
            wanted = replace(order, counts={generator: count})
            write_samples(file, wanted, workers=len(os.sched_getaffinity(0)), progress=progress)
        files.append(file)
    return files


def write_samples(
    file: Path, order: GenerationRequest, *, workers: int, progress: Progress = _SILENT
) -> GenerationReport:
    """Write an order as JSON lines {domain, licence, path, text}, closed by {sha256} of the lines
    before; atomically.

    Raises:
        SevenfoldError: as `generate` does.
        StorageError: the file cannot be written.
    """
    report, hasher, kept = GenerationReport(), hashlib.sha256(), blocks.directory_of(file)
    progress.start("synthetic", sum(order.counts.values()), "samples")
    with atomic_writer(file) as handle:
        for n_made, (name, number, sample) in enumerate(generate(order, report, workers, keep=kept), 1):
            if n_made % BLOCK == 0:
                progress.advance(n_made, generator=name)
            generator = GENERATORS[name]
            line = canonical_json(
                {
                    "domain": generator.domain,
                    "licence": LICENCE,
                    "path": f"{name}/{number:06d}.{generator.extension}",
                    "text": sample.text,
                }
            )
            hasher.update(line + b"\n")
            handle.write(line + b"\n")
        handle.write(canonical_json({_END: hasher.hexdigest()}) + b"\n")
    blocks.forget(kept)
    return report


def read_samples(file: Path) -> Iterator[Json]:
    """Yield the records of a file of samples.

    Raises StorageError when it is missing, cut off or altered.
    """
    if not _is_whole(file):
        raise StorageError(
            "not a whole file of samples", where=str(file), remedy="make it again with `s7 synth`"
        )
    with file.open("rb") as lines:
        for line in lines:
            record = json.loads(line)
            if "text" in record:
                yield record


def is_samples(data: bytes) -> bool:
    """Return whether bytes begin a file of samples, of any order, whole or not."""
    record = json.loads(data.partition(b"\n")[0])
    return set(record) in ({"domain", "licence", "path", "text"}, {_END})


def _is_whole(file: Path) -> bool:
    hasher, last = hashlib.sha256(), b""
    try:
        with file.open("rb") as lines:
            for line in lines:
                hasher.update(last)
                last = line
        return bool(last) and json.loads(last) == {_END: hasher.hexdigest()}
    except (OSError, ValueError):
        return False
