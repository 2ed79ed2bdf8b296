"""Run the calls of a record again, and compare the bytes of their results."""

from __future__ import annotations

from dataclasses import dataclass, field

from sevenfold.agent.tools.arguments import fault_of
from sevenfold.agent.tools.log import LoggedCall, text_digest
from sevenfold.agent.tools.registry import ToolSet
from sevenfold.agent.tools.result import OK, REFUSED
from sevenfold.core.hashing import canonical_json, digest
from sevenfold.tokenizer.chat.calls import neutral


@dataclass(kw_only=True)
class ToolReplay:
    """What a replay found: calls that gave the same again, calls of which the record is checked alone
    (refused, or not repeatable), and lines that differ, with why.
    """

    n_same: int = 0
    n_recorded: int = 0
    differs: list[tuple[int, str]] = field(default_factory=list)


def replay(calls: list[LoggedCall], tools: ToolSet) -> ToolReplay:
    """Run the repeatable calls of a record again."""
    found = ToolReplay()
    for call in calls:
        why = _difference(call, tools)
        if why is None:
            found.n_recorded += 1
        elif why:
            found.differs.append((call.line, why))
        else:
            found.n_same += 1
    return found


def _difference(call: LoggedCall, tools: ToolSet) -> str | None:
    """Return how a call differs now, "" when it does not, None when it is not run again."""
    value = call.value
    asked = value["call"]
    if value["call_digest"] != digest("sevenfold/tool-arguments/1", canonical_json(asked)):
        return "the digest of the call is another"
    if value["result_digest"] != text_digest(value["result"]):
        return "the digest of the result is another"
    if value["outcome"] == REFUSED or "text" in asked:
        return None
    if value["tools"] != tools.digest:
        return "it was made with other tools"
    tool = tools.tools.get(asked["name"])
    if tool is None or fault_of(tools.rules[asked["name"]], asked["arguments"]):
        return "the call is no call of these tools"
    if not tool.is_repeatable:
        return None
    now = tool.run(asked["arguments"])
    text = now.text if now.outcome == OK else f"{now.outcome}: {now.reason}: {now.text}"
    told, recorded = neutral(text), value["result"]
    kept = recorded.rpartition("\n[cut: ")[0]
    if now.outcome == value["outcome"] and (told == recorded or (kept and told.startswith(kept))):
        return ""
    return f"{asked['name']} gives another result now"
