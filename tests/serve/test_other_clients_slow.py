"""Real clients, unmodified, each in an environment of its own: Node's openai, LiteLLM, `llm`, lm-eval.

Nothing of them is installed beside the package: the tests make a throwaway environment, and skip
where no registry answers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serving_client import Client

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
NPM = shutil.which("npm")
PROGRAMS = Path(__file__).with_name("clients")


def run(command: Sequence[str | Path], **more: Any) -> str:
    """What a command says. Skips where a registry does not answer."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=900, **more).stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the clients (S7_CLIENTS: one that is there)."""
    if here := os.environ.get("S7_CLIENTS"):
        return Path(here) / "bin" / "python"
    place = tmp_path_factory.mktemp("clients")
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    try:
        run([python, "-m", "pip", "install", "-q", "litellm", "llm", "lm-eval[api]==0.4.13"])
    except subprocess.SubprocessError as error:
        pytest.skip(f"the clients cannot be installed: {error}")
    return python


def base(client: Client) -> str:
    return f"http://127.0.0.1:{client.port}/v1"


def completed(client: Client, **more: Any) -> str:
    body = {"prompt": "def f(", "max_tokens": 10} | more
    return client.post("/v1/completions", body).json["choices"][0]["text"]


def chatted(client: Client, **more: Any) -> str:
    body = {"messages": [{"role": "user", "content": "Write f."}], "max_tokens": 10} | more
    return client.post("/v1/chat/completions", body).json["choices"][0]["message"]["content"]


@pytest.mark.skipif(NPM is None, reason="npm is not installed")
def test_openai_for_node(client: Client, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"type": "module"}')
    try:
        run([str(NPM), "install", "--no-fund", "--no-audit", "openai"], cwd=tmp_path)
    except subprocess.SubprocessError as error:
        pytest.skip(f"npm cannot install openai: {error}")
    # Beside the package, where Node looks for it.
    program = shutil.copy(PROGRAMS / "openai_node.mjs", tmp_path)
    found = json.loads(run(["node", program, base(client)], cwd=tmp_path))
    assert found["models"] == [client.server.registry.find("").name]
    assert found["text"] == found["streamed"] == completed(client)
    assert found["chat"] == found["chatStreamed"] == chatted(client)
    assert found["usage"] > 0
    assert found["json"]["a"] in (1, 2)
    assert found["call"][0] == "pick"
    assert found["call"][1]["a"] in (1, 2)
    assert found["bad"] == ["BadRequestError", 400]
    assert found["embeddings"][1] == 501


def test_litellm(client: Client, environment: Path) -> None:
    lines = run([environment, PROGRAMS / "litellm_client.py", base(client)])
    whole, streamed, n_tokens, text, refused = json.loads(lines.strip().splitlines()[-1])
    assert whole == streamed == chatted(client)
    assert n_tokens > 0
    assert text == completed(client)
    assert refused == "BadRequestError"


def test_the_llm_command(client: Client, environment: Path, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: ours\n  model_name: m\n  api_base: {base(client)}\n"
        f"- model_id: plain\n  model_name: m\n  api_base: {base(client)}\n  completion: true\n"
    )
    home = {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}
    command = [environment.with_name("llm"), "-o", "max_tokens", "10"]
    expected = chatted(client, messages=[{"role": "user", "content": "Write f."}])
    for stream in ([], ["--no-stream"]):
        said = run([*command, *stream, "-m", "ours", "Write f."], env=home)
        assert said.rstrip("\n") == expected.rstrip("\n")
    assert run([*command, "-m", "plain", "def f("], env=home).rstrip("\n") == completed(client).rstrip("\n")


PAIRS = [
    ("def f(", "x):\n    return x"), ("def f(", "self)"), ("import ", "os"), ("import ", "numpy as np"),
    ("class A:\n    ", "pass"), ("for i in ", "range(10):"), ("return", " None"), ("x = [", "1, 2]"),
]  # fmt: skip


def test_lm_eval_scores_are_those_of_our_model_class(
    client: Client, environment: Path, model_path: Path
) -> None:
    lm = pytest.importorskip("sevenfold.evals.lm", reason="lm-eval comes with requirements-slow.txt")
    prompts = ["def f(", "import "]
    given = json.dumps([base(client), PAIRS, prompts])
    told = run([environment, PROGRAMS / "lm_eval_client.py"], input=given)
    (one, four), texts, said = json.loads(told.strip().splitlines()[-1])
    ours = lm.SevenfoldLM(model_path)
    asked = [SimpleNamespace(args=pair) for pair in PAIRS]
    expected = [[value, greedy] for value, greedy in ours.loglikelihood(asked)]
    assert one == four == expected, "to the float"
    until = {"until": ["\n\n"], "max_gen_toks": 12}
    assert texts == ours.generate_until([SimpleNamespace(args=(prompt, until)) for prompt in prompts])
    assert said == [chatted(client, max_tokens=12, stop=["\n\n"])]


def test_the_programs_of_these_tests_can_fail() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run([sys.executable, "-c", "raise SystemExit(1)"])
