"""The fixed rule that sends a token to an expert (A3): by its own text, never by probability.

Bytes of a marker are looked for in the bytes of the token, so a token that ends within a character is judged
too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import UsageError
from sevenfold.recipe.schema import TokenRouted
from sevenfold.tokenizer.codec import Tokenizer

CODE_EXPERT, GENERAL_EXPERT = 0, 1


def route(token: bytes, markers: tuple[bytes, ...]) -> int:
    """Expert of one token: CODE_EXPERT when its bytes contain a marker, else GENERAL_EXPERT."""
    return CODE_EXPERT if any(marker in token for marker in markers) else GENERAL_EXPERT


def router_table(tokenizer: Tokenizer, moe: TokenRouted) -> NDArray[np.int8]:
    """Expert of every token id, int8 [vocab]; special tokens, having no text, go to GENERAL_EXPERT.

    Raises:
        UsageError: not two experts, or an empty marker (every token would contain it).
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
