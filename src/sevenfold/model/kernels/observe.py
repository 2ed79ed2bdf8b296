"""A hook in the operators of the training law: it reports the inputs and outputs of each call.

An audit that searches the operator in which two runs first differ sets an observer during a step.
Without an observer, a call costs one comparison more.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(kw_only=True)
class OperatorCall:
    """One call. `settings` are its numbers. `outputs` is set when the call has ended."""

    operator: str
    settings: Mapping[str, object]
    inputs: Mapping[str, Tensor]
    outputs: dict[str, Tensor | float] = field(default_factory=dict)


class Observer(Protocol):
    """An object that receives each call, in order."""

    def begin(self, call: OperatorCall) -> None:
        """Record the inputs before an operator overwrites them."""

    def end(self, call: OperatorCall) -> None:
        """Record the outputs."""


@dataclass
class _Watch:
    observer: Observer | None = None


_WATCH = _Watch()


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Report each operator that this process computes inside the block to the observer."""
    before, _WATCH.observer = _WATCH.observer, observer
    try:
        yield
    finally:
        _WATCH.observer = before


def note(operator: str, outputs: Mapping[str, Tensor], **settings: object) -> None:
    """Report a value that is read and not computed."""
    if _WATCH.observer is not None:
        call = OperatorCall(operator=operator, settings=settings, inputs={}, outputs=dict(outputs))
        _WATCH.observer.begin(call)
        _WATCH.observer.end(call)


def observed(
    *, out: tuple[str, ...] = (), changed: tuple[str, ...] = (), unless: str = ""
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for an operator.

    Args:
        out: arguments that it only writes.
        changed: arguments that it reads and writes.
        unless: a flag of the call; when it is true, the arguments of `out` are read as well.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            observer = _WATCH.observer
            if observer is None:
                return function(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            written = () if unless and bound.arguments[unless] else out
            given = {n: v for n, v in bound.arguments.items() if n not in written}
            call = OperatorCall(
                operator=function.__name__,
                settings={n: v for n, v in given.items() if not isinstance(v, Tensor) and n not in out},
                inputs={n: v for n, v in given.items() if isinstance(v, Tensor)},
            )
            observer.begin(call)
            result = function(*args, **kwargs)
            call.outputs |= _named(result)
            named = {name: bound.arguments[name] for name in (*changed, *out)}
            call.outputs |= {n: v for n, v in named.items() if isinstance(v, Tensor) and v is not result}
            observer.end(call)
            return result

        return wrapper

    return decorate


def _named(result: Any) -> dict[str, Tensor | float]:
    """Return the tensors and numbers of a result, named by their position."""
    items = result if isinstance(result, tuple | list) else (result,)
    return {f"result.{i}": v for i, v in enumerate(items) if isinstance(v, Tensor | float)}
