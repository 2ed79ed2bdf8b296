"""Join a token file with its index, for tokens by domain and documents by position."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sevenfold.tokenizer.index import DocumentIndex, open_index
from sevenfold.tokenizer.token_file import TokenFile, open_tokens
from sevenfold.train.data.interleave import DomainTokens


@dataclass(frozen=True, kw_only=True)
class IndexedTokens:
    """A token file and its index."""

    path: Path

    @cached_property
    def file(self) -> TokenFile:
        """Return the mapped tokens."""
        return open_tokens(self.path)

    @cached_property
    def index(self) -> DocumentIndex:
        """Return the domain and id of each document."""
        return open_index(self.path, self.file.n_documents)

    def domain(self, name: str) -> DomainTokens:
        """Return the token stream of a domain."""
        return DomainTokens(self.file, self.index, name)

    def documents(self, domain: str, start: int, stop: int) -> list[str]:
        """Return the ids of the documents of tokens [start, stop), of the stream of a domain or of
        all ("").
        """
        if domain:
            numbers = self.domain(domain).documents(start, stop)
        else:
            first, last = np.searchsorted(self.file.offsets, (start, stop - 1), side="right") - 1
            numbers = list(range(int(first), int(last) + 1))
        return [self.index.id(number) for number in numbers]
