"""Read all shards of a corpus as one sequence of documents, with their texts on disk.

A document is a number: its position in canonical order (shard by shard, row by row). Memory: about
60 bytes for each document. A text is read on request and not kept.

Legend: N documents that their shards kept, in canonical order.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sevenfold.core.errors import SevenfoldError, storage
from sevenfold.core.files import read_json
from sevenfold.corpus.shards import INDEX, read_array, shard_stem

_OPEN_FILES = 128


class ShardStore:
    """The documents of all shards, by number.

    Attributes:
        index_N: one INDEX record for each document. `source` and `domain`
            are places in the names below.
        sources, domains: names, in the order in which the shards first hold them.

    Raises:
        StorageError: a shard cannot be read.
    """

    def __init__(self, directory: Path, n_shards: int) -> None:
        self._directory, self._n_shards = directory, n_shards
        indexes, sources, domains = [], dict[str, int](), dict[str, int]()
        for number in range(n_shards):
            index = read_array(self._stem(number).with_suffix(".index"))
            about = read_json(self._stem(number).with_suffix(".json"))
            for column, names, known in (
                ("source", about["sources"], sources),
                ("domain", about["domains"], domains),
            ):
                codes = [known.setdefault(name, len(known)) for name in names]
                index[column] = np.array(codes, np.int32)[index[column]] if len(index) else index[column]
            indexes.append(index)
        self.sources, self.domains = list(sources), list(domains)
        self._firsts = np.cumsum([0, *(len(index) for index in indexes)])
        self.index_N = np.concatenate([np.empty(0, INDEX), *indexes])
        self._handles: OrderedDict[int, int] = OrderedDict()

    def _stem(self, number: int) -> Path:
        return shard_stem(self._directory, number)

    def close(self) -> None:
        """Close the files of texts."""
        while self._handles:
            os.close(self._handles.popitem()[1])

    def __len__(self) -> int:
        return len(self.index_N)

    def id_of(self, document: int) -> str:
        """Return the hexadecimal id of a document."""
        return str(self.index_N["id"][document].astype(">u8").tobytes().hex())

    def read(self, document: int) -> tuple[bytes, bytes]:
        """Return the path and the text of a document. Raises StorageError, SevenfoldError."""
        shard = int(np.searchsorted(self._firsts, document, side="right")) - 1
        entry = self.index_N[document]
        n_path, n_bytes = int(entry["n_path"]), int(entry["n_bytes"])
        path = self._stem(shard).with_suffix(".texts")
        with storage(path):
            data = os.pread(self._handle(shard, path), n_path + n_bytes, int(entry["offset"]))
        if len(data) != n_path + n_bytes:
            raise SevenfoldError(f"{len(data)} bytes of {n_path + n_bytes}", where=str(path))
        return data[:n_path], data[n_path:]

    def _handle(self, shard: int, path: Path) -> int:
        if shard not in self._handles:
            self._handles[shard] = os.open(path, os.O_RDONLY)
            if len(self._handles) > _OPEN_FILES:
                os.close(self._handles.popitem(last=False)[1])
        self._handles.move_to_end(shard)
        return self._handles[shard]

    def band(self, number: int) -> np.ndarray:
        """Return u64[N]: the MinHash key of every document in one band."""
        shards = [
            read_array(self._stem(shard).with_suffix(".bands"), mapped=True)
            for shard in range(self._n_shards)
        ]
        return np.concatenate([shard[number] for shard in shards])

    def shard(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield (row in the shard, document) for what one shard kept, in order."""
        first, last = int(self._firsts[number]), int(self._firsts[number + 1])
        yield from zip(self.index_N["row"][first:last].tolist(), range(first, last), strict=True)
