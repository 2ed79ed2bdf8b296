"""Fetch the packages that a lock pins through pip, npm and apt, check and store them by hash, and
never run them (specs/corpus-lock.md).
"""

from sevenfold.corpus.fetch.grammar import KINDS
from sevenfold.corpus.fetch.lock import Pin, read_lock, select
from sevenfold.corpus.fetch.run import FetchOutcome, fetch_all
from sevenfold.corpus.fetch.store import PackageStore, store_directory

__all__ = [
    "KINDS",
    "FetchOutcome",
    "PackageStore",
    "Pin",
    "fetch_all",
    "read_lock",
    "select",
    "store_directory",
]
