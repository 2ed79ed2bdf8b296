"""Read conversations, and refuse those that would teach something else than their answers
(specs/tune.md).

A conversation is a list of turns (role, text) that ends with an answer. A line has one of two forms:
`{"messages": [{"role", "content"}, ...]}` and `{"instruction", "response"}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sevenfold.core.errors import StorageError
from sevenfold.core.hashing import Json, canonical_json, sha256
from sevenfold.tokenizer.chat.template import ANSWERS, ChatTemplate

MAX_TURNS = 64
MAX_LINE = 1 << 20
_FENCE = re.compile(r"^\s*```", re.MULTILINE)
_DOCUMENT = re.compile(r"\A### Instruction:\n(?P<user>.+?)\n\n### Response:\n(?P<answer>.*)\Z", re.DOTALL)
_KEYS = ({"messages"}, {"instruction", "response"}, {"system", "instruction", "response"})
_PAIR_KEYS = (
    {"messages", "chosen", "rejected"},
    {"instruction", "chosen", "rejected"},
    {"system", "instruction", "chosen", "rejected"},
)
# They may stand beside the keys of both forms.
_BESIDE = {"id", "finish_reason"}
# What makes one answer of a pair the better one.
KINDS = ("correctness", "brevity", "tool_choice", "harmlessness")


class ConversationError(StorageError):
    """A conversation that is not fit for training."""


class LongConversationError(ConversationError):
    """A conversation that has a sample with more tokens than a row."""


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A list of turns (role, text). The last turn is an answer."""

    turns: tuple[tuple[str, str], ...]

    @property
    def id(self) -> str:
        """Return the digest of the turns."""
        return sha256(canonical_json([list(turn) for turn in self.turns])).hex()


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Two conversations that differ in their last answer; `kind` is one of `KINDS` or ""."""

    chosen: Conversation
    rejected: Conversation
    kind: str = ""

    @property
    def id(self) -> str:
        """Return the digest of both conversations."""
        return sha256(f"{self.chosen.id} {self.rejected.id}".encode()).hex()

    @property
    def prompt_id(self) -> str:
        """Return the digest of the turns before the answers."""
        return sha256(canonical_json([list(turn) for turn in self.chosen.turns[:-1]])).hex()


def of_document(text: str) -> Conversation | None:
    """Return the conversation of a corpus document (specs/synthetic.md); None when it has another
    form.
    """
    match = _DOCUMENT.match(text)
    if match is None:
        return None
    answer = match["answer"]
    return Conversation(turns=(("user", match["user"]), (ANSWERS, answer.removesuffix("\n"))))


def of_lines(data: bytes, where: str) -> Iterator[tuple[int, Conversation]]:
    """Yield the number and the conversation of each line. Raises ConversationError with its line."""
    for number, value in json_lines(data, where):
        yield number, _of_value(value, f"{where}:{number}", _KEYS)


def pairs_of_lines(data: bytes, where: str) -> Iterator[tuple[int, Preference]]:
    """Yield the number and the pair of answers of each line. Raises ConversationError."""
    for number, value in json_lines(data, where):
        place = f"{where}:{number}"
        kind = value.pop("kind", "") if isinstance(value, dict) else ""
        if kind not in ("", *KINDS):
            raise ConversationError(
                f"the kind {kind!r:.40}", where=place, remedy=f"one of {', '.join(KINDS)}"
            )
        sides = [_of_value(value, place, _PAIR_KEYS, side) for side in ("chosen", "rejected")]
        if sides[0] == sides[1]:
            raise ConversationError("both answers are one", where=place, remedy="leave it out")
        yield number, Preference(chosen=sides[0], rejected=sides[1], kind=kind)


def json_lines(data: bytes, where: str) -> Iterator[tuple[int, Json]]:
    """Yield the number and the value of each line. Raises ConversationError with its line."""
    for number, line in enumerate(data.splitlines(), start=1):
        place = f"{where}:{number}"
        if len(line) > MAX_LINE:
            raise ConversationError(f"a line of {len(line)} bytes; at most {MAX_LINE}", where=place)
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConversationError(
                "it is not JSON", where=place, remedy="write one object on each line"
            ) from error
        yield number, value


def _of_value(value: Json, where: str, allowed: Sequence[set[str]], answer: str = "response") -> Conversation:
    """Return the conversation of a line. `answer` is the key of its last answer, where it is not in
    the messages.
    """
    keys = set(value) - _BESIDE if isinstance(value, dict) else set()
    if keys not in allowed:
        raise ConversationError(
            f"keys {', '.join(sorted(keys)) or 'none'}"[:200],
            where=where,
            remedy=f"messages, or instruction with or without system; and {answer}"
            if allowed is _PAIR_KEYS
            else "use messages; or instruction and response, with or without system",
        )
    if value.get("finish_reason", "stop") != "stop":
        raise ConversationError(
            f"the answer is truncated: its finish_reason is {value['finish_reason']!r:.40}",
            where=where,
            remedy="leave it out: a model would learn to stop in the middle",
        )
    if "messages" not in keys:
        named = (("system", "system"), ("instruction", "user"), (answer, ANSWERS))
        turns = [(role, value[key]) for key, role in named if key in value]
    elif answer in value:
        turns = [*_turns(value["messages"], where, 1), (ANSWERS, value[answer])]
    else:
        turns = _turns(value["messages"], where, 2)
    if not all(isinstance(text, str) for _, text in turns):
        raise ConversationError("a text is not a string", where=where, remedy="strings only")
    return Conversation(turns=tuple(turns))


def _turns(messages: Json, where: str, fewest: int) -> list[tuple[str, Json]]:
    if not isinstance(messages, list) or not fewest <= len(messages) <= MAX_TURNS:
        remedy = f"{fewest} to {MAX_TURNS} turns"
        raise ConversationError("messages is not a list of turns", where=where, remedy=remedy)
    turns = []
    for message in messages:
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            raise ConversationError("a turn has other keys", where=where, remedy="role and content")
        turns.append((message["role"], message["content"]))
    return turns


def check(
    conversation: Conversation, template: ChatTemplate, specials: Sequence[str], where: str
) -> Conversation:
    """Return the conversation after checking it. Raises ConversationError, which says what is
    wrong.
    """
    turns, known = conversation.turns, template.headings
    for place, (role, text) in enumerate(turns):
        if not isinstance(role, str) or role not in known:
            raise ConversationError(
                f"the role {role!r:.40} is not known", where=where, remedy=f"use {', '.join(known)}"
            )
        if place and role == turns[place - 1][0]:
            raise ConversationError(
                f"two turns of {role} follow each other", where=where, remedy="join them, or leave one out"
            )
        if role in ("system", "developer") and place:
            raise ConversationError(
                f"a turn of {role} stands after others", where=where, remedy="put it first"
            )
        _check_text(role, text, template, specials, where)
    if turns[-1][0] != ANSWERS or turns[0][0] == ANSWERS:
        raise ConversationError(
            "it does not end with an answer to a turn", where=where, remedy=f"end with a turn of {ANSWERS}"
        )
    return conversation


def _check_text(role: str, text: str, template: ChatTemplate, specials: Sequence[str], where: str) -> None:
    if not text.strip():
        what = "the answer is empty" if role == ANSWERS else f"a turn of {role} is empty"
        raise ConversationError(what, where=where, remedy="leave it out: a model would learn to say nothing")
    for name in specials:
        if name in text:
            raise ConversationError(
                f"a turn of {role} holds the characters of the special token {name}",
                where=where,
                remedy="remove them: only the form of a conversation may put special tokens there",
            )
    lines = set(text.split("\n"))
    for heading in template.headings.values():
        if heading in lines:
            raise ConversationError(
                f"a turn of {role} holds the heading {heading!r} as a line",
                where=where,
                remedy="split it into turns: only the form of a conversation may put headings there",
            )
    if role == ANSWERS and len(_FENCE.findall(text)) % 2:
        raise ConversationError(
            "the answer is truncated: it ends inside a fenced block",
            where=where,
            remedy="leave it out: a model would learn to stop in the middle",
        )
