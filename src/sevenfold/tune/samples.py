"""Cut conversations into samples. A sample is a context, which the model only reads, and an answer
with the token that ends a text. Only the second part counts in the loss.

A conversation with n answers gives n samples, each with the turns before it. The ids of a context
are those that the server makes of the same turns. A sample is refused when its ids do not decode to
the bytes of its answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sevenfold.core.documents import Document
from sevenfold.core.errors import SevenfoldError, UsageError
from sevenfold.tokenizer.chat.template import ANSWERS, ChatTemplate
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.objectives import ObjectiveSample
from sevenfold.tune.conversations import Conversation, LongConversationError, Preference

Encode = Callable[[str], list[int]]


@dataclass(kw_only=True)
class AnswerCutter:
    """A cutter of samples that fit a row of `room` tokens. It counts them."""

    tokenizer: Tokenizer
    template: ChatTemplate
    room: int
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        roles, end = self.tokenizer.roles, self.tokenizer.eot_id
        if roles.begin != end or end not in roles.ends:
            raise UsageError(
                "the vocabulary does not begin and end texts with one token, which tuning needs",
                where="tokenizer.roles",
                remedy="tune a model of this project's own vocabulary",
            )

    def cut(
        self, conversation: Conversation, document: Document, where: str, *, encode: Encode | None = None
    ) -> Iterator[ObjectiveSample]:
        """Yield the samples of a checked conversation.

        Raises LongConversationError.
        """
        for place, (role, _) in enumerate(conversation.turns):
            if role == ANSWERS:
                sample = self._sample(conversation.turns, place, document, where, encode)
                self._check_room(sample.n_tokens, where)
                self._count(sample)
                yield sample

    def cut_pair(
        self, pair: Preference, document: Document, where: str
    ) -> tuple[ObjectiveSample, ObjectiveSample]:
        """Return the samples of the last answers of a checked pair, the chosen one first. A row holds
        both.

        Raises LongConversationError.
        """
        sides = (pair.chosen.turns, pair.rejected.turns)
        chosen, rejected = (self._sample(turns, len(turns) - 1, document, where, None) for turns in sides)
        self._check_room(chosen.n_tokens + rejected.n_tokens, where)
        self._count(chosen)
        self._count(rejected)
        self.counts["pairs"] += 1
        return chosen, rejected

    def _sample(
        self,
        turns: tuple[tuple[str, str], ...],
        place: int,
        document: Document,
        where: str,
        encode: Encode | None,
    ) -> ObjectiveSample:
        answer = turns[place][1]
        # A row, and so a sample, stands behind the token that begins a text.
        context = self.template.prompt_ids(self.tokenizer, turns[:place])[1:]
        ids = (encode or self.tokenizer.encode)(answer)
        if self.tokenizer.decode_bytes(ids) != answer.encode():
            raise SevenfoldError("the ids of an answer do not decode to its bytes", where=where)
        return ObjectiveSample(context, [*ids, self.tokenizer.eot_id], document)

    def _check_room(self, n_tokens: int, where: str) -> None:
        if n_tokens > self.room:
            raise LongConversationError(
                f"{n_tokens} tokens, a row has {self.room}",
                where=where,
                remedy="shorten it, or set tune.too_long: leave_out; an answer is never cut",
            )

    def _count(self, sample: ObjectiveSample) -> None:
        self.counts["samples"] += 1
        self.counts["context_tokens"] += len(sample.context)
        self.counts["answer_tokens"] += len(sample.targets)
        self.counts["answer_bytes"] += len(self.tokenizer.decode_bytes(sample.targets[:-1]))
