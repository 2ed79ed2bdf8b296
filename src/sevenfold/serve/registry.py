"""The models of a server, by name: each with its scheduler, and the one before it for a way back."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sevenfold.core.errors import SevenfoldError
from sevenfold.engine.session import Model
from sevenfold.serve.errors import NOT_FOUND, UNAVAILABLE, RequestError
from sevenfold.serve.limits import ServerLimits, Switches
from sevenfold.serve.prompts import Prompts
from sevenfold.serve.scheduler import Scheduler


def _identity(model: Model) -> dict[str, Any]:
    identity = model.artifact.provenance.get("identity")
    return identity if isinstance(identity, dict) else {}


def _name_of(path: Path, model: Model) -> str:
    """Return the name under which a file answers: its own, or its recipe's where it has the name of
    every sealed file.
    """
    recipe = _identity(model).get("recipe_name")
    return recipe if path.stem == "model" and isinstance(recipe, str) and recipe else path.stem


@dataclass(kw_only=True)
class Served:
    """A model that answers."""

    name: str
    path: Path
    model: Model
    scheduler: Scheduler
    prompts: Prompts
    loaded_at: int = field(default_factory=lambda: int(time.time()))
    # Set when a probe found another bit: the server is not ready then.
    fault: str = ""

    @property
    def root(self) -> str:
        """Return the root of the sealed file."""
        return self.model.artifact.root

    @property
    def is_greedy_only(self) -> bool:
        """Return whether the family's law allows nothing but greedy decoding (A8)."""
        facts = _identity(self.model).get("facts")
        return isinstance(facts, dict) and facts.get("family") == "s7"

    @property
    def context(self) -> int:
        """Return the positions of a request: the model's, or fewer where an operator said so."""
        return min(self.model.context, self.scheduler.switches.context or self.model.context)

    def probe(self) -> None:
        """Replay the golden prompt; one wrong bit makes the model not ready."""
        try:
            self.model.self_test()
        except SevenfoldError as error:
            self.fault = str(error)


class Registry:
    """Models by name. A name keeps the model it had before, so that a change can be taken back."""

    def __init__(self, limits: ServerLimits, n_threads: int | None = None) -> None:
        self.limits, self._n_threads = limits, n_threads
        self.switches = Switches()
        self._models: dict[str, Served] = {}
        self._before: dict[str, Path] = {}
        self._lock = threading.Lock()

    def load(self, path: Path, name: str = "") -> Served:
        """Open and prove a file, then let it answer under its name; what had the name is drained.

        Raises:
            ArtifactError, StorageError: the file is refused; what runs goes on.
        """
        model = Model.open(path, n_threads=self._n_threads)
        served = Served(
            name=name or _name_of(path, model),
            path=path,
            model=model,
            scheduler=Scheduler(model, self.limits, self.switches),
            prompts=Prompts(model.tokenizer),
        )
        with self._lock:
            old = self._models.get(served.name)
            self._models[served.name] = served
            if old is not None:
                self._before[served.name] = old.path
        if old is not None:
            threading.Thread(target=old.scheduler.close, daemon=True).start()
        return served

    def back(self, name: str) -> Served:
        """Let the file before the last change answer again. Raises RequestError without one."""
        path = self._before.get(name)
        if path is None:
            raise RequestError(f"{name!r} has no model before this one", where="model", status=NOT_FOUND)
        return self.load(path, name)

    def find(self, name: str) -> Served:
        """Return the model of a name, or of a root; "" is the first. Raises RequestError."""
        models = self._models
        if not name and models:
            return next(iter(models.values()))
        if name in models:
            return models[name]
        for served in models.values():
            if name in (served.root, f"sha256:{served.root}"):
                return served
        if len(models) == 1 and models:
            # Clients insist on names of their own; with one model there is no doubt which is meant.
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
        """Drain every scheduler."""
        for served in self.all():
            served.scheduler.close()
