"""What an operator does: a canary, a shadow, the way back, and what is written down."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_client import Client, Reply, serving

from sevenfold import pipeline
from sevenfold.runs.job import Job
from sevenfold.serve.batching.request import Finished, Generation
from sevenfold.serve.errors import RequestError
from sevenfold.serve.operation.records import JsonLines, Record, RequestSpans
from sevenfold.serve.protocols.body import read_object
from sevenfold.serve.trial import CANARY, SHADOW, Trial, first_difference

ADMIN = {"Authorization": "Bearer admin"}
SPECIALS = ("<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@pytest.fixture(scope="module")
def other_path(tmp_path_factory: pytest.TempPathFactory, make_job: Callable[..., Job]) -> Path:
    """The same vocabulary, other weights."""
    job = make_job(
        tmp_path_factory.mktemp("other") / "run",
        tokenizer={"special_tokens": SPECIALS},
        model={"context": 256},
        train={"tokens": 12 * 4 * 64, "seed": 4},
    )
    pipeline.make(job)
    return job.out / "model.s7l"


@pytest.fixture
def operated(model_path: Path) -> Iterator[Client]:
    yield from serving([model_path], admin_key="admin")


def complete(client: Client, prompt: str, **more: Any) -> Reply:
    return client.post("/v1/completions", {"prompt": prompt, "max_tokens": 12, "temperature": 0} | more)


def test_a_canary_answers_its_share_and_is_taken_back(operated: Client, other_path: Path) -> None:
    root = operated.server.registry.find("").root
    assert operated.get("/admin/trial", **ADMIN).status == 404
    started = operated.post("/admin/canary", {"path": str(other_path), "share": 0.25}, **ADMIN)
    assert started.json["kind"] == CANARY
    assert started.json["root"] != root
    answers = [complete(operated, "def f(") for _ in range(40)]
    roots = [answer.headers["x-s7-root"] for answer in answers]
    taken = roots.count(started.json["root"])
    assert 9 <= taken <= 11
    assert roots.count(root) == 40 - taken
    # A root that is asked for by name is not exchanged.
    named = [complete(operated, "a", model=root).headers["x-s7-root"] for _ in range(8)]
    assert set(named) == {root}
    back = operated.post("/admin/rollback", {}, **ADMIN)
    assert back.json["root"] == root
    assert {complete(operated, "a").headers["x-s7-root"] for _ in range(8)} == {root}


def test_what_is_on_trial_can_take_over_and_be_taken_back(operated: Client, other_path: Path) -> None:
    root = operated.server.registry.find("").root
    assert operated.post("/admin/promote", {}, **ADMIN).status == 404
    started = operated.post("/admin/canary", {"path": str(other_path)}, **ADMIN).json
    assert operated.post("/admin/promote", {}, **ADMIN).json["root"] == started["root"]
    assert complete(operated, "a").headers["x-s7-root"] == started["root"]
    assert operated.get("/admin/trial", **ADMIN).status == 404
    assert operated.post("/admin/rollback", {}, **ADMIN).json["root"] == root


def compared(client: Client, n: int) -> dict[str, Any]:
    """The trial's report, once it has compared so many."""
    for _ in range(600):
        report = client.get("/admin/trial", **ADMIN).json
        if report["compared"] >= n:
            break
        time.sleep(0.05)
    assert report["compared"] == n
    return report


def test_a_shadow_of_the_same_weights_never_differs(operated: Client, model_path: Path) -> None:
    operated.post("/admin/shadow", {"path": str(model_path)}, **ADMIN)
    asked: list[dict[str, Any]] = [{}, {"stream": True}, {"logprobs": 2}, {"receipt": True}, {"n": 2}]
    for body in asked:
        assert complete(operated, "import os\n", **body).status == 200
    assert compared(operated, len(asked))["different"] == 0


def test_a_shadow_names_the_first_token_that_differs(operated: Client, other_path: Path) -> None:
    registry = operated.server.registry
    root = registry.find("").root
    operated.post("/admin/shadow", {"path": str(other_path)}, **ADMIN)
    other = registry.find("").trial
    assert other is not None
    answers = [complete(operated, prompt) for prompt in ("def f(", "import os\n", "class A:\n    x = ")]
    assert {answer.headers["x-s7-root"] for answer in answers} == {root}, "a shadow answers nobody"
    report = compared(operated, 3)
    assert report["different"] > 0
    first = report["first_differences"][0]
    prompt = registry.find("").model.tokenizer
    alone = {}
    for name, model in (("answered", registry.find("").model), ("trial", other.served.model)):
        with model.session("def f(") as session:
            list(session.generate(12))
            alone[name] = session.tokens
    place = first_difference(tuple(alone["answered"]), tuple(alone["trial"]))
    assert (first["step"], first["answered"], first["trial"]) == (
        place,
        alone["answered"][place],
        alone["trial"][place],
    )
    assert prompt.decode(prompt.encode("def f(")) not in json.dumps(report), "a report holds no text"
    assert b"sevenfold_trial_different_total" in operated.get("/metrics").data


def test_a_trial_that_cannot_be_is_refused(operated: Client, other_path: Path) -> None:
    for body in (
        {"path": str(other_path), "share": 0},
        {"path": "/none"},
        {"path": str(other_path), "share": "1"},
    ):
        assert operated.post("/admin/canary", body, **ADMIN).status in (400, 500)
    assert operated.server.registry.find("").trial is None


def test_replays_never_hold_up_the_answers() -> None:
    class Full:
        n_waiting = 99

    class Loaded:
        scheduler = Full()

    trial = Trial(kind=SHADOW, served=Loaded(), share=1000)  # type: ignore[arg-type]
    ended = Finished(0, "stop", "", (1,), "end")
    trial.replay(Generation(ids=(1,), max_tokens=1), ended)
    assert trial.n_left_out == 1
    late = Finished(0, "length", "", (1,), "time")
    trial.replay(Generation(ids=(1,), max_tokens=1), late)
    assert trial.n_seen == 1, "an answer that a clock ended is not replayed"


@pytest.mark.parametrize(
    ("ours", "theirs", "place"),
    [((), (), -1), ((1, 2), (1, 2), -1), ((1, 2), (1, 3), 1), ((1,), (1, 2), 1), ((1, 2), (), 0)],
)
def test_the_first_difference(ours: tuple[int, ...], theirs: tuple[int, ...], place: int) -> None:
    assert first_difference(ours, theirs) == place


# ---- what is written down ----


def test_a_line_for_each_request_without_its_prompt(model_path: Path) -> None:
    written = io.StringIO()
    for client in serving([model_path], recorders=(JsonLines(written.write),)):
        secret = "def confidential_name("
        whole = complete(client, secret)
        complete(client, secret, stream=True)
        client.post("/infill", {"input_prefix": secret, "n_predict": 3})
        client.post("/v1/completions", {"prompt": 3})
        client.send("POST", "/v1/completions", b"{}", {"Content-Type": "text/plain"})
        client.get("/health")
        root = client.server.registry.find("").root
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [line["status"] for line in lines] == [200, 200, 200, 400, 415, 200]
    assert "confidential" not in written.getvalue()
    assert json.dumps(whole.json["choices"][0]["text"]) not in written.getvalue()
    usage = whole.json["usage"]
    for line in lines[:2]:
        assert line["root"] == root
        assert line["prompt_tokens"] == usage["prompt_tokens"]
        assert line["completion_tokens"] == usage["completion_tokens"]
        assert line["first_token_seconds"] <= line["seconds"]
    assert lines[0]["id"] == whole.headers["x-request-id"]


def test_spans_carry_what_dashboards_ask_for() -> None:
    made: dict[str, Any] = {}

    class Span:
        def set_attribute(self, name: str, value: Any) -> None:
            made[name] = value

        def end(self, end_time: int) -> None:
            made["end"] = end_time

    class Tracer:
        def start_span(self, name: str, context: Any, start_time: int) -> Span:
            made.update(name=name, context=context, start=start_time)
            return Span()

    class Api:
        def get_tracer(self, _: str) -> Tracer:
            return Tracer()

        def extract(self, carrier: dict[str, str]) -> str:
            return carrier["traceparent"]

    record = Record(id="r", method="POST", path="/infill", headers={b"traceparent": "00-a-b-01"}, began=2.0)
    record.status = 200
    record.end({}, 0.5)
    record.facts |= {"prompt_tokens": 7, "first_token_seconds": None}
    RequestSpans(Api(), Api()).write(record)
    assert made["name"] == "POST /infill"
    assert made["context"] == "00-a-b-01"
    assert made["end"] - made["start"] == 500_000_000
    assert made["gen_ai.usage.input_tokens"] == 7
    assert "gen_ai.server.time_to_first_token" not in made


def test_a_string_without_an_end_is_refused_at_once() -> None:
    """Each of its quotes was once the start of a search to the end of the body."""
    with pytest.raises(RequestError, match="not JSON"):
        read_object(b'{"a": "' + b'\\"' * (1 << 20), 32)
    with pytest.raises(RequestError, match="nested deeper"):
        read_object(b'{"a\\"[": ' + b"[" * 40, 32)
