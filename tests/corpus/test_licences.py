"""SPDX expressions against an allow-list."""

from __future__ import annotations

import sys

import pytest

from sevenfold.core.errors import RecipeError, UsageError
from sevenfold.corpus.licences import LicencePolicy, policy

POLICY = ("MIT", "Apache-2.0", "PSF-2.0", "GPL-2.0-only WITH Classpath-exception-2.0")


@pytest.mark.parametrize(
    ("expression", "spdx"),
    [
        ("MIT", "MIT"),
        ("mit", "MIT"),
        ("MIT OR GPL-3.0-only", "MIT OR GPL-3.0-only"),
        ("GPL-3.0-only OR (MIT AND Apache-2.0)", "GPL-3.0-only OR (MIT AND Apache-2.0)"),
        ("MIT AND Apache-2.0", "MIT AND Apache-2.0"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
    ],
)
def test_allowed(expression: str, spdx: str) -> None:
    judgement = LicencePolicy(POLICY).judge(expression)
    assert (judgement.spdx, judgement.reason) == (spdx, None)


@pytest.mark.parametrize(
    "expression",
    [
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "(MIT OR GPL-3.0-only) AND LGPL-2.1-only",
        "GPL-2.0-only",
        "Apache-2.0 WITH LLVM-exception",
    ],
)
def test_not_allowed(expression: str) -> None:
    assert LicencePolicy(POLICY).judge(expression).reason == "licence_not_allowed"


@pytest.mark.parametrize(
    "expression",
    [
        None,
        "",
        " ",
        "NOASSERTION",
        "see LICENSE",
        "MIT OR",
        "MIT XOR GPL-3.0-only",
        "MIT OR nonsense",
        "((MIT)",
    ],
)
def test_unknown(expression: str | None) -> None:
    judgement = LicencePolicy(POLICY).judge(expression)
    assert judgement.reason == "licence_unknown"
    assert judgement.spdx == (expression or "")


@pytest.mark.parametrize("entry", ["nonsense", "", "MIT OR Apache-2.0", "MIT AND"])
def test_an_allow_list_entry_is_one_licence(entry: str) -> None:
    with pytest.raises(RecipeError, match="not one SPDX licence"):
        LicencePolicy([entry])


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    policy._library.cache_clear()
    policy._parse.cache_clear()
    monkeypatch.setitem(sys.modules, "license_expression", None)
    with pytest.raises(UsageError, match=r"sevenfold\[train\]"):
        LicencePolicy(["MIT"])
