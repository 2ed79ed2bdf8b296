"""The parts that programs are made of, as tables: tests and changes of one value, steps over a
whole list, and what is returned.

Words and code stand side by side, so the task says what the program does. `{x}` is the value, `{v}`
a list, `{a}` and `{b}` numbers and `{c}` a letter that the generator chooses. A row that every
language writes alike (Python's spelling, C's meaning on numbers >= 0) is portable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sevenfold.synthetic.rng import SeededChoices
from sevenfold.synthetic.words import LETTERS

Kind = Literal["int", "str"]
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Row:
    """A template. `gives`: the kind of its value, where that is another than what it takes."""

    words: str
    code: str
    a: Range = (0, 0)
    b: Range = (0, 0)
    gives: Kind | None = None
    portable: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A row with its numbers chosen; `{x}` and `{v}` still stand."""

    words: str
    code: str
    gives: Kind | None = None

    def of(self, value: str) -> str:
        """Return the code, applied to a name or an expression."""
        return self.code.replace("{x}", value).replace("{v}", value)


@dataclass(frozen=True, slots=True)
class Fold:
    """What is returned: as one expression over a list, and as a start, an update
    for each value and a result.
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
    """Return two numbers in their ranges (the second below the first when
    it starts at 1), and a letter.
    """
    first = rng.between(*a)
    second = rng.between(b[0], min(b[1], first - 1)) if b[0] == 1 and first > 1 else rng.between(*b)
    return first, second, rng.pick(LETTERS)


def fill(text: str, a: int, b: int, c: str) -> str:
    """Replace {a}, {b} and {c}."""
    return text.replace("{a}", str(a)).replace("{b}", str(b)).replace("{c}", c)


def part(rng: SeededChoices, rows: tuple[Row, ...]) -> Part:
    """Return one of the rows, its numbers chosen."""
    row = rng.pick(rows)
    chosen_numbers = numbers(rng, row.a, row.b)
    return Part(fill(row.words, *chosen_numbers), fill(row.code, *chosen_numbers), row.gives)


TESTS: dict[Kind, tuple[Row, ...]] = {
    "int": (
        Row("is divisible by {a}", "{x} % {a} == 0", (2, 12), portable=True),
        Row("leaves remainder {b} when divided by {a}", "{x} % {a} == {b}", (3, 9), (1, 8), portable=True),
        Row("is not a multiple of {a}", "{x} % {a} != 0", (2, 9), portable=True),
        Row("is greater than {a}", "{x} > {a}", (2, 60), portable=True),
        Row("is at most {a}", "{x} <= {a}", (5, 90), portable=True),
        Row("is not {a}", "{x} != {a}", (0, 20), portable=True),
        Row("has a square below {a}", "{x} * {x} < {a}", (50, 900), portable=True),
        Row("has a last digit of at least {a}", "{x} % 10 >= {a}", (2, 8), portable=True),
        Row("exceeds {a} when doubled", "{x} * 2 > {a}", (10, 99), portable=True),
        Row("lies within {a} of {b}", "abs({x} - {b}) <= {a}", (3, 25), (5, 60)),
        Row("has an even digit sum", "sum(int(d) for d in str(abs({x}))) % 2 == 0"),
        Row("reads the same backwards", "str(abs({x})) == str(abs({x}))[::-1]"),
        Row("has at least {a} digits", "len(str(abs({x}))) >= {a}", (2, 3)),
        Row("contains the digit {a}", '"{a}" in str({x})', (0, 9)),
        Row("is negative", "{x} < 0"),
        Row("has more than {a} ones in binary", 'bin(abs({x})).count("1") > {a}', (1, 4)),
        Row("is a perfect square", "{x} >= 0 and round({x} ** 0.5) ** 2 == {x}"),
    ),
    "str": (
        Row("has more than {a} characters", "len({x}) > {a}", (2, 5)),
        Row("has at most {a} characters", "len({x}) <= {a}", (3, 7)),
        Row("has an even number of characters", "len({x}) % 2 == 0"),
        Row('contains the letter "{c}"', '"{c}" in {x}'),
        Row('does not contain the letter "{c}"', '"{c}" not in {x}'),
        Row('starts with "{c}" in either case', '{x}.lower().startswith("{c}")'),
        Row('ends with "{c}"', '{x}.endswith("{c}")'),
        Row("starts with a capital letter", "{x}[:1].isupper()"),
        Row("is written in lower case", "{x}.islower()"),
        Row("reads the same backwards, ignoring case", "{x}.lower() == {x}.lower()[::-1]"),
        Row("has no repeated character", "len(set({x})) == len({x})"),
        Row("has at least {a} vowels", 'sum(ch in "aeiou" for ch in {x}.lower()) >= {a}', (1, 3)),
        Row("starts with a vowel", '{x}[:1].lower() in ("a", "e", "i", "o", "u")'),
        Row('comes before "{c}" in the alphabet', '{x}.lower() < "{c}"'),
    ),
}

CHANGES: dict[Kind, tuple[Row, ...]] = {
    "int": (
        Row("multiply it by {a}", "{x} * {a}", (2, 12), portable=True),
        Row("add {a} to it", "{x} + {a}", (1, 50), portable=True),
        Row("square it", "{x} * {x}", portable=True),
        Row("multiply it by {a} and add {b}", "{x} * {a} + {b}", (2, 9), (2, 30), portable=True),
        Row("take its remainder modulo {a}", "{x} % {a}", (3, 20), portable=True),
        Row("add its square to {a}", "{x} * {x} + {a}", (1, 20), portable=True),
        Row("divide it by {a}, rounding down", "{x} // {a}", (2, 9)),
        Row("subtract {a} from it", "{x} - {a}", (1, 40)),
        Row("subtract it from {a}", "{a} - {x}", (10, 99)),
        Row("take its absolute value", "abs({x})"),
        Row("cap it at {a}", "min({x}, {a})", (10, 60)),
        Row("raise it to at least {a}", "max({x}, {a})", (0, 30)),
        Row("replace it by the sum of its digits", "sum(int(d) for d in str(abs({x})))"),
        Row("reverse its digits, without the sign", "int(str(abs({x}))[::-1])"),
        Row("combine it with {a} by exclusive or", "{x} ^ {a}", (1, 31)),
        Row("turn it into text", "str({x})", gives="str"),
        Row("write it in binary", 'format({x}, "b")', gives="str"),
        Row('write it as text after the letter "{c}"', 'f"{c}{{x}}"', gives="str"),
    ),
    "str": (
        Row("convert it to upper case", "{x}.upper()"),
        Row("convert it to lower case", "{x}.lower()"),
        Row("capitalise it", "{x}.capitalize()"),
        Row("reverse it", "{x}[::-1]"),
        Row("swap the case of its letters", "{x}.swapcase()"),
        Row("keep its first {a} characters", "{x}[:{a}]", (2, 4)),
        Row("drop its first {a} characters", "{x}[{a}:]", (1, 2)),
        Row("repeat it {a} times", "{x} * {a}", (2, 3)),
        Row('replace every "{c}" by "*"', '{x}.replace("{c}", "*")'),
        Row("remove its vowels", '"".join(ch for ch in {x} if ch not in "aeiou")'),
        Row("sort its letters", '"".join(sorted({x}))'),
        Row('put "{c}" in front of it', '"{c}" + {x}'),
        Row("pad it with dots to {a} characters", '{x}.ljust({a}, ".")', (6, 12)),
        Row("take its length", "len({x})", gives="int"),
        Row('count its letters "{c}"', '{x}.count("{c}")', gives="int"),
        Row("count its vowels", 'sum(ch in "aeiou" for ch in {x}.lower())', gives="int"),
        Row("count its different letters", "len(set({x}))", gives="int"),
    ),
}

# Steps over the whole list: words in the imperative.
WHOLES: dict[Kind, tuple[Row, ...]] = {
    "int": (
        Row("sort them in ascending order", "sorted({v})"),
        Row("sort them in descending order", "sorted({v}, reverse=True)"),
        Row("sort them by absolute value", "sorted({v}, key=abs)"),
        Row("sort them by last digit", "sorted({v}, key=lambda n: abs(n) % 10)"),
        Row("reverse their order", "{v}[::-1]"),
        Row("keep the first {a}", "{v}[:{a}]", (2, 6)),
        Row("leave out the first {a}", "{v}[{a}:]", (1, 3)),
        Row("keep the last {a}", "{v}[-{a}:]", (2, 5)),
        Row("keep every {a}th, beginning with the first", "{v}[::{a}]", (4, 6)),
        Row("keep the first of equal ones", "list(dict.fromkeys({v}))"),
        Row("rotate them to the left by one", "{v}[1:] + {v}[:1]"),
        Row("replace each by its difference from the next", "[n - m for m, n in zip({v}, {v}[1:])]"),
        Row("add each to its neighbour on the right", "[m + n for m, n in zip({v}, {v}[1:])]"),
        Row("multiply each by its position, from 1", "[i * n for i, n in enumerate({v}, 1)]"),
        Row("add its position, from 0, to each", "[n + i for i, n in enumerate({v})]"),
    ),
    "str": (
        Row("sort them alphabetically", "sorted({v})"),
        Row("sort them from long to short", "sorted({v}, key=len, reverse=True)"),
        Row("sort them by length, then alphabetically", "sorted({v}, key=lambda t: (len(t), t))"),
        Row("sort them by last letter", "sorted({v}, key=lambda t: t[-1:])"),
        Row("reverse their order", "{v}[::-1]"),
        Row("keep the first {a}", "{v}[:{a}]", (2, 6)),
        Row("leave out the first {a}", "{v}[{a}:]", (1, 3)),
        Row("keep the first of equal ones", "list(dict.fromkeys({v}))"),
        Row("join each to its neighbour on the right", "[s + t for s, t in zip({v}, {v}[1:])]"),
        Row("put the position, from 1, in front of each", '[f"{i}{t}" for i, t in enumerate({v}, 1)]'),
    ),
}

_MAX = ("if {acc} is None or {x} > {acc}:", "    {acc} = {x}")
_MIN = ("if {acc} is None or {x} < {acc}:", "    {acc} = {x}")
_NONE = "{a} if {acc} is None else {acc}"
FOLDS: tuple[Fold, ...] = (
    Fold("the list of them", "list({v})", "[]", ("{acc}.append({x})",), verb="collect"),
    Fold("how many there are", "len(list({v}))", "0", ("{acc} += 1",), verb="count"),
    Fold(
        "the set of them, sorted",
        "sorted(set({v}))",
        "set()",
        ("{acc}.add({x})",),
        "sorted({acc})",
        verb="unique",
    ),
    Fold(
        "a dictionary of how often each occurs",
        "dict(Counter({v}))",
        "{}",
        ("{acc}[{x}] = {acc}.get({x}, 0) + 1",),
        verb="tally",
    ),
    Fold("their sum", "sum({v})", "0", ("{acc} += {x}",), kinds=("int",), verb="total"),
    Fold(
        "their sum modulo {a}",
        "sum({v}) % {a}",
        "0",
        ("{acc} = ({acc} + {x}) % {a}",),
        a=(7, 99),
        kinds=("int",),
        verb="checksum",
    ),
    Fold(
        "{a} plus their sum", "sum({v}, {a})", "{a}", ("{acc} += {x}",), a=(5, 90), kinds=("int",), verb="add"
    ),
    Fold(
        "the largest, or {a} if there is none",
        "max({v}, default={a})",
        "None",
        _MAX,
        _NONE,
        (-1, 0),
        ("int",),
        "largest",
    ),
    Fold(
        "the smallest, or {a} if there is none",
        "min({v}, default={a})",
        "None",
        _MIN,
        _NONE,
        (-1, 0),
        ("int",),
        "smallest",
    ),
    Fold(
        "their product modulo {a}",
        "reduce(lambda p, n: p * n % {a}, {v}, 1)",
        "1",
        ("{acc} = {acc} * {x} % {a}",),
        a=(7, 97),
        kinds=("int",),
        verb="product",
    ),
    Fold(
        "the sum of their squares",
        "sum(n * n for n in {v})",
        "0",
        ("{acc} += {x} * {x}",),
        kinds=("int",),
        verb="energy",
    ),
    Fold(
        "the exclusive or of them all",
        "reduce(lambda p, n: p ^ n, {v}, 0)",
        "0",
        ("{acc} ^= {x}",),
        kinds=("int",),
        verb="fold",
    ),
    Fold(
        "the running totals",
        "list(accumulate({v}))",
        "[]",
        ("{acc}.append({x} + ({acc}[-1] if {acc} else 0))",),
        kinds=("int",),
        verb="running",
    ),
    Fold(
        "the running maximum",
        "list(accumulate({v}, max))",
        "[]",
        ("{acc}.append(max({x}, {acc}[-1]) if {acc} else {x})",),
        kinds=("int",),
        verb="peaks",
    ),
    Fold(
        "a dictionary of lists of them, by remainder modulo {a}",
        "{r: [n for n in {v} if n % {a} == r] for r in dict.fromkeys(m % {a} for m in {v})}",
        "{}",
        ("{acc}.setdefault({x} % {a}, []).append({x})",),
        a=(2, 5),
        kinds=("int",),
        verb="group",
    ),
    Fold(
        "them joined by commas",
        '",".join({v})',
        '""',
        ('{acc} = {acc} + "," + {x} if {acc} else {x}',),
        kinds=("str",),
        verb="join",
    ),
    Fold(
        "the longest, the first of equally long ones, or an empty text",
        'max({v}, key=len, default="")',
        "None",
        ("if {acc} is None or len({x}) > len({acc}):", "    {acc} = {x}"),
        '"" if {acc} is None else {acc}',
        kinds=("str",),
        verb="longest",
    ),
    Fold(
        "the number of characters in all",
        "sum(map(len, {v}))",
        "0",
        ("{acc} += len({x})",),
        kinds=("str",),
        verb="measure",
    ),
    Fold(
        "a dictionary from each to its length",
        "{t: len(t) for t in {v}}",
        "{}",
        ("{acc}[{x}] = len({x})",),
        kinds=("str",),
        verb="index",
    ),
    Fold(
        "their first letters in one text",
        '"".join(t[:1] for t in {v})',
        '""',
        ("{acc} += {x}[:1]",),
        kinds=("str",),
        verb="initials",
    ),
    Fold(
        "a dictionary of how many have each length",
        "dict(Counter(map(len, {v})))",
        "{}",
        ("{acc}[len({x})] = {acc}.get(len({x}), 0) + 1",),
        kinds=("str",),
        verb="histogram",
    ),
)
