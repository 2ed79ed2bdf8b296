"""Read the licence that the metadata of a package declares. Python and JavaScript are here, the others
in `ecosystems`.

Each reader takes the text of one file and returns all of its statements, which apply together. A file
that cannot be read, or whose licence field has the wrong type, gives `UNRECOGNISED`. Everything under
it is then unknown, and nothing is guessed.
"""

from __future__ import annotations

import ast
import configparser
import fnmatch
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from email.parser import HeaderParser
from typing import Any

from sevenfold.corpus.licences.declared import distributions, ecosystems, structured
from sevenfold.corpus.licences.declared.fields import (
    ANY,
    WORKSPACE,
    Said,
    read_classifiers,
    read_field,
    spelled,
)
from sevenfold.corpus.licences.policy import UNRECOGNISED

__all__ = ["Declaration", "declared_by", "is_metadata", "spelled"]
UNKNOWN = Said(UNRECOGNISED)
_KEYS = ("license", "licence", "licenses", "licences")


@dataclass(frozen=True, slots=True)
class Declaration:
    """The statements of one metadata file. With `inherits` it takes those of the folders above.

    `files` are paths of files that state what a field leaves open. `listed` are licence files of the
    distribution (`License-File`). `globs` are globs of its licence files, and whether each must match
    a file.
    """

    said: tuple[Said, ...] = ()
    files: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    globs: tuple[tuple[str, bool], ...] = ()
    texts: tuple[str, ...] = ()
    inherits: bool = False


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]


def _field(value: Any) -> Declaration:
    """Return the declaration of a field that may hold a whole text, or point to a file ("SEE LICENSE
    IN x", "file LICENSE").
    """
    if isinstance(value, str):
        text = value.strip()
        if found := re.fullmatch(r"see licen[sc]e in\s+(.+)", text, re.IGNORECASE):
            return Declaration(said=(Said(UNRECOGNISED, ANY),), files=(found[1].strip(" <>\"'"),))
        if found := re.fullmatch(r"file:?\s+(\S+)", text):
            return Declaration(said=(Said(UNRECOGNISED, ANY),), files=(found[1],))
        if "\n" in text or len(text) > 200:
            return Declaration(texts=(text,))
    return Declaration(said=read_field(value))


def _merged(parts: Iterable[Declaration]) -> Declaration:
    parts = list(parts)
    return Declaration(
        said=tuple(dict.fromkeys(said for part in parts for said in part.said)),
        files=tuple(dict.fromkeys(file for part in parts for file in part.files)),
        listed=tuple(dict.fromkeys(file for part in parts for file in part.listed)),
        globs=tuple(dict.fromkeys(glob for part in parts for glob in part.globs)),
        texts=tuple(text for part in parts for text in part.texts),
        inherits=any(part.inherits for part in parts),
    )


def python_metadata(text: str) -> Declaration:
    """Read the METADATA of a wheel or the PKG-INFO of an sdist (PEP 639 and its predecessors).
    Classifiers apply, too.
    """
    headers = HeaderParser().parsestr(text)
    found = [
        _from(name, _field(str(value)))
        for name in ("License-Expression", "License")
        for value in headers.get_all(name) or ()
    ]
    classifiers = read_classifiers([str(c) for c in headers.get_all("Classifier") or ()])
    listed = tuple(name for file in headers.get_all("License-File") or () if (name := str(file).strip()))
    return _merged([*found, _from("classifiers", Declaration(said=classifiers)), Declaration(listed=listed)])


def _from(field: str, found: Declaration) -> Declaration:
    return replace(found, said=tuple(replace(said, field=field) for said in found.said))


def _json(text: str) -> Mapping[str, Any]:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in items if name.lower() in _KEYS]
        if len(names) != len(set(names)):
            raise ValueError("a licence is given twice")
        return dict(items)

    value = json.loads(text, object_pairs_hook=pairs)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _choice(text: str, *, all_hold: bool = False) -> Declaration:
    """Read `license` or `licenses` of JSON: a text, {type}, or a list. A list is a choice in npm and
    Composer. Elsewhere all of it applies.
    """
    found = []
    for name, value in _json(text).items():
        if name.lower() in _KEYS and value not in (None, "", []):
            found.append(_alternatives(value, all_hold))
    return _merged(found)


# Strings and comments of JSON, and commas before a closing bracket. An unfinished one extends to the
# end of the text, so that nothing is read twice. It stays, and the text is then no JSON.
_STRING = r'"(?:\\.|[^"\\])*+(?:"|\\?\Z)'
_JSONC = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?(?:(?P<end>\*/)|\Z)", re.DOTALL)
_TRAILING = re.compile(rf"{_STRING}|,(?=\s*[}}\]])", re.DOTALL)


def _with_comments(text: str) -> Declaration:
    """Read the licence of JSON that may have comments, and commas after the last member."""
    text = _JSONC.sub(lambda m: m[0] if m[0][0] == '"' or (m[0][:2] == "/*" and not m["end"]) else "", text)
    return _choice(_TRAILING.sub(lambda match: match[0] if match[0][0] == '"' else "", text))


def _loose(text: str) -> Declaration:
    """Read the licence of JSON whose file name other files have, too (Puppet, KDE, GNOME). A file that
    is no object, or that names no licence, states nothing.
    """
    if not re.search(r"licen[sc]e", text, re.IGNORECASE) or isinstance(json.loads(text), list):
        return Declaration()
    plugin = _object(_json(text).get("KPlugin"))
    return _merged([_choice(text), _choice(json.dumps(plugin))])


def _vcpkg(text: str) -> Declaration:
    """Read the licence of a port. `null` stands for a licence that no expression names."""
    if "license" in (value := _json(text)) and value["license"] is None:
        return Declaration(said=(Said(UNRECOGNISED, ANY),))
    return _choice(text)


def _all_of(text: str) -> Declaration:
    return _choice(text, all_hold=True)


def _alternatives(value: Any, all_hold: bool) -> Declaration:
    if not isinstance(value, list):
        return _one(value)
    parts = [_one(item) for item in value]
    if len(parts) == 1 or all_hold:
        return _merged(parts)
    names = [part.said[0].expression for part in parts if len(part.said) == 1]
    whole = " OR ".join(f"({name})" for name in names)
    return Declaration(
        said=(Said(whole) if len(names) == len(parts) and UNRECOGNISED not in names else UNKNOWN,)
    )


def _one(value: Any) -> Declaration:
    if isinstance(value, dict):
        value = next((value[name] for name in structured.NAMES if name in value), 0)
    return _field(value if isinstance(value, str) else 0)


def _pyproject(text: str) -> Declaration:
    value = tomllib.loads(text)
    tools = _object(value.get("tool"))
    tables = [value.get("project"), tools.get("poetry"), _object(tools.get("flit")).get("metadata")]
    found = []
    for table in map(_object, tables):
        licence = table.get("license")
        if isinstance(licence, dict):
            files = tuple(_strings(licence["file"])) if "file" in licence else ()
            if files:
                found.append(Declaration(said=(Said(UNRECOGNISED, ANY),), files=files))
            if "text" in licence or not files:
                found.append(_field(licence.get("text", 0)))
        else:
            found.append(_field(licence))
        found.append(Declaration(said=read_classifiers(_strings(table.get("classifiers")))))
        listed = table.get("license-files")
        # A glob of a table (an earlier form of PEP 639) may match nothing. A glob of the list must
        # match a file.
        found.append(Declaration(globs=tuple((glob, True) for glob in _strings(listed))))
        found += [
            Declaration(globs=tuple((glob, kind != "globs") for glob in _strings(globs)))
            for kind, globs in _object(listed).items()
        ]
        if listed is not None and not isinstance(listed, str | list | dict):
            found.append(Declaration(said=(UNKNOWN,)))
    listed = _strings(_object(tools.get("setuptools")).get("license-files"))
    return _merged([*found, Declaration(globs=tuple((glob, _is_literal(glob)) for glob in listed))])


def _is_literal(glob: str) -> bool:
    return not re.search(r"[*?\[]", glob)


def _setup_cfg(text: str) -> Declaration:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.read_string(text)
    if not parser.has_section("metadata"):
        return Declaration()
    table = parser["metadata"]
    fields = [
        table[name]
        for name in ("license", "licence", "license_expression", "license-expression")
        if name in table
    ]
    files = [
        table[name]
        for name in ("license_file", "license-file", "license_files", "license-files")
        if name in table
    ]
    globs = [glob for value in files for glob in re.split(r"[,\s]+", value) if glob]
    classifiers = read_classifiers(table.get("classifiers", table.get("classifier", "")).splitlines())
    return _merged(
        [
            *map(_field, fields),
            Declaration(said=classifiers, globs=tuple((glob, _is_literal(glob)) for glob in globs)),
        ]
    )


def _setup_py(text: str) -> Declaration:
    """Read a program without running it: a keyword or key `license` with a literal or the name of one,
    and classifiers anywhere.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        said = re.findall(r"""\blicen[sc]e["']?\s*[=:]\s*["']([^"'\n]*)["']""", text)
        named = re.findall(r"""["'](License ::[^"'\n]*)["']""", text)
        found = _merged([*map(_field, said), Declaration(said=read_classifiers(named))])
        return (
            found if found.said or not re.search(r"\blicen[sc]e\s*=", text) else Declaration(said=(UNKNOWN,))
        )
    constants: dict[str, str] = {}
    values: list[ast.expr] = []
    classifiers: list[str] = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            constants |= {t.id: node.value.value for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.Call):
            values += [
                k.value for k in node.keywords if k.arg in ("license", "licence", "license_expression")
            ]
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            values += [
                v for k, v in pairs if isinstance(k, ast.Constant) and k.value in ("license", "licence")
            ]
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith("License ::")
        ):
            classifiers.append(node.value)
    fields = [_literal(value, constants) for value in values]
    listed = [_listed_in_setup(k) for k in ast.walk(tree) if isinstance(k, ast.keyword)]
    return _merged([*map(_field, fields), Declaration(said=read_classifiers(classifiers)), *listed])


def _listed_in_setup(keyword: ast.keyword) -> Declaration:
    """Return the licence files of `license_files=[...]`. An expression that computes them means that
    there are some.
    """
    if keyword.arg not in ("license_file", "license_files"):
        return Declaration()
    try:
        value = ast.literal_eval(keyword.value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return Declaration(said=(Said(UNRECOGNISED, ANY),))
    globs = _strings(list(value) if isinstance(value, tuple) else value)
    return Declaration(globs=tuple((glob, _is_literal(glob)) for glob in globs))


def _literal(value: ast.expr, constants: Mapping[str, str]) -> Any:
    if isinstance(value, ast.Constant):
        return value.value
    return constants.get(value.id, 0) if isinstance(value, ast.Name) else 0


def _cargo(text: str) -> Declaration:
    value = tomllib.loads(text)
    found = []
    tables = {"": value.get("package"), WORKSPACE: _object(value.get("workspace")).get("package")}
    for field, table in ((field, _object(table)) for field, table in tables.items()):
        licence = table.get("license")
        if isinstance(licence, dict) and licence.get("workspace") is True:
            found.append(Declaration(inherits=True))
        else:
            found.append(_from(field, _field(licence)))
        file = table.get("license-file")
        if isinstance(file, dict) and file.get("workspace") is True:
            found.append(Declaration(inherits=True))
        elif file is not None:
            only = (Said(UNRECOGNISED, ANY),) if licence is None else ()
            files = (file,) if isinstance(file, str) else ()
            found.append(_from(field, Declaration(said=only if files else (UNKNOWN,), files=files)))
    return _merged(found)


def _fields_of(reader: Callable[[str], ecosystems.EcosystemLicences]) -> Callable[[str], Declaration]:
    def read(text: str) -> Declaration:
        found = reader(text)
        pointers = [
            Declaration(said=(Said(UNRECOGNISED, ANY),) if not found.fields else (), files=(f,))
            for f in found.files
        ]
        return _merged([*map(_field, found.fields), *pointers])

    return read


_READERS: tuple[tuple[str, Callable[[str], Declaration]], ...] = (
    ("METADATA", python_metadata), ("PKG-INFO", python_metadata),
    ("package.json", _choice), ("composer.json", _choice), ("bower.json", _choice), (".bower.json", _choice),
    ("haxelib.json", _choice), ("deno.json", _choice), ("jsr.json", _choice), ("component.json", _choice),
    ("dub.json", _choice), ("elm.json", _choice), ("elm-package.json", _choice), ("library.json", _choice),
    ("*.podspec.json", _choice), (".zenodo.json", _choice), ("vcpkg.json", _vcpkg),
    ("deno.jsonc", _with_comments), ("jsr.jsonc", _with_comments), ("package.json5", _with_comments),
    ("fabric.mod.json", _choice), ("quilt.mod.json", _choice), ("program.json", _loose),
    ("metadata.json", _loose), ("codemeta.json", _all_of), ("meta.json", _all_of), ("meta6.json", _all_of),
    ("cargo.toml", _cargo), ("pyproject.toml", _pyproject), ("setup.cfg", _setup_cfg),
    ("setup.py", _setup_py), ("__manifest__.py", _setup_py), ("__openerp__.py", _setup_py),
    *((name, _fields_of(reader))
        for room in (ecosystems, structured, distributions) for name, reader in room.READERS),
)  # fmt: skip
_EXACT = {name.lower(): reader for name, reader in _READERS if "*" not in name and not name.isupper()}
_CASED = {name: reader for name, reader in _READERS if name.isupper()}
_GLOBS = [(name, reader) for name, reader in _READERS if "*" in name]
# One pattern with a group for each glob. It is tried on the name of every file, and takes a tenth of
# the time of forty patterns.
_ANY_GLOB = re.compile("|".join(f"({fnmatch.translate(glob)})" for glob, _ in _GLOBS))


def _reader(name: str) -> Callable[[str], Declaration] | None:
    if found := _CASED.get(name) or _EXACT.get(name.lower()):
        return found
    match = _ANY_GLOB.match(name.lower())
    return _GLOBS[match.lastindex - 1][1] if match is not None and match.lastindex else None


def is_metadata(name: str) -> bool:
    """Return whether a file of this name is metadata that can declare a licence."""
    return _reader(name) is not None


def declared_by(name: str, data: bytes | None) -> Declaration:
    """Return the declaration of the metadata file `name`, or `UNRECOGNISED` when it cannot be read."""
    reader = _reader(name)
    if reader is None:
        return Declaration()
    if data is None:
        return Declaration(said=(UNKNOWN,))
    try:
        if name in _CASED:
            return reader(data.decode("utf-8", "replace"))
        return reader(data.decode("utf-8-sig").replace("\r\n", "\n"))
    except (ValueError, RecursionError, LookupError, configparser.Error, TypeError):
        return Declaration(said=(UNKNOWN,))
