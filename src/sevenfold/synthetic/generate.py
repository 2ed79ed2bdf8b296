"""Generate samples in one fixed order with any number of worker processes.

Attempt i of a generator is a function of (seed, generator, i) alone, so any process may make it.
Blocks of attempts are made in parallel and taken in order. Caps and repeats are decided as blocks are
taken. So the bytes depend on the recipe and not on the workers. A run that was killed gives the same
bytes when it is run again, and the blocks that `blocks` kept are not made twice.
Memory: the samples of a few blocks, 8 bytes for each text kept, and the shapes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json, sha256
from sevenfold.core.process.worker_pool import process_pool
from sevenfold.sandbox.executor import Sandbox
from sevenfold.synthetic import blocks, held_out
from sevenfold.synthetic.rng import SeededChoices
from sevenfold.synthetic.sample import Attempts, SyntheticSample
from sevenfold.synthetic.table import GENERATORS
from sevenfold.synthetic.variety import Variety

BLOCK = 100
# Attempts for each sample that is asked for. After them the shortfall is reported.
MAX_ATTEMPTS = 4
_BLOCKS_A_WORKER = 3


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request: the number of samples by generator, the seed, and how many may share a shape."""

    counts: Mapping[str, int]
    seed: int
    max_per_shape: int

    def __post_init__(self) -> None:
        for name in self.counts:
            if name not in GENERATORS:
                raise UsageError(
                    f"no generator {name!r}",
                    where="synthetic",
                    remedy=f"generators are {', '.join(GENERATORS)}",
                )


@dataclass
class GenerationReport:
    """The result of a request: the variety of each generator."""

    by_generator: dict[str, Variety] = field(default_factory=dict)

    def facts(self) -> dict[str, Json]:
        """Return the figures of each generator, and their totals."""
        generators = {name: variety.facts() for name, variety in self.by_generator.items()}
        totals = ("n_asked", "n_samples", "n_bytes", "n_shortfall", "n_shapes")
        return {
            "generators": generators,
            **{name: sum(facts[name] for facts in generators.values()) for name in totals},
        }


def spread(count: int) -> dict[str, int]:
    """Divide `count` samples over all generators by their shares. The parts add up to `count`."""
    total, counts, given = sum(generator.share for generator in GENERATORS.values()), {}, 0
    shares = 0
    for name, generator in GENERATORS.items():
        shares += generator.share
        counts[name] = count * shares // total - given
        given += counts[name]
    return {name: n for name, n in counts.items() if n}


def generate(
    order: GenerationRequest, report: GenerationReport, workers: int = 1, keep: Path | None = None
) -> Iterator[tuple[str, int, SyntheticSample]]:
    """Yield the samples with their generator and number, generator by generator. `report` is filled
    on the way.

    Args:
        keep: a directory for finished blocks. Blocks that are already in it are used.

    Raises:
        SandboxError: programs cannot be executed safely here.
        UsageError: a grammar is not installed.
        StorageError: a worker process was killed.
        SevenfoldError: a table of the generators has a skeleton that is held out for evaluation.
    """
    held_out.refuse()
    with _Makers(workers, keep) as makers:
        for name, count in order.counts.items():
            variety = report.by_generator[name] = Variety()
            variety.n_asked = count
            yield from _of_generator(name, count, order, variety, makers)


def _of_generator(
    name: str, count: int, order: GenerationRequest, variety: Variety, makers: _Makers
) -> Iterator[tuple[str, int, SyntheticSample]]:
    seen: set[bytes] = set()
    n_blocks = -(-count * MAX_ATTEMPTS // BLOCK)
    for attempts in makers.blocks(name, order.seed, n_blocks):
        for sample in attempts:
            if sample is None:
                variety.n_failed += 1
                continue
            key = sha256(sample.text.encode())[:8]
            if key in seen:
                variety.n_repeats += 1
            elif variety.shapes[sample.shape] >= order.max_per_shape:
                variety.n_refused_cap += 1
            else:
                seen.add(key)
                variety.add(sample.text, sample.shape)
                yield name, variety.n_samples - 1, sample
            if variety.n_samples == count:
                return


class _Makers:
    """Worker processes, each with a sandbox of its own. With `workers` 1 this process does the work in
    one sandbox.
    """

    def __init__(self, workers: int, keep: Path | None) -> None:
        self._workers, self._keep = workers, keep
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> _Makers:
        if self._workers > 1:
            self._pool = process_pool(self._workers)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        _close_sandbox()

    def blocks(self, name: str, seed: int, n_blocks: int) -> Iterator[Attempts]:
        """Yield the blocks of attempts in order. A few are made ahead."""
        if self._pool is None:
            for index in range(n_blocks):
                yield _block(name, seed, index, self._keep)
            return
        waiting: deque[Future[Attempts]] = deque()
        try:
            for index in range(n_blocks):
                waiting.append(self._pool.submit(_block, name, seed, index, self._keep))
                if len(waiting) >= _BLOCKS_A_WORKER * self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise StorageError(
                "a worker process was killed, perhaps for lack of memory",
                where="synthetic samples",
                remedy="run the same command again, with fewer --workers",
            ) from error
        finally:
            for future in waiting:
                future.cancel()


_sandbox: Sandbox | None = None


def _block(name: str, seed: int, index: int, keep: Path | None) -> Attempts:
    """Return one block of attempts, made now or kept from an earlier run."""
    numbers = range(index * BLOCK, (index + 1) * BLOCK)
    file = blocks.path_of(keep, name, seed, numbers) if keep else None
    if file and (kept := blocks.load(file)) is not None:
        return kept
    made = _made(name, seed, numbers)
    if file:
        blocks.save(file, made)
    return made


def _made(name: str, seed: int, numbers: range) -> Attempts:
    global _sandbox
    if _sandbox is None:
        _sandbox = Sandbox()
    return [attempt(name, seed, number, _sandbox) for number in numbers]


def attempt(name: str, seed: int, number: int, sandbox: Sandbox) -> SyntheticSample | None:
    """Return the attempt `number` of a generator, or None when one of its checks fails."""
    making = GENERATORS[name].make(SeededChoices(seed, f"synthetic/{name}/{number}"))
    try:
        job = next(making)
        while True:
            job = making.send(sandbox.run(job))
    except StopIteration as end:
        sample: SyntheticSample | None = end.value
        return sample


def _close_sandbox() -> None:
    global _sandbox
    if _sandbox is not None:
        _sandbox.close()
        _sandbox = None
