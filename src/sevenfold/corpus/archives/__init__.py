"""Read packages without unpacking them: zip, tar and Debian's ar, from a file or memory. Nothing is
written or run.
"""

from sevenfold.corpus.archives.entry import MAX_ENTRIES, Budget, Entry, Fault
from sevenfold.corpus.archives.read import read_archive

__all__ = ["MAX_ENTRIES", "Budget", "Entry", "Fault", "read_archive"]
