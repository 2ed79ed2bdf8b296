"""Real clients, unmodified: the openai package and the page in a browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from serving_client import Client

from sevenfold.engine.session import Model

pytestmark = pytest.mark.slow
openai = pytest.importorskip("openai", reason="the openai package comes with requirements-slow.txt")
CHAT = [{"role": "user", "content": "Write f."}]


@pytest.fixture(scope="module")
def user(client: Client) -> object:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{client.port}/v1", api_key="none", max_retries=0)


def test_openai_completes_and_streams(user: object, model: Model) -> None:
    whole = user.completions.create(model="m", prompt="def f(", max_tokens=12, logprobs=2)
    with model.session("def f(") as session:
        assert whole.choices[0].text == "".join(session.generate(12))
    assert len(whole.choices[0].logprobs.token_logprobs) == whole.usage.completion_tokens
    stream = user.completions.create(
        model="m", prompt="def f(", max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage.model_copy(
        update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}
    )


def test_openai_chats_and_streams(user: object) -> None:
    whole = user.chat.completions.create(
        model="m", messages=CHAT, max_tokens=10, logprobs=True, top_logprobs=2
    )
    content = whole.choices[0].message.content
    assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens
    chunks = list(user.chat.completions.create(model="m", messages=CHAT, max_tokens=10, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == content


def test_openai_gets_json_of_a_schema(user: object) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [1, 2]}}}
    answer = user.chat.completions.create(model="m", messages=CHAT, max_tokens=10, response_format=form)
    assert answer.choices[0].message.content.strip() in ("1", "2")


def test_openai_lists_models_and_raises_errors(user: object, model: Model) -> None:
    assert user.models.list().data[0].root == model.artifact.root
    with pytest.raises(openai.BadRequestError, match="outside"):
        user.completions.create(model="m", prompt="a", n=1000)
    with pytest.raises(openai.APIStatusError) as caught:
        user.embeddings.create(model="m", input="a")
    assert caught.value.status_code == 501


def test_openai_retries_when_the_queue_is_full(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = client.server.registry.find("").scheduler
    refusals = iter([True, False])
    submit = scheduler.submit

    def full_once(job: object) -> None:
        if next(refusals):
            monkeypatch.setattr(scheduler, "limits", scheduler.limits)
            from sevenfold.serve.errors import TOO_MANY, RequestError

            raise RequestError("1 requests wait already", status=TOO_MANY)
        submit(job)

    monkeypatch.setattr(scheduler, "submit", full_once)
    patient = openai.OpenAI(base_url=f"http://127.0.0.1:{client.port}/v1", api_key="none", max_retries=1)
    assert patient.completions.create(model="m", prompt="a", max_tokens=1).choices


def test_a_client_that_goes_away_frees_its_place(user: object, client: Client) -> None:
    scheduler = client.server.registry.find("").scheduler
    for _ in range(20):
        stream = user.completions.create(model="m", prompt="x", max_tokens=200, stream=True)
        next(iter(stream))
        stream.close()
    user.completions.create(model="m", prompt="a", max_tokens=1)
    assert scheduler.n_running == scheduler.n_waiting == 0


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Debian's chromium is not installed")
def test_the_page_shows_the_model(client: Client, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000", "--dump-dom",
            f"http://127.0.0.1:{client.port}/",
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert f"root {client.server.registry.find('').root}" in done.stdout
