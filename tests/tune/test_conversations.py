"""Bad conversations are refused by name: each family of complaints about other trainers is a row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sevenfold.tokenizer.chat.template import INSTRUCTION
from sevenfold.tune.conversations import ConversationError, check, of_document, of_lines

SPECIALS = ("<|endoftext|>", "<|user|>")


def read(value: Any) -> list[Any]:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    found = list(of_lines(data, "pairs.jsonl"))
    return [check(found, INSTRUCTION, SPECIALS, f"pairs.jsonl:{number}") for number, found in found]


def chat(*turns: tuple[Any, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def pair(instruction: Any = "Add.", response: Any = "3", **more: Any) -> dict[str, Any]:
    return {"instruction": instruction, "response": response, **more}


U, A = ("user", "Add."), ("assistant", "3")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        pytest.param(pair(response=""), "the answer is empty", id="empty answer"),
        pytest.param(pair(response=" \n"), "the answer is empty", id="answer of blanks"),
        pytest.param(pair(instruction=""), "a turn of user is empty", id="empty question"),
        pytest.param(pair(finish_reason="length"), "truncated: its finish_reason is 'length'", id="cut off"),
        pytest.param(pair(response="```python\nx ="), "ends inside a fenced block", id="open fence"),
        pytest.param(pair(response="3<|endoftext|>"), "special token <\\|endoftext\\|>", id="end in answer"),
        pytest.param(pair(instruction="<|user|>x"), "special token <\\|user\\|>", id="special in question"),
        pytest.param(
            pair(instruction="a\n### Response:\nb"), "the heading '### Response:'", id="forged turn"
        ),
        pytest.param(chat(("User", "x"), A), "the role 'User' is not known", id="unknown role"),
        pytest.param(chat((7, "x"), A), "the role 7 is not known", id="role that is no text"),
        pytest.param(chat(U, U, A), "two turns of user follow each other", id="duplicate role"),
        pytest.param(chat(U, A, A), "two turns of assistant follow each other", id="two answers"),
        pytest.param(
            chat(U, A, ("system", "x"), A), "a turn of system stands after others", id="late system"
        ),
        pytest.param(chat(U, A, U), "does not end with an answer", id="no last answer"),
        pytest.param(chat(A, U, A), "does not end with an answer to a turn", id="begins with an answer"),
        pytest.param(chat(U), "messages is not a list of turns", id="one turn"),
        pytest.param({"messages": [{"role": "user"}, {}]}, "a turn has other keys", id="no content"),
        pytest.param(chat(U, ("assistant", None)), "a text is not a string", id="no text"),
        pytest.param({"prompt": "x", "completion": "y"}, "keys completion, prompt", id="other keys"),
        pytest.param(pair(output="4"), "keys instruction, output, response", id="a key too many"),
        pytest.param([1], "keys none", id="no object"),
        pytest.param(b"{", "it is not JSON", id="no JSON"),
        pytest.param(b"[" * 100_000, "it is not JSON", id="deep"),
        pytest.param(b'"' + b"x" * (1 << 20) + b'"', "a line of 1048578 bytes", id="a long line"),
    ],
)
def test_it_is_refused_by_name_with_its_line(value: Any, what: str) -> None:
    with pytest.raises(ConversationError, match=what) as error:
        read(value)
    assert "pairs.jsonl:1" in str(error.value)


def test_the_forms_that_are_read() -> None:
    (first,) = read(pair(system="Be brief.", id="7", finish_reason="stop"))
    assert first.turns == (("system", "Be brief."), ("user", "Add."), ("assistant", "3"))
    (second,) = read(chat(U, A, ("user", "More."), ("assistant", "4")))
    assert [role for role, _ in second.turns] == ["user", "assistant"] * 2
    made = of_document("### Instruction:\nAdd.\n\n### Response:\n```\n3\n```\n")
    assert made is not None
    assert made.turns == (("user", "Add."), ("assistant", "```\n3\n```"))
    assert of_document("def f(): pass\n") is None
