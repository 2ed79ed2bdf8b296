"""Editors: what their sources send is answered with what their sources read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from editors import PREFIX, PROMPT, REQUESTS, SUFFIX, Asked
from serving_client import Client, Reply


def send(client: Client, asked: Asked) -> Reply:
    headers = {"Content-Type": "application/json", **asked.headers}
    return client.send("POST", asked.path, json.dumps(asked.body).encode(), headers)


def read(value: Any, path: str) -> Any:
    for part in path.split("/"):
        key = part.replace("\\", "/")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def events(data: bytes) -> list[Any]:
    """The events of a stream; /completion ends without a mark."""
    lines = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("asked", REQUESTS, ids=[asked.who for asked in REQUESTS])
def test_an_editor_finds_what_it_reads(client: Client, asked: Asked) -> None:
    reply = send(client, asked)
    assert reply.status == 200, reply.data
    if not asked.body.get("stream"):
        for path in asked.reads:
            read(reply.json, path)
        if "response_fields" in asked.body:
            names = {name.replace("\\", "/") for name in asked.reads}
            assert reply.json.keys() == names, "nothing but what was asked for"
        return
    told = events(reply.data)
    found = 0
    for event in told:
        for path in asked.reads:
            if path.startswith("choices") and not event["choices"]:
                continue
            try:
                read(event, path)
                found += 1
            except KeyError:
                # The last chunk of a chat has an empty delta.
                assert event["choices"][0]["finish_reason"]
    assert found


def test_streams_are_the_whole_answer(client: Client) -> None:
    """Each streamed request, asked again without a stream, gives the same text."""
    for asked in REQUESTS:
        if not asked.body.get("stream"):
            continue
        whole = send(client, asked._replace(body={**asked.body, "stream": False})).json
        told = events(send(client, asked).data)
        if asked.path == "/completion":
            assert "".join(event["content"] for event in told) == whole["content"]
            continue
        parts = [event["choices"][0] for event in told if event["choices"]]
        texts = [part.get("text", "") + (part.get("delta", {}).get("content") or "") for part in parts]
        choice = whole["choices"][0]
        assert "".join(texts) == choice.get("text", choice.get("message", {}).get("content"))


def test_zeds_types_are_strict(client: Client) -> None:
    (asked,) = [asked for asked in REQUESTS if asked.who.startswith("Zed")]
    value = send(client, asked).json
    assert isinstance(value["id"], str)
    assert isinstance(value["created"], int)
    assert all(type(value["usage"][name]) is int for name in ("prompt_tokens", "completion_tokens"))
    assert value["choices"][0]["finish_reason"] in ("stop", "length")


def test_what_is_typed_of_a_suggestion_is_not_computed_again(client: Client) -> None:
    """An editor asks behind each character: the rest of the last suggestion is the guess."""
    served = client.server.registry.find("")
    body = {"input_prefix": PREFIX, "input_suffix": SUFFIX, "prompt": PROMPT, "n_predict": 12, "top_k": 1}
    first = client.post("/infill", body).json["content"]
    typed = first[:2]
    left = served.suggestions.find("", PREFIX + PROMPT + typed, SUFFIX)
    assert left == first[len(typed) :]
    assert served.suggestions.find("another key", PREFIX + PROMPT + typed, SUFFIX) == ""
    assert served.suggestions.find("", PREFIX + PROMPT + "\x7f", SUFFIX) == ""
    assert served.suggestions.find("", PREFIX + PROMPT + typed, "else") == ""
    # And what it guesses changes nothing.
    again = body | {"prompt": PROMPT + typed}
    expected = client.post(
        "/completion", {"prompt": fim(PREFIX + PROMPT + typed), "n_predict": 12, "top_k": 1}
    )
    assert client.post("/infill", again).json["content"] == expected.json["content"]


def fim(prefix: str) -> str:
    return f"<|fim_prefix|>{prefix}<|fim_suffix|>{SUFFIX}<|fim_middle|>"
