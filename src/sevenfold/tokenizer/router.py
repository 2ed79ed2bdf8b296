"""Choose an expert by fixed rules (A3, B1): tables over token ids, never a probability.

Token routing uses the text of each token. The bytes of a marker are searched in the bytes of the
token, so a token that ends within a character is routed too.

Expert stacks are chosen by the first id of a sequence (specs/arithmetic.md). The token of a domain,
such as `<|code|>` for `code`, chooses the stack of that name. Any other first id chooses the last
stack of the recipe. Training puts the token of the domain before each window, and `prompt_ids` of
the engine puts it before a prompt. Both look the stack up in the same table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import UsageError
from sevenfold.recipe.schema import ExpertStacks, TokenRouted
from sevenfold.tokenizer.codec import Tokenizer

CODE_EXPERT, GENERAL_EXPERT = 0, 1


def route(token: bytes, markers: tuple[bytes, ...]) -> int:
    """Return the expert of one token: CODE_EXPERT when its bytes contain a marker, else
    GENERAL_EXPERT.
    """
    return CODE_EXPERT if any(marker in token for marker in markers) else GENERAL_EXPERT


def router_table(tokenizer: Tokenizer, moe: TokenRouted) -> NDArray[np.int8]:
    """Return the expert of every token id, int8 [vocab]. Special tokens have no text and use
    GENERAL_EXPERT.

    Raises:
        UsageError: there are not two experts, or a marker is empty, which every token would
            contain.
    """
    if len(moe.experts) != 2:
        raise UsageError(
            f"{len(moe.experts)} experts: the rule knows two, code and the rest",
            where="model.moe.experts",
            remedy="name two experts",
        )
    if "" in moe.code_markers:
        raise UsageError("an empty marker is in every token", where="model.moe.code_markers")
    markers = tuple(marker.encode() for marker in moe.code_markers)
    return np.array([route(tokenizer.token_bytes(i), markers) for i in range(tokenizer.vocab_size)], np.int8)


def stack_table(tokenizer: Tokenizer, moe: ExpertStacks) -> NDArray[np.int8]:
    """Return the stack of a sequence that begins with each token id, int8 [vocab].

    Raises:
        UsageError: the tokenizer has no token for the domain of a stack.
    """
    table = np.full(tokenizer.vocab_size, len(moe.experts) - 1, np.int8)
    for stack, expert in enumerate(moe.experts):
        table[tokenizer.domain_id(expert)] = stack
    return table
