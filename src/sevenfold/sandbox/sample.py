"""Define a sample, then answer calls of its functions, one frame for each call.

This program runs confined in a process tree of its own and never sees the tests. Its answers are
values of its own functions and nothing else. A forged frame is a wrong value and cannot be a verdict.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

sys.path.insert(0, "/box")
import wire  # type: ignore[import-not-found]  # it lies beside this file in the sandbox


def main() -> None:
    """Serve calls until the judge is done."""
    # The output of the sample is discarded, and its input is empty.
    requests, replies = os.dup(0), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), io.StringIO(), io.StringIO()
    kept: list[object] = []

    def keep(value: object) -> int:
        kept.append(value)
        return len(kept) - 1

    names: dict[str, Any] = {"__name__": "sample"}
    source = wire.read_frame(requests)["source"]
    try:
        exec(compile(source, "sample", "exec"), names)
    except BaseException as error:
        wire.write_frame(replies, {"raised": type(error).__name__})
        return
    wire.write_frame(replies, {"names": sorted(name for name in names if isinstance(name, str))[:1000]})
    while (request := wire.read_frame(requests)) is not None:
        try:
            if "set" in request:
                value = wire.unpack(request["value"], lambda number, _: kept[number])
                setattr(kept[request["set"]], request["name"], value)
                wire.write_frame(replies, {"value": ["n"]})
                continue
            if "get" in request:
                value = getattr(kept[request["get"]], request["name"])
                wire.write_frame(replies, {"value": wire.pack(value, keep)})
                continue
            arguments = [wire.unpack(value, lambda number, _: kept[number]) for value in request["arguments"]]
            named = {
                key: wire.unpack(value, lambda number, _: kept[number]) for key, value in request["named"]
            }
            reply = {"value": wire.pack(names[request["call"]](*arguments, **named), keep)}
        except BaseException as error:
            reply = {"raised": type(error).__name__}
        wire.write_frame(replies, reply)


if __name__ == "__main__":
    main()
