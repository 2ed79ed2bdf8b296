"""Compute answers and log-likelihoods of a sealed model in batches of the engine.

A result depends only on its prompt, the law and the model. Batches, shared prefixes and the backend
change no bit (specs/arithmetic.md, specs/sampling.md, specs/likelihood.md). Each prompt passes the
CM-1 gate, as in every other use of a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sevenfold.artifact import Gate
from sevenfold.core.errors import GateError, UsageError
from sevenfold.core.hashing import digest
from sevenfold.core.numbers.fixed import Ints
from sevenfold.engine.likelihood import log_probabilities
from sevenfold.engine.sampling import DecodingLaw
from sevenfold.engine.session import Model, prompt_ids
from sevenfold.evals.tasks.cards import Item
from sevenfold.recipe.schema import FIM_TOKENS
from sevenfold.tokenizer.chat.template import tuned_template

TRUNCATIONS = ("none", "left")
# The number of tokens between two checks of the stop texts.
BLOCK_TOKENS = 16
# The rows of logits that are in memory at once.
MAX_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One continuation: its token ids, and why it ended ("stop", "end", "length" or "context")."""

    ids: tuple[int, ...]
    ended: str


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """The log-probability of a continuation, in units of 2^-32, and whether greedy decoding would
    give it.
    """

    total: int
    n_tokens: int
    is_greedy: bool


@dataclass(kw_only=True)
class _Group:
    """The answers of an item. Its gate is open until the last of them has ended."""

    item: Item
    answers: list[Answer | None]
    gate: AbstractContextManager[str]
    stack: ExitStack = field(default_factory=ExitStack)


@dataclass(kw_only=True)
class _Running:
    """A continuation in progress."""

    group: _Group
    session: Any
    pending: list[int]
    position: int
    room: int
    seed: int
    sample: int
    ids: list[int] = field(default_factory=list)
    ended: str = ""


def item_seed(law: DecodingLaw, item_id: str) -> DecodingLaw:
    """Return the law with a seed for this item, so that two items have different draws at equal
    positions.
    """
    if law.is_greedy:
        return law
    seed = int(digest("sevenfold/eval-seed/1", str(law.seed), item_id)[:16], 16)
    return replace(law, seed=seed)


class EvaluationDecoder:
    """A sealed model with the functions that evaluations need.

    Args:
        batch: sequences in one call of the engine.
        truncation: the treatment of a prompt that does not fit the context. `none` refuses it, and
            `left` drops ids from its left.
    """

    def __init__(self, model: Model, *, batch: int = 16, truncation: str = "none") -> None:
        if truncation not in TRUNCATIONS:
            raise UsageError(f"truncation {truncation!r}", remedy=f"use {' or '.join(TRUNCATIONS)}")
        if batch < 1:
            raise UsageError(f"a batch of {batch}", where="--batch", remedy="use 1 or more")
        self.model, self.batch, self.truncation = model, batch, truncation
        self.tokenizer = model.tokenizer
        identity = model.artifact.provenance.get("identity")
        # A form that this version does not know is refused here, because prompts are written in a
        # known one.
        self.template = tuned_template(identity.get("facts") if isinstance(identity, dict) else None)
        self._can_fork = hasattr(model.engine.session(), "fork")

    def facts(self, law: DecodingLaw, n_samples: int) -> dict[str, object]:
        """Return the decoding law of a run as JSON. Together with the roots of model and task it
        decides all outputs.
        """
        form = {"form": self.template.name} if self.template else {}
        return {**law.facts(), "samples": n_samples, "truncation": self.truncation, **form}

    def fitted(self, ids: list[int], needed: int, item: str) -> list[int]:
        """Return the ids of a prompt, cut so that `needed` more tokens fit.

        Raises:
            GateError: they do not fit, and nothing may be dropped.
        """
        most = self.model.context - needed
        if len(ids) <= most:
            return ids
        if self.truncation == "none" or most < 2:
            raise GateError(
                f"the prompt has {len(ids)} tokens and {needed} are to follow; "
                f"the context has {self.model.context}",
                where=item,
                remedy=(
                    "use a model with a longer context, a suite with shorter prompts, or --truncate left"
                ),
            )
        # The token that begins a text is kept.
        return [ids[0], *ids[len(ids) - most + 1 :]]

    def generate(
        self,
        items: Sequence[Item],
        stops: Sequence[str],
        max_tokens: int,
        law: DecodingLaw,
        n_samples: int = 1,
    ) -> Iterator[tuple[Item, list[Answer]]]:
        """Yield each item with its answers, in the order of the items.

        An answer ends at a stop text, at a token that ends a text, after `max_tokens`, or at the
        end of the context.

        Raises:
            GateError: a prompt is refused, or does not fit.
        """
        waiting = iter(enumerate(items))
        running: list[_Running] = []
        done: dict[int, _Group] = {}
        endings = [stop.encode() for stop in stops]
        n_yielded = 0
        try:
            while True:
                # When a sequence has ended, the next one takes its place at once.
                while not running or len(running) + n_samples <= self.batch:
                    number, item = next(waiting, (0, None))
                    if item is None:
                        break
                    done[number] = _Group(
                        item=item, answers=[None] * n_samples, gate=Gate().call(item.prompt)
                    )
                    running += self._started(done[number], max_tokens, law, n_samples)
                if not running:
                    return
                self._advance(running, law)
                for one in running:
                    self._look(one, endings, max_tokens)
                running = [one for one in running if not self._is_over(one)]
                while n_yielded in done and None not in done[n_yielded].answers:
                    group = done.pop(n_yielded)
                    n_yielded += 1
                    yield group.item, [answer for answer in group.answers if answer is not None]
        finally:
            for one in running:
                one.session.close()
            for group in done.values():
                group.stack.close()

    def _started(self, group: _Group, max_tokens: int, law: DecodingLaw, n_samples: int) -> list[_Running]:
        """Return the sequences of an item. Its prompt is read once when sessions can fork."""
        body = group.stack.enter_context(group.gate)
        if group.item.suffix:
            group.stack.enter_context(Gate().call(group.item.suffix))
        ids = self.fitted(self.prompt_of(group.item, body), 1, group.item.id)
        room = min(max_tokens, self.model.context - len(ids))
        first = self.model.engine.session()
        is_read = n_samples > 1 and len(ids) > 1 and self._can_fork
        if is_read:
            first.forward(np.array(ids[:-1], np.int64), last_only=True)
        found = []
        for sample in range(n_samples):
            if sample == 0:
                session: Any = first
            else:
                # `_can_fork` checked that the session has `fork`.
                session = first.fork() if is_read else self.model.engine.session()  # type: ignore[attr-defined]  # checked
            found.append(
                _Running(
                    group=group,
                    session=session,
                    pending=ids[-1:] if is_read else ids,
                    position=len(ids),
                    room=room,
                    seed=item_seed(law, group.item.id).seed,
                    sample=sample,
                )
            )
        return found

    def prompt_of(self, item: Item, body: str) -> list[int]:
        """Return the ids of a prompt that has passed the gate. In a fill-in-middle prompt the parts
        follow their markers, in the order of the item.

        Raises:
            UsageError: the vocabulary has no such markers.
        """
        if not item.order:
            return prompt_ids(self.tokenizer, body)
        if missing := [name for name in FIM_TOKENS if name not in self.tokenizer.special_tokens]:
            raise UsageError(
                f"the vocabulary of the model has no token {missing[0]}",
                where=item.id,
                remedy="fill-in-middle needs a model that was trained with train.objectives.fim",
            )
        prefix, suffix, middle = (self.tokenizer.special_id(name) for name in FIM_TOKENS)
        parts = {
            "P": [prefix, *self.tokenizer.encode(body)],
            "S": [suffix, *self.tokenizer.encode(item.suffix)],
            "M": [middle],
        }
        return [i for part in item.order for i in parts[part]]

    def _is_over(self, one: _Running) -> bool:
        """Return whether a sequence has ended. If so, store its answer and free its session."""
        if not one.ended:
            return False
        one.session.close()
        group = one.group
        group.answers[one.sample] = Answer(ids=tuple(one.ids), ended=one.ended)
        if None not in group.answers:
            group.stack.close()
        return True

    def _advance(self, running: list[_Running], law: DecodingLaw) -> None:
        """Add up to BLOCK_TOKENS tokens to each sequence; only one when tokens are drawn."""
        engine = self.model.engine
        if law.is_greedy and hasattr(engine, "decode_batch"):
            ends = self.tokenizer.roles.ends
            limits = [min(BLOCK_TOKENS, one.room - len(one.ids)) for one in running]
            calls = [(one.session, np.array(one.pending, np.int64)) for one in running]
            found = engine.decode_batch(calls, limits, stop=ends[0] if len(ends) == 1 else None)
            for one, tokens in zip(running, found, strict=True):
                one.ids += tokens
                one.pending = tokens[-1:]
                one.position += len(tokens)
            return
        rows = self._rows(running)
        chosen = law.choose_of_each(
            np.stack(rows),
            positions=[one.position for one in running],
            samples=[one.sample for one in running],
            seeds=[one.seed for one in running],
        )
        for one, token in zip(running, chosen, strict=True):
            one.ids.append(token)
            one.pending = [token]
            one.position += 1

    def _rows(self, running: list[_Running]) -> list[Ints]:
        """Append the pending ids of each sequence, and return the logits after them."""
        calls = [(one.session, np.array(one.pending, np.int64)) for one in running]
        engine = self.model.engine
        if hasattr(engine, "forward_batch"):
            return [rows[0] for rows in engine.forward_batch(calls, last_only=True)]
        return [session.forward(ids, last_only=True)[0] for session, ids in calls]

    def _look(self, one: _Running, stops: list[bytes], max_tokens: int) -> None:
        """End a continuation at its first stop text, at the token that ends a text, or at its
        limit.
        """
        ends = self.tokenizer.roles.ends
        for n, token in enumerate(one.ids):
            if token in ends:
                one.ids, one.ended = one.ids[:n], "end"
                break
        text, cut = self.tokenizer.decode_bytes(one.ids), len(one.ids)
        if any(stop in text for stop in stops):
            # Keep tokens up to the one that completes the first stop text, so that the block size
            # changes nothing.
            n_bytes = 0
            for n, token in enumerate(one.ids):
                n_bytes += len(self.tokenizer.token_bytes(token))
                if any(stop in text[:n_bytes] for stop in stops):
                    cut = n + 1
                    break
            one.ids, one.ended = one.ids[:cut], "stop"
        elif not one.ended and len(one.ids) >= one.room:
            one.ended = "length" if one.room == max_tokens else "context"

    def pair_ids(self, context: str, continuation: str, item: str) -> tuple[list[int], list[int]]:
        """Return the ids of a context and of its continuation by the rule of lm-eval. Spaces at the
        end of the context belong to the continuation. Both are encoded as one text, which is cut at
        the length of the encoded context.

        Raises:
            UsageError: no token is left of the continuation, because a token crosses the border.
        """
        n_spaces = len(context) - len(context.rstrip())
        if n_spaces:
            continuation = context[-n_spaces:] + continuation
            context = context[:-n_spaces]
        n_context = len(self.tokenizer.encode(context)) if context else 0
        whole = self.tokenizer.encode(context + continuation)
        if not whole[n_context:]:
            raise UsageError(
                f"nothing is left of the continuation {continuation[:40]!r}",
                where=item,
                remedy="leave the item out",
            )
        return self.tokenizer.begun(whole[:n_context]), whole[n_context:]

    def likelihoods(self, items: Sequence[Item]) -> Iterator[tuple[Item, list[Likelihood]]]:
        """Yield each item with the log-likelihood of each of its choices, in the order of the items.

        Raises:
            GateError: a prompt is refused, or does not fit.  UsageError: as `pair_ids`.
        """
        shared = _Prefix(self)
        try:
            for item in items:
                yield item, self._score(item, shared)
        finally:
            shared.close()

    def _score(self, item: Item, shared: _Prefix) -> list[Likelihood]:
        with ExitStack() as gates:
            gates.enter_context(Gate().call(item.prompt + "".join(item.choices)))
            pairs = [self.pair_ids(item.prompt, choice, item.id) for choice in item.choices]
            rows: list[tuple[list[int], list[int]]] = []
            for context, choice in pairs:
                if len(choice) > self.model.context - 1:
                    raise GateError(
                        f"a choice has {len(choice)} tokens; the context has {self.model.context}",
                        where=item.id,
                        remedy="use a model with a longer context",
                    )
                # The engine never reads the last id of a choice.
                rows.append((self.fitted(context, len(choice) - 1, item.id), choice))
            found = []
            for start in range(0, len(rows), self.batch):
                found += self._likelihoods_of(rows[start : start + self.batch], shared)
            return found

    def likelihoods_of_ids(
        self, rows: Sequence[tuple[list[int], list[int]]], text: str, name: str
    ) -> list[Likelihood]:
        """Return the log-likelihood of ids after other ids, for texts that are scored in windows.

        Raises:
            GateError: the text is refused, or a row does not fit the context.
        """
        for before, after in rows:
            if not before or len(before) + len(after) - 1 > self.model.context:
                raise GateError(f"a window of {len(before) + len(after)} tokens", where=name)
        shared = _Prefix(self)
        try:
            with ExitStack() as gates:
                gates.enter_context(Gate().call(text))
                return [x for row in rows for x in self._likelihoods_of([row], shared)]
        finally:
            shared.close()

    def _likelihoods_of(
        self, rows: Sequence[tuple[list[int], list[int]]], shared: _Prefix
    ) -> list[Likelihood]:
        engine = self.model.engine
        calls = []
        for context, choice in rows:
            session = shared.after(context[:-1])
            calls.append((session, np.array([context[-1], *choice[:-1]], np.int64)))
        if hasattr(engine, "forward_batch"):
            logits = engine.forward_batch(calls, last_only=False)
        else:
            logits = [session.forward(ids) for session, ids in calls]
        found = []
        for (session, _), (_, choice), rows_of_logits in zip(calls, rows, logits, strict=True):
            session.close()
            wanted = np.array(choice, np.int64)
            values = log_probabilities(rows_of_logits, wanted[:, None])
            found.append(
                Likelihood(
                    total=int(values.sum()),
                    n_tokens=len(choice),
                    is_greedy=bool((np.argmax(rows_of_logits, axis=1) == wanted).all()),
                )
            )
        return found


class _Prefix:
    """The ids that were read last, kept so that the beginning of the next context is not read
    again.
    """

    def __init__(self, decoder: EvaluationDecoder) -> None:
        self._engine, self._can_fork = decoder.model.engine, decoder._can_fork
        self._session: Any = self._engine.session()
        self._ids: list[int] = []

    def close(self) -> None:
        """Free the cache."""
        self._session.close()

    def after(self, ids: list[int]) -> Any:
        """Return a session that has read `ids`. The caller closes it."""
        if not self._can_fork:
            session: Any = self._engine.session()
            if ids:
                session.forward(np.array(ids, np.int64), last_only=True)
            return session
        n = next((i for i, (a, b) in enumerate(zip(ids, self._ids, strict=False)) if a != b), None)
        n = min(len(ids), len(self._ids)) if n is None else n
        if n < len(self._ids):
            n = self._session.nearest(n)
            self._session.truncate(n)
            self._ids = self._ids[:n]
        if rest := ids[n:]:
            self._session.forward(np.array(rest, np.int64), last_only=True)
            self._ids = list(ids)
        return self._session.fork()
