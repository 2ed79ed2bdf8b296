"""Expert stacks: parts are independent jobs with the same bytes in any order; joined, sealed and
run they route by the first id.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import DOMAINS, job_of, outputs, stack_values
from safetensors.torch import load_file

from sevenfold import pipeline
from sevenfold.artifact import read_artifact, verify
from sevenfold.audit.replay import audit_steps
from sevenfold.core.errors import RecipeError, StorageError, UsageError
from sevenfold.core.hashing import canonical_json
from sevenfold.core.process.log import Silent
from sevenfold.core.run_files import PHASE_WEIGHTS
from sevenfold.engine.session import Model, prompt_ids, replay
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.train.checkpoints.checkpoint import checkpoint_steps, read_checkpoint
from sevenfold.train.data.dataset import held_out, leads, open_data, read_router
from sevenfold.train.experts import phase_directory, train_phase
from sevenfold.train.loop import Recording
from sevenfold.train.phases import find_training_phase, training_phases
from sevenfold.train.recording.records import CHAIN_START, trace_link
from sevenfold.train.run_builder import build_model, training_run

EXPERTS = tuple(DOMAINS)


@pytest.fixture(scope="session")
def stack_run(tmp_path_factory: pytest.TempPathFactory, domain_dir: Path) -> Job:
    """All parts in sequence, quantised and sealed; tests only read it."""
    job = job_of(stack_values(), domain_dir, tmp_path_factory.mktemp("run") / "stacks")
    pipeline.make(job)
    return job


@pytest.fixture
def prepared(domain_dir: Path, tmp_path: Path) -> Job:
    """A run directory with token files."""
    job = job_of(stack_values(), domain_dir, tmp_path / "run")
    pipeline.make(job, until="tokenizer")
    return job


def train_expert(job: Job, expert: str) -> None:
    """In a process of its own, as on another pool."""
    pipeline.run_phase(job, "experts", expert)


def test_any_order_and_at_once_the_same_bytes(prepared: Job, stack_run: Job) -> None:
    pipeline.run_phase(prepared, "trunk", None)
    pipeline.run_phase(prepared, "experts", EXPERTS[2])
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=train_expert, args=(prepared, expert)) for expert in EXPERTS[:2]]
    for process in others:
        process.start()
    for process in others:
        process.join()
        assert process.exitcode == 0
    before = {part.name: (phase_directory(prepared, part) / PHASE_WEIGHTS).stat().st_mtime_ns
              for part in training_phases(prepared.recipe)}  # fmt: skip
    pipeline.make(prepared, until="train")
    assert outputs(prepared) == outputs(stack_run)
    for part in training_phases(prepared.recipe):
        mine, other = phase_directory(prepared, part), phase_directory(stack_run, part)
        assert (mine / PHASE_WEIGHTS).stat().st_mtime_ns == before[part.name]  # taken over, not trained again
        for name in (PHASE_WEIGHTS, "metrics.jsonl", "trace.jsonl"):
            assert (mine / name).read_bytes() == (other / name).read_bytes()


def test_an_expert_trains_its_stack_alone(stack_run: Job) -> None:
    trunk, *experts = training_phases(stack_run.recipe)
    whole = load_file(stack_run.directory("train") / "model.safetensors")
    fresh = build_model(stack_run)
    fresh.initialize(torch.Generator().manual_seed(1), 0.02)
    names = {name for name, _ in fresh.named_parameters()}
    seen: set[str] = set()
    for part in (trunk, *experts):
        trained = load_file(phase_directory(stack_run, part) / PHASE_WEIGHTS)
        assert set(trained) == part.trained(names)
        assert seen.isdisjoint(trained)
        seen |= set(trained)
        for name, tensor in trained.items():
            assert torch.equal(whole[name], tensor)
        step = checkpoint_steps(phase_directory(stack_run, part))[-1]
        checkpoint = read_checkpoint(phase_directory(stack_run, part) / f"checkpoint-{step:08d}.safetensors")
        assert set(checkpoint.model) == set(trained)
    assert seen == names
    assert {name for name in seen if name.startswith("experts.")} == {
        n for n in names if n.startswith("experts.")
    }


def test_each_part_learns_from_its_own_domain(stack_run: Job) -> None:
    first = leads(stack_run)
    table = read_router(stack_run)
    assert table is not None
    for part in training_phases(stack_run.recipe):
        data = open_data(stack_run, part)
        for step in range(4):
            rows, names = data.batches.batch(step), data.batches.domains(step)
            assert [first[name] for name in names] == rows[:, 0].tolist()
            if part.stack is not None:
                # Training runs the stack that the engine's table gives for the first id.
                assert {int(table[row[0]]) for row in rows} == {part.stack}
                assert set(names) == {EXPERTS[part.stack]}


def test_records_are_joined_under_one_count(stack_run: Job) -> None:
    rows = [json.loads(line) for line in outputs(stack_run)["metrics.jsonl"].splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 25))
    assert [row["tokens"] for row in rows] == [256 * step for step in range(1, 25)]
    assert [row["part"] for row in rows[::4]] == ["trunk"] * 3 + [f"experts/{e}" for e in EXPERTS]
    chain = CHAIN_START
    for line in outputs(stack_run)["trace.jsonl"].splitlines():
        row = json.loads(line)
        chain = trace_link(chain, row["step"], row["gradient"], row["weights"])
        assert row["chain"] == chain


def test_sealed_it_runs_each_stack_with_equal_logits(stack_run: Job) -> None:
    artifact = read_artifact(stack_run.out / "model.s7l")
    verification = verify(artifact, replay)
    assert verification.ok, verification.as_json()
    golden = artifact.provenance["golden"]
    assert [row["domain"] for row in golden] == list(EXPERTS)
    models = [Model.open(stack_run.out / "model.s7l", backend=name) for name in ("native", "reference")]
    texts = set()
    for domain in ("", *EXPERTS):
        logits = []
        for model in models:
            with model.session("def f(x):\n    return ", domain=domain) as session:
                assert session.logits is not None
                logits.append(session.logits)
        assert np.array_equal(logits[0], logits[1])
        texts.add(logits[0].tobytes())
    assert len(texts) == 4  # three stacks; "" is the last stack, behind another first id
    with pytest.raises(UsageError, match="physics"), models[0].session("x", domain="physics"):
        pass


def test_integer_and_float_models_take_the_same_stack(stack_run: Job) -> None:
    model = Model.open(stack_run.out / "model.s7l", backend="reference")
    float_model = build_model(stack_run)
    float_model.load_state_dict(load_file(stack_run.directory("train") / "model.safetensors"))
    float_model.eval()
    agree = []
    for group in held_out(stack_run, 3):
        row = group.rows[0][:-1]
        with torch.no_grad():
            by_stack = [float_model(torch.from_numpy(row)[None], s)[0].numpy() for s in range(3)]
        session = model.engine.session()
        logits = session.forward(row) / 65536
        errors = [float(np.abs(logits - other).mean()) for other in by_stack]
        agree.append(int(np.argmin(errors)) == group.stack)
    assert agree == [True] * len(agree)


def test_prompts_begin_with_the_domains_token(stack_run: Job) -> None:
    tokenizer = Tokenizer.from_json((stack_run.directory("tokenizer") / "tokenizer.json").read_bytes())
    table = read_router(stack_run)
    assert table is not None
    for stack, domain in enumerate(EXPERTS):
        ids = prompt_ids(tokenizer, "x", domain)
        assert ids[1:] == prompt_ids(tokenizer, "x")
        assert int(table[ids[0]]) == stack
    assert int(table[tokenizer.eot_id]) == len(EXPERTS) - 1


def test_a_killed_expert_goes_on_and_a_changed_trunk_starts_it_over(
    prepared: Job, stack_run: Job, domain_dir: Path
) -> None:
    trunk, first, *_ = training_phases(prepared.recipe)
    train_phase(prepared, trunk)
    run_base = load_file(phase_directory(prepared, trunk) / PHASE_WEIGHTS)
    directory = phase_directory(prepared, first)
    directory.mkdir(parents=True)
    root = train_phase(prepared, trunk).root
    half = training_run(prepared, directory, first, base=run_base, base_root=root)
    half.recording = Recording(last=3)
    half.train()
    assert checkpoint_steps(directory) == [3]
    train_phase(prepared, first)
    same = phase_directory(stack_run, first)
    assert (directory / PHASE_WEIGHTS).read_bytes() == (same / PHASE_WEIGHTS).read_bytes()
    assert (directory / "metrics.jsonl").read_bytes() == (same / "metrics.jsonl").read_bytes()
    other = job_of(stack_values(), domain_dir, prepared.out, train={"seed": 4})
    with pytest.raises(StorageError, match="the trunk of experts/code is not trained"):
        train_phase(other, training_phases(other.recipe)[1])


def test_steps_of_parts_are_audited_under_one_count(stack_run: Job) -> None:
    # Steps 1 to 12 are the trunk's, then four of each expert; checkpoints every 3.
    value = audit_steps(stack_run.out, 11, 18, None, Silent())
    assert (value["same"], value["differences"]) == (True, [])
    assert value["started_from"] == "train/trunk/checkpoint-00000009.safetensors"
    assert value["executed"] == [10, 18]
    assert value["compared"] == {"steps": 3 + 4 + 2, "trace_points": 2}
    one = audit_steps(stack_run.out, 24, 24, None, Silent())
    assert (one["same"], one["started_from"]) == (True, "train/experts/prose/checkpoint-00000003.safetensors")
    assert (one["executed"], one["compared"]) == ([24, 24], {"steps": 1, "trace_points": 1})
    with pytest.raises(UsageError, match=r"24 steps.*1\.\.24"):
        audit_steps(stack_run.out, 24, 25, None, Silent())


def forge(path: Path, step: int, field: str) -> None:
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    next(row for row in rows if row["step"] == step)[field] = "ab" * 32 if field == "weights" else 1.5
    path.write_bytes(b"".join(canonical_json(row) + b"\n" for row in rows))


def test_what_an_audit_of_parts_finds(stack_run: Job, tmp_path: Path) -> None:
    out = Path(shutil.copytree(stack_run.out, tmp_path / "run"))

    def audit(first: int, last: int, recipe: Recipe | None = None) -> dict[str, Any]:
        return audit_steps(out, first, last, recipe, Silent())

    def restore(name: str) -> None:
        shutil.copyfile(stack_run.out / name, out / name)

    # One weight of the trunk: nothing behind it is executed.
    weights = "train/trunk/weights.safetensors"
    data = bytearray((out / weights).read_bytes())
    data[-1] ^= 1
    (out / weights).write_bytes(data)
    found = audit(14, 14)
    assert [d["where"] for d in found["differences"]] == [weights]
    assert found["executed"] is None
    restore(weights)
    # A forged row of the part's own records, and one of the joined ones.
    forge(out / "train/experts/math/metrics.jsonl", 2, "loss")
    found = audit(17, 18)
    assert (found["first_step"], found["differences"][0]["where"]) == (18, "train/experts/math/metrics.jsonl")
    restore("train/experts/math/metrics.jsonl")
    forge(out / "train/trace.jsonl", 20, "weights")
    found = audit(17, 20)
    assert found["first_step"] == 20
    assert {d["where"] for d in found["differences"]} == {"train/trace.jsonl"}
    restore("train/trace.jsonl")
    # A run of which one expert is not trained yet: what is recorded can be audited.
    (out / "train/manifest.json").unlink()
    shutil.rmtree(out / "train/experts/prose")
    assert audit(17, 20, stack_run.recipe)["same"] is True
    with pytest.raises(UsageError, match="train/experts/prose has recorded 0 of 4 steps"):
        audit(20, 21, stack_run.recipe)


def test_what_is_not_a_part_is_named(prepared: Job, domain_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trunk, experts --expert code"):
        find_training_phase(prepared.recipe, "experts", None)
    with pytest.raises(StorageError, match="--phase trunk"):
        pipeline.run_phase(prepared, "experts", "math")
    values = stack_values()
    values["train"] |= {"micro_batch_sequences": 3}
    with pytest.raises(RecipeError, match="micro batches of 3"):
        training_phases(job_of(values, domain_dir, tmp_path).recipe)
