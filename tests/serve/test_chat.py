"""The verb chat: answers as the server answers, and says what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving_client import Client
from typer.testing import CliRunner

from sevenfold.cli.base import app
from sevenfold.cli.lazy import load
from sevenfold.cli.table import VERBS


def say(path: Path, *flags: str, text: str) -> tuple[int, str, str]:
    load(next(verb for verb in VERBS if verb.name == "chat"))
    done = CliRunner().invoke(app, ["chat", str(path), *flags], input=text)
    return done.exit_code, done.stdout, done.stderr


def test_it_answers_as_the_server_does(client: Client, model_path: Path) -> None:
    messages, answers = [], []
    for said in ("Write f.", "And g."):
        messages.append({"role": "user", "content": said})
        body = {"messages": messages, "max_tokens": 12}
        text = client.post("/v1/chat/completions", body).json["choices"][0]["message"]["content"]
        messages.append({"role": "assistant", "content": text})
        answers.append(text + "\n")
    code, out, _ = say(model_path, "--max-tokens", "12", text="Write f.\nAnd g.\n\n")
    assert code == 0
    assert out == "".join(answers)


def test_a_long_talk_leaves_out_its_beginning_and_says_so(model_path: Path) -> None:
    lines = "\n".join(["x = 1; y = 2; z = 3"] * 12)
    code, _, err = say(model_path, "--max-tokens", "8", text=lines)
    assert code == 0
    assert "left out" in err


@pytest.mark.parametrize("text", ["a\x07b\n", "x" * 3000 + "\n"])
def test_what_the_gate_refuses_is_one_line(model_path: Path, text: str) -> None:
    code, _, err = say(model_path, text=text)
    assert code == 5
    assert err.count("\n") == 1
