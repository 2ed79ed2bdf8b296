"""OpenAI's protocol: /v1/completions, /v1/chat/completions, /v1/models, /fim/completions."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sevenfold.serve.answers import Running
from sevenfold.serve.batching.request import Event, Finished, GeneratedPiece, Generation
from sevenfold.serve.errors import RequestError
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.protocols.constrained import constraint_of
from sevenfold.serve.protocols.fields import Fields
from sevenfold.serve.protocols.logprobs import Namer
from sevenfold.serve.protocols.openai_fields import biases_of, guess_of, law_of, length_of, room_of, stops_of
from sevenfold.serve.protocols.tools import call_of, schema_of_call
from sevenfold.serve.registry import Served

DEFAULT_TOKENS = 16
COMPLETION, CHAT, FIM_CHAT = "text_completion", "chat.completion", "fim"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A parsed request: the generations to run, and how to write the answer."""

    served: Served
    kind: str
    generations: list[Generation]
    fields: Fields
    is_stream: bool
    with_usage: bool
    echo_texts: list[str]
    n_top: int | None
    namer: Namer
    receipt: bool
    # Whether the answer is a tool call.
    is_call: bool


def _prompts(fields: Fields, served: Served, limits: ServerLimits) -> list[list[int]]:
    """Return the ids of each prompt: a text, ids, or a list of either. Raises RequestError."""
    value = fields.get("prompt")
    if value is None:
        value = ""
    if isinstance(value, list) and (not value or type(value[0]) is int):
        value = [value]
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise RequestError(
            f"{type(value).__name__} as a prompt", where="prompt", remedy="send a string or ids"
        )
    if len(value) > limits.prompts:
        raise RequestError(f"{len(value)} prompts", where="prompt", remedy=f"send {limits.prompts} at most")
    specials = fields.flag("parse_special", True)
    suffix = fields.get("suffix")
    return [_prompt(item, served, specials, suffix) for item in value]


def _prompt(item: Any, served: Served, specials: bool, suffix: Any) -> list[int]:
    if suffix is not None:
        if not isinstance(item, str) or not isinstance(suffix, str):
            raise RequestError("a suffix needs a prompt of text", where="suffix", remedy="send two strings")
        return served.prompts.infill(item, suffix)
    if isinstance(item, str):
        return served.prompts.raw(item, specials=specials)
    size = served.model.tokenizer.vocab_size
    if not isinstance(item, list) or not all(type(i) is int and 0 <= i < size for i in item):
        raise RequestError(
            "a prompt is neither text nor ids of this vocabulary",
            where="prompt",
            remedy=f"use ids 0 to {size - 1}",
        )
    # An empty prompt is the token that begins a text.
    return item or served.model.tokenizer.begun([])


def _logprobs(fields: Fields, limits: ServerLimits, *, is_chat: bool) -> int | None:
    """Return the requested number of alternatives; None for no log-probabilities."""
    if not is_chat:
        if fields.get("logprobs") in (None, False):
            return None
        if fields.get("logprobs") is True:
            return 0
        return fields.integer("logprobs", 0, 0, limits.logprobs)
    n_top = fields.integer("top_logprobs", 0, 0, limits.logprobs)
    return n_top if fields.flag("logprobs") else None


def read_completion(
    fields: Fields, served: Served, limits: ServerLimits, salt: str, *, fim: bool = False
) -> Asked:
    """Parse a body of /v1/completions or /fim/completions. Raises RequestError."""
    if fim and fields.get("suffix") is None:
        fields.values["suffix"] = ""
    prompts = _prompts(fields, served, limits)
    echo, n_top = fields.flag("echo"), _logprobs(fields, limits, is_chat=False)
    decode = served.model.tokenizer.decode
    return _asked(
        fields,
        served,
        limits,
        kind=FIM_CHAT if fim else COMPLETION,
        prompts=prompts,
        salt=salt,
        n_top=n_top,
        echo=echo and n_top is not None,
        echo_texts=[decode(ids) if echo else "" for ids in prompts],
        default=DEFAULT_TOKENS if not fim else None,
    )


def messages_of(fields: Fields, limits: ServerLimits) -> list[Any]:
    """Return the messages of a chat, at least one. Raises RequestError."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages are missing", where="messages", remedy="send a list of messages")
    if len(messages) > limits.messages:
        raise RequestError(
            f"{len(messages)} messages", where="messages", remedy=f"send {limits.messages} at most"
        )
    return messages


def read_chat(fields: Fields, served: Served, limits: ServerLimits, salt: str) -> Asked:
    """Parse a body of /v1/chat/completions. Raises RequestError."""
    _, ids = served.prompts.chat(messages_of(fields, limits))
    return _asked(
        fields,
        served,
        limits,
        kind=CHAT,
        prompts=[ids],
        salt=salt,
        n_top=_logprobs(fields, limits, is_chat=True),
        echo=False,
        echo_texts=[""],
        default=None,
    )


def _asked(
    fields: Fields,
    served: Served,
    limits: ServerLimits,
    *,
    kind: str,
    prompts: list[list[int]],
    salt: str,
    n_top: int | None,
    echo: bool,
    echo_texts: list[str],
    default: int | None,
) -> Asked:
    names = ("max_completion_tokens", "max_tokens", "n_predict")
    law, stops = law_of(fields, served), stops_of(fields, limits)
    n, receipt = fields.integer("n", 1, 1, limits.n), fields.flag("receipt")
    call = schema_of_call(fields, served.scheduler.switches.tools_off) if kind == CHAT else None
    biases, constraint = biases_of(fields, served, limits), constraint_of(fields, served, call)
    ignore_end, guess = fields.flag("ignore_eos"), guess_of(fields, served)
    prompt, suffix = fields.get("prompt"), fields.get("suffix")
    between = (prompt, suffix) if isinstance(prompt, str) and isinstance(suffix, str) else None
    generations = [
        Generation(
            ids=tuple(ids),
            max_tokens=length_of(fields, names, default, room_of(served, len(ids))),
            law=law,
            n=n,
            stops=stops,
            n_logprobs=n_top,
            echo=echo,
            biases=biases,
            ignore_end=ignore_end,
            salt=salt,
            receipt=receipt,
            constraint=constraint,
            guess=guess or (served.guess_between(salt, *between) if between else ()),
            between=between,
        )
        for ids in prompts
    ]
    options = Fields(fields.mapping("stream_options"))
    with_usage = options.flag("include_usage")
    as_ids = fields.flag("return_tokens_as_token_ids")
    asked = Asked(
        served=served,
        kind=kind,
        generations=generations,
        fields=fields,
        is_stream=fields.flag("stream"),
        with_usage=with_usage,
        echo_texts=echo_texts,
        n_top=n_top,
        namer=Namer(served.model.tokenizer, as_ids=as_ids),
        receipt=receipt,
        is_call=call is not None,
    )
    fields.leave(("model", "encoding_format"))
    return asked


class Writer:
    """Writes the answer of one request, complete or in chunks."""

    def __init__(self, asked: Asked, running: Running) -> None:
        self.asked, self.running = asked, running
        prefix = "cmpl" if asked.kind == COMPLETION else "chatcmpl"
        self.id, self.created = f"{prefix}-{secrets.token_hex(12)}", int(time.time())
        self._n_told: dict[tuple[int, int], int] = {}

    def _head(self, object_: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": object_,
            "created": self.created,
            "model": self.asked.served.name,
            "system_fingerprint": f"s7-{self.asked.served.root[:16]}",
        }

    def whole(self) -> dict[str, Any]:
        """Return the complete answer of a request."""
        choices = []
        for number, samples in enumerate(self.running.samples):
            for index, sample in enumerate(samples):
                place = number * len(samples) + index
                reason = sample.finished.reason if sample.finished else "stop"
                choices.append(self._choice(place, number, sample.text, sample.tokens, reason, is_first=True))
        object_ = COMPLETION if self.asked.kind == COMPLETION else CHAT
        answer = self._head(object_) | {"choices": choices, "usage": self.running.usage()}
        if warnings := self.asked.fields.said():
            answer["warnings"] = warnings
        return answer

    def _choice(
        self, place: int, number: int, text: str, tokens: Sequence[Any], reason: str | None, *, is_first: bool
    ) -> dict[str, Any]:
        asked, echoed = self.asked, self.asked.echo_texts[number]
        choice: dict[str, Any] = {"index": place, "logprobs": None, "finish_reason": reason}
        if asked.kind == COMPLETION:
            choice["text"] = (echoed if is_first else "") + text
            if asked.n_top is not None:
                is_scored = asked.generations[number].echo and is_first
                choice["logprobs"] = asked.namer.completion(
                    tokens,
                    asked.generations[number].ids if is_scored else (),
                    self.running.prompts[number] if is_scored else (),
                    asked.n_top,
                    len(asked.served.model.tokenizer.decode(asked.generations[number].ids)),
                )
            return choice
        if asked.n_top is not None:
            choice["logprobs"] = asked.namer.chat(tokens, asked.n_top)
        choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        if asked.is_call and (calls := call_of(text)):
            choice["message"] |= {"content": None, "tool_calls": calls}
            choice["finish_reason"] = "tool_calls"
        return choice

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the chunks of a stream as they arrive. Raises RequestError as `Running.events`
        does.
        """
        if self.asked.kind == CHAT:
            for place in range(len(self.asked.generations) * self.asked.generations[0].n):
                yield self._chunk(place, {"role": "assistant", "content": ""}, None, None)
        async for number, event in self.running.events():
            for chunk in self._chunks_of(number, event):
                yield chunk
        last = self._head(self._chunk_object()) | {"choices": [], "usage": self.running.usage()}
        if warnings := self.asked.fields.said():
            last["warnings"] = warnings
        if self.asked.with_usage or warnings:
            if not self.asked.with_usage:
                del last["usage"]
            yield last

    def _chunk_object(self) -> str:
        return COMPLETION if self.asked.kind == COMPLETION else "chat.completion.chunk"

    def _chunks_of(self, number: int, event: Event) -> list[dict[str, Any]]:
        if not isinstance(event, GeneratedPiece | Finished):
            return []
        place = number * self.asked.generations[number].n + event.index
        n_told = self._n_told.get((number, event.index), 0)
        if self.asked.is_call:
            # A tool call is sent complete, because a client cannot use a part of it.
            if isinstance(event, GeneratedPiece):
                return []
            calls = call_of(event.text)
            delta = {"tool_calls": calls} if calls else {"content": event.text}
            return [self._chunk(place, delta, None, "tool_calls" if calls else event.reason)]
        if isinstance(event, GeneratedPiece):
            self._n_told[number, event.index] = n_told + len(event.text)
            return (
                [self._piece(place, number, event.text, event.tokens, None)]
                if event.text or event.ids
                else []
            )
        # The text that was held back for a stop string that did not follow.
        return [self._piece(place, number, event.text[n_told:], (), event.reason)]

    def _piece(
        self, place: int, number: int, text: str, tokens: Sequence[Any], reason: str | None
    ) -> dict[str, Any]:
        if self.asked.kind == COMPLETION:
            is_first = (number, -1 - place) not in self._n_told
            self._n_told[number, -1 - place] = 1
            choice = self._choice(place, number, text, tokens, reason, is_first=is_first)
            return self._head(COMPLETION) | {"choices": [choice]}
        logprobs = (
            self.asked.namer.chat(tokens, self.asked.n_top)
            if self.asked.n_top is not None and tokens
            else None
        )
        return self._chunk(place, {"content": text} if text or reason is None else {}, logprobs, reason)

    def _chunk(self, place: int, delta: dict[str, Any], logprobs: Any, reason: str | None) -> dict[str, Any]:
        choice = {"index": place, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self._head("chat.completion.chunk") | {"choices": [choice]}


def sse(value: dict[str, Any]) -> bytes:
    """Return one event of a stream."""
    return b"data: " + json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def model_card(served: Served) -> dict[str, Any]:
    """Return a model as /v1/models lists it, with the fields that clients of llama.cpp read."""
    shape = served.model.weights.shape
    return {
        "id": served.name,
        "object": "model",
        "created": served.loaded_at,
        "owned_by": "sevenfold",
        "root": served.root,
        "max_model_len": served.context,
        "meta": {
            "n_vocab": shape.vocab_size,
            "n_ctx_train": shape.context,
            "n_embd": shape.d_model,
            "size": served.path.stat().st_size if served.path.is_file() else 0,
        },
    }
