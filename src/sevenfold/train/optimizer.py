"""Apply Adam to the rows of each weight that this rank holds. The update of an element does not
depend on where rows were cut.

Under specs/training-arithmetic.md the kernel of `native/train` updates the rows in place; otherwise
PyTorch does. The fused kernel of PyTorch works in steps of a vector and handles the rest of a
tensor element by element. There the compiler may round a product and its sum once instead of twice,
and the second moment of a row differs in its last bit (seen with 32 elements on three ranks). So
every tensor that does not fill whole vectors is updated in a copy that is padded with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sevenfold.model.kernels import operators
from sevenfold.model.kernels.operators import LAW, AdamScalars
from sevenfold.recipe.schema import TrainSpec
from sevenfold.train.arithmetic import Powers
from sevenfold.train.checkpoints.checkpoint import optimizer_tensors, restore_optimizer
from sevenfold.train.distributed.shards import gradient, like, local

# FP32 numbers of the widest vector.
LANES = 16


def _filled(flat: Tensor) -> Tensor:
    return pad(flat, (0, -flat.numel() % LANES)) if flat.numel() % LANES else flat


class ExactUpdate:
    """The optimiser of a run under the law. Its state has the form of `Optimizer`."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], spec: TrainSpec) -> None:
        self.parameters, self.spec = dict(parameters), spec
        self.n_steps = 0
        self.powers = [Powers(beta) for beta in spec.betas]
        self.means, self.squares = (
            {n: torch.zeros_like(self._own(n)) for n in self.parameters} for _ in "12"
        )

    def _own(self, name: str) -> Tensor:
        return local(self.parameters[name]).detach()

    def zero_grad(self) -> None:
        """Delete all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def _scalars(self, rate: float, *, is_matrix: bool) -> AdamScalars:
        spec, (beta1, beta2) = self.spec, self.spec.betas
        first, second = (1.0 - powers.at(self.n_steps) for powers in self.powers)
        decay = spec.weight_decay if is_matrix else 0.0
        decoupled = spec.optimizer == "adamw"
        return AdamScalars(
            beta1=beta1,
            one_minus_beta1=1.0 - beta1,
            beta2=beta2,
            one_minus_beta2=1.0 - beta2,
            step_size=rate / first,
            root_correction=math.sqrt(second),
            eps=spec.eps,
            decay=1.0 - rate * decay if decoupled else 1.0,
            added_decay=0.0 if decoupled else decay,
        )

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update the parameters once with their gradients."""
        self.n_steps += 1
        scalars = {is_matrix: self._scalars(rate, is_matrix=is_matrix) for is_matrix in (True, False)}
        for name, parameter in self.parameters.items():
            own, grad = self._own(name), gradient(parameter).contiguous()
            operators.adam(own, self.means[name], self.squares[name], grad, scalars[parameter.dim() > 1])

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by parameter name and slot; nothing before the first step."""
        if not self.n_steps:
            return {}
        found = {}
        for name, parameter in self.parameters.items():
            found[f"{name}.step"] = torch.tensor(float(self.n_steps))
            found[f"{name}.exp_avg"] = like(parameter, self.means[name])
            found[f"{name}.exp_avg_sq"] = like(parameter, self.squares[name])
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state that `tensors` returned, as the rows of this rank."""
        for key, value in tensors.items():
            name, _, slot = key.rpartition(".")
            if slot == "step":
                self.n_steps = int(value)
            else:
                own = self.means if slot == "exp_avg" else self.squares
                own[name].copy_(value.view(own[name].shape))


def update_of(parameters: Mapping[str, nn.Parameter], spec: TrainSpec, law: str) -> ExactUpdate | Optimizer:
    """Return the optimiser of a run whose arithmetic is `law`."""
    return (ExactUpdate if law == LAW else Optimizer)(parameters, spec)


class Optimizer:
    """The optimiser of a run. The state has the names, shapes and layout of the parameters."""

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
        """Delete all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update the parameters once with their gradients."""
        for group in self._adam.param_groups:
            group["lr"] = rate
        copies = {name: own for name in self.flat if len(own := self._own(name)) != len(self.flat[name])}
        for name, own in copies.items():
            self.flat[name][: len(own)] = own
        for name, parameter in self.parameters.items():
            self.flat[name].grad = _filled(gradient(parameter).reshape(-1))
        self._adam.step()
        for name, own in copies.items():
            own.copy_(self.flat[name][: len(own)])

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by parameter name and slot."""
        found = {}
        for key, value in optimizer_tensors(self._adam, self._names).items():
            parameter = self.parameters[key.rpartition(".")[0]]
            own = local(parameter)
            rows = value if value.dim() == 0 else value[: own.numel()].view(own.shape)
            found[key] = like(parameter, rows)
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state that `tensors` returned, as the rows of this rank."""
        device = next(iter(self.flat.values())).device
        flat = {
            key: value if value.dim() == 0 else _filled(value.reshape(-1)) for key, value in tensors.items()
        }
        restore_optimizer(self._adam, self._names, {key: value.to(device) for key, value in flat.items()})
