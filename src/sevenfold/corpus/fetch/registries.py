"""Fetch one package through the client of its registry, as this machine configures it, without
running anything of it.

pip uses `--no-deps --only-binary :all:`, so no build starts, and a pinned hash chooses the file. A
source distribution is taken from the configured index directly, because pip would run its build to
learn its name. npm uses `npm pack --ignore-scripts`. apt-get uses `download`, and `source
--download-only` with lists of our own beside the packages, in which every `deb` source of the
machine is also a `deb-src` source. The lists of the machine are not changed.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from sevenfold.core.errors import storage
from sevenfold.corpus.fetch.client import FetchFailure, run_client
from sevenfold.corpus.fetch.lock import Pin
from sevenfold.corpus.fetch.sdist import download_sdist

_WHEEL = re.compile(r"-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl$")


def download_python(pin: Pin, staging: Path) -> None:
    """Download a wheel for any interpreter, or a source distribution."""
    found = _WHEEL.search(pin.file)
    if found is None:
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


# `--silent` would hide the cause of a failure. We retry ourselves, because npm's own retries take
# three minutes without a network.
NPM_SAYS_WHY = ("--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


def download_npm(pin: Pin, staging: Path) -> None:
    """Download a package of npm, as the registry packed it."""
    command = ["npm", "pack", f"{pin.name}@{pin.version}", "--ignore-scripts", *NPM_SAYS_WHY]
    run_client([*command, "--cache", str(staging / "cache"), "--pack-destination", str(staging)], staging)
    shutil.rmtree(staging / "cache", ignore_errors=True)


class Apt:
    """apt-get with its own lists under `directory`: binary and source packages of the sources of
    the machine.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._problem: FetchFailure | None = None

    def refresh(self) -> None:
        """Copy the sources of the machine and download their lists.

        A failure shows at the packages that need the list.
        """
        try:
            self._write_sources()
            # Without this option `update` succeeds without a network, and every package is then
            # "not found".
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
        places = dict(re.findall(r"(?<!\w)(\w+)='([^']*)'", text))
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
        """Run the program `command[0]` of apt with our lists. Raises FetchFailure."""
        try:
            return run_client([command[0], *self._options(), *command[1:]], staging)
        except FetchFailure as failure:
            if self._problem is not None and self._problem.reason == "no network":
                # Without lists, every package is "not found".
                raise self._problem from failure
            raise


def with_sources(text: str, suffix: str) -> str:
    """Return the sources of apt with a source-package entry for every binary entry. `suffix` is
    .list or .sources.
    """
    if suffix == ".sources":
        return re.sub(r"^Types:.*$", "Types: deb deb-src", text, flags=re.MULTILINE | re.IGNORECASE)
    lines = [line for line in text.splitlines() if line.strip()]
    return (
        "\n".join([*lines, *(re.sub(r"^deb\s", "deb-src ", x) for x in lines if re.match(r"deb\s", x))])
        + "\n"
    )


def source_version(shown: str, pin: Pin) -> str | None:
    """Return the version, with its epoch, whose .dsc has the pinned hash, from the output of
    `apt-cache showsrc`.
    """
    for paragraph in shown.split("\n\n"):
        if re.search(rf"^ {pin.digest} +\d+ +{re.escape(pin.file)}$", paragraph, re.MULTILINE):
            found = re.search(r"^Version: (\S+)$", paragraph, re.MULTILINE)
            return found[1] if found else None
    return None
