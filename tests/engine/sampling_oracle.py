"""The sampling law a second time, in plain Python integers, written from specs/sampling.md alone."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, getcontext

getcontext().prec = 60
LN2 = Decimal(2).ln()


def rounded(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_UP))


LOG2 = [rounded(2**20 * (1 + Decimal(i) / 256).ln() / LN2) for i in range(257)]
EXP2 = [rounded(2**24 * Decimal(2) ** (-Decimal(i) / 256)) for i in range(257)]
RATIO = [
    rounded(2**20 * (-(1 - Decimal(i) / 512).ln() / LN2 / (Decimal(i) / 512)).ln() / LN2)
    if i
    else rounded(2**20 * (1 / LN2).ln() / LN2)
    for i in range(257)
]


def rshift(v: int, s: int) -> int:
    return (v + (1 << s >> 1)) >> s


def between(table: list[int], i: int, r: int, bits: int) -> int:
    return table[i] + rshift((table[i + 1] - table[i]) * r, bits)


def log2(n: int) -> int:
    k = n.bit_length() - 1
    fraction = (n * 2**33 // 2**k - 2**33) // 2**9
    return k * 2**20 + between(LOG2, fraction // 2**16, fraction % 2**16, 16)


def weight(d: int) -> int:
    fraction = d % 2**20
    return rshift(between(EXP2, fraction // 2**12, fraction % 2**12, 12), min(d // 2**20, 31))


def gumbel(x: int) -> int:
    if x < 2**31:
        return 20 * 2**20 - log2(33 * 2**20 - log2(2 * x + 1))
    c = 2**32 - 1 - x
    return 33 * 2**20 - log2(2 * c + 1) - between(RATIO, c // 2**23, c // 2**7 % 2**16, 16)


def philox(counter: list[int], key: list[int]) -> list[int]:
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (q >> 32) ^ b ^ k, q % 2**32, (p >> 32) ^ d ^ m, p % 2**32
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return [a, b, c, d]


def scale(temperature: tuple[int, int]) -> tuple[int, int]:
    exact = 16 / LN2 * temperature[1] / temperature[0]
    s = -40
    while rounded(exact * Decimal(2) ** s) < 2**15:
        s += 1
    return rounded(exact * Decimal(2) ** s), s


def choose(
    logits: list[int],
    temperature: tuple[int, int],
    top_k: int,
    min_p: tuple[int, int],
    top_p: tuple[int, int],
    seed: int,
    position: int,
    sample: int,
) -> int:
    best = max(logits)
    if temperature[0] == 0:
        return logits.index(best)
    m, s = scale(temperature)
    gaps = [min(best - x, 2**31 - 1) for x in logits]
    distances = []
    for gap in gaps:
        product = gap * m
        product = rshift(product, s) if s >= 0 else product << -s
        distances.append(min(product, 2**30))
    order = sorted(range(len(logits)), key=lambda i: (gaps[i], i))
    if top_k:
        order = order[:top_k]
    order = [i for i in order if weight(distances[i]) * min_p[1] >= min_p[0] * 2**24]
    total, running, kept = sum(weight(distances[i]) for i in order), 0, []
    for i in order:
        kept.append(i)
        running += weight(distances[i])
        if top_p != (1, 1) and running * top_p[1] >= total * top_p[0]:
            break
    best_score, chosen = None, -1
    for i in sorted(kept):
        word = philox([i // 4, position, sample, 0], [seed % 2**32, seed // 2**32])[i % 4]
        score = gumbel(word) - distances[i]
        if best_score is None or score > best_score:
            best_score, chosen = score, i
    return chosen
