"""Packages that a lock pins: brought through pip, npm and apt, checked by hash, kept by hash, never
run (specs/corpus-lock.md).
"""

from sevenfold.corpus.fetch.grammar import KINDS
from sevenfold.corpus.fetch.lock import Pin, read_lock, select
from sevenfold.corpus.fetch.run import Outcome, fetch_all
from sevenfold.corpus.fetch.store import PackageStore, store_directory

__all__ = ["KINDS", "Outcome", "PackageStore", "Pin", "fetch_all", "read_lock", "select", "store_directory"]
