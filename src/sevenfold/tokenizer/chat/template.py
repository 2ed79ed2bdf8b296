"""Define the form of a conversation: the text around each turn, and the tokens that carry loss.

Tuning, the server and `s7 chat` use one object, which the sealed file holds. The text of a turn is
never searched for special tokens, so their characters are text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import Json, digest
from sevenfold.tokenizer.codec import Tokenizer

ANSWERS = "assistant"


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """A named form. A turn is its heading, a line feed, its text, and a blank line. An answer follows
    the heading of `assistant` and a line feed.

    Attributes:
        name: the name of the form and its version.
        headings: the heading of each role.
    """

    name: str
    headings: Mapping[str, str]

    def turn(self, role: str, text: str) -> str:
        """Return the text of a turn of a known role, before a later turn."""
        return f"{self.headings[role]}\n{text}\n\n"

    def prompt(self, turns: Sequence[tuple[str, str]]) -> str:
        """Return the text before the next answer, from turns of (role, text)."""
        return "".join(self.turn(role, text) for role, text in turns) + self.headings[ANSWERS] + "\n"

    def prompt_ids(self, tokenizer: Tokenizer, turns: Sequence[tuple[str, str]]) -> list[int]:
        """Return the ids before the next answer, with the token that begins a text."""
        return tokenizer.begun(tokenizer.encode(self.prompt(turns)))

    @property
    def digest(self) -> str:
        """Return the digest that identifies the form in receipts."""
        return digest(self.name, *(f"{role} {heading}" for role, heading in self.headings.items()))

    def as_json(self) -> dict[str, Json]:
        """Return the form as a sealed file holds it. `loss` lists the roles whose text carries loss.
        The token that ends an answer carries loss as well.
        """
        headings = [[role, heading] for role, heading in self.headings.items()]
        return {"name": self.name, "headings": headings, "loss": [ANSWERS], "digest": self.digest}


INSTRUCTION = ChatTemplate(
    name="sevenfold/instruction/2",
    headings={
        "system": "### System:",
        "developer": "### System:",
        "user": "### Instruction:",
        "assistant": "### Response:",
        "tool": "### Result:",
    },
)
TEMPLATES = {"instruction": INSTRUCTION}


def sealed_template(facts: Json) -> ChatTemplate:
    """Return the form that the sealed facts of a model name. A model that was not tuned has
    `INSTRUCTION`.

    Raises UsageError when this version does not have the form.
    """
    return tuned_template(facts) or INSTRUCTION


def tuned_template(facts: Json) -> ChatTemplate | None:
    """Return the form that a model was tuned with, or None for a model that was not tuned.

    Raises UsageError when this version does not have the form.
    """
    train = facts.get("train") if isinstance(facts, dict) else None
    tuned = train.get("tune") if isinstance(train, dict) else None
    if not isinstance(tuned, dict):
        return None
    said = tuned.get("template")
    for template in TEMPLATES.values():
        if said == template.as_json():
            return template
    name = said.get("name") if isinstance(said, dict) else said
    raise UsageError(
        f"the model was tuned with a form of conversations that this version does not have: {name!r:.60}",
        where="train.tune.template",
        remedy="use the version that its seal names",
    )
