"""Strings of three quotes, found as the regular expression finds them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from sevenfold.corpus.text.disguise import definitions, long_strings

STRING = re.compile(r"(\"\"\"|''')(.*?)\1", re.DOTALL)


@given(st.lists(st.sampled_from(('"""', "'''", '"', "'", "a", "\n")), max_size=24).map("".join))
def test_they_are_those_of_the_expression(text: str) -> None:
    assert list(long_strings(text)) == [match[2] for match in STRING.finditer(text)]


def test_definitions_are_cut_by_their_indentation() -> None:
    text = (
        "noise (\n    def f(\n        a,\n    ):\n\n        return a\n    b = 1\nasync def g():\n  pass\nend"
    )
    assert list(definitions(text)) == [
        "def f(\n    a,\n):\n\n    return a\n",
        "async def g():\n  pass\n",
    ]
