"""Sixty and more packages with a known answer: copyleft planted in permissive ones is
caught, permissive ones are kept.

Each case is a package of its kind, built, put into a store and read as `lock` reads it; the file
asked about must get the reason (or None: kept). The licence texts are those of the library.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from identify.vendor.licenses import LICENSES
from package_builders import store_in, stored

from sevenfold.corpus.fetch.lock import Kind
from sevenfold.corpus.globs import chooser
from sevenfold.corpus.licences import LicencePolicy
from sevenfold.corpus.sources.packages import read_package

TEXT = {name: text.encode() for name, text in LICENSES}
ALLOWED = (
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "PSF-2.0",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
)
NOT, UNKNOWN = "licence_not_allowed", "licence_unknown"
CODE = b"def f(x):\n    return x + 1\n"

GPL2_HEADER = b"""# This program is free software; you can redistribute it and/or modify
# it under the terms of the GNU General Public License as published by
# the Free Software Foundation; either version 2 of the License, or
# (at your option) any later version.
"""
LGPL_HEADER = b"""/* This library is free software; you can redistribute it and/or
 * modify it under the terms of the GNU Lesser General Public
 * License as published by the Free Software Foundation; either
 * version 2.1 of the License, or (at your option) any later version.
 */
"""
AGPL_HEADER = b"// Licensed under the GNU Affero General Public License, version 3\n"
MPL_HEADER = b"""/* This Source Code Form is subject to the terms of the Mozilla Public
 * License, v. 2.0. If a copy of the MPL was not distributed with this
 * file, You can obtain one at https://mozilla.org/MPL/2.0/. */
"""
TRI_LICENCE = b"""/* The contents of this file are subject to the Mozilla Public License Version 1.1.
 * Alternatively, the contents of this file may be used under the terms of
 * either the GNU General Public License Version 2 or later (the "GPL"), or
 * the GNU Lesser General Public License Version 2.1 or later (the "LGPL").
 */
"""


def commented(text: bytes, mark: bytes = b"# ") -> bytes:
    return b"".join(mark + line + b"\n" for line in text.splitlines())


def metadata(*lines: str) -> bytes:
    return (
        "\n".join(["Metadata-Version: 2.4", "Name: pack", "Version: 1.0", *lines]).encode() + b"\n\nabout\n"
    )


def wheel(path: str, data: bytes, *lines: str, **more: bytes) -> tuple[Kind, str, dict[str, bytes]]:
    about = metadata(*(lines or ("License-Expression: MIT",)))
    files = {"pack-1.0.dist-info/METADATA": about, path: data}
    return "pypi", path, files | {name.replace("__", "/"): body for name, body in more.items()}


def npm(path: str, data: bytes, licence: str = '"MIT"', **more: bytes) -> tuple[Kind, str, dict[str, bytes]]:
    about = f'{{"name": "pack", "version": "1.0", "license": {licence}}}'.encode()
    return (
        "npm",
        path,
        {"package.json": about, path: data} | {n.replace("__", "/"): b for n, b in more.items()},
    )


def dep5(*stanzas: tuple[str, str]) -> bytes:
    head = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
    return (
        head + "\n".join(f"Files: {g}\nCopyright: somebody\nLicense: {name}\n text\n" for g, name in stanzas)
    ).encode()


def source(
    path: str, data: bytes, *stanzas: tuple[str, str], **more: bytes
) -> tuple[Kind, str, dict[str, bytes]]:
    files = {"debian/copyright": dep5(*(stanzas or (("*", "Expat"),))), path: data, "README": b"read me\n"}
    return "dsc", path, files | {name.replace("__", "/"): body for name, body in more.items()}


def deb(path: str, data: bytes, *stanzas: tuple[str, str]) -> tuple[Kind, str, dict[str, bytes]]:
    return "deb", path, {"usr/share/doc/pack/copyright": dep5(*(stanzas or (("*", "Expat"),))), path: data}


CRATE = "usr/share/cargo/registry/pack-1.0/src/lib.rs"
PLANTED = {
    # in the header of a file
    "GPL-2 notice in a header": wheel("pack/a.py", GPL2_HEADER + CODE),
    "LGPL notice in a C comment": npm("a.js", LGPL_HEADER + b"var a = 1;\n"),
    "AGPL in one line": npm("a.js", AGPL_HEADER + b"var a = 1;\n"),
    "MPL notice": npm("a.js", MPL_HEADER + b"var a = 1;\n"),
    "tri-licence of copyleft licences": npm("a.js", TRI_LICENCE + b"var a = 1;\n"),
    "SPDX tag GPL-3.0": wheel("pack/a.py", b"# SPDX-License-Identifier: GPL-3.0-or-later\n" + CODE),
    "SPDX tag in a C comment": source("a.c", b"/* SPDX-License-Identifier: GPL-2.0-only */\nint a;\n"),
    "SPDX tag MIT AND GPL": wheel("pack/a.py", b"# SPDX-License-Identifier: MIT AND GPL-2.0-only\n" + CODE),
    "SPDX tag LGPL after a docstring": wheel(
        "pack/a.py", b'"""About.\n\nSPDX-License-Identifier: LGPL-2.1-or-later\n"""\n' + CODE
    ),
    "SPDX tag in HTML": npm("a.html", b"<!-- SPDX-License-Identifier: AGPL-3.0-only -->\n<p>a</p>\n"),
    "licensed under the GPLv3": wheel("pack/a.py", b"# Copyright X. Licensed under the GPLv3.\n" + CODE),
    "released under the GPL, no version": wheel("pack/a.py", b"# Released under the GPL.\n" + CODE),
    "License: GPL in a docstring": wheel("pack/a.py", b'"""About.\n\nLicense: GPL v2 or later\n"""\n' + CODE),
    "distributed under the terms of the LGPL": npm(
        "a.js", b"// distributed under the terms of the LGPL\nvar a;\n"
    ),
    "notice in the middle of a file": wheel("pack/a.py", CODE * 200 + GPL2_HEADER + CODE * 200),
    "notice broken over many lines": wheel(
        "pack/a.py", b"# licensed\n# under\n# the\n# GNU\n# General\n# Public\n# License\n" + CODE
    ),
    "notice in upper case": wheel("pack/a.py", GPL2_HEADER.upper() + CODE),
    "CDDL notice": npm(
        "a.java", b"// subject to the terms of the Common Development and Distribution License\nint a;\n"
    ),
    "SSPL notice": npm("a.js", b"// licensed under the Server Side Public License, version 1\nvar a;\n"),
    "BSD-4-Clause": source(
        "a.c",
        commented(
            TEXT["BSD-2-Clause"].replace(
                b"THIS SOFTWARE",
                b"3. All advertising materials mentioning features must display this.\n\nTHIS SOFTWARE",
                1,
            ),
            b" * ",
        ),
    ),
    # whole texts
    "GPL-3 in a comment": wheel("pack/a.py", commented(TEXT["GPL-3.0"]) + CODE),
    "GPL-2 in a C comment": source("a.c", b"/*\n" + commented(TEXT["GPL-2.0"], b" * ") + b" */\nint a;\n"),
    "MPL-2.0 in a comment": npm("a.js", commented(TEXT["MPL-2.0"], b"// ") + b"var a;\n"),
    "the licence file itself": wheel("pack/LICENSE.GPL.txt", TEXT["GPL-3.0"]),
    "LICENSE.GPL at the root of a wheel": wheel("pack/a.py", CODE, **{"LICENSE.GPL": TEXT["GPL-3.0"]}),
    "COPYING with GPL-2 at the root of an npm package": npm("a.js", b"var a;\n", COPYING=TEXT["GPL-2.0"]),
    "LICENSE is the GPL, metadata says MIT": npm("a.js", b"var a;\n", LICENSE=TEXT["GPL-3.0"]),
    "MIT text with the GPL behind it": npm(
        "a.js", b"var a;\n", LICENSE=TEXT["MIT"] + b"\n\n----\n\n" + TEXT["GPL-2.0"]
    ),
    "licence file of the dist-info": wheel(
        "pack/a.py", CODE, **{"pack-1.0.dist-info__licenses__LICENSE": TEXT["AGPL-3.0"]}
    ),
    "LGPL text in the dist-info": wheel(
        "pack/a.py", CODE, **{"pack-1.0.dist-info__LICENSE": TEXT["LGPL-2.1"]}
    ),
    # vendored folders
    "vendored folder with its own GPL": wheel(
        "pack/_vendor/x/a.py", CODE, pack___vendor__x__LICENSE=TEXT["GPL-3.0"]
    ),
    "deep below a vendored GPL folder": wheel(
        "pack/_vendor/x/y/z/a.py", CODE, pack___vendor__x__COPYING=TEXT["GPL-2.0"]
    ),
    "vendored npm package under GPL": npm(
        "node_modules/x/a.js", b"var a;\n", **{"node_modules__x__package.json": b'{"license": "GPL-3.0"}'}
    ),
    "vendored crate under MPL": source(
        "vendor/x/src/lib.rs",
        b"fn a() {}\n",
        **{"vendor__x__Cargo.toml": b'[package]\nlicense = "MPL-2.0"\n'},
    ),
    "vendored folder named in the dist-info": wheel(
        "pack/ext/a.py", CODE, **{"pack-1.0.dist-info__licenses__pack__ext__LICENSE": TEXT["LGPL-3.0"]}
    ),
    # metadata
    "License-Expression GPL": wheel("pack/a.py", CODE, "License-Expression: GPL-3.0-or-later"),
    "License-Expression MIT AND GPL": wheel(
        "pack/a.py", CODE, "License-Expression: MIT AND GPL-3.0-or-later"
    ),
    "License field GPLv3+": wheel("pack/a.py", CODE, "License: GPLv3+"),
    "classifier GPL": wheel(
        "pack/a.py", CODE, "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
    ),
    "two classifiers, one LGPL": wheel(
        "pack/a.py",
        CODE,
        "Classifier: License :: OSI Approved :: MIT License",
        "Classifier: License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)",
    ),
    "npm AGPL": npm("a.js", b"var a;\n", '"AGPL-3.0-or-later"'),
    "WITH an exception that is not on the list": npm("a.js", b"var a;\n", '"Apache-2.0 WITH LLVM-exception"'),
    # Debian
    "DEP-5 glob": source("contrib/a.c", b"int a;\n", ("*", "Expat"), ("contrib/*", "GPL-2+")),
    "DEP-5, the last paragraph wins": source("a.c", b"int a;\n", ("*", "Expat"), ("*.c", "LGPL-2.1+")),
    "DEP-5 Expat and GPL": source("a.c", b"int a;\n", ("*", "Expat and GPL-3+")),
    "binary package: any paragraph counts": deb(
        "usr/share/pack/a.py", CODE, ("*", "Expat"), ("tools/*", "GPL-3+")
    ),
    "crate: its own paragraph": deb(
        CRATE, b"fn a() {}\n", ("*", "MIT or Apache-2.0"), ("src/lib.rs", "GPL-3")
    ),
    "header against DEP-5": source("a.py", GPL2_HEADER + CODE),
    "free-form copyright of the GPL": (
        "dsc",
        "a.c",
        {
            "debian/copyright": b"It is free software under the terms of the GNU General Public License,\n"
            b"version 2; see"
            b" /usr/share/common-licenses/GPL-2.\n",
            "a.c": b"int a;\n",
        },
    ),
}
UNKNOWNS = {
    "nothing declares a licence": ("pypi", "pack/a.py", {"pack/a.py": CODE}),
    "License: BSD": wheel("pack/a.py", CODE, "License: BSD"),
    "classifier BSD License": wheel("pack/a.py", CODE, "Classifier: License :: OSI Approved :: BSD License"),
    "npm SEE LICENSE IN": npm("a.js", b"var a;\n", '"SEE LICENSE IN FILE"'),
    "npm UNLICENSED": npm("a.js", b"var a;\n", '"UNLICENSED"'),
    "an SPDX tag that is no licence": wheel("pack/a.py", b"# SPDX-License-Identifier: MyOwn-1.0\n" + CODE),
    "vendored folder with an unknown text": wheel(
        "pack/x/a.py", CODE, pack__x__LICENSE=b"You may use this on Tuesdays.\n" * 20
    ),
    "not for commerce": npm("a.js", b"// Free for non-commercial use only; all licenses reserved\nvar a;\n"),
    "proprietary header": npm(
        "a.js", b"// Proprietary and confidential. Unauthorized copying of this file is forbidden.\nvar a;\n"
    ),
    "Commons Clause beside MIT": npm(
        "a.js", b"var a;\n", LICENSE=b'"Commons Clause" License Condition v1.0\n' + TEXT["MIT"]
    ),
    "public-domain of Debian": source("a.c", b"int a;\n", ("*", "public-domain")),
    "DEP-5 without a paragraph for the file": source("a.c", b"int a;\n", ("src/*", "Expat")),
}
KEPT = {
    "MIT metadata, no more": wheel("pack/a.py", CODE),
    "MIT with its text": npm("a.js", b"var a;\n", LICENSE=TEXT["MIT"]),
    "Apache header in an Apache package": wheel(
        "pack/a.py",
        b'# Licensed under the Apache License, Version 2.0 (the "License");\n' + CODE,
        "License-Expression: Apache-2.0",
    ),
    "BSD-3 text in a file": source("a.c", commented(TEXT["BSD-3-Clause"], b" * ") + b"int a;\n"),
    "MIT text in a comment of an ISC package": npm(
        "a.js", commented(TEXT["MIT"], b"// ") + b"var a;\n", '"ISC"'
    ),
    "MIT OR GPL": npm("a.js", b"var a;\n", '"(MIT OR GPL-3.0-or-later)"'),
    "MIT OR GPL with both texts": npm(
        "a.js",
        b"var a;\n",
        '"(MIT OR GPL-2.0)"',
        **{"LICENSE-MIT": TEXT["MIT"], "LICENSE-GPL": TEXT["GPL-2.0"]},
    ),
    "MIT OR Apache crate with both texts": source(
        "src/lib.rs",
        b"fn a() {}\n",
        ("*", "MIT or Apache-2.0"),
        **{"LICENSE-MIT": TEXT["MIT"], "LICENSE-APACHE": TEXT["Apache-2.0"]},
    ),
    "SPDX tag MIT": wheel("pack/a.py", b"# SPDX-License-Identifier: MIT\n" + CODE),
    "SPDX tag OR": source("a.c", b"// SPDX-License-Identifier: GPL-2.0-only OR MIT\nint a;\n"),
    "a tag where nothing else is": (
        "pypi",
        "pack/a.py",
        {"pack/a.py": b"# SPDX-License-Identifier: MIT\n" + CODE},
    ),
    "text alone, no metadata field": wheel(
        "pack/a.py", CODE, "Summary: x", **{"pack-1.0.dist-info__LICENSE": TEXT["MIT"]}
    ),
    "classifier BSD with the text that says which": wheel(
        "pack/a.py",
        CODE,
        "Classifier: License :: OSI Approved :: BSD License",
        **{"pack-1.0.dist-info__LICENSE": TEXT["BSD-3-Clause"]},
    ),
    "License: Apache 2.0": wheel("pack/a.py", CODE, "License: Apache 2.0"),
    "a file beside a vendored GPL folder": wheel(
        "pack/a.py", CODE, pack___vendor__x__LICENSE=TEXT["GPL-3.0"]
    ),
    "the GPL in a neighbour's header only": wheel("pack/b.py", CODE, **{"pack__a.py": GPL2_HEADER + CODE}),
    "it is said not to be under the GPL": wheel(
        "pack/a.py", b"# This is not licensed under the GPL.\n" + CODE
    ),
    "the word gpl in code": wheel("pack/a.py", b"gpl = load('gpl')\nlicense = gpl.name\n" + CODE),
    "code about licences": wheel(
        "pack/a.py", b"# Checks the license of a file, and whether it is compatible with the GPL.\n" + CODE
    ),
    "vendored MIT folder": wheel("pack/_vendor/x/a.py", CODE, pack___vendor__x__LICENSE=TEXT["MIT"]),
    "DEP-5 glob elsewhere": source("src/a.c", b"int a;\n", ("*", "Expat"), ("contrib/*", "GPL-2+")),
    "DEP-5 of the packaging": deb("usr/share/pack/a.py", CODE, ("*", "Expat"), ("debian/*", "GPL-3+")),
    "crate: another file's paragraph": deb(
        CRATE, b"fn a() {}\n", ("*", "MIT or Apache-2.0"), ("tests/gpl.rs", "GPL-3")
    ),
    "old npm licenses list": npm("a.js", b"var a;\n", 'null, "licenses": [{"type": "MIT"}]'),
}
CASES = (
    [(name, case, NOT) for name, case in PLANTED.items()]
    + [(name, case, UNKNOWN) for name, case in UNKNOWNS.items()]
    + [(name, case, None) for name, case in KEPT.items()]
)


def judged(
    base: Path, kind: Kind, files: dict[str, bytes], **about
) -> dict[str, tuple[str, str, str | None]]:
    """path -> (expression, evidence, reason) of every file of a package."""
    store = store_in(base)
    pin = stored(store, kind, files, **about)
    policy = LicencePolicy(ALLOWED)
    found = list(read_package(store, pin, chooser(("**/*",)), "code", 1 << 20))
    assert all(f.problem is None for f in found)
    return {
        f.path: (f.origin.licence or "", f.origin.licence_evidence, policy.judge(f.origin.licence).reason)
        for f in found
    }


@pytest.mark.parametrize(("name", "case", "reason"), CASES, ids=[name for name, _, _ in CASES])
def test_cases(
    tmp_path: Path, name: str, case: tuple[Kind, str, dict[str, bytes]], reason: str | None
) -> None:
    kind, path, files = case
    expression, evidence, found = judged(tmp_path, kind, files)[path]
    assert found == reason, (expression, evidence)
    assert evidence


def test_there_are_enough_cases() -> None:
    assert len(PLANTED) >= 45
    assert len(UNKNOWNS) >= 10
    assert len(KEPT) >= 20


def test_the_evidence_says_where_it_was_found(tmp_path: Path) -> None:
    _, path, files = PLANTED["vendored folder with its own GPL"]
    expression, evidence, _ = judged(tmp_path, "pypi", files)[path]
    assert expression == "GPL-3.0-only AND MIT"
    assert evidence == "License-Expression of the package metadata; text of LICENSE in pack/_vendor/x"
    _, path, files = PLANTED["SPDX tag GPL-3.0"]
    assert judged(tmp_path, "pypi", files)[path][1].endswith("; SPDX tag in the file")
    _, path, files = PLANTED["DEP-5 glob"]
    assert judged(tmp_path, "dsc", files)[path][1] == "debian/copyright, Files: contrib/*"


def test_a_concluded_licence_replaces_what_the_package_says_and_nothing_else(tmp_path: Path) -> None:
    files = {"LICENSE": TEXT["BSD-3-Clause"] + TEXT["GPL-3.0"], "a.py": CODE, "b.py": GPL2_HEADER + CODE}
    before = judged(tmp_path / "1", "pypi", files)
    assert before["a.py"][2] == NOT
    after = judged(tmp_path / "2", "pypi", files, concluded="BSD-3-Clause")
    assert after["a.py"] == ("BSD-3-Clause", "concluded by the lock", None)
    assert after["b.py"][2] == NOT


def test_what_the_lock_says_counts_only_where_the_package_is_silent(tmp_path: Path) -> None:
    files = {"pack/a.py": CODE}
    assert judged(tmp_path / "1", "pypi", files, licence=("MIT",))["pack/a.py"] == (
        "MIT",
        "as the lock states it",
        None,
    )
    _, path, gpl = PLANTED["License-Expression GPL"]
    assert judged(tmp_path / "2", "pypi", gpl, licence=("MIT",))[path][2] == NOT


def test_canary_without_the_notices_planted_headers_are_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sevenfold.corpus.licences.survey.licences_in", lambda data: ((), ""))
    kind, path, files = PLANTED["GPL-2 notice in a header"]
    assert judged(tmp_path, kind, files)[path][2] is None
