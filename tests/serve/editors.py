"""Requests as editors build them, taken down from their sources: who, where it goes, headers, body.

llama.vscode src/llama-server.ts and llama.vim autoload/llama.vim (ggml-org), Continue
core/llm/llms/OpenAI.ts and LlamaCpp.ts (continuedev), Zed edit_prediction/open_ai_compatible.rs
(zed-industries). Values that a user's file would give are examples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

PREFIX, SUFFIX, PROMPT = "def area(w, h):\n", "\n\nprint(area(2, 3))\n", "    return "
CHUNKS = [{"text": "import math\n", "time": 1756000000000, "filename": "shapes.py"}]
QWEN = f"<|fim_prefix|>{PREFIX}{PROMPT}<|fim_suffix|>{SUFFIX}<|fim_middle|>"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "read_file",
            "description": "Reads a file.",
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string"}},
                "required": ["path"],
            },
        },
    }
]
BEARER = {"Authorization": "Bearer none"}
VIM_FIELDS = [
    "content", "timings/prompt_n", "timings/prompt_ms", "timings/prompt_per_token_ms",
    "timings/prompt_per_second", "timings/predicted_n", "timings/predicted_ms",
    "timings/predicted_per_token_ms", "timings/predicted_per_second", "truncated", "tokens_cached",
]  # fmt: skip


class Asked(NamedTuple):
    """One request. `reads` are the places of the answer that the editor needs, "/" between keys."""

    who: str
    path: str
    body: dict[str, Any]
    reads: tuple[str, ...]
    headers: dict[str, str] = BEARER


_INFILL: dict[str, Any] = {
    "input_prefix": PREFIX, "input_suffix": SUFFIX, "input_extra": CHUNKS, "prompt": PROMPT,
}  # fmt: skip
_VSCODE_CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "You are an expert coder."},
        {"role": "user", "content": "Shorten this."},
    ],
    "stream": False, "cache_prompt": True, "samplers": "edkypmxt", "temperature": 0.8, "dynatemp_range": 0,
    "dynatemp_exponent": 1, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "typical_p": 1, "xtc_probability": 0,
    "xtc_threshold": 0.1, "repeat_last_n": 64, "repeat_penalty": 1, "presence_penalty": 0,
    "frequency_penalty": 0, "dry_multiplier": 0, "dry_base": 1.75, "dry_allowed_length": 2,
    "dry_penalty_last_n": -1, "max_tokens": -1, "timings_per_token": False,
}  # fmt: skip
CONTINUE_STOPS = [
    "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>",
    "<|file_sep|>", "<|im_start|>", "<|im_end|>", "/src/", "#- coding: utf-8", "```",
]  # fmt: skip
_CONTINUE: dict[str, Any] = {
    "model": "AUTODETECT", "max_tokens": 24, "temperature": 0.01, "stream": True, "stop": CONTINUE_STOPS,
}  # fmt: skip

REQUESTS = (
    Asked(
        "llama.vscode, a suggestion", "/infill",
        {
            "id_slot": 0, **_INFILL, "n_predict": 16, "n_cmpl": 3, "top_k": 40, "top_p": 0.99,
            "stream": False, "samplers": ["top_k", "top_p", "infill"], "cache_prompt": True, "n_indent": 4,
            "t_max_prompt_ms": 500, "t_max_predict_ms": 500,
        },
        ("0/content", "0/timings/prompt_n", "0/timings/predicted_per_second", "0/tokens_cached", "2/content"),
    ),
    Asked(
        "llama.vscode, the next context", "/infill",
        {
            "input_prefix": "", "input_suffix": "", "input_extra": CHUNKS, "prompt": "", "n_predict": 0,
            "samplers": [], "cache_prompt": True, "t_max_prompt_ms": 500, "t_max_predict_ms": 1,
        },
        ("content",),
    ),
    Asked("llama.vscode, an edit", "/v1/chat/completions", _VSCODE_CHAT, ("choices/0/message/content",)),
    Asked(
        "llama.vscode, tools", "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": "Read it."}], "stream": False, "temperature": 0.8,
            "top_p": 0.95, "tools": TOOLS, "tool_choice": "auto", "max_tokens": 16,
        },
        ("choices/0/message/content", "choices/0/finish_reason"),
    ),
    Asked(
        "llama.vim, a suggestion", "/infill",
        {
            "id_slot": 0, **_INFILL, "n_predict": 16, "stop": ["\n"], "n_indent": 4, "top_k": 40,
            "top_p": 0.90, "samplers": ["top_k", "top_p", "infill"], "stream": False, "cache_prompt": True,
            "t_max_prompt_ms": 500, "t_max_predict_ms": 1000, "response_fields": VIM_FIELDS,
        },
        tuple(name.replace("/", "\\") for name in VIM_FIELDS),
    ),
    Asked(
        "llama.vim, the next context", "/infill",
        {
            "id_slot": 0, "input_prefix": "", "input_suffix": "", "input_extra": CHUNKS, "prompt": "",
            "n_predict": 0, "temperature": 0.0, "stream": False, "samplers": [], "cache_prompt": True,
            "t_max_prompt_ms": 1, "t_max_predict_ms": 1, "response_fields": [""],
        },
        (),
    ),
    Asked(
        "Continue, completions", "/v1/completions", {**_CONTINUE, "prompt": QWEN}, ("choices/0/text",),
        {**BEARER, "api-key": "none"},
    ),
    Asked(
        "Continue, chat", "/v1/chat/completions",
        {**_CONTINUE, "messages": [{"role": "user", "content": "Explain."}]}, ("choices/0/delta/content",),
        {**BEARER, "api-key": "none"},
    ),
    Asked(
        "Continue, fill in", "/v1/fim/completions",
        {**_CONTINUE, "prompt": PREFIX, "suffix": SUFFIX, "top_p": 0.9, "frequency_penalty": 0},
        ("choices/0/delta/content",),
        {**BEARER, "Accept": "application/json", "x-api-key": "none"},
    ),
    Asked(
        "Continue, llama.cpp", "/completion",
        {"prompt": QWEN, "stream": True, "n_predict": 16, "stop": CONTINUE_STOPS, "temperature": 0.01},
        ("content",),
    ),
    Asked(
        "Zed, an edit prediction", "/v1/completions",
        {
            "model": "qwen", "prompt": QWEN, "max_tokens": 24,
            "stop": ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"],
        },
        (
            "id", "object", "created", "model", "choices/0/text", "choices/0/finish_reason",
            "usage/prompt_tokens", "usage/completion_tokens", "usage/total_tokens",
        ),
    ),
)  # fmt: skip
