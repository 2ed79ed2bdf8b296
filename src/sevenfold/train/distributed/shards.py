"""A model over ranks: FSDP2 shards of rows, and gradients added in the order of the micro-batches.

The law of accumulation (`loop`) does not fix who computes a micro-batch. Of each round of as many
micro-batches as there are ranks, rank r computes the r-th. FSDP2 would reduce a round in an order
of its own and then add the rounds, which rounds differently for another number of ranks.
`OrderedSum` replaces that reduction. An all-to-all brings each rank its rows of every gradient of
the round (as many bytes as a reduce-scatter), and they are added one by one to the sum of earlier
rounds. The shards then hold the rows of the gradient that one rank would compute, bit for bit. Adam
works element by element and the norm adds row by row, so the weights are the same as well.

`train.reduction: fast` leaves the reduction to the backend, once for each step. Fewer bytes travel,
and the bits depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.fsdp._fully_shard._fsdp_api import ReduceScatter
from torch.distributed.tensor import DTensor, Shard

from sevenfold.model.kernels import operators
from sevenfold.model.transformer import Block, Transformer
from sevenfold.train.distributed.ranks import Ranks


@dataclass(kw_only=True)
class Round:
    """The micro-batches in computation: how many of them count, and whether they begin a step."""

    n_counted: int = 1
    is_first: bool = True


class OrderedSum(ReduceScatter):
    """The reduction of one FSDP2 group of parameters: the sums of the step so far plus the
    gradients of this round in order.
    """

    def __init__(self, current: Round) -> None:
        self.current = current
        self.total: Tensor | None = None

    def allocate(
        self, size: Sequence[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Return new memory."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        op: object = None,  # noqa: ARG002  (the signature of PyTorch)
        async_op: bool = False,  # noqa: ARG002  (as above)
    ) -> None:
        """Reduce `input` [size * n], the gradient of this rank cut by owner, to `output` [n], the
        sum of the rows held here.
        """
        received = torch.empty_like(input_tensor)
        dist.all_to_all_single(received, input_tensor, group=group)
        parts = received.view(dist.get_world_size(group), -1)[: self.current.n_counted]
        before = None if self.current.is_first else self.total
        if before is None:
            output_tensor.copy_(parts[0])
            parts = parts[1:]
        else:
            output_tensor.copy_(before)
        for part in parts:
            if operators.is_taken(output_tensor):
                operators.add(output_tensor, part, output_tensor)
            else:
                output_tensor.add_(part)
        # FSDP2 makes the gradient a view of this, and the next reduction adds to it.
        self.total = output_tensor


class ModelShards:
    """The layout of one model over the ranks. A single rank holds the whole model."""

    def __init__(self, model: Transformer, ranks: Ranks, reduction: str) -> None:
        self.ranks, self.model = ranks, model
        self.ordered = reduction == "ordered"
        self.round = Round()
        self.groups: list[FSDPModule] = []
        if ranks.is_alone:
            model.to(ranks.device)
            return
        for block in [module for module in model.modules() if isinstance(module, Block)]:
            self.groups.append(fully_shard(block, mesh=ranks.mesh))
        # The head reads the tied embedding after the last layer, so the weights of the root stay
        # until backward is done.
        self.groups.append(fully_shard(model, mesh=ranks.mesh, reshard_after_forward=False))
        register_fsdp_forward_method(model, "hidden")
        register_fsdp_forward_method(model, "states")
        for group in self.groups:
            # Losses are divided by the tokens of the whole step, so gradients
            # are added and not averaged.
            group.set_gradient_divide_factor(1.0)
            group.set_force_sum_reduction_for_comms(True)
            if self.ordered:
                group.set_custom_reduce_scatter(OrderedSum(self.round))

    def begin_round(self, number: int, n_counted: int, is_last: bool) -> None:
        """Prepare for the forward pass of a round."""
        if self.ranks.is_alone:
            return
        self.round.n_counted, self.round.is_first = n_counted, number == 0
        if self.ordered:
            for parameter in self.model.parameters():
                # `OrderedSum` holds the gradient.
                parameter.grad = None
        else:
            # The group of the root comes last and controls all others.
            self.groups[-1].set_requires_gradient_sync(is_last)

    def put(self, parameter: Tensor, value: Tensor) -> None:
        """Set the rows of this rank of a parameter from the whole value."""
        own = local(parameter)
        own.copy_(value if own is parameter else value[self.ranks.rows(value.shape[0])])


def local(tensor: Tensor) -> Tensor:
    """Return the rows of this rank."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gradient(parameter: Tensor) -> Tensor:
    """Return the rows of this rank of the gradient of a parameter. Raises ValueError when it has
    none.
    """
    if parameter.grad is None:
        raise ValueError("a parameter without a gradient")
    return local(parameter.grad)


def whole(tensor: Tensor) -> Tensor:
    """Return all rows on every rank; a collective of all ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(parameter: Tensor, rows: Tensor) -> Tensor:
    """Return this rank's rows of a tensor of the parameter's shape, laid out as the parameter is; a
    scalar as it is.
    """
    rows = rows.to(parameter.device)
    if rows.dim() == 0 or not isinstance(parameter, DTensor):
        return rows
    return DTensor.from_local(
        rows,
        parameter.device_mesh,
        [Shard(0)],
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def _squares(rows: Tensor) -> Tensor:
    if operators.is_taken(rows):
        return operators.row_squares(rows.contiguous())
    return rows.square().flatten(1).sum(1) if rows.dim() > 1 else rows.square()


def row_squares(parameters: Sequence[nn.Parameter], ranks: Ranks) -> Tensor:
    """Return the sum of squares of each row of each gradient (of each element of a vector), in the
    order of parameters and rows.
    """
    lengths = [parameter.shape[0] for parameter in parameters]
    squares = torch.zeros(sum(lengths), device=ranks.device)
    start = 0
    for parameter, length in zip(parameters, lengths, strict=True):
        own = gradient(parameter)
        rows = ranks.rows(length)
        squares[start + rows.start : start + rows.stop] = _squares(own)
        start += length
    return ranks.all_reduce_sum(squares)
