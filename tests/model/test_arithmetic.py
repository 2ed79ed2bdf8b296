"""specs/training-arithmetic.md: every instruction set equals `rational` bit for bit.

Where exact fractions are too slow, the instruction sets equal each other.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import pytest
import torch
from emulated_gpu import use_emulated_gpu
from torch import Tensor

from sevenfold.audit.exact import rational
from sevenfold.core.errors import SevenfoldError
from sevenfold.model.kernels import operators
from sevenfold.model.kernels.causal import causal_attention
from sevenfold.model.kernels.operators import ISAS, AdamScalars, isa
from sevenfold.train.arithmetic import Powers, half_turn_cosine

pytestmark = pytest.mark.skipif(not operators.is_available(), reason="native/train is not built here")


def _here() -> list[str]:
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ISAS[1:]:
            patch.setenv("S7_ISA", name)
            if operators.is_available():
                found.append(name)
    return found


@pytest.fixture(
    params=[("gpu", 1), *((name, threads) for name in _here() for threads in (1, 2))],
    ids=lambda p: f"{p[0]}-{p[1]}",
)
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An instruction set and a number of threads, or the text of the GPU's kernels."""
    name, threads = request.param
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    if name == "gpu":
        use_emulated_gpu(monkeypatch)
    else:
        monkeypatch.setenv("S7_ISA", name)
        assert isa() == name
    yield name
    torch.set_num_threads(before)


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Values over several powers of two, some of them zero."""
    draw = random.Random(f"{shape} {seed}")
    total = int(torch.Size(shape).numel())
    values = [
        draw.gauss(0, scale) * 2.0 ** draw.randint(-6, 3) * (draw.random() > 0.05) for _ in range(total)
    ]
    return torch.tensor(values, dtype=torch.float32).view(shape)


def same(found: Tensor, wanted: object) -> None:
    """Equal in every bit, the sign of a zero, too."""
    other = torch.tensor(wanted, dtype=torch.float32)
    assert found.shape == other.shape
    assert torch.equal(found.view(torch.int32), other.view(torch.int32))


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 5, 7), (15, 20, 33), (29, 9, 70), (2, 700, 3), (5, 0, 4)], ids=str
)
def test_products_are_one_chain(forced: str, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    a, b, c = numbers(m, k), numbers(k, n, seed=1), numbers(m, n, seed=2)
    at = [[rational.chain(row, column) for column in b.t().tolist()] for row in a.tolist()]
    same(operators.matrix_product(a, b, torch.empty(m, n)), at)
    same(operators.project(a, b.t().contiguous()), at)
    same(operators.input_slope(a, b), at)
    same(operators.weight_slope(a.t().contiguous(), b), at)
    starts = zip(a.tolist(), c.tolist(), strict=True)
    on = [
        [rational.chain(row, col, s) for col, s in zip(b.t().tolist(), start, strict=True)]
        for row, start in starts
    ]
    same(operators.weight_slope(a.t().contiguous(), b, c.clone()), on)
    same(operators.input_slope(a, b, c.clone()), on)


@pytest.mark.parametrize("width", [1, 15, 16, 40])
def test_norm(forced: str, width: int) -> None:
    x, gain, grad, beside = (
        numbers(5, width),
        numbers(width, seed=1),
        numbers(5, width, seed=2),
        numbers(5, width, seed=3),
    )
    y, scale = operators.norm(x, gain, 1e-5)
    wanted = [rational.norm(row, gain.tolist(), rational.f32(1e-5)) for row in x.tolist()]
    same(y, [row for row, _ in wanted])
    same(scale, [f for _, f in wanted])
    grad_x, grad_gain = operators.norm_slope(x, gain, scale, grad, beside, is_trained=True)
    rows = zip(x.tolist(), scale.tolist(), grad.tolist(), beside.tolist(), strict=True)
    same(grad_x, [rational.norm_slope(row, gain.tolist(), f, g, more) for row, f, g, more in rows])
    turned = [[rational.mul(v, f) for v in row] for row, f in zip(x.tolist(), scale.tolist(), strict=True)]
    columns = zip(zip(*grad.tolist(), strict=True), zip(*turned, strict=True), strict=True)
    assert grad_gain is not None
    same(grad_gain, [rational.chain(g, t) for g, t in columns])


def test_gate(forced: str) -> None:
    gate, up, grad = numbers(83, scale=3.0), numbers(83, seed=1), numbers(83, seed=2)
    gate[:4] = torch.tensor([-200.0, 200.0, -86.9, 0.0])
    rows = list(zip(gate.tolist(), up.tolist(), grad.tolist(), strict=True))
    same(
        operators.gate(gate, up), [rational.mul(rational.mul(g, rational.sigmoid(g)), u) for g, u, _ in rows]
    )
    wanted = []
    for g, u, slope in rows:
        s = rational.sigmoid(g)
        silu = rational.mul(g, s)
        turned = rational.add(s, rational.mul(silu, rational.sub(1.0, s)))
        wanted.append((rational.mul(rational.mul(slope, u), turned), rational.mul(slope, silu)))
    found = operators.gate_slope(gate, up, grad)
    same(found[0], [w for w, _ in wanted])
    same(found[1], [w for _, w in wanted])


@pytest.mark.parametrize("width", [2, 17, 50])
def test_losses(forced: str, width: int) -> None:
    logits, factor = numbers(6, width, scale=4.0), numbers(6, seed=1)
    logits[0, 1] = 100.0
    target = torch.tensor([0, 1, 0, 1, 1, 0])
    wanted = [
        rational.loss(*row) for row in zip(logits.tolist(), target.tolist(), factor.tolist(), strict=True)
    ]
    slopes = logits.clone()
    same(operators.losses(logits, target, None), [nats for nats, _ in wanted])
    same(operators.losses(slopes, target, factor), [nats for nats, _ in wanted])
    same(slopes, [row for _, row in wanted])
    if forced == "gpu":
        # A GPU does not answer before it has computed. A loss that is no number ends the run.
        assert operators.losses(logits, target + width, None).isnan().all()
        return
    with pytest.raises(SevenfoldError, match="a shape outside its bounds"):
        operators.losses(logits, target + width, None)


def test_rotation(forced: str) -> None:
    frequencies = [1.0, 0.1, 1e-4]
    cos, sin = operators.rotation_tables(frequencies, 1.25, 40)
    turns = [[rational.turn_of_angle(position * f) for f in frequencies] for position in range(40)]
    same(cos, [[rational.f32(rational.Fraction(c * 1.25)) for c, _ in row] for row in turns])
    same(sin, [[rational.f32(rational.Fraction(s * 1.25)) for _, s in row] for row in turns])
    assert torch.allclose(cos[:, 0], 1.25 * torch.arange(40).cos(), atol=1e-6)
    x = numbers(2, 3, 40, 6)
    y = torch.empty(2, 40, 3, 6).transpose(1, 2)
    operators.rotate(x, cos, sin, y)
    for (b, h, t, i), sign in [((1, 2, 39, 0), 1), ((0, 1, 7, 2), 1)]:
        a, c = float(x[b, h, t, i]), float(x[b, h, t, i + 3])
        co, si = float(cos[t, i]), sign * float(sin[t, i])
        assert float(y[b, h, t, i]) == rational.fma(a, co, rational.mul(c, -si))
        assert float(y[b, h, t, i + 3]) == rational.fma(c, co, rational.mul(a, si))
    back = torch.empty_like(x)
    operators.rotate(y, cos, sin, back, back=True)
    assert torch.allclose(back, 1.25**2 * x, atol=1e-4)


@pytest.mark.parametrize("width", [6, 16])
def test_attention(forced: str, width: int) -> None:
    q, k, v, grad = (numbers(1, 1, 19, width, seed=s) for s in range(4))
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    y = causal_attention(*leaves)
    y.backward(grad)
    wanted = rational.attention(*(t[0, 0].tolist() for t in (q, k, v, grad)), width)
    for found, rows in zip((y.detach(), *(leaf.grad for leaf in leaves)), wanted, strict=True):
        assert torch.equal(found[0, 0], torch.tensor(rows))


def test_elements_sums_and_scatter(forced: str) -> None:
    x, y = numbers(37), numbers(37, seed=1)
    pairs = list(zip(x.tolist(), y.tolist(), strict=True))
    same(operators.add(x, y), [rational.add(*pair) for pair in pairs])
    same(operators.scale(x, 0.1), [rational.mul(v, rational.f32(0.1)) for v in x.tolist()])
    rows = numbers(4, 37)
    same(operators.row_squares(rows), [rational.row_sum_of_products(row, row) for row in rows.tolist()])
    same(operators.row_squares(x), [rational.mul(v, v) for v in x.tolist()])
    assert operators.total(x) == sum(x.tolist())
    table, ids, grad = numbers(5, 3), torch.tensor([[4, 0, 4], [2, 4, 0]]), numbers(2, 3, 3, seed=1)
    wanted = table.tolist()
    for row, slope in zip(ids.flatten().tolist(), grad.view(-1, 3).tolist(), strict=True):
        wanted[row] = [rational.add(a, b) for a, b in zip(wanted[row], slope, strict=True)]
    operators.scatter_add(ids, grad, table)
    same(table, wanted)


@pytest.mark.parametrize("changes", [{}, {"decay": 0.99}, {"added_decay": 0.1}], ids=str)
def test_adam(forced: str, changes: dict[str, float]) -> None:
    scalars = {
        "beta1": 0.9, "one_minus_beta1": 1.0 - 0.9, "beta2": 0.95, "one_minus_beta2": 1.0 - 0.95,
        "step_size": 1e-3, "root_correction": 0.3, "eps": 1e-8, "decay": 1.0, "added_decay": 0.0,
    } | changes  # fmt: skip
    weight, mean, grad = numbers(21), numbers(21, seed=1), numbers(21, seed=2)
    square = numbers(21, seed=3).square()
    before = [t.tolist() for t in (weight, mean, square, grad)]
    wanted = [rational.adam(*row, scalars) for row in zip(*before, strict=True)]
    operators.adam(weight, mean, square, grad, AdamScalars(**scalars))
    for found, column in zip((weight, mean, square), zip(*wanted, strict=True), strict=True):
        same(found, column)


def test_draws(forced: str) -> None:
    key = 0x0123456789ABCDEF
    found = operators.normal(torch.Size((5, 5)), key, 3, 0.02)
    same(found.flatten(), [rational.normal(key, 3, i, 0.02) for i in range(25)])
    x = numbers(70)
    kept = [rational.word(key, 9, i) >= int(0.3 * 2**32) for i in range(70)]
    factor = rational.f32(1.0 / (1.0 - 0.3))
    wanted = [rational.mul(v, factor) if keep else 0.0 for v, keep in zip(x.tolist(), kept, strict=True)]
    same(operators.dropout(x, 0.3, key, 9), wanted)
    many = operators.normal(torch.Size((100_000,)), key, 4, 1.0)
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.std()) - 1.0) < 0.01


def test_subnormals_are_kept_whatever_the_process_says(forced: str) -> None:
    a, b = torch.full((3, 8), 2.0**-75), torch.full((8, 5), 2.0**-70)
    tiny = torch.full((20,), 2.0**-140)
    wanted = 8 * 2.0**-145
    try:
        for flush in (False, True):
            torch.set_flush_denormal(flush)
            outputs = operators.matrix_product(a, b, torch.empty(3, 5)), operators.add(tiny, tiny)
            torch.set_flush_denormal(False)
            assert float(outputs[0].min()) == float(outputs[0].max()) == wanted
            assert float(outputs[1].min()) == 2.0**-139
    finally:
        torch.set_flush_denormal(False)


def _fingerprint() -> str:
    """Of all operators on shapes with tails, large enough for blocks and threads."""
    sha = hashlib.sha256()

    def told(*tensors: Tensor) -> None:
        for tensor in tensors:
            sha.update(tensor.contiguous().numpy().tobytes())

    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    for m, k, n in [(257, 700, 131), (64, 1500, 320), (1030, 70, 515)]:
        a, b = drawn(m, k), drawn(n, k)
        told(operators.project(a, b), operators.weight_slope(drawn(k, m), drawn(k, n)))
    x, gain = drawn(300, 130), drawn(130)
    y, scale = operators.norm(x, gain, 1e-5)
    told(y, *operators.norm_slope(x, gain, scale, drawn(300, 130), None, is_trained=True))
    told(operators.gate(x, y), *operators.gate_slope(x, y, drawn(300, 130)))
    logits = drawn(200, 1001)
    told(operators.losses(logits, torch.arange(200), drawn(200)), logits)
    leaves = [drawn(2, h, 130, 32).requires_grad_() for h in (4, 2, 2)]
    out = causal_attention(*leaves)
    out.backward(drawn(2, 4, 130, 32))
    told(out.detach(), *(leaf.grad for leaf in leaves))
    return sha.hexdigest()


def test_instruction_sets_and_threads_decide_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    found, before = {}, torch.get_num_threads()
    try:
        for name in _here():
            monkeypatch.setenv("S7_ISA", name)
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                found[name, threads] = _fingerprint()
    finally:
        torch.set_num_threads(before)
    use_emulated_gpu(monkeypatch)
    found["gpu", 1] = _fingerprint()
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize("shape", [(2100, 17, 2050), (1060, 20, 1010), (40, 33, 70)], ids=str)
def test_the_tile_of_a_gpu_decides_no_bit(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]
) -> None:
    m, k, n = shape
    generator = torch.Generator().manual_seed(6)
    a, b, c = (torch.randn(s, generator=generator) for s in ((m, k), (n, k), (m, n)))
    grids = [(a, b.t()), (a.t().contiguous().t(), b.t().contiguous())]
    wanted = [operators.matrix_product(*grid, c.clone(), is_added=True) for grid in grids]
    use_emulated_gpu(monkeypatch)
    for grid, other in zip(grids, wanted, strict=True):
        assert torch.equal(operators.matrix_product(*grid, c.clone(), is_added=True), other)


def test_tables() -> None:
    assert [half_turn_cosine(n, 4) for n in (0, 2, 4)] == [1.0, 0.0, -1.0]
    assert half_turn_cosine(1, 3) == 0.5
    assert half_turn_cosine(1, 4) == 0.7071067811865476
    powers = Powers(0.95)
    assert [powers.at(n) for n in (3, 1, 2)] == [0.95 * 0.95 * 0.95, 0.95, 0.95 * 0.95]
