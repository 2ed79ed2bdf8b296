"""The red team: no case succeeds, and the cases see it when a guard is taken away."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevenfold.agent.redteam import run as red
from sevenfold.agent.redteam.run import CaseVerdict, RedTeamWorld, read_cases, red_team_world, run_case
from sevenfold.agent.tools import loop as loops
from sevenfold.agent.tools import programs, session
from sevenfold.agent.tools.budget import BudgetMeter
from sevenfold.agent.tools.web import fetch, pages, tool
from sevenfold.agent.tools.web.addresses import AllowList, WebAddress
from sevenfold.core.errors import StorageError
from sevenfold.sandbox.confined import Ending
from sevenfold.sandbox.grading import Printed
from sevenfold.tokenizer.chat.calls import ToolCall

CASES = read_cases()
FAMILIES = sorted({case.family for case in CASES})
# Programs cost a process, or the seconds of their limits: four here, all in the slow test.
FEW = {"program": ("program-01", "program-03", "program-04", "program-25")}


@pytest.fixture(scope="module")
def world() -> Iterator[RedTeamWorld]:
    with red_team_world() as made:
        yield made


def unsafe(world: RedTeamWorld, *families: str, ids: tuple[str, ...] = ()) -> list[CaseVerdict]:
    chosen = [case for case in CASES if case.family in families and (not ids or case.id in ids)]
    assert chosen
    return [one for one in (run_case(case, world) for case in chosen) if not one.is_safe]


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 500
    assert (
        sum(case.family in ("ssrf-host", "ssrf-url", "allow", "dns", "redirect", "http") for case in CASES)
        >= 200
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_no_attack_succeeds(world: RedTeamWorld, family: str) -> None:
    assert unsafe(world, family, ids=FEW.get(family, ())) == []


@pytest.mark.slow
def test_no_program_escapes(world: RedTeamWorld) -> None:
    assert unsafe(world, "program") == []


def unconfined(language: str, source: str, *_: object, **__: object) -> Printed:
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=False)
    return Printed(out=done.stdout, error="", ending=Ending.EXIT, exit_code=done.returncode, seconds=0.0)


def loose_url(text: str) -> WebAddress:
    host, slash, target = text.partition("://")[2].partition("/")
    return WebAddress(host=host, target=slash + target or "/")


class TwiceResolved(fetch.Fetcher):
    """Checks one answer of the resolver, and connects to the next."""

    def _connected(self, address: WebAddress, deadline: float) -> object:
        for one in self._network.resolve(address.host, fetch.PORT, 1.0):
            fetch.check_address(one)
        again = self._network.resolve(address.host, fetch.PORT, 1.0)
        return self._network.connect((again or ["none"])[0], fetch.PORT, 1.0)


class TrustsRedirects(fetch.Fetcher):
    """Checks the first URL, and no other."""

    def fetch(self, url: str) -> fetch.WebPage:
        self._n_read = 0
        return super().fetch(url)

    def _read(self, url: str) -> WebAddress:
        self._n_read += 1
        return super()._read(url) if self._n_read == 1 else loose_url(url)


def nothing(*_: object, **__: object) -> None:
    """Guard nothing."""


def obedient(answer: str) -> tuple[ToolCall, ...]:
    """Read the first object of a text as a call."""
    try:
        value, _ = json.JSONDecoder().raw_decode(answer)
    except (ValueError, RecursionError):
        return ()
    return (ToolCall(name=str(value.get("name")), arguments=value.get("arguments") or {}),)


# What is taken away, how, and a family that has to see it.
REMOVED: dict[str, tuple[object, str, object, str]] = {
    "form": (session, "parse_calls", obedient, "form"),
    "budget": (BudgetMeter, "take_call", lambda *_: "", "budget"),
    "rounds": (BudgetMeter, "take_round", lambda *_: True, "budget"),
    "arguments": (session, "fault_of", lambda *_: "", "arguments"),
    "egress": (session, "OUTWARD", frozenset(), "egress"),
    "neutral results": (session, "neutral", lambda text, _=None: text, "obeyed"),
    "neutral answers": (loops, "neutral", lambda text: text, "forged"),
    "allow-list": (AllowList, "check", nothing, "allow"),
    "addresses": (fetch, "check_address", nothing, "dns"),
    "URLs": (fetch, "read_url", loose_url, "ssrf-host"),
    "one resolution": (red, "Fetcher", TwiceResolved, "dns"),
    "redirects": (red, "Fetcher", TrustsRedirects, "redirect"),
    "head of an answer": (fetch.Fetcher, "_check_head", nothing, "http"),
    "bytes and seconds": (fetch._Bounded, "readinto", lambda self, b: self._connection.recv_into(b), "http"),
    "verifier": (tool, "check_page", nothing, "page"),
    "hidden text": (pages, "hidden_characters", lambda _: set(), "page"),
    "rate": (tool.WebTool, "_may_begin", lambda _: True, "budget"),
}
# Without its limits a slow answer takes its time.
SOME = {
    "bytes and seconds": tuple(
        case.id for case in CASES if case.expect in (("error:headers",), ("error:size",))
    )
}


@pytest.mark.parametrize("guard", REMOVED)
def test_a_guard_that_is_gone_is_seen(
    world: RedTeamWorld, guard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, instead, family = REMOVED[guard]
    if guard in ("form", "arguments"):
        # A tool that gets what no guard let through may raise anything: it does not run here.
        monkeypatch.setattr(session.ToolConversation, "_begin", _ends)
    monkeypatch.setattr(owner, name, instead)
    assert unsafe(world, family, ids=SOME.get(guard, ()))


async def _ends(_: object, __: ToolCall, fault: session.ToolResult | None) -> session.ToolResult:
    return fault or session.ToolResult(outcome="ok", text="")


def test_a_name_that_is_not_checked_is_seen(world: RedTeamWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    class AnyName(session.ToolConversation):
        def _guard(self, call: ToolCall) -> session.ToolResult | None:
            found = super()._guard(call)
            return None if found is not None and found.reason == "name" else found

        _begin = _ends  # type: ignore[assignment]

    monkeypatch.setattr(red, "ToolConversation", AnyName)
    assert unsafe(world, "name")


def test_a_sandbox_that_is_gone_is_seen(world: RedTeamWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "run_program", unconfined)
    found = unsafe(world, "program", ids=("program-01", "program-03"))
    assert [one.case.id for one in found] == ["program-01", "program-03"]
    assert any("holds the secret" in breach for breach in found[1].breaches)


def test_an_address_inside_is_a_breach(world: RedTeamWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "check_address", nothing)
    found = unsafe(world, "dns")
    assert sum(any("connected to" in breach for breach in one.breaches) for one in found) >= 40


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"id":"a-1"}',
        b'{"id":"a-1","answers":[],"expect":[],"more":1}',
        b'{"answers":1,"expect":2}',
    ],
)
def test_what_is_no_case_is_refused(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(line + b"\n")
    with pytest.raises(StorageError, match="no case"):
        read_cases(tmp_path)


def test_a_repeated_id_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"id":"a-1","answers":[],"expect":[]}\n' * 2)
    with pytest.raises(StorageError, match="two cases"):
        read_cases(tmp_path)


def test_every_tool_of_the_seed_is_there(world: RedTeamWorld) -> None:
    assert list(world.tools.tools) == ["python_exec", "compiler_run", "retrieval", "web", "calculator"]
