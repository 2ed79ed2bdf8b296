"""Licence fields of other ecosystems' metadata: R, Ruby, Java, .NET, Haskell, OCaml, Elixir, Perl,
Gradle, conda and more.

The files are read as text, and never run. A field that is no literal comes as a value that no
licence is spelled like.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree import ElementTree

_NO_LITERAL = "no literal"


@dataclass(frozen=True, slots=True)
class Read:
    """Licence fields, which all hold, and the licence files that are pointed to."""

    fields: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def _quoted(text: str) -> list[str]:
    """Return the literals of `"MIT"`, `["MIT", "ISC"]`, `%w[MIT ISC]`, `{ :type => "MIT", :file => "x" }`."""
    if words := re.match(r"\s*%[wWiI][\[({<]([^\])}>]*)", text):
        return words[1].split()
    listed = re.match(r"\s*\[([^\]]*)\]", text)
    one = re.match(r"""\s*(["'][^"'\n]*["'])""", text)
    part = listed[1] if listed else one[1] if one else ""
    return [found for _, found in re.findall(r"""(["'])([^"'\n]*)\1""", part)]


def _assigned(name: str) -> Callable[[str], Read]:
    """Return a reader of `NAME <value>`, the value as `_quoted` reads it."""
    pattern = re.compile(rf"(?m)^[^#\n]*?(?<![\w-]){name}[ \t]*(?P<rest>.*(?:\n[^\n]*){{0,8}})")

    def read(text: str) -> Read:
        fields: list[str] = []
        files: list[str] = []
        for match in pattern.finditer(text):
            rest = match["rest"]
            if table := re.match(r"\s*\{([^}]*)\}", rest):
                kind = re.search(r""":?type["']?\s*(?:=>|:)\s*["']([^"'\n]*)["']""", table[1])
                file = re.search(r""":?file["']?\s*(?:=>|:)\s*["']([^"'\n]*)["']""", table[1])
                fields += [kind[1]] if kind else []
                files += [file[1]] if file else []
                fields += [] if kind or file else [_NO_LITERAL]
            else:
                fields += _quoted(rest) or [_NO_LITERAL]
        return Read(tuple(fields), tuple(files))

    return read


def _headers(text: str) -> dict[str, str]:
    """Return `Name: value` lines with continuations; names in lower case."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z][\w.-]*)[ \t]*:[ \t]*(.*)", line):
            name = match[1].lower()
            # A field that is given twice holds twice.
            found[name] = f"{found[name]} and {match[2]}" if name in found else match[2]
        elif line[:1] in (" ", "\t") and name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _r(text: str) -> Read:
    """R's DESCRIPTION: `GPL-2 | file LICENCE` is a choice, `MIT + file LICENSE` a template with its holders."""
    licence = _headers(text).get("license", "")
    files = re.findall(r"file\s+(\S+)", licence)
    rest = re.sub(r"\s*[|+]\s*file\s+\S+", "", licence).strip()
    if re.fullmatch(r"file\s+\S+", rest):
        return Read(files=tuple(files))
    names = {"Unlimited": _NO_LITERAL, "BSD_3_clause": "BSD-3-Clause", "BSD_2_clause": "BSD-2-Clause"}
    is_template = bool(re.search(r"\+\s*file\b", licence))
    return Read((names.get(rest, rest),) if rest else (), () if is_template else tuple(files))


def _cabal(text: str) -> Read:
    headers = _headers(text)
    licence = headers.get("license", "")
    file = headers.get("license-file", headers.get("license-files", ""))
    return Read((licence,) if licence else (), tuple(f for f in re.split(r"[,\s]+", file) if f))


def _line(pattern: str) -> Callable[[str], Read]:
    """Return a reader of `licence: value` lines of YAML and its like; a list below the line holds as
    a whole.
    """
    head = re.compile(
        rf"(?m)^(?P<in>[ \t]*)(?:{pattern})[ \t]*(?P<value>[^\n]*)(?P<list>(?:\n[ \t]*-[ \t]+[^\n]*)*)"
    )

    def read(text: str) -> Read:
        fields: list[str] = []
        for match in head.finditer(text):
            value = re.sub(r"\s+#.*", "", match["value"]).strip()
            if listed := re.fullmatch(r"\[(.*)\]", value):
                fields += [item.strip(" \"'") for item in listed[1].split(",") if item.strip()]
            elif value:
                fields.append(value)
            fields += [item.strip(" \"'") for item in re.findall(r"\n[ \t]*-[ \t]+([^\n]*)", match["list"])]
        return Read(tuple(fields))

    return read


def _conda(text: str) -> Read:
    if not re.search(r"(?m)^about:", text):
        return Read()
    return _line(r"license[ \t]*:")(text)


def _elements(text: str) -> ElementTree.Element:
    if re.search(r"<!(?:DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise ValueError("a document type can hide what is said")
    try:
        # Entities cannot be declared without a document type, so that nothing unfolds.
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _maven(text: str) -> Read:
    fields = []
    for licences in (child for child in _elements(text) if _name(child) == "licenses"):
        for licence in licences:
            parts = {_name(part): (part.text or "").strip() for part in licence}
            fields.append(parts.get("name") or parts.get("url") or _NO_LITERAL)
    return Read(tuple(fields))


def _nuspec(text: str) -> Read:
    fields: list[str] = []
    files: list[str] = []
    for element in _elements(text).iter():
        said = (element.text or "").strip()
        if _name(element) == "license" and element.get("type") == "file":
            files.append(said)
        elif _name(element) == "license" or (
            _name(element) == "licenseUrl" and not re.search(r"aka\.ms|nuget\.org", said)
        ):
            fields.append(said or _NO_LITERAL)
    return Read(tuple(fields), tuple(files))


def _gradle(text: str) -> Read:
    fields: list[str] = []
    for match in re.finditer(r"\blicenses\s*\{", text):
        names = re.findall(
            r"""\bname\s*(?:=|\.set\(|\s)\s*\(?["']([^"'\n]*)["']""", text[match.end() : match.end() + 1000]
        )
        fields += names or [_NO_LITERAL]
    return Read(tuple(fields))


def _sbt(text: str) -> Read:
    found = re.findall(r"\blicenses\s*(?::=|\+=|\+\+=)\s*([^\n]*)", text)
    return Read(
        tuple(name for rest in found for name in re.findall(r'"([^"]*)"\s*->', rest) or [_NO_LITERAL])
    )


def _erlang(text: str) -> Read:
    found = re.findall(r"\{\s*licenses\s*,\s*\[([^\]]*)\]", text)
    return Read(tuple(name for rest in found for name in re.findall(r'"([^"]*)"', rest) or [_NO_LITERAL]))


def _perl(text: str) -> Read:
    found = re.findall(r"""\b(?:LICENSE|license)["']?\s*(?:=>|\()\s*(["']?)([\w.]+)\1""", text)
    return Read(tuple(name for _, name in found))


def _opam(text: str) -> Read:
    found = re.findall(r"(?m)^license\s*:\s*(\[[^\]]*\]|\"[^\"]*\")", text)
    return Read(tuple(name for rest in found for name in _quoted(rest)))


_YAML = _line(r"licen[sc]es?[ \t]*:")
READERS: tuple[tuple[str, Callable[[str], Read]], ...] = (
    ("DESCRIPTION", _r), ("*.cabal", _cabal), ("pom.xml", _maven), ("*.pom", _maven), ("*.nuspec", _nuspec),
    ("*.gemspec", _assigned(r"\w+\.licenses?[ \t]*=")), ("*.podspec", _assigned(r"\w+\.license[ \t]*=")),
    ("*.opam", _opam), ("opam", _opam), ("mix.exs", _assigned(r"licenses:")), ("build.gradle", _gradle),
    ("build.gradle.kts", _gradle), ("build.sbt", _sbt), ("*.app.src", _erlang), ("meta.yaml", _conda),
    ("meta.yml", _YAML), ("citation.cff", _YAML), ("shard.yml", _YAML), ("package.yaml", _YAML), ("galaxy.yml", _YAML),
    ("*.spec", _line(r"License[ \t]*:")), ("makefile.pl", _perl), ("build.pl", _perl),
    ("dist.ini", _line(r"license[ \t]*=")), ("*.rockspec", _assigned(r"license[ \t]*=")),
    ("*.nimble", _assigned(r"license[ \t]*=")), ("meson.build", _assigned(r"license[ \t]*:")),
    ("conanfile.py", _assigned(r"license[ \t]*=")), ("dub.sdl", _assigned(r"license\b")),
)  # fmt: skip
