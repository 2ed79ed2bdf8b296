"""Licence fields of metadata that is a program or has a form of its own: R, Ruby, Haskell, OCaml,
Elixir, Erlang, Perl, Lua, Gradle, Nix and more.

The files are read as text and never run. A field that is not a literal is returned as a text that is
no licence. So is a licence in the file that could not be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

# The value of a field that is computed, or of another type.
NO_LITERAL = "no literal"


@dataclass(frozen=True, slots=True)
class EcosystemLicences:
    """Licence fields, which all apply, and the licence files that they point to."""

    fields: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def _quoted(text: str) -> list[str]:
    """Return the literals of `"MIT"`, `["MIT", "ISC"]`, `%w[MIT ISC]`,
    `{ :type => "MIT", :file => "x" }`.
    """
    if words := re.match(r"\s*%[wWiI][\[({<]([^\])}>]*)", text):
        return words[1].split()
    listed = re.match(r"\s*\[([^\]]*)\]", text)
    one = re.match(r"""\s*(["'][^"'\n]*["'])""", text)
    part = listed[1] if listed else one[1] if one else ""
    return [found for _, found in re.findall(r"""(["'])([^"'\n]*)\1""", part)]


# An assignment to a name of a licence.
_SET = re.compile(
    r"""(?<![\w"'./-])(?:\w+\.)*[:"']?licen[sc]es?["']?[ \t]*(?:=>|\+=|\|\|=|<<|:=|[:=](?![:=]))"""
)


def _guarded(
    reader: Callable[[str], EcosystemLicences], comment: str = "#"
) -> Callable[[str], EcosystemLicences]:
    """Return a reader that skips whole lines of comment. A licence that it cannot read is an unknown
    licence.
    """
    comments = re.compile(rf"(?m)^[ \t]*(?:{comment})[^\n]*$")

    def read(text: str) -> EcosystemLicences:
        code = comments.sub("", text)
        found = reader(code)
        if not found.fields and not found.files and _SET.search(code):
            return EcosystemLicences((NO_LITERAL,))
        return found

    return read


def _assigned(name: str, comment: str = "#") -> Callable[[str], EcosystemLicences]:
    """Return a reader of `NAME <value>`. `_quoted` reads the value."""
    pattern = re.compile(rf"(?m)^[^\n]*?(?<![\w-]){name}[ \t]*(?=(?P<rest>.*(?:\n[^\n]*){{0,8}}))")

    def read(text: str) -> EcosystemLicences:
        fields: list[str] = []
        files: list[str] = []
        for match in pattern.finditer(text):
            rest = match["rest"]
            if table := re.match(r"\s*\{([^}]*)\}", rest):
                kind = re.search(r""":?type["']?\s*(?:=>|:)\s*["']([^"'\n]*)["']""", table[1])
                file = re.search(r""":?file["']?\s*(?:=>|:)\s*["']([^"'\n]*)["']""", table[1])
                fields += [kind[1]] if kind else []
                files += [file[1]] if file else []
                fields += [] if kind or file else [NO_LITERAL]
            else:
                fields += _quoted(rest) or [NO_LITERAL]
        return EcosystemLicences(tuple(fields), tuple(files))

    return _guarded(read, comment)


def _headers(text: str) -> dict[str, str]:
    """Return the values of `Name: value` lines with continuations, by name in lower case."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z][\w.-]*)[ \t]*:[ \t]*(.*)", line):
            name = match[1].lower()
            # Both values of a field that is given twice apply.
            found[name] = f"{found[name]} and {match[2]}" if name in found else match[2]
        elif line[:1] in (" ", "\t") and name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _r(text: str) -> EcosystemLicences:
    """R's DESCRIPTION: `GPL-2 | file LICENCE` is a choice, `MIT + file LICENSE`
    a template with its holders.
    """
    licence = _headers(text).get("license", "")
    files = re.findall(r"file\s+(\S+)", licence)
    rest = re.sub(r"(?<!\s)\s*+[|+]\s*file\s+\S+", "", licence).strip()
    if re.fullmatch(r"file\s+\S+", rest):
        return EcosystemLicences(files=tuple(files))
    names = {"Unlimited": NO_LITERAL, "BSD_3_clause": "BSD-3-Clause", "BSD_2_clause": "BSD-2-Clause"}
    return EcosystemLicences((names.get(rest, rest),) if rest else (), tuple(files))


def _cabal(text: str) -> EcosystemLicences:
    headers = _headers(text)
    licence = headers.get("license", "")
    file = headers.get("license-file", headers.get("license-files", ""))
    return EcosystemLicences((licence,) if licence else (), tuple(f for f in re.split(r"[,\s]+", file) if f))


def lines_of(pattern: str) -> Callable[[str], EcosystemLicences]:
    """Return a reader of `licence: value` lines of YAML and its like; a list
    below the line holds as a whole.
    """
    head = re.compile(
        rf"(?mi)^(?P<in>[ \t]*)(?:{pattern})[ \t]*(?P<value>[^\n]*)(?P<list>(?:\n[ \t]*-[ \t]+[^\n]*)*)"
    )

    def read(text: str) -> EcosystemLicences:
        fields: list[str] = []
        for match in head.finditer(text):
            value = re.sub(r"(?<!\s)\s++#.*", "", match["value"]).strip()
            if listed := re.fullmatch(r"\[(.*)\]", value):
                fields += [item.strip(" \"'") for item in listed[1].split(",") if item.strip()]
            elif value:
                fields.append(value)
            fields += [item.strip(" \"'") for item in re.findall(r"\n[ \t]*-[ \t]+([^\n]*)", match["list"])]
        return EcosystemLicences(tuple(fields))

    return _guarded(read)


def _gradle(text: str) -> EcosystemLicences:
    fields: list[str] = []
    for match in re.finditer(r"\blicenses\s*\{", text):
        names = re.findall(
            r"""\bname\s*(?:=|\.set\(|\s)\s*\(?["']([^"'\n]*)["']""", text[match.end() : match.end() + 1000]
        )
        fields += names or [NO_LITERAL]
    return EcosystemLicences(tuple(fields))


def _sbt(text: str) -> EcosystemLicences:
    found = re.findall(r"\blicenses\s*(?::=|\+=|\+\+=)\s*([^\n]*)", text)
    return EcosystemLicences(
        tuple(name for rest in found for name in re.findall(r'"([^"]*)"\s*->', rest) or [NO_LITERAL])
    )


def _erlang(text: str) -> EcosystemLicences:
    found = re.findall(r"""\{\s*(?:<<")?licenses(?:">>)?\s*,\s*\[([^\]]{0,2000})\]""", text)
    named = [name for rest in found for name in re.findall(r'"([^"]*)"', rest) or [NO_LITERAL]]
    is_there = re.search(r"""\{\s*(?:<<")?licenses\b""", text)
    return EcosystemLicences(tuple(named) or ((NO_LITERAL,) if is_there else ()))


def _perl(text: str) -> EcosystemLicences:
    # `LICENSE => 'perl'`, and `license 'perl';` of Module::Install.
    found = re.findall(r"""\b(?:LICENSE|license)["']?(?:\s*(?:=>|\()\s*["']?|\s+["'])([\w.]+)""", text)
    return EcosystemLicences(tuple(found))


def _opam(text: str) -> EcosystemLicences:
    found = re.findall(r"(?m)^license\s*:\s*(\[[^\]]{0,2000}\]|\"[^\"\n]*\")", text)
    named = [name for rest in found for name in _quoted(rest)]
    return EcosystemLicences(tuple(named) or ((NO_LITERAL,) if re.search(r"(?m)^license\s*:", text) else ()))


def _dune(text: str) -> EcosystemLicences:
    found = re.findall(r"\(\s*license\s+([^()]{0,2000})\)", re.sub(r";[^\n]*", "", text))
    is_there = re.search(r"\(\s*license\b", text)
    named = [name for rest in found for name in re.findall(r'"([^"]*)"|([^\s"]+)', rest)]
    return EcosystemLicences(
        tuple(quoted or bare for quoted, bare in named) or ((NO_LITERAL,) if is_there else ())
    )


def _leiningen(text: str) -> EcosystemLicences:
    found = re.findall(
        r":licenses?\s+(\[[^\]]{0,2000}\]|\{[^}]{0,2000}\}|\S{1,200})", re.sub(r";[^\n]*", "", text)
    )
    return EcosystemLicences(
        tuple(name for rest in found for name in re.findall(r':name\s+"([^"]*)"', rest) or [NO_LITERAL])
    )


def _racket(text: str) -> EcosystemLicences:
    found = re.findall(r"\(\s*define\s+license\s+'(?:\(([^()]{0,2000})\)|([^\s()]{1,200}))", text)
    is_there = re.search(r"\(\s*define\s+license\b", text)
    return EcosystemLicences(tuple(many or one for many, one in found) or ((NO_LITERAL,) if is_there else ()))


# Names of `lib.licenses` that are not spelled as SPDX does.
_NIX = {
    "asl20": "Apache-2.0", "bsd2": "BSD-2-Clause", "bsd3": "BSD-3-Clause", "bsl11": "BUSL-1.1",
    "boost": "BSL-1.0",
    "cc0": "CC0-1.0", "gpl2": "GPL-2.0-only", "gpl3": "GPL-3.0-only", "gpl2Only": "GPL-2.0-only",
    "gpl3Only": "GPL-3.0-only",
    "gpl2Plus": "GPL-2.0-or-later", "gpl3Plus": "GPL-3.0-or-later", "lgpl21Only": "LGPL-2.1-only",
    "mpl20": "MPL-2.0",
    "lgpl21Plus": "LGPL-2.1-or-later", "lgpl3Only": "LGPL-3.0-only", "lgpl3Plus": "LGPL-3.0-or-later",
    "psfl": "PSF-2.0",
    "agpl3Only": "AGPL-3.0-only", "agpl3Plus": "AGPL-3.0-or-later", "mit0": "MIT-0", "bsd0": "0BSD",
    "epl20": "EPL-2.0",
}  # fmt: skip


def _nix(text: str) -> EcosystemLicences:
    """Read `license = lib.licenses.mit;`, `license = with lib.licenses; [ mit asl20 ];` and texts."""
    fields: list[str] = []
    # Comments in `/*` are read as well, because texts such as "src/*" hold the marks, too.
    code = re.sub(r"(?m)^[ \t]*#[^\n]*$", "", text)
    for value in re.findall(r"(?<![\w-])licen[sc]es?\s*=\s*((?:with\s+[\w.]+\s*;)?[^;]{0,2000});", code):
        names = re.sub(r"with\s+[\w.]+\s*;|[\[\]()]", " ", value)
        words = re.findall(r'"[^"]*"|[^\s"]+', names)
        short = [
            word.rpartition(".")[2].strip('"') if "icenses." in word else word.strip('"') for word in words
        ]
        fields += [_NIX.get(word, word) for word in short] or [NO_LITERAL]
    if not fields and re.search(r"(?<![\w-])licen[sc]es?\s*=", code):
        return EcosystemLicences((NO_LITERAL,))
    # `licenses = lib.licenses;` names no licence.
    return EcosystemLicences(tuple(field for field in fields if field not in ("licenses", "lib.licenses")))


READERS: tuple[tuple[str, Callable[[str], EcosystemLicences]], ...] = (
    ("DESCRIPTION", _r), ("*.cabal", _cabal),
    ("*.gemspec", _assigned(r"\w+\.licenses?[ \t]*(?:=|<<|\+=|\|\|=)")),
    ("*.podspec", _assigned(r"\w+\.license[ \t]*=")),
    ("*.opam", _opam), ("opam", _opam), ("dune-project", _dune), ("mix.exs", _assigned(r"licenses:")),
    ("build.gradle", _guarded(_gradle, "//")), ("build.gradle.kts", _guarded(_gradle, "//")),
    ("build.sbt", _guarded(_sbt, "//")), ("*.app.src", _guarded(_erlang, "%")),
    ("*.app", _guarded(_erlang, "%")),
    ("rebar.config", _guarded(_erlang, "%")), ("hex_metadata.config", _guarded(_erlang, "%")),
    ("*.spec", lines_of(r"License[ \t]*:")), ("makefile.pl", _guarded(_perl)), ("build.pl", _guarded(_perl)),
    ("dist.ini", lines_of(r"license[ \t]*=")), ("library.properties", lines_of(r"license[ \t]*=")),
    ("*.rockspec", _assigned(r"license[ \t]*=", "--")), ("*.nimble", _assigned(r"license[ \t]*[=:]")),
    ("meson.build", _assigned(r"license[ \t]*:")), ("conanfile.py", _assigned(r"license[ \t]*=")),
    ("dub.sdl", _assigned(r"license\b", "//|#|--")), ("v.mod", _assigned(r"license[ \t]*:", "//")),
    ("*.asd", _assigned(r":licen[sc]e\b", ";")), ("*.ipkg", _assigned(r"license[ \t]*=", "--")),
    ("project.clj", _leiningen), ("info.rkt", _racket), ("*.nix", _nix),
)  # fmt: skip
