"""/openapi.json: the routes and the fields of the bodies that we read, from one table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sevenfold import __version__

_TEXT, _INT, _NUMBER, _FLAG = (
    {"type": "string"},
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
)
_STOP = {"oneOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_SHARED = {
    "model": _TEXT,
    "temperature": _NUMBER,
    "top_k": _INT,
    "top_p": _NUMBER,
    "min_p": _NUMBER,
    "seed": _INT,
    "stop": _STOP,
    "stream": _FLAG,
    "logit_bias": {"type": "object"},
    "response_format": {"type": "object"},
    "receipt": _FLAG,
    "ignore_eos": _FLAG,
}
_IDS = {"type": "array", "items": _INT}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": _SHARED
    | {
        "prompt": {"oneOf": [_TEXT, {"type": "array"}]},
        "suffix": _TEXT,
        "max_tokens": _INT,
        "n": _INT,
        "logprobs": _INT,
        "echo": _FLAG,
        "stream_options": {"type": "object"},
    },
    "/v1/chat/completions": _SHARED
    | {
        "messages": {"type": "array", "items": {"type": "object"}},
        "max_tokens": _INT,
        "max_completion_tokens": _INT,
        "n": _INT,
        "logprobs": _FLAG,
        "top_logprobs": _INT,
        "stream_options": {"type": "object"},
    },
    "/infill": _SHARED
    | {
        "input_prefix": _TEXT,
        "input_suffix": _TEXT,
        "input_extra": {"type": "array", "items": {"type": "object"}},
        "prompt": _TEXT,
        "n_predict": _INT,
        "n_cmpl": _INT,
        "t_max_predict_ms": _INT,
        "response_fields": {"type": "array", "items": _TEXT},
    },
    "/completion": _SHARED | {"prompt": {"oneOf": [_TEXT, _IDS]}, "n_predict": _INT, "n_probs": _INT},
    "/fim/completions": _SHARED | {"prompt": _TEXT, "suffix": _TEXT, "max_tokens": _INT},
    "/tokenize": {"content": _TEXT, "prompt": _TEXT, "parse_special": _FLAG, "with_pieces": _FLAG},
    "/detokenize": {"tokens": _IDS},
    "/apply-template": {"messages": {"type": "array", "items": {"type": "object"}}},
    "/v1/receipts/verify": {
        "envelope": {"type": "object"},
        "prompt_ids": _IDS,
        "output_ids": _IDS,
        "salt": _TEXT,
        "steps": {"type": "array", "items": _TEXT},
    },
    "/admin/reload": {"path": _TEXT, "model": _TEXT},
    "/admin/canary": {"path": _TEXT, "model": _TEXT, "share": _NUMBER},
    "/admin/shadow": {"path": _TEXT, "model": _TEXT, "share": _NUMBER},
    "/admin/promote": {"model": _TEXT},
    "/admin/rollback": {"model": _TEXT},
    "/admin/switches": {
        "context": _INT,
        "parallel": _INT,
        "cache_mb": _INT,
        "tools_off": {"type": "array", "items": _TEXT},
    },
}
_ERRORS = ("400", "401", "403", "404", "413", "415", "429", "500", "501", "503")


def document(routes: Iterable[tuple[str, str, Any]]) -> dict[str, Any]:
    """Return the OpenAPI document of the routes."""
    paths: dict[str, Any] = {}
    for method, path, handler in routes:
        operation: dict[str, Any] = {
            "summary": (handler.__doc__ or "").strip().rstrip("."),
            "responses": {"200": {"description": "the answer"}}
            | {code: {"$ref": "#/components/responses/Error"} for code in _ERRORS},
        }
        if method == "POST":
            schema = {"type": "object", "properties": BODIES.get(path, {})}
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        clean = path.replace(":path}", "}")
        names = [part[1:-1] for part in clean.split("/") if part.startswith("{")]
        if names:
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names
            ]
        paths.setdefault(clean, {})[method.lower()] = operation
    error = {"type": "object", "properties": {"error": {"type": "object"}}}
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
