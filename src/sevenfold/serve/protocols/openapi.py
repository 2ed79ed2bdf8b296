"""/openapi.json: the routes, and the fields of the request bodies with their bounds.

The bounds are those that the readers enforce. A generator of requests (schemathesis) and a
generator of clients therefore see the limits that a client meets at run time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sevenfold import __version__
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.protocols.tools import MAX_TOOLS
from sevenfold.tokenizer.chat.template import INSTRUCTION

Schema = dict[str, Any]

_STRING: Schema = {"type": "string"}
# The characters that the CM-1 gate accepts (specs/arithmetic.md): TAB, LF, CR and text.
_TEXT: Schema = {"type": "string", "pattern": r"^[\t\n\r\u0020-\u007e\u00a0-\ud7ff\ue000-\uffff]*$"}
_FLAG: Schema = {"type": "boolean"}
_OBJECT: Schema = {"type": "object"}
_ERRORS = ("400", "401", "403", "404", "405", "413", "415", "429", "500", "501", "503")


def _number(low: float, high: float) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}


def _integer(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _list(items: Schema, most: int | None = None, least: int = 0) -> Schema:
    bounds = {"minItems": least} if least else {}
    return {"type": "array", "items": items} | bounds | ({} if most is None else {"maxItems": most})


def _either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _body(fields: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """Return the schema of a body. An optional field may also be null."""
    properties = {
        name: schema if name in required else _either(schema, {"type": "null"})
        for name, schema in fields.items()
    }
    return {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})


def _messages(limits: ServerLimits) -> Schema:
    part = {
        "type": "object",
        "properties": {"type": {"enum": ["text", "input_text"]}, "text": _TEXT},
        "required": ["type", "text"],
    }
    message = {
        "type": "object",
        "properties": {
            "role": {"enum": list(INSTRUCTION.headings)},
            "content": _either(_TEXT, _list(part), {"type": "null"}),
        },
        "required": ["role"],
    }
    return _list(message, limits.messages, 1)


def _shared(limits: ServerLimits) -> dict[str, Schema]:
    stop = {"type": "string", "minLength": 1, "maxLength": limits.stop_bytes}
    bias = {
        "description": "token ids (or texts) and their biases; false bans a token",
        "type": "object",
        "additionalProperties": _either(_number(-100, 100), {"const": False}),
        "maxProperties": limits.biases,
    }
    return {
        "model": _STRING,
        "temperature": _number(0, 10),
        "top_k": _integer(-1, 1 << 30),
        "top_p": _number(0, 1),
        "min_p": _number(0, 1),
        "seed": _integer(-(1 << 63), (1 << 64) - 1),
        "stop": _either(stop, {"const": ""}, _list(stop, limits.stops)),
        "stream": _FLAG,
        "logit_bias": _either(bias, _list(_list({}, 2, 2), limits.biases)),
        "response_format": {
            "type": "object",
            "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}},
            "required": ["type"],
        },
        "receipt": _FLAG,
        "ignore_eos": _FLAG,
    }


def _openai_bodies(limits: ServerLimits) -> dict[str, Schema]:
    length, ids = _integer(-2, (1 << 63) - 1), _list(_integer(0, (1 << 31) - 1))
    texts = _list(_either(_TEXT, ids), limits.prompts)
    usage = _either(_FLAG, {"type": "null"})
    shared = _shared(limits) | {
        "max_tokens": length,
        "n": _integer(1, limits.n),
        "stream_options": {"type": "object", "properties": {"include_usage": usage}},
    }
    completion = {
        "prompt": _either(_TEXT, ids, texts),
        "suffix": _TEXT,
        "logprobs": _either(_integer(0, limits.logprobs), _FLAG),
        "echo": _FLAG,
    }
    chat = {
        "messages": _messages(limits),
        "max_completion_tokens": length,
        "logprobs": _FLAG,
        "top_logprobs": _integer(0, limits.logprobs),
        "tools": _list(_OBJECT, MAX_TOOLS),
        "tool_choice": _either(_STRING, _OBJECT),
    }
    fill = _body(shared | {"prompt": _TEXT, "suffix": _TEXT})
    return {
        "/v1/completions": _body(shared | completion),
        "/v1/chat/completions": _body(shared | chat, ("messages",)),
        "/fim/completions": fill,
        "/v1/fim/completions": fill,
        "/v1/embeddings": _body({"input": {}}),
    }


def _llama_bodies(limits: ServerLimits) -> dict[str, Schema]:
    length, ids = _integer(-2, 1 << 62), _list(_integer(0, (1 << 31) - 1))
    shared = _shared(limits) | {
        "n_predict": length,
        "n_cmpl": _integer(1, limits.n),
        "n_probs": _integer(0, limits.logprobs),
        "t_max_predict_ms": _integer(0, 1 << 31),
        "response_fields": _list(_STRING),
    }
    file = {"type": "object", "properties": {"filename": _TEXT, "text": _TEXT}}
    infill = {"input_prefix": _TEXT, "input_suffix": _TEXT, "input_extra": _list(file), "prompt": _TEXT}
    completion = _body(shared | {"prompt": _either(_TEXT, ids)})
    tokenize = {"content": _TEXT, "prompt": _TEXT, "parse_special": _FLAG, "with_pieces": _FLAG}
    return {
        "/infill": _body(shared | infill),
        "/completion": completion,
        "/completions": completion,
        "/tokenize": _body(tokenize | {"add_special": _FLAG, "add_special_tokens": _FLAG}),
        "/detokenize": _body({"tokens": ids}, ("tokens",)),
        "/apply-template": _body({"messages": _messages(limits)}, ("messages",)),
    }


def _admin_bodies() -> dict[str, Schema]:
    file = {"path": _STRING, "model": _STRING}
    trial = _body(file | {"share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}}, ("path",))
    switches = {
        "context": _integer(0, 1 << 31),
        "parallel": _integer(0, 1024),
        "cache_mb": _integer(0, 1 << 20),
        "tools_off": _list(_STRING),
    }
    return {
        "/admin/reload": _body(file, ("path",)),
        "/admin/canary": trial,
        "/admin/shadow": trial,
        "/admin/promote": _body({"model": _STRING}),
        "/admin/rollback": _body({"model": _STRING}),
        "/admin/switches": _body(switches) | {"additionalProperties": False},
    }


def bodies(limits: ServerLimits) -> dict[str, Schema]:
    """Return the schema of the body of each route that takes one."""
    # A body that is not a receipt gets the verdict MALFORMED, so it has no further schema.
    receipt = {"/v1/receipts/verify": _OBJECT}
    return _openai_bodies(limits) | _llama_bodies(limits) | _admin_bodies() | receipt


def _operation(path: str, handler: Any, body: Schema | None) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": (handler.__doc__ or "").strip().rstrip("."),
        "responses": {"200": {"description": "the answer"}}
        | {code: {"$ref": "#/components/responses/Error"} for code in _ERRORS},
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": _STRING} for name in names
        ]
    return operation


def document(routes: Iterable[tuple[str, str, Any]], limits: ServerLimits) -> dict[str, Any]:
    """Return the OpenAPI document of the routes.

    Raises:
        KeyError: a route with a body has no schema here.
    """
    paths: dict[str, Any] = {}
    schemas = bodies(limits)
    for method, path, handler in routes:
        clean = path.replace(":path}", "}")
        body = schemas[clean] if method == "POST" else None
        paths.setdefault(clean, {})[method.lower()] = _operation(clean, handler, body)
    error = {"type": "object", "properties": {"error": {"type": "object"}}, "required": ["error"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sevenfold", "version": __version__},
        "paths": paths,
        "components": {
            "responses": {
                "Error": {"description": "a refusal", "content": {"application/json": {"schema": error}}}
            }
        },
    }
