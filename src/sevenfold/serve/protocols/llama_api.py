"""The protocol of llama.cpp, as editors use it: /infill, /completion, /tokenize, /props, /slots."""

from __future__ import annotations

from typing import Any

from sevenfold import __version__
from sevenfold.serve.answers import AnswerSample, Running
from sevenfold.serve.batching.request import Generation
from sevenfold.serve.errors import RequestError
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.protocols.constrained import constraint_of
from sevenfold.serve.protocols.fields import Fields
from sevenfold.serve.protocols.logprobs import token_text, value
from sevenfold.serve.protocols.openai_fields import biases_of, law_of, room_of, stops_of
from sevenfold.serve.registry import Served
from sevenfold.tokenizer.chat.template import ChatTemplate

# The default of llama.cpp for requests that do not state the length of a suggestion.
DEFAULT_TOKENS = 128
# Reading a prompt may take at most this long. A longer context is cut at its start.
UNUSED = ("t_max_prompt_ms", "n_keep", "return_tokens", "input_extra", "n_indent", "post_sampling_probs")
_RULES = {"end": "eos", "word": "word", "limit": "limit", "time": "limit", "grammar": "eos", "cancel": "none"}


def _texts(fields: Fields) -> list[tuple[str, str]]:
    """Return the names and texts of the other files that an editor sends. Raises RequestError."""
    extra = fields.get("input_extra")
    extra = [] if extra is None else extra
    if not isinstance(extra, list) or not all(isinstance(item, dict) for item in extra):
        raise RequestError("it is no list of objects", where="input_extra", remedy="send text and filename")
    pairs = [(item.get("filename", ""), item.get("text", "")) for item in extra]
    if not all(isinstance(part, str) for pair in pairs for part in pair):
        raise RequestError("a text or a filename is no string", where="input_extra", remedy="send strings")
    return pairs


def _fitting(fields: Fields, served: Served, n_wanted: int) -> tuple[list[int], bool]:
    """Return the ids of an infill prompt that leaves room for the answer, and whether it was cut.

    Other files are dropped first, the earliest first. Then the longer one of prefix and suffix is
    cut: a prefix at its start, a suffix at its end. `truncated` in the answer says whether
    something was cut.
    """
    prefix = fields.text("input_prefix") + fields.text("prompt")
    suffix, extra = fields.text("input_suffix"), _texts(fields)
    room = max(1, served.context - n_wanted)
    ids = served.prompts.infill(prefix, suffix, extra)
    is_cut = len(ids) > room
    while len(ids) > room and extra:
        extra = extra[1:]
        ids = served.prompts.infill(prefix, suffix, extra)
    while len(ids) > room and (prefix or suffix):
        # Cut half as many characters as there are tokens too many, and repeat until the prompt
        # fits.
        excess = max(1, (len(ids) - room) // 2)
        if len(prefix) >= len(suffix):
            prefix = prefix[excess:]
        else:
            suffix = suffix[: max(0, len(suffix) - excess)]
        ids = served.prompts.infill(prefix, suffix, extra)
    return ids, is_cut


def read(
    fields: Fields, served: Served, limits: ServerLimits, salt: str, *, infill: bool
) -> tuple[Generation, bool]:
    """Read a body of /infill or /completion. Return the request and whether its prompt was cut.

    Raises:
        RequestError: a field is refused, or the model has no fill-in-middle (501).
    """
    name = "n_predict" if fields.get("n_predict") is not None else "max_tokens"
    n_wanted = fields.integer(name, DEFAULT_TOKENS if infill else -1, -2, 1 << 62)
    # As in llama.cpp, a full context ends the answer early, and the request is not refused.
    if infill:
        ids, is_cut = _fitting(fields, served, min(max(n_wanted, 0), served.context // 2))
        between = (fields.text("input_prefix") + fields.text("prompt"), fields.text("input_suffix"))
    else:
        ids, is_cut = _completion_ids(fields, served), False
        between = None
    room = room_of(served, len(ids))
    n_probs = fields.integer("n_probs", 0, 0, limits.logprobs)
    fields.leave((*UNUSED, "response_fields", "stream", "model"))
    generation = Generation(
        ids=tuple(ids),
        max_tokens=room if n_wanted < 0 else min(n_wanted, room),
        law=law_of(fields, served),
        n=fields.integer("n_cmpl", fields.integer("n", 1, 1, limits.n), 1, limits.n),
        stops=stops_of(fields, limits),
        n_logprobs=n_probs or None,
        biases=biases_of(fields, served, limits),
        ignore_end=fields.flag("ignore_eos"),
        salt=salt,
        receipt=fields.flag("receipt"),
        constraint=constraint_of(fields, served),
        guess=served.guess_between(salt, *between) if between else (),
        between=between,
        newline_after_ms=fields.integer("t_max_predict_ms", 0, 0, 1 << 31),
    )
    return generation, is_cut


def _completion_ids(fields: Fields, served: Served) -> list[int]:
    prompt = fields.get("prompt")
    size = served.model.tokenizer.vocab_size
    if isinstance(prompt, str) or prompt is None:
        return served.prompts.raw(prompt or "", specials=fields.flag("parse_special", True))
    if isinstance(prompt, list) and all(type(i) is int and 0 <= i < size for i in prompt):
        return prompt or served.model.tokenizer.begun([])
    raise RequestError(
        "it is neither text nor ids", where="prompt", remedy=f"send a string, or ids 0 to {size - 1}"
    )


def settings_of(generation: Generation, served: Served) -> dict[str, Any]:
    """Return `generation_settings` of an answer, and of /props."""
    law = generation.law
    return {
        "n_ctx": served.context,
        "n_predict": generation.max_tokens,
        "temperature": law.temperature[0] / law.temperature[1],
        "top_k": law.top_k,
        "top_p": law.top_p[0] / law.top_p[1],
        "min_p": law.min_p[0] / law.min_p[1],
        "seed": law.seed,
        "stop": list(generation.stops),
        "samplers": ["temperature", "top_k", "min_p", "top_p"] if not law.is_greedy else ["top_k"],
        "stream": False,
    }


def timings_of(running: Running, n_predicted: int) -> dict[str, Any]:
    """Return the figures that editors show: tokens, milliseconds, rates."""
    job = running.jobs[0]
    n_prompt = len(job.generation.ids) - job.n_cached
    first = job.first_at or job.ended_at
    prompt_ms = max(0.0, (first - job.begun_at) * 1000)
    predicted_ms = max(0.0, (job.ended_at - first) * 1000)
    return {
        "cache_n": job.n_cached,
        "prompt_n": n_prompt,
        "prompt_ms": round(prompt_ms, 3),
        "prompt_per_token_ms": round(prompt_ms / max(1, n_prompt), 3),
        "prompt_per_second": round(n_prompt / max(prompt_ms, 1e-3) * 1000, 3),
        "predicted_n": n_predicted,
        "predicted_ms": round(predicted_ms, 3),
        "predicted_per_token_ms": round(predicted_ms / max(1, n_predicted), 3),
        "predicted_per_second": round(n_predicted / max(predicted_ms, 1e-3) * 1000, 3),
    }


def answer(
    running: Running, sample: AnswerSample, index: int, *, is_cut: bool, fields: Fields
) -> dict[str, Any]:
    """Return the answer of one sample."""
    served, job = running.served, running.jobs[0]
    generation, finished = job.generation, sample.finished
    ids = list(finished.ids) if finished else []
    rule = finished.rule if finished else "cancel"
    value_: dict[str, Any] = {
        "index": index,
        "content": sample.text,
        "tokens": ids,
        "stop": True,
        "model": served.name,
        "tokens_predicted": len(ids),
        "tokens_evaluated": len(generation.ids),
        "tokens_cached": len(generation.ids) + len(ids),
        "generation_settings": settings_of(generation, served),
        "prompt": served.model.tokenizer.decode(generation.ids),
        "has_new_line": "\n" in sample.text,
        "truncated": is_cut,
        "stop_type": _RULES.get(rule, "none"),
        "stopping_word": finished.word if finished else "",
        "timings": timings_of(running, len(ids)),
        "root": served.root,
    }
    if generation.n_logprobs is not None:
        value_["completion_probabilities"] = [_probability(served, token) for token in sample.tokens]
    if warnings := fields.said():
        value_["warnings"] = warnings
    return value_


def _probability(served: Served, token: Any) -> dict[str, Any]:
    def entry(id_: int, logprob: int | None) -> dict[str, Any]:
        tokenizer = served.model.tokenizer
        text = token_text(tokenizer, id_)
        return {
            "id": id_,
            "token": text,
            "bytes": list(tokenizer.token_bytes(id_)),
            "logprob": value(logprob),
        }

    return entry(token.id, token.logprob) | {"top_logprobs": [entry(i, p) for i, p in token.top]}


def select(whole: dict[str, Any], names: list[str] | None) -> dict[str, Any]:
    """Return the requested fields of an answer. A path is its own key."""
    if names is None:
        return whole
    chosen = {}
    for name in names:
        found: Any = whole
        for part in name.split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        if found is not None:
            chosen[name] = found
    return chosen


def props(served: Served, limits: ServerLimits) -> dict[str, Any]:
    """Return /props."""
    generation = Generation(ids=(0,), max_tokens=DEFAULT_TOKENS)
    settings = settings_of(generation, served)
    return {
        "default_generation_settings": {"n_ctx": served.context, "params": settings},
        "total_slots": limits.parallel,
        "model_path": served.name,
        "model_alias": served.name,
        "chat_template": chat_template(served.prompts.template),
        "chat_template_caps": {"supports_tools": False, "supports_system_role": True},
        "modalities": {"vision": False, "audio": False},
        "bos_token": _special(served, served.model.tokenizer.roles.bos),
        "eos_token": _special(served, next(iter(served.model.tokenizer.roles.ends), None)),
        "build_info": f"sevenfold-{__version__}",
        "is_sleeping": False,
        "root": served.root,
    }


def _special(served: Served, token: int | None) -> str:
    return "" if token is None else token_text(served.model.tokenizer, token)


def chat_template(template: ChatTemplate) -> str:
    """Return the form of a chat as a Jinja template, which some clients show."""
    head = "".join(
        f"{{% {'if' if place == 0 else 'elif'} m.role == '{role}' %}}{heading}\n"
        for place, (role, heading) in enumerate(template.headings.items())
    )
    body = f"{head}{{% endif %}}{{{{ m.content }}}}\n\n"
    return f"{{% for m in messages %}}{body}{{% endfor %}}{template.prompt([])}"


def slots(served: Served, limits: ServerLimits) -> list[dict[str, Any]]:
    """Return /slots: which slots of a batch are in use."""
    n_running = served.scheduler.n_running
    return [
        {
            "id": index,
            "n_ctx": served.context,
            "is_processing": index < n_running,
            "params": {},
            "next_token": {"has_next_token": index < n_running},
        }
        for index in range(limits.parallel)
    ]


def tokenized(fields: Fields, served: Served) -> dict[str, Any]:
    """Return /tokenize for a request in the form of llama.cpp or vLLM. Raises RequestError."""
    text = fields.text("content") or fields.text("prompt")
    is_special = fields.flag("parse_special", True)
    prompts = served.prompts
    ids = prompts.parsed(text, "content") if is_special else prompts.plain(text, "content")
    if fields.flag("add_special") or fields.flag("add_special_tokens"):
        ids = served.model.tokenizer.begun(ids)
    fields.leave(("model", "return_token_strs"))
    tokens: list[Any] = list(ids)
    if fields.flag("with_pieces"):
        tokens = [{"id": i, "piece": token_text(served.model.tokenizer, i)} for i in ids]
    return {"tokens": tokens, "count": len(ids), "max_model_len": served.context}


def detokenized(fields: Fields, served: Served) -> dict[str, Any]:
    """Return /detokenize with the text under the names of both protocols. Raises RequestError."""
    ids, size = fields.get("tokens"), served.model.tokenizer.vocab_size
    if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < size for i in ids):
        raise RequestError("it is no list of ids", where="tokens", remedy=f"use 0 to {size - 1}")
    tokenizer = served.model.tokenizer
    text = b"".join(
        tokenizer.token_bytes(i) if (name := tokenizer.special_name(i)) is None else name.encode()
        for i in ids
    )
    return {"content": text.decode("utf-8", "replace"), "prompt": text.decode("utf-8", "replace")}


def tokenizer_info(served: Served) -> dict[str, Any]:
    """Return /tokenizer_info, by which lm-eval finds the tokenizer."""
    roles = served.model.tokenizer.roles
    end = next(iter(roles.ends), None)
    return {
        "tokenizer_class": "sevenfold",
        "eos_token": _special(served, end),
        "bos_token": _special(served, roles.bos),
        "pad_token": _special(served, roles.pad if roles.pad is not None else end),
        "chat_template": chat_template(served.prompts.template),
        "model_max_length": served.context,
    }
