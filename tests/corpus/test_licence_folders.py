"""What metadata, licence files and folders say of the files under them: trees with known answers."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from licence_trees import GPL, MIT, NOT, NPM, POLICY, TEXT, UNKNOWN, reason
from package_builders import store_in

from sevenfold.corpus.fetch.lock import Kind, Pin
from sevenfold.corpus.globs import chooser
from sevenfold.corpus.licences.declared.metadata import declared_by
from sevenfold.corpus.sources.packages import read_package


def about(*lines: str) -> dict[str, bytes]:
    return {"x-1.0.dist-info/METADATA": "\n".join(["Name: x", *lines, "", "about"]).encode()}


GPL_CLASSIFIER = "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
MIT_CLASSIFIER = "Classifier: License :: OSI Approved :: MIT License"
BSD_CLASSIFIER = "Classifier: License :: OSI Approved :: BSD License"
TREES: dict[str, tuple[dict[str, bytes | None], str, str | None]] = {
    "MIT and a GPL classifier": (about("License: MIT", GPL_CLASSIFIER), "x/a.py", NOT),
    "an expression and a GPL classifier": (about("License-Expression: MIT", GPL_CLASSIFIER), "x/a.py", NOT),
    "GNU AFFERO and an MIT classifier": (about("License: GNU AFFERO", MIT_CLASSIFIER), "x/a.py", UNKNOWN),
    "a choice with a classifier for each": (
        about("License: MIT OR GPL-3.0-only", MIT_CLASSIFIER, GPL_CLASSIFIER),
        "x/a.py",
        None,
    ),
    "a classifier that names a family, and the text": (
        about(BSD_CLASSIFIER) | {"LICENSE": TEXT["BSD-3-Clause"]},
        "x/a.py",
        None,
    ),
    "a classifier that names a family, and another text": (
        about(BSD_CLASSIFIER) | {"LICENSE": MIT},
        "x/a.py",
        UNKNOWN,
    ),
    "two classifiers, one of a family": (about(MIT_CLASSIFIER, BSD_CLASSIFIER), "x/a.py", UNKNOWN),
    "a classifier that is no licence": (
        about("License: MIT", "Classifier: License :: Other/Proprietary License"),
        "x/a.py",
        UNKNOWN,
    ),
    "UNKNOWN says nothing": (about("License: UNKNOWN", MIT_CLASSIFIER), "x/a.py", None),
    "a whole text in the field": (
        about("License: " + GPL.decode().replace("\n", "\n        ")),
        "x/a.py",
        NOT,
    ),
    "a policy of use beside the licence": (
        NPM | {"LICENSE": MIT, "USE_POLICY.md": b"You agree that you will not use it for war."},
        "a.js",
        UNKNOWN,
    ),
    "restrictions beside the licence": (
        {"LICENSE": MIT, "RESTRICTIONS.txt": b"Not for commercial use."},
        "a.py",
        UNKNOWN,
    ),
    "terms beside the licence": (
        {"LICENSE": MIT, "TERMS.md": b"You may not use this software commercially."},
        "a.py",
        UNKNOWN,
    ),
    "a page about usage": ({"LICENSE": MIT, "USAGE.md": b"Call f(). Use is easy."}, "a.py", None),
    "a recipe of conda": (
        {"LICENSE": MIT, "conda/meta.yaml": b"about:\n  license: GPL-3.0-only\n"},
        "x/a.py",
        NOT,
    ),
    "MIT and a text of ours": (NPM | {"LICENSE": b"You may use this on Tuesdays. " * 20}, "a.js", UNKNOWN),
    "Commons Clause beside the licence": (
        NPM | {"LICENSE": MIT, "COMMONS-CLAUSE.md": b"You may not sell.\n"},
        "a.js",
        UNKNOWN,
    ),
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
    "NOTICE of the GPL": (
        NPM | {"NOTICE": b"Licensed under the GNU General Public License v3.\n"},
        "a.js",
        NOT,
    ),
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
        "a.R",
        None,
    ),
    "both texts of a choice": (
        {"package.json": b'{"license": "MIT OR GPL-3.0"}', "LICENSE-MIT": MIT, "LICENSE-GPL": GPL},
        "a.js",
        None,
    ),
    "SEE LICENSE IN": (
        {"package.json": b'{"license": "SEE LICENSE IN TERMS.dat"}', "TERMS.dat": GPL},
        "a.js",
        NOT,
    ),
    "SEE LICENSE IN, allowed": (
        {"package.json": b'{"license": "SEE LICENSE IN TERMS.dat"}', "TERMS.dat": MIT},
        "a.js",
        None,
    ),
    "license-file": (
        {"Cargo.toml": b'[package]\nlicense-file = "terms.dat"\n', "terms.dat": GPL},
        "a.rs",
        NOT,
    ),
    "a file above": (
        NPM | {"x/pyproject.toml": b'[project]\nlicense = {file = "../T"}\n', "T": GPL},
        "x/a.py",
        NOT,
    ),
    "a workspace that is there": (
        {
            "Cargo.toml": b'[workspace.package]\nlicense = "MIT"\n',
            "x/Cargo.toml": b"[package]\nlicense.workspace = true\n",
        },
        "x/a.rs",
        None,
    ),
    "a workspace that is not": (
        {"x/Cargo.toml": b"[package]\nlicense.workspace = true\n"},
        "x/a.rs",
        UNKNOWN,
    ),
    "PEP 639 below src": (
        about("License-Expression: MIT") | {"x-1.0.dist-info/licenses/src/x/_vendor/COPYING": GPL},
        "x/_vendor/a.py",
        NOT,
    ),
    "PEP 639, beside it": (
        about("License-Expression: MIT") | {"x-1.0.dist-info/licenses/src/x/_vendor/COPYING": GPL},
        "x/a.py",
        None,
    ),
    "PEP 639, a name of its own": (
        about("License-Expression: MIT") | {"x-1.0.dist-info/licenses/THIRD.dat": GPL},
        "x/a.py",
        NOT,
    ),
    "PEP 639 below a folder of packages": (
        about("License-Expression: MIT") | {"x-1.0.dist-info/licenses/packages/x/_vendor/COPYING": GPL},
        "x/_vendor/a.py",
        NOT,
    ),
    "PEP 639, a folder of licences": (
        about("License-Expression: MIT") | {"x-1.0.dist-info/licenses/licenses/EVIL.txt": b"On Tuesdays.\n"},
        "x/a.py",
        UNKNOWN,
    ),
    "PEP 639, a name of its own that nobody knows": (
        about("License-Expression: MIT") | {"x-1.0.dist-info/licenses/THIRD.dat": b"On Tuesdays.\n"},
        "x/a.py",
        UNKNOWN,
    ),
    "PEP 639, authors": (
        about("License-Expression: MIT", "License-File: AUTHORS")
        | {"x-1.0.dist-info/licenses/AUTHORS": b"Somebody\n"},
        "x/a.py",
        None,
    ),
    "PEP 639, no folder of licences": (
        about("License-Expression: MIT", "License-File: LICENSE"),
        "x/a.py",
        UNKNOWN,
    ),
    "PEP 639, one file of two": (
        about("License-Expression: MIT", "License-File: LICENSE", "License-File: MORE")
        | {"x-1.0.dist-info/licenses/LICENSE": MIT},
        "x/a.py",
        UNKNOWN,
    ),
    "PEP 639, both files": (
        about("License-Expression: MIT", "License-File: LICENSE", "License-File: MORE")
        | {"x-1.0.dist-info/licenses/LICENSE": MIT, "x-1.0.dist-info/licenses/MORE": MIT},
        "x/a.py",
        None,
    ),
    "a licence file where tools put it before": (
        about("License: MIT", "License-File: LICENSE") | {"x-1.0.dist-info/LICENSE": MIT},
        "x/a.py",
        None,
    ),
    "a licence file of a folder, put flat": (
        about("License: MIT", "License-File: legal/TERMS") | {"x-1.0.dist-info/TERMS": GPL},
        "x/a.py",
        NOT,
    ),
    "a licence file of another name, put beside METADATA": (
        about("License: MIT", "License-File: THIRD.dat") | {"x-1.0.dist-info/THIRD.dat": GPL},
        "x/a.py",
        NOT,
    ),
    "an expression of nobody": (about("License-Expression: Mine-1.0"), "x/a.py", UNKNOWN),
    "an expression that is cut off": (about("License-Expression: MIT AND"), "x/a.py", UNKNOWN),
    "an expression of a reference": (about("License-Expression: LicenseRef-Mine"), "x/a.py", UNKNOWN),
    "two expressions": (about("License-Expression: MIT", "License-Expression: GPL-3.0-only"), "x/a.py", NOT),
    "an expression and another text": (
        about("License-Expression: MIT", "License-File: LICENSE") | {"x-1.0.dist-info/licenses/LICENSE": GPL},
        "x/a.py",
        NOT,
    ),
    "PKG-INFO of a source": (
        {"PKG-INFO": b"Name: x\nLicense-Expression: MIT\nLicense-File: terms/T\n", "terms/T": MIT},
        "x/a.py",
        None,
    ),
    "PKG-INFO and no file": (
        {"PKG-INFO": b"Name: x\nLicense-Expression: MIT\nLicense-File: terms/T\n"},
        "x/a.py",
        UNKNOWN,
    ),
    "PKG-INFO of an egg": (
        {"src/x.egg-info/PKG-INFO": b"Name: x\nLicense: MIT\nLicense-File: LICENSE\n", "LICENSE": MIT},
        "src/x/a.py",
        None,
    ),
    "license-files": (
        {
            "pyproject.toml": b'[project]\nlicense = "MIT"\nlicense-files = ["legal/*.dat"]\n',
            "legal/g.dat": GPL,
        },
        "a.py",
        NOT,
    ),
    "a leftover of the build in a wheel": (
        about("License-Expression: MIT")
        | {
            "x/pyproject.toml": b'[project]\nlicense = {file = "LICENSE"}\nlicense-files = ["legal/*"]\n',
            "x-1.0.dist-info/licenses/LICENSE": MIT,
            "x-1.0.dist-info/licenses/legal/T": MIT,
        },
        "x/a.py",
        None,
    ),
    "a leftover, and no file of it": (
        about("License-Expression: MIT") | {"x/pyproject.toml": b'[project]\nlicense = {file = "LICENSE"}\n'},
        "x/a.py",
        UNKNOWN,
    ),
    "license-files over folders": (
        {"pyproject.toml": b'[project]\nlicense = "MIT"\nlicense-files = ["**/T"]\n', "a/b/T": GPL},
        "a/b/c/a.py",
        NOT,
    ),
    "license-files, elsewhere": (
        {"pyproject.toml": b'[project]\nlicense = "MIT"\nlicense-files = ["**/T"]\n', "a/b/T": GPL},
        "a/a.py",
        None,
    ),
    "license-files of setuptools": (
        {
            "pyproject.toml": b'[project]\nlicense = "MIT"\n[tool.setuptools]\nlicense-files = ["T"]\n',
            "T": GPL,
        },
        "a.py",
        NOT,
    ),
    "license-files that nobody knows": (
        {"pyproject.toml": b'[project]\nlicense = "MIT"\nlicense-files = ["T*"]\n', "T1": b"On Tuesdays.\n"},
        "a.py",
        UNKNOWN,
    ),
    "license_files of setup.cfg": (
        {"setup.cfg": b"[metadata]\nlicense = MIT\nlicense_files =\n  T*\n  LICEN[CS]E*\n", "T1": GPL},
        "a.py",
        NOT,
    ),
    "license-files of a folder": (
        {"x/pyproject.toml": b'[project]\nlicense = "MIT"\nlicense-files = ["T"]\n', "x/T": GPL, "T": MIT},
        "x/a.py",
        NOT,
    ),
    "TERMS of its own": (NPM | {"TERMS.txt": b"This software may not be sold.\n"}, "a.js", UNKNOWN),
    "license_files of setup.py": (
        {"setup.py": b"setup(license='MIT', license_files=['T'])\n", "T": GPL},
        "a.py",
        NOT,
    ),
    "a folder LICENSE": (NPM | {"LICENSE/COPYING.txt": GPL}, "a.js", NOT),
    "a folder license of a folder": (NPM | {"x/license/LICENSE": GPL}, "x/a.js", NOT),
    "beside a folder with a folder license": (NPM | {"x/license/LICENSE": GPL}, "a.js", None),
    "SSPL.txt": (NPM | {"SSPL.txt": b"Server Side Public License\n"}, "a.js", NOT),
    "BUSL-1.1.md": (NPM | {"BUSL-1.1.md": b"Business Source License 1.1\n"}, "a.js", NOT),
    "an empty License-File": (about("License-Expression: MIT", "License-File: "), "x/a.py", None),
    "a sidecar": (NPM | {"g.py.license": b"SPDX-License-Identifier: GPL-3.0-only\n"}, "g.py", NOT),
    "beside a sidecar's file": (
        NPM | {"g.py.license": b"SPDX-License-Identifier: GPL-3.0-only\n"},
        "h.py",
        None,
    ),
    "a sidecar that says nothing known": (NPM | {"g.py.license": b"mine\n"}, "g.py", UNKNOWN),
    "a bundler's list": (NPM | {"b.js.LICENSE.txt": b"/*! licensed under the GPL v3 */\n"}, "b.js", NOT),
    "REUSE.toml": (
        NPM
        | {
            "REUSE.toml": b'version = 1\n[[annotations]]\npath = "a/**"\n'
            b'SPDX-License-Identifier = "GPL-3.0-only"\n'
        },
        "a/b/c.py",
        NOT,
    ),
    "REUSE.toml, elsewhere": (
        NPM
        | {
            "REUSE.toml": b'version = 1\n[[annotations]]\npath = "a/*"\n'
            b'SPDX-License-Identifier = "GPL-3.0-only"\n'
        },
        "a/b/c.py",
        None,
    ),
    "REUSE.toml of a folder": (
        NPM
        | {
            "v/REUSE.toml": b'[[annotations]]\npath = ["x.py", "y.py"]\n'
            b'SPDX-License-Identifier = ["MIT", "GPL-2.0-only"]\n'
        },
        "v/y.py",
        NOT,
    ),
    "a broken REUSE.toml": (NPM | {"REUSE.toml": b"[[annotations]]\npath = 7\n"}, "a.py", UNKNOWN),
    "dep5": (
        NPM | {".reuse/dep5": b"Format: x\n\nFiles: a/*\nCopyright: x\nLicense: GPL-3.0-only\n"},
        "a/b.py",
        NOT,
    ),
    "dep5, elsewhere": (
        NPM | {".reuse/dep5": b"Format: x\n\nFiles: a/*\nCopyright: x\nLicense: GPL-3.0-only\n"},
        "b.py",
        None,
    ),
    "a broken dep5": (NPM | {".reuse/dep5": b"nothing\n"}, "b.py", UNKNOWN),
    "LICENSES/ is for reference": (NPM | {"LICENSES/GPL-3.0-only.txt": GPL}, "a.py", None),
    "vendored with an unknown licence": (
        NPM | {"third_party/z/package.json": b'{"license": "Mine"}'},
        "third_party/z/a.js",
        UNKNOWN,
    ),
    "node_modules with broken metadata": (
        NPM | {"node_modules/z/package.json": b"{"},
        "node_modules/z/a.js",
        UNKNOWN,
    ),
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
    "a licence that names one that is not there": (
        NPM | {"LICENSE": b"See LICENSE.MIT and LICENSE.GPL.\n"},
        "a.js",
        UNKNOWN,
    ),
    "a README listed as a licence": (
        about("License-Expression: MIT")
        | {"x-1.0.dist-info/licenses/README.md": b"The data is for non-commercial use only.\n"},
        "x/a.py",
        None,
    ),
    "META-INF": ({"META-INF/LICENSE": GPL}, "org/a.java", NOT),
}


@pytest.mark.parametrize(("files", "path", "wanted"), TREES.values(), ids=TREES)
def test_trees(files: dict[str, bytes | None], path: str, wanted: str | None) -> None:
    assert reason(files, path) == wanted


def tarball(files: dict[str, bytes], hard_links: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, target in hard_links.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.type, info.linkname = tarfile.LNKTYPE, target
            archive.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue())


def test_a_hard_link_in_a_tarball(tmp_path: Path) -> None:
    data = tarball(NPM | {"vendor/a.js": b"var a;\n", "t": GPL}, {"vendor/LICENSE": "package/t"})
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
