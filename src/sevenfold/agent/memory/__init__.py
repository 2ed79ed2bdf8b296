"""The memory of an agent: texts on disk, an exact integer search over them, and proofs of what was
found.

Tier 1 is a store of texts with vectors (`store`, `index`, `search`, `proof`). Tier 2 is a
compressor of texts (`scratchpad`). Both use no PyTorch and no floating point. specs/memory.md is
the definition.
"""

from __future__ import annotations

from sevenfold.agent.memory.index import Addition, AdditionReport, add_source, compact
from sevenfold.agent.memory.proof import check_proof, prove
from sevenfold.agent.memory.search import MemoryHit, MemoryQuery, MemorySearch
from sevenfold.agent.memory.sources import open_source
from sevenfold.agent.memory.store import AgentMemory, open_memory

__all__ = [
    "Addition",
    "AdditionReport",
    "add_source",
    "compact",
    "open_source",
    "AgentMemory",
    "open_memory",
    "MemoryHit",
    "MemoryQuery",
    "MemorySearch",
    "prove",
    "check_proof",
]
