"""Bringing one package through the registry's own client, as this machine configures it. Nothing of
it is run.

pip: `--no-deps --only-binary :all:`, so no build starts; a pinned hash chooses the file. A source
distribution
is taken from the configured index itself, because pip would run its build to learn its name. npm:
`npm pack --ignore-scripts`. apt-get: `download`, and `source --download-only` with lists of our own
beside the packages, in which every `deb` source of the machine is a `deb-src` source, too; the
machine's own lists are not touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from sevenfold.core.errors import storage
from sevenfold.corpus.fetch.lock import Pin

Failure = Literal["not found", "hash differs", "no network", "disk full", "no client", "failed"]

TIMEOUT_SECONDS = 1800
# What the clients say (LC_ALL=C) -> what it means; the first that matches.
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
    """Why one package did not arrive."""

    def __init__(self, reason: Failure, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason, detail)


def run_client(command: list[str], directory: Path) -> str:
    """Run the client of a registry in `directory`, and return its standard output.

    Raises:
        FetchFailure: it is not installed, or failed, under the reason that its words give.
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
    """Return the failure that a client's words mean."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for reason, pattern in _SAYINGS:
        if saying := [line for line in lines if re.search(pattern, line)]:
            final = [line for line in saying if line.startswith(("E:", "ERROR:", "npm error"))]
            return FetchFailure(reason, (final or saying)[0][:300])
    return FetchFailure("failed", lines[-1][:300] if lines else "the client failed without a word")


_WHEEL = re.compile(r"-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl$")


def download_python(pin: Pin, staging: Path) -> None:
    """Download a wheel, whatever interpreter it is for, or a source distribution."""
    found = _WHEEL.search(pin.file)
    if found is None:
        from sevenfold.corpus.fetch.sdist import download_sdist

        download_sdist(pin, staging)
        return
    options = ["--ignore-requires-python", "--require-hashes"]
    python = re.fullmatch(r"([a-z]+)(\d+)", found["python"].split(".")[0])
    if python and python[1] != "py":
        options += [
            "--implementation",
            python[1],
            "--python-version",
            python[2],
            "--abi",
            found["abi"].split(".")[0],
        ]
    if found["platform"] != "any":
        options += [part for platform in found["platform"].split(".") for part in ("--platform", platform)]
    pip_download(f"{pin.name}=={pin.version} --hash=sha256:{pin.digest}", options, staging)


def pip_download(requirement: str, options: list[str], staging: Path) -> None:
    """Download one wheel into `staging`, without its dependencies and without a build. Raises
    FetchFailure.
    """
    listed = staging / "requirement.txt"
    with storage(listed):
        listed.write_text(requirement + "\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--no-cache-dir",
    ]
    command += ["--progress-bar", "off", "--no-input", *options, "-d", str(staging), "-r", str(listed)]
    run_client(command, staging)
    listed.unlink()


# `--silent` would hide why it failed; it is we who try again (its own tries take three minutes
# without a network).
NPM_SAYS_WHY = ("--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


def download_npm(pin: Pin, staging: Path) -> None:
    """Download a package of npm, as the registry packed it."""
    command = ["npm", "pack", f"{pin.name}@{pin.version}", "--ignore-scripts", *NPM_SAYS_WHY]
    run_client([*command, "--cache", str(staging / "cache"), "--pack-destination", str(staging)], staging)
    shutil.rmtree(staging / "cache", ignore_errors=True)


class Apt:
    """apt-get with lists of its own under `directory`: what the machine's
    sources offer, sources included.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._problem: FetchFailure | None = None

    def refresh(self) -> None:
        """Copy the machine's sources and get their lists.

        What fails is told by the packages that need it.
        """
        try:
            self._write_sources()
            # By itself `update` ends well without a network, and every package is then "not found".
            failing = ["-o", "APT::Update::Error-Mode=any"]
            run_client(["apt-get", *self._options(), *failing, "update", "-q"], self._directory)
        except FetchFailure as failure:
            self._problem = failure

    def _options(self) -> list[str]:
        own = {
            "Dir::State::Lists": "lists",
            "Dir::Cache": "cache",
            "Dir::Etc::SourceList": "sources.list",
            "Dir::Etc::SourceParts": "parts",
        }
        fixed = {"APT::Sandbox::User": "root"} if os.geteuid() == 0 else {}
        options = {name: str(self._directory / place) for name, place in own.items()} | fixed
        return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]

    def _write_sources(self) -> None:
        text = run_client(
            ["apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"],
            Path(),
        )
        places = dict(re.findall(r"(\w+)='([^']*)'", text))
        parts = Path(places.get("PARTS", ""))
        files = [
            Path(places.get("LIST", "")),
            *sorted(parts.glob("*.list")),
            *sorted(parts.glob("*.sources")),
        ]
        with storage(self._directory):
            for name in ("lists/partial", "cache/archives/partial", "parts"):
                (self._directory / name).mkdir(parents=True, exist_ok=True)
            (self._directory / "sources.list").write_text("")
            for file in files:
                if file.is_file():
                    copy = self._directory / "parts" / file.name
                    copy.write_text(with_sources(file.read_text(errors="replace"), file.suffix))

    def download_binary(self, pin: Pin, staging: Path) -> None:
        """Download a .deb."""
        self.client(["apt-get", "download", "-q", f"{pin.name}={pin.version}"], staging)

    def download_source(self, pin: Pin, staging: Path) -> None:
        """Download a .dsc and the files that it names."""
        shown = self.client(["apt-cache", "showsrc", "--only-source", pin.name], staging)
        version = source_version(shown, pin)
        if version is None:
            offered = ", ".join(re.findall(r"^Version: (\S+)$", shown, re.MULTILINE)) or "nothing"
            raise FetchFailure("not found", f"the archive has {offered} of {pin.name}: pin it again")
        command = ["apt-get", "source", "--download-only", "--only-source", "-q", f"{pin.name}={version}"]
        self.client(command, staging)

    def client(self, command: list[str], staging: Path) -> str:
        """Run apt's program `command[0]` with our lists. Raises FetchFailure."""
        try:
            return run_client([command[0], *self._options(), *command[1:]], staging)
        except FetchFailure as failure:
            if self._problem is not None and self._problem.reason == "no network":
                # Without lists, everything is "not found"
                raise self._problem from failure
            raise


def with_sources(text: str, suffix: str) -> str:
    """Return apt's sources with every binary source as a source of sources, too. `suffix`: .list or
    .sources.
    """
    if suffix == ".sources":
        return re.sub(r"^Types:.*$", "Types: deb deb-src", text, flags=re.MULTILINE | re.IGNORECASE)
    lines = [line for line in text.splitlines() if line.strip()]
    return (
        "\n".join([*lines, *(re.sub(r"^deb\s", "deb-src ", x) for x in lines if re.match(r"deb\s", x))])
        + "\n"
    )


def source_version(shown: str, pin: Pin) -> str | None:
    """Return the version, epoch included, whose .dsc has the pinned hash, from the words of
    `apt-cache showsrc`.
    """
    for paragraph in shown.split("\n\n"):
        if re.search(rf"^ {pin.digest} +\d+ +{re.escape(pin.file)}$", paragraph, re.MULTILINE):
            found = re.search(r"^Version: (\S+)$", paragraph, re.MULTILINE)
            return found[1] if found else None
    return None
