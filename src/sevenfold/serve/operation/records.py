"""Log each request: one line of JSON, and a span where OpenTelemetry is installed.

A record holds no prompt, no answer and no key. It identifies a caller only by the salt of its key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from sevenfold.serve.answers import Running

# The name under which the application stores the jobs of a request for the recorders.
RUNNING = "s7.running"
NANOSECONDS = 1_000_000_000


@dataclass(kw_only=True)
class Record:
    """The record of one request and its answer."""

    id: str
    method: str
    path: str
    headers: Mapping[bytes, str]
    began: float = field(default_factory=time.time)
    status: int = 0
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def end(self, scope: MutableMapping[str, Any], seconds: float) -> None:
        """Fill in `facts` after the end of the answer."""
        self.seconds = seconds
        self.facts = {
            "time": round(self.began, 3),
            "id": self.id,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "seconds": round(self.seconds, 6),
        }
        running = scope.get(RUNNING)
        if isinstance(running, Running):
            self.facts |= _of_running(running)


def _of_running(running: Running) -> dict[str, Any]:
    first = min((job.first_at for job in running.jobs if job.first_at), default=0.0)
    ends = [sample.finished for samples in running.samples for sample in samples if sample.finished]
    return {
        "model": running.served.name,
        "root": running.served.root,
        "prompt_tokens": running.n_prompt,
        "cached_tokens": sum(job.n_cached for job in running.jobs),
        "completion_tokens": running.n_completion,
        "finish": sorted({end.reason for end in ends}) if ends else ["cancelled"],
        "first_token_seconds": round(first - running.jobs[0].asked_at, 6) if first else None,
    }


class RequestRecorder(Protocol):
    """An interface for recording requests that have ended."""

    def write(self, record: Record) -> None:
        """Write one record."""


class JsonLines:
    """A recorder that writes one line of JSON for each request."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def write(self, record: Record) -> None:
        """Write a line."""
        self._write(json.dumps(record.facts, ensure_ascii=True, separators=(",", ":")) + "\n")


# Our facts under the names of OpenTelemetry's conventions for generative models.
ATTRIBUTES = {
    "method": "http.request.method",
    "path": "url.path",
    "status": "http.response.status_code",
    "model": "gen_ai.request.model",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "finish": "gen_ai.response.finish_reasons",
    "first_token_seconds": "gen_ai.server.time_to_first_token",
    "root": "sevenfold.root",
    "cached_tokens": "sevenfold.cached_tokens",
    "id": "sevenfold.request_id",
}


class RequestSpans:
    """A recorder that makes a span for each request. It is a child of the caller's span when the
    headers name one.
    """

    def __init__(self, trace: Any, propagate: Any) -> None:
        self._tracer, self._propagate = trace.get_tracer("sevenfold.serve"), propagate

    @classmethod
    def installed(cls) -> RequestSpans | None:
        """Return a recorder when OpenTelemetry is installed. The program that starts the server
        configures it.
        """
        try:
            return cls(import_module("opentelemetry.trace"), import_module("opentelemetry.propagate"))
        except ImportError:
            return None

    def write(self, record: Record) -> None:
        """Make a span."""
        carrier = {name.decode("latin-1"): value for name, value in record.headers.items()}
        span = self._tracer.start_span(
            f"{record.method} {record.path}",
            context=self._propagate.extract(carrier),
            start_time=int(record.began * NANOSECONDS),
        )
        for name, attribute in ATTRIBUTES.items():
            if record.facts.get(name) is not None:
                span.set_attribute(attribute, record.facts[name])
        span.end(end_time=int((record.began + record.seconds) * NANOSECONDS))
