"""Which ids are trained on: those that the server makes, the answer's bytes, and the end of each."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tuning_jobs import SEQUENCE, lines, tuned

from sevenfold.artifact import read_artifact
from sevenfold.core.documents import Document
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.corpus.text.contamination_index import build
from sevenfold.engine.sampling import GREEDY
from sevenfold.engine.session import Model
from sevenfold.evals.decoding.decoder import EvaluationDecoder
from sevenfold.evals.tasks.cards import Item
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job
from sevenfold.serve.prompts import Prompts
from sevenfold.synthetic.sample import SyntheticSample
from sevenfold.tokenizer.chat.template import INSTRUCTION, sealed_template
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.roles import Roles
from sevenfold.train.data.dataset import open_data
from sevenfold.train.data.packing import SampleBatches
from sevenfold.train.phases import training_phases
from sevenfold.train.run_builder import training_run
from sevenfold.tune.conversations import Conversation, ConversationError, of_lines
from sevenfold.tune.prepare import prepare, tokenizer_of
from sevenfold.tune.samples import AnswerCutter

DOCUMENT = Document("0" * 64, "", "tune", "pairs.jsonl", "1")


def cut(tokenizer: Tokenizer, conversation: Conversation, room: int = SEQUENCE) -> list[Any]:
    cutter = AnswerCutter(tokenizer=tokenizer, template=INSTRUCTION, room=room)
    return list(cutter.cut(conversation, DOCUMENT, "pairs.jsonl:1"))


def with_vocabulary(job: Job, run: Job) -> None:
    (job.out / "tokenizer").mkdir(parents=True)
    shutil.copyfile(run.out / "tokenizer/tokenizer.json", job.out / "tokenizer/tokenizer.json")


def answers(run: Job) -> Any:
    return open_data(run, training_phases(run.recipe)[0]).objectives[1]


def test_the_ids_are_those_of_the_server_and_of_the_chat(run: Job) -> None:
    tokenizer = tokenizer_of(run)
    facts = read_artifact(run.out / "model.s7l").provenance["identity"]["facts"]
    prompts = Prompts(tokenizer, sealed_template(facts))
    for _, conversation in of_lines(lines(), "x"):
        samples = cut(tokenizer, conversation)
        places = [n for n, (role, _) in enumerate(conversation.turns) if role == "assistant"]
        for place, sample in zip(places, samples, strict=True):
            messages = [{"role": role, "content": text} for role, text in conversation.turns[:place]]
            assert prompts.chat(messages)[1] == [tokenizer.eot_id, *sample.context]
            answer = conversation.turns[place][1].encode()
            assert sum(len(tokenizer.token_bytes(i)) for i in sample.targets) == len(answer)
            assert tokenizer.decode_bytes(sample.targets[:-1]) == answer
            assert sample.targets[-1] == tokenizer.eot_id
            assert tokenizer.eot_id not in [*sample.context, *sample.targets[:-1]]


def test_an_evaluation_asks_in_the_form_of_the_seal(run: Job, parent: Job) -> None:
    item = Item(id="band/0", prompt="### Instruction:\nAdd 1\n\nand 2.\n\n### Response:\n")
    model = Model.open(run.out / "model.s7l")
    decoder = EvaluationDecoder(model)
    asked = decoder.prompt_of(item, item.prompt)
    said = [{"role": "user", "content": "Add 1\n\nand 2."}]
    assert asked == Prompts(model.tokenizer).chat(said)[1]
    assert decoder.facts(GREEDY, 1)["form"] == "sevenfold/instruction/2"
    before = EvaluationDecoder(Model.open(parent.out / "model.s7l"))
    assert "form" not in before.facts(GREEDY, 1)


def test_every_row_carries_the_end_of_every_answer_and_nothing_else(run: Job) -> None:
    objective, tokenizer = answers(run), tokenizer_of(run)
    end, n_ends = tokenizer.eot_id, 0
    for step in range(12):
        ids, counted = objective.source.batch(step), objective.source.counted(step)
        for row, marks in zip(ids, counted, strict=True):
            targets = row[1:]
            ends = (targets == end) & (marks > 0)
            assert ends.any(), "a row without an end that is learnt"
            n_ends += int(ends.sum())
            text = tokenizer.decode(targets[marks > 0].tolist())
            assert "###" not in text, "no heading carries loss"
            # Behind the last sample nothing counts, and each counted run ends with the end.
            runs = np.flatnonzero(np.diff(np.append(marks, 0)) < 0)
            assert (targets[runs] == end).all()
    assert n_ends > 12 * 4


def test_a_canary_mask_one_place_off_is_seen(run: Job) -> None:
    objective, end = answers(run), tokenizer_of(run).eot_id
    row, marks = objective.source.batch(0)[0], np.roll(objective.source.counted(0)[0], -1)
    runs = np.flatnonzero(np.diff(np.append(marks, 0)) < 0)
    assert not (row[1:][runs] == end).any()


def test_a_sample_longer_than_a_row_is_refused_or_counted_and_never_cut(
    run: Job, parent: Job, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(run)
    long = Conversation(turns=(("user", "Count."), ("assistant", " ".join(map(str, range(300))))))
    with pytest.raises(ConversationError, match=r"tokens, a row has 96.*an answer is never cut"):
        cut(tokenizer, long)
    more = lines(8) + b'{"instruction": "Count.", "response": "%s"}\n' % long.turns[1][1].encode()
    for choice in ("refuse", "leave_out"):
        job = tuned(parent, tmp_path / choice, more, too_long=choice)
        with_vocabulary(job, run)
        if choice == "refuse":
            with pytest.raises(ConversationError, match=r"pairs\.jsonl:9"):
                prepare(job)
        else:
            prepare(job)
            assert b'"left_out":{"too_long":1}' in (job.out / "tune/tune.json").read_bytes()


def test_a_repeated_line_and_another_file_are_refused(run: Job, parent: Job, tmp_path: Path) -> None:
    job = tuned(parent, tmp_path / "twice", lines(8) + lines(2))
    with_vocabulary(job, run)
    with pytest.raises(ConversationError, match=r"it repeats line 1.*pairs\.jsonl:9|pairs\.jsonl:9.*line 1"):
        prepare(job)
    (job.recipe_dir / "pairs.jsonl").write_bytes(lines(8))
    with pytest.raises(StorageError, match="the recipe names"):
        prepare(job)


def test_a_vocabulary_with_another_end_than_beginning_is_refused(run: Job) -> None:
    data = (run.out / "tokenizer/tokenizer.json").read_bytes()
    tokenizer = Tokenizer.from_json(data, Roles(begin=0, bos=0, ends=(1,), pad=None))
    with pytest.raises(UsageError, match="does not begin and end texts with one token"):
        AnswerCutter(tokenizer=tokenizer, template=INSTRUCTION, room=64)


def _gradients(run: Job, scratch: Path, source: Any) -> dict[str, torch.Tensor]:
    training = training_run(run, scratch)
    training.take(None)
    objective = replace(answers(run), source=source, weight=1.0)
    step = replace(training.gradients, objectives=(objective,))
    step.run(0)
    return {n: p.grad.clone() for p, n in training.names.items() if p.grad is not None}


class OneByOne:
    """The samples of the packed rows of a step, each in a row of its own."""

    def __init__(self, packed: SampleBatches, end: int) -> None:
        self.sequence, self.rows, self.marks = packed.sequence, [], []
        for ids, counted in zip(packed.batch(0), packed.counted(0), strict=True):
            ends = [i for i in range(len(counted)) if counted[i] and ids[i + 1] == end]
            first = 0
            for last in ends:
                row, mark = np.full(len(ids), end, np.int64), np.zeros(len(counted), np.float32)
                row[: last - first + 2] = ids[first : last + 2]
                mark[: last - first + 1] = counted[first : last + 1]
                self.rows.append(row)
                self.marks.append(mark)
                first = last + 1
        self.batch_sequences = len(self.rows)

    def batch(self, _step: int) -> Any:
        return np.stack(self.rows)

    def counted(self, _step: int) -> Any:
        return np.stack(self.marks)


def test_packed_and_apart_the_gradients_have_the_same_bits(run: Job, tmp_path: Path) -> None:
    source = answers(run).source
    alone = OneByOne(source, tokenizer_of(run).eot_id)
    assert alone.batch_sequences > source.batch_sequences, "rows hold several samples"
    packed = _gradients(run, tmp_path / "a", source)
    apart = _gradients(run, tmp_path / "b", alone)
    different = [name for name in packed if not torch.equal(packed[name], apart[name])]
    assert not different
    alone.marks[0] = np.roll(alone.marks[0], -1)
    moved = _gradients(run, tmp_path / "c", alone)
    assert any(not torch.equal(packed[name], moved[name]) for name in packed), "a canary"


def test_the_form_is_that_of_corpus_documents() -> None:
    # A model that was only pretrained is asked in the words that it was trained on.
    sample = SyntheticSample(instruction="Add.\n\nTwice.", response="x", language="python", shape="")
    assert sample.text.startswith(INSTRUCTION.prompt([("user", sample.instruction)]) + sample.response)


def test_a_form_that_this_version_does_not_have_is_refused() -> None:
    said = INSTRUCTION.as_json()
    facts = {"train": {"tune": {"template": said}}}
    assert sealed_template(facts) is INSTRUCTION
    assert sealed_template({}) is INSTRUCTION
    said["headings"] = [["user", "Q:"], ["assistant", "A:"]]
    with pytest.raises(UsageError, match="this version does not have: 'sevenfold/instruction/2'"):
        sealed_template({"train": {"tune": {"template": said}}})


def test_a_conversation_of_an_evaluation_set_is_left_out_and_counted(
    run: Job, parent: Job, tmp_path: Path
) -> None:
    words = "one ball and two red boxes lie on a table near the green door of our house"
    file = tmp_path / "sets/math500/test.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"problem": words, "solution": "1"}) + "\n")
    more = lines(8) + json.dumps({"instruction": words, "response": "yes"}).encode() + b"\n"
    job = tuned(parent, tmp_path / "run", more, too_long="leave_out")
    made = build(tmp_path / "sets", job.recipe_dir / "eval.s7eh")
    steps = {"decontaminate": {"path": "eval.s7eh", "sha256": made["sha256"], "hits": 1}}
    values = job.recipe.model_dump(by_alias=True)
    values["corpus"]["steps"] |= steps
    job = replace(job, recipe=Recipe(**values))
    with_vocabulary(job, run)
    prepare(job)
    assert json.loads((job.out / "tune/tune.json").read_bytes())["left_out"] == {"evaluation": 1}
