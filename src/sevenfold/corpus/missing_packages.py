"""Fetch what the locks of a recipe pin and this machine lacks, before the corpus is built."""

from __future__ import annotations

from pathlib import Path

from sevenfold.core.errors import StorageError
from sevenfold.core.process.log import Progress
from sevenfold.corpus.fetch.lock import Pin
from sevenfold.corpus.fetch.run import fetch_all
from sevenfold.corpus.fetch.store import PackageStore, store_directory
from sevenfold.corpus.sources.packages import selected_pins
from sevenfold.recipe.corpus_schema import CorpusSpec, PinnedSource

_NAMED_AT_MOST = 5
# Reasons of a failure that concern the network and not the packages.
_UNREACHABLE = {"no network", "no client", "not tried"}


class UnreachableError(StorageError):
    """Packages are missing, and no registry could be reached."""


def require_offline(spec: CorpusSpec, base: Path) -> None:
    """Refuse to begin without the packages of the locks of a recipe, without using the network.

    Raises:
        UnreachableError: a package is not in the store.
        StorageError: a lock is missing.
        RecipeError: a file is not a lock.
    """
    store = PackageStore(store_directory())
    if pins := _missing(spec, base, store):
        raise UnreachableError(
            f"{len(pins)} packages are not fetched: {pins[0].label} is the first",
            where=str(store.directory),
            remedy="run the same command without --offline",
        )


def _missing(spec: CorpusSpec, base: Path, store: PackageStore) -> list[Pin]:
    wanted = [
        pin
        for source in spec.sources
        if isinstance(source, PinnedSource)
        for pin in selected_pins(source, base)
        if store.files(pin) is None
    ]
    return list(dict.fromkeys(wanted))


def fetch_missing(spec: CorpusSpec, base: Path, progress: Progress) -> int:
    """Fetch the packages of the locks of a recipe that the store lacks. Return how many were
    fetched.

    No registry is asked when all are present.

    Raises:
        UnreachableError: packages are missing, and the only reason is that there is no network.
        StorageError: a lock is missing, or packages cannot be fetched. The first are named, and
            fetched ones stay.
        RecipeError: a file is not a lock.
    """
    store = PackageStore(store_directory())
    pins = _missing(spec, base, store)
    if not pins:
        return 0
    failed = [o for o in fetch_all(pins, store.directory, progress) if o.status == "failed"]
    if failed:
        named = "; ".join(f"{o.pin.label}: {o.reason}" for o in failed[:_NAMED_AT_MOST])
        more = f" and {len(failed) - _NAMED_AT_MOST} more" if len(failed) > _NAMED_AT_MOST else ""
        error = UnreachableError if {o.reason for o in failed} <= _UNREACHABLE else StorageError
        raise error(
            f"{len(failed)} of {len(pins)} packages are missing: {named}{more}",
            where=str(store.directory),
            remedy="run the same command again to go on; what is not found has to be pinned again",
        )
    return len(pins)
