"""The float model: sizes on the meta device, gradients against plain autograd, routing, rotation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from sevenfold.model.linear import Linear, product
from sevenfold.model.loss import BLOCK, sequence_losses
from sevenfold.model.transformer import Transformer, count_parameters
from sevenfold.recipe import list_shipped, load_recipe
from sevenfold.recipe.schema import ModelSpec, TokenRouted
from sevenfold.recipe.sizing import count, tensors


def small(**changes: object) -> ModelSpec:
    values: dict[str, object] = {
        "d_model": 24, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 6,
        "d_ffn": 20, "vocab_size": 300, "context": 32,
    }  # fmt: skip
    return ModelSpec(**(values | changes))  # type: ignore[arg-type]  # the schema checks them


def ready(spec: ModelSpec) -> Transformer:
    model = Transformer(spec)
    model.initialize(torch.Generator().manual_seed(0), 0.1)
    return model


@pytest.mark.parametrize("path", [s.path for s in list_shipped()], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_plan_counts_what_is_built(path: Path) -> None:
    spec = load_recipe(path).model
    with torch.device("meta"):
        model = Transformer(spec)
    assert count_parameters(model) == count(spec)
    assert {n: tuple(p.shape) for n, p in model.named_parameters()} == tensors(spec)


def test_linear_gradients_equal_autograd() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 5, 16, generator=generator, requires_grad=True)
    layer = Linear(16, 24)
    with torch.no_grad():
        layer.weight.normal_(generator=generator)
    layer(x).square().sum().backward()
    x2, w2 = x.detach().clone().requires_grad_(), layer.weight.detach().clone().requires_grad_()
    F.linear(x2, w2).square().sum().backward()
    torch.testing.assert_close(x.grad, x2.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.weight.grad, w2.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("length", [7, BLOCK // 2, BLOCK + 3])
def test_the_loss_of_the_head_equals_cross_entropy(length: int) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, length, 16, generator=generator, requires_grad=True)
    w = torch.randn(50, 16, generator=generator, requires_grad=True)
    y = torch.randint(0, 50, (2, length), generator=generator)
    loss = (sequence_losses(x, w, y) / (2 * length)).sum()
    loss.backward()
    x2, w2 = x.detach().clone().requires_grad_(), w.detach().clone().requires_grad_()
    plain = F.cross_entropy((x2 @ w2.t()).flatten(0, 1), y.flatten())
    plain.backward()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(x.grad, x2.grad)
    torch.testing.assert_close(w.grad, w2.grad)


def test_every_weight_of_a_model_gets_the_gradient_autograd_says() -> None:
    model = ready(small())
    ids = torch.randint(0, 300, (2, 20), generator=torch.Generator().manual_seed(3))
    losses = sequence_losses(model.hidden(ids[:, :-1]), model.head_weight, ids[:, 1:])
    (losses / 38).sum().backward()
    ours = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, msg=name, rtol=1e-4, atol=1e-6)


def test_attention_is_causal() -> None:
    model = ready(small())
    ids = torch.randint(0, 300, (1, 16), generator=torch.Generator().manual_seed(4))
    changed = ids.clone()
    changed[0, 9:] = (changed[0, 9:] + 1) % 300
    with torch.no_grad():
        a, b = model(ids), model(changed)
    torch.testing.assert_close(a[0, :9], b[0, :9])
    assert not torch.allclose(a[0, 9:], b[0, 9:])


def test_grouped_heads_equal_repeated_heads() -> None:
    grouped, full = ready(small(n_kv_heads=2)), ready(small(n_kv_heads=4))
    state = grouped.state_dict()
    for name in list(state):
        if name.endswith(("k_proj.weight", "v_proj.weight")):
            rows = state[name].view(2, 6, 24)
            state[name] = rows.repeat_interleave(2, dim=0).reshape(24, 24)
    full.load_state_dict(state)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(grouped(ids), full(ids))


def test_each_token_takes_its_own_expert_only() -> None:
    spec = small(moe=TokenRouted(kind="token_routed", experts=("code", "general")))
    model = ready(spec)
    with pytest.raises(ValueError, match="expert_of_token"):
        model(torch.arange(4)[None])
    model.expert_of_token = torch.zeros(300, dtype=torch.int64)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        before = model(ids)
        for block in model.layers.values():
            for parameter in block.ffn.experts[1].parameters():
                parameter.normal_()
        torch.testing.assert_close(model(ids), before)
        model.expert_of_token[5] = 1
        after = model(ids)
    torch.testing.assert_close(after[0, :5], before[0, :5])
    assert not torch.allclose(after[0, 5], before[0, 5])


def test_rotation_keeps_length_and_depends_on_distance_only() -> None:
    rope = ready(small()).layers["00"].attn._rope[0]
    q = torch.ones(1, 1, 10, 6)
    turned = rope(q)
    torch.testing.assert_close(turned.norm(dim=-1), q.norm(dim=-1))
    dots = (turned[0, 0] @ turned[0, 0].t()).diagonal(offset=3)
    torch.testing.assert_close(dots, dots[:1].expand_as(dots))


def test_initialisation_depends_on_the_seed_alone() -> None:
    a, b = ready(small()), ready(small())
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert bool((a.final_norm.weight == 1.0).all())
    assert product(torch.eye(24), a.embedding.weight).shape == (24, 300)
