"""What the text of one file says about its licence, in a package that declares MIT."""

from __future__ import annotations

import numpy as np
import pytest
from identify.vendor.licenses import LICENSES
from test_licence_cases import ALLOWED, CODE, GPL2_HEADER, NOT, UNKNOWN, commented

from sevenfold.corpus.licences import LicencePolicy
from sevenfold.corpus.licences.policy import combine
from sevenfold.corpus.licences.wording import explained, rules
from sevenfold.corpus.licences.wording.own import _judged as judge_anew
from sevenfold.corpus.licences.wording.own import licences_in
from sevenfold.corpus.text.ngrams import word_hashes

TEXT = {name: text.encode() for name, text in LICENSES}
MIT, BSD = TEXT["MIT"], TEXT["BSD-2-Clause"]
JS = b"var a = 1;\n"


def judged(data: bytes) -> tuple[str, str | None, str]:
    """(expression, reason, evidence) of a file in an MIT package."""
    own, evidence = licences_in(data)
    judgement = LicencePolicy(ALLOWED).judge(combine(("MIT", *own)))
    return judgement.spdx, judgement.reason, evidence


def within(text: bytes, clause: bytes) -> bytes:
    """A licence text with one more clause before its disclaimer."""
    start = text.index(b"\nTHE SOFTWARE" if b"\nTHE SOFTWARE" in text else b"\nTHIS SOFTWARE")
    return text[:start] + b"\n" + clause + b"\n" + text[start:]


def tag(text: str) -> bytes:
    return text.encode() + b"\n" + CODE


NOT_ALLOWED = {
    "Good, not Evil": commented(within(MIT, b"The Software shall be used for Good, not Evil.")) + CODE,
    # fields
    "@license": b"/**\n * @license GPL-2.0+\n */\n" + JS,
    "@license in words": b"/**\n * @license GNU General Public License v3\n */\n" + JS,
    "__license__": b'__license__ = "GPL"\n' + CODE,
    "__license__ with a type": b'__license__: str = "AGPL-3.0-or-later"\n' + CODE,
    "MODULE_LICENSE": b'MODULE_LICENSE("GPL");\n',
    "MODULE_LICENSE v2": b'int a;\nMODULE_LICENSE("GPL v2");\n',
    "License: MPL-2.0": b"# License: MPL-2.0\n" + CODE,
    "License: GPLv3 in a header": b";; License: GPLv3\n(defun f ())\n",
    "license of JSON": b'{"name": "x", "license": "GPL-3.0"}\n',
    "license in JavaScript": b'module.exports = { license: "AGPL-3.0" };\n',
    "license of TOML": b'license = "LGPL-2.1-only"\n',
    "@copyright GPL": b"<?php\n/** @copyright GPL v2 */\n",
    "licence element": b"<licenses><license><name>GPL-2.0-only</name></license></licenses>\n",
    # SPDX tags
    "tag after #": tag("# SPDX-License-Identifier: GPL-3.0-only"),
    "tag after *": tag(" * SPDX-License-Identifier: GPL-3.0-only"),
    "tag after --": tag("-- SPDX-License-Identifier: GPL-3.0-only"),
    "tag after words": tag("# Copyright X, SPDX-License-Identifier: GPL-3.0-only"),
    "tag behind code": b"int a; /* SPDX-License-Identifier: GPL-2.0-only */\n",
    "tag in lower case": tag("# spdx-license-identifier: gpl-2.0-only"),
    "tag misspelt": tag("# SPDX-Licence-Identifier: GPL-2.0-only"),
    "tag with blanks": tag("# SPDX License Identifier: GPL-2.0-only"),
    "tag with an exception": tag("// SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note"),
    "tags that disagree": tag("# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: GPL-2.0-only"),
    "tag of both": tag("# SPDX-License-Identifier: MIT AND GPL-2.0-only"),
    "tag and a notice": tag("# SPDX-License-Identifier: MIT") + GPL2_HEADER,
    # notices
    "GNU Public License": b"# This is under the GNU Public License version 2.\n" + CODE,
    "EUPL": b"// Licensed under the EUPL, Version 1.2\n" + JS,
    "OSL": b"// Licensed under the Open Software License version 3.0\n" + JS,
    "CC-BY-SA": b"# This work is licensed under the Creative Commons Attribution-ShareAlike 4.0 "
    b"International License.\n" + CODE,
    "CC-BY-NC": b"# Licensed under CC BY-NC 4.0\n" + CODE,
    "CC-BY-ND": b"# licensed under a Creative Commons Attribution-NoDerivatives 4.0 International License\n"
    + CODE,
    "Ms-RL": b"// This source is subject to the Microsoft Reciprocal License (Ms-RL).\n" + JS,
    # composition
    "MIT and GPL": b"// Licensed under the MIT and the GPL v2 licenses, both apply.\n" + JS,
    "GPL and its own option beside MIT": commented(MIT)
    + b"#\n# Parts of this file:\n#\n"
    + GPL2_HEADER
    + CODE,
    "MIT and GPL, alternatively elsewhere": b"# Alternatively, call g.\n"
    + commented(MIT)
    + GPL2_HEADER
    + CODE,
    "your choice of colours": b"# Draws in your choice of colours.\n" + commented(MIT) + GPL2_HEADER + CODE,
}
NOT_KNOWN = {
    "CeCILL": b"# This software is governed by the CeCILL-B license under French law.\n" + CODE,
    "an SPDX tag of nobody": tag("# Copyright X, SPDX-License-Identifier: MyOwn-1.0"),
    "an SPDX tag with more behind": tag("# SPDX-License-Identifier: MIT with Commons-Clause"),
    "Good alone": commented(MIT) + b"#\n# The Software shall be used for Good, not Evil.\n" + CODE,
    "Commons Clause": commented(b'"Commons Clause" License Condition v1.0\n\n' + MIT) + CODE,
    "Commons Clause in short": b"# Licensed under MIT with the Commons Clause.\n" + CODE,
    "Apache and more conditions": b"# Licensed under the Apache License, Version 2.0,\n"
    b"# with the following additional conditions: no use in cars.\n" + CODE,
    "BSD for research": commented(BSD) + b"# For academic research use only.\n" + CODE,
    "a clause within BSD": commented(within(BSD, b"3. Use or redistribution by banks is disallowed.")) + CODE,
    "all rights reserved": b"# Copyright (c) 2020 Example Corp. All rights reserved.\n" + CODE,
    "proprietary and confidential": b"// Proprietary and confidential.\n" + JS,
    "non-commercial": b"// For non-commercial use only.\n" + JS,
    "no redistribution": b"// This file may not be redistributed.\n" + JS,
    "no copies": b"# Unauthorized copying of this file, via any medium, is strictly prohibited.\n" + CODE,
    "do not distribute": b"# Internal. Do not distribute.\n" + CODE,
    "permission in writing": b"# Not to be used without the written permission of Example Corp.\n" + CODE,
    "trade secret": b"/* Contains trade secrets of Example Inc. */\n" + JS,
    "agreement": b"// Use is subject to the terms of the Example License Agreement.\n" + JS,
    "own licence": b"# Licensed under the Example Source License.\n" + CODE,
    "another file": b"/* See LICENSE.acme for copyright and licensing details. */\n" + JS,
    "German": b"# Dieses Programm steht unter der Lizenz der Firma X.\n" + CODE,
    "German rights": b"# Alle Rechte vorbehalten.\n" + CODE,
    "French": b"# Ce fichier est sous licence X. Tous droits r\xc3\xa9serv\xc3\xa9s.\n" + CODE,
    "Spanish": b"# Distribuido bajo la licencia X. Todos los derechos reservados.\n" + CODE,
    "Italian": b"# Rilasciato sotto la licenza X.\n" + CODE,
    "Portuguese": b"# Distribu\xc3\xaddo sob a licen\xc3\xa7a X.\n" + CODE,
    "Polish": b"# Udost\xc4\x99pniono na licencji X.\n" + CODE,
    "Russian": "# \u041b\u0438\u0446\u0435\u043d\u0437\u0438\u044f: X\n".encode() + CODE,
    "Japanese": (
        "# \u3053\u306e\u30d5\u30a1\u30a4\u30eb\u306e\u30e9\u30a4\u30bb\u30f3\u30b9\u306f X\n"
    ).encode()
    + CODE,
    "Chinese": "# \u8bb8\u53ef\u8bc1: X\n".encode() + CODE,
}
KEPT = {
    "no word of it": CODE,
    "MIT": commented(MIT) + CODE,
    "Apache": b'# Licensed under the Apache License, Version 2.0 (the "License");\n'
    b"# you may not use this file except in compliance with the License.\n" + CODE,
    "BSD-2": commented(BSD, b" * ") + JS,
    "BSD-3": commented(TEXT["BSD-3-Clause"], b"// ") + JS,
    "ISC": commented(TEXT["ISC"]) + CODE,
    "Unlicense": commented(TEXT["Unlicense"]) + CODE,
    "Go's header": b"// Copyright 2009 The Go Authors. All rights reserved.\n"
    b"// Use of this source code is governed by a "
    b"BSD-style\n// license that can be found in the LICENSE file.\npackage a\n",
    "rights reserved, licence elsewhere": b"# Copyright (c) Example. All rights reserved.\n"
    b"# See the LICENSE file for details.\n" + CODE,
    "see COPYING": b"# See COPYING for details.\n" + CODE,
    "MIT or GPL": b"// Dual licensed under the MIT or GPL Version 2 licenses.\n" + JS,
    "MIT or GPL at your choice": b"# Licensed under the MIT license or the GPL, at your choice.\n" + CODE,
    "dual MIT and GPL": b"// Dual licensed under the MIT and GPL licenses.\n" + JS,
    "MIT, alternatively GPL": commented(MIT) + b"#\n# Alternatively, this software may be distributed under "
    b"the terms of the\n"
    b"# GNU General Public License version 2.\n" + CODE,
    "MODULE_LICENSE of a choice": b'MODULE_LICENSE("Dual MIT/GPL");\n',
    "tag of a choice": tag("# SPDX-License-Identifier: (GPL-2.0-only OR MIT)"),
    "__license__ = MIT": b'__license__ = "MIT"\n' + CODE,
    "License: MIT": b"# License: MIT (see LICENSE)\n" + CODE,
    "an identifier": b"#define S5PC_GPL0 1\n#define S5PC_GPL1 2\nint a;\n",
    "variables": b"license_key = read()\nlicense = get_license(name)\nif not license:\n"
    b"    raise ValueError('no license')\n",
    "a prompt": b'license: str = Field(description="the license of a package")\n' + CODE,
    "permissions": b"# The user needs permission to write to the directory; without permission it fails.\n"
    + CODE,
    "GPL-compatible": b"# It is GPL-compatible.\n" + CODE,
    "not the GPL": b"# This is not GPL: it is not licensed under the GPL.\n" + CODE,
    "distribution": b"# Redistributes the data between workers, distributed under the normal distribution.\n"
    + CODE,
    "the code of tags": b'TAG = "SPDX-License-Identifier: "\nline = TAG + name\n',
    "a property": b"# This must not be used after free; may not be used twice.\n" + CODE,
}
CASES = [
    (name, data, reason)
    for cases, reason in ((NOT_ALLOWED, NOT), (NOT_KNOWN, UNKNOWN), (KEPT, None))
    for name, data in cases.items()
]


@pytest.mark.parametrize(("data", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_file_in_an_mit_package(data: bytes, reason: str | None) -> None:
    expression, found, evidence = judged(data)
    assert found == reason, (expression, evidence)


@pytest.mark.parametrize("data", [data for _, data, reason in CASES if reason is None])
def test_more_text_that_says_nothing_changes_nothing(data: bytes) -> None:
    assert licences_in(data + b"\n" * 3 + b"# Adds two numbers.\n" * 300)[0] == licences_in(data)[0]


def test_the_evidence_names_the_words() -> None:
    assert judged(NOT_KNOWN["trade secret"])[2] == "no known licence explains 'trade secrets' in the file"


def test_evidence_is_one_line_of_plain_characters() -> None:
    data = b"# Licensed under the \x1b[31mEvil\x07 License \xe2\x80\xae of X.\n" + CODE
    expression, reason, evidence = judged(data)
    assert reason == UNKNOWN
    assert expression.isprintable()
    assert evidence.isprintable()


def test_what_is_forbidden_for_sure_is_said_so_beside_the_unknown() -> None:
    expression, reason, _ = judged(NOT_ALLOWED["tag and a notice"] + b"# Contains trade secrets.\n")
    assert reason == NOT
    assert "LicenseRef-unrecognised" in expression


def test_the_tables_are_those_of_one_commit() -> None:
    found = [np.load(path, allow_pickle=False) for path in (rules.DATA, explained.DATA)]
    assert {arrays["commit"].tobytes() for arrays in found} == {b"bc787214ed21f313be84a1e6a571051cdfdd4003"}
    assert np.all(np.diff(found[1]["grams"].astype(object)) > 0)
    assert len(found[0]["head"]) > 20_000


@pytest.mark.parametrize(
    "words",
    ["dual licensed under the mit and gpl licenses", "this file is distributed under the mit license"],
)
def test_a_rule_is_found_wherever_it_stands(words: str) -> None:
    alone = rules.find_rules(word_hashes(words.encode()))
    within = rules.find_rules(word_hashes(f"alpha beta gamma {words} delta".encode()))
    assert [r.expression for r in alone] == [r.expression for r in within] != []
    assert [r.first + 3 for r in alone] == [r.first for r in within]


def test_canary_without_the_words_about_rights_a_restriction_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sevenfold.corpus.licences.wording.own.find_phrases", lambda *_: [])
    # No judgement of another test is taken, and none of this one is kept.
    monkeypatch.setattr("sevenfold.corpus.licences.wording.own._remembered", judge_anew)
    assert judged(NOT_KNOWN["trade secret"])[1] is None
