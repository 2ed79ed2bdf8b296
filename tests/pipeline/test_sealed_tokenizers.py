"""A sealed file whose vocabulary SentencePiece learnt: the DICT lane carries it, and the file
alone tokenises, runs and leaves.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sevenfold import pipeline
from sevenfold.core.errors import StorageError
from sevenfold.core.process.log import Silent
from sevenfold.engine.session import Model
from sevenfold.export.run import Request, export
from sevenfold.runs.job import Job

SPECIALS = {
    "sentencepiece_unigram": ("<bos>", "<eos>", "<pad>", "<scratchpad>"),
    "sentencepiece_bpe": ("<unk>", "<s>", "</s>"),
}


@pytest.fixture(scope="module", params=SPECIALS)
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, make_job: Callable[..., Job]
) -> Job:
    chosen = {"algo": request.param, "special_tokens": SPECIALS[request.param], "preserve": ("::", "->")}
    job = make_job(tmp_path_factory.mktemp("sealed") / "run", tokenizer=chosen)
    pipeline.make(job)
    return job


def test_the_file_alone_tokenises_and_runs(run: Job, tmp_path: Path) -> None:
    file = tmp_path / "alone.s7l"
    shutil.copy(run.out / "model.s7l", file)
    made = (run.directory("tokenizer") / "tokenizer.json").read_bytes()
    model = Model.open(file)
    names = model.tokenizer.special_tokens
    assert names == SPECIALS[run.recipe.tokenizer.algo]
    assert names[model.tokenizer.eot_id] in ("<bos>", "<s>")
    assert json.loads(made)["model"]["type"] == (
        "Unigram" if "unigram" in run.recipe.tokenizer.algo else "BPE"
    )
    text = "fn f() -> u8 { a::b }\n\U0001f40d \u2581"
    assert model.tokenizer.decode(model.tokenizer.encode(text)) == text
    command = [sys.executable, "-m", "sevenfold.cli", "run", str(file), "def f(", "--max-tokens", "8"]
    first, second = (
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout for _ in range(2)
    )
    assert first == second
    assert first


def test_it_leaves_for_hugging_face_with_its_own_names(run: Job, tmp_path: Path) -> None:
    export(run.out / "model.s7l", tmp_path / "hf", Request(target="hf", proven=False), Silent())
    said = json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())
    begin = "<bos>" if "unigram" in run.recipe.tokenizer.algo else "<s>"
    assert (said["bos_token"], said["eos_token"]) == (begin, begin)
    assert said.get("pad_token") == ("<pad>" if "unigram" in run.recipe.tokenizer.algo else None)
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    ours = Model.open(run.out / "model.s7l").tokenizer
    for text in ("def f(x):\n    return x :: y", f"a{begin}b"):
        assert theirs(text)["input_ids"] == [ours.eot_id, *ours.encode(text)]
    with pytest.raises(StorageError, match="no other runtime reads in the same way"):
        export(run.out / "model.s7l", tmp_path / "gguf", Request(target="gguf"), Silent())
