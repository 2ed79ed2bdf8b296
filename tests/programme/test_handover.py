"""The handover pack: the same bytes twice, every bit counted, checked by the base install alone."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from command_line import refusal, s7
from sevenfold.artifact import read_artifact
from sevenfold.core.errors import ArtifactError, StorageError
from sevenfold.programme import handover
from sevenfold.programme.handover import check_handover, write_handover
from sevenfold.programme.items import packed_items, result_of
from sevenfold.programme.pack import MANIFEST_NAME, PackError, file_rows, read_pack, write_pack

# What a clean machine does not have.
BLOCKED = ("torch", "pyarrow", "duckdb", "license_expression", "pyseccomp", "tree_sitter", "matplotlib")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory, dense_run: Any) -> Path:
    path = tmp_path_factory.mktemp("pack") / "pack.zip"
    write_handover(read_artifact(dense_run.out / "model.s7l"), path)
    return path


def test_the_same_model_gives_the_same_bytes(pack: Path, shipped: Path, tmp_path: Path) -> None:
    write_handover(read_artifact(shipped), tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == pack.read_bytes()
    with zipfile.ZipFile(pack) as opened:
        assert {row.date_time for row in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert opened.testzip() is None


def test_a_pack_holds_what_its_readme_says(pack: Path) -> None:
    manifest, files = read_pack(pack)
    assert manifest["files"] == file_rows(files)
    name = manifest["name"]
    wanted = {
        "README.md", f"model/{name}.s7l", f"model/{name}/{name}.card.md", f"model/{name}/safety-report.md",
        "serving/alerts.yaml", "serving/s7-serve.service", "evaluation/items.json", "evaluation/cards.toml",
        "memory/bootstrap.json", "data/recipe.json", "data/ledger.json", "risks/models.yaml",
    }  # fmt: skip
    assert wanted <= files.keys()
    assert manifest["model"]["root"] in files["README.md"].decode()
    assert {"card": "bpb-stdlib", "why": "its items follow from the machine that makes them"} in manifest[
        "items_left_out"
    ]


def test_a_clean_machine_checks_it(pack: Path) -> None:
    code = (
        f"import sys\nfor name in {BLOCKED!r}: sys.modules[name] = None\n"
        "from sevenfold.programme.handover import check_handover\n"
        "from pathlib import Path\nimport json\n"
        "print(json.dumps(check_handover(Path(sys.argv[1]))))"
    )
    done = subprocess.run([sys.executable, "-c", code, pack], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["items"]
    assert "golden" in found["self_test"]


def test_every_bit_counts(pack: Path, tmp_path: Path) -> None:
    data, changed = pack.read_bytes(), tmp_path / "changed.zip"
    ends = [data.rfind(b"PK\x01\x02"), data.rfind(b"PK\x05\x06")]
    places = {*range(0, 64), *(end + i for end in ends for i in range(22)), *range(64, len(data), 9973)}
    for place in sorted(places):
        one = bytearray(data)
        one[place] ^= 1 << place % 8
        changed.write_bytes(one)
        with pytest.raises(PackError):
            read_pack(changed)
    for cut in (0, 1, 100, len(data) // 2, len(data) - 1):
        changed.write_bytes(data[:cut])
        with pytest.raises(PackError):
            read_pack(changed)
    changed.write_bytes(data + b"\0")
    with pytest.raises(PackError):
        read_pack(changed)


def rewritten(pack: Path, out: Path, path: str, data: bytes | None) -> Path:
    """Write a pack with one other file, its manifest made to agree."""
    manifest, files = read_pack(pack)
    files = {name: value for name, value in files.items() if name != path}
    files |= {} if data is None else {path: data}
    write_pack(out, manifest | {"files": file_rows(files)}, files)
    return out


def test_an_item_with_another_result_is_found(pack: Path, tmp_path: Path) -> None:
    items = json.loads(read_pack(pack)[1]["evaluation/items.json"])
    for kind, change in (
        ("generate", lambda row: row["result"]["ids"].append(1)),
        ("generate", lambda row: row.pop("stops")),
        ("generate", lambda row: row["item"].update(prompt=7)),
    ):
        rows = json.loads(json.dumps(items))
        changes = [row for row in rows if row["kind"] == kind]
        change(changes[0])
        out = rewritten(pack, tmp_path / "other.zip", "evaluation/items.json", json.dumps(rows).encode())
        with pytest.raises(ArtifactError):
            check_handover(out)


def test_a_pack_without_model_or_items_is_refused(pack: Path, tmp_path: Path) -> None:
    name = read_pack(pack)[0]["model"]["path"]
    for path, data in ((name, None), ("evaluation/items.json", None), ("evaluation/items.json", b"[")):
        with pytest.raises(PackError):
            check_handover(rewritten(pack, tmp_path / "other.zip", path, data))
    model = bytearray(read_pack(pack)[1][name])
    model[-1] ^= 1
    with pytest.raises(ArtifactError):
        check_handover(rewritten(pack, tmp_path / "other.zip", name, bytes(model)))


def test_names_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    for name in ("../up", "/root", "a//b", "a/../b", ".hidden", "a\\b"):
        files = {name: b"x"}
        write_pack(tmp_path / "p.zip", {"handover": 1, "files": file_rows(files)}, files)
        with pytest.raises(PackError, match="cannot have"):
            read_pack(tmp_path / "p.zip")


def test_items_follow_from_the_model(pack: Path, shipped: Path) -> None:
    from sevenfold.engine.session import Model
    from sevenfold.evals.decoding.decoder import EvaluationDecoder

    decoder = EvaluationDecoder(Model.open(shipped, backend="reference"))
    items, missing = packed_items(decoder, None, None)
    assert items == json.loads(read_pack(pack)[1]["evaluation/items.json"])
    assert all(row["why"] for row in missing)
    assert result_of(decoder, items[0]) == items[0]["result"]


def test_what_was_not_written_here_is_not_replaced(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_bytes(b"PK mine")
    with pytest.raises(StorageError, match="no handover pack"):
        write_handover(read_artifact(shipped), tmp_path / "mine.zip")
    assert (tmp_path / "mine.zip").read_bytes() == b"PK mine"


def test_the_deployment_files_of_a_checkout_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (handover.deploy_directory() / "alerts.yaml").is_file()
    monkeypatch.setattr(handover, "package_files", lambda _: Path("/nowhere"))
    assert (handover.deploy_directory() / "alerts.yaml").is_file()


@pytest.mark.subprocess
def test_exit_codes(pack: Path, shipped: Path, tmp_path: Path) -> None:
    done = s7("handover", "--check", pack)
    assert done.returncode == 0, done.stderr
    assert "bit for bit" in done.stdout
    (tmp_path / "cut.zip").write_bytes(pack.read_bytes()[:-5])
    refusal(3, "handover", "--check", tmp_path / "cut.zip")
    refusal(4, "handover", "--check", tmp_path / "nothing.zip")
    refusal(2, "handover")
    refusal(2, "handover", shipped)
    refusal(2, "handover", shipped, "--check", pack)
    assert MANIFEST_NAME.encode() == pack.read_bytes()[30 : 30 + len(MANIFEST_NAME)]
