"""Domain mixes: the interleave is exact, windows stay inside their domain, scarce
domains repeat and are counted.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from families import MIX, job_of, mixed_values, outputs
from hypothesis import given
from hypothesis import strategies as st

from sevenfold import pipeline
from sevenfold.core.documents import read_documents
from sevenfold.core.errors import RecipeError, StorageError
from sevenfold.recipe.loader import load_recipe
from sevenfold.recipe.schema import RopeScaling
from sevenfold.recipe.shipped import recipe_paths
from sevenfold.runs.job import Job
from sevenfold.tokenizer.index import open_index, read_index, write_index
from sevenfold.tokenizer.token_file import open_tokens, write_tokens
from sevenfold.train.data.curriculum import ContextStage, StagedBatches
from sevenfold.train.data.dataset import open_data
from sevenfold.train.data.interleave import BLOCK, DomainTokens, MixedBatches, interleave_pattern, weights
from sevenfold.train.data.windows import Batches
from sevenfold.train.phases import training_phases

SHARES = st.lists(st.integers(1, 60), min_size=1, max_size=5)


@given(SHARES, st.integers(1, 400))
def test_every_prefix_keeps_the_shares(parts: list[int], n: int) -> None:
    weight = weights({f"d{i}": part / sum(parts) for i, part in enumerate(parts)} if len(parts) == 1 else
                     {f"d{i}": part for i, part in enumerate(parts)})  # fmt: skip
    places = interleave_pattern(weight)
    assert Counter(places) == weight
    windows = (places * (n // len(places) + 1))[:n]
    for name, share in weight.items():
        assert abs(windows.count(name) - n * share / len(places)) < len(weight)


def test_weights_are_the_shares_as_written() -> None:
    assert weights({"code": 0.35, "math": 0.25, "reasoning": 0.2, "general": 0.2}) == {
        "code": 7, "math": 5, "reasoning": 4, "general": 4,
    }  # fmt: skip
    assert weights({"a": 0.1, "b": 0.9, "c": 0.0}) == {"a": 1, "b": 9}
    with pytest.raises(RecipeError, match="digits"):
        weights({"a": 0.123456789, "b": 0.876543211})


@pytest.mark.parametrize("name", ["s7/code-8m", "s7/math-8m", "s7/general-8m", "s7/moe-8m", "s7/moe-140m"])
def test_the_shipped_mixes_are_met_exactly(name: str) -> None:
    mix = load_recipe(recipe_paths()[name]).corpus.mix
    counts = Counter(interleave_pattern(weights(mix)) * 100)
    assert {domain: counts[domain] / counts.total() for domain in mix} == pytest.approx(mix, abs=1e-12)


def mixed(lengths: dict[str, int], batch: int = 3) -> MixedBatches:
    streams = {
        name: Batches(tokens=np.arange(n) + 1000 * i, sequence=4, batch_sequences=batch, domain=name)
        for i, (name, n) in enumerate(lengths.items())
    }
    return MixedBatches(streams=streams, mix={"a": 0.75, "b": 0.25}, sequence=4, batch_sequences=batch)


def test_windows_follow_the_pattern_and_scarce_domains_start_over() -> None:
    batches = mixed({"a": 401, "b": 9})
    names = [name for step in range(40) for name in batches.domains(step)]
    assert Counter(names) == {"a": 90, "b": 30}
    rows = [row for step in range(40) for row in batches.batch(step)]
    for name, row in zip(names, rows, strict=True):
        assert (row >= 1000).all() if name == "b" else (row < 1000).all()
        assert row.tolist() == list(range(row[0], row[0] + 5))
    starts = Counter(int(row[0]) for name, row in zip(names, rows, strict=True) if name == "b")
    assert starts == {1000: 15, 1004: 15}
    assert batches.epochs(40) == {"a": 0.9, "b": 15.0}


def test_epochs_of_a_mix_under_a_curriculum_are_those_of_its_stages_together() -> None:
    stages = tuple(
        ContextStage(first_step=first, sequence=4, batch_sequences=batch, rope_scaling=RopeScaling())
        for first, batch in ((0, 3), (40, 6))
    )
    staged = StagedBatches(stages, lambda stage: mixed({"a": 401, "b": 9}, stage.batch_sequences))
    windows: Counter[str] = Counter(name for step in range(50) for name in staged.domains(step))
    assert staged.epochs(50) == {"a": windows["a"] / 100, "b": windows["b"] / 2}


def test_a_domain_is_its_documents_one_behind_the_other(tmp_path: Path) -> None:
    documents = [[1, 2, 3], [10], [4, 5], [20, 21, 22, 23], [6]]
    path = tmp_path / "x.tokens"
    write_tokens(path, documents, 300)
    write_index(path.with_suffix(".index"), [(f"{i:064x}", "odd" if i % 2 else "even") for i in range(5)])
    index = open_index(path, 5)
    even = DomainTokens(open_tokens(path), index, "even")
    flat = [1, 2, 3, 4, 5, 6]
    assert len(even) == 6
    for start in range(7):
        for stop in range(7):
            assert list(even[start:stop]) == flat[start:stop]
    assert even.documents(2, 4) == [0, 2]
    assert index.id(3) == f"{3:064x}"
    none = DomainTokens(open_tokens(path), index, "none")
    assert (len(none), list(none[:5]), none.documents(0, 3)) == (0, [], [])


def test_a_domain_over_many_blocks_is_as_if_cut_from_its_documents(tmp_path: Path) -> None:
    drawn, path = np.random.default_rng(5), tmp_path / "x.tokens"
    # `rare` has whole blocks without a document, `late` begins behind the first blocks.
    domains = np.array(["often", "rare", "late"])[drawn.choice(3, 3 * BLOCK + 77, p=(0.9, 0.05, 0.05))]
    domains[BLOCK - 9 : 2 * BLOCK + 5], domains[: BLOCK + 3] = "often", "often"
    domains[4] = "rare"
    documents = [[number % 251] * int(drawn.integers(1, 9)) for number in range(len(domains))]
    write_tokens(path, documents, 300)
    write_index(path.with_suffix(".index"), [(f"{i:064x}", str(name)) for i, name in enumerate(domains)])
    file, index = open_tokens(path), open_index(path, len(domains))
    for name in ("often", "rare", "late"):
        numbers = np.flatnonzero(domains == name)
        flat = np.concatenate([documents[number] for number in numbers])
        owner = np.repeat(numbers, [len(documents[number]) for number in numbers])
        stream = DomainTokens(file, index, name)
        assert len(stream) == len(flat)
        for start in [0, len(flat) - 1, *drawn.integers(0, len(flat), 60).tolist()]:
            stop = min(len(flat), start + int(drawn.integers(1, 40)))
            assert stream[start:stop].tolist() == flat[start:stop].tolist()
            assert stream.documents(start, stop) == sorted(set(owner[start:stop].tolist()))
        assert stream[:].tolist() == flat.tolist()


def test_an_altered_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.index"
    write_index(path, [("ab" * 32, "code"), ("cd" * 32, "math")])
    data = path.read_bytes()
    assert read_index(path).domains == ("code", "math")
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(StorageError, match="document index"):
            read_index(path)
    for damaged in (data[:40], data[:-1], data + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match="document index"):
            read_index(path)
    path.write_bytes(data)
    with pytest.raises(StorageError, match="2 documents"):
        open_index(tmp_path / "x.tokens", 3)


def test_a_run_trains_on_the_mix_and_logs_each_domain(mixed_run: Job) -> None:
    data = open_data(mixed_run, training_phases(mixed_run.recipe)[0])
    names = [name for step in range(20) for name in data.batches.domains(step)]
    assert Counter(names) == {"code": 40, "math": 24, "prose": 16}
    rows = [json.loads(line) for line in outputs(mixed_run)["metrics.jsonl"].splitlines()]
    for row in rows:
        present = data.batches.domains(row["step"] - 1)
        assert set(row["domains"]) == set(present)
        whole = sum(row["domains"][name] for name in present) / len(present)
        assert whole == pytest.approx(row["loss"], abs=1e-5)
    facts = mixed_run.manifest("train").facts
    assert set(facts["epochs"]["all"]) == set(MIX)
    assert facts["epochs"]["all"]["prose"] == pytest.approx(16 / data.batches.streams["prose"].n_windows)
    assert set(facts["heldout_domains"]) <= set(MIX)


def test_reports_name_documents_of_the_windows_domain(mixed_run: Job) -> None:
    data = open_data(mixed_run, training_phases(mixed_run.recipe)[0])
    domain_of = {d.id: d.domain for d in read_documents(mixed_run.directory("corpus") / "train.parquet")}
    for row in data.documents_of(3):
        assert row["documents"]
        assert {domain_of[document] for document in row["documents"]} == {row["domain"]}


def test_another_mix_is_another_run(mixed_run: Job, domain_dir: Path, tmp_path: Path) -> None:
    job = job_of(mixed_values(), domain_dir, tmp_path)
    pipeline.make(job, until="train")
    assert outputs(job) == outputs(mixed_run)
    other = job_of(
        mixed_values(), domain_dir, tmp_path, corpus={"mix": {"code": 0.2, "math": 0.3, "prose": 0.5}}
    )
    assert "train" in pipeline.make(other, until="train")
    assert outputs(other)["model.safetensors"] != outputs(mixed_run)["model.safetensors"]


def test_a_domain_without_a_window_is_named(domain_dir: Path, tmp_path: Path) -> None:
    values = mixed_values()
    values["model"] |= {"context": 65536}
    values["train"] |= {"sequence": 65536, "tokens": 4 * 65536}
    job = job_of(values, domain_dir, tmp_path)
    with pytest.raises(StorageError, match=r"of domain (math|prose) has"):
        pipeline.make(job, until="train")
