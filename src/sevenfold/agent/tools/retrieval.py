"""The tool retrieval: the best parts of a memory for a question, each with its file, lines and
licence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sevenfold.agent.memory import MemoryHit, MemoryQuery, MemorySearch, open_memory
from sevenfold.agent.memory.search import MAX_HOPS, MAX_K
from sevenfold.agent.tools.result import OK, ToolResult, failed
from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import Json


@dataclass(frozen=True, kw_only=True)
class RetrievalTool:
    """Searches one memory. `k` and `multihop` are those of tools.json."""

    search: MemorySearch
    k: int
    multihop: int
    is_repeatable: bool = True

    @classmethod
    def open(cls, path: Path, k: int, chunk_tokens: tuple[int, int], multihop: int) -> RetrievalTool:
        """Open a memory whose chunks are of the size that tools.json allows.

        Raises:
            UsageError: it has others, or the settings are beyond what a search does.
            StorageError: the memory is missing or damaged.
        """
        if k > MAX_K or multihop > MAX_HOPS:
            raise UsageError(
                f"k {k}, multihop {multihop}", where="retrieval", remedy=f"{MAX_K} and {MAX_HOPS} at most"
            )
        memory = open_memory(path)
        found, (low, high) = memory.manifest.settings.chunk_tokens, chunk_tokens
        if not low <= found <= high:
            raise UsageError(
                f"the memory has chunks of {found} tokens; tools.json allows {low} to {high}",
                where=str(path),
                remedy="make it with --chunk-tokens of that size",
            )
        return cls(search=MemorySearch(memory), k=k, multihop=multihop)

    @property
    def root(self) -> str:
        """Return the root of the memory, which decides the answers."""
        return self.search.memory.manifest.root

    def run(self, arguments: dict[str, Json]) -> ToolResult:
        """Return the best lines of each hit, under its citation."""
        query = MemoryQuery(
            text=arguments["question"], k=arguments.get("k", self.k), hops=min(self.multihop, MAX_HOPS)
        )
        try:
            hits = self.search.ask(query)
        except UsageError as error:
            return failed("question", error.what)
        if not hits:
            return failed("nothing", "nothing was found")
        return ToolResult(outcome=OK, text="\n".join(_cited(i, hit) for i, hit in enumerate(hits, 1)))


def _cited(number: int, hit: MemoryHit) -> str:
    first, last = hit.best_lines
    lines = hit.text.decode().split("\n")[first - hit.lines[0] : last - hit.lines[0] + 1]
    licence = hit.entry.licence or "unknown licence"
    head = f"[{number}] {hit.entry.source}:{hit.entry.path} lines {first}-{last} ({licence})"
    return "\n".join([head, *lines]).rstrip()
