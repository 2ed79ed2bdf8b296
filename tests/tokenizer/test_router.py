"""A token's own text picks its expert (A3)."""

from __future__ import annotations

import numpy as np
import pytest

from sevenfold.core.errors import UsageError
from sevenfold.recipe.schema import TokenRouted
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.router import CODE_EXPERT, GENERAL_EXPERT, route, router_table

MOE = TokenRouted(kind="token_routed", experts=("code", "general"))


@pytest.mark.parametrize(
    ("token", "expert"),
    [
        (b"{", CODE_EXPERT),
        (b"def", CODE_EXPERT),
        (b" undefined", CODE_EXPERT),
        (b"a;\n", CODE_EXPERT),
        (b"fn", CODE_EXPERT),
        (b"{\xff", CODE_EXPERT),
        (b"de", GENERAL_EXPERT),
        (b"DEF", GENERAL_EXPERT),
        (b" the", GENERAL_EXPERT),
        (b"}", GENERAL_EXPERT),
        (b"", GENERAL_EXPERT),
        (b"\xff", GENERAL_EXPERT),
    ],
)
def test_rule(token: bytes, expert: int) -> None:
    assert route(token, (b"{", b"def", b";", b"fn")) == expert


def test_table_has_an_expert_for_every_token(tokenizer: Tokenizer) -> None:
    table = router_table(tokenizer, MOE)
    assert table.dtype == np.int8
    assert table.shape == (tokenizer.vocab_size,)
    assert table[tokenizer.eot_id] == GENERAL_EXPERT
    for token_id in range(tokenizer.vocab_size):
        text = tokenizer.token_bytes(token_id).decode("utf-8", "replace")
        assert (table[token_id] == CODE_EXPERT) == any(marker in text for marker in ("{", "def", ";", "fn"))
    assert 0 < np.count_nonzero(table == CODE_EXPERT) < tokenizer.vocab_size / 2


def test_markers_come_from_the_recipe(tokenizer: Tokenizer) -> None:
    only_colons = router_table(tokenizer, MOE.model_copy(update={"code_markers": (":",)}))
    [colon] = tokenizer.encode(":")
    [brace] = tokenizer.encode("{")
    assert (only_colons[colon], only_colons[brace]) == (CODE_EXPERT, GENERAL_EXPERT)


def test_what_the_rule_cannot_mean_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="3 experts"):
        router_table(tokenizer, TokenRouted(kind="token_routed", experts=("a", "b", "c")))
    with pytest.raises(UsageError, match="empty marker"):
        router_table(tokenizer, MOE.model_copy(update={"code_markers": ("",)}))
