"""What metadata, licence files and folders say of the files under them: tiny
trees, each with a known answer.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from identify.vendor.licenses import LICENSES
from package_builders import store_in

from sevenfold.corpus.fetch.lock import Kind, Pin
from sevenfold.corpus.globs import chooser
from sevenfold.corpus.licences import LicencePolicy, Survey
from sevenfold.corpus.licences.metadata import declared_by
from sevenfold.corpus.sources.packages import read_package

TEXT = {name: text.encode() for name, text in LICENSES}
POLICY = LicencePolicy(["MIT", "ISC", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "CC0-1.0"])
NOT, UNKNOWN = "licence_not_allowed", "licence_unknown"
MIT, GPL = TEXT["MIT"], TEXT["GPL-3.0"]
NPM = {"package.json": b'{"license": "MIT"}'}


def reason(files: dict[str, bytes | None], path: str) -> str | None:
    survey = Survey()
    for name, data in files.items():
        if survey.wants(name):
            survey.add(name, data)
    for name in survey.unread() & files.keys():
        survey.add(name, files[name])
    survey.missing()
    return POLICY.judge(survey.licence_of(path, None).expression).reason


def about(*lines: str) -> dict[str, bytes]:
    return {"x-1.0.dist-info/METADATA": "\n".join(["Name: x", *lines, "", "about"]).encode()}


def setup_py(arguments: str) -> bytes:
    return f"from setuptools import setup\nNAME = 'GPLv3'\nsetup(name='x', {arguments})\n".encode()


POM = "<project><licenses><license><name>{}</name></license></licenses></project>"
# One metadata file in an inner folder of an MIT package -> the reason for a file beside it.
METADATA: list[tuple[str, str, str | None]] = [
    ("composer.json", '{"license": "GPL-3.0-or-later"}', NOT),
    ("composer.json", '{"license": ["MIT", "GPL-3.0-or-later"]}', None),
    ("composer.json", '{"license": "proprietary"}', UNKNOWN),
    ("package.json", '{"license": ', UNKNOWN),
    ("package.json", "[]", UNKNOWN),
    ("package.json", '{"license": 7}', UNKNOWN),
    ("package.json", '{"license": "MIT", "license": "GPL-3.0"}', UNKNOWN),
    ("package.json", '{"license": {"type": "GPL-3.0"}}', NOT),
    ("package.json", '{"licence": "GPL-3.0"}', NOT),
    ("package.json", '{"license": "MIT", "licenses": [{"type": "GPL-3.0"}]}', NOT),
    ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "GPL-3.0"}]}', None),
    ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "Mine"}]}', UNKNOWN),
    ("package.json", '{"license": "UNLICENSED"}', UNKNOWN),
    ("package.json", '{"license": "SEE LICENSE IN TERMS.dat"}', UNKNOWN),
    ("package.json", '{"type": "module"}', None),
    ("bower.json", '{"license": "GPL-2.0"}', NOT),
    ("haxelib.json", '{"license": "GPL"}', NOT),
    ("META.json", '{"license": ["perl_5"]}', NOT),
    ("META.yml", "license: gpl\n", NOT),
    ("Cargo.toml", '[package]\nlicense = "GPL-3.0"\n', NOT),
    ("Cargo.toml", '[package]\nlicense = "MIT/Apache-2.0"\n', None),
    ("Cargo.toml", '[package]\nlicense-file = "LICENSE"\n', UNKNOWN),
    ("Cargo.toml", "[package\n", UNKNOWN),
    ("Cargo.toml", '[workspace.package]\nlicense = "GPL-3.0"\n', NOT),
    ("pyproject.toml", '[tool.poetry]\nlicense = "GPL-3.0-only"\n', NOT),
    ("pyproject.toml", '[tool.flit.metadata]\nlicense = "GPL-3.0-only"\n', NOT),
    ("pyproject.toml", '[project]\nlicense = "GPL-3.0-only"\n', NOT),
    ("pyproject.toml", '[project]\nlicense = {text = "GPLv3"}\n', NOT),
    ("pyproject.toml", '[project]\nlicense = {file = "away.txt"}\n', UNKNOWN),
    ("pyproject.toml", "[project]\nlicense = 3\n", UNKNOWN),
    (
        "pyproject.toml",
        '[project]\nclassifiers = ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"]\n',
        NOT,
    ),
    ("pyproject.toml", '[project]\nname = "x"\n', None),
    ("setup.cfg", "[metadata]\nlicense = GPLv3+\n", NOT),
    (
        "setup.cfg",
        "[metadata]\nlicense = MIT\nclassifiers =\n"
        "  License :: OSI Approved :: GNU General Public License v3 "
        "(GPLv3)\n",
        NOT,
    ),
    ("setup.cfg", "license\n", UNKNOWN),
    ("setup.py", setup_py("license='GPLv3'").decode(), NOT),
    ("setup.py", setup_py("license=NAME").decode(), NOT),
    ("setup.py", setup_py("license=open('x').read()").decode(), UNKNOWN),
    ("setup.py", setup_py("**{'license': 'GPLv3'}").decode(), NOT),
    (
        "setup.py",
        setup_py("classifiers=['License :: OSI Approved :: GNU Affero General Public License v3']").decode(),
        NOT,
    ),
    ("setup.py", setup_py("license='MIT'").decode(), None),
    ("setup.py", "print 'x'\nsetup(license='GPL')\n", NOT),
    ("x.gemspec", 's.license = "GPL-3.0"\n', NOT),
    ("x.gemspec", 's.licenses = ["MIT", "GPL-2.0"]\n', NOT),
    ("x.gemspec", "s.licenses = %w[MIT GPL-2.0]\n", NOT),
    ("x.gemspec", 's.license = "MIT".freeze\n', None),
    ("x.gemspec", "s.license = LICENCE\n", UNKNOWN),
    ("x.podspec", "s.license = { :type => 'GPL-3.0', :file => 'LICENSE' }\n", NOT),
    ("pom.xml", POM.format("GNU General Public License, version 2"), NOT),
    ("pom.xml", POM.format("The Apache Software License, Version 2.0"), None),
    ("pom.xml", "<!DOCTYPE x [<!ENTITY a 'b'>]>" + POM.format("MIT"), UNKNOWN),
    ("pom.xml", "<project><licenses>", UNKNOWN),
    (
        "x.nuspec",
        '<package><metadata><license type="expression">GPL-3.0-only</license></metadata></package>',
        NOT,
    ),
    (
        "x.nuspec",
        "<package><metadata><licenseUrl>https://my.org/terms</licenseUrl></metadata></package>",
        UNKNOWN,
    ),
    ("DESCRIPTION", "Package: x\nLicense: GPL-2 | file LICENCE\n", NOT),
    ("DESCRIPTION", "Package: x\nLicense: GPL (>= 2)\n", NOT),
    ("DESCRIPTION", "Package: x\nLicense: MIT + file LICENSE\n", None),
    ("DESCRIPTION", "Package: x\nLicense: file LICENSE\n", UNKNOWN),
    ("DESCRIPTION", "A thing that does things.\n", None),
    ("x.cabal", "name: x\nlicense: GPL-3\n", NOT),
    ("x.cabal", "name: x\nlicense: BSD3\n", None),
    ("x.cabal", "name: x\nlicense: AllRightsReserved\n", UNKNOWN),
    ("x.opam", 'license: "GPL-3.0-only"\n', NOT),
    ("opam", 'license: ["MIT" "LGPL-2.1-only"]\n', NOT),
    ("mix.exs", 'package: [licenses: ["GPL-3.0"]]\n', NOT),
    ("build.gradle", "licenses {\n license {\n name = 'GPL-3.0'\n }\n}\n", NOT),
    ("build.sbt", 'licenses := Seq("GPL-3.0" -> url("x"))\n', NOT),
    ("meta.yaml", "package:\n  name: x\nabout:\n  license: GPL-3.0-only\n", NOT),
    ("CITATION.cff", "license: GPL-3.0-only\n", NOT),
    ("x.spec", "Name: x\nLicense: GPLv2+\n", NOT),
    ("x.rockspec", 'license = "GPL-3.0"\n', NOT),
    ("meson.build", "project('x', 'c', license : 'GPL-3.0-only')\n", NOT),
]


@pytest.mark.parametrize(
    ("name", "text", "wanted"), METADATA, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(METADATA)]
)
def test_metadata_of_a_folder(name: str, text: str, wanted: str | None) -> None:
    files = NPM | {f"inner/{name}": text.encode()}
    assert reason(files, "inner/src/a.c") == wanted
    assert reason(files, "outer.c") is None


GPL_CLASSIFIER = "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
MIT_CLASSIFIER = "Classifier: License :: OSI Approved :: MIT License"
BSD_CLASSIFIER = "Classifier: License :: OSI Approved :: BSD License"
TREES: dict[str, tuple[dict[str, bytes | None], str, str | None]] = {
    "MIT and a GPL classifier": (about("License: MIT", GPL_CLASSIFIER), "x/a.py", NOT),
    "an expression and a GPL classifier": (about("License-Expression: MIT", GPL_CLASSIFIER), "x/a.py", NOT),
    "GNU AFFERO and an MIT classifier": (about("License: GNU AFFERO", MIT_CLASSIFIER), "x/a.py", UNKNOWN),
    "a choice with a classifier for each": (about("License: MIT OR GPL-3.0-only", MIT_CLASSIFIER,
            GPL_CLASSIFIER), "x/a.py", None),
    "a classifier that names a family, and the text": (
        about(BSD_CLASSIFIER) | {"LICENSE": TEXT["BSD-3-Clause"]}, "x/a.py", None),
    "a classifier that names a family, and another text": (about(BSD_CLASSIFIER) | {"LICENSE": MIT}, "x/a.py",
        UNKNOWN),
    "two classifiers, one of a family": (about(MIT_CLASSIFIER, BSD_CLASSIFIER), "x/a.py", UNKNOWN),
    "a classifier that is no licence": (
        about("License: MIT", "Classifier: License :: Other/Proprietary License"),
        "x/a.py", UNKNOWN),
    "UNKNOWN says nothing": (about("License: UNKNOWN", MIT_CLASSIFIER), "x/a.py", None),
    "a whole text in the field": (about("License: " + GPL.decode().replace("\n", "\n        ")), "x/a.py",
        NOT),
    "MIT and a text of ours": (NPM | {"LICENSE": b"You may use this on Tuesdays. " * 20}, "a.js", UNKNOWN),
    "Commons Clause beside the licence": (NPM | {"LICENSE": MIT, "COMMONS-CLAUSE.md": b"You may not sell.\n"},
        "a.js", UNKNOWN),
    "License Agreement.txt": (NPM | {"License Agreement.txt": b"One copy a person.\n"}, "a.js", UNKNOWN),
    "LicenseAgreement.txt": (NPM | {"LicenseAgreement.txt": b"One copy a person.\n"}, "a.js", UNKNOWN),
    "LIZENZ.txt": (NPM | {"LIZENZ.txt": b"Nur mit Erlaubnis.\n"}, "a.js", UNKNOWN),
    "EULA.txt": (NPM | {"EULA.txt": b"One copy a person.\n"}, "a.js", UNKNOWN),
    "LICENCIA": (NPM | {"LICENCIA": GPL}, "a.js", NOT),
    "LICENZA.txt": (NPM | {"LICENZA.txt": GPL}, "a.js", NOT),
    "LICEN\u00c7A": (NPM | {"LICEN\u00c7A": GPL}, "a.js", NOT),
    "licence.md": (NPM | {"licence.md": GPL}, "a.js", NOT),
    "LICENSE (GPL).txt": (NPM | {"LICENSE (GPL).txt": GPL}, "a.js", NOT),
    "COPYING.LESSER": (NPM | {"COPYING.LESSER": TEXT["LGPL-3.0"]}, "a.js", NOT),
    "NOTICE of the GPL": (NPM | {"NOTICE": b"Licensed under the GNU General Public License v3.\n"}, "a.js",
        NOT),
    "NOTICE of holders": (NPM | {"NOTICE": b"Copyright somebody\n"}, "a.js", None),
    "COPYRIGHT of holders": (NPM | {"COPYRIGHT": b"Copyright somebody\n"}, "a.js", None),
    "an empty licence": (NPM | {"LICENSE": b""}, "a.js", UNKNOWN),
    "a binary licence": (NPM | {"LICENSE": b"\x00\x01\x02\xff" * 9}, "a.js", UNKNOWN),
    "a licence that cannot be read": (NPM | {"LICENSE": None}, "a.js", UNKNOWN),
    "a UTF-16 licence": (NPM | {"LICENSE": GPL.decode().encode("utf-16")}, "a.js", NOT),
    "a UTF-16 licence without its mark": (NPM | {"LICENSE": MIT.decode().encode("utf-16-le")}, "a.js", None),
    "a Latin-1 licence": (NPM | {"LICENSE": b"\xa9 M\xfcller\n" + GPL}, "a.js", NOT),
    "R's template": (
        {"DESCRIPTION": b"License: MIT + file LICENSE\n", "LICENSE": b"YEAR: 2020\nCOPYRIGHT HOLDER: x\n"},
        "a.R", None),
    "both texts of a choice": (
        {"package.json": b'{"license": "MIT OR GPL-3.0"}', "LICENSE-MIT": MIT, "LICENSE-GPL": GPL},
        "a.js", None),
    "SEE LICENSE IN": ({"package.json": b'{"license": "SEE LICENSE IN TERMS.dat"}', "TERMS.dat": GPL}, "a.js",
        NOT),
    "SEE LICENSE IN, allowed": ({"package.json": b'{"license": "SEE LICENSE IN TERMS.dat"}',
            "TERMS.dat": MIT}, "a.js", None),
    "license-file": ({"Cargo.toml": b'[package]\nlicense-file = "terms.dat"\n', "terms.dat": GPL}, "a.rs",
        NOT),
    "a file above": (NPM | {"x/pyproject.toml": b'[project]\nlicense = {file = "../T"}\n', "T": GPL},
        "x/a.py", NOT),
    "a workspace that is there": (
        {"Cargo.toml": b'[workspace.package]\nlicense = "MIT"\n',
            "x/Cargo.toml": b"[package]\nlicense.workspace = true\n"},
        "x/a.rs", None),
    "a workspace that is not": ({"x/Cargo.toml": b"[package]\nlicense.workspace = true\n"}, "x/a.rs",
        UNKNOWN),
    "PEP 639 below src": (
        about("License-Expression: MIT") | {"x-1.0.dist-info/licenses/src/x/_vendor/COPYING": GPL},
        "x/_vendor/a.py", NOT),
    "PEP 639, beside it": (
        about("License-Expression: MIT") | {"x-1.0.dist-info/licenses/src/x/_vendor/COPYING": GPL},
        "x/a.py", None),
    "PEP 639, a name of its own": (
        about("License-Expression: MIT") | {"x-1.0.dist-info/licenses/THIRD.dat": GPL}, "x/a.py", NOT),
    "a sidecar": (NPM | {"g.py.license": b"SPDX-License-Identifier: GPL-3.0-only\n"}, "g.py", NOT),
    "beside a sidecar's file": (NPM | {"g.py.license": b"SPDX-License-Identifier: GPL-3.0-only\n"}, "h.py",
        None),
    "a sidecar that says nothing known": (NPM | {"g.py.license": b"mine\n"}, "g.py", UNKNOWN),
    "a bundler's list": (NPM | {"b.js.LICENSE.txt": b"/*! licensed under the GPL v3 */\n"}, "b.js", NOT),
    "REUSE.toml": (
        NPM | {"REUSE.toml": b'version = 1\n[[annotations]]\npath = "a/**"\n'
            b'SPDX-License-Identifier = "GPL-3.0-only"\n'},
        "a/b/c.py", NOT),
    "REUSE.toml, elsewhere": (
        NPM | {"REUSE.toml": b'version = 1\n[[annotations]]\npath = "a/*"\n'
            b'SPDX-License-Identifier = "GPL-3.0-only"\n'},
        "a/b/c.py", None),
    "REUSE.toml of a folder": (
        NPM | {"v/REUSE.toml": b'[[annotations]]\npath = ["x.py", "y.py"]\n'
            b'SPDX-License-Identifier = ["MIT", "GPL-2.0-only"]\n'},
        "v/y.py", NOT),
    "a broken REUSE.toml": (NPM | {"REUSE.toml": b"[[annotations]]\npath = 7\n"}, "a.py", UNKNOWN),
    "dep5": (NPM | {".reuse/dep5": b"Format: x\n\nFiles: a/*\nCopyright: x\nLicense: GPL-3.0-only\n"},
        "a/b.py", NOT),
    "dep5, elsewhere": (NPM | {".reuse/dep5": b"Format: x\n\nFiles: a/*\nCopyright: x\n"
        b"License: GPL-3.0-only\n"}, "b.py", None),
    "a broken dep5": (NPM | {".reuse/dep5": b"nothing\n"}, "b.py", UNKNOWN),
    "LICENSES/ is for reference": (NPM | {"LICENSES/GPL-3.0-only.txt": GPL}, "a.py", None),
    "vendored with an unknown licence": (
        NPM | {"third_party/z/package.json": b'{"license": "Mine"}'},
        "third_party/z/a.js", UNKNOWN),
    "node_modules with broken metadata": (NPM | {"node_modules/z/package.json": b"{"}, "node_modules/z/a.js",
        UNKNOWN),
    "a licence that names two others": (
        {
            "package.json": b'{"license": "MIT OR ISC"}',
            "LICENSE": b"Either of the licenses in LICENSE.MIT or LICENSE.ISC.\n",
            "LICENSE.MIT": MIT,
            "LICENSE.ISC": TEXT["ISC"],
        },
        "a.js",
        None,
    ),
    "a licence that names one that is not there": (NPM | {"LICENSE": b"See LICENSE.MIT and LICENSE.GPL.\n"},
        "a.js", UNKNOWN),
    "a README listed as a licence": (
        about("License-Expression: MIT") | {"x-1.0.dist-info/licenses/README.md": b"The data is for "
            b"non-commercial use only.\n"},
        "x/a.py",
        None,
    ),
    "META-INF": ({"META-INF/LICENSE": GPL}, "org/a.java", NOT),
}  # fmt: skip


@pytest.mark.parametrize(("files", "path", "wanted"), TREES.values(), ids=TREES)
def test_trees(files: dict[str, bytes | None], path: str, wanted: str | None) -> None:
    assert reason(files, path) == wanted


def tarball(files: dict[str, bytes], links: dict[str, tuple[bytes, str]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (kind, target) in links.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.type, info.linkname = kind, target
            archive.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue())


def wheel(files: dict[str, bytes], links: dict[str, tuple[bytes, str]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for name, (_, target) in links.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            archive.writestr(info, target)
    return buffer.getvalue()


SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
LINKS = {
    "to a text": ({"vendor/LICENSE": (SYM, "../terms/gpl.dat")}, NOT),
    "to an allowed text": ({"vendor/LICENSE": (SYM, "../terms/mit.dat")}, None),
    "to a link to a text": (
        {"vendor/LICENSE": (SYM, "LICENCE"), "vendor/LICENCE": (SYM, "../terms/gpl.dat")},
        NOT,
    ),
    "out of the package": ({"vendor/LICENSE": (SYM, "../../../LICENSE")}, UNKNOWN),
    "absolute": ({"vendor/LICENSE": (SYM, "/etc/hostname")}, UNKNOWN),
    "to nothing": ({"vendor/LICENSE": (SYM, "gone")}, UNKNOWN),
    "in a circle": ({"vendor/LICENSE": (SYM, "COPYING"), "vendor/COPYING": (SYM, "LICENSE")}, UNKNOWN),
    "metadata": ({"vendor/package.json": (SYM, "../terms/gpl.json")}, NOT),
    "a sidecar": ({"vendor/a.js.license": (SYM, "../terms/gpl.dat")}, NOT),
}


@pytest.mark.parametrize(("links", "wanted"), LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("kind", ["npm", "pypi"])
def test_links_in_archives(
    tmp_path: Path, kind: Kind, links: dict[str, tuple[bytes, str]], wanted: str | None
) -> None:
    files = NPM | {
        "vendor/a.js": b"var a;\n",
        "b.js": b"var b;\n",
        "terms/gpl.dat": GPL,
        "terms/mit.dat": MIT,
    }
    files |= {"terms/gpl.json": b'{"license": "GPL-3.0"}'}
    assert judged(tmp_path, kind, (tarball if kind == "npm" else wheel)(files, links)) == {
        "vendor/a.js": wanted,
        "b.js": None,
    }


def test_a_hard_link_in_a_tarball(tmp_path: Path) -> None:
    data = tarball(NPM | {"vendor/a.js": b"var a;\n", "t": GPL}, {"vendor/LICENSE": (HARD, "package/t")})
    assert judged(tmp_path, "npm", data) == {"vendor/a.js": NOT}


def judged(base: Path, kind: Kind, data: bytes) -> dict[str, str | None]:
    store = store_in(base)
    algorithm = "sha512" if kind == "npm" else "sha256"
    digest = hashlib.new(algorithm, data).hexdigest()
    (store.directory / f"{algorithm}-{digest}").write_bytes(data)
    file = "x-1.0-py3-none-any.whl" if kind == "pypi" else ""
    pin = Pin(kind=kind, name="x", version="1.0", file=file, algorithm=algorithm, digest=digest)
    found = read_package(store, pin, chooser(("**/*.js",)), "code", 1 << 20)
    return {f.path: POLICY.judge(f.origin.licence).reason for f in found if f.problem is None}


def test_a_licence_that_is_not_understood_is_told_without_control_characters() -> None:
    found = declared_by("package.json", b'{"license": "\\u001b[31mMIT\\u009b2J\\u202e"}')
    assert all(said.expression.isprintable() for said in found.said)
    spdx = POLICY.judge("\x1b[31mMIT\u202e").spdx
    assert spdx == "\\x1b[31mMIT\\u202e"
