"""The tools that a `tools.json` names, ready to be called.

The file is the spec block of recipes, as it stands. What it does not say is given beside it: the
directory of a memory, and a file of categories of hosts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevenfold.agent.tools.arguments import ArgumentRule, arguments_schema
from sevenfold.agent.tools.calculator import MAX_CHARACTERS, CalculatorTool
from sevenfold.agent.tools.programs import ProgramTool, check_languages
from sevenfold.agent.tools.result import AgentTool
from sevenfold.agent.tools.retrieval import RetrievalTool
from sevenfold.agent.tools.web.addresses import DOMAINS, MAX_URL, read_allow_list
from sevenfold.agent.tools.web.fetch import Fetcher, Network
from sevenfold.agent.tools.web.tool import WebTool
from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import Json, canonical_json, digest
from sevenfold.recipe.fragments import load_spec_block
from sevenfold.tokenizer.chat.calls import call_schema

MAX_SOURCE, MAX_QUESTION = 16 << 10, 1024
_SOURCE = ArgumentRule(kind="text", most=MAX_SOURCE)
_STDIN = ArgumentRule(kind="text", most=MAX_SOURCE, is_needed=False)


@dataclass(frozen=True, kw_only=True)
class ToolSet:
    """Tools by name, the rules of their arguments, and the digest of all that decides what they do."""

    tools: Mapping[str, AgentTool]
    rules: Mapping[str, Mapping[str, ArgumentRule]]
    digest: str

    def schemas(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the JSON schema of a call of each of these tools."""
        return [call_schema(name, arguments_schema(self.rules[name])) for name in names]

    def note(self, names: Sequence[str]) -> str:
        """Return the turn of `system` that tells a model of these tools."""
        lines = [f"{name}({', '.join(self.rules[name])})" for name in names]
        return "Tools: " + "; ".join(lines) + '. A call: {"name":"NAME","arguments":{}}'

    def check(self, names: Sequence[str]) -> None:
        """Refuse names that are none of these. Raises UsageError."""
        for name in names:
            if name not in self.tools:
                raise UsageError(
                    f"no tool {name!a:.80}", where="tools", remedy=f"use one of {', '.join(self.tools)}"
                )


def open_tools(
    path: Path, *, memory: Path | None = None, domains: Path = DOMAINS, network: Network | None = None
) -> ToolSet:
    """Return the tools of a `tools.json`.

    Args:
        memory: the directory that `retrieval` searches.
        domains: the category file of `web`.

    Raises:
        RecipeError, StorageError: the file, the memory or the categories are refused.
        UsageError: a tool cannot be used here: a language without a compiler, retrieval without a
            memory.
    """
    block = load_spec_block(path)
    if block.name != "tools" or not isinstance(block.value, list):
        raise UsageError(f"it is a block of {block.name}", where=str(path), remedy="name a tools.json")
    tools: dict[str, AgentTool] = {}
    rules: dict[str, dict[str, ArgumentRule]] = {}
    decides: list[Json] = [block.value]
    for entry in block.value:
        name = entry["name"]
        if name in tools:
            raise UsageError(f"the tool {name} stands there twice", where=str(path), remedy="leave one out")
        tools[name], rules[name], facts = _opened(entry, memory, domains, network)
        decides.append(facts)
    return ToolSet(tools=tools, rules=rules, digest=digest("sevenfold/tools/1", canonical_json(decides)))


def _opened(
    entry: dict[str, Json], memory: Path | None, domains: Path, network: Network | None
) -> tuple[AgentTool, dict[str, ArgumentRule], Json]:
    """Return a tool, the rules of its arguments, and what else decides its results."""
    name = entry["name"]
    if name == "calculator":
        return CalculatorTool(), {"expression": ArgumentRule(kind="text", most=MAX_CHARACTERS)}, None
    if name in ("python_exec", "compiler_run"):
        languages = tuple(entry.get("langs", ("py",)))
        check_languages(languages)
        tool = ProgramTool(languages=languages, timeout_ms=entry["timeout_ms"], mem_mb=entry["mem_mb"])
        of_lang = {"lang": ArgumentRule(kind="text", choices=languages)} if name == "compiler_run" else {}
        return tool, {**of_lang, "source": _SOURCE, "stdin": _STDIN}, None
    if name == "retrieval":
        if memory is None:
            raise UsageError("retrieval needs a memory", where="tools", remedy="name one with --memory DIR")
        low, high = entry["chunk_tokens"]
        found = RetrievalTool.open(memory, entry["k"], (low, high), entry["multihop"])
        question = ArgumentRule(kind="text", most=MAX_QUESTION)
        k = ArgumentRule(kind="integer", most=entry["k"], is_needed=False)
        return found, {"question": question, "k": k}, found.root
    allowed = read_allow_list(entry["allow_domains"], domains)
    web = WebTool(
        Fetcher(allowed, network=network),
        rate_limit_qpm=entry["rate_limit_qpm"],
        post_fetch_verifier=entry["post_fetch_verifier"],
    )
    return web, {"url": ArgumentRule(kind="text", most=MAX_URL)}, sorted(allowed.names)
