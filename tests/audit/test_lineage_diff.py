"""Lineage equals the manifests; a diff names exactly what was changed."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold import pipeline
from sevenfold.artifact import header_only, parse_artifact, read_artifact
from sevenfold.audit.diff import diff
from sevenfold.core.changes import changes
from sevenfold.core.errors import ArtifactError, StorageError
from sevenfold.core.run_files import TRACE
from sevenfold.release.lineage import lineage
from sevenfold.release.target import sealed_file
from sevenfold.report.lineage import (
    diff_tables,
    diff_verdict,
    lineage_picture,
    lineage_rows,
    links,
    quantisation_rows,
    shown,
)
from sevenfold.runs.job import Job

LEAF = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=3)
VALUE = st.recursive(LEAF, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text("ab", min_size=1), v))


@pytest.fixture(scope="module")
def changed_run(make_job: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory) -> Job:
    job = make_job(tmp_path_factory.mktemp("changed") / "run", train={"learning_rate": 0.011})
    pipeline.make(job)
    return job


def test_lineage_equals_the_manifests(finished_run: Job) -> None:
    value = lineage(sealed_file(finished_run.out))
    corpus, tokenizer = finished_run.manifest("corpus"), finished_run.manifest("tokenizer")
    train, quantize = finished_run.manifest("train"), finished_run.manifest("quantize")
    seal = finished_run.manifest("seal")
    assert value["sources"] == corpus.facts["groups"]
    for name in ("n_seen", "n_train", "n_heldout", "bytes_train", "bytes_heldout"):
        assert value["corpus"][name] == corpus.facts[name]
    assert value["corpus"]["root"] == corpus.root
    assert value["tokenizer"]["digest"] == {o.path: o.sha256 for o in tokenizer.outputs}["tokenizer.json"]
    assert value["tokenizer"]["root"] == tokenizer.root
    assert value["recipe"]["digest"] == finished_run.recipe.digest == train.recipe_digest
    assert value["recipe"]["seed"] == train.seed
    assert value["arithmetic"] == train.tools["arithmetic"]
    assert value["tools"]["train"] == train.tools
    for name in ("n_steps", "n_tokens", "final_loss", "heldout_bpb", "n_parameters"):
        assert value["training"][name] == train.facts[name]
    assert value["training"]["root"] == train.root
    assert value["quantisation"]["root"] == quantize.root
    assert value["quantisation"]["figures"] == quantize.facts
    assert len(value["golden"]) == seal.facts["n_golden"]
    assert value["seal"]["root"] == seal.facts["root"]
    last = (finished_run.out / "train" / TRACE).read_text().splitlines()[-1]
    assert value["training"]["trace"]["last"]["chain"] in last


def test_the_chain_is_in_its_order_and_the_picture_is_whole(dense_run: Job) -> None:
    value = lineage(sealed_file(dense_run.out))
    titles = [title for title, _ in links(value)]
    assert titles == [
        "sources",
        "corpus",
        "tokenizer",
        "recipe",
        "training",
        "quantisation",
        "golden logits",
        "seal",
    ]
    text = "\n".join(row[1] for row in lineage_rows(value))
    picture = lineage_picture(value)
    assert picture == lineage_picture(value)
    drawn = "".join(ET.fromstring(picture).itertext())
    for digest in (value["corpus"]["root"], value["tokenizer"]["digest"], value["seal"]["root"]):
        assert digest in text
        assert digest in drawn
    assert b"http" not in picture.replace(b"http://www.w3.org/2000/svg", b"")


def test_a_hostile_name_breaks_neither_table_nor_picture(dense_run: Job) -> None:
    value = lineage(sealed_file(dense_run.out))
    value["recipe"]["name"] = "\x1b[31m</text><script>\u202e\x00"
    assert all(cell.isprintable() and cell.isascii() for row in lineage_rows(value) for cell in row)
    assert "<script>" in "".join(ET.fromstring(lineage_picture(value)).itertext())
    assert b"<script>" not in lineage_picture(value)


def test_a_file_without_identity_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.s7l"
    path.write_bytes(header_only(1))
    with pytest.raises(ArtifactError, match="where it comes from"):
        lineage(read_artifact(path))
    with pytest.raises(StorageError, match=r"no model\.s7l"):
        sealed_file(tmp_path)
    assert diff(read_artifact(path), parse_artifact(path.read_bytes()))["equal"] is True


def test_one_changed_key_and_the_tensors_are_named(dense_run: Job, changed_run: Job) -> None:
    a, b = sealed_file(dense_run.out), sealed_file(changed_run.out)
    value = diff(a, b)
    assert value["equal"] is False
    assert value["recipe"] == [{"key": "train.learning_rate", "a": 0.01, "b": 0.011}]
    assert value["corpus"] == value["tools"] == []
    assert {row["key"] for row in value["header"]} <= {
        "n_bytes"
    }  # figures in the JSON lanes have other lengths
    assert [row["key"] for row in value["roots"]] == ["quantize", "train"]
    assert {row["key"] for row in value["identity"]} == {"recipe_digest"}
    lanes = {row["lane"] for row in value["lanes"]}
    assert {"FIELD", "LANE trace", "BATCH gradient_trace", "EDGE provenance"} <= lanes
    assert "DICT" not in lanes
    differing = {n for n in a.tensors if a.tensors[n].data.tobytes() != b.tensors[n].data.tobytes()}
    assert {row["name"] for row in value["tensors"] if row["status"] == "codes"} == differing
    row = next(r for r in value["tensors"] if r["name"] == "lm_head.weight")
    left, right = (x.tensors["lm_head.weight"].data.astype(int) for x in (a, b))
    assert row["n_different"] == int((left != right).sum())
    assert row["largest"] == int(abs(left - right).max())
    tables = {title: rows for title, _, rows in diff_tables(value)}
    assert tables["recipe"] == [["train.learning_rate", "0.01", "0.011"]]
    assert diff_verdict(value).startswith("they differ: train.learning_rate; ")


def test_dense_and_moe_have_tensors_of_their_own(
    dense_run: Job, make_job: Callable[..., Job], tmp_path: Path
) -> None:
    job = make_job(tmp_path / "moe", "moe")
    pipeline.make(job)
    a, b = sealed_file(dense_run.out), sealed_file(job.out)
    value, mirrored = diff(a, b), diff(b, a)
    status = {row["name"]: row["status"] for row in value["tensors"]}
    assert {n for n, s in status.items() if s == "only in A"} == a.tensors.keys() - b.tensors.keys()
    assert {n for n, s in status.items() if s == "only in B"} == b.tensors.keys() - a.tensors.keys() != set()
    assert "shape" in status.values()
    swap = {"only in A": "only in B", "only in B": "only in A"}
    assert {r["name"]: r["status"] for r in mirrored["tensors"]} == {
        n: swap.get(s, s) for n, s in status.items()
    }
    assert diff_tables(value)


def test_a_scale_that_is_not_a_number_is_still_json(dense_run: Job) -> None:
    # Refused by rule V0, not by the reader: lineage and diff meet it.
    a = sealed_file(dense_run.out)
    head, odd = replace(a.tensors["lm_head.weight"], scale=float("nan")), replace(a)
    vars(odd)["tensors"] = {**a.tensors, "lm_head.weight": head}
    value = diff(a, odd)
    assert [(r["name"], r["status"], r["scales"][1]) for r in value["tensors"]] == [
        ("lm_head.weight", "scale", "nan")
    ]
    for each in (value, lineage(odd)):
        json.dumps(each, allow_nan=False)
    assert diff_tables(value)
    assert len(quantisation_rows(lineage(odd))) == len(a.tensors)


def test_a_file_does_not_differ_from_itself(dense_run: Job) -> None:
    value = diff(sealed_file(dense_run.out), sealed_file(dense_run.out / "model.s7l"))
    assert value.pop("equal") is True
    assert all(not part for name, part in value.items() if name not in ("a", "b"))


@given(VALUE, VALUE)
def test_changes_are_none_for_the_same_value_and_mirror(a: Any, b: Any) -> None:
    assert changes(a, a) == []
    there, back = changes(a, b), changes(b, a)
    assert [(r["key"], r["a"], r["b"]) for r in there] == [(r["key"], r["b"], r["a"]) for r in back]


@given(LEAF | st.lists(LEAF, max_size=3) | st.text())
def test_anything_is_shown_as_one_printable_line(value: Any) -> None:
    text = shown(value)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= 120
