"""Write and read the samples of a request as JSONL files: the source kind `synthetic` reads them, and
`s7 synth` writes them.

Making 100,000 samples takes minutes, and the corpus stage reads its sources twice. So the samples are
kept in the user's cache, one file for each generator. The name of a file is a digest of everything
that decides it, and its last line is a digest of its contents. A damaged file is made again. Recipes
that ask a generator for the same samples share its file. Finished blocks stay beside a file until it
is complete (`blocks`), so a run that was killed goes on where it ended.
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

# The licence of this project, whose generators wrote the texts.
LICENCE = "Apache-2.0"
EVIDENCE = "made by this project's generators, which are under that licence (LICENSE)"
_END = "sha256"
_SILENT = Silent()


def cached(order: GenerationRequest, progress: Progress = _SILENT) -> list[Path]:
    """Return the files of a request, one for each generator, from the user's cache or made now.
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
    """Write a request atomically as JSON lines {domain, licence, path, text}. The last line is
    {sha256} of the lines before.

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
    """Return whether bytes begin a file of samples of any request. The file need not be complete."""
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
