"""Real code through the engine in WebAssembly: every logit of every token is the native engine's.

That one equals the reference (tests/engine/test_native_equal.py).
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from embed_models import seal_input

from sevenfold.artifact import build_contents, write_artifact
from sevenfold.engine.session import Model

# Tokens that one program is given.
BATCH = 100_000


def windows(model: Model, count: int) -> Iterator[list[int]]:
    """Yield ids of the standard library's code, a context at a time, `count` ids in all."""
    held: list[int] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        held += model.tokenizer.encode(path.read_text(encoding="utf-8", errors="ignore"))
        while len(held) >= model.context:
            yield held[: model.context]
            held, count = held[model.context :], count - model.context
            if count <= 0:
                return


@pytest.mark.parametrize("count", [3000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_real_code(count: int, node: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "model.s7l"
    write_artifact(path, build_contents(seal_input("plain")))
    model = Model.open(path, backend="native")
    runs, n_done = [], 0
    for ids in windows(model, count):
        # Cut where no other window is cut.
        cut = 1 + n_done % (len(ids) - 1)
        runs.append({"ids": ids, "cuts": [cut], "n_layers": 0})
        n_done += len(ids)
        if len(runs) * model.context < BATCH and n_done < count:
            continue
        (tmp_path / "runs").write_text(json.dumps(runs))
        node("tools/logits", path, tmp_path / "runs", tmp_path / "lines")
        found = [json.loads(line)[0] for line in (tmp_path / "lines").read_text().splitlines()]
        expected = []
        for run in runs:
            session = model.engine.session()
            logits = session.forward(np.array(run["ids"], np.int64))
            expected.append(hashlib.sha256(logits.astype(">i4").tobytes()).hexdigest())
            session.close()
        assert found == expected
        runs = []
    assert n_done >= count
