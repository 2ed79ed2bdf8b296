"""/metrics in the text format of Prometheus, under our names and under those of vLLM, for which
dashboards exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from sevenfold.serve.batching.counters import Histogram
from sevenfold.serve.registry import Registry, Served

# Our name, vLLM's name, the help text, and the source of the number.
COUNTERS = (
    ("sevenfold_prompt_tokens", "vllm:prompt_tokens", "Prompt tokens that were read"),
    ("sevenfold_generated_tokens", "vllm:generation_tokens", "Generated tokens"),
    ("sevenfold_steps", "", "Steps of the engine"),
    ("sevenfold_refused", "", "Requests refused because the queue was full"),
    ("sevenfold_prefix_cache_queries", "vllm:prefix_cache_queries", "Prompts looked up in the prefix cache"),
    (
        "sevenfold_prefix_cache_hits",
        "vllm:prefix_cache_hits",
        "Prompts whose beginning was in the prefix cache",
    ),
    ("sevenfold_prefix_cache_tokens", "", "Prompt tokens taken from the prefix cache"),
    ("sevenfold_guess_checks", "vllm:spec_decode_num_drafts", "Passes that checked guesses of a sequence"),
    ("sevenfold_guessed_tokens", "vllm:spec_decode_num_draft_tokens", "Tokens that were guessed"),
    ("sevenfold_guesses_held", "vllm:spec_decode_num_accepted_tokens", "Guessed tokens that were right"),
    ("sevenfold_trial_taken", "", "Requests that the model on trial answered"),
    ("sevenfold_trial_compared", "", "Answers that a shadow model repeated"),
    ("sevenfold_trial_different", "", "Answers of a shadow model that differ"),
)
# By the position after the last token, from 0.
BY_POSITION = (
    ("sevenfold_guessed_tokens_per_pos", "", "Tokens that were guessed, by place"),
    (
        "sevenfold_guesses_held_per_pos",
        "vllm:spec_decode_num_accepted_tokens_per_pos",
        "Guesses that held, by place",
    ),
)
GAUGES = (
    ("sevenfold_running", "vllm:num_requests_running", "Running sequences"),
    ("sevenfold_waiting", "vllm:num_requests_waiting", "Waiting requests"),
    ("sevenfold_prefix_cache_bytes", "", "Bytes of keys and values in the prefix cache"),
    ("sevenfold_ready", "", "1 while every probe gave the sealed bits"),
)
HISTOGRAMS = (
    ("sevenfold_first_token_seconds", "vllm:time_to_first_token_seconds", "Time to the first token"),
    ("sevenfold_queue_seconds", "vllm:request_queue_time_seconds", "Time in the queue"),
    ("sevenfold_request_seconds", "vllm:e2e_request_latency_seconds", "Time of a whole request"),
)


def _counts(served: Served) -> list[int]:
    counters, cache = served.scheduler.counters, served.scheduler.cache
    guesses, trial = served.scheduler.guesser.counts, served.trial
    return [
        counters.n_prompt,
        counters.n_generated,
        counters.n_steps,
        counters.n_refused,
        cache.n_queries,
        cache.n_hits,
        cache.n_tokens_saved,
        guesses.n_checks,
        sum(guesses.guessed),
        sum(guesses.held),
        trial.n_taken if trial else 0,
        trial.n_compared if trial else 0,
        trial.n_different if trial else 0,
    ]


def _levels(served: Served) -> list[int]:
    scheduler = served.scheduler
    return [scheduler.n_running, scheduler.n_waiting, scheduler.cache.n_bytes, 0 if served.fault else 1]


def _histograms(served: Served) -> list[Histogram]:
    counters = served.scheduler.counters
    return [counters.first_token, counters.queued, counters.whole]


class Collector:
    """Reads the counters of every model at each scrape."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        models = self._registry.all()
        for place, (ours, theirs, text) in enumerate(COUNTERS):
            for name in filter(None, (ours, theirs)):
                family = CounterMetricFamily(name, text, labels=["model_name"])
                for served in models:
                    family.add_metric([served.name], _counts(served)[place])
                yield family
        for place, (ours, theirs, text) in enumerate(GAUGES):
            for name in filter(None, (ours, theirs)):
                gauge = GaugeMetricFamily(name, text, labels=["model_name"])
                for served in models:
                    gauge.add_metric([served.name], _levels(served)[place])
                yield gauge
        yield from self._reasons(models)
        yield from self._positions(models)
        for place, (ours, theirs, text) in enumerate(HISTOGRAMS):
            for name in (ours, theirs):
                histogram = HistogramMetricFamily(name, text, labels=["model_name"])
                for served in models:
                    buckets, total = _buckets(_histograms(served)[place])
                    histogram.add_metric([served.name], buckets, total)
                yield histogram

    @staticmethod
    def _positions(models: Iterable[Served]) -> Iterator[Metric]:
        for place, (ours, theirs, text) in enumerate(BY_POSITION):
            for name in filter(None, (ours, theirs)):
                family = CounterMetricFamily(name, text, labels=["model_name", "position"])
                for served in models:
                    counts = served.scheduler.guesser.counts
                    for position, n in enumerate((counts.guessed, counts.held)[place]):
                        family.add_metric([served.name, str(position)], n)
                yield family

    @staticmethod
    def _reasons(models: Iterable[Served]) -> Iterator[Metric]:
        for name in ("sevenfold_finished", "vllm:request_success"):
            family = CounterMetricFamily(
                name, "Samples by the reason of their end", labels=["model_name", "finished_reason"]
            )
            for served in models:
                for reason, n in sorted(served.scheduler.counters.by_reason.items()):
                    family.add_metric([served.name, reason], n)
            yield family


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    buckets, sum_ = [], 0
    for bound, n in zip((*map(str, histogram.bounds), "+Inf"), list(histogram.counts), strict=True):
        sum_ += n
        buckets.append((bound, float(sum_)))
    return buckets, histogram.total


class Exposition:
    """The writer of /metrics."""

    def __init__(self, registry: Registry) -> None:
        self._prometheus = CollectorRegistry(auto_describe=False)
        self._prometheus.register(Collector(registry))

    def text(self) -> bytes:
        """Return the text format, version 0.0.4."""
        return bytes(generate_latest(self._prometheus))
