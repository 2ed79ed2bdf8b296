"""Fields of OpenAI's requests that several routes share: length, stops, sampling, biases."""

from __future__ import annotations

import secrets
from typing import Any

from sevenfold.engine.sampling import GREEDY, DecodingLaw
from sevenfold.serve.batching.request import BANNED
from sevenfold.serve.errors import RequestError
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.prompts import content_of
from sevenfold.serve.protocols.fields import Fields
from sevenfold.serve.registry import Served

# The unit of a logit: 16 fraction bits.
LOGIT_ONE = 1 << 16
UNSUPPORTED_SAMPLING = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "repeat_penalty": 1,
    "repetition_penalty": 1,
    "typical_p": 1,
    "dynatemp_range": 0,
    "xtc_probability": 0,
    "mirostat": 0,
}


def stops_of(fields: Fields, limits: ServerLimits) -> tuple[str, ...]:
    """Return the stop strings of a string or a list. Raises RequestError."""
    value = fields.get("stop")
    stops = [] if value in (None, "") else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise RequestError(
            "it is neither a string nor a list of strings", where="stop", remedy="send strings"
        )
    if len(stops) > limits.stops:
        raise RequestError(f"{len(stops)} stop strings", where="stop", remedy=f"send {limits.stops} at most")
    for stop in stops:
        if not 1 <= len(stop.encode("utf-8", "replace")) <= limits.stop_bytes:
            raise RequestError(
                f"a stop string of {len(stop)} characters",
                where="stop",
                remedy=f"use 1 to {limits.stop_bytes} bytes",
            )
    return tuple(stops)


def law_of(fields: Fields, served: Served, *, default_temperature: float = 0.0) -> DecodingLaw:
    """Return how tokens are chosen (specs/sampling.md).

    Without a temperature the answer is greedy. A family whose law is greedy ignores a temperature
    and adds a warning. Decimal numbers are taken exactly as written.

    Raises:
        RequestError, UsageError: a value outside its range.
    """
    temperature = fields.number("temperature", default_temperature, 0, 10)
    top_k = fields.integer("top_k", 0, -1, 1 << 30)
    top_p = fields.number("top_p", 1.0, 0, 1)
    min_p = fields.number("min_p", 0.0, 0, 1)
    asked = fields.get("seed")
    seed = fields.integer("seed", 0, -(1 << 63), (1 << 64) - 1)
    for name, neutral in UNSUPPORTED_SAMPLING.items():
        value = fields.get(name)
        if value not in (None, neutral):
            fields.warn(f"{name} {value!r:.40} is not part of the sampling law; it was not applied")
    if temperature == 0:
        return GREEDY
    if served.is_greedy_only:
        fields.warn(f"temperature {temperature} was not applied: the law of this model's family is greedy")
        return GREEDY
    if asked is None or seed < 0:
        seed = secrets.randbits(64)
    return DecodingLaw.parse(
        f"{temperature:.5f}", max(0, top_k), f"{min_p:.5f}", f"{max(top_p, 1e-5):.5f}", seed
    )


def biases_of(fields: Fields, served: Served, limits: ServerLimits) -> tuple[tuple[int, int], ...]:
    """Return the biases of tokens in units of logits, from an object (OpenAI) or pairs (llama.cpp).

    Raises:
        RequestError: an id is not in the vocabulary, or a bias is not in -100 .. 100 (false bans a
            token).
    """
    value = fields.get("logit_bias")
    if value in (None, {}, []):
        return ()
    pairs: list[Any] = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or len(pairs) > limits.biases:
        raise RequestError(f"it is not an object of at most {limits.biases} tokens", where="logit_bias")
    biases: dict[int, int] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise RequestError(f"{pair!r:.80} is not a pair of token and bias", where="logit_bias")
        token, bias = pair
        for id_ in _ids_of(token, served):
            if bias is False:
                biases[id_] = BANNED
            elif type(bias) in (int, float) and -100 <= bias <= 100:
                biases[id_] = BANNED if bias == -100 else round(bias * LOGIT_ONE)
            else:
                raise RequestError(
                    f"the bias {bias!r:.40}", where="logit_bias", remedy="use -100 to 100, or false"
                )
    return tuple(sorted(biases.items()))


def _ids_of(token: Any, served: Served) -> list[int]:
    size = served.model.tokenizer.vocab_size
    if isinstance(token, str) and not token.lstrip("-").isdigit():
        return served.prompts.parsed(token, "logit_bias")
    try:
        id_ = int(token)
    except (TypeError, ValueError):
        id_ = -1
    if isinstance(token, bool | float) or not 0 <= id_ < size:
        raise RequestError(
            f"{token!r:.80} is no token", where="logit_bias", remedy=f"use ids 0 to {size - 1}"
        )
    return [id_]


def room_of(served: Served, n_prompt: int) -> int:
    """Return how many tokens may follow a prompt. Raises RequestError when there is no room."""
    room = served.context - n_prompt
    if room < 0:
        raise RequestError(
            f"the prompt has {n_prompt} tokens; the context has {served.context}",
            where="prompt",
            remedy="shorten the prompt",
        )
    return room


def length_of(fields: Fields, names: tuple[str, ...], default: int | None, room: int) -> int:
    """Return the largest number of tokens of the answer; -1 or null means all that fit.

    Raises:
        RequestError: the context has no room for so many, or the value is not a whole number.
    """
    given = {
        name: fields.integer(name, 0, -2, (1 << 63) - 1) for name in names if fields.get(name) is not None
    }
    if not given:
        return room if default is None else min(default, room)
    # The first of the names decides, as with OpenAI. The others must still be numbers.
    name, n = next(iter(given.items()))
    if n < 0:
        return room
    if n > room:
        raise RequestError(
            f"{n} tokens are requested; the context has room for {room}",
            where=name,
            remedy=f"request {room} at most, or shorten the prompt",
        )
    return n


def guess_of(fields: Fields, served: Served) -> tuple[int, ...]:
    """Return the ids of `prediction`, the answer that a client expects. Raises RequestError."""
    value = fields.get("prediction")
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise RequestError(
            f"{type(value).__name__} as a prediction",
            where="prediction",
            remedy='send {"type": "content", "content": TEXT}',
        )
    return tuple(served.prompts.plain(content_of(value, "prediction.content"), "prediction"))
