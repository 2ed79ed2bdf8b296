"""Compare every logit of WebAssembly in Node.js with the native engine's, over many tokens of code.

The text is the Python code of this environment. It is read in windows of the model's context, and
each engine makes a chain of hashes over all logits of all windows (web/test/tools/windows.ts). The
chains are compared after each part, and the last link is kept in STATE: a run that was stopped goes
on there. `make web-build` comes first.

    python scripts/web_tokens.py [--tokens 1000000] [--state build/web/tokens.json]

Ends with 1 where a logit differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sevenfold.engine.session import Model

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "sevenfold_models" / "demo-1m.s7l"
TOOL = ROOT / "build" / "web" / "tests" / "tools" / "windows.mjs"
WINDOWS_OF_A_PART = 40
FIRST_LINK = hashlib.sha256(b"sevenfold/web-tokens/1").hexdigest()


def code(model: Model, n_tokens: int) -> Iterator[int]:
    """Yield the ids of the standard library and of the packages beside it."""
    left = n_tokens
    for folder in dict.fromkeys(sysconfig.get_paths()[name] for name in ("stdlib", "purelib")):
        for path in sorted(Path(folder).rglob("*.py")):
            ids = model.tokenizer.encode(path.read_text(encoding="utf-8", errors="replace"))[:left]
            yield from map(int, ids)
            left -= len(ids)
            if left == 0:
                return


def parts(model: Model, n_tokens: int) -> Iterator[list[int]]:
    """Yield the ids part by part."""
    size = WINDOWS_OF_A_PART * model.weights.shape.context
    part: list[int] = []
    for token in code(model, n_tokens):
        part.append(token)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def native(model: Model, ids: list[int], window: int, link: str) -> str:
    """The chain of the native engine."""
    for at in range(0, len(ids), window):
        session = model.engine.session()
        logits = session.forward(np.array(ids[at : at + window], np.int64), last_only=False)
        session.close()
        link = hashlib.sha256(bytes.fromhex(link) + logits.astype(">i4").tobytes()).hexdigest()
    return link


def in_node(ids: list[int], window: int, link: str, scratch: Path) -> str:
    """The chain of WebAssembly."""
    scratch.write_text(json.dumps(ids))
    command = ["node", TOOL, MODEL, scratch, str(window), link]
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    finally:
        scratch.unlink()


def main() -> None:
    """Go on where the state says, and print each part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "web" / "tokens.json")
    args = parser.parse_args()
    if not TOOL.exists():
        sys.exit(f"{TOOL} is not there: run `make web-build` first")
    model = Model.open(MODEL, backend="native", n_threads=1)
    window = model.weights.shape.context
    state = {"root": model.artifact.root, "n_tokens": 0, "link": FIRST_LINK}
    if args.state.exists():
        state = json.loads(args.state.read_text())
        if state["root"] != model.artifact.root:
            sys.exit(f"{args.state} is of another model ({state['root']}): remove it")
    begin, n_read = time.monotonic(), 0
    for part in parts(model, args.tokens):
        n_read += len(part)
        if n_read <= state["n_tokens"]:
            continue
        link = native(model, part, window, state["link"])
        found = in_node(part, window, state["link"], args.state.with_suffix(".ids"))
        if found != link:
            sys.exit(f"tokens {n_read - len(part)} to {n_read}: {found} instead of {link}")
        state |= {"n_tokens": n_read, "link": link}
        unfinished = args.state.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(state))
        unfinished.replace(args.state)
        print(f"{n_read:,} of {args.tokens:,} tokens equal, {time.monotonic() - begin:.0f} s", flush=True)
    print(f"{state['n_tokens']:,} tokens, every logit equal; last link {state['link']}")


if __name__ == "__main__":
    main()
