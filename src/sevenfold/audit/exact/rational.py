"""Implement specs/training-arithmetic.md in exact rational arithmetic, independently of the
kernels.

A number is a Python float that holds a binary32 or a binary64. Every operation computes with
fractions and rounds once. It is slow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction


def _rounded(x: Fraction, bits: int, lowest: int) -> float:
    """Return the nearest number with `bits` of precision whose exponent is at least `lowest`; ties
    to even.
    """
    if x == 0:
        return 0.0
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    while abs(x) < Fraction(2) ** exponent:
        exponent -= 1
    while abs(x) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = max(exponent, lowest) - bits + 1
    value = math.ldexp(float(round(x / Fraction(2) ** unit)), unit)
    return math.copysign(value, x)


def f32(x: Fraction | float) -> float:
    """Return x rounded to binary32; a zero keeps its sign."""
    if isinstance(x, float) and (x == 0 or math.isinf(x)):
        return x
    return _rounded(Fraction(x), 24, -126)


def f64(x: Fraction) -> float:
    """Return x rounded to binary64."""
    return _rounded(x, 53, -1022)


def _zero(a: float, b: float) -> float:
    """Return the sign of an exact zero that is the sum of a and b."""
    return -0.0 if math.copysign(1, a) < 0 and math.copysign(1, b) < 0 else 0.0


def mul(a: float, b: float) -> float:
    """Return a * b in binary32, with the sign of a zero."""
    sign = math.copysign(1, a) * math.copysign(1, b)
    return math.copysign(abs(f32(Fraction(a) * Fraction(b))), sign)


def add(a: float, b: float) -> float:
    """Return a + b in binary32."""
    exact = Fraction(a) + Fraction(b)
    return f32(exact) if exact else _zero(a, b)


def sub(a: float, b: float) -> float:
    """Return a - b in binary32."""
    return add(a, -b)


def fma(a: float, b: float, c: float) -> float:
    """Return a * b + c in binary32, rounded once."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact:
        return f32(exact)
    return _zero(math.copysign(1, a) * math.copysign(1, b) * 1.0, c) if a * b == 0 else 0.0


def div(a: float, b: float) -> float:
    """Return a / b in binary32."""
    return math.copysign(abs(f32(Fraction(a) / Fraction(b))), math.copysign(1, a) * math.copysign(1, b))


def fma64(a: float, b: float, c: float) -> float:
    """Return a * b + c in binary64, rounded once."""
    return f64(Fraction(a) * Fraction(b) + Fraction(c))


def sqrt(a: float) -> float:
    """Return the square root in binary32, computed with integers."""
    if a == 0:
        return a
    x = Fraction(a)
    # 2^200 x is close enough to the square of an integer that no tie can lie between it and the
    # root.
    scaled = math.isqrt(x.numerator * (1 << 400) // x.denominator)
    rest = 0 if scaled * scaled * x.denominator == x.numerator * (1 << 400) else 1
    return f32(Fraction(2 * scaled + rest, 1 << 201))


def chain(a: Iterable[float], b: Iterable[float], start: float = 0.0) -> float:
    """Return the chain of fused multiply-adds over two sequences, from `start`."""
    for x, y in zip(a, b, strict=True):
        start = fma(x, y, start)
    return start


def tree(lanes: Sequence[float]) -> float:
    """Return the sum of sixteen lanes in the defined order."""
    lanes, half = list(lanes), 8
    while half:
        lanes[:half] = [add(lanes[i], lanes[i + half]) for i in range(half)]
        half //= 2
    return lanes[0]


def row_sum(terms: Sequence[float]) -> float:
    """Return the row sum of terms."""
    lanes = [0.0] * 16
    for i, term in enumerate(terms):
        lanes[i % 16] = add(lanes[i % 16], term)
    return tree(lanes)


def row_sum_of_products(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the row sum of the products of two sequences."""
    return tree([chain(a[lane::16], b[lane::16]) for lane in range(16)])


def exp(x: float) -> float:
    """Return exp(x), x <= 0."""
    if x < -87:
        return 0.0
    c = 12582912.0
    t = fma(x, f32(1.44269504088896341), c)
    n = sub(t, c)
    r = fma(n, f32(2.12194440e-4), fma(n, f32(-0.693359375), x))
    p = f32(1.9875691500e-4)
    for k in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = fma(p, r, f32(k))
    p = add(fma(p, mul(r, r), r), 1.0)
    return f32(Fraction(p) * Fraction(2) ** int(n))


def sigmoid(x: float) -> float:
    """Return sigmoid(x)."""
    e = exp(x if x < 0 else sub(0.0, x))
    q = div(1.0, add(1.0, e))
    return mul(e, q) if x < 0 else q


def ln(x: float) -> float:
    """Return ln(x) in binary64."""
    m, e = math.frexp(x)
    m, e = 2 * m, e - 1
    if m >= 1.4142135623730951:
        m, e = m / 2, e + 1
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = 1.0 / 21.0
    for k in range(19, 1, -2):
        p = fma64(p, z, 1.0 / k)
    d = s + s
    tail = fma64(d * z, p, e * 5.497923018708371e-14)
    return fma64(float(e), 0.6931471805598903, d + tail)


def turn(r: float, quarters: int) -> tuple[float, float]:
    """Return cosine and sine in binary64."""
    z = r * r
    s = -1.0 / math.factorial(15)
    for k in range(13, 1, -2):
        s = fma64(s, z, (1.0 if k % 4 == 1 else -1.0) / math.factorial(k))
    c = 1.0 / math.factorial(16)
    for k in range(14, 0, -2):
        c = fma64(c, z, (1.0 if k % 4 == 0 else -1.0) / math.factorial(k))
    s, c = fma64(s * z, r, r), fma64(c, z, 1.0)
    return ((c, s), (-s, c), (-c, -s), (s, -c))[quarters % 4]


def turn_of_angle(a: float) -> tuple[float, float]:
    """Return cosine and sine of an angle in binary64."""
    c = 1.5 * 2.0**52
    n = fma64(a, 0.6366197723675814, c) - c
    r = fma64(n, -6.123233995736766e-17, fma64(n, -1.5707963267948966, a))
    return turn(r, int(n))


def philox(key: int, stream: int, block: int) -> list[int]:
    """Return the four words of a block."""
    mask = (1 << 32) - 1
    c = [block & mask, block >> 32, stream & mask, stream >> 32]
    k = [key & mask, key >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & mask, (p0 >> 32) ^ c[3] ^ k[1], p0 & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def word(key: int, stream: int, element: int) -> int:
    """Return the word of an element of a stream."""
    return philox(key, stream, element // 4)[element % 4]


def normal(key: int, stream: int, element: int, std: float) -> float:
    """Return a normal deviate of a stream."""
    pair = element // 2 * 2
    a, b = word(key, stream, pair), word(key, stream, pair + 1)
    length = math.sqrt(-2.0 * ln((a + 1.0) * 2.0**-32))
    v = (b << 2) & ((1 << 32) - 1)
    v -= (v >> 31) << 32
    both = turn(v * (1.5707963267948966 * 2.0**-32), b >> 30)
    return f32(Fraction(length * both[element % 2] * std))


def norm(x: Sequence[float], gain: Sequence[float], eps: float) -> tuple[list[float], float]:
    """Return the RMSNorm of a row, and its scale."""
    f = div(1.0, sqrt(add(div(row_sum_of_products(x, x), float(len(x))), eps)))
    return [mul(mul(v, f), g) for v, g in zip(x, gain, strict=True)], f


def norm_slope(
    x: Sequence[float],
    gain: Sequence[float],
    f: float,
    grad: Sequence[float],
    beside: Sequence[float] | None,
) -> list[float]:
    """Return the gradient of a row of `norm`, plus `beside` where it is given."""
    g = [mul(a, b) for a, b in zip(grad, gain, strict=True)]
    d = row_sum_of_products(g, x)
    h = -div(mul(mul(d, f), f), float(len(x)))
    slopes = [mul(fma(v, h, s), f) for v, s in zip(x, g, strict=True)]
    return slopes if beside is None else [add(v, b) for v, b in zip(slopes, beside, strict=True)]


def loss(logits: Sequence[float], target: int, factor: float) -> tuple[float, list[float]]:
    """Return the loss of a row of logits, and the gradients of the logits."""
    m = max(logits)
    e = [exp(sub(v, m)) for v in logits]
    total = row_sum(e)
    nats = add(sub(m, logits[target]), f32(Fraction(ln(total))))
    slopes = [mul(v, div(factor, total)) for v in e]
    slopes[target] = mul(sub(div(e[target], total), 1.0), factor)
    return nats, slopes


def attention(
    q: list[list[float]], k: list[list[float]], v: list[list[float]], grad: list[list[float]], width: int
) -> tuple[list[list[float]], ...]:
    """Return the output of one head of at most 48 rows, and the gradients of q, k and v."""
    n, scale = len(q), div(1.0, sqrt(float(width)))
    padding = -n % 16
    y, weights, slopes = [], [], []
    for i in range(n):
        scores = [chain(q[i], k[j]) for j in range(i + 1)]
        t = mul(max(scores), scale)
        w = [exp(sub(mul(s, scale), t)) for s in scores] + [0.0] * (n - 1 - i)
        total = row_sum(w + [0.0] * padding)
        y.append([div(chain(w, [v[j][e] for j in range(n)]), total) for e in range(len(q[0]))])
        log_sum = add(f32(Fraction(ln(total))), t)
        w = [exp(sub(mul(s, scale), log_sum)) for s in scores]
        d = row_sum_of_products(y[i], grad[i])
        u = [mul(mul(w[j], sub(chain(grad[i], v[j]), d)), scale) for j in range(i + 1)]
        weights.append(w + [0.0] * (n - 1 - i))
        slopes.append(u + [0.0] * (n - 1 - i))
    channels = range(len(q[0]))
    grad_q = [[chain(slopes[i], [k[j][e] for j in range(n)]) for e in channels] for i in range(n)]
    grad_k = [
        [chain([slopes[i][j] for i in range(n)], [q[i][e] for i in range(n)]) for e in channels]
        for j in range(n)
    ]
    grad_v = [
        [chain([weights[i][j] for i in range(n)], [grad[i][e] for i in range(n)]) for e in channels]
        for j in range(n)
    ]
    return y, grad_q, grad_k, grad_v


def adam(w: float, m: float, v: float, grad: float, s: dict[str, float]) -> tuple[float, float, float]:
    """Return weight, mean and square after an update."""
    s = {name: f32(value) for name, value in s.items()}
    g = fma(s["added_decay"], w, grad)
    m = fma(s["one_minus_beta1"], sub(g, m), m)
    v = fma(mul(g, s["one_minus_beta2"]), g, mul(s["beta2"], v))
    width = add(div(sqrt(v), s["root_correction"]), s["eps"])
    return fma(-s["step_size"], div(m, width), mul(w, s["decay"])), m, v
