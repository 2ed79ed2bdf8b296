"""The parts of programs, as tables: tests and changes of one value, steps over a whole list, and
reductions.

A row holds words and code, so the task says what the program does. `{x}` is the value, `{v}` a list,
`{a}` and `{b}` numbers and `{c}` a letter that the generator chooses. A row is portable when every
language writes it alike, with Python's spelling and C's meaning on numbers >= 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sevenfold.synthetic.generators.words import LETTERS
from sevenfold.synthetic.rng import SeededChoices

Kind = Literal["int", "str"]
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ValueTemplate:
    """A template. `gives` is the kind of its value, where that differs from the kind of its input."""

    words: str
    code: str
    a: Range = (0, 0)
    b: Range = (0, 0)
    gives: Kind | None = None
    portable: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A row with its numbers filled in. `{x}` and `{v}` are not."""

    words: str
    code: str
    gives: Kind | None = None

    def of(self, value: str) -> str:
        """Return the code, applied to a name or an expression."""
        return self.code.replace("{x}", value).replace("{v}", value)


@dataclass(frozen=True, slots=True)
class Reduction:
    """A reduction: as one expression over a list, and as a start, an update for each value and a
    result.
    """

    words: str
    code: str
    start: str
    update: tuple[str, ...]
    result: str = "{acc}"
    a: Range = (0, 0)
    kinds: tuple[Kind, ...] = ("int", "str")
    verb: str = "collect"


def numbers(rng: SeededChoices, a: Range, b: Range) -> tuple[int, int, str]:
    """Return two numbers in their ranges, and a letter. The second number is below the first when its
    range starts at 1.
    """
    first = rng.between(*a)
    second = rng.between(b[0], min(b[1], first - 1)) if b[0] == 1 and first > 1 else rng.between(*b)
    return first, second, rng.pick(LETTERS)


def fill(text: str, a: int, b: int, c: str) -> str:
    """Replace {a}, {b} and {c}."""
    return text.replace("{a}", str(a)).replace("{b}", str(b)).replace("{c}", c)


def part(rng: SeededChoices, rows: tuple[ValueTemplate, ...]) -> Part:
    """Return one of the rows with its numbers filled in."""
    row = rng.pick(rows)
    chosen_numbers = numbers(rng, row.a, row.b)
    return Part(fill(row.words, *chosen_numbers), fill(row.code, *chosen_numbers), row.gives)


TESTS: dict[Kind, tuple[ValueTemplate, ...]] = {
    "int": (
        ValueTemplate("is divisible by {a}", "{x} % {a} == 0", (2, 12), portable=True),
        ValueTemplate(
            "leaves remainder {b} when divided by {a}", "{x} % {a} == {b}", (3, 9), (1, 8), portable=True
        ),
        ValueTemplate("is not a multiple of {a}", "{x} % {a} != 0", (2, 9), portable=True),
        ValueTemplate("is greater than {a}", "{x} > {a}", (2, 60), portable=True),
        ValueTemplate("is at most {a}", "{x} <= {a}", (5, 90), portable=True),
        ValueTemplate("is not {a}", "{x} != {a}", (0, 20), portable=True),
        ValueTemplate("has a square below {a}", "{x} * {x} < {a}", (50, 900), portable=True),
        ValueTemplate("has a last digit of at least {a}", "{x} % 10 >= {a}", (2, 8), portable=True),
        ValueTemplate("exceeds {a} when doubled", "{x} * 2 > {a}", (10, 99), portable=True),
        ValueTemplate("lies within {a} of {b}", "abs({x} - {b}) <= {a}", (3, 25), (5, 60)),
        ValueTemplate("has an even digit sum", "sum(int(d) for d in str(abs({x}))) % 2 == 0"),
        ValueTemplate("reads the same backwards", "str(abs({x})) == str(abs({x}))[::-1]"),
        ValueTemplate("has at least {a} digits", "len(str(abs({x}))) >= {a}", (2, 3)),
        ValueTemplate("contains the digit {a}", '"{a}" in str({x})', (0, 9)),
        ValueTemplate("is negative", "{x} < 0"),
        ValueTemplate("has more than {a} ones in binary", 'bin(abs({x})).count("1") > {a}', (1, 4)),
        ValueTemplate("is a perfect square", "{x} >= 0 and round({x} ** 0.5) ** 2 == {x}"),
    ),
    "str": (
        ValueTemplate("has more than {a} characters", "len({x}) > {a}", (2, 5)),
        ValueTemplate("has at most {a} characters", "len({x}) <= {a}", (3, 7)),
        ValueTemplate("has an even number of characters", "len({x}) % 2 == 0"),
        ValueTemplate('contains the letter "{c}"', '"{c}" in {x}'),
        ValueTemplate('does not contain the letter "{c}"', '"{c}" not in {x}'),
        ValueTemplate('starts with "{c}" in either case', '{x}.lower().startswith("{c}")'),
        ValueTemplate('ends with "{c}"', '{x}.endswith("{c}")'),
        ValueTemplate("starts with a capital letter", "{x}[:1].isupper()"),
        ValueTemplate("is written in lower case", "{x}.islower()"),
        ValueTemplate("reads the same backwards, ignoring case", "{x}.lower() == {x}.lower()[::-1]"),
        ValueTemplate("has no repeated character", "len(set({x})) == len({x})"),
        ValueTemplate("has at least {a} vowels", 'sum(ch in "aeiou" for ch in {x}.lower()) >= {a}', (1, 3)),
        ValueTemplate("starts with a vowel", '{x}[:1].lower() in ("a", "e", "i", "o", "u")'),
        ValueTemplate('comes before "{c}" in the alphabet', '{x}.lower() < "{c}"'),
    ),
}

CHANGES: dict[Kind, tuple[ValueTemplate, ...]] = {
    "int": (
        ValueTemplate("multiply it by {a}", "{x} * {a}", (2, 12), portable=True),
        ValueTemplate("add {a} to it", "{x} + {a}", (1, 50), portable=True),
        ValueTemplate("square it", "{x} * {x}", portable=True),
        ValueTemplate("multiply it by {a} and add {b}", "{x} * {a} + {b}", (2, 9), (2, 30), portable=True),
        ValueTemplate("take its remainder modulo {a}", "{x} % {a}", (3, 20), portable=True),
        ValueTemplate("add its square to {a}", "{x} * {x} + {a}", (1, 20), portable=True),
        ValueTemplate("divide it by {a}, rounding down", "{x} // {a}", (2, 9)),
        ValueTemplate("subtract {a} from it", "{x} - {a}", (1, 40)),
        ValueTemplate("subtract it from {a}", "{a} - {x}", (10, 99)),
        ValueTemplate("take its absolute value", "abs({x})"),
        ValueTemplate("cap it at {a}", "min({x}, {a})", (10, 60)),
        ValueTemplate("raise it to at least {a}", "max({x}, {a})", (0, 30)),
        ValueTemplate("replace it by the sum of its digits", "sum(int(d) for d in str(abs({x})))"),
        ValueTemplate("reverse its digits, without the sign", "int(str(abs({x}))[::-1])"),
        ValueTemplate("combine it with {a} by exclusive or", "{x} ^ {a}", (1, 31)),
        ValueTemplate("turn it into text", "str({x})", gives="str"),
        ValueTemplate("write it in binary", 'format({x}, "b")', gives="str"),
        ValueTemplate('write it as text after the letter "{c}"', 'f"{c}{{x}}"', gives="str"),
    ),
    "str": (
        ValueTemplate("convert it to upper case", "{x}.upper()"),
        ValueTemplate("convert it to lower case", "{x}.lower()"),
        ValueTemplate("capitalise it", "{x}.capitalize()"),
        ValueTemplate("reverse it", "{x}[::-1]"),
        ValueTemplate("swap the case of its letters", "{x}.swapcase()"),
        ValueTemplate("keep its first {a} characters", "{x}[:{a}]", (2, 4)),
        ValueTemplate("drop its first {a} characters", "{x}[{a}:]", (1, 2)),
        ValueTemplate("repeat it {a} times", "{x} * {a}", (2, 3)),
        ValueTemplate('replace every "{c}" by "*"', '{x}.replace("{c}", "*")'),
        ValueTemplate("remove its vowels", '"".join(ch for ch in {x} if ch not in "aeiou")'),
        ValueTemplate("sort its letters", '"".join(sorted({x}))'),
        ValueTemplate('put "{c}" in front of it', '"{c}" + {x}'),
        ValueTemplate("pad it with dots to {a} characters", '{x}.ljust({a}, ".")', (6, 12)),
        ValueTemplate("take its length", "len({x})", gives="int"),
        ValueTemplate('count its letters "{c}"', '{x}.count("{c}")', gives="int"),
        ValueTemplate("count its vowels", 'sum(ch in "aeiou" for ch in {x}.lower())', gives="int"),
        ValueTemplate("count its different letters", "len(set({x}))", gives="int"),
    ),
}

# Steps over the whole list: words in the imperative.
WHOLES: dict[Kind, tuple[ValueTemplate, ...]] = {
    "int": (
        ValueTemplate("sort them in ascending order", "sorted({v})"),
        ValueTemplate("sort them in descending order", "sorted({v}, reverse=True)"),
        ValueTemplate("sort them by absolute value", "sorted({v}, key=abs)"),
        ValueTemplate("sort them by last digit", "sorted({v}, key=lambda n: abs(n) % 10)"),
        ValueTemplate("reverse their order", "{v}[::-1]"),
        ValueTemplate("keep the first {a}", "{v}[:{a}]", (2, 6)),
        ValueTemplate("leave out the first {a}", "{v}[{a}:]", (1, 3)),
        ValueTemplate("keep the last {a}", "{v}[-{a}:]", (2, 5)),
        ValueTemplate("keep every {a}th, beginning with the first", "{v}[::{a}]", (4, 6)),
        ValueTemplate("keep the first of equal ones", "list(dict.fromkeys({v}))"),
        ValueTemplate("rotate them to the left by one", "{v}[1:] + {v}[:1]"),
        ValueTemplate(
            "replace each by its difference from the next", "[n - m for m, n in zip({v}, {v}[1:])]"
        ),
        ValueTemplate("add each to its neighbour on the right", "[m + n for m, n in zip({v}, {v}[1:])]"),
        ValueTemplate("multiply each by its position, from 1", "[i * n for i, n in enumerate({v}, 1)]"),
        ValueTemplate("add its position, from 0, to each", "[n + i for i, n in enumerate({v})]"),
    ),
    "str": (
        ValueTemplate("sort them alphabetically", "sorted({v})"),
        ValueTemplate("sort them from long to short", "sorted({v}, key=len, reverse=True)"),
        ValueTemplate("sort them by length, then alphabetically", "sorted({v}, key=lambda t: (len(t), t))"),
        ValueTemplate("sort them by last letter", "sorted({v}, key=lambda t: t[-1:])"),
        ValueTemplate("reverse their order", "{v}[::-1]"),
        ValueTemplate("keep the first {a}", "{v}[:{a}]", (2, 6)),
        ValueTemplate("leave out the first {a}", "{v}[{a}:]", (1, 3)),
        ValueTemplate("keep the first of equal ones", "list(dict.fromkeys({v}))"),
        ValueTemplate("join each to its neighbour on the right", "[s + t for s, t in zip({v}, {v}[1:])]"),
        ValueTemplate(
            "put the position, from 1, in front of each", '[f"{i}{t}" for i, t in enumerate({v}, 1)]'
        ),
    ),
}

_MAX = ("if {acc} is None or {x} > {acc}:", "    {acc} = {x}")
_MIN = ("if {acc} is None or {x} < {acc}:", "    {acc} = {x}")
_NONE = "{a} if {acc} is None else {acc}"
FOLDS: tuple[Reduction, ...] = (
    Reduction("the list of them", "list({v})", "[]", ("{acc}.append({x})",), verb="collect"),
    Reduction("how many there are", "len(list({v}))", "0", ("{acc} += 1",), verb="count"),
    Reduction(
        "the set of them, sorted",
        "sorted(set({v}))",
        "set()",
        ("{acc}.add({x})",),
        "sorted({acc})",
        verb="unique",
    ),
    Reduction(
        "a dictionary of how often each occurs",
        "dict(Counter({v}))",
        "{}",
        ("{acc}[{x}] = {acc}.get({x}, 0) + 1",),
        verb="tally",
    ),
    Reduction("their sum", "sum({v})", "0", ("{acc} += {x}",), kinds=("int",), verb="total"),
    Reduction(
        "their sum modulo {a}",
        "sum({v}) % {a}",
        "0",
        ("{acc} = ({acc} + {x}) % {a}",),
        a=(7, 99),
        kinds=("int",),
        verb="checksum",
    ),
    Reduction(
        "{a} plus their sum", "sum({v}, {a})", "{a}", ("{acc} += {x}",), a=(5, 90), kinds=("int",), verb="add"
    ),
    Reduction(
        "the largest, or {a} if there is none",
        "max({v}, default={a})",
        "None",
        _MAX,
        _NONE,
        (-1, 0),
        ("int",),
        "largest",
    ),
    Reduction(
        "the smallest, or {a} if there is none",
        "min({v}, default={a})",
        "None",
        _MIN,
        _NONE,
        (-1, 0),
        ("int",),
        "smallest",
    ),
    Reduction(
        "their product modulo {a}",
        "reduce(lambda p, n: p * n % {a}, {v}, 1)",
        "1",
        ("{acc} = {acc} * {x} % {a}",),
        a=(7, 97),
        kinds=("int",),
        verb="product",
    ),
    Reduction(
        "the sum of their squares",
        "sum(n * n for n in {v})",
        "0",
        ("{acc} += {x} * {x}",),
        kinds=("int",),
        verb="energy",
    ),
    Reduction(
        "the exclusive or of them all",
        "reduce(lambda p, n: p ^ n, {v}, 0)",
        "0",
        ("{acc} ^= {x}",),
        kinds=("int",),
        verb="fold",
    ),
    Reduction(
        "the running totals",
        "list(accumulate({v}))",
        "[]",
        ("{acc}.append({x} + ({acc}[-1] if {acc} else 0))",),
        kinds=("int",),
        verb="running",
    ),
    Reduction(
        "the running maximum",
        "list(accumulate({v}, max))",
        "[]",
        ("{acc}.append(max({x}, {acc}[-1]) if {acc} else {x})",),
        kinds=("int",),
        verb="peaks",
    ),
    Reduction(
        "a dictionary of lists of them, by remainder modulo {a}",
        "{r: [n for n in {v} if n % {a} == r] for r in dict.fromkeys(m % {a} for m in {v})}",
        "{}",
        ("{acc}.setdefault({x} % {a}, []).append({x})",),
        a=(2, 5),
        kinds=("int",),
        verb="group",
    ),
    Reduction(
        "them joined by commas",
        '",".join({v})',
        '""',
        ('{acc} = {acc} + "," + {x} if {acc} else {x}',),
        kinds=("str",),
        verb="join",
    ),
    Reduction(
        "the longest, the first of equally long ones, or an empty text",
        'max({v}, key=len, default="")',
        "None",
        ("if {acc} is None or len({x}) > len({acc}):", "    {acc} = {x}"),
        '"" if {acc} is None else {acc}',
        kinds=("str",),
        verb="longest",
    ),
    Reduction(
        "the number of characters in all",
        "sum(map(len, {v}))",
        "0",
        ("{acc} += len({x})",),
        kinds=("str",),
        verb="measure",
    ),
    Reduction(
        "a dictionary from each to its length",
        "{t: len(t) for t in {v}}",
        "{}",
        ("{acc}[{x}] = len({x})",),
        kinds=("str",),
        verb="index",
    ),
    Reduction(
        "their first letters in one text",
        '"".join(t[:1] for t in {v})',
        '""',
        ("{acc} += {x}[:1]",),
        kinds=("str",),
        verb="initials",
    ),
    Reduction(
        "a dictionary of how many have each length",
        "dict(Counter(map(len, {v})))",
        "{}",
        ("{acc}[len({x})] = {acc}.get(len({x}), 0) + 1",),
        kinds=("str",),
        verb="histogram",
    ),
)
