"""No client is given a name or a version that it could read as anything else; and relative
folders mean what the user meant.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from package_builders import zip_of

from sevenfold.core.errors import RecipeError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.corpus.fetch import fetch_all, read_lock, registries, run, sdist, store_directory
from sevenfold.corpus.fetch.client import FetchFailure
from sevenfold.corpus.fetch.grammar import fault
from sevenfold.corpus.fetch.lock import Pin
from sevenfold.corpus.fetch.pin import parse_request, pin_all
from sevenfold.corpus.fetch.store import PackageStore

HASH = "0" * 64
INTEGRITY = "sha512-" + "A" * 86 + "=="

# Read by a client as an address, a folder, an alias, a tag, a range, an option or another package.
ANYWHERE = (
    "http:HOST",
    "http://HOST/x.tgz",
    "https://HOST/x",
    "git+http://HOST/x",
    "git+https:HOST",
    "git+ssh://git@HOST/x",
    "git://HOST/x",
    "git@HOST:x/y",
    "ssh://HOST",
    "github:a/b",
    "gitlab:a/b",
    "gist:1",
    "a/b",
    "a/b#main",
    "file:../x",
    "file:x",
    "./x",
    "../x",
    "/x",
    "~/x",
    "~",
    "C:/x",
    "link:../x",
    "workspace:*",
    "npm:other@1.0.0",
    "@s/other@1.0.0",
    "-x",
    "--registry=http:HOST",
    "1.0.0 --x",
    "1.0.0\n",
    "\n1.0.0",
    "1.0.0\t",
    "1.0.0\0",
    "1.0.0 ",
    " 1.0.0",
    "1.0.0;x",
    "1.0.0@http:HOST",
    "1.0.0,!=2",
    "==1.0",
    "*",
    "x",
    "1.x",
    "1.*",
    "^1.0.0",
    "~1.0.0",
    ">=1.0.0",
    "1.0.0 - 2.0.0",
    "1.0.0||2.0.0",
    "latest",
    "next",
    "1.0.0/stable",
    "$(x)",
    "`x`",
    "1.0.0 @ https://HOST/x.whl",
    "1.0.0#egg=x",
    "1.0.0[extra]",
    "\uff11.0.0",
    "1\u200b.0.0",
    "\u0661.0",
)
VERSIONS = {
    "pypi": ("v1.0", "1.0.tar.gz", "1:1.0", "1.0~1"),
    "npm": (
        "1.0.0-a.tgz",
        "1.0.0-x.tar",
        "1.0.0+a.tar.gz",
        "01.0.0",
        "1.0.0.0",
        "1:1.0.0",
        "1.0.0~1",
        "v1.0.0",
        "1.0.0_1",
    ),
    "deb": ("a1", "1_2", "1:2:3", ":1", "1!2", "x:1", "1=2"),
    "dsc": ("1:1.0", "a1"),
}
NAMES = (
    "-x",
    "--index-url=http:HOST",
    "-r",
    "a b",
    "a@http:HOST",
    "a @ https://HOST/a.whl",
    "https://HOST/a",
    "git+http:HOST",
    "git+ssh://HOST",
    "file:a",
    "link:a",
    "npm:a",
    "./a",
    "../a",
    "/a",
    "a/b/c",
    "~/a",
    "a\n",
    "a[x]",
    "a;b",
    "a=1",
    "a==1",
    "a:any",
    "a/stable",
    "@a",
    "@/a",
    "@a/",
    "@a/../b",
    "@-a/b",
    "",
    "\u0430",
    "a\0b",
    ".a",
    "a\\b",
    "C:a",
    "a#b",
    "a?b",
    "a*",
    "@a/b.tgz/",
    "%61",
)


class Contacted(Exception):  # noqa: N818  (what must not happen)
    """Raised when a client is started."""


@pytest.fixture(autouse=True)
def _clients(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(command: list[str], directory: Path) -> str:
        raise Contacted(command)

    for module in (registries, sdist):
        monkeypatch.setattr(module, "run_client", start)
    monkeypatch.setattr("sevenfold.corpus.fetch.pin.run_client", start)


def entry(kind: str, name: str, version: str) -> dict[str, Any]:
    if kind == "dsc":
        return {"source": name, "dsc": f"{name}_{version}.dsc", "sha256": HASH}
    known = {"integrity": INTEGRITY} if kind == "npm" else {"sha256": HASH}
    file = {"file": f"{name}-{version}-py3-none-any.whl"} if kind == "pypi" else {}
    return {"name": name, "version": version} | known | file


def refuse(tmp_path: Path, lock: Any) -> None:
    path = tmp_path / "x.lock.json"
    path.write_text(json.dumps(lock))
    with pytest.raises(RecipeError, match="not a lock") as caught:
        read_lock(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pypi", "npm", "deb", "dsc"])
def test_a_version_that_a_client_could_read_otherwise_is_refused(kind: str, tmp_path: Path) -> None:
    for version in (*ANYWHERE, *VERSIONS[kind]):
        if kind in ("deb", "dsc") and version in ("1.x",):
            continue
        refuse(tmp_path, {kind: [entry(kind, "a", version)]})
        with pytest.raises(UsageError, match="names no package"):
            parse_request(f"{kind}:a={version}")


@pytest.mark.parametrize("kind", ["pypi", "npm", "deb", "dsc"])
def test_a_name_that_a_client_could_read_otherwise_is_refused(kind: str, tmp_path: Path) -> None:
    more = {
        "npm": ("a.tgz", "a.tar.gz", "@s/a.tar", "@S/a"),
        "pypi": ("a-", "_a", "a+b"),
        "deb": ("A", "a_b", "a~b"),
    }
    for name in (*NAMES, *more.get(kind, ())):
        refuse(tmp_path, {kind: [entry(kind, name, "1.0.0")]})
        if "=" not in name:
            with pytest.raises(UsageError, match="names no package"):
                parse_request(f"{kind}:{name}")


@pytest.mark.parametrize(
    "file",
    [
        "b-1.0-py3-none-any.whl",
        "a-2.0-py3-none-any.whl",
        "a-1.0.tar.gz/x",
        "-a-1.0.tar.gz",
        "a-1.0.tar.gz\n",
        "http:a-1.0.tar.gz",
        "a-1.0-py3-none--x.whl",
        "a-1.0.exe",
        "a.whl",
        "../a-1.0.tar.gz",
        "a-1.0-py3-none-any.whl --x",
        "b_a-1.0.tar.gz",
    ],
)
def test_a_file_of_another_package_is_refused(file: str, tmp_path: Path) -> None:
    refuse(tmp_path, {"pypi": [entry("pypi", "a", "1.0") | {"file": file}]})
    refuse(tmp_path, {"dsc": [{"source": "a", "dsc": file, "sha256": HASH}]})


@pytest.mark.parametrize(
    "key", ["index", "index_url", "registry", "url", "resolved", "extra-index-url", "host"]
)
def test_a_lock_names_no_registry(key: str, tmp_path: Path) -> None:
    refuse(tmp_path, {key: "http:HOST"})
    refuse(tmp_path, {"pypi": [entry("pypi", "a", "1.0") | {key: "http:HOST"}]})


def test_a_pin_made_by_hand_is_refused_too() -> None:
    with pytest.raises(RecipeError, match="no exact version of npm"):
        Pin(kind="npm", name="a", version="http:HOST", file="", algorithm="sha512", digest=HASH)


@pytest.mark.parametrize(
    ("kind", "name", "version", "file"),
    [
        (
            "pypi",
            "zope.interface",
            "5.0.0rc1.post2.dev3+local.1",
            "zope.interface-5.0.0rc1.post2.dev3+local.1.tar.gz",
        ),
        ("pypi", "a", "1!2.0", ""),
        ("pypi", "ruamel.yaml", "0.17", "ruamel.yaml-0.17-cp311-cp311-manylinux_2_17_x86_64.whl"),
        ("pypi", "My_Package", "1.0.post1", "my_package-1.0.post1-1-py2.py3-none-any.whl"),
        ("pypi", "a-b", "1.0-1", "a-b-1.0-1.zip"),
        ("npm", "@types/node", "20.1.0-beta.1+sha.5", ""),
        ("npm", "JSONStream", "1.3.5", ""),
        ("npm", "a.js", "0.0.1", ""),
        ("deb", "g++-12", "4:12.2.0-3+b1~bpo12+1", ""),
        ("deb", "libstdc++6", "1.0.0-a.tgz", ""),
        ("dsc", "bazel", "4.2.3+ds-9", "bazel_4.2.3+ds-9.dsc"),
    ],
)
def test_what_registries_really_have_is_taken(kind: Any, name: str, version: str, file: str) -> None:
    assert fault(kind, name, version, file) is None


WHEEL = zip_of({"a.py": b"a = 1\n"})
PIN = Pin(
    kind="pypi",
    name="a",
    version="1.0",
    file="a-1.0-py3-none-any.whl",
    algorithm="sha256",
    digest=hashlib.sha256(WHEEL).hexdigest(),
)


def _pip(command: list[str], directory: Path) -> str:
    """What pip does with its arguments, a relative path being one below
    the directory in which it runs.
    """
    assert (directory / command[command.index("-r") + 1]).read_text().startswith("a==1.0")
    target = directory / command[command.index("-d") + 1]
    target.mkdir(parents=True, exist_ok=True)
    (target / PIN.file).write_bytes(WHEEL)
    return ""


@pytest.mark.parametrize("given", ["store", "./store", "../here/store", "a/../store"])
def test_a_relative_folder_is_below_the_working_directory(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "a").mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(registries, "run_client", _pip)
    monkeypatch.setattr(run, "PAUSE_SECONDS", 0)
    assert [o.status for o in fetch_all([PIN], Path(given), Silent())] == ["fetched"]
    assert (here / "store" / f"sha256-{PIN.digest}").read_bytes() == WHEEL
    monkeypatch.setenv("S7_PACKAGES", given)
    assert store_directory().is_absolute()
    assert PackageStore(store_directory()).files(PIN)
    [pinned] = pin_all([parse_request("pypi:a=1.0")], PackageStore(Path(given)), Silent())
    assert pinned == PIN


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp:HOST", "data:,x"])
def test_an_index_of_the_network_cannot_point_into_this_machine(address: str) -> None:
    with pytest.raises(FetchFailure, match="points to"):
        sdist._require_scheme(address, "https://index/simple")
    sdist._require_scheme("https://files/a.tar.gz", "https://index/simple")
