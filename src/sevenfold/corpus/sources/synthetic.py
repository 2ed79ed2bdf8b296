"""Source kind `synthetic`: samples of the generators of this project, as documents under its own
licence (specs/synthetic.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from sevenfold.core.documents import SYNTHETIC
from sevenfold.core.hashing import sha256
from sevenfold.core.process.log import Progress
from sevenfold.corpus.document import SourceDocument, SourceOrigin
from sevenfold.recipe.corpus_schema import SyntheticSource
from sevenfold.synthetic.files import EVIDENCE, LICENCE, cached, read_samples
from sevenfold.synthetic.generate import GenerationRequest
from sevenfold.synthetic.table import made_with


def make_samples(source: SyntheticSource, progress: Progress) -> None:
    """Make the samples that are not in the cache, which takes minutes, with progress. Raises as
    `read_synthetic` does.
    """
    cached(_order(source), progress)


def read_synthetic(
    source: SyntheticSource,
    base: Path,  # noqa: ARG001  (a reader's signature)
    max_bytes: int,
) -> Iterator[SourceDocument]:
    """Yield the samples of a source as documents, generator by generator.

    Raises:
        SevenfoldError: as `generate` does; StorageError when the cache cannot be written.
    """
    origin = SourceOrigin(
        source=SYNTHETIC,
        version=made_with(),
        licence=LICENCE,
        licence_evidence=EVIDENCE,
        domain=source.domain,
    )
    for record in chain.from_iterable(map(read_samples, cached(_order(source)))):
        data = record["text"].encode()
        fits = len(data) <= max_bytes
        yield SourceDocument(
            origin,
            record["path"],
            len(data),
            sha256(data).hex(),
            data if fits else None,
            None if fits else "too_large",
        )


def synthetic_identity(source: SyntheticSource) -> list[str]:
    """Return what decides the samples of a source besides the recipe: the versions of the
    generators and of the interpreter. No sample is made.
    """
    # This refuses an unknown generator before hours of work.
    _order(source)
    return [made_with()]


def _order(source: SyntheticSource) -> GenerationRequest:
    return GenerationRequest(source.generators, source.seed, source.max_per_shape)
