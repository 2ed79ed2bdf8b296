"""The verb tools, and the tools of chat."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sevenfold.agent.redteam import run as red
from sevenfold.cli.base import app
from sevenfold.cli.lazy import load
from sevenfold.cli.table import VERBS
from sevenfold.core.shipped_models import model_path


def s7(*arguments: str, text: str = "") -> tuple[int, str, str]:
    load(next(verb for verb in VERBS if verb.name == arguments[0]))
    done = CliRunner().invoke(app, list(arguments), input=text)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def tools(tmp_path: Path) -> str:
    path = tmp_path / "tools.json"
    path.write_text('{"tools": [{"name": "calculator"}]}')
    return str(path)


def test_one_call_is_recorded_and_replays(tools: str, tmp_path: Path) -> None:
    log = str(tmp_path / "calls.jsonl")
    assert s7("tools", "call", tools, "calculator", '{"expression":"1/3+1"}', "--tool-log", log)[:2] == (
        0,
        "4/3\n",
    )
    code, out, _ = s7("tools", "call", tools, "calculator", "-", "--json", text='{"expression":"1/0"}')
    assert code == 2
    assert json.loads(out) == {
        "outcome": "error",
        "reason": "expression",
        "text": "error: expression: expression: division by zero",
    }
    code, out, _ = s7("tools", "replay", log, "--tools", tools, "--json")
    assert (code, json.loads(out)) == (0, {"same": 1, "recorded": 0, "differs": []})
    Path(tools).write_text(
        '{"tools": [{"name": "calculator"}, {"name": "python_exec", "timeout_ms": 1, "mem_mb": 9}]}'
    )
    code, out, _ = s7("tools", "replay", log, "--tools", tools)
    assert code == 3
    assert "other tools" in out
    Path(log).write_bytes(Path(log).read_bytes().replace(b"4/3", b"4/5"))
    assert s7("tools", "replay", log, "--tools", tools)[0] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (("list", "none.json"), 4, "no such file"),
        (("call", "TOOLS", "calculator", "{"), 2, "no JSON"),
        (("call", "TOOLS", "calculator", "[]"), 2, "no object"),
        (("list", "ATTENTION"), 2, "block of attention"),
        (("list", "TWICE"), 2, "twice"),
        (("list", "RETRIEVAL"), 2, "needs a memory"),
        (("list", "WEB"), 2, "no category"),
        (("replay", "TOOLS", "--tools", "TOOLS"), 3, "no record"),
        (("red-team", "--family", "none"), 2, "no attacks"),
    ],
)
def test_what_is_wrong_is_one_line(
    tools: str, tmp_path: Path, arguments: tuple[str, ...], code: int, what: str
) -> None:
    texts = {
        "ATTENTION": '{"attention": {"scheme": "hybrid", "local_chunk": 8192, "global_stride": 1024,'
        ' "global_tokens": "learned_summaries", "streaming_links": "ring", "rope_scaling": "yarn",'
        ' "gqa": 6, "kv_quant_bits": 4}}',
        "TWICE": '{"tools": [{"name": "calculator"}, {"name": "calculator"}]}',
        "RETRIEVAL": '{"tools": [{"name": "retrieval", "k": 6, "chunk_tokens": [6000, 12000],'
        ' "multihop": 2}]}',
        "WEB": '{"tools": [{"name": "web", "allow_domains": ["none"], "rate_limit_qpm": 6,'
        ' "post_fetch_verifier": true}]}',
    }
    paths = {"TOOLS": tools}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        paths[name] = str(tmp_path / name)
    found, _, err = s7("tools", *(paths.get(one, one) for one in arguments))
    assert (found, err.count("\n")) == (code, 1), err
    assert what in err


def test_lists_say_what_is_offered(tools: str) -> None:
    code, out, _ = s7("tools", "list", tools)
    assert code == 0
    assert "calculator" in out
    value = json.loads(s7("tools", "list", tools, "--json")[1])
    assert value["arguments"]["calculator"]["required"] == ["expression"]
    code, out, _ = s7("tools", "router", "--json")
    assert (code, json.loads(out)["met"]) == (0, True)


def test_an_attack_that_succeeds_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = s7("tools", "red-team", "--family", "calculator", "--json")
    assert (code, json.loads(out)["unsafe"]) == (0, {})
    assert "0 unsafe" in s7("tools", "red-team", "--family", "calculator")[1]
    case = red.RedTeamCase(id="calculator-99", answers=('{"name":"x","arguments":{}}',), expect=("ok",))
    monkeypatch.setattr(red, "read_cases", lambda: [case])
    code, out, _ = s7("tools", "red-team")
    assert code == 6
    assert "calculator-99" in out


def test_chat_calls_tools(tools: str, tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    flags = ("--tools", tools, "--tool-log", str(log), "--max-tokens", "8")
    model = str(model_path(Path("demo-1m")))
    first = s7("chat", model, *flags, text="What is 12 * 34?\nHello!\n\n")
    assert first[0] == 0
    assert 's7: calls {"name":"calculator","arguments":{"expression":"' in first[2]
    assert first[2].count("s7: c") == 2
    record = log.read_bytes()
    log.unlink()
    assert s7("chat", model, *flags, text="What is 12 * 34?\nHello!\n\n") == first
    assert log.read_bytes() == record
    code, _, err = s7("chat", model, "--tool-log", str(log), text="\n")
    assert (code, err.count("\n")) == (2, 1)
