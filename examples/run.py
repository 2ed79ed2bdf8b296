"""Open a sealed model, verify it, and complete a prompt.

python examples/run.py out/demo/model.s7l "def add(a, b):"
"""

from __future__ import annotations

import sys

import sevenfold


def main(path: str, prompt: str, max_tokens: int = 40) -> None:
    """Print the prompt and the model's greedy completion."""
    # Every hash, every rule and the golden logits are checked before `open` returns.
    model = sevenfold.Model.open(path)
    with model.session(prompt, max_tokens=max_tokens) as session:
        print(prompt, end="", flush=True)
        for piece in session.generate(max_tokens):
            print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} MODEL PROMPT")
    try:
        main(sys.argv[1], sys.argv[2])
    except sevenfold.SevenfoldError as error:
        sys.exit(f"{error}")
