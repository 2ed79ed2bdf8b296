"""The bounds of what a client may ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """The bounds of one server. A value past its bound is refused and never cut silently."""

    # The bytes of a request body.
    body_bytes: int = 4 << 20
    # The nesting depth of arrays and objects in a body.
    json_depth: int = 32
    # The prompts of one request (a list of texts, or of lists of ids).
    prompts: int = 256
    # The samples of one prompt.
    n: int = 32
    # The alternatives reported for each token.
    logprobs: int = 20
    # The stop strings, and the bytes of one.
    stops: int = 64
    stop_bytes: int = 1024
    # The entries of logit_bias.
    biases: int = 1024
    # The messages of a chat.
    messages: int = 1024
    # The sequences that run at once, and the requests that may wait.
    parallel: int = 32
    queue: int = 256
    # The prompt tokens that one step reads in all. It bounds the time for which a long prompt
    # delays the other sequences.
    prefill_tokens: int = 256
    # The most greedy tokens of one call of the engine. A cancelled request ends it after one token.
    block_tokens: int = 32
    # The most bytes of keys and values in the prefix cache.
    cache_bytes: int = 256 << 20
    # The seconds that a client has for its headers, and for its body.
    header_seconds: int = 10
    body_seconds: int = 30
    # The number of receipts that are kept for later requests.
    receipts: int = 1024

    def as_table(self) -> list[tuple[str, int]]:
        """Return name and value of each bound."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


@dataclass
class Switches:
    """Settings that an operator changes while the server runs (`POST /admin/switches`). Zero leaves
    a setting as it was.

    With a lower context, longer requests are refused. All other answers keep their bits.
    """

    context: int = 0
    parallel: int = 0
    cache_bytes: int = -1
    # The names of tools that are switched off.
    tools_off: tuple[str, ...] = ()
