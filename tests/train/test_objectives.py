"""Fill-in-middle and chain of thought: samples give the text back, only targets count, losses
add up and are logged apart.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import job_of, objective_values, outputs
from hypothesis import given
from hypothesis import strategies as st

from sevenfold import pipeline
from sevenfold.core.documents import Document, read_documents
from sevenfold.core.errors import StorageError
from sevenfold.model.loss import sequence_losses
from sevenfold.recipe.schema import FIM_TOKENS, REASON_TOKENS, Objectives
from sevenfold.runs.job import Job
from sevenfold.tokenizer.objectives import FORMS, Sampler, split_piece
from sevenfold.tokenizer.token_file import open_tokens
from sevenfold.train.data.dataset import load_tokenizer, open_data
from sevenfold.train.data.packing import SampleBatches
from sevenfold.train.phases import training_phases


@given(st.text(min_size=1, max_size=60), st.integers(0, 9))
def test_a_piece_is_its_three_parts(text: str, seed: int) -> None:
    prefix, middle, suffix, _ = split_piece(text, seed, "name")
    assert prefix + middle + suffix == text
    assert middle


def test_cuts_fall_between_characters_of_tokens(objective_run: Job) -> None:
    # The boundary of the middle is a token boundary by chance only.
    tokenizer = load_tokenizer(objective_run)
    inside = 0
    for number in range(200):
        text = "def encode(self, text: str) -> list[int]:\n    return self.encode_batch([text])[0]\n"
        prefix, *_ = split_piece(text, 1, str(number))
        ends = np.cumsum([len(tokenizer.token_bytes(i)) for i in tokenizer.encode(text)])
        inside += len(prefix) not in {0, *ends.tolist()}
    assert inside > 50


def test_samples_give_the_documents_back(objective_run: Job) -> None:
    tokenizer, train = load_tokenizer(objective_run), objective_run.recipe.train
    prefix, suffix, middle = (tokenizer.special_id(name) for name in FIM_TOKENS)
    file = open_tokens(objective_run.directory("tokenizer") / "fim.tokens")
    texts, orders = [], set()
    for pair in range(file.n_documents // 2):
        context, targets = file.document(2 * pair).tolist(), file.document(2 * pair + 1).tolist()
        assert len(context) + len(targets) <= train.sequence
        assert context[-1] == middle
        assert targets[-1] == tokenizer.eot_id
        orders.add("psm" if context[0] == prefix else "spm")
        other = suffix if context[0] == prefix else prefix
        cut = context.index(other)
        parts = {context[0]: context[1:cut], other: context[cut + 1 : -1]}
        joined = [*parts[prefix], *targets[:-1], *parts[suffix]]
        texts.append(tokenizer.decode_bytes(joined).decode())
    assert orders == {"psm", "spm"}
    documents = read_documents(objective_run.directory("corpus") / "train.parquet")
    assert "".join(texts) == "".join(document.text for document in documents)


def test_the_three_forms_of_reasoning(objective_run: Job) -> None:
    tokenizer = load_tokenizer(objective_run)
    reason, answer = (tokenizer.special_id(name) for name in REASON_TOKENS)
    file = open_tokens(objective_run.directory("tokenizer") / "cot.tokens")
    seen = set()
    for pair in range(file.n_documents // 2):
        context, targets = file.document(2 * pair).tolist(), file.document(2 * pair + 1).tolist()
        said = tokenizer.decode_bytes(targets).decode()
        assert said.endswith("}\n")
        if reason in context:
            seen.add("hidden")
            assert "taken" in tokenizer.decode_bytes(context).decode()
            assert "taken" not in said  # hidden reasoning is read, never learnt
            assert context[-1] == answer
        elif reason in targets:
            seen.add("scratchpad")
            assert targets[0] == reason
            assert targets.index(answer) > 1
        else:
            seen.add("comment")
            assert said.startswith("// ")
    assert seen == set(FORMS)
    facts = objective_run.manifest("tokenizer").facts
    n_documents = facts["n_documents_train"]
    assert sum(n for name, n in facts.items() if name.startswith("n_cot_")) == n_documents


def test_rows_hold_whole_samples_and_count_targets_only(objective_run: Job) -> None:
    file = open_tokens(objective_run.directory("tokenizer") / "fim.tokens")
    end = load_tokenizer(objective_run).eot_id
    batches = SampleBatches(file=file, sequence=128, batch_sequences=2, end=end)
    n_targets = sum(len(file.document(2 * pair + 1)) for pair in range(file.n_documents // 2))
    steps = -(-batches.n_rows // 2)
    counted = np.concatenate([batches.counted(step) for step in range(steps)])[: batches.n_rows]
    rows = np.concatenate([batches.batch(step) for step in range(steps)])[: batches.n_rows]
    assert rows.shape == (batches.n_rows, 129)
    assert (rows[:, 0] == end).all()
    assert counted.sum() == n_targets
    flat = [i for pair in range(file.n_documents // 2) for i in file.document(2 * pair + 1).tolist()]
    assert sorted(rows[:, 1:][counted == 1].tolist()) == sorted(flat)


def test_tokens_that_do_not_count_have_no_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 5, 8, generator=generator).requires_grad_()
    w = torch.randn(11, 8, generator=generator).requires_grad_()
    y = torch.randint(0, 11, (2, 5), generator=generator)
    mask = torch.tensor([[0, 0, 1, 1, 0], [1, 0, 0, 0, 0]], dtype=torch.float32)
    loss = (sequence_losses(x, w, y, mask) / 3).sum()
    loss.backward()
    expected_x, expected_w = x.detach().requires_grad_(), w.detach().requires_grad_()
    token = torch.nn.functional.cross_entropy(
        (expected_x @ expected_w.t()).flatten(0, 1), y.flatten(), reduction="none"
    )
    expected = (token * mask.flatten()).sum() / 3
    expected.backward()
    assert torch.allclose(loss, expected, atol=1e-6)
    assert torch.allclose(x.grad, expected_x.grad, atol=1e-6)
    assert torch.allclose(w.grad, expected_w.grad, atol=1e-6)
    assert (x.grad[mask == 0] == 0).all()


def test_losses_add_up_and_stand_apart(objective_run: Job) -> None:
    rows = [json.loads(line) for line in outputs(objective_run)["metrics.jsonl"].splitlines()]
    for row in rows:
        parts = row["objectives"]
        assert set(parts) == {"next", "fim", "cot"}
        assert row["loss"] == pytest.approx(parts["next"] + 0.3 * parts["fim"] + 0.2 * parts["cot"], abs=1e-9)
    for name in ("next", "fim", "cot"):
        assert rows[-1]["objectives"][name] < rows[0]["objectives"][name] - 0.3, name
    data = open_data(objective_run, training_phases(objective_run.recipe)[0])
    assert [(term.name, term.source.batch_sequences) for term in data.objectives] == [
        ("next", 4),
        ("fim", 1),
        ("cot", 1),
    ]
    blamed = data.documents_of(2)
    known = {d.id for d in read_documents(objective_run.directory("corpus") / "train.parquet")}
    assert {row["objective"] for row in blamed} == {"next", "fim", "cot"}
    assert all(row["documents"] and set(row["documents"]) <= known for row in blamed)


def test_the_seed_decides_the_samples_and_the_learning_rate_does_not(
    objective_run: Job, domain_dir: Path, tmp_path: Path
) -> None:
    job = job_of(objective_values(), domain_dir, tmp_path)
    pipeline.make(job, until="tokenizer")
    assert job.manifest("tokenizer").root == objective_run.manifest("tokenizer").root
    faster = job_of(objective_values(), domain_dir, tmp_path, train={"learning_rate": 0.02})
    assert pipeline.make(faster, until="tokenizer") == []
    other = job_of(objective_values(), domain_dir, tmp_path, train={"seed": 5})
    assert pipeline.make(other, until="tokenizer") == ["tokenizer"]
    assert other.manifest("tokenizer").root != objective_run.manifest("tokenizer").root


def test_a_corpus_without_reasoning_and_text_of_many_tokens(
    objective_run: Job, domain_dir: Path, tmp_path: Path
) -> None:
    values = objective_values()
    code = values["corpus"]["sources"][0]
    values["corpus"] |= {"sources": (code,), "mix": {"code": 1.0}}
    with pytest.raises(StorageError, match="no training document has reasoning"):
        pipeline.make(job_of(values, domain_dir, tmp_path), until="tokenizer")
    tokenizer = load_tokenizer(objective_run)
    sampler = Sampler(tokenizer=tokenizer, objectives=Objectives(fim=0.3), seed=1, room=64)
    text = "\U0001f980" * 200  # four tokens a character
    samples = list(sampler.fim([Document("ab", text, "code", "s", "p")]))
    assert max(sample.n_tokens for sample in samples) <= 64
    assert sum(len(sample.targets) - 1 + len(sample.context) - 3 for sample in samples) == 800
