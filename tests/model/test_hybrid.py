"""Hybrid attention against the rule of specs/attention.md, spelt out query by query;
causality; linear cost; rotation.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sevenfold.model import hybrid
from sevenfold.model.attention import document_segments
from sevenfold.model.kernels import operators
from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import HybridAttentionSpec, ModelSpec, RopeScaling

WINDOW, STRIDE = 8, 2
# The last is more than twice the context of 48, so that the ring forgets.
LENGTHS = [1, 2, 7, 8, 9, 16, 17, 31, 48, 101]


def spec(**changes: object) -> ModelSpec:
    values: dict[str, object] = {
        "d_model": 24, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 6, "d_ffn": 20,
        "vocab_size": 300,
        "context": 48,
        "attention": HybridAttentionSpec(
            scheme="hybrid", local_chunk=WINDOW, global_stride=STRIDE, global_tokens="learned_summaries",
            streaming_links="ring", rope_scaling="none", gqa=2, kv_quant_bits=8,
        ),
    }  # fmt: skip
    return ModelSpec(**(values | changes))  # type: ignore[arg-type]  # the schema checks them


def ready(model_spec: ModelSpec, std: float = 0.3) -> Transformer:
    model = Transformer(model_spec)
    model.initialize(torch.Generator().manual_seed(0), std)
    return model


def turn(x_E: Tensor, position: int, theta: float) -> Tensor:
    """RoPE of one vector, pair by pair."""
    half, out = len(x_E) // 2, []
    angles = [position * theta ** (-2 * i / len(x_E)) for i in range(half)]
    for i, angle in enumerate(angles):
        out.append(x_E[i] * math.cos(angle) - x_E[half + i] * math.sin(angle))
    for i, angle in enumerate(angles):
        out.append(x_E[half + i] * math.cos(angle) + x_E[i] * math.sin(angle))
    return torch.stack(out)


def mean_of(score_J: Tensor, x_JE: Tensor) -> Tensor:
    """Direction of the weighted mean, at the weighted mean of the lengths."""
    share = torch.softmax(score_J, 0)
    mean = share @ x_JE
    return mean / mean.norm() * (share @ x_JE.norm(dim=1))


def oracle(attn: hybrid.HybridAttention, x_TD: Tensor, context: int, window: int, stride: int) -> Tensor:
    """The page, one query and one head at a time, in float64. Knows nothing of blocks."""
    length, width = x_TD.shape[0], attn.head_dim
    weight = {
        n: getattr(attn, n).weight.double() for n in ("q_proj", "k_proj", "v_proj", "o_proj", "summary_proj")
    }
    q, k, v = ((x_TD @ weight[n].t()).view(length, -1, width) for n in ("q_proj", "k_proj", "v_proj"))
    score = x_TD @ weight["summary_proj"].t()
    ring = math.ceil(context / stride)
    turned_q = [[turn(head, t, 1e4) for head in q[t]] for t in range(length)]
    turned_k = [[turn(head, t, 1e4) for head in k[t]] for t in range(length)]
    rows = []
    for t in range(length):
        heads = []
        for h in range(attn.n_heads):
            g = h // (attn.n_heads // attn.n_kv_heads)
            near = range(max(0, t - window + 1), t + 1)
            far = [c for c in range(length // stride) if (c + 1) * stride - 1 <= t][-ring:]
            logits = [turned_q[t][h] @ turned_k[j][g] for j in near]
            values = [v[j, g] for j in near]
            for c in far:
                own = slice(max(0, (c - 1) * stride), (c + 1) * stride)
                logits.append(q[t, h] @ mean_of(score[own, g], k[own, g]))
                values.append(mean_of(score[own, attn.n_kv_heads + g], v[own, g]))
            p = torch.softmax(torch.stack(logits) / math.sqrt(width), 0)
            heads.append(p @ torch.stack(values))
        rows.append(torch.cat(heads))
    return torch.stack(rows) @ weight["o_proj"].t()


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch computes."""
    monkeypatch.setattr(operators, "is_taken", lambda _x: False)


@pytest.fixture(scope="module")
def attention() -> hybrid.HybridAttention:
    found = ready(spec()).layers["00"].attn
    assert isinstance(found, hybrid.HybridAttention)
    return found


@pytest.mark.parametrize("tile", [0, 1, hybrid.TILE], ids=["kernel", "a block at a time", "at once"])
@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_rule_forward_and_backward(
    length: int, tile: int, attention: hybrid.HybridAttention, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tile:
        monkeypatch.setattr(operators, "is_taken", lambda _x: False)
        monkeypatch.setattr(hybrid, "TILE", tile)
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(1, length, 24, generator=generator, requires_grad=True)
    slope = torch.randn(1, length, 24, generator=generator)
    attention.zero_grad()
    ours = attention(x)
    ours.backward(slope)
    grads = {n: p.grad.clone() for n, p in attention.named_parameters()}
    attention.zero_grad()
    x2 = x.detach().clone().double().requires_grad_()
    truth = oracle(attention, x2[0], 48, WINDOW, STRIDE)
    truth.backward(slope[0].double())
    torch.testing.assert_close(ours[0].double(), truth, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x.grad.double(), x2.grad, rtol=1e-3, atol=1e-4)
    for name, parameter in attention.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(grads[name], expected, msg=name, rtol=1e-3, atol=1e-4)
    assert bool(grads["summary_proj.weight"].abs().sum() > 0) == (length >= STRIDE)


@pytest.mark.parametrize("context", [2, 4, 12])
def test_a_short_ring_forgets_as_the_rule_says(context: int) -> None:
    attention = ready(spec(context=context)).layers["00"].attn
    x = torch.randn(1, 60, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            attention(x)[0].double(),
            oracle(attention, x[0].double(), context, WINDOW, STRIDE),
            rtol=1e-4,
            atol=1e-5,
        )


def test_the_oracle_is_not_blind(attention: hybrid.HybridAttention) -> None:
    # Another window, stride or ring must show, or the comparison above proves nothing.
    x = torch.randn(1, 60, 24, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours = attention(x)[0].double()
        for context, window, stride in ((48, 8, 4), (48, 10, 2), (24, 8, 2)):
            assert not torch.allclose(
                ours, oracle(attention, x[0].double(), context, window, stride), atol=1e-3
            )


@pytest.mark.parametrize("at", [0, 1, 7, 8, 23, 40, 95])
def test_no_output_before_a_token_depends_on_it(at: int) -> None:
    model = ready(spec())
    ids = torch.randint(0, 300, (1, 96), generator=torch.Generator().manual_seed(4))
    changed = ids.clone()
    changed[0, at] = (changed[0, at] + 1) % 300
    with torch.no_grad():
        a, b = model(ids), model(changed)
    assert torch.equal(a[0, :at], b[0, :at])
    assert not torch.allclose(a[0, at:], b[0, at:])


def _look_ahead(first: int, n_blocks: int, reach: hybrid.Reach, ring: int, device: torch.device) -> Tensor:
    visible = _VISIBLE(first, n_blocks, reach, ring, device).clone()
    visible[..., reach.window : 2 * reach.window] = True
    return visible


def _next_stride(k: Tensor, v: Tensor, score: Tensor, stride: int) -> tuple[Tensor, ...]:
    return tuple(x.roll(-WINDOW // STRIDE, 2) for x in _SUMMARIZE(k, v, score, stride))


_VISIBLE, _SUMMARIZE = hybrid._visible, hybrid.summarize


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize(("name", "leak"), [("_visible", _look_ahead), ("summarize", _next_stride)])
def test_a_leak_would_be_seen(name: str, leak: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hybrid, name, leak)
    with pytest.raises(AssertionError):
        test_no_output_before_a_token_depends_on_it(23)


def test_far_tokens_are_reached_through_summaries_alone() -> None:
    model = ready(spec(n_layers=1))
    ids = torch.randint(0, 300, (1, 48), generator=torch.Generator().manual_seed(5))
    changed = ids.clone()
    changed[0, 3] = (changed[0, 3] + 1) % 300
    with torch.no_grad():
        assert not torch.equal(model(ids)[0, 47], model(changed)[0, 47])
        model.layers["00"].attn.reach = hybrid.Reach(window=8, stride=2, ring=2)
        assert torch.equal(model(ids)[0, 47], model(changed)[0, 47])


@pytest.mark.usefixtures("without_kernels")
def test_no_tensor_grows_with_the_square_of_the_length(
    attention: hybrid.HybridAttention, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = {}
    original = hybrid._tile
    for length in (256, 512, 1024):
        sizes: list[int] = []

        def watched(*parts: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(sum(part.numel() for part in parts))
            return original(*parts)

        monkeypatch.setattr(hybrid, "_tile", watched)
        with torch.no_grad():
            attention(torch.zeros(1, length, 24))
        largest[length] = sum(sizes)
    assert largest[1024] == 2 * largest[512] == 4 * largest[256]


def test_documents_are_cut_at_their_first_token() -> None:
    ids = torch.tensor([[5, 0, 7, 7, 0, 0, 9], [0, 1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1, 1, 0]])
    assert document_segments(ids, 0) == [[1, 3, 1, 2], [7], [6, 1]]


@pytest.mark.parametrize("kind", ["causal", "hybrid"])
def test_packed_documents_equal_documents_alone(kind: str) -> None:
    model = ready(spec() if kind == "hybrid" else spec(attention="causal"))
    model.document_start = 0
    generator = torch.Generator().manual_seed(6)
    documents = [
        torch.cat([torch.zeros(1, dtype=torch.int64), torch.randint(1, 300, (n,), generator=generator)])
        for n in (30, 1, 0, 44, 17)
    ]
    packed = torch.cat(documents)[None]
    with torch.no_grad():
        together = model(torch.cat([packed, packed.roll(13, 1)]))[0]
        at = 0
        for document in documents:
            alone = model(document[None])[0]
            torch.testing.assert_close(together[at : at + len(document)], alone, rtol=1e-4, atol=1e-5)
            at += len(document)
        model.document_start = None
        assert not torch.allclose(model(packed)[0, 60:], together[60:], atol=1e-3)


def test_gradients_do_not_cross_documents() -> None:
    model = ready(spec())
    model.document_start = 0
    ids = torch.randint(1, 300, (1, 40), generator=torch.Generator().manual_seed(7))
    ids[0, 20] = 0
    seen = {}
    first = model.layers["00"]
    first.register_forward_pre_hook(lambda _m, given: (given[0].retain_grad(), seen.update(x=given[0]))[0])
    model(ids)[0, 20:].sum().backward()
    assert bool((seen["x"].grad[0, :20] == 0).all())
    assert bool((seen["x"].grad[0, 20:] != 0).any())


def test_recomputed_activations_give_the_same_bits() -> None:
    grads = []
    for recompute in (False, True):
        model = ready(spec(dropout=0.1))
        model.recompute = recompute
        torch.manual_seed(3)
        ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(8))
        model.train()
        model(ids).square().mean().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (RopeScaling(), lambda i, d: 10000 ** (-2 * i / d)),
        (RopeScaling(kind="linear", factor=4.0), lambda i, d: 10000 ** (-2 * i / d) / 4),
        (RopeScaling(kind="ntk", factor=4.0), lambda i, d: (10000 * 4 ** (d / (d - 2))) ** (-2 * i / d)),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_scaled_rotations_are_the_formulas(scaling: RopeScaling, expected: object) -> None:
    rope = Transformer(spec(rope_scaling=scaling, head_dim=16, attention="causal")).rope
    rope.extend(10, torch.device("cpu"))
    for i in range(8):
        angle = 9 * expected(i, 16)  # type: ignore[operator]  # a lambda of the table above
        assert float(rope.cos[9, i]) == pytest.approx(math.cos(angle), abs=1e-6)
        assert float(rope.sin[9, i]) == pytest.approx(math.sin(angle), abs=1e-6)


def test_yarn_is_the_formula_of_the_paper() -> None:
    # arXiv 2309.00071: gamma over r = L / lambda between alpha = 1 and beta = 32, and
    # sqrt(1/t) = 0.1 ln(s) + 1.
    s, trained, d = 4.0, 128, 16
    rope = Transformer(
        spec(rope_scaling=RopeScaling(kind="yarn", factor=s), context=512, head_dim=d, attention="causal")
    ).rope
    rope.extend(10, torch.device("cpu"))
    temperature = 0.1 * math.log(s) + 1
    kinds = set()
    for i in range(d // 2):
        theta = 10000 ** (-2 * i / d)
        r = trained / (2 * math.pi / theta)
        gamma = 0.0 if r < 1 else 1.0 if r > 32 else (r - 1) / 31
        kinds.add(0 if gamma == 0 else 2 if gamma == 1 else 1)
        angle = 9 * ((1 - gamma) * theta / s + gamma * theta)
        assert float(rope.cos[9, i]) == pytest.approx(temperature * math.cos(angle), abs=1e-6)
        assert float(rope.sin[9, i]) == pytest.approx(temperature * math.sin(angle), abs=1e-6)
    assert kinds == {0, 1}  # 128 positions turn no pair 32 times; the longer context below does
    long = Transformer(
        spec(rope_scaling=RopeScaling(kind="yarn", factor=s), context=4096, head_dim=d, attention="causal")
    ).rope
    long.extend(10, torch.device("cpu"))
    assert float(long.cos[9, 0]) == pytest.approx(temperature * math.cos(9), abs=1e-6)


def test_the_temperature_reaches_summaries_too() -> None:
    # Both kinds of keys stand under one softmax, so both scores grow by the same factor.
    hybrid = spec().attention
    block = hybrid.model_copy(update={"rope_scaling": "yarn"})  # type: ignore[union-attr]  # hybrid here
    scaled = ready(spec(attention=block, rope_scaling=RopeScaling(kind="yarn", factor=4.0))).layers["00"].attn
    plain = ready(spec()).layers["00"].attn
    temperature = 0.1 * math.log(4.0) + 1
    plain._rope[0].use(RopeScaling())
    # With every frequency the same, queries of the plain model times the square of the
    # temperature are the scaled model.
    scaled._rope[0].extend(60, torch.device("cpu"))
    plain._rope[0].cos = scaled._rope[0].cos / temperature
    plain._rope[0].sin = scaled._rope[0].sin / temperature
    with torch.no_grad():
        plain.q_proj.weight.mul_(temperature**2)
        x = torch.randn(1, 40, 24, generator=torch.Generator().manual_seed(9))
        torch.testing.assert_close(scaled(x), plain(x), rtol=1e-4, atol=1e-5)


def test_a_model_that_is_not_hybrid_is_refused() -> None:
    with pytest.raises(ValueError, match="not hybrid"):
        hybrid.HybridAttention(spec(attention="causal"), Transformer(spec()).rope)
