"""Run the tests of a graded task and decide the verdict.

This program runs confined in a process tree of its own. The functions of the sample are stand-ins
here: a call goes to the process of the sample as a frame, and a value comes back. So the tests, their
asserts and the verdict are in a process that never held a line of the sample.
"""

from __future__ import annotations

import builtins
import os
import sys
from typing import Any

sys.path.insert(0, "/box")
import wire  # type: ignore[import-not-found]  # it lies beside this file in the sandbox

MAX_REASON = 200
# Where frames are written.
REPLIES: list[int] = []


class SampleGone(BaseException):
    """Raised when the process of the sample has ended. No `except Exception` of a test catches it."""


class Remote(wire.OpaqueReference):  # type: ignore[misc]  # its base lies beside this file
    """An object of the sample. A test reads and sets its attributes in the process of the sample."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            # The special attributes that Python looks for do not exist here.
            raise AttributeError(name)
        return ask({"get": self.number, "name": name})

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("number", "kind"):
            object.__setattr__(self, name, value)
        else:
            ask({"set": self.number, "name": name, "value": wire.pack(value, number_of)})


class StandIn:
    """A function of the sample. A call runs in the process of the sample."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *arguments: object, **named: object) -> object:
        packed = [wire.pack(value, number_of) for value in arguments]
        pairs = [[key, wire.pack(value, number_of)] for key, value in named.items()]
        return ask({"call": self._name, "arguments": packed, "named": pairs})


def number_of(value: object) -> int:
    """Return the number of an object of the sample. Raises TypeError for another object."""
    if isinstance(value, wire.OpaqueReference):
        return int(value.number)
    raise TypeError(f"a test gave a {type(value).__name__}")


def ask(request: dict[str, Any]) -> object:
    """Return the sample's answer, or raise what the sample raised. Raises SampleGone."""
    wire.write_frame(REPLIES[0], request)
    reply = wire.read_frame(0)
    if reply is None:
        raise SampleGone("gone")
    if "raised" in reply:
        kind = getattr(builtins, str(reply["raised"]), RuntimeError)
        is_error = isinstance(kind, type) and issubclass(kind, Exception)
        raise (kind if is_error else RuntimeError)("raised by the sample")
    return wire.unpack(reply["value"], Remote)


def verdict_of(task: dict[str, Any]) -> dict[str, str]:
    """Run the tests of a task. Return the verdict and its reason.

    The prelude, which is the code of the task itself, is executed first. Then each function of the
    sample that the tests name is replaced by a stand-in, and the tests run.
    """
    names: dict[str, Any] = {"__name__": "judge"}
    try:
        exec(compile(task["prelude"], "prelude", "exec"), names)
    except BaseException as error:
        return {"verdict": "none", "reason": f"the task's own text raised {type(error).__name__}"}
    try:
        began = wire.read_frame(0)
        if began is None or "names" not in began:
            raised = "gone" if began is None else str(began["raised"])
            return {"verdict": "fail", "reason": f"import: {raised}"[:MAX_REASON]}
        for name in task["functions"]:
            if name in began["names"]:
                names[name] = StandIn(name)
            elif name not in names:
                return {"verdict": "fail", "reason": f"missing: {name}"[:MAX_REASON]}
        exec(compile(task["tests"], "tests", "exec"), names)
        if task["check"]:
            names["check"](names[task["check"]])
    except BaseException as error:
        return {"verdict": "fail", "reason": type(error).__name__[:MAX_REASON]}
    return {"verdict": "pass", "reason": ""}


def main() -> None:
    """Judge one task. Its frame comes first, then those of the sample."""
    REPLIES.append(os.dup(1))
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    task = wire.read_frame(0)
    wire.write_frame(REPLIES[0], verdict_of(task))


if __name__ == "__main__":
    main()
