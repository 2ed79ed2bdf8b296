"""Which projections FP8 takes, what they compute, and where BF16 stands in for it."""

from __future__ import annotations

import copy

import pytest
import torch
from families import mixed_values, stack_values

from sevenfold.model.loss import sequence_losses
from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import ModelSpec
from sevenfold.train import precision

pytest.importorskip("torchao")
CPU = torch.device("cpu")


def model_of(**changes: object) -> Transformer:
    model = Transformer(ModelSpec(**mixed_values()["model"] | changes))
    model.initialize(torch.Generator().manual_seed(0), 0.08)
    return model


def test_projections_of_layers_in_multiples_of_16_are_taken() -> None:
    # d_model 32, heads 2 x 16, d_ffn 48: all seven of each layer; never the embedding or the head.
    names = precision.fp8_projections(model_of(tied=False))
    assert len(names) == 2 * 7
    assert "layers.00.attn.q_proj" in names
    assert not any("lm_head" in name or "embedding" in name for name in names)
    odd = precision.fp8_projections(model_of(d_ffn=40))
    assert {name.split(".")[2] for name in odd} == {"attn"}  # 40 is no multiple of 16
    stacks = Transformer(ModelSpec(**stack_values()["model"] | {"d_model": 16, "head_dim": 8, "d_ffn": 32}))
    assert any(name.startswith("experts.2.layers") for name in precision.fp8_projections(stacks))


def test_conversion_keeps_names_and_weights_on_any_device() -> None:
    model = model_of()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    precision.to_fp8(model)
    assert dict(model.named_parameters()) == parameters  # the very tensors
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert type(model.layers["00"].attn.q_proj).__name__ == "Float8Linear"
    with torch.device("meta"):
        large = Transformer(ModelSpec(**mixed_values()["model"] | {"d_model": 4096, "d_ffn": 11008}))
    precision.to_fp8(large)
    assert type(large.layers["01"].ffn.down_proj).__name__ == "Float8Linear"


def test_emulated_fp8_rounds_products_and_trains() -> None:
    plain, ids = model_of(), torch.randint(0, 400, (2, 65), generator=torch.Generator().manual_seed(1))
    rounded = copy.deepcopy(plain)
    precision.to_fp8(rounded, emulate=True)
    losses = []
    for model in (plain, rounded):
        hidden = model.hidden(ids[:, :-1])
        loss = (sequence_losses(hidden, model.head_weight, ids[:, 1:]) / 128).sum()
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    for (name, mine), (_, theirs) in zip(plain.named_parameters(), rounded.named_parameters(), strict=True):
        assert theirs.grad.dtype == torch.float32
        similarity = torch.cosine_similarity(mine.grad.flatten(), theirs.grad.flatten(), dim=0)
        assert similarity > 0.97, name


def test_a_cpu_computes_fp8_in_bf16_and_says_why() -> None:
    model = model_of()
    precision.convert(model, "fp8", CPU)
    assert type(model.layers["00"].attn.q_proj).__name__ == "Linear"
    assert precision.used("fp8", CPU) == "bf16"
    note, *_ = precision.fallback_notes("fp8", CPU)
    assert "a CPU has no FP8 products; BF16 is used instead" in note


@pytest.mark.parametrize(
    ("capability", "installed", "word"),
    [
        ((8, 0), True, "8.0"),
        ((8, 9), False, "torchao is not installed"),
        ((8, 9), True, ""),
        ((9, 0), True, ""),
    ],
)
def test_a_gpu_computes_fp8_from_ada_on(
    capability: tuple[int, int], installed: bool, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(precision, "find_spec", lambda _name: installed or None)
    obstacle = precision.fp8_obstacle(torch.device("cuda", 0))
    assert word in obstacle
    assert bool(obstacle) == bool(word)
    assert precision.used("fp8", torch.device("cuda", 0)) == ("bf16" if word else "fp8")
