"""Tasks whose answers programs judge: of a file, or drawn from the generator of functions.

They are to train on, so none is of an evaluation set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sevenfold.core.errors import StorageError
from sevenfold.core.hashing import Json, canonical_json, digest_of, sha256
from sevenfold.evals.band import execution
from sevenfold.sandbox.request import ExecutionRequest, Outcome
from sevenfold.synthetic.generators import python
from sevenfold.synthetic.rng import SeededChoices

MAX_LINE = 1 << 20
_KEYS = {"instruction", "functions", "tests"}
_BESIDE = {"id", "setup"}
# Of drawn tasks that do not hold, before the next number is drawn.
_ATTEMPTS = 20


@dataclass(frozen=True, kw_only=True)
class FeedbackTask:
    """A task: what is asked, the functions that an answer has to define, and asserts over them.

    `setup` is code that the asserts need.
    """

    id: str
    instruction: str
    functions: tuple[str, ...]
    tests: tuple[str, ...]
    setup: str = ""


def tasks_root(tasks: list[FeedbackTask]) -> str:
    """Return the digest of tasks in order."""
    return digest_of("sevenfold/feedback-tasks/1", [canonical_json(_as_json(task)) for task in tasks])


def _as_json(task: FeedbackTask) -> dict[str, Json]:
    return {
        "id": task.id,
        "instruction": task.instruction,
        "functions": list(task.functions),
        "tests": list(task.tests),
        "setup": task.setup,
    }


def read_tasks(data: bytes, where: str) -> list[FeedbackTask]:
    """Return the tasks of JSON lines. Raises StorageError with the line at fault."""
    found, seen = [], dict[str, int]()
    for number, line in enumerate(data.splitlines(), start=1):
        place = f"{where}:{number}"
        task = _task(_line(line))
        if task is None:
            raise StorageError(
                "it is no task",
                where=place,
                remedy="one object a line with instruction, functions and tests (lists of text), with or"
                " without id and setup",
            )
        if task.id in seen:
            raise StorageError(
                f"it repeats line {seen[task.id]}", where=place, remedy="leave one of them out"
            )
        seen[task.id] = number
        found.append(task)
    if not found:
        raise StorageError("it holds no task", where=where, remedy="one task a line")
    return found


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Recorded replies to tasks, by task, from whatever wrote them: a server, a model, a person."""

    name: str
    sha256: str
    replies: Mapping[str, tuple[str, ...]]

    def facts(self) -> dict[str, Json]:
        """Return what names the teacher in a record."""
        n_replies = sum(map(len, self.replies.values()))
        return {"name": self.name, "sha256": self.sha256, "n_replies": n_replies}


def read_replies(data: bytes, name: str) -> Teacher:
    """Return the replies of JSON lines: task_id, reply, and finish_reason where it is known.

    A reply whose finish_reason is not `stop` is truncated, and left out. Raises StorageError with the
    line at fault.
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        value = _line(line)
        are_texts = all(isinstance(text, str) for text in value.values())
        if value.keys() - {"finish_reason"} != {"task_id", "reply"} or not are_texts:
            raise StorageError(
                "it is no reply", where=f"{name}:{number}", remedy="one object a line: task_id and reply"
            )
        if value.get("finish_reason", "stop") == "stop":
            found[value["task_id"]] = (*found.get(value["task_id"], ()), value["reply"])
    return Teacher(name=name, sha256=sha256(data).hex(), replies=found)


def _are_texts(row: Json) -> bool:
    return isinstance(row, list) and bool(row) and all(isinstance(text, str) for text in row)


def _line(line: bytes) -> dict[str, Json]:
    """Return the object of a line; {} for what is none."""
    try:
        value = json.loads(line) if len(line) <= MAX_LINE else None
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


def _task(value: dict[str, Json]) -> FeedbackTask | None:
    if not _KEYS <= value.keys() <= _KEYS | _BESIDE:
        return None
    functions, tests = value["functions"], value["tests"]
    lists = all(_are_texts(row) for row in (functions, tests))
    texts = (value["instruction"], value.get("setup", ""), value.get("id", "-"))
    if not lists or not all(isinstance(text, str) for text in texts) or not value["instruction"].strip():
        return None
    name = str(value.get("id") or sha256(canonical_json([value["instruction"], tests])).hex()[:16])
    return FeedbackTask(
        id=name,
        instruction=value["instruction"],
        functions=tuple(functions),
        tests=tuple(tests),
        setup=value.get("setup", ""),
    )


def draw_tasks(count: int, seed: int) -> Iterator[FeedbackTask]:
    """Yield tasks of the generator python-function, whose asserts are what its own program returned.

    Raises:
        SandboxError: no program can be executed here.
    """
    number = 0
    while count:
        for attempt in range(_ATTEMPTS):
            task = _drawn(SeededChoices(seed, f"feedback/{number}/{attempt}"), f"function-{seed}-{number}")
            if task is not None:
                yield task
                count -= 1
                break
        number += 1


def _drawn(rng: SeededChoices, name: str) -> FeedbackTask | None:
    tasks: list[python.PythonTask] = []

    def draw(choices: SeededChoices) -> python.PythonTask:
        tasks.append(python.drawn(choices))
        return tasks[-1]

    making, results = python.function(rng, draw), list[str]()
    try:
        request: ExecutionRequest = next(making)
        while True:
            outcome: Outcome = execution.results(request.sources, request.entry, request.inputs)
            results = list(outcome["source"])
            request = making.send(outcome)
    except StopIteration as end:
        sample = end.value
    if sample is None:
        return None
    task = tasks[0]
    tests = tuple(f"assert {task.call(i)} == {result}" for i, result in enumerate(results))
    return FeedbackTask(id=name, instruction=sample.instruction, functions=(task.name,), tests=tests)
