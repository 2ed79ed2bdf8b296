"""llama.cpp opens the GGUF of the model that ships, and of a run: the same ids and the same greedy
text as ours.

It asks the wheel `xllamacpp` of interop/requirements.txt alone, in an environment of its own:
`S7_INTEROP=DIRECTORY`, whose bin/python has it. The whole harness is in test_export_runtimes.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sevenfold.core.process.log import Silent
from sevenfold.engine.session import Model, prompt_ids
from sevenfold.export.proof import parity_corpus, runtimes
from sevenfold.export.proof.parity import FloatReference
from sevenfold.export.run import Request, export
from sevenfold.export.source import ExportSource, open_source

pytestmark = pytest.mark.slow
SHIPPED = Path(__file__).parents[2] / "models" / "sevenfold_models" / "demo-1m.s7l"
PROMPTS = (
    "    def __repr__(self):\n        return ",
    "def add(a, b):\n",
    "import ",
    "class A:\n    ",
    "x = ",
)
STEPS = 24


@pytest.fixture(scope="module")
def llama() -> Iterator[runtimes.Process]:
    """llama.cpp, in a process of its own."""
    home = runtimes.interop_home()
    if home is None:
        pytest.skip("no environment for llama.cpp: `make interop`, or S7_INTEROP=DIRECTORY with its wheel")
    asked = subprocess.run(
        [home / "bin" / "python", "-c", "import numpy, xllamacpp"], capture_output=True, check=False
    )
    if asked.returncode:
        pytest.skip(f"{home} has no xllamacpp: pip install -r interop/requirements.txt there")
    with runtimes.llama_cpp() as process:
        assert process is not None
        yield process


def greedy(source: ExportSource, ids: list[int], steps: int) -> list[int]:
    """Return the most likely tokens of the float model."""
    model, made = FloatReference(source.spec, source.read), list(ids)
    for _ in range(steps):
        made.append(int(np.argmax(model.logits(made)[-1])))
    return made[len(ids) :]


def compare(source: ExportSource, gguf: Path, llama: runtimes.Process) -> list[list[int]]:
    """Assert equal ids and greedy tokens. Return the tokens by prompt."""
    tokenizer = source.vocabulary()
    llama.open(gguf, source.spec.context)
    texts = [*PROMPTS, *parity_corpus.library_lines()[:2000]]
    assert llama.tokenize(texts) == tokenizer.encode_batch(texts)
    found = []
    for prompt in PROMPTS:
        ids = prompt_ids(tokenizer, prompt)
        steps = min(STEPS, source.spec.context - len(ids))
        found.append(llama.greedy(ids, steps))
        assert found[-1] == greedy(source, ids, steps), prompt
    return found


def test_the_model_that_ships_answers_the_same_in_llama_cpp(tmp_path: Path, llama: runtimes.Process) -> None:
    gguf = tmp_path / "demo.gguf"
    export(SHIPPED, gguf, Request(target="gguf", proven=False), Silent())
    source = open_source(SHIPPED)
    found = compare(source, gguf, llama)
    # The text is that of `s7 run`, which computes with integers: here, for most prompts.
    model, n_equal = Model.open(SHIPPED), 0
    for prompt, tokens in zip(PROMPTS, found, strict=True):
        with model.session(prompt) as session:
            text = "".join(session.generate(STEPS))
        n_equal += source.vocabulary().decode(tokens).startswith(text[:20])
    assert n_equal >= len(PROMPTS) // 2


@pytest.mark.parametrize("quant", ["f32", "q8_0"])
def test_a_run_that_can_be_exported_answers_the_same_in_llama_cpp(
    llama_run: Path, tmp_path: Path, llama: runtimes.Process, quant: str
) -> None:
    gguf = tmp_path / "run.gguf"
    export(llama_run, gguf, Request(target="gguf", quant=quant, proven=False), Silent())
    source = open_source(llama_run)
    if quant == "f32":
        compare(source, gguf, llama)
    else:
        llama.open(gguf, source.spec.context)
        assert llama.tokenize([*PROMPTS]) == source.vocabulary().encode_batch([*PROMPTS])


def test_another_weight_gives_other_text(llama_run: Path, tmp_path: Path, llama: runtimes.Process) -> None:
    """Canary: what is compared depends on the weights."""
    gguf = tmp_path / "run.gguf"
    export(llama_run, gguf, Request(target="gguf", proven=False), Silent())
    source = open_source(llama_run)
    other = ExportSource(
        path=source.path, spec=source.spec, tokenizer=source.tokenizer, provenance=source.provenance,
        read=lambda name: -source.read(name) if name == "embedding.weight" else source.read(name),
    )  # fmt: skip
    with pytest.raises(AssertionError):
        compare(other, gguf, llama)
