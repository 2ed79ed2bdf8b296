"""Constrain answers to a JSON schema, a regular expression or a grammar by `llguidance`, within
bounds.

A grammar is compiled before anything runs, under limits of size and depth. A warning of the library
is an error here, because a wrong mask would go unnoticed. Needs `sevenfold[serve]`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from sevenfold.core.numbers.fixed import Ints, as_ints
from sevenfold.serve.batching.request import Constraint
from sevenfold.serve.errors import NOT_IMPLEMENTED, RequestError
from sevenfold.serve.protocols.fields import Fields
from sevenfold.serve.registry import Served
from sevenfold.tokenizer.codec import Tokenizer

MAX_GRAMMAR_BYTES = 64 << 10


class _Vocabulary:
    """The vocabulary in the form of the library: the bytes of each token, and an encoder of bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        special = {tokenizer.special_id(name) for name in tokenizer.special_tokens}
        self.tokens = [
            f"<|{i}|>".encode() if i in special else tokenizer.token_bytes(i)
            for i in range(tokenizer.vocab_size)
        ]
        self.eos_token_id = tokenizer.roles.ends[0] if tokenizer.roles.ends else tokenizer.eot_id
        self.bos_token_id = None
        self.special_token_ids = sorted(special)
        self._encode = tokenizer.encode

    def __call__(self, text: bytes | str) -> list[int]:
        return self._encode(text if isinstance(text, str) else text.decode("utf-8", "replace"))


@lru_cache(maxsize=8)
def _library(tokenizer: Tokenizer) -> tuple[Any, Any]:
    try:
        import llguidance
    except ModuleNotFoundError as error:
        raise RequestError(
            "constrained answers need llguidance, which is not installed on the server",
            remedy="pip install 'sevenfold[serve]'",
            status=NOT_IMPLEMENTED,
        ) from error
    wrapper = llguidance.TokenizerWrapper(_Vocabulary(tokenizer))
    return llguidance, llguidance.LLTokenizer(wrapper)


class GrammarState:
    """The state of one answer under a grammar."""

    def __init__(self, library: Any, tokenizer: Any, grammar: str, vocab_size: int) -> None:
        self._matcher = library.LLMatcher(tokenizer, grammar, log_level=0)
        self._vocab_size = vocab_size
        self._mask = np.zeros((1, (vocab_size + 31) // 32), np.int32)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RequestError(
                f"the grammar fails: {self._matcher.get_error():.200}", where="response_format"
            )

    def allowed(self) -> Ints:
        """Return 1 for each token that may come next, else 0, [V]."""
        import llguidance.numpy as masks

        masks.fill_next_token_bitmask(self._matcher, self._mask, 0)
        self._check()
        return as_ints(np.unpackbits(self._mask.view(np.uint8), bitorder="little")[: self._vocab_size])

    def take(self, token: int) -> None:
        """Advance the state by a token."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def is_over(self) -> bool:
        """Return whether no token may follow."""
        return bool(self._matcher.is_stopped())


def constraint_of(
    fields: Fields, served: Served, call: dict[str, Any] | None = None
) -> Callable[[], Constraint] | None:
    """Return a function that makes the constraint of a sample; None when the request has none.

    Args:
        call: the schema of a forced tool call.

    Raises:
        RequestError: an unknown form, or a grammar that does not compile without a warning.
    """
    form, pattern, rules = fields.get("response_format"), fields.get("regex"), fields.get("grammar")
    schema = fields.get("json_schema")
    schema = call or schema
    asked = [value for value in (form, pattern, rules, schema) if value not in (None, "")]
    if not asked or (isinstance(form, dict) and form.get("type") == "text" and len(asked) == 1):
        return None
    if len(asked) > 1:
        raise RequestError("two grammars at once", where="response_format", remedy="send one")
    library, tokenizer = _library(served.model.tokenizer)
    grammar = _compiled(library, form, pattern, rules, schema)
    if len(grammar) > MAX_GRAMMAR_BYTES:
        raise RequestError(
            f"a grammar of {len(grammar)} bytes",
            where="response_format",
            remedy=f"use {MAX_GRAMMAR_BYTES} at most",
        )
    is_error, messages = library.LLMatcher.validate_grammar_with_warnings(grammar, tokenizer)
    if is_error or messages:
        text = "; ".join(map(str, messages))[:300]
        raise RequestError(
            f"the grammar is not taken: {text}", where="response_format", remedy="use a simpler one"
        )
    size = served.model.tokenizer.vocab_size
    return lambda: GrammarState(library, tokenizer, grammar, size)


def _compiled(library: Any, form: Any, pattern: Any, rules: Any, schema: Any) -> str:
    matcher = library.LLMatcher
    try:
        if isinstance(pattern, str):
            return str(matcher.grammar_from_regex(pattern))
        if isinstance(rules, str):
            return str(matcher.grammar_from_lark(rules))
        if isinstance(form, dict) and form.get("type") == "json_schema":
            inner = form.get("json_schema")
            schema = inner.get("schema", inner) if isinstance(inner, dict) else form.get("schema")
        elif isinstance(form, dict) and form.get("type") == "json_object":
            schema = form.get("schema", {"type": "object"})
        if isinstance(schema, dict):
            # Without white space, because an unsure model would write blanks up to its limit.
            return str(matcher.grammar_from_json_schema(json.dumps(schema), {"whitespace_flexible": False}))
    except ValueError as error:
        raise RequestError(f"the grammar does not compile: {error}", where="response_format") from error
    raise RequestError(
        f"{form!r:.80} is no form that is known",
        where="response_format",
        remedy="use text, json_object or json_schema; or the fields regex and grammar",
    )
