"""Every kind of source is surveyed for licences alike: one table of trees, laid down as each."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import typer
from identify.vendor.licenses import LICENSES
from package_builders import ar_of, store_in, stored

from sevenfold.cli.base import guarded
from sevenfold.cli.factory.corpus import licences
from sevenfold.core.errors import UsageError
from sevenfold.corpus.document import SourceDocument
from sevenfold.corpus.fetch.lock import Kind, Pin
from sevenfold.corpus.globs import chooser
from sevenfold.corpus.licences import LicencePolicy
from sevenfold.corpus.query import ledger_path, query
from sevenfold.corpus.sources import read_source
from sevenfold.corpus.sources.packages import read_package
from sevenfold.corpus.stage import run
from sevenfold.recipe.corpus_schema import DirectorySource, GitSource, InstalledSource
from sevenfold.report.page import table
from sevenfold.runs.job import Job

TEXT = {name: text.encode() for name, text in LICENSES}
MIT, GPL = TEXT["MIT"], TEXT["GPL-3.0"]
POLICY = LicencePolicy(["MIT", "ISC", "Apache-2.0", "BSD-3-Clause"])
NOT, UNKNOWN = "licence_not_allowed", "licence_unknown"
Files, Links = dict[str, bytes], dict[str, str]
WANTED = ("**/*.js",)

# Of every tree; a.js and b.js are documents, too.
BASE = {
    "package.json": b'{"license": "MIT"}',
    "terms/gpl.dat": GPL,
    "terms/mit.dat": MIT,
    "terms/gpl.json": b'{"license": "GPL-3.0"}',
    "a.js": b"var a;\n",
    "sub/b.js": b"var b;\n",
}
# Name -> (files, links, reason for a.js, reason for sub/b.js).
TREES: dict[str, tuple[Files, Links, str | None, str | None]] = {
    "nothing more": ({}, {}, None, None),
    "COPYING in a folder": ({"sub/COPYING": GPL}, {}, None, NOT),
    "a text of nobody in a folder": ({"sub/LICENSE": b"On Tuesdays.\n"}, {}, None, UNKNOWN),
    "metadata of a folder": ({"sub/Cargo.toml": b'[package]\nlicense = "GPL-3.0"\n'}, {}, None, NOT),
    "broken metadata of a folder": ({"sub/package.json": b"{"}, {}, None, UNKNOWN),
    "REUSE.toml": (
        {"REUSE.toml": b'[[annotations]]\npath = "sub/**"\nSPDX-License-Identifier = "GPL-3.0-only"\n'},
        {},
        None,
        NOT,
    ),
    "dep5": (
        {".reuse/dep5": b"Format: x\n\nFiles: sub/*\nCopyright: x\nLicense: GPL-3.0-only\n"},
        {},
        None,
        NOT,
    ),
    "a sidecar": ({"sub/b.js.license": b"SPDX-License-Identifier: GPL-3.0-only\n"}, {}, None, NOT),
    "the root says another": ({"LICENSE": GPL}, {}, NOT, NOT),
    "the root says what nobody knows": ({"LICENSE": b"On Tuesdays.\n"}, {}, UNKNOWN, UNKNOWN),
    "the root says the same": ({"LICENSE": MIT}, {}, None, None),
    "a link to a text": ({}, {"sub/LICENSE": "../terms/gpl.dat"}, None, NOT),
    "a link to an allowed text": ({}, {"sub/LICENSE": "../terms/mit.dat"}, None, None),
    "a link to metadata": ({}, {"sub/package.json": "../terms/gpl.json"}, None, NOT),
    "a link as a sidecar": ({}, {"sub/b.js.license": "../terms/gpl.dat"}, None, NOT),
    "a link of the root": ({}, {"LICENSE": "terms/gpl.dat"}, NOT, NOT),
    "a link over a link": ({}, {"sub/LICENSE": "../one", "one": "terms/gpl.dat"}, None, NOT),
    "a link through a linked folder": ({}, {"sub/LICENSE": "../way/gpl.dat", "way": "terms"}, None, NOT),
    "through two linked folders": (
        {},
        {"sub/LICENSE": "../way/gpl.dat", "way": "far/there", "far/there": "../terms"},
        None,
        NOT,
    ),
    "an allowed text through a linked folder": (
        {},
        {"sub/LICENSE": "../way/mit.dat", "way": "terms"},
        None,
        None,
    ),
    # The folder above what `way` leads to is x, and not the root.
    "back from a linked folder": (
        {"x/y/z": b"", "x/LICENSE": GPL, "LICENSE": MIT},
        {"sub/LICENSE": "../way/../LICENSE", "way": "x/y"},
        None,
        NOT,
    ),
    "out of the tree": ({}, {"sub/LICENSE": "../../../LICENSE"}, None, UNKNOWN),
    "out of the tree and back": ({}, {"sub/LICENSE": "../../tree/terms/mit.dat"}, None, UNKNOWN),
    "out through a linked folder": ({}, {"sub/LICENSE": "../way/mit.dat", "way": "../terms"}, None, UNKNOWN),
    "absolute": ({}, {"sub/LICENSE": "/etc/hostname"}, None, UNKNOWN),
    "to nothing": ({}, {"sub/LICENSE": "gone"}, None, UNKNOWN),
    "to a folder": ({}, {"sub/LICENSE": "../terms"}, None, UNKNOWN),
    "to itself": ({}, {"sub/LICENSE": "LICENSE"}, None, UNKNOWN),
    "in a circle": ({}, {"sub/LICENSE": "COPYING", "sub/COPYING": "LICENSE"}, None, UNKNOWN),
    "a circle of folders": ({}, {"sub/LICENSE": "../p/x", "p": "q", "q": "p"}, None, UNKNOWN),
    "too many links": (
        {},
        {"sub/LICENSE": "../l1", **{f"l{i}": f"l{i + 1}" for i in range(1, 9)}, "l9": "terms/mit.dat"},
        None,
        UNKNOWN,
    ),
    "a pointer through a linked folder": (
        {"sub/package.json": b'{"license": "SEE LICENSE IN ../way/gpl.dat"}'},
        {"way": "terms"},
        None,
        NOT,
    ),
    "a pointer out of the tree": (
        {"sub/package.json": b'{"license": "SEE LICENSE IN ../../x"}'},
        {},
        None,
        UNKNOWN,
    ),
    "a pointer to nothing, and a text beside it": (
        {"sub/package.json": b'{"license": "SEE LICENSE IN gone.dat"}', "sub/LICENSE": MIT},
        {},
        None,
        UNKNOWN,
    ),
    "metadata behind a link that points behind a link": (
        {"m": b'{"license": "SEE LICENSE IN t"}'},
        {"sub/package.json": "../m", "sub/t": "../terms/gpl.dat"},
        None,
        NOT,
    ),
}


def reasons(found: Iterable[SourceDocument]) -> dict[str, str | None]:
    return {f.path: POLICY.judge(f.origin.licence).reason for f in found if f.problem is None}


def lay_down(root: Path, files: Files, links: Links) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    for name, target in links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)


def a_directory(base: Path, files: Files, links: Links) -> dict[str, str | None]:
    lay_down(base / "tree", files, links)
    source = DirectorySource(kind="directory", path="tree", licence="MIT", include=WANTED)
    return reasons(read_source(source, base, 1 << 20))


def a_repository(base: Path, files: Files, links: Links) -> dict[str, str | None]:
    root = base / "repo"
    lay_down(root, files, links)

    def git(*arguments: str) -> str:
        settings = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(root), *settings, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", "-A", "-f")
    git("commit", "-q", "-m", "x")
    source = GitSource(kind="git", path="repo", commit=git("rev-parse", "HEAD"), include=WANTED)
    return reasons(read_source(source, base, 1 << 20))


ABOUT = {"x-1.0.dist-info/METADATA": b"Name: x\nVersion: 1.0\nLicense-Expression: MIT\n"}


def an_installation(base: Path, files: Files, links: Links) -> dict[str, str | None]:
    site = base / "site"
    lay_down(site, files | ABOUT, links)
    # Installers record files, and no folders.
    listed = [
        name for name in (*files, *ABOUT, *links) if name == "sub/LICENSE" or not (site / name).is_dir()
    ]
    (site / "x-1.0.dist-info" / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        return reasons(
            read_source(InstalledSource(kind="installed", packages=("x",), include=WANTED), base, 1 << 20)
        )


def tar_with_links(files: Files, links: Links, top: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, target in links.items():
            info = tarfile.TarInfo(f"{top}{name}")
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(f"{top}{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def package(base: Path, kind: Kind, data: bytes, file: str = "") -> dict[str, str | None]:
    store = store_in(base)
    algorithm = "sha512" if kind == "npm" else "sha256"
    digest = hashlib.new(algorithm, data).hexdigest()
    (store.directory / f"{algorithm}-{digest}").write_bytes(data)
    pin = Pin(kind=kind, name="x", version="1.0", file=file, algorithm=algorithm, digest=digest)
    return reasons(read_package(store, pin, chooser(WANTED), "code", 1 << 20))


def an_npm_package(base: Path, files: Files, links: Links) -> dict[str, str | None]:
    return package(base, "npm", gzip.compress(tar_with_links(files, links, "package/")))


def an_sdist(base: Path, files: Files, links: Links) -> dict[str, str | None]:
    data = gzip.compress(tar_with_links(files, links, "x-1.0/"))
    return package(base, "pypi", data, "x-1.0.tar.gz")


def a_wheel(base: Path, files: Files, links: Links) -> dict[str, str | None]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in (files | ABOUT).items():
            archive.writestr(name, data)
        for name, target in links.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            archive.writestr(info, target)
    return package(base, "pypi", buffer.getvalue(), "x-1.0-py3-none-any.whl")


def a_binary_of_debian(base: Path, files: Files, links: Links) -> dict[str, str | None]:
    data = gzip.compress(tar_with_links(files, links, "./"))
    control = gzip.compress(tar_with_links({"control": b"Package: x\n"}, {}, "./"))
    members = {"debian-binary": b"2.0\n", "control.tar.gz": control, "data.tar.gz": data}
    return package(base, "deb", ar_of(members))


SOURCES: list[Callable[[Path, Files, Links], dict[str, str | None]]] = [
    a_directory,
    a_repository,
    an_installation,
    an_npm_package,
    an_sdist,
    a_wheel,
    a_binary_of_debian,
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_every_source_reads_a_tree_alike(
    tmp_path: Path, source: Callable[[Path, Files, Links], dict[str, str | None]]
) -> None:
    found, wanted = {}, {}
    for i, (name, (files, links, for_a, for_b)) in enumerate(TREES.items()):
        base = tmp_path / str(i)
        base.mkdir()
        found[name] = source(base, BASE | files, links)
        wanted[name] = {"a.js": for_a, "sub/b.js": for_b}
    assert found == wanted


def test_a_link_to_a_document_is_under_what_holds_for_both_places(tmp_path: Path) -> None:
    lay_down(
        tmp_path / "tree",
        {"vendor/g.js": b"g;\n", "vendor/LICENSE": GPL, "a.js": b"a;\n"},
        {"l.js": "vendor/g.js"},
    )
    source = DirectorySource(kind="directory", path="tree", licence="MIT", include=WANTED)
    assert reasons(read_source(source, tmp_path, 1 << 20)) == {"a.js": None, "l.js": NOT, "vendor/g.js": NOT}


def test_a_linked_folder_of_an_installation(tmp_path: Path) -> None:
    files = BASE | {"real/c.js": b"c;\n", "real/LICENSE": GPL, "x/__init__.js": b"\n"}
    lay_down(tmp_path / "site", files | ABOUT, {"x/part": "../real"})
    listed = [*files, *ABOUT, "x/part/c.js"]
    (tmp_path / "site" / "x-1.0.dist-info" / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "site"))
        source = InstalledSource(kind="installed", packages=("x",), include=WANTED)
        found = reasons(read_source(source, tmp_path, 1 << 20))
    assert found["x/part/c.js"] == found["real/c.js"] == NOT
    assert found["x/__init__.js"] is None


def test_a_recorded_licence_that_was_deleted_is_unknown(tmp_path: Path) -> None:
    lay_down(tmp_path / "site", BASE | ABOUT, {})
    listed = [*BASE, *ABOUT, "x-1.0.dist-info/licenses/LICENSE"]
    (tmp_path / "site" / "x-1.0.dist-info" / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "site"))
        source = InstalledSource(kind="installed", packages=("x",), include=WANTED)
        assert set(reasons(read_source(source, tmp_path, 1 << 20)).values()) == {UNKNOWN}


def test_a_directory_opens_nothing_but_regular_files(tmp_path: Path) -> None:
    lay_down(tmp_path / "tree", {"sub/b.js": b"b;\n", "a.js": b"a;\n"}, {})
    os.mkfifo(tmp_path / "tree" / "sub" / "LICENSE")
    source = DirectorySource(kind="directory", path="tree", licence="MIT", include=WANTED)
    assert reasons(read_source(source, tmp_path, 1 << 20)) == {"a.js": None, "sub/b.js": UNKNOWN}


def test_a_folder_whose_name_is_no_utf_8_has_its_licence(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "tree") + b"/\xff\x1b"
    os.makedirs(folder)  # noqa: PTH103 - a name of bytes
    for name, data in ((b"LICENSE", GPL), (b"a.js", b"a;\n")):
        with open(folder + b"/" + name, "wb") as file:  # noqa: PTH123 - a name of bytes
            file.write(data)
    source = DirectorySource(kind="directory", path="tree", licence="MIT", include=WANTED)
    found = list(read_source(source, tmp_path, 1 << 20))
    assert reasons(found) == {"\\xff\\x1b/a.js": NOT}
    assert all(f.origin.licence_evidence.isprintable() for f in found)


COPYRIGHT = (
    b"Format: x\n\nFiles: *\nCopyright: x\nLicense: Expat\n\nFiles: sub/*\nCopyright: x\nLicense: GPL-2\n"
)
ONLY_SUB = b"Format: x\n\nFiles: sub/*\nCopyright: x\nLicense: Expat\n"
# debian/copyright and one more file of a source package -> (reason for a.js, reason for sub/b.js).
DEBIAN: dict[str, tuple[bytes, Files, str | None, str | None]] = {
    "paragraphs": (COPYRIGHT, {}, None, NOT),
    "a text that the paragraphs explain": (
        COPYRIGHT,
        {"LICENSE": b"Ask the author on Tuesdays.\n"},
        None,
        NOT,
    ),
    "Commons Clause": (COPYRIGHT, {"COMMONS-CLAUSE": b"Ask the author on Tuesdays.\n"}, UNKNOWN, NOT),
    "Commons Clause by its words": (
        COPYRIGHT,
        {"LICENSE": MIT + b"\nCommons Clause: no sale.\n"},
        UNKNOWN,
        NOT,
    ),
    "EULA": (COPYRIGHT, {"EULA.txt": b"One copy a person.\n"}, UNKNOWN, NOT),
    "additional terms": (COPYRIGHT, {"LICENSE-ADDITIONAL-TERMS": b"One copy a person.\n"}, UNKNOWN, NOT),
    "a text for files that no paragraph names": (
        ONLY_SUB,
        {"LICENSE": b"Ask the author on Tuesdays.\n"},
        UNKNOWN,
        None,
    ),
    "a vendored folder that says more": (COPYRIGHT, {"sub/LICENSE": TEXT["AGPL-3.0"]}, None, NOT),
}


@pytest.mark.parametrize(("about", "more", "for_a", "for_b"), DEBIAN.values(), ids=DEBIAN)
def test_sources_of_debian(
    tmp_path: Path, about: bytes, more: Files, for_a: str | None, for_b: str | None
) -> None:
    files = {"a.js": b"a;\n", "sub/b.js": b"b;\n", "debian/copyright": about} | more
    pin = stored(store := store_in(tmp_path), "dsc", files)
    found = reasons(read_package(store, pin, chooser(WANTED), "code", 1 << 20))
    assert found == {"a.js": for_a, "sub/b.js": for_b}


def test_copyright_that_is_not_debians_own_explains_no_other_text(tmp_path: Path) -> None:
    files = BASE | {"debian/copyright": COPYRIGHT, "LICENSE": b"Ask the author on Tuesdays.\n"}
    assert an_npm_package(tmp_path, files, {})["a.js"] == UNKNOWN


def test_two_copyright_files_of_a_binary_hold_both(tmp_path: Path) -> None:
    mit = b"Format: x\n\nFiles: *\nCopyright: x\nLicense: Expat\n"
    gpl = b"Format: x\n\nFiles: *\nCopyright: x\nLicense: GPL-3+\n"
    files = {"usr/share/x/a.js": b"a;\n", "usr/share/doc/p/copyright": gpl, "usr/share/doc/q/copyright": mit}
    assert a_binary_of_debian(tmp_path, files, {}) == {"usr/share/x/a.js": NOT}


COMMAND, BACK, TURN = "\x1b[31m", "\x9b2J", "\u202e"


def test_what_sources_say_reaches_no_terminal_and_no_page_as_a_command(
    tmp_path: Path,
    make_job: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    odd = f"x{COMMAND}{BACK}{TURN}"
    lay_down(tmp_path / "tree", {f"{i}.py": f"a = {i}\n".encode() for i in range(40)}, {})
    named = {
        f"{odd}/a.py": b"b = 1\n",
        f"{odd}/LICENSE.{odd}": b"On Tuesdays.\n",
        f"{odd}/package.json": b'{"license": "MIT"}',
    }
    lay_down(tmp_path / "tree", named, {})
    record = {"text": "c = 1\n", "licence": f"MIT{odd}\nGPL"}
    (tmp_path / "r.jsonl").write_text(json.dumps(record) + "\n")
    about = {
        "x-1.0.dist-info/METADATA": f"Name: x\nVersion: 1.0{odd}\nLicense: Mine{odd}\n".encode(),
        "x.py": b"d = 1\n",
    }
    lay_down(tmp_path / "site", about, {})
    (tmp_path / "site" / "x-1.0.dist-info" / "RECORD").write_text("".join(f"{name},,\n" for name in about))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    job = make_job([
        {"kind": "directory", "path": "tree", "licence": "MIT", "include": ["**/*.py"]},
        {"kind": "jsonl", "path": "r.jsonl", "licence_key": "licence"},
        {"kind": "installed", "packages": ["x"]},
    ])  # fmt: skip
    run(job)
    columns, rows = query(ledger_path(job.out), "SELECT * FROM ledger WHERE status = 'dropped'")
    assert {row[columns.index("reason")] for row in rows} == {UNKNOWN}
    assert len(rows) == 3
    assert all(cell.isprintable() for row in rows for cell in row if isinstance(cell, str))
    for by in ("licence", "evidence"):
        licences(job.out, None, by, False)
    said = capfd.readouterr().out
    assert "\\x1b[31m" in said
    assert not {"\x1b", "\x9b", TURN} & set(said)
    page = table(("Licence",), [[odd]])
    assert not {"\x1b", "\x9b", TURN} & set(page)
    with pytest.raises(typer.Exit):
        guarded_failure(odd)
    assert not {"\x1b", "\x9b", TURN} & set(capfd.readouterr().err)


@guarded
def guarded_failure(name: str) -> None:
    raise UsageError(f"{name} is no licence")
