"""The routes, over HTTP: forms of requests and replies, bounds, and who may ask."""

from __future__ import annotations

import json
import socket
from typing import Any

import numpy as np
import pytest
from serving_client import Client

from sevenfold.engine.likelihood import as_float, log_probabilities
from sevenfold.engine.session import Model
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.program import listen

CHAT = [{"role": "user", "content": "Write f."}]


def test_a_completion_has_the_form_of_openai(client: Client, model: Model) -> None:
    reply = client.post("/v1/completions", {"model": "any", "prompt": "def f(", "max_tokens": 8})
    value = reply.json
    assert reply.status == 200
    assert reply.headers["x-s7-root"] == model.artifact.root
    assert {"id", "object", "created", "model", "choices", "usage"} <= value.keys()
    assert value["object"] == "text_completion"
    choice = value["choices"][0]
    assert choice["finish_reason"] in ("stop", "length")
    with model.session("def f(") as session:
        assert choice["text"] == "".join(session.generate(8))
    usage = value["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert "warnings" not in value


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "def f(", "max_tokens": 12, "stop": ["\n", "zz"], "n": 2}),
        ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 5, "logprobs": 2, "echo": True}),
        ("/v1/chat/completions", {"messages": CHAT, "max_tokens": 9, "logprobs": True, "top_logprobs": 2}),
        ("/fim/completions", {"prompt": "def f(", "suffix": "\n", "max_tokens": 6}),
    ],
)
def test_a_stream_says_what_the_whole_answer_says(client: Client, path: str, body: dict[str, Any]) -> None:
    whole = client.post(path, body).json["choices"]
    reply = client.post(path, body | {"stream": True, "stream_options": {"include_usage": True}})
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = reply.events
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["total_tokens"] > 0
    for place, expected in enumerate(whole):
        mine = [c for e in events[:-1] for c in e["choices"] if c["index"] == place]
        text = "".join(c.get("text", "") or c.get("delta", {}).get("content", "") for c in mine)
        assert text == expected.get("text", expected.get("message", {}).get("content"))
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [expected["finish_reason"]]
        if expected["logprobs"] and "tokens" in expected["logprobs"]:
            joined = [x for c in mine if c["logprobs"] for x in c["logprobs"]["text_offset"]]
            assert joined == expected["logprobs"]["text_offset"]


def test_usage_comes_in_a_stream_only_when_asked(client: Client) -> None:
    for options in ({}, {"stream_options": {}}, {"stream_options": {"include_usage": False}}):
        body = {"prompt": "x", "max_tokens": 2, "stream": True} | options
        assert all("usage" not in event for event in client.post("/v1/completions", body).events)


def test_scores_are_those_that_lm_eval_reads(client: Client, model: Model) -> None:
    """Prompt and one token: entry 0 is null, a greedy token equals the best alternative exactly."""
    ids = model.tokenizer.begun(model.tokenizer.encode("def f(x):\n    return x\n"))
    body = {
        "prompt": [ids, ids[:5]],
        "max_tokens": 1,
        "logprobs": 1,
        "echo": True,
        "temperature": 0,
        "seed": 1234,
    }
    choices = client.post("/v1/completions", body).json["choices"]
    session = model.engine.session()
    rows = session.forward(np.array(ids[:-1], np.int64))
    session.close()
    expected = log_probabilities(rows, np.array(ids[1:], np.int64)[:, None])[:, 0].tolist()
    got = choices[0]["logprobs"]
    assert len(got["token_logprobs"]) == len(ids) + 1
    assert got["token_logprobs"][0] is None
    assert got["token_logprobs"][1:-1] == [as_float(value) for value in expected]
    assert choices[1]["logprobs"]["token_logprobs"][:5] == got["token_logprobs"][:5]
    for token, top in zip(got["token_logprobs"][1:], got["top_logprobs"][1:], strict=True):
        assert token in top.values()
    best = [
        max(top.values()) == token
        for token, top in zip(got["token_logprobs"][1:], got["top_logprobs"][1:], strict=True)
    ]
    greedy = [int(np.argmax(row)) == token for row, token in zip(rows, ids[1:], strict=True)]
    assert best[:-1] == greedy
    assert best[-1]


def test_lm_eval_finds_the_tokenizer(client: Client, model: Model) -> None:
    info = client.get("/tokenizer_info").json
    tokens = client.post("/tokenize", {"prompt": info["eos_token"], "add_special_tokens": False}).json[
        "tokens"
    ]
    assert tokens == [model.tokenizer.eot_id]
    text = "def f(x):\n\treturn 'caf\u00e9'"
    ids = client.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json["tokens"]
    assert client.post("/detokenize", {"tokens": ids}).json["prompt"] == text


def test_an_editor_of_llama_cpp_is_answered(client: Client) -> None:
    body = {
        "id_slot": 0, "input_prefix": "def f(x):\n    ", "input_suffix": "\n    return y\n", "prompt": "y",
        "input_extra": [{"text": "z = 1", "time": 1, "filename": "z.py"}], "n_predict": 8, "top_k": 40,
        "top_p": 0.99, "stream": False, "samplers": ["top_k", "top_p", "infill"], "cache_prompt": True,
        "t_max_prompt_ms": 500, "t_max_predict_ms": 500, "n_cmpl": 3, "n_indent": 4,
        "lora": [{"id": 0, "scale": 0.5}],
    }  # fmt: skip
    value = client.post("/infill", body).json
    assert isinstance(value, list)
    assert len(value) == 3
    assert {"content", "generation_settings", "tokens_cached", "truncated", "timings"} <= value[0].keys()
    one = client.post("/infill", {**body, "n_cmpl": 1}).json
    assert one["content"] == value[0]["content"]
    names = ["content", "timings/prompt_n", "timings/predicted_per_second", "truncated", "none"]
    chosen = client.post("/infill", {**body, "n_cmpl": 1, "response_fields": names}).json
    assert {*chosen} == {*names} - {"none"}
    warm = {
        **body,
        "n_cmpl": 1,
        "n_predict": 0,
        "samplers": [],
        "t_max_predict_ms": 1,
        "response_fields": [""],
    }
    assert client.post("/infill", warm).json == {}


def test_a_long_file_is_cut_by_the_rule_and_said(client: Client, model: Model) -> None:
    body = {"input_prefix": "x = 1\n" * 500, "input_suffix": "y = 2\n" * 500, "n_predict": 4}
    value = client.post("/infill", body).json
    assert value["truncated"] is True
    assert value["tokens_evaluated"] <= model.context - 4


@pytest.mark.parametrize("field", ["input_prefix", "input_suffix", "prompt"])
def test_special_tokens_in_files_are_text(client: Client, model: Model, field: str) -> None:
    for name in model.tokenizer.special_tokens:
        body = {"input_prefix": "a", "input_suffix": "b", "n_predict": 1}
        value = client.post("/infill", body | {field: name}).json
        assert value["tokens_evaluated"] > 5
    chat = [{"role": "user", "content": "<|endoftext|>"}]
    plain = client.post("/apply-template", {"messages": chat}).json["prompt"]
    n_ids = len(model.tokenizer.begun(model.tokenizer.encode(plain)))
    used = client.post("/v1/chat/completions", {"messages": chat, "max_tokens": 1}).json["usage"]
    assert used["prompt_tokens"] == n_ids
    raw = {"prompt": "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", "max_tokens": 1}
    assert client.post("/v1/completions", raw).json["usage"]["prompt_tokens"] == 5
    raw["parse_special"] = False
    assert client.post("/v1/completions", raw).json["usage"]["prompt_tokens"] > 10


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/completions", {"prompt": "a\x07b"}, "BEL (U+0007) at offset 1"),
    ("/v1/completions", {"prompt": "\ud800"}, "no UTF-8 form"),
    ("/v1/completions", {"prompt": "a", "\udfff": 1}, "no UTF-8 form"),
    ("/infill", {"input_prefix": "a", "response_fields": ["\ud800"]}, "no UTF-8 form"),
    ("/tokenize", {"content": ["a", "\udc00"]}, "no UTF-8 form"),
    ("/v1/completions", {"prompt": 3}, "prompt"),
    ("/v1/completions", {"prompt": [[1, 400]]}, "prompt"),
    ("/v1/completions", {"prompt": [[1, -1]]}, "prompt"),
    ("/v1/completions", {"prompt": [True]}, "prompt"),
    ("/v1/completions", {"prompt": ["a"] * 257}, "257 prompts"),
    ("/v1/completions", {"prompt": "a", "max_tokens": 256}, "max_tokens"),
    ("/v1/completions", {"prompt": "a", "max_tokens": 1 << 62}, "max_tokens"),
    ("/v1/completions", {"prompt": "a", "max_tokens": "3"}, "max_tokens"),
    ("/v1/completions", {"prompt": "x " * 300}, "the context has 256"),
    ("/v1/completions", {"prompt": "a", "n": 0}, "n: 0 is outside"),
    ("/v1/completions", {"prompt": "a", "n": 10**9}, "n: 1000000000"),
    ("/v1/completions", {"prompt": "a", "logprobs": 21}, "logprobs"),
    ("/v1/completions", {"prompt": "a", "logprobs": -1}, "logprobs"),
    ("/v1/completions", {"prompt": "a", "stop": ["x"] * 65}, "stop"),
    ("/v1/completions", {"prompt": "a", "stop": [""]}, "stop"),
    ("/v1/completions", {"prompt": "a", "stop": [1]}, "stop"),
    ("/v1/completions", {"prompt": "a", "temperature": -1}, "temperature"),
    ("/v1/completions", {"prompt": "a", "temperature": True}, "temperature"),
    ("/v1/completions", {"prompt": "a", "seed": 1 << 64}, "seed"),
    ("/v1/completions", {"prompt": "a", "logit_bias": {"400": 1}}, "logit_bias"),
    ("/v1/completions", {"prompt": "a", "logit_bias": {"1": 101}}, "logit_bias"),
    ("/v1/completions", {"prompt": "a", "logit_bias": {"1": "x"}}, "logit_bias"),
    ("/v1/completions", {"prompt": "a", "stream": "yes"}, "stream"),
    ("/v1/completions", {"prompt": [1], "suffix": "b"}, "suffix"),
    ("/v1/completions", {"prompt": "a", "response_format": {"type": "xml"}}, "response_format"),
    ("/v1/completions", {"prompt": "a", "regex": "("}, "response_format"),
    ("/v1/completions", {"prompt": "a", "regex": "a", "grammar": "b"}, "two grammars"),
    ("/v1/chat/completions", {}, "messages"),
    ("/v1/chat/completions", {"messages": []}, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "king", "content": "a"}]}, "role"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": 3}]}, "content"),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "image_url",
    ),
    ("/infill", {"input_prefix": 1}, "input_prefix"),
    ("/infill", {"input_extra": {}, "input_prefix": ""}, "input_extra"),
    ("/infill", {"input_extra": [3]}, "input_extra"),
    ("/infill", {"n_cmpl": 33}, "n_cmpl"),
    ("/completion", {"prompt": {"a": 1}}, "prompt"),
    ("/detokenize", {"tokens": [400]}, "tokens"),
    ("/tokenize", {"content": 1}, "content"),
]


@pytest.mark.parametrize(("path", "body", "said"), BAD, ids=[f"{p} {json.dumps(b)[:40]}" for p, b, _ in BAD])
def test_a_bad_request_is_one_line_with_400(
    client: Client, path: str, body: dict[str, Any], said: str
) -> None:
    reply = client.post(path, body)
    error = reply.json["error"]
    assert reply.status == 400
    assert said in error["message"]
    assert "\n" not in error["message"]
    assert reply.headers["x-should-retry"] == "false"


def test_edges_of_a_prompt(client: Client, model: Model) -> None:
    for prompt in ("", [], [[]], [""]):
        assert client.post("/v1/completions", {"prompt": prompt, "max_tokens": 2}).status == 200
    full = [5] * model.context
    assert client.post("/v1/completions", {"prompt": [full], "max_tokens": 0}).status == 200
    assert client.post("/v1/completions", {"prompt": [[*full, 5]], "max_tokens": 0}).status == 400
    for n in (None, -1):
        reply = client.post("/v1/completions", {"prompt": "a", "max_tokens": n, "stop": "\n"})
        assert reply.status == 200


def test_unknown_fields_and_what_is_not_applied_are_said(client: Client) -> None:
    body = {
        "prompt": "a",
        "max_tokens": 1,
        "wibble": 1,
        "temperature": 0.7,
        "repeat_penalty": 1.3,
        "user": "me",
    }
    warnings = client.post("/v1/completions", body).json["warnings"]
    assert len(warnings) == 3
    assert any("wibble" in text for text in warnings)
    assert any("greedy" in text for text in warnings)
    assert any("repeat_penalty" in text for text in warnings)


def test_what_there_is_not_says_so(client: Client) -> None:
    assert client.post("/v1/embeddings", {"input": "a"}).status == 501
    assert client.get("/v2/nothing").status == 404
    assert client.get("/v1/receipts/none").status == 404
    assert client.get("/v1/completions").json["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(("path", "field", "value"), [
    ("/completion", "stop", {}),
    ("/completion", "n_probs", {}),
    ("/completion", "response_fields", "content"),
    ("/completion", "response_fields", [1]),
    ("/infill", "input_extra", [{"filename": "a\x00", "text": ""}]),
    ("/v1/completions", "stream_options", 1),
    ("/v1/completions", "logit_bias", 1),
    ("/apply-template", "messages", []),
    ("/v1/chat/completions", "messages", []),
    ("/v1/chat/completions", "tool_choice", 1),
    ("/v1/chat/completions", "max_tokens", 1 << 63),
])  # fmt: skip
def test_a_field_of_the_wrong_kind_is_refused(client: Client, path: str, field: str, value: Any) -> None:
    body = {"messages": [{"role": "user", "content": "a"}]} if "chat" in path else {}
    reply = client.post(path, body | {"max_completion_tokens": 1, field: value})
    assert (reply.status, reply.json["error"]["param"]) == (400, field)


def test_another_method_is_told_which_there_are(client: Client) -> None:
    for method, path, allowed in (
        ("PUT", "/v1/completions", "POST"),
        ("POST", "/health", "GET"),
        ("TRACE", "/", "GET"),
    ):
        reply = client.send(method, path, b"", {})
        assert reply.status == 405
        assert allowed in reply.headers["allow"]
    assert client.send("PUT", "/nowhere", b"", {}).status == 404


def test_the_small_routes(client: Client, model: Model) -> None:
    assert client.get("/health").json == {"status": "ok"}
    assert client.get("/ready").json["roots"] == [model.artifact.root]
    assert client.get("/v1/models").json["data"][0]["root"] == model.artifact.root
    props = client.get("/props").json
    assert props["default_generation_settings"]["n_ctx"] == model.context
    assert len(client.get("/slots").json) == ServerLimits().parallel
    paths = client.get("/openapi.json").json["paths"]
    assert {"/v1/completions", "/infill"} <= paths.keys()
    text = client.get("/metrics").data.decode()
    for name in (
        "sevenfold_generated_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:num_requests_running",
    ):
        assert f"\n{name}{{" in text
    assert client.get("/").headers["content-security-policy"].startswith("default-src 'none'")


def test_the_template_that_clients_see_is_the_one_that_is_used(client: Client) -> None:
    jinja2 = pytest.importorskip("jinja2")
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Write f.\n\nTwice."},
        {"role": "assistant", "content": "def f(): ..."},
        {"role": "tool", "content": "None"},
        {"role": "user", "content": "And g."},
    ]
    used = client.post("/apply-template", {"messages": messages}).json["prompt"]
    template = jinja2.Environment(keep_trailing_newline=True).from_string(
        client.get("/props").json["chat_template"]
    )
    assert template.render(messages=messages) == used


def test_foreign_pages_reach_nothing(client: Client) -> None:
    assert client.post("/v1/completions", {"prompt": "a"}, Host="evil.example").status == 403
    plain = client.send("POST", "/v1/completions", b'{"prompt":"a"}', {"Content-Type": "text/plain"})
    assert plain.status == 415
    reply = client.get("/v1/models", Origin="https://evil.example")
    assert "access-control-allow-origin" not in reply.headers


def test_bodies_are_bounded(client: Client) -> None:
    most = ServerLimits().body_bytes
    # A length alone is enough; the body is not read.
    with socket.create_connection(("127.0.0.1", client.port)) as raw:
        raw.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        raw.sendall(b"Content-Length: %d\r\n\r\n" % (most + 1))
        assert b" 413 " in raw.recv(100)
    with socket.create_connection(("127.0.0.1", client.port)) as raw:
        raw.sendall(
            b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            for _ in range(most // 0x10000 + 2):
                raw.sendall(chunk)
        except OSError:
            pass
        assert b" 413 " in raw.recv(100)


def test_keys_stand_before_every_route(locked: Client) -> None:
    for path in ("/v1/models", "/props", "/metrics", "/slots", "/tokenizer_info", "/", "/openapi.json"):
        assert locked.get(path).status == 401
    assert locked.post("/infill", {}).status == 401
    assert locked.get("/v1/models", Authorization="Bearer three").status == 401
    assert locked.get("/v1/models", Authorization="Bearer two").status == 200
    assert locked.get("/health").status == 200
    assert locked.post("/admin/reload", {"path": "x"}, Authorization="Bearer one").status == 401
    assert locked.post("/admin/reload", {"path": "/none"}, Authorization="Bearer admin").status == 500


def test_a_model_is_exchanged_and_taken_back(locked: Client, model_path: Any) -> None:
    admin = {"Authorization": "Bearer admin"}
    name = locked.server.registry.find("").name
    reply = locked.post("/admin/reload", {"path": str(model_path), "model": name}, **admin)
    assert reply.json["model"] == name
    assert locked.post("/admin/rollback", {"model": name}, **admin).status == 200
    body = {"prompt": "a", "max_tokens": 1}
    assert locked.post("/v1/completions", body, Authorization="Bearer one").status == 200


def test_a_wrong_bit_makes_it_not_ready(locked: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    served = locked.server.registry.find("")
    golden = dict(served.model.golden[0]) | {"logits_sha256": "0" * 64}
    monkeypatch.setattr(type(served.model), "golden", property(lambda _: [golden]))
    served.probe()
    key = {"Authorization": "Bearer one"}
    assert locked.get("/ready", **key).status == 503
    assert locked.get("/health", **key).status == 200


@pytest.mark.parametrize(
    ("body", "check"),
    [
        ({"regex": "[0-9]{3}"}, lambda text: len(text) == 3 and text.isdigit()),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": [17]}}}},
            lambda t: json.loads(t) == 17,
        ),
        ({"response_format": {"type": "text"}, "max_tokens": 3}, lambda text: True),
    ],
)
def test_answers_obey_a_grammar(client: Client, body: dict[str, Any], check: Any) -> None:
    reply = client.post("/v1/completions", {"prompt": "x = ", "max_tokens": 30} | body)
    assert reply.status == 200
    assert check(reply.json["choices"][0]["text"])


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"enum": [{"a": 1}]}}}


def test_a_tool_call_is_forced_by_its_schema(client: Client) -> None:
    body = {"messages": CHAT, "max_tokens": 60, "tools": [TOOL], "tool_choice": "required"}
    choice = client.post("/v1/chat/completions", body).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    function = choice["message"]["tool_calls"][0]["function"]
    assert function["name"] == "add"
    assert json.loads(function["arguments"]) == {"a": 1}
    events = client.post("/v1/chat/completions", body | {"stream": True}).events
    calls = [c["delta"]["tool_calls"] for e in events for c in e["choices"] if "tool_calls" in c["delta"]]
    assert calls[0][0]["function"] == function
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_tools_that_may_be_left_alone_are_and_it_is_said(client: Client) -> None:
    body = {"messages": CHAT, "max_tokens": 3, "tools": [TOOL]}
    value = client.post("/v1/chat/completions", body).json
    assert "tool_calls" not in value["choices"][0]["message"]
    assert "tool_choice" in value["warnings"][0]
    named = body | {"tool_choice": {"type": "function", "function": {"name": "none"}}}
    assert client.post("/v1/chat/completions", named).status == 400
    assert client.post("/v1/chat/completions", body | {"tools": [{}]}).status == 400


def test_an_operator_switches_without_a_restart(locked: Client, model: Model) -> None:
    admin, key = {"Authorization": "Bearer admin"}, {"Authorization": "Bearer one"}
    body = {"prompt": "x = 1", "max_tokens": 8}
    before = locked.post("/v1/completions", body, **key).json["choices"][0]["text"]
    change = {"context": 40, "parallel": 1, "cache_mb": 0, "tools_off": ["add"]}
    assert locked.post("/admin/switches", change, **admin).json["context"] == 40
    assert locked.post("/v1/completions", body, **key).json["choices"][0]["text"] == before
    assert locked.post("/v1/completions", {"prompt": "x", "max_tokens": 60}, **key).status == 400
    assert locked.server.registry.find("").scheduler.cache.n_bytes == 0
    chat = {"messages": CHAT, "max_tokens": 2, "tools": [TOOL], "tool_choice": "required"}
    assert "switched off" in locked.post("/v1/chat/completions", chat, **key).json["warnings"][0]
    assert locked.post("/admin/switches", {"context": 0}, **admin).json["parallel"] == 1
    assert locked.post("/v1/completions", {"prompt": "x", "max_tokens": 60}, **key).status == 200
    assert locked.post("/admin/switches", {"contxt": 0}, **admin).status == 400
    assert locked.post("/admin/switches", {"tools_off": "add"}, **admin).status == 400


def test_pieces_of_a_stream_do_not_wait_for_each_other() -> None:
    """asyncio turns off Nagle's algorithm only where the protocol is named."""
    with listen("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP
