"""Write log-probabilities in the two forms of OpenAI's protocol.

A value is the integer of specs/likelihood.md as binary64. A greedy token and the same token among
its alternatives therefore have equal values.
"""

from __future__ import annotations

from collections.abc import Sequence

from sevenfold.engine.likelihood import as_float
from sevenfold.serve.batching.request import TokenInfo
from sevenfold.tokenizer.codec import Tokenizer

# JSON has no minus infinity. OpenAI writes this number for the least likely tokens.
LEAST = -9999.0


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """Return how a token is shown: its characters, its name, or its bytes as `bytes:\\xNN`."""
    if (name := tokenizer.special_name(token)) is not None:
        return name
    data = tokenizer.token_bytes(token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def value(logprob: int | None) -> float:
    """Return a log-probability in the form of the protocol."""
    return LEAST if logprob is None else max(LEAST, as_float(logprob))


class Namer:
    """Names tokens by their text, or by `token_id:N` when a client asks for that."""

    def __init__(self, tokenizer: Tokenizer, *, as_ids: bool = False) -> None:
        self._tokenizer, self._as_ids = tokenizer, as_ids

    def name(self, token: int) -> str:
        """Return the name of a token."""
        return f"token_id:{token}" if self._as_ids else token_text(self._tokenizer, token)

    def completion(
        self,
        tokens: Sequence[TokenInfo],
        prompt_ids: Sequence[int],
        prompt: Sequence[TokenInfo],
        n_top: int,
        base: int,
    ) -> dict[str, object]:
        """Return `choices[].logprobs` of /v1/completions.

        Args:
            tokens: the tokens of the answer.
            prompt_ids: all ids of the prompt, when it is echoed. The first one has no log-probability.
            prompt: the tokens of the prompt after the first one.
            base: the offset of the answer's text. Offsets count from the start of the prompt.
        """
        names = [self.name(i) for i in prompt_ids] + [self.name(t.id) for t in tokens]
        values: list[float | None] = [None] * min(1, len(prompt_ids))
        values += [value(t.logprob) for t in prompt] + [value(t.logprob) for t in tokens]
        tops: list[dict[str, float] | None] = [None] * min(1, len(prompt_ids))
        tops += [self._top(t, n_top) for t in [*prompt, *tokens]]
        offsets, at = [], 0
        for i in prompt_ids:
            offsets.append(at)
            at += len(self._tokenizer.decode([i]))
        offsets += [base + t.offset for t in tokens]
        return {"tokens": names, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}

    def _top(self, token: TokenInfo, n_top: int) -> dict[str, float]:
        """Return the alternatives by name, including the token itself."""
        found: dict[str, float] = {}
        for i, logprob in [*token.top[:n_top], (token.id, token.logprob)]:
            # When two tokens have the same name, the more likely one is reported.
            found[self.name(i)] = max(value(logprob), found.get(self.name(i), LEAST))
        return found

    def chat(self, tokens: Sequence[TokenInfo], n_top: int) -> dict[str, object]:
        """Return `choices[].logprobs` of /v1/chat/completions."""
        return {
            "content": [self._entry(t.id, t.logprob) | self._alternatives(t, n_top) for t in tokens],
            "refusal": None,
        }

    def _alternatives(self, token: TokenInfo, n_top: int) -> dict[str, object]:
        return {"top_logprobs": [self._entry(i, p) for i, p in token.top[:n_top]]}

    def _entry(self, token: int, logprob: int | None) -> dict[str, object]:
        return {
            "token": self.name(token),
            "logprob": value(logprob),
            "bytes": list(self._tokenizer.token_bytes(token)),
        }
