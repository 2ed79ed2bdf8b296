"""Packages read without being unpacked: zip, tar, Debian's ar, from a file or from memory, nothing
written, nothing run.
"""

from sevenfold.corpus.archives.entry import MAX_ENTRIES, Budget, Entry, Fault
from sevenfold.corpus.archives.read import read_archive

__all__ = ["MAX_ENTRIES", "Budget", "Entry", "Fault", "read_archive"]
