"""Release documents: from the sealed file alone, the same bytes each time, valid, equal to the ledger,
and total over hostile files.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import ComponentType
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold import pipeline
from sevenfold.artifact import Artifact, header_only, read_artifact
from sevenfold.core.documents import read_rows
from sevenfold.core.errors import ArtifactError
from sevenfold.core.hashing import Json, sha256_file
from sevenfold.corpus.ledger import LEDGER_COLUMNS
from sevenfold.release.documents import write_from_lineage, write_release_documents
from sevenfold.release.lineage import lineage
from sevenfold.runs.job import Job

ENDINGS = ("card.md", "cdx.json", "hub.json", "notice.txt", "spdx.json", "training.md")
NAMES = [f"model.{ending}" for ending in ENDINGS]
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUE = st.recursive(
    LEAF,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3),
    max_leaves=6,
)


def write(artifact: Artifact, directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in write_release_documents(artifact, directory)}


def require_valid(bom: bytes) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom.decode()) is None


@dataclass(frozen=True)
class Told:
    """A lineage as JSON, out of sight of what prints arguments."""

    text: str = field(repr=False)

    def again(self) -> dict[str, Any]:
        return json.loads(self.text)


@pytest.fixture(scope="module")
def told(artifact: Artifact) -> Told:
    value = lineage(artifact)
    value["seal"]["sha256"] = "0" * 64
    return Told(json.dumps(value))


@pytest.fixture(scope="module")
def artifact(dense_run: Job) -> Artifact:
    return read_artifact(dense_run.out / "model.s7l")


def test_from_the_file_alone_the_same_bytes_each_time(artifact: Artifact, tmp_path: Path) -> None:
    first = write(artifact, tmp_path / "a")
    assert sorted(first) == NAMES
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.s7l").write_bytes(artifact.path.read_bytes())
    assert write(read_artifact(tmp_path / "elsewhere" / "model.s7l"), tmp_path / "b") == first
    assert str(tmp_path).encode() not in b"".join(first.values())
    assert not re.search(rb"20\d\d-\d\d-\d\d", b"".join(first.values()))  # no clock
    assert all(data.isascii() for data in first.values())


def test_the_bill_is_valid_and_the_library_reads_it(finished_run: Job, tmp_path: Path) -> None:
    sealed = read_artifact(finished_run.out / "model.s7l")
    raw = write(sealed, tmp_path)["model.cdx.json"]
    require_valid(raw)
    bom = Bom.from_json(json.loads(raw))
    model = bom.metadata.component
    assert model is not None
    assert (model.type, model.name) == (ComponentType.MACHINE_LEARNING_MODEL, finished_run.recipe.name)
    assert [h.content for h in model.hashes] == [sha256_file(sealed.path)]
    assert [(c.type, c.name) for c in bom.components] == [(ComponentType.DATA, "directory:code")]
    value = json.loads(raw)
    card = value["metadata"]["component"]["modelCard"]
    refs = [component["bom-ref"] for component in value["components"]]
    assert [row["ref"] for row in card["modelParameters"]["datasets"]] == refs
    figures = {row["type"]: row["value"] for row in card["quantitativeAnalysis"]["performanceMetrics"]}
    quality = finished_run.manifest("quantize").facts
    assert figures["bits per byte, INT8"] == repr(quality["bpb_int"])
    assert figures["greedy agreement of INT8 with FP32"] == repr(quality["top1_agreement"])
    kind = "moe" if finished_run.recipe.model.moe else "dense"
    assert kind in card["modelParameters"]["modelArchitecture"]


def test_a_bill_that_is_damaged_is_found_by_the_validator(artifact: Artifact, tmp_path: Path) -> None:
    value = json.loads(write(artifact, tmp_path)["model.cdx.json"])
    value["metadata"]["component"]["modelCard"]["task"] = "misplaced"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(value)) is not None


def test_counts_are_those_of_the_ledger(dense_run: Job, artifact: Artifact, tmp_path: Path) -> None:
    kept: Counter[tuple[str, str]] = Counter()
    n_bytes: Counter[tuple[str, str]] = Counter()
    for row in read_rows(dense_run.directory("corpus") / "ledger.parquet", LEDGER_COLUMNS):
        fields = dict(zip(LEDGER_COLUMNS, row, strict=True))
        key = (fields["licence"], fields["split"])
        kept[key] += 1
        n_bytes[key] += fields["n_bytes"]
    text = write(artifact, tmp_path)["model.notice.txt"].decode()
    assert text.count("SPDX-License-Identifier: PSF-2.0\n") == 1
    for split, title in (("train", "Trained on"), ("heldout", "Held out")):
        key = ("PSF-2.0", split)
        assert f"{title}: {kept[key]:,} documents, {n_bytes[key]:,} bytes\n" in text


def test_a_source_that_gave_nothing_is_on_the_card_and_in_no_bill(
    make_job: Callable[..., Job], code_dir: Path, tmp_path: Path
) -> None:
    source = {"kind": "directory", "path": "code", "licence": "PSF-2.0", "include": ("*.py",)}
    refused = source | {"licence": "GPL-3.0-only", "include": ("c*.py",)}
    job = make_job(tmp_path / "run", corpus={"sources": (source, refused)}, train={"tokens": 4 * 4 * 64})
    job = replace(job, recipe=job.recipe.model_copy(update={"quantize": job.recipe.quantize.model_copy(
        update={"max_bpb_increase": 9.0})}))  # fmt: skip
    pipeline.make(job)
    found = write(read_artifact(job.out / "model.s7l"), tmp_path)
    assert b"GPL-3.0-only" in found["model.card.md"]
    assert b"GPL-3.0-only" not in found["model.notice.txt"]
    assert [c["licenses"] for c in json.loads(found["model.cdx.json"])["components"]] == [
        [{"expression": "PSF-2.0"}]
    ]


def test_the_card_says_root_data_scores_and_how_to_check(artifact: Artifact, tmp_path: Path) -> None:
    card = write(artifact, tmp_path)["model.card.md"].decode()
    for section in ("The file", "The model", "Data", "Training", "Measured", "Limits", "How to check it"):
        assert f"\n## {section}\n" in card
    assert card.count(artifact.root) == 2
    assert sha256_file(artifact.path) in card
    assert f"{lineage(artifact)['training']['heldout_bpb']:.4g}" in card
    assert "s7 verify model.s7l --replay" in card


def test_a_hostile_name_stays_text(told: Told, tmp_path: Path) -> None:
    value = told.again()
    value["recipe"]["name"] = "x](http://e.org) <script>|\n# y\x1b[31m `"
    value["sources"][0]["source"] = "a\nSPDX-License-Identifier: CC0-1.0 | b"
    paths = write_from_lineage(tmp_path, "model", value)
    texts = {path.name.partition(".")[2]: path.read_bytes().decode() for path in paths}
    card, bom, notice = texts["card.md"], texts["cdx.json"], texts["notice.txt"]
    assert "<script>" not in texts["training.md"]
    assert "\x1b" not in "".join(texts.values())
    assert "<script>" not in card
    assert "\\](http" in card  # a bracket that was made text
    assert re.findall(r"^# .*", card, re.M) == [card.splitlines()[0]]
    assert re.findall(r"^SPDX-License-Identifier: .*", notice, re.M) == ["SPDX-License-Identifier: PSF-2.0"]
    require_valid(bom.encode())


PARTS = ("sources", "corpus.root", "corpus.licences", "recipe.summary", "recipe.name", "recipe.seed",
    "recipe.code_version",
         "model", "tools", "training.n_tokens", "training.heldout_bpb", "quantisation.figures",
         "tokenizer.digest")  # fmt: skip


@settings(max_examples=100)
@given(
    part=st.sampled_from(PARTS),
    odd=VALUE | st.lists(st.fixed_dictionaries({"train": VALUE, "licence": LEAF})),
)
def test_release_documents_are_total_over_what_a_file_may_say(
    part: str, odd: Json, told: Told, tmp_path_factory: pytest.TempPathFactory
) -> None:
    value = told.again()
    section, _, key = part.partition(".")
    if not key:
        value[section] = odd if section != "sources" or isinstance(odd, list) else [odd]
    elif key == "licences":
        value[section][key] = odd if isinstance(odd, list) else [odd]
    else:
        value[section][key] = odd
    directory = tmp_path_factory.mktemp("documents")
    paths = {path.name: path for path in write_from_lineage(directory, "model", value)}
    require_valid(paths["model.cdx.json"].read_bytes())
    for name in ("model.spdx.json", "model.hub.json"):
        json.loads(paths[name].read_bytes(), parse_constant=pytest.fail)


def test_a_file_that_does_not_say_where_it_comes_from_has_no_release_documents(tmp_path: Path) -> None:
    (tmp_path / "empty.s7l").write_bytes(header_only(1))
    with pytest.raises(ArtifactError, match="where it comes from"):
        write_release_documents(read_artifact(tmp_path / "empty.s7l"))
    assert [path.name for path in tmp_path.iterdir()] == ["empty.s7l"]


def test_spdx_names_every_source_with_its_licence(artifact: Artifact, tmp_path: Path) -> None:
    graph = json.loads(write(artifact, tmp_path)["model.spdx.json"])["@graph"]
    by_type: dict[str, list[Any]] = {}
    for row in graph:
        by_type.setdefault(row["type"], []).append(row)
    kept = [
        g for g in lineage(artifact)["sources"] if g["train"]["n_documents"] or g["heldout"]["n_documents"]
    ]
    sets = by_type["dataset_DatasetPackage"]
    assert [row["dataset_datasetSize"] for row in sets] == [g["train"]["n_bytes"] for g in kept]
    licences = by_type["simplelicensing_LicenseExpression"]
    assert [row["simplelicensing_licenseExpression"] for row in licences] == [g["licence"] for g in kept]
    (document,), (model,) = by_type["SpdxDocument"], by_type["ai_AIPackage"]
    assert document["rootElement"] == [model["spdxId"]]
    names = {row["spdxId"] for row in graph if "spdxId" in row}
    assert set(document["element"]) | {document["spdxId"]} == names
    for row in by_type["Relationship"]:
        assert {row["from"], *row["to"]} <= names
    assert model["verifiedUsing"][0]["hashValue"] == sha256_file(artifact.path)


def test_the_training_summary_has_every_section_and_source(artifact: Artifact, tmp_path: Path) -> None:
    text = write(artifact, tmp_path)["model.training.md"].decode()
    for section in ("1 General", "2.1 ", "2.2 ", "2.3 ", "2.4 ", "2.5 ", "2.6 ", "3.1 ", "3.2 "):
        assert re.search(rf"^##+ {re.escape(section)}", text, re.MULTILINE), section
    assert "PSF-2.0" in text


def test_the_metadata_of_the_hub_has_the_figures(artifact: Artifact, tmp_path: Path) -> None:
    card = json.loads(write(artifact, tmp_path)["model.hub.json"])
    (index,) = card["model-index"]
    values = {row["type"]: row["value"] for row in index["results"][0]["metrics"]}
    figures = lineage(artifact)["quantisation"]["figures"]
    assert values["bits_per_byte_int8"] == figures["bpb_int"]
    assert index["name"] == "tiny-dense"
