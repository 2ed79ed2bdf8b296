"""Fetch every package of a lock. Present packages stay, failures are named, and the rest continues.

An interrupted fetch loses at most what was in progress, and the same call resumes it. A few
packages are fetched at a time. They are reported in the order of the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Literal

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import read_bytes
from sevenfold.core.process.log import Progress
from sevenfold.corpus.fetch.client import Failure, FetchFailure
from sevenfold.corpus.fetch.lock import Pin, source_files
from sevenfold.corpus.fetch.registries import Apt, download_npm, download_python
from sevenfold.corpus.fetch.store import PackageStore

N_AT_ONCE = 4
N_ATTEMPTS = 3
PAUSE_SECONDS = 2.0
# When so many packages in a row have no answer, and none before had one, there is no network, and
# waiting is useless.
NO_NETWORK_AFTER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOutcome:
    """The result for one package. `n_bytes` counts its files in the store."""

    pin: Pin
    status: Literal["present", "fetched", "failed"]
    n_bytes: int = 0
    reason: Failure | Literal["", "not tried"] = ""
    detail: str = ""


class _Fetch:
    def __init__(self, store: PackageStore, progress: Progress) -> None:
        self._store, self._progress = store, progress
        self._apt = Apt(store.directory / "apt")
        self._guard, self._apt_ready = Lock(), Lock()
        self._refreshed = False
        self._n_done = self._n_bytes = self._n_silent = self._n_answers = 0
        self.stopped: FetchFailure | None = None
        self.interrupted = Event()

    def one(self, pin: Pin) -> FetchOutcome:
        """Return one package, from the store or from its registry."""
        outcome = self._outcome(pin)
        with self._guard:
            self._n_done += 1
            self._n_bytes += outcome.n_bytes
            if outcome.status == "failed" and outcome.reason != "not tried":
                self._progress.note(f"{pin.label}: {outcome.reason}: {outcome.detail}")
            self._progress.advance(self._n_done, MB=round(self._n_bytes / 1e6))
        return outcome

    def _outcome(self, pin: Pin) -> FetchOutcome:
        try:
            if self._store.complete(pin):
                return FetchOutcome(pin=pin, status="present", n_bytes=self._size(pin))
            if self.stopped is not None:
                return FetchOutcome(pin=pin, status="failed", reason="not tried", detail=self.stopped.reason)
            self._attempts(pin)
            return FetchOutcome(pin=pin, status="fetched", n_bytes=self._size(pin))
        except FetchFailure as failure:
            return FetchOutcome(pin=pin, status="failed", reason=failure.reason, detail=failure.detail)

    def _size(self, pin: Pin) -> int:
        return sum(path.stat().st_size for _, path in self._store.files(pin) or [])

    def _attempts(self, pin: Pin) -> None:
        for attempt in range(N_ATTEMPTS):
            try:
                self._download(pin)
            except FetchFailure as failure:
                self._count(failure)
                retry = failure.reason in ("no network", "failed") and self.stopped is None
                if (
                    not retry
                    or attempt == N_ATTEMPTS - 1
                    or self.interrupted.wait(PAUSE_SECONDS * 2**attempt)
                ):
                    raise
            else:
                with self._guard:
                    self._n_answers += 1
                return

    def _count(self, failure: FetchFailure) -> None:
        with self._guard:
            if failure.reason == "disk full":
                self.stopped = failure
            elif failure.reason == "no network":
                self._n_silent += 1
                if self._n_silent >= NO_NETWORK_AFTER and not self._n_answers:
                    self.stopped = failure
            else:
                self._n_answers += 1

    def _download(self, pin: Pin) -> None:
        try:
            with self._store.staging() as staging:
                if pin.kind == "pypi":
                    download_python(pin, staging)
                elif pin.kind == "npm":
                    download_npm(pin, staging)
                else:
                    self._ready_apt()
                    (self._apt.download_binary if pin.kind == "deb" else self._apt.download_source)(
                        pin, staging
                    )
                self._adopt(pin, staging)
        except StorageError as error:
            if "no space" in error.what or "quota" in error.what:
                raise FetchFailure("disk full", str(error)) from error
            raise

    def _ready_apt(self) -> None:
        with self._apt_ready:
            if not self._refreshed:
                self._apt.refresh()
                self._refreshed = True

    def _adopt(self, pin: Pin, staging: Path) -> None:
        """Move staged files into the store. Of a Debian source, the .dsc that names the other files
        comes last.
        """
        with storage(staging):
            files = sorted(path for path in staging.iterdir() if path.is_file())
        if pin.kind == "dsc":
            dsc = staging / pin.file
            wanted = source_files(read_bytes(dsc)) if dsc in files else []
            for name, digest in wanted:
                part = staging / name
                if part not in files or not self._store.adopt(part, "sha256", digest):
                    raise FetchFailure("hash differs" if part in files else "not found", name)
            files = [dsc] if wanted else []
        if not files:
            raise FetchFailure("not found", "the client brought no file")
        if not any(self._store.adopt(path, pin.algorithm, pin.digest) for path in files):
            raise FetchFailure("hash differs", f"{files[0].name} has not the pinned {pin.algorithm}")


def fetch_all(pins: Sequence[Pin], directory: Path, progress: Progress) -> list[FetchOutcome]:
    """Fetch packages into a store, a few at a time. Return outcomes in the order of `pins`.

    Raises:
        StorageError: the store cannot be written for a reason other than a full disk.
    """
    store = PackageStore(directory)
    with storage(directory):
        directory.mkdir(parents=True, exist_ok=True)
    store.clear_staging()
    fetch = _Fetch(store, progress)
    progress.start("fetch", len(pins), "packages")
    with ThreadPoolExecutor(N_AT_ONCE) as pool:
        try:
            return list(pool.map(fetch.one, pins))
        except BaseException:
            # Ctrl-C ends the clients as well, which is not a reason to retry.
            fetch.interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
