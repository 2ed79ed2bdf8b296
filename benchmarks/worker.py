"""One engine, one shape, one thread count, in a process of its own: answers one JSON
line for each line it reads.

    worker.py ENGINE SHAPE THREADS DIRECTORY      ENGINE: sevenfold, llama.cpp, ctranslate2

{"do": "prefill", "prompt": 512, "seed": 3}
    -> {"seconds": ..., "tokens": [the greedy token after it]}
{"do": "decode", "prompt": 16, "steps": 128, "seed": 3}
    -> {"seconds": of the steps alone, "tokens": [...]}
{"do": "batch", "sequences": 8, ...as decode}
    -> the same, for all sequences together (sevenfold only)

The first line that it writes says what runs: {"version": ...} or {"error": why it cannot}. An
engine is a class of an adapter module: (shape, threads, directory), `version`, `prefill(ids)`,
`decode(ids, steps)` -> (seconds, tokens). Run by the Python of the engine's own environment;
standard output is the protocol's, libraries write to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from shapes import SHAPES, prompt

ADAPTERS = {
    "sevenfold": ("adapter_sevenfold", "Sevenfold"),
    "llama.cpp": ("adapter_llama", "LlamaCpp"),
    "ctranslate2": ("adapter_ctranslate2", "CTranslate2"),
}


class UnableError(Exception):
    """This engine cannot do what is asked, and why."""


def answer(engine: Any, shape: Any, request: dict[str, Any]) -> dict[str, Any]:
    """One request."""
    seed, length, steps = request["seed"], request["prompt"], request.get("steps", 0)
    if request["do"] == "prefill":
        seconds, tokens = engine.prefill(prompt(shape, length, seed))
    elif request["do"] == "decode":
        seconds, tokens = engine.decode(prompt(shape, length, seed), steps)
    else:
        prompts = [prompt(shape, length, seed + i) for i in range(request["sequences"])]
        seconds, tokens = engine.batch(prompts, steps)
    return {"seconds": seconds, "tokens": tokens}


def main() -> None:
    """Load, then answer until the input ends."""
    name, shape_name, threads, directory = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=out, flush=True)

    shape = SHAPES[shape_name]
    module, class_name = ADAPTERS[name]
    try:
        engine = getattr(importlib.import_module(module), class_name)(shape, int(threads), Path(directory))
    except (ImportError, UnableError) as error:
        say({"error": str(error)})
        return
    say({"version": engine.version})
    for line in sys.stdin:
        say(answer(engine, shape, json.loads(line)))


if __name__ == "__main__":
    # So that adapters raise this module's UnableError.
    sys.modules["worker"] = sys.modules["__main__"]
    main()
