"""Licence fields of the recipes of distributions and of other package metadata that is lines of
`name = value`: Arch, Gentoo, Alpine, BitBake, MacPorts, Java manifests, Homebrew, Guix and more.

The files are read as text and never run. A value that a program computes is returned as a text that
is no licence.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sevenfold.corpus.licences.declared.ecosystems import NO_LITERAL, EcosystemLicences, lines_of

_LITERAL = re.compile(r"""(["'])([^"'\n]*)\1|([^\s"'()]+)""")
# Values that a shell or a recipe computes, such as "${LICENSE}+docs" and "$(cat x)".
_COMPUTED = re.compile(r"[$`@]|%[({]")
# Names of Gentoo, BitBake and Buildroot that differ from those of SPDX.
_NAMES = {
    "BSD": "BSD-3-Clause", "BSD-1": "BSD-1-Clause", "BSD-2": "BSD-2-Clause", "BSD-4": "BSD-4-Clause",
    "Apache": "Apache", "Boost-1.0": "BSL-1.0", "ZLIB": "Zlib", "PSF-2": "PSF-2.0", "CC0-1.0": "CC0-1.0",
    "unlicense": "Unlicense", "GPL-1+": "GPL-1.0-or-later", "GPL-2+": "GPL-2.0-or-later",
    "GPL-3+": "GPL-3.0-or-later", "LGPL-2+": "LGPL-2.0-or-later", "LGPL-2.1+": "LGPL-2.1-or-later",
    "LGPL-3+": "LGPL-3.0-or-later", "AGPL-3+": "AGPL-3.0-or-later",
}  # fmt: skip


def _meant(name: str) -> str:
    return NO_LITERAL if _COMPUTED.search(name) else _NAMES.get(name, name)


def _assignments(text: str, name: str) -> list[str]:
    """Return the values after `name=`. A quoted or bracketed value may span several lines."""
    pattern = re.compile(
        rf"(?m)^[ \t]*(?:export[ \t]+)?{name}[ \t]*(?:\+=|\?\??=|:=|=)[ \t]*"
        r"(?P<value>\([^)]{0,2000}\)|\"[^\"]{0,2000}\"|'[^']{0,2000}'|[^\n#]*)"
    )
    return [match["value"].strip() for match in pattern.finditer(text)]


def _shell(name: str = r"licen[sc]es?") -> Callable[[str], EcosystemLicences]:
    """Return a reader of `license=(...)` and `license="..."`. All of a list apply (Arch, Alpine)."""

    def read(text: str) -> EcosystemLicences:
        fields: list[str] = []
        for value in _assignments(text, name):
            inner = value[1:-1] if value.startswith("(") else value
            if not value.startswith("("):
                fields.append(_meant(inner.strip("\"'")) or NO_LITERAL)
                continue
            inner = re.sub(r"(?m)#[^\n]*$", "", inner)
            found = [quoted or bare for _, quoted, bare in _LITERAL.findall(inner)]
            fields += [_meant(item) for item in found] or [NO_LITERAL]
        return EcosystemLicences(tuple(fields))

    return read


def _gentoo(text: str) -> EcosystemLicences:
    """Read `LICENSE="A B || ( C D )"`. All apply, and the group after the bars is a choice."""
    fields: list[str] = []
    for value in _assignments(text, "LICENSE"):
        inner = value.strip("\"'")
        for choice in re.findall(r"\|\|\s*\(([^()]*)\)", inner):
            fields.append(" OR ".join(_spdx(word) for word in choice.split()) or NO_LITERAL)
        rest = re.sub(r"\|\|\s*\([^()]*\)", " ", inner)
        # The licence of a USE flag applies when the flag is set, so it may apply.
        words = [word for word in re.sub(r"[()]", " ", rest).split() if not word.endswith("?")]
        fields += [_meant(word) for word in words]
        fields += [] if inner.strip() else [NO_LITERAL]
    return EcosystemLicences(tuple(fields))


def _spdx(word: str) -> str:
    return _meant(word).replace(" ", "-")


def _bitbake(text: str) -> EcosystemLicences:
    """Read `LICENSE = "A & B"`, also of one package (`LICENSE:x`). A bar is a choice."""
    fields: list[str] = []
    for value in _assignments(text, r"LICENSE(?:[:_](?!FLAGS|PATH|CREATE|MANIFEST)[\w${}-]+)?"):
        inner = value.strip("\"'")
        parts = [part.strip() for part in re.split(r"&", re.sub(r"[()]", " ", inner)) if part.strip()]
        if "(" in inner and "|" in inner and "&" in inner:
            parts = [NO_LITERAL]
        fields += [" OR ".join(_spdx(word.strip()) for word in part.split("|")) for part in parts] or [
            NO_LITERAL
        ]
    return EcosystemLicences(tuple(fields))


def _words_behind(name: str) -> Callable[[str], EcosystemLicences]:
    """Return a reader of `name value` (MacPorts). All words apply, and words in braces are a
    choice.
    """
    pattern = re.compile(rf"(?m)^[ \t]*{name}(?:-append)?[ \t]+([^\n]*)")

    def read(text: str) -> EcosystemLicences:
        fields: list[str] = []
        for value in pattern.findall(text):
            for choice, word in re.findall(r"\{([^{}]*)\}|([^\s{}\\]+)", value):
                fields.append(" OR ".join(map(_spdx, choice.split())) if choice else _meant(word))
        return EcosystemLicences(tuple(fields))

    return read


def _calls(name: str) -> Callable[[str], EcosystemLicences]:
    """Return a reader of `name("MIT")` and `name "MIT"` (xmake, Spack, Chef, Janet)."""
    pattern = re.compile(rf"(?m)(?<![\w.-]){name}\b[ \t]*\(?[ \t]*(?P<quote>[\"'])?(?P<value>[^\"'\n)]*)")

    def read(text: str) -> EcosystemLicences:
        code = re.sub(r"(?m)^[ \t]*(?:#|--)[^\n]*$", "", text)
        return EcosystemLicences(
            tuple(
                m["value"] if m["quote"] and m["value"].strip() else NO_LITERAL
                for m in pattern.finditer(code)
            )
        )

    return read


def _properties(name: str) -> Callable[[str], EcosystemLicences]:
    """Return a reader of `name: value` and `name=value`, each on a line of its own. Lines that begin
    with a blank continue a value.
    """
    pattern = re.compile(rf"(?mi)^(?:{name})[ \t]*[:=][ \t]*(?P<value>[^\n]*(?:\n [^\n]*)*)")

    def read(text: str) -> EcosystemLicences:
        return EcosystemLicences(tuple(
            value
            for match in pattern.finditer(text)
            # Directives of OSGi follow a semicolon.
            for value in [match["value"].replace("\n ", "").partition(";")[0].strip()]
            if value
        ))  # fmt: skip

    return read


def _labels(text: str) -> EcosystemLicences:
    """Read the label of a container image that names its licences."""
    found = re.findall(r"""org\.opencontainers\.image\.licenses["']?\s*[= ]\s*["']?([^"'\n\\]+)""", text)
    return EcosystemLicences(tuple(_meant(value.strip()) for value in found))


def _android(text: str) -> EcosystemLicences:
    """Read the kinds of licences of `Android.bp`."""
    listed = re.findall(r"license_kinds:\s*\[([^\]]{0,4000})\]", text)
    names = [name for rest in listed for name in re.findall(r'"([^"]*)"', rest)]
    return EcosystemLicences(tuple(name.removeprefix("SPDX-license-identifier-") for name in names))


def _bazel(text: str) -> EcosystemLicences:
    """Read `licenses(["notice"])`. A kind that requires more than a notice is an unnamed licence."""
    listed = re.findall(r"(?m)^[^\S\n]*licenses\s*\(\s*\[([^\]]{0,400})\]", text)
    kinds = {kind for rest in listed for kind in re.findall(r"""["'](\w+)["']""", rest)}
    return EcosystemLicences(
        ("kind of Bazel",) if kinds - {"notice", "unencumbered", "permissive", "none"} else ()
    )


def _where(mark: str, reader: Callable[[str], EcosystemLicences]) -> Callable[[str], EcosystemLicences]:
    """Return a reader of the files that contain `mark`, because other files have the same name."""
    pattern = re.compile(mark, re.MULTILINE)
    return lambda text: reader(text) if pattern.search(text) else EcosystemLicences()


def _front_matter(text: str) -> EcosystemLicences:
    """Read `license:` of the YAML at the top of a page. It applies to a repository of a model or of
    data.
    """
    front = re.match(r"---[ \t]*\n(.{0,20000}?)\n---[ \t]*(?:\n|$)", text, re.DOTALL)
    return _LINES(front[1]) if front else EcosystemLicences()


def _homebrew(text: str) -> EcosystemLicences:
    """Read `license "MIT"`, `license any_of: [...]` (a choice) and `license all_of: [...]`. A nested
    value or a symbol is no literal.
    """
    code = re.sub(r"(?m)^[ \t]*#[^\n]*$", "", text)
    fields: list[str] = []
    for value in re.findall(r"(?m)^[ \t]*license\b[ \t]*((?:any|all)_of:\s*\[[^\]]{0,2000}\]|[^\n]*)", code):
        whole = re.sub(r'"([^"\n]*)"\s*=>\s*\{\s*with:\s*"([^"\n]*)"\s*\}', r'"\1 WITH \2"', value)
        names = re.findall(r'"([^"\n]+)"', whole)
        rest = re.sub(r'"[^"\n]*"|[\s,\[\]]', "", whole.partition("#")[0])
        if not names or rest not in ("", "any_of:", "all_of:"):
            fields.append(NO_LITERAL)
        else:
            fields += [" OR ".join(names)] if rest == "any_of:" else names
    return EcosystemLicences(tuple(fields))


# Names of (guix licenses) that are not spelled as SPDX does, without `+`.
_GUIX = {
    "expat": "MIT", "expat-0": "MIT-0", "asl2.0": "Apache-2.0", "asl1.1": "Apache-1.1",
    "bsd-2": "BSD-2-Clause", "bsd-3": "BSD-3-Clause", "bsd-4": "BSD-4-Clause", "bsd-0": "0BSD",
    "boost1.0": "BSL-1.0", "cc0": "CC0-1.0", "isc": "ISC", "zlib": "Zlib", "x11": "X11", "psfl": "PSF-2.0",
    "unlicense": "Unlicense",
    "mpl1.1": "MPL-1.1", "mpl2.0": "MPL-2.0", "epl1.0": "EPL-1.0", "epl2.0": "EPL-2.0", "ncsa": "NCSA",
    "gpl1": "GPL-1.0", "gpl2": "GPL-2.0", "gpl3": "GPL-3.0", "lgpl2.0": "LGPL-2.0", "lgpl2.1": "LGPL-2.1",
    "lgpl3": "LGPL-3.0", "agpl3": "AGPL-3.0", "cc-by4.0": "CC-BY-4.0", "cc-by-sa4.0": "CC-BY-SA-4.0",
}  # fmt: skip
_GNU_FAMILY = re.compile(r"[al]?gpl")


def _of_guix(word: str) -> str:
    """Return the licence that `license:gpl2+` names, or the name itself when it is unknown."""
    name = word.rpartition(":")[2]
    spdx = _GUIX.get(name.removesuffix("+"))
    if spdx is None or not _GNU_FAMILY.match(name):
        return NO_LITERAL if spdx is None else spdx
    return f"{spdx}-{'or-later' if name.endswith('+') else 'only'}"


def _guix(text: str) -> EcosystemLicences:
    """Read `(license license:expat)` and `(license (list license:gpl2+ license:asl2.0))`. All of a
    list apply.
    """
    code = re.sub(r";[^\n]*", "", text)
    fields: list[str] = []
    for one, listed in re.findall(r"\(license\s+(?:([^\s()]{1,200})|\(([^()]{0,2000})\))\s*\)", code):
        head, *words = (listed or f"list {one}").split() or [""]
        fields += [_of_guix(word) for word in words] if head == "list" and words else [NO_LITERAL]
    is_there = re.search(r"\(license\b", code)
    return EcosystemLicences(tuple(fields) or ((NO_LITERAL,) if is_there else ()))


_LINES = lines_of(r"licen[sc]es?[ \t]*:")
_BAZEL_FILES = ("BUILD", "build.bazel")
READERS: tuple[tuple[str, Callable[[str], EcosystemLicences]], ...] = (
    ("pkgbuild", _shell()), ("apkbuild", _shell()), (".srcinfo", _shell()), ("*.ebuild", _gentoo),
    ("*.eclass", _gentoo), ("*.exheres-0", _gentoo), ("*.bb", _bitbake), ("*.bbappend", _bitbake),
    ("*.bbclass", _bitbake), ("*.recipe", _shell("LICENSE")), ("portfile", _words_behind("license")),
    ("template", _where(r"^pkgname=", _shell())),
    ("makefile", _where(r"^PKG_LICENSE|^PORTNAME", _shell("(?:PKG_)?LICENSE"))),
    ("*.mk", _where(r"^\$\(eval \$\([\w-]+-package\)\)", _shell(r"\w+_LICENSE"))),
    ("manifest.mf", _properties("Bundle-License|Implementation-License|X-License|License")),
    ("gradle.properties", _properties(r"(?:\w+[_.])?licen[sc]e(?:[_.](?:name|id))?")),
    ("xmake.lua", _calls("set_license")), ("metadata.rb", _calls("license")),
    ("package.py", _where(r"^class \w+\(.*Package", _calls("license"))),
    ("project.janet", _calls(":license")), ("dockerfile", _labels), ("containerfile", _labels),
    ("*.dockerfile", _labels), ("android.bp", _android), *((name, _bazel) for name in _BAZEL_FILES),
    ("readme.chromium", _properties("License")), ("readme.md", _front_matter),
    ("metadata.desktop", _properties("X-KDE-PluginInfo-License")),
    ("*.rb", _where(r"^class [A-Z]\w* < Formula\b", _homebrew)),
    ("*.scm", _where(r"\((?:define-public [^()\s]+\s+\()?package\b", _guix)),
)  # fmt: skip
