"""Run the client of a package registry, and name the reason when it fails."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Literal

Failure = Literal["not found", "hash differs", "no network", "disk full", "no client", "failed"]

TIMEOUT_SECONDS = 1800
# Messages of the clients (LC_ALL=C) and their meaning. The first match applies.
_SAYINGS: tuple[tuple[Failure, str], ...] = (
    (
        "disk full",
        r"No space left on device|ENOSPC|Disk quota exceeded|enough (?:free )?space",
    ),
    ("hash differs", r"DO NOT MATCH THE HASHES|EINTEGRITY|Hash Sum mismatch"),
    (
        "no network",
        r"Temporary failure|Could not resolve|Name or service not"
        r" known|ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENETUNREACH"
        r"|EHOSTUNREACH|Connection (?:refused|broken|reset|timed)|Failed to establish|Network is"
        r" unreachable|ProxyError"
        r"|timed out|Cannot connect|NewConnectionError|Could not connect|Unable to connect",
    ),
    (
        "not found",
        r"No matching distribution|Could not find a version|E404|ETARGET|notarget|Unable to locate|Unable to"
        r" find"
        r"|was not found|404 +Not Found|Can't find a source|no packages matching|No packages found|has no"
        r" installation",
    ),
)


class FetchFailure(Exception):  # noqa: N818  (an outcome that is listed, not an error of the program)
    """The reason why one package was not fetched."""

    def __init__(self, reason: Failure, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason, detail)


def run_client(command: list[str], directory: Path) -> str:
    """Run the client of a registry in `directory`, and return its standard output.

    Raises:
        FetchFailure: it is not installed, or it failed; the reason follows from its message.
    """
    environment = os.environ | {"LC_ALL": "C", "LANGUAGE": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
    except FileNotFoundError:
        raise FetchFailure("no client", f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise FetchFailure("no network", f"{command[0]}: nothing within {TIMEOUT_SECONDS} s") from None
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode == 0:
        return output
    raise classify(output + done.stderr.decode("utf-8", "replace"))


def classify(text: str) -> FetchFailure:
    """Return the failure that a message of a client means."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for reason, pattern in _SAYINGS:
        if saying := [line for line in lines if re.search(pattern, line)]:
            final = [line for line in saying if line.startswith(("E:", "ERROR:", "npm error"))]
            return FetchFailure(reason, (final or saying)[0][:300])
    return FetchFailure("failed", lines[-1][:300] if lines else "the client failed without a word")
