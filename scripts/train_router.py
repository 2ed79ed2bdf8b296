"""Train the router and write the file that ships, `src/sevenfold/agent/router/head.json`.

A test trains it again and compares the bytes.
"""

from __future__ import annotations

from sevenfold.agent.router.head import SHIPPED
from sevenfold.agent.router.suite import actions, examples
from sevenfold.agent.router.train import TRAIN_FILLINGS, train_head
from sevenfold.core.files import write_json

if __name__ == "__main__":
    head = train_head(examples(held_out=False, n=TRAIN_FILLINGS), actions())
    write_json(SHIPPED, head.as_json())
    print(f"wrote {SHIPPED}")
