"""Adam over this rank's rows of each weight; an element's update does not depend on where the rows were cut.

PyTorch's fused kernel goes in steps of a vector's length and takes what is left at a tensor's end one by one, where the
compiler may round a product and its sum once instead of twice: the second moment of a row then differs by its last bit (seen with
32 elements on three ranks). So every tensor that is not whole vectors long is updated in a copy that is filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sevenfold.recipe.schema import TrainSpec
from sevenfold.train.checkpoint import optimizer_tensors, restore_optimizer
from sevenfold.train.distributed.shards import like, local

LANES = 16  # FP32 numbers of the widest vector


def _filled(flat: Tensor) -> Tensor:
    return pad(flat, (0, -flat.numel() % LANES)) if flat.numel() % LANES else flat


class Update:
    """The optimiser of a run. State is told by parameter name, in the parameter's shape and layout."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], spec: TrainSpec) -> None:
        self.parameters = dict(parameters)
        self.flat = {name: _filled(self._own(name)) for name in self.parameters}
        groups = [
            {
                "params": [self.flat[n] for n, p in self.parameters.items() if (p.dim() > 1) == is_matrix],
                "weight_decay": spec.weight_decay if is_matrix else 0.0,
            }
            for is_matrix in (True, False)
        ]
        kind = torch.optim.Adam if spec.optimizer == "adam" else torch.optim.AdamW
        self._adam = kind(groups, lr=0.0, betas=spec.betas, eps=spec.eps, fused=True)
        self._names = {flat: name for name, flat in self.flat.items()}

    def _own(self, name: str) -> Tensor:
        return local(self.parameters[name]).detach().view(-1)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update with the gradients of the parameters."""
        for group in self._adam.param_groups:
            group["lr"] = rate
        copies = {name: own for name in self.flat if len(own := self._own(name)) != len(self.flat[name])}
        for name, own in copies.items():
            self.flat[name][: len(own)] = own
        for name, parameter in self.parameters.items():
            self.flat[name].grad = _filled(local(parameter.grad).reshape(-1))
        self._adam.step()
        for name, own in copies.items():
            own.copy_(self.flat[name][: len(own)])

    def tensors(self) -> dict[str, Tensor]:
        """State by parameter name and slot."""
        found = {}
        for key, value in optimizer_tensors(self._adam, self._names).items():
            parameter = self.parameters[key.rpartition(".")[0]]
            own = local(parameter)
            rows = value if value.dim() == 0 else value[: own.numel()].view(own.shape)
            found[key] = like(parameter, rows)
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave, this rank's rows of each."""
        device = next(iter(self.flat.values())).device
        flat = {
            key: value if value.dim() == 0 else _filled(value.reshape(-1)) for key, value in tensors.items()
        }
        restore_optimizer(self._adam, self._names, {key: value.to(device) for key, value in flat.items()})
