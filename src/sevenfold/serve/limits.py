"""What a client may ask for, and how much of it: one table, printed in docs/reference/server.md."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """Bounds of one server. A value past its bound is refused by name; none is cut in silence."""

    # Bytes of a request body.
    body_bytes: int = 4 << 20
    # Nesting of arrays and objects in a body.
    json_depth: int = 32
    # Prompts of one request (a list of texts, or of lists of ids).
    prompts: int = 256
    # Samples of one prompt.
    n: int = 32
    # Alternatives beside each token.
    logprobs: int = 20
    # Stop strings, and the bytes of one.
    stops: int = 64
    stop_bytes: int = 1024
    # Entries of logit_bias.
    biases: int = 1024
    # Messages of a chat.
    messages: int = 1024
    # Sequences that run at once, and requests that wait.
    parallel: int = 32
    queue: int = 256
    # Tokens that are read of all prompts in one step: a long prompt stops the others no longer.
    prefill_tokens: int = 256
    # Greedy tokens of one call of the engine, at most; a cancelled request ends it after one token.
    block_tokens: int = 32
    # Bytes of keys and values that the prefix cache holds, at most.
    cache_bytes: int = 256 << 20
    # Seconds a client has for its headers and for its body.
    header_seconds: int = 10
    body_seconds: int = 30
    # Receipts that can be asked for later.
    receipts: int = 1024

    def as_table(self) -> list[tuple[str, int]]:
        """Return name and value of each bound."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


@dataclass
class Switches:
    """What an operator changes while the server runs (`POST /admin/switches`). Zero changes nothing.

    A lower context refuses longer requests; the answers of the others keep their bits.
    """

    context: int = 0
    parallel: int = 0
    cache_bytes: int = -1
    # Names of tools that are not called any more.
    tools_off: tuple[str, ...] = ()
