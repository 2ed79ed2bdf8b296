"""The models of a server by name, each with its scheduler and the model before it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sevenfold.core.errors import SevenfoldError
from sevenfold.engine.session import Model
from sevenfold.serve.batching.scheduler import Scheduler
from sevenfold.serve.batching.suggestions import Suggestions
from sevenfold.serve.errors import NOT_FOUND, UNAVAILABLE, RequestError
from sevenfold.serve.limits import ServerLimits, Switches
from sevenfold.serve.prompts import Prompts
from sevenfold.serve.trial import CANARY, SHADOW, Trial
from sevenfold.tokenizer.chat.template import sealed_template


def _identity(model: Model) -> dict[str, Any]:
    identity = model.artifact.provenance.get("identity")
    return identity if isinstance(identity, dict) else {}


def _name_of(path: Path, model: Model) -> str:
    """Return the name under which a file is served: its file name, or the name of its recipe when
    the file is called model.s7l.
    """
    recipe = _identity(model).get("recipe_name")
    return recipe if path.stem == "model" and isinstance(recipe, str) and recipe else path.stem


@dataclass(kw_only=True)
class Served:
    """A model in service."""

    name: str
    path: Path
    model: Model
    scheduler: Scheduler
    prompts: Prompts
    suggestions: Suggestions = field(default_factory=Suggestions)
    loaded_at: int = field(default_factory=lambda: int(time.time()))
    # The model on trial beside it.
    trial: Trial | None = None
    # Set when a probe gave other bits. The server is then not ready.
    fault: str = ""

    @property
    def root(self) -> str:
        """Return the root of the sealed file."""
        return self.model.artifact.root

    @property
    def names(self) -> tuple[str, str]:
        """Return the names of exactly this root. No canary answers them."""
        return self.root, f"sha256:{self.root}"

    @property
    def family(self) -> str:
        """Return the family of the model's recipe; "" where the file does not say it."""
        facts = _identity(self.model).get("facts")
        family = facts.get("family") if isinstance(facts, dict) else None
        return family if isinstance(family, str) else ""

    @property
    def is_greedy_only(self) -> bool:
        """Return whether the family allows only greedy decoding (A8)."""
        return self.family == "s7"

    @property
    def context(self) -> int:
        """Return the largest number of positions of a request: that of the model, or fewer when an
        operator set a limit.
        """
        return min(self.model.context, self.scheduler.switches.context or self.model.context)

    def guess_between(self, salt: str, prefix: str, suffix: str) -> tuple[int, ...]:
        """Return the ids of the rest of an earlier suggestion; none when there is no such
        suggestion.
        """
        text = self.suggestions.find(salt, prefix, suffix)
        return tuple(self.model.tokenizer.encode(text)) if text else ()

    def probe(self) -> None:
        """Replay the golden prompt. After one wrong bit the model is not ready."""
        try:
            self.model.self_test()
        except SevenfoldError as error:
            self.fault = str(error)


class Registry:
    """The models by name. A name keeps the model that it had before, so that a change can be undone.

    Args:
        speculate, draft: see `Guesser`. All models use the same draft model.
    """

    def __init__(
        self,
        limits: ServerLimits,
        n_threads: int | None = None,
        *,
        speculate: str = "auto",
        draft: Path | None = None,
    ) -> None:
        self.limits, self._n_threads, self._speculate = limits, n_threads, speculate
        self._draft = None if draft is None else Model.open(draft, n_threads=n_threads)
        self.switches = Switches()
        self._models: dict[str, Served] = {}
        self._before: dict[str, Path] = {}
        self._lock = threading.Lock()

    def load(self, path: Path, name: str = "") -> Served:
        """Open and prove a file, then serve it under its name. The model that had the name, and a
        trial of it, are drained.

        Raises:
            ArtifactError, StorageError: the file is refused; the running models continue.
        """
        return self._switch(self._open(path, name))

    def _open(self, path: Path, name: str = "") -> Served:
        model = Model.open(path, n_threads=self._n_threads)
        scheduler = Scheduler(model, self.limits, self.switches, speculate=self._speculate, draft=self._draft)
        return Served(
            name=name or _name_of(path, model),
            path=path,
            model=model,
            scheduler=scheduler,
            prompts=Prompts(model.tokenizer, sealed_template(_identity(model).get("facts"))),
        )

    def _switch(self, served: Served) -> Served:
        """Let a model answer under its name."""
        with self._lock:
            old = self._models.get(served.name)
            self._models[served.name] = served
            if old is not None:
                self._before[served.name] = old.path
        if old is not None:
            trial, old.trial = old.trial, None
            if trial is not None and trial.served is not served:
                _drain(trial.served)
            _drain(old)
        return served

    def try_out(self, path: Path, name: str, kind: str, share: int) -> Trial:
        """Open and prove a file, then put it on trial beside the model of a name. An earlier trial
        ends.

        Raises:
            ArtifactError, StorageError: the file is refused; the running models continue.
            RequestError: there is no such model, or the vocabulary of a shadow differs.
        """
        now = self.find(name)
        trial = Trial(kind=kind, served=self._open(path, now.name), share=share)
        if kind == SHADOW and trial.served.model.artifact.dictionary != now.model.artifact.dictionary:
            _drain(trial.served)
            raise RequestError(
                "it has another vocabulary, so its tokens cannot be compared",
                where="path",
                remedy="use a canary",
            )
        self.end_trial(now)
        now.trial = trial
        return trial

    def end_trial(self, served: Served) -> bool:
        """End the trial beside a model. Return whether there was one."""
        trial, served.trial = served.trial, None
        if trial is not None:
            _drain(trial.served)
        return trial is not None

    def promote(self, name: str) -> Served:
        """Let the model on trial answer all requests. Raises RequestError without a trial."""
        trial = self.find(name).trial
        if trial is None:
            raise RequestError("nothing is on trial", where="model", status=NOT_FOUND)
        return self._switch(trial.served)

    def back(self, name: str) -> Served:
        """End the trial of a name. Without a trial, serve the file before the last change again.

        Raises:
            RequestError: there is neither a trial nor an earlier file.
        """
        now = self._models.get(name)
        if now is not None and self.end_trial(now):
            return now
        path = self._before.get(name)
        if path is None:
            raise RequestError(f"{name!r} has no model before this one", where="model", status=NOT_FOUND)
        return self.load(path, name)

    def route(self, name: str) -> Served:
        """Return the model that answers this request: the model of `find`, or its canary for a
        share of the requests.

        Raises:
            RequestError: there is none.
        """
        served = self.find(name)
        trial = served.trial
        if trial is not None and trial.kind == CANARY and name not in served.names and trial.takes():
            return trial.served
        return served

    def find(self, name: str) -> Served:
        """Return the model of a name or a root; "" means the first. Raises RequestError."""
        models = self._models
        if not name and models:
            return next(iter(models.values()))
        if name in models:
            return models[name]
        for served in models.values():
            if name in served.names:
                return served
        if len(models) == 1 and models:
            # Some clients send fixed names. With one model it is clear which one is meant.
            return next(iter(models.values()))
        raise RequestError(
            f"there is no model {name!r:.80}",
            where="model",
            remedy=f"use one of {', '.join(models)}",
            status=NOT_FOUND if models else UNAVAILABLE,
        )

    def all(self) -> list[Served]:
        """Return every model, in the order of loading."""
        return list(self._models.values())

    @property
    def fault(self) -> str:
        """Return why the server is not ready; "" when it is."""
        if not self._models:
            return "no model is loaded"
        return next((served.fault for served in self._models.values() if served.fault), "")

    def close(self) -> None:
        """Drain all schedulers."""
        for served in self.all():
            trial, served.trial = served.trial, None
            for each in (served, trial.served) if trial is not None else (served,):
                each.scheduler.close()


def _drain(served: Served) -> None:
    """Let a model finish its running requests, without waiting for it."""
    threading.Thread(target=served.scheduler.close, daemon=True).start()
