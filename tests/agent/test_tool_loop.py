"""The loop: calls at once, budgets, the record, its replay; kills and changed records."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from memories import remember, write_files

from sevenfold.agent.tools.arguments import ArgumentRule
from sevenfold.agent.tools.budget import BudgetMeter, ToolBudget
from sevenfold.agent.tools.log import ToolLog, ToolLogError, read_tool_log
from sevenfold.agent.tools.loop import LoopAnswer, Turns, converse
from sevenfold.agent.tools.registry import ToolSet, open_tools
from sevenfold.agent.tools.replay import replay
from sevenfold.agent.tools.result import OK, ToolResult
from sevenfold.agent.tools.session import ToolConversation
from sevenfold.core.errors import SevenfoldError, StorageError
from sevenfold.recipe.shipped import recipes_directory
from sevenfold.tokenizer.chat.calls import ToolCall

SEED = recipes_directory() / "slm" / "blocks" / "tools.json"


def call(name: str, **arguments: Any) -> str:
    return ToolCall(name=name, arguments=arguments).text()


def talk(conversation: ToolConversation, *answers: str, chooser: Any = None) -> tuple[LoopAnswer, list[str]]:
    left, forced = list(answers), []

    async def ask(_: Turns, name: str) -> str:
        forced.append(name)
        return left.pop(0)

    return asyncio.run(converse([("user", "Help.")], ask, conversation, chooser)), forced


@pytest.fixture
def tools(tmp_path: Path) -> ToolSet:
    path = tmp_path / "tools.json"
    path.write_text('{"tools": [{"name": "calculator"}]}')
    return open_tools(path)


class Slow:
    """Waits until two calls have begun."""

    is_repeatable = True

    def __init__(self) -> None:
        self.both = threading.Barrier(2, timeout=20)

    def run(self, arguments: dict[str, Any]) -> ToolResult:
        self.both.wait()
        return ToolResult(outcome=OK, text=arguments["expression"])


def test_the_seed_opens_as_it_stands(tmp_path: Path) -> None:
    remember(tmp_path / "memory", write_files(tmp_path / "texts"), licence="MIT")
    found = open_tools(SEED, memory=tmp_path / "memory")
    assert list(found.tools) == ["python_exec", "compiler_run", "retrieval", "web", "calculator"]
    conversation = ToolConversation(found, ("retrieval",))
    (one,) = asyncio.run(conversation.run(call("retrieval", question="read the rows of a table", k=1)))
    assert one.result.text.splitlines()[0] == "[1] texts:pkg/tables.py lines 5-7 (MIT)"
    assert "def read_table" in one.result.text


@pytest.mark.parametrize("lang", ["py", "cpp", "js", "java", "rust"])
def test_languages_run(tmp_path: Path, lang: str) -> None:
    source = {
        "py": "print(1 + 1)",
        "cpp": '#include <cstdio>\nint main() { printf("%d\\n", 1 + 1); }',
        "js": "console.log(1 + 1)",
        "java": "class Main { public static void main(String[] a) { System.out.println(1 + 1); } }",
        "rust": 'fn main() { println!("{}", 1 + 1); }',
    }[lang]
    entry = {"name": "compiler_run", "langs": [lang], "timeout_ms": 20000, "mem_mb": 512}
    (tmp_path / "tools.json").write_text(json.dumps({"tools": [entry]}))
    try:
        found = open_tools(tmp_path / "tools.json")
    except SevenfoldError as error:
        pytest.skip(str(error))
    (one,) = asyncio.run(
        ToolConversation(found, ("compiler_run",)).run(call("compiler_run", lang=lang, source=source))
    )
    assert (one.result.outcome, one.result.text) == ("ok", "2")


def test_calls_of_one_answer_run_at_once(tools: ToolSet) -> None:
    rules = {"calculator": {"expression": ArgumentRule(kind="text", most=9)}}
    both = ToolSet(tools={"calculator": Slow()}, rules=rules, digest="")
    answer, _ = talk(
        ToolConversation(both, ("calculator",)),
        call("calculator", expression="a") + "\n" + call("calculator", expression="b"),
        "done",
    )
    assert answer.turns[-1] == ("tool", "[1] calculator\na\n[2] calculator\nb")
    assert answer.text == "done"


def test_rounds_end_an_answer_that_only_calls(tools: ToolSet) -> None:
    answer, _ = talk(ToolConversation(tools, ("calculator",)), *[call("calculator", expression="1")] * 9)
    assert answer.text == ""
    assert len(answer.outcomes) == ToolBudget().rounds


def test_a_tool_that_is_not_offered_is_refused(tools: ToolSet) -> None:
    answer, _ = talk(ToolConversation(tools, ()), call("calculator", expression="1"), "done")
    assert answer.outcomes[0].result.reason == "name"
    with pytest.raises(SevenfoldError, match="no tool 'web'"):
        ToolConversation(tools, ("web",))


def test_a_new_answer_has_a_new_budget_and_an_old_one_none(tools: ToolSet) -> None:
    conversation = ToolConversation(tools, ("calculator",), budget=ToolBudget(calls=1))
    for _ in range(2):
        answer, _ = talk(conversation, *[call("calculator", expression="1")] * 2, "done")
        assert [one.result.reason for one in answer.outcomes] == ["", "budget"]


def test_the_seconds_of_an_answer_stop_what_would_begin() -> None:
    now = [0.0]
    meter = BudgetMeter(ToolBudget(seconds=5), clock=lambda: now[0])
    assert meter.take_call("calculator") == ""
    now[0] = 6.0
    assert "seconds" in meter.take_call("calculator")


def test_what_is_left_of_a_budget_is_never_below_zero() -> None:
    meter = BudgetMeter(ToolBudget(calls=2))
    for _ in range(40):
        meter.take_call("web")
        meter.take_round()
    assert min(meter.left().values()) == 0


def test_a_chooser_says_which_tool_is_called(tools: ToolSet) -> None:
    class Once:
        def choose(self, question: str, steps: Any) -> str:
            assert question == "Help."
            return "" if steps else "calculator"

    answer, forced = talk(
        ToolConversation(tools, ("calculator",)), call("calculator", expression="2"), "done", chooser=Once()
    )
    assert forced == ["calculator", ""]
    assert answer.text == "done"


def recorded(path: Path, tools: ToolSet, *answers: str) -> list[dict[str, Any]]:
    log = ToolLog(path)
    conversation = ToolConversation(tools, ("calculator",), model_root="ab" * 32, log=log)
    talk(conversation, *answers, "done")
    log.close()
    return [one.value for one in read_tool_log(path)]


def test_each_call_is_recorded_and_replays(tmp_path: Path, tools: ToolSet) -> None:
    path = tmp_path / "calls.jsonl"
    recorded(path, tools, call("calculator", expression="1/3"), call("calculator", expression="x"))
    rows = recorded(path, tools, call("web", url="x"), '{"name":"')
    assert [row["outcome"] for row in rows] == ["ok", "error", "refused", "refused"]
    assert rows[0]["result"] == "1/3"
    assert rows[0]["model_root"] == "ab" * 32
    assert rows[0]["budget_left"]["calls.calculator"] == 7
    assert [row["number"] for row in rows] == [0, 1, 2, 3]
    found = replay(read_tool_log(path), tools)
    assert (found.n_same, found.n_recorded, found.differs) == (2, 2, [])


def test_a_result_that_another_arithmetic_gave_is_found(tmp_path: Path, tools: ToolSet) -> None:
    class Wrong:
        is_repeatable = True

        def run(self, _: dict[str, Any]) -> ToolResult:
            return ToolResult(outcome=OK, text="4")

    path = tmp_path / "calls.jsonl"
    recorded(path, tools, call("calculator", expression="1+1"))
    other = ToolSet(tools={"calculator": Wrong()}, rules=tools.rules, digest=tools.digest)
    assert replay(read_tool_log(path), other).differs == [(1, "calculator gives another result now")]
    elsewhere = ToolSet(tools=tools.tools, rules=tools.rules, digest="0" * 64)
    assert replay(read_tool_log(path), elsewhere).differs == [(1, "it was made with other tools")]


def test_every_changed_byte_of_a_record_is_found(tmp_path: Path, tools: ToolSet) -> None:
    path = tmp_path / "calls.jsonl"
    recorded(path, tools, *[call("calculator", expression=text) for text in ("1", "2", "3")])
    data = path.read_bytes()
    for place in (*range(0, len(data), 23), len(data) - 1):
        changed = bytes((*data[:place], data[place] ^ 1, *data[place + 1 :]))
        path.write_bytes(changed)
        if place == len(data) - 1:
            # Without its newline the last line is a half one.
            assert len(read_tool_log(path)) == 2
            continue
        with pytest.raises(ToolLogError, match=r"calls\.jsonl:[1-3]"):
            read_tool_log(path)


def test_records_that_are_moved_or_left_out_are_found(tmp_path: Path, tools: ToolSet) -> None:
    path = tmp_path / "calls.jsonl"
    recorded(path, tools, *[call("calculator", expression=text) for text in ("1", "2", "3")])
    a, b, c = path.read_bytes().splitlines(keepends=True)
    for lines in ((b, c), (a, c), (b, a, c), (a, a)):
        path.write_bytes(b"".join(lines))
        with pytest.raises(ToolLogError, match="does not follow"):
            read_tool_log(path)
        with pytest.raises(ToolLogError):
            ToolLog(path)


def test_half_a_line_is_dropped_and_the_record_goes_on(tmp_path: Path, tools: ToolSet) -> None:
    path = tmp_path / "calls.jsonl"
    recorded(path, tools, call("calculator", expression="1"), call("calculator", expression="2"))
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for n_bytes in range(first, len(data), 29):
        path.write_bytes(data[:n_bytes])
        assert [row["result"] for row in recorded(path, tools, call("calculator", expression="3"))] == [
            "1",
            "3",
        ]


def test_one_process_writes_a_record(tmp_path: Path) -> None:
    log = ToolLog(tmp_path / "calls.jsonl")
    with pytest.raises(StorageError, match="another process"):
        ToolLog(tmp_path / "calls.jsonl")
    log.close()


def test_a_call_that_cannot_be_recorded_gives_nothing(
    tmp_path: Path, tools: ToolSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    log = ToolLog(tmp_path / "calls.jsonl")
    conversation = ToolConversation(tools, ("calculator",), log=log)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space"):
            talk(conversation, call("calculator", expression="1"), "done")
    # What was half written is gone, so the next call has its place.
    talk(conversation, call("calculator", expression="2"), "done")
    log.close()
    assert [one.value["result"] for one in read_tool_log(tmp_path / "calls.jsonl")] == ["2"]


def test_a_record_is_a_file(tmp_path: Path) -> None:
    for path in (Path(os.devnull), tmp_path):
        with pytest.raises(StorageError):
            ToolLog(path)


WRITER = """
import asyncio, sys
from pathlib import Path
from sevenfold.agent.tools.log import ToolLog
from sevenfold.agent.tools.registry import open_tools
from sevenfold.agent.tools.session import ToolConversation
tools, log = open_tools(Path(sys.argv[1])), ToolLog(Path(sys.argv[2]))
conversation = ToolConversation(tools, ("calculator",), log=log)
print("ready", flush=True)
while True:
    conversation.begin_answer()
    asyncio.run(conversation.run('{"name":"calculator","arguments":{"expression":"1/3"}}'))
"""


def test_a_kill_leaves_whole_records(tmp_path: Path, tools: ToolSet) -> None:
    path, n_before = tmp_path / "calls.jsonl", 0
    for pause in (0.05, 0.15):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "tools.json"), str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        calls = read_tool_log(path)
        assert len(calls) >= n_before
        n_before = len(calls)
    assert n_before
    assert replay(calls, tools).n_same == n_before
