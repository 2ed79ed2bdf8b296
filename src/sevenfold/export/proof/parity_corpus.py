"""Make the texts on which tokenizers are compared: real lines, and texts that break tokenizers.

They are always the same.
"""

from __future__ import annotations

import random
import sysconfig
from functools import cache
from pathlib import Path

N_LINES = 20_000
_RANDOM_TEXTS = 2000

# The characters that prompts, generated code and hostile input contain besides words.
ODD = (
    "",
    " ",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\x00",
    "a\x00b\x00\x00c",
    "\\ud800 \\udfff",
    "line\r\nline\r\n\r\nline\n\rline\r\rline",
    "\tif x:\r\n\t\treturn\t\t\n",
    "trailing   \n   leading\n\n\n    \n\tend   ",
    "a  b   c    d     e",
    "tab\t\tspace \t mixed\t ",
    "1 12 123 1234 12345 1234567890 3.14159 0x1F 1e-10 1_000_000",
    "don't we'll I'VE they'Re it'S 'self' 'tis x='s' ''s '''re",
    "foo(bar[baz]{qux})->std::vector<int>&& !=== ...;;;\n//comment\n#!/bin/sh",
    "(self._name, *args, **kwargs)\n",
    "<|endoftext|> <|endoftext|><s></s>[INST]",
    "\u00e9 e\u0301 \u00c5ngstr\u00f6m na\u00efve \u00df\u1e9e \ufb01 \u0131\u0130 \u01c5",
    "\u4f60\u597d\u4e16\u754c \u3053\u3093\u306b\u3061\u306f \uc548\ub155",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947",
    "\u0661\u0662\u0663 \u00bd\u2153 \u2160\u216b \u00b2\u00b3 \u2460 \U0001d7d8\U0001d7d9",
    (
        "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f3fd \U0001f1e9\U0001f1ea \u2764\ufe0f"
        " \u00a9\ufe0e"
    ),
    "\u00a0nbsp\u00a0\u00a0x\u2003em\u3000ideographic\u2028line\u2029par\u0085nel\u1680ogham\u200bzero\ufeffb"
    "om",
    "\x0b\x0c\x1c\x1d\x1e\x1f \x7f\x80\x9f",
    "\ufffd\ufffe\uffff\U0010ffff\U000e0001\ue000\U000f0000",
    "\u202eRTL\u202c \u0300\u0301\u0302 combining a\u0300\u0301",
    "=" * 5000,
    " " * 5000 + "x",
    "\n" * 3000,
    "\t " * 2000 + "end",
    "ab" * 5000,
    "\u00e9" * 3000,
)
_ALPHABET = (
    *" \t\n\r\x0b\x0c\x00\x1c\x85\xa0\u1680\u2003\u2028\u3000\u200b\ufeff",
    *"aZbS's'tLl1239_(){}[]:;.,=+-*/<>\"#@!$",
    "\r\n",
    "    ",
    "\n    ",
    *"\u00e9\u0301\u4f60\u0661\u00bd\u0e01\u0e31\u0915\u094d\u1e9e\u01c5\u02b0\u00aa",
    "\U0001f600",
    "\u200d",
    "\U0001d400",
    "'ll",
    "'RE",
)


@cache
def random_texts() -> tuple[str, ...]:
    """Return short strings over an alphabet of all characters that a splitting rule distinguishes.
    They are the same every time.
    """
    rng = random.Random(7)
    return tuple("".join(rng.choices(_ALPHABET, k=rng.randrange(1, 24))) for _ in range(_RANDOM_TEXTS))


def long_line(length: int) -> str:
    """Return one line of code with `length` characters."""
    unit = "value_1 = compute(alpha, 'beta')[3] + 0x7f; "
    return (unit * (length // len(unit) + 1))[:length]


def library_lines(count: int = N_LINES) -> list[str]:
    """Return lines of several kinds of modules of the interpreter's library, with their line ends,
    in a fixed order.
    """
    return library_text(count * 200).splitlines(keepends=True)[:count]


def library_text(n_characters: int) -> str:
    """Return `n_characters` characters of the interpreter's library, with its modules in reverse
    alphabetical order.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    parts, size = [], 0
    for path in sorted(root.glob("*.py"), reverse=True):
        text = path.read_bytes().decode("utf-8", "replace")
        parts.append(text)
        size += len(text)
        if size >= n_characters:
            break
    return "".join(parts)[:n_characters]
