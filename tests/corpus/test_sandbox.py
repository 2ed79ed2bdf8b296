"""Hostile programs in the sandbox: each spoils its own answer, in bounded time
and memory, and no neighbour's.
"""

import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevenfold.sandbox import executor as sandbox
from sevenfold.sandbox import worker
from sevenfold.sandbox.executor import Sandbox, SandboxError
from sevenfold.sandbox.request import ExecutionRequest

_FRAME = "import os, json, struct\n"
_SPIN = "    while True:\n        pass"

# Each is a program whose function `f` attacks the reply.
HOSTILE = {
    "flood without a line end": "import os\ndef f():\n    while True:\n        os.write(1, b'x' * 65536)",
    "flood of lines": "import os\ndef f():\n    while True:\n        os.write(1, b'{}\\n' * 9999)",
    "flood of zeros": "import os\ndef f():\n    while True:\n        os.write(1, bytes(65536))",
    "a reply of its own": 'import os\ndef f():\n    os.write(1, b\'{"a": ["7"]}\\n\')',
    "many replies": 'import os\ndef f():\n    os.write(1, b\'{"a": ["7"]}\\n\' * 50)',
    "a reply and an end": 'import os\ndef f():\n    os.write(1, b\'{"a": ["7"]}\\n\')\n    os._exit(0)',
    "a frame without the nonce": (
        _FRAME
        + "def f():\n    d = json.dumps({'a': ['7']}).encode()\n"
        + "    os.write(1, bytes(16) + struct.pack('>I', len(d)) + d)\n    os._exit(0)"
    ),
    "half a frame": "import os\ndef f():\n    os.write(1, bytes(9))\n    os._exit(0)",
    "a frame that promises more": (
        "import os\ndef f():\n    os.write(1, bytes(16) + b'\\xff' * 4)\n    os._exit(0)"
    ),
    "noise": "import os\ndef f():\n    os.write(1, bytes(range(256)) * 9)\n    os._exit(0)",
    "an exit in the middle": "import os\ndef f():\n    os._exit(3)",
    "a crash": "import ctypes\ndef f():\n    ctypes.string_at(1)",
    "reading what is not for it": "import os\ndef f():\n    return os.read(0, 16)",
    "closing the reply": "import os\ndef f():\n    os.close(1)",
    "closing everything": "import os\ndef f():\n    os.closerange(0, 99)",
    "writing while the module is loaded": "import os\nos.write(1, b'x' * 5)\ndef f():\n    return 7",
    "another exit": "import os\ndef f():\n    os._exit = lambda n: None\n    os.write = lambda *a: 0",
    "another encoder": "import json\ndef f():\n    json.dumps = lambda v: '{\"a\": [7]}'",
    "too long a value": (
        "import json\nold = json.dumps\ndef f():\n    json.dumps = lambda v: old('x' * 999999)"
    ),
    "a deep value": "import json\ndef f():\n    json.dumps = lambda v: '[' * 9000",
    "no answer": (
        "import threading\nlock = threading.Lock()\ndef f():\n    lock.acquire()\n    lock.acquire()"
    ),
}


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(silent_seconds=1.0) as one:
        yield one


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_program_spoils_its_own_answer_alone(source: str, box: Sandbox) -> None:
    n_lost = box.n_lost
    assert box.run(ExecutionRequest({"a": source}, "f", ("()",))) == {"a": ["!Lost"]}
    assert box.n_lost == n_lost + 1
    for i in range(3):
        assert box.run(ExecutionRequest({"a": f"def f():\n    return {i}"}, "f", ("()",))) == {"a": [str(i)]}


def test_nothing_that_a_program_leaves_behind_reaches_the_next(box: Sandbox) -> None:
    left = (
        "import builtins, json, signal, os, sys\n"
        "builtins.repr = lambda value: 'forged'\njson.dumps.__kwdefaults__['indent'] = 9\n"
        "signal.signal(signal.SIGALRM, lambda *a: os.write(1, b'late'))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)\nsys.left = 1\ndef f():\n    return 1"
    )
    box.run(ExecutionRequest({"a": left}, "f", ("()",)))
    wait = (
        "import time\ndef f():\n    end = time.monotonic() + 0.2\n"
        "    while time.monotonic() < end:\n        pass\n    return 'own'"
    )
    asked = "import sys\ndef f():\n    return hasattr(sys, 'left')"
    assert box.run(ExecutionRequest({"a": wait}, "f", ("()",))) == {"a": ["'own'"]}
    assert box.run(ExecutionRequest({"a": asked}, "f", ("()",))) == {"a": ["False"]}


def test_no_program_is_in_a_process_that_has_the_nonce(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = [bytes([code]) * 16 for code in range(1, 6)]
    left = iter(marks)
    monkeypatch.setattr(sandbox.secrets, "token_bytes", lambda n: next(left))
    # Looks through all memory of its process that can be written.
    search = (
        "import gc, sys\ndef f():\n    seen, todo = set(), [gc.get_objects(), sys._getframe()]\n    while"
        " todo:\n        one = todo.pop()\n        if id(one) in seen:\n            continue\n       "
        " seen.add(id(one))\n        if isinstance(one, bytes) and len(one) == 16 and len(set(one)) == 1 and"
        " one[0] < 6:\n            return one\n        todo += gc.get_referents(one)\n    return len(seen) >"
        " 1000"
    )
    for _ in range(3):
        assert box.run(ExecutionRequest({"a": search}, "f", ("()",))) == {"a": ["True"]}


def test_a_program_cannot_reach_the_pipes_of_the_worker(box: Sandbox) -> None:
    each = (
        "import os\ndef f():\n    open_ = []\n    for n in range(2, 300):\n        try:\n           "
        " os.write(n, b'x')\n            open_.append(n)\n        except OSError:\n            pass\n       "
        " try:\n            os.lseek(n, 0, 0)\n            open_.append(n)\n        except OSError as"
        " error:\n            if error.errno != 9:\n                open_.append(n)\n    return open_"
    )
    assert box.run(ExecutionRequest({"a": each}, "f", ("()",))) == {"a": ["[]"]}


@pytest.fixture
def other_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program in the worker's place: what if the worker itself is wrong?"""

    def put(body: str) -> None:
        honest = (
            "import json, os, struct, time\ndef ask():\n    def read(n):\n        data = b''\n        while"
            " len(data) < n:\n            data += os.read(0, n - len(data)) or os._exit(0)\n        return"
            " data\n    text = read(struct.unpack('>II', read(8))[0])\n    return text, read(16)\ndef"
            " put(nonce, value):\n    data = json.dumps(value).encode()\n    os.write(1, nonce +"
            " struct.pack('>I', len(data)) + data)\nrequest, nonce = ask()\nput(nonce, '')\n"
        )
        (tmp_path / "worker.py").write_text(honest + body)
        monkeypatch.setattr(sandbox, "__file__", str(tmp_path / "sandbox.py"))
        monkeypatch.setattr(sandbox, "GRACE_SECONDS", 0.5)

    return put


WRONG = {
    "early": (
        "time.sleep(0.5)\nput(bytes(16), ['7'])\nrequest, nonce = ask()\nput(nonce, ['1'])\ntime.sleep(99)"
    ),
    "twice": (
        "request, nonce = ask()\nd = json.dumps(['7']).encode()\n"
        "os.write(1, (nonce + struct.pack('>I', len(d)) + d) * 2)\ntime.sleep(99)"
    ),
    "too long": "request, nonce = ask()\nos.write(1, nonce + struct.pack('>I', 1 << 31))\ntime.sleep(99)",
    "half": "request, nonce = ask()\nos.write(1, nonce + struct.pack('>I', 99) + b'{')\ntime.sleep(99)",
    "endless": "request, nonce = ask()\nwhile True:\n    os.write(1, b'x' * 4096)",
    "no reader": "time.sleep(99)",
    "other values": "request, nonce = ask()\nput(nonce, [7])\ntime.sleep(99)",
    "other keys": "request, nonce = ask()\nput(nonce, {'a': ['7']})\ntime.sleep(99)",
    "other counts": "request, nonce = ask()\nput(nonce, ['7', '7'])\ntime.sleep(99)",
    "noise": "request, nonce = ask()\nos.write(1, nonce + struct.pack('>I', 3) + b'\\xff{]')\ntime.sleep(99)",
    "a child that keeps the pipe": "request, nonce = ask()\nif os.fork():\n    os._exit(0)\ntime.sleep(99)",
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_a_malformed_reply_kills_the_worker(body: str, other_worker) -> None:
    other_worker(body)
    with Sandbox(silent_seconds=0.5) as fragile:
        # More than a pipe holds, so a worker that does not read keeps nobody waiting.
        job = ExecutionRequest({"a": "def f():\n    return 1" + "#" * 200_000}, "f", ("()",))
        assert fragile.run(job) == {"a": ["!Lost"]}
        assert fragile.n_lost == 1


def test_a_worker_that_refuses_nothing_and_says_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker.py").write_text("print('ready', flush=True)\nimport time\ntime.sleep(99)\n")
    monkeypatch.setattr(sandbox, "START_SECONDS", 0.5)
    monkeypatch.setattr(sandbox, "__file__", str(tmp_path / "sandbox.py"))
    with Sandbox() as one, pytest.raises(SandboxError, match="cannot be confined"):
        one.run(ExecutionRequest({"a": ""}, "f", ()))


def test_closing_ends_the_process_of_a_program_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(silent_seconds=60.0) as one:
        assert one.run(ExecutionRequest({"a": "import os\ndef f():\n    return os.getpid"}, "f", ("()",)))
        process = one._process
        assert process is not None
        text = json.dumps({"source": HOSTILE["no answer"], "entry": "f", "inputs": ["()"]}).encode()
        assert process.stdin is not None
        os.write(process.stdin.fileno(), struct.pack(">II", len(text), 1) + text + bytes(16))
        while not (children := _children(process.pid)):
            time.sleep(0.01)
    while any(Path(f"/proc/{child}/stat").exists() and not _is_zombie(child) for child in children):
        time.sleep(0.01)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _is_zombie(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_bounds_of_both_sides_agree() -> None:
    assert worker.MAX_VALUE_BYTES < sandbox.MAX_VALUE_BYTES
    widest = json.dumps("\U0001f600" * worker.MAX_REPR).encode()
    assert len(widest) <= worker.MAX_VALUE_BYTES


# Looks for a text in all objects that its process can reach.
_SEARCH = """
import gc
WANTED = "".join(["MARK", "_OF_", "ANOTHER"])
def f():
    found, todo, seen = [], gc.get_objects(), set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, (str, bytes)) and one is not WANTED:
            text = one if isinstance(one, str) else one.decode("latin-1")
            if WANTED in text:
                found.append(text)
        todo += gc.get_referents(one)
    return found or len(seen) > 1000
"""


def test_a_program_has_nothing_of_another_in_its_process(box: Sandbox) -> None:
    other = "def f():\n    return 'MARK_OF_ANOTHER'"
    job = ExecutionRequest({"b": other, "a": _SEARCH, "c": other + "#" * 999}, "f", ("()",))
    for _ in range(2):
        outcome = box.run(job)
        assert outcome["b"] == outcome["c"] == ["'MARK_OF_ANOTHER'"]
        assert outcome["a"] == ["True"]


def test_a_program_that_poisons_its_process_changes_no_other_answer(box: Sandbox) -> None:
    poison = (
        "import builtins, gc\nbuiltins.repr = lambda value: 'forged'\nfor one in gc.get_objects():\n    if"
        " isinstance(one, list) and one == ['()']:\n        one[:] = ['(1,)']\ndef f():\n    return 1"
    )
    job = ExecutionRequest({"a": poison, "b": "def f():\n    return 2"}, "f", ("()",))
    assert box.run(job)["b"] == ["2"]
