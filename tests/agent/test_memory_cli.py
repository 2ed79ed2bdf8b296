"""`s7 memory` as a user meets it: JSON, one line per mistake, exit codes, the rule of M31R."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from memories import commit, write_files
from typer.testing import CliRunner

from sevenfold.agent.memory import policy
from sevenfold.cli.base import app
from sevenfold.core.errors import PolicyError
from sevenfold.core.shipped_models import shipped_models
from sevenfold.runs.job import Job

NO_TORCH = """
import sys
from pathlib import Path
from sevenfold.agent.memory import MemoryQuery, MemorySearch, open_memory
MemorySearch(open_memory(Path(sys.argv[1]))).ask(MemoryQuery(text="x"))
print([name for name in ("torch", "tree_sitter", "pyarrow") if name in sys.modules])
"""


def s7(*words: str | Path, code: int = 0) -> str:
    """Run a verb and return its output; a failure is one line."""
    result = CliRunner().invoke(app, ["memory", *map(str, words)])
    assert result.exit_code == code, result.output
    if code:
        lines = [line for line in result.stderr.splitlines() if line]
        assert len(lines) == 1, result.stderr
        return lines[0]
    return result.stdout


def s7_json(*words: str | Path) -> Any:
    return json.loads(s7(*words, "--json"))


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    source = write_files(folder / "source")
    commit(source)
    added = s7_json("add", folder / "memory", source, "--licence", "Apache-2.0")
    assert added["in"] == added["added"] == 4
    assert len(added["commit"]) == 40
    return folder / "memory"


def test_search_cites_and_proves(memory: Path, tmp_path: Path) -> None:
    question = "Where is `read_table` defined?"
    proof = tmp_path / "proof.json"
    answer = s7_json("search", memory, question, "--text", "--proof", proof)
    hit = answer["hits"][0]
    assert (hit["source"], hit["path"], hit["licence"]) == ("source", "pkg/tables.py", "MIT")
    assert "def read_table" in hit["text"]
    assert answer == s7_json("search", memory, question, "--text", "--root", answer["root"])
    rows = s7_json("check-proof", proof, "--root", answer["root"])
    assert [row["path"] for row in rows["hits"]] == [one["path"] for one in answer["hits"]]
    assert "expected is" in s7("check-proof", proof, "--root", "ab" * 32, code=3)
    assert "pkg/tables.py" in s7("search", memory, question)
    assert "1970" not in s7("search", memory, question, "--since", "2023-01-31", "--until", "2024-01-01")


def test_the_other_verbs(memory: Path) -> None:
    figures = s7_json("stats", memory)
    assert (figures["files"], figures["languages"]["python"]) == (4, 2)
    assert figures["licences"] == {"Apache-2.0": 3, "MIT": 1}
    verified = s7_json("verify", memory, "--root", figures["root"])
    assert verified["vectors"] == figures["vectors"]
    compacted = s7_json("compact", memory)
    assert compacted["left_out"] == 0
    assert compacted["root"] in s7("stats", memory)
    assert "texts" in s7("verify", memory)


def test_mistakes_are_one_line(memory: Path, tmp_path: Path) -> None:
    assert "there is no memory here" in s7("search", tmp_path, "x", code=4)
    assert "no such directory" in s7("add", memory, tmp_path / "none", code=4)
    assert "is expected" in s7("verify", memory, "--root", "00", code=3)
    assert "k is 0" in s7("search", memory, "x", "--k", "0", code=2)
    assert "--since" in s7("search", memory, "x", "--since", "yesterday", code=2)
    (tmp_path / "mine.json").write_text("{}")
    assert "something is there" in s7("search", memory, "x", "--proof", tmp_path / "mine.json", code=4)
    assert "not a proof" in s7("check-proof", tmp_path / "mine.json", "--root", "00", code=3)
    broken = tmp_path / "broken"
    s7("add", broken, write_files(tmp_path / "source"))
    (segment,) = (broken / "segments").iterdir()
    data = bytearray(segment.read_bytes())
    data[-40] ^= 1
    segment.write_bytes(data)
    for verb in (("search", broken, "x"), ("stats", broken), ("verify", broken), ("compact", broken)):
        line = s7(*verb, code=3)
        assert segment.name in line
        assert "does not have its digest" in line


def test_outline(tmp_path: Path) -> None:
    write_files(tmp_path)
    value = s7_json("outline", tmp_path / "pkg" / "tables.py")
    assert value["language"] == "python"
    assert {fact["name"] for fact in value["facts"]} >= {"read_table", "write_table"}
    assert "facts" in s7("outline", tmp_path / "README.md")
    assert "no such file" in s7("outline", tmp_path / "none.py", code=4)


def test_a_model_counts_the_tokens(tmp_path: Path) -> None:
    if "demo-1m" not in shipped_models():
        pytest.skip("no model ships here")
    source = write_files(tmp_path / "source")
    added = s7_json("add", tmp_path / "memory", source, "--model", "demo-1m")
    assert s7_json("stats", tmp_path / "memory")["counter"].startswith("tokenizer:")
    assert added["tokens"] > 0
    s7("search", tmp_path / "memory", "x y", "--model", "demo-1m")
    assert "--model" in s7("compact", tmp_path / "memory", "--relearn", code=2)
    s7("compact", tmp_path / "memory", "--relearn", "--model", "demo-1m")
    assert "tokenizer" in s7("add", tmp_path / "memory", source, code=2)


def test_retrieval_is_refused_for_m31r(memory: Path, dense_run: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    model = dense_run.out / "model.s7l"
    s7("search", memory, "x", "--model", model)
    assert policy.family_of(policy.open_artifact(model)) == "s7"
    sealed = SimpleNamespace(provenance={"identity": {"facts": {"family": "m31r"}}})
    monkeypatch.setattr(policy, "open_artifact", lambda _: sealed)
    for verb in (("search", memory, "x"), ("add", memory, memory.parent / "source")):
        line = s7(*verb, "--model", model, code=2)
        assert "rule D2.retrieval" in line
    with pytest.raises(PolicyError):
        policy.check_family("m31r", "x")
    assert policy.family_of(SimpleNamespace(provenance={"identity": None})) == ""  # type: ignore[arg-type]


@pytest.mark.subprocess
def test_a_search_imports_no_pytorch(memory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, memory], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
