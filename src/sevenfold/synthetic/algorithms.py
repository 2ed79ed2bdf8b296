"""Well-known algorithms with parameters, each written in two ways that must agree. `{k}` is a
number that the dice choose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sevenfold.synthetic.rng import SeededChoices
from sevenfold.synthetic.words import TOPICS


@dataclass(frozen=True, slots=True)
class Algorithm:
    """`ways`: sources with `{f}` for the function's name; `inputs`: what a call is made with."""

    name: str
    words: str
    ways: tuple[str, ...]
    inputs: Callable[[SeededChoices], str]
    k: tuple[int, int] = (2, 9)


def _number(low: int, high: int) -> Callable[[SeededChoices], str]:
    return lambda dice: f"({dice.between(low, high)},)"


def _numbers(n_values: int) -> Callable[[SeededChoices], str]:
    return lambda dice: str(tuple(dice.between(1, 90) for _ in range(n_values)))


def _list(dice: SeededChoices) -> str:
    return f"({[dice.between(-20, 60) for _ in range(dice.below(9))]!r},)"


def _list_and_one(dice: SeededChoices) -> str:
    values = [dice.between(0, 25) for _ in range(dice.between(1, 9))]
    return f"({values!r}, {dice.between(0, 30)})"


def _sorted_and_one(dice: SeededChoices) -> str:
    values = sorted({dice.between(0, 40) for _ in range(dice.between(1, 9))})
    return f"({values!r}, {dice.pick(values) if dice.chance(0.5) else dice.between(0, 40)})"


def _text(dice: SeededChoices) -> str:
    samples = TOPICS[dice.pick(tuple(TOPICS))].samples
    return f"({' '.join(dice.pick(samples) for _ in range(dice.below(4)))!r},)"


def _runs(dice: SeededChoices) -> str:
    return f"({''.join(dice.pick('abc') * dice.between(1, 4) for _ in range(dice.below(6)))!r},)"


def _brackets(dice: SeededChoices) -> str:
    pieces = dice.pick((("()", "[]", "([])"), ("(", ")", "[", "]"), ("[()]", "(", "]")))
    return f"({''.join(dice.pick(pieces) for _ in range(dice.below(6)))!r},)"


def _matrix(dice: SeededChoices) -> str:
    width, height = dice.between(1, 4), dice.between(1, 4)
    return f"({[[dice.between(0, 9) for _ in range(width)] for _ in range(height)]!r},)"


def _two_lists(dice: SeededChoices) -> str:
    return f"({sorted(dice.between(0, 30) for _ in range(dice.below(6)))!r}, {sorted(dice.between(0, 30) for _ in range(dice.below(6)))!r})"


ALGORITHMS: tuple[Algorithm, ...] = (
    Algorithm(
        "greatest_common_divisor", "returns the greatest common divisor of two positive integers",
        ("def {f}(a, b):\n    while b:\n        a, b = b, a % b\n    return a\n",
         "def {f}(a, b):\n    if b == 0:\n        return a\n    return {f}(b, a % b)\n"),
        _numbers(2),
    ),
    Algorithm(
        "divisors", "returns all divisors of a positive integer in ascending order",
        ("def {f}(n):\n    return [d for d in range(1, n + 1) if n % d == 0]\n",
         "def {f}(n):\n    small, large = [], []\n    for d in range(1, int(n**0.5) + 1):\n        if n % d == 0:\n            small.append(d)\n            if d != n // d:\n                large.append(n // d)\n    return small + large[::-1]\n"),
        _number(1, 120),
    ),
    Algorithm(
        "is_prime", "says whether an integer is a prime number",
        ("def {f}(n):\n    if n < 2:\n        return False\n    for d in range(2, int(n**0.5) + 1):\n        if n % d == 0:\n            return False\n    return True\n",
         "def {f}(n):\n    return n > 1 and all(n % d for d in range(2, n))\n"),
        _number(0, 100),
    ),
    Algorithm(
        "primes_below", "returns the primes below `n`, {k} at most",
        ("def {f}(n):\n    sieve = [True] * max(n, 2)\n    sieve[0] = sieve[1] = False\n    for i in range(2, int(n**0.5) + 1):\n        if sieve[i]:\n            for j in range(i * i, n, i):\n                sieve[j] = False\n    return [i for i, prime in enumerate(sieve) if prime][:{k}]\n",
         "def {f}(n):\n    found = []\n    for i in range(2, n):\n        if all(i % p for p in found):\n            found.append(i)\n    return found[:{k}]\n"),
        _number(0, 60), (3, 12),
    ),
    Algorithm(
        "fibonacci", "returns the n-th Fibonacci number modulo {k} (the 0th is 0, the 1st is 1)",
        ("def {f}(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, (a + b) % {k}\n    return a\n",
         "def {f}(n):\n    numbers = [0, 1]\n    for i in range(2, n + 1):\n        numbers.append(numbers[i - 1] + numbers[i - 2])\n    return numbers[n] % {k}\n"),
        _number(0, 40), (10, 1000),
    ),
    Algorithm(
        "digits_in_base", "returns the digits of a non-negative integer in base {k}, the highest first",
        ("def {f}(n):\n    digits = []\n    while n >= {k}:\n        digits.append(n % {k})\n        n //= {k}\n    digits.append(n)\n    return digits[::-1]\n",
         "def {f}(n):\n    if n < {k}:\n        return [n]\n    return {f}(n // {k}) + [n % {k}]\n"),
        _number(0, 500),
    ),
    Algorithm(
        "binary_search", "returns the place of a value in a sorted list without repeats, or -1",
        ("def {f}(values, target):\n    low, high = 0, len(values) - 1\n    while low <= high:\n        middle = (low + high) // 2\n        if values[middle] == target:\n            return middle\n        if values[middle] < target:\n            low = middle + 1\n        else:\n            high = middle - 1\n    return -1\n",
         "from bisect import bisect_left\n\n\ndef {f}(values, target):\n    i = bisect_left(values, target)\n    return i if i < len(values) and values[i] == target else -1\n"),
        _sorted_and_one,
    ),
    Algorithm(
        "bubble_sort", "sorts a list of numbers by bubble sort and returns the new list",
        ("def {f}(values):\n    values = list(values)\n    for end in range(len(values) - 1, 0, -1):\n        for i in range(end):\n            if values[i] > values[i + 1]:\n                values[i], values[i + 1] = values[i + 1], values[i]\n    return values\n",
         "def {f}(values):\n    return sorted(values)\n"),
        _list,
    ),
    Algorithm(
        "insertion_sort", "sorts a list of numbers by insertion and returns the new list",
        ("def {f}(values):\n    result = []\n    for value in values:\n        place = 0\n        while place < len(result) and result[place] < value:\n            place += 1\n        result.insert(place, value)\n    return result\n",
         "from bisect import insort\n\n\ndef {f}(values):\n    result = []\n    for value in values:\n        insort(result, value)\n    return result\n"),
        _list,
    ),
    Algorithm(
        "merge_sorted", "merges two sorted lists into one sorted list",
        ("def {f}(left, right):\n    merged, i, j = [], 0, 0\n    while i < len(left) and j < len(right):\n        if left[i] <= right[j]:\n            merged.append(left[i])\n            i += 1\n        else:\n            merged.append(right[j])\n            j += 1\n    return merged + left[i:] + right[j:]\n",
         "from heapq import merge\n\n\ndef {f}(left, right):\n    return list(merge(left, right))\n"),
        _two_lists,
    ),
    Algorithm(
        "run_lengths", "returns the runs of equal characters in a text as (character, length) pairs",
        ("def {f}(text):\n    runs = []\n    for ch in text:\n        if runs and runs[-1][0] == ch:\n            runs[-1] = (ch, runs[-1][1] + 1)\n        else:\n            runs.append((ch, 1))\n    return runs\n",
         "from itertools import groupby\n\n\ndef {f}(text):\n    return [(ch, len(list(run))) for ch, run in groupby(text)]\n"),
        _runs,
    ),
    Algorithm(
        "caesar", "shifts each lower-case letter of a text by {k} places in the alphabet, around its end",
        ('def {f}(text):\n    shifted = ""\n    for ch in text:\n        if "a" <= ch <= "z":\n            shifted += chr((ord(ch) - 97 + {k}) % 26 + 97)\n        else:\n            shifted += ch\n    return shifted\n',
         'def {f}(text):\n    letters = "abcdefghijklmnopqrstuvwxyz"\n    table = str.maketrans(letters, letters[{k}:] + letters[:{k}])\n    return text.translate(table)\n'),
        _text, (1, 25),
    ),
    Algorithm(
        "balanced", "says whether the round and square brackets of a text are balanced",
        ('def {f}(text):\n    partner, stack = {")": "(", "]": "["}, []\n    for ch in text:\n        if ch in "([":\n            stack.append(ch)\n        elif ch in partner:\n            if not stack or stack.pop() != partner[ch]:\n                return False\n    return not stack\n',
         'def {f}(text):\n    text = "".join(ch for ch in text if ch in "()[]")\n    while "()" in text or "[]" in text:\n        text = text.replace("()", "").replace("[]", "")\n    return text == ""\n'),
        _brackets,
    ),
    Algorithm(
        "transpose", "transposes a matrix given as a list of rows",
        ("def {f}(rows):\n    return [[row[i] for row in rows] for i in range(len(rows[0]))]\n",
         "def {f}(rows):\n    return [list(column) for column in zip(*rows)]\n"),
        _matrix,
    ),
    Algorithm(
        "row_sums_over", "returns the sums of those rows of a matrix whose sum is greater than {k}",
        ("def {f}(rows):\n    sums = []\n    for row in rows:\n        total = 0\n        for value in row:\n            total += value\n        if total > {k}:\n            sums.append(total)\n    return sums\n",
         "def {f}(rows):\n    return [sum(row) for row in rows if sum(row) > {k}]\n"),
        _matrix, (4, 16),
    ),
    Algorithm(
        "pairs_with_sum", "counts the pairs of places in a list whose values add up to `target`",
        ("def {f}(values, target):\n    count = 0\n    for i in range(len(values)):\n        for j in range(i + 1, len(values)):\n            if values[i] + values[j] == target:\n                count += 1\n    return count\n",
         "def {f}(values, target):\n    seen, count = {}, 0\n    for value in values:\n        count += seen.get(target - value, 0)\n        seen[value] = seen.get(value, 0) + 1\n    return count\n"),
        _list_and_one,
    ),
    Algorithm(
        "window_sums", "returns the sums of all windows of {k} neighbours in a list",
        ("def {f}(values):\n    return [sum(values[i : i + {k}]) for i in range(len(values) - {k} + 1)]\n",
         "def {f}(values):\n    sums, total = [], 0\n    for i, value in enumerate(values):\n        total += value\n        if i >= {k}:\n            total -= values[i - {k}]\n        if i >= {k} - 1:\n            sums.append(total)\n    return sums\n"),
        _list, (2, 4),
    ),
    Algorithm(
        "chunks", "cuts a list into pieces of {k}, the last of which may be shorter",
        ("def {f}(values):\n    return [values[i : i + {k}] for i in range(0, len(values), {k})]\n",
         "def {f}(values):\n    pieces = []\n    for i, value in enumerate(values):\n        if i % {k} == 0:\n            pieces.append([])\n        pieces[-1].append(value)\n    return pieces\n"),
        _list, (2, 5),
    ),
    Algorithm(
        "collatz_steps", "counts the Collatz steps (n/2 if even, else 3n+1) from n to 1, {k} at most",
        ("def {f}(n):\n    steps = 0\n    while n != 1 and steps < {k}:\n        n = n // 2 if n % 2 == 0 else 3 * n + 1\n        steps += 1\n    return steps\n",
         "def {f}(n, limit={k}):\n    if n == 1 or limit == 0:\n        return 0\n    return 1 + {f}(n // 2 if n % 2 == 0 else 3 * n + 1, limit - 1)\n"),
        _number(1, 60), (20, 90),
    ),
    Algorithm(
        "word_counts", "returns how often each word of a text occurs, ignoring case, as a dictionary",
        ("def {f}(text):\n    counts = {}\n    for word in text.lower().split():\n        counts[word] = counts.get(word, 0) + 1\n    return counts\n",
         "from collections import Counter\n\n\ndef {f}(text):\n    return dict(Counter(text.lower().split()))\n"),
        _text,
    ),
    Algorithm(
        "longest_increase", "returns the length of the longest run of strictly increasing neighbours",
        ("def {f}(values):\n    best = current = 0\n    for i, value in enumerate(values):\n        current = current + 1 if i > 0 and value > values[i - 1] else 1\n        best = max(best, current)\n    return best\n",
         "def {f}(values):\n    best = 0\n    for start in range(len(values)):\n        end = start + 1\n        while end < len(values) and values[end] > values[end - 1]:\n            end += 1\n        best = max(best, end - start)\n    return best\n"),
        _list,
    ),
    Algorithm(
        "is_palindrome", "says whether a text reads the same in both directions, letters only and ignoring case",
        ("def {f}(text):\n    letters = [ch for ch in text.lower() if ch.isalpha()]\n    return letters == letters[::-1]\n",
         "def {f}(text):\n    letters = [ch for ch in text.lower() if ch.isalpha()]\n    for i in range(len(letters) // 2):\n        if letters[i] != letters[-1 - i]:\n            return False\n    return True\n"),
        _text,
    ),
)  # fmt: skip
