"""Files that are licences by their names: forms, what restricts in them, and pointers to others."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from licence_trees import GPL, MIT, NOT, NPM, TEXT, UNKNOWN, reason

from sevenfold.corpus.licences.path_patterns import debian_pattern, pep639_pattern, reuse_pattern
from sevenfold.corpus.licences.policy import base_name
from sevenfold.corpus.licences.wording.licence_text import decoded, judge_licence


def as_html(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    body = "".join(f"<p class=x>{part}</p>\n" for part in escaped.split("\n\n"))
    return (
        f"<!DOCTYPE html>\n<html><head><title>x</title><style>p {{}}</style></head><body>{body}</body></html>"
    )


def as_rtf(text: str) -> str:
    escaped = re.sub(r"([\\{}])", r"\\\1", text).replace("\n\n", "\\par\n").replace("\n", " ")
    coded = "".join(c if c < "\x80" else f"\\u{ord(c)}?" for c in escaped)
    return "{\\rtf1\\ansi{\\fonttbl{\\f0 Arial;}}{\\info{\\title GPL}}\\f0\\fs20 " + coded + "}"


@pytest.mark.parametrize("form", [str, as_html, as_rtf])
@pytest.mark.parametrize(
    "name", ["MIT", "Apache-2.0", "BSD-3-Clause", "ISC", "GPL-3.0", "MPL-2.0", "AGPL-3.0", "EUPL-1.2"]
)
def test_a_text_is_known_in_every_form(name: str, form: type) -> None:
    found = judge_licence(decoded(form(TEXT[name].decode()).encode()))
    assert ([base_name(spdx) for spdx in found.licences], found.strange) == ([name], "")


M = MIT.decode()
# Real beginnings of licence files that take nothing away.
PLAIN = {
    "British": "Unless otherwise indicated, all code is licenced under the two clause BSD licence below.\n\n"
    + TEXT["BSD-2-Clause"].decode(),
    "a banner": TEXT["BSD-3-Clause"].decode()
    + "\nThe following banner should be used in any source code file"
    + " to indicate the copyright and license terms.\n",
    "several": "Parts are licensed under different licenses (like the MIT license), reproduced below.\n\n"
    + M,
}


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_beginnings_that_say_nothing_new(text: str) -> None:
    assert reason(NPM | {"LICENSE": text.encode()}, "a.js") is None


# What makes a licence file unknown, or not allowed, though it begins with an allowed text.
MORE = {
    "not for evil": (
        M.replace("The above", "The Software shall be used for Good, not Evil.\n\nThe above"),
        UNKNOWN,
    ),
    "Commons Clause": (M + '\n"Commons Clause" License Condition v1.0\n', UNKNOWN),
    "not to be sold": (M + "\nThis software may not be sold.\n", UNKNOWN),
    "additional conditions": (
        TEXT["Apache-2.0"].decode() + "\nwith the following additional conditions: no competing service.\n",
        UNKNOWN,
    ),
    "non-commercial": (TEXT["BSD-3-Clause"].decode() + "\nFor non-commercial use only.\n", UNKNOWN),
    "a GPL part": (
        M + "\nThe files in x/ are licensed under the GNU General Public License version 3.\n",
        NOT,
    ),
    "nothing more": (M + "\nThanks to all who helped.\n", None),
}


@pytest.mark.parametrize("form", [str, as_html, as_rtf])
@pytest.mark.parametrize(("text", "wanted"), MORE.values(), ids=MORE)
def test_words_behind_an_allowed_text(text: str, wanted: str | None, form: type) -> None:
    ending = {as_html: ".html", as_rtf: ".rtf"}.get(form, "")
    assert reason(NPM | {f"LICENSE{ending}": form(text).encode()}, "a.js") == wanted


HIDDEN = {
    "a comment of HTML": (
        "LICENSE.html",
        f"<html><body><!-- For non-commercial use only. --><pre>{M}</pre></body></html>",
        UNKNOWN,
    ),
    "an address": (
        "LICENSE.html",
        '<html><a href="https://www.gnu.org/licenses/gpl-3.0.html">Terms</a></html>',
        NOT,
    ),
    "a script says nothing": ("LICENSE.html", f"<html><script>x='GPL'</script><pre>{M}</pre></html>", None),
    "a script that is not closed": (
        "LICENSE.html",
        f"<html><script>{M}<p>For non-commercial use only.",
        UNKNOWN,
    ),
    "a comment that is not closed": ("LICENSE.html", f"<html>{M}<!-- For non-commercial use only.", UNKNOWN),
    "entities": ("LICENSE.htm", as_html(M).replace("Permission", "&#80;ermission"), None),
    "an empty page": ("LICENSE.html", "<html><body></body></html>", UNKNOWN),
    "hidden text of RTF": ("license.rtf", as_rtf(M)[:-1] + "{\\v For non-commercial use only.}}", UNKNOWN),
    "RTF that is cut off": ("license.rtf", as_rtf(M)[:20], UNKNOWN),
    "PDF": ("LICENSE.pdf", "%PDF-1.4\n\0\1\2", UNKNOWN),
    "a word processor's": ("License.docx", "PK\3\4\0\0", UNKNOWN),
}


@pytest.mark.parametrize(("name", "text", "wanted"), HIDDEN.values(), ids=HIDDEN)
def test_what_a_form_hides(name: str, text: str, wanted: str | None) -> None:
    assert reason(NPM | {name: text.encode()}, "a.js") == wanted


# Documents that an honest program does not write, and that a reader must get through in one pass.
HOSTILE = [
    "<!--" * 99_999,
    "<script>" * 99_999,
    "<p>&" * 99_999,
    "<" * 99_999,
    "{\\rtf1 " + "{" * 99_999 + "}" * 99_999,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_form_says_nothing(text: str) -> None:
    assert (
        judge_licence(decoded(("<html>" if text[0] == "<" else "").encode() + text.encode())).licences == ()
    )


BUSL = "Business Source License 1.1\n\nLicensor: X\nLicensed Work: Y\n"
BUSL += "Additional Use Grant: None\nChange Date: 2030-01-01\n"
SSPL = "Server Side Public License\nVERSION 1, OCTOBER 16, 2018\n"
ELASTIC = "Elastic License 2.0\n\n"
ELASTIC += "You may not provide the software to third parties as a hosted or managed service.\n"
SOURCE_AVAILABLE = {
    "BUSL": BUSL,
    "SSPL": SSPL,
    "Elastic": ELASTIC,
    "PolyForm": "PolyForm Noncommercial License 1.0.0\n",
}


@pytest.mark.parametrize(
    "name", ["LICENSE", "LICENSE-{}.txt", "{}-LICENSE.md", "licenses/../LICENSE.{}", "ee/LICENSE"]
)
@pytest.mark.parametrize("licence", SOURCE_AVAILABLE)
def test_licences_that_only_show_their_source(name: str, licence: str) -> None:
    path = name.format(licence.upper()).replace("licenses/../", "")
    assert reason(NPM | {path: SOURCE_AVAILABLE[licence].encode()}, "ee/a.js") in (NOT, UNKNOWN)


POINTERS = {
    "either": (b"Either of the licenses in LICENSE.MIT or LICENSE.ISC.\n", None),
    "see": (b"See LICENSE.MIT and LICENSE.ISC for details.\n", None),
    "one that is not there": (b"See LICENSE.MIT and LICENSE.GPL.\n", UNKNOWN),
    "with a condition": (b"LICENSE.MIT or LICENSE.ISC, for schools.\n", UNKNOWN),
    "with an exception": (b"See LICENSE.MIT, except for src/core.\n", UNKNOWN),
    "with a fee": (b"See LICENSE.MIT. Companies pay.\n", UNKNOWN),
    "commercial": (b"You may use this under LICENSE.MIT for non-commercial purposes only.\n", UNKNOWN),
    "no file": (b"See the file.\n", UNKNOWN),
}


@pytest.mark.parametrize(("text", "wanted"), POINTERS.values(), ids=POINTERS)
def test_a_licence_that_points_to_others(text: bytes, wanted: str | None) -> None:
    files = {"package.json": b'{"license": "MIT OR ISC"}', "LICENSE.MIT": MIT, "LICENSE.ISC": TEXT["ISC"]}
    assert reason(files | {"LICENSE": text}, "a.js") == wanted


def test_a_pointer_to_a_text_that_is_not_known_is_unknown() -> None:
    files = NPM | {"LICENSE": b"See LICENSE.MIT.\n", "LICENSE.MIT": b"On Tuesdays.\n"}
    assert reason(files, "a.js") == UNKNOWN
    assert reason(NPM | {"LICENSE": b"See LICENSE.MIT.\n"}, "a.js") == UNKNOWN
    assert reason(NPM | {"LICENSE": b"MIT, but see LICENSE.core for the core.\n"}, "a.js") == UNKNOWN
    files["LICENSE.MIT"] = GPL
    assert reason(files, "a.js") == NOT


GLOB = st.text(alphabet="ab/*?", min_size=1, max_size=7)
PATH = st.text(alphabet="ab/", min_size=1, max_size=9)


@given(GLOB, PATH)
def test_patterns_match_what_plain_expressions_match(glob: str, path: str) -> None:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    named = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    plain = "".join(named.get(part) or re.escape(part) for part in parts)
    assert pep639_pattern(glob).matches(path) == bool(re.fullmatch(plain, path, re.DOTALL))
    assert debian_pattern(glob).matches(path) == fnmatch.fnmatchcase(path, glob)
    plain = "".join({"**": ".*", "*": "[^/]*"}.get(p) or re.escape(p) for p in re.split(r"(\*\*|\*)", glob))
    assert reuse_pattern(glob).matches(path) == bool(re.fullmatch(plain, path, re.DOTALL))


@pytest.mark.parametrize("pattern", [pep639_pattern, reuse_pattern, debian_pattern])
def test_a_pattern_of_many_stars_ends(pattern: type) -> None:
    assert not pattern("*a" * 60 + "b").matches("a" * 400)  # type: ignore[attr-defined]


def test_classes_of_characters() -> None:
    assert pep639_pattern("LICEN[CS]E*").matches("LICENCE.txt")
    assert not pep639_pattern("LICEN[!CS]E").matches("LICENSE")
    assert pep639_pattern("[]]").matches("]")
    with pytest.raises(ValueError, match="no class"):
        pep639_pattern("[z-a]")
