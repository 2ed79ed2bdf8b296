"""Weight decay is decoupled: with `adamw` it is what the page says, and with `adam` it is refused."""

import pytest
import torch

from sevenfold.core.errors import RecipeError
from sevenfold.recipe.loader import load_recipe
from sevenfold.recipe.schema import TrainSpec
from sevenfold.train.optimizer import Optimizer


def test_weight_decay_with_adam_is_refused_at_its_line(base, write):
    text = base + "  weight_decay: 0.1\n"
    line = text[: text.index("  weight_decay")].count("\n") + 1
    path = write(text)
    with pytest.raises(RecipeError, match=r"weight_decay is 0\.1 with optimizer adam.*adamw") as caught:
        load_recipe(path)
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.exit_code == 2
    with pytest.raises(RecipeError, match="optimizer adam"):
        load_recipe(write(text + "  optimizer: adam\n"))
    assert load_recipe(write(base + "  weight_decay: 0\n")).train.optimizer == "adam"


def test_weight_decay_takes_a_share_of_each_matrix_apart_from_the_gradient():
    spec = TrainSpec(
        seed=1,
        tokens=1,
        batch_sequences=1,
        sequence=1,
        learning_rate=0.5,
        optimizer="adamw",
        weight_decay=0.1,
    )
    matrix, vector = torch.nn.Parameter(torch.full((4, 16), 2.0)), torch.nn.Parameter(torch.full((64,), 2.0))
    update = Optimizer({"matrix": matrix, "vector": vector}, spec)
    for parameter in (matrix, vector):
        parameter.grad = torch.zeros_like(parameter)
    update.step(0.5)
    # A zero gradient moves nothing but the decay: 2 * (1 - 0.5 * 0.1). An L2 term
    # would take a whole step of 0.5.
    assert torch.allclose(matrix.detach(), torch.full((4, 16), 1.9))
    assert torch.equal(vector.detach(), torch.full((64,), 2.0))
