"""Licence fields of metadata in YAML, TOML and XML: CITATION.cff, conda, snapcraft, Julia,
AppStream, Maven, NuGet and more.

A field whose value is not a text is returned as a text that is no licence.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import yaml

from sevenfold.corpus.licences.declared.ecosystems import NO_LITERAL, EcosystemLicences, lines_of

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEYS = ("license", "licence", "licenses", "licences")
# Keys under which the tables of several formats hold the name of a licence.
NAMES = ("spdx", "type", "name", "id", "@id", "url", "text")


class _Strict(_LOADER):  # type: ignore[misc]  # the C loader is there or is not
    """A loader that refuses a key that is given twice. The library would take the last one."""


def _mapping(loader: Any, node: Any, deep: bool = False) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    names = [key.lower() for key in keys if isinstance(key, str) and key.lower() in _KEYS]
    if len(names) != len(set(names)):
        raise ValueError("a licence is given twice")
    found: dict[Any, Any] = loader.construct_mapping(node, deep=deep)
    return found


_Strict.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, lambda loader, node: _mapping(loader, node, True)
)


def values_of(table: Any) -> Iterator[str]:
    """Yield the licences that a table states. All apply."""
    for key, value in table.items() if isinstance(table, dict) else ():
        if isinstance(key, str) and key.lower() in _KEYS and value not in (None, "", []):
            yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _texts(item) if not isinstance(item, list) else (NO_LITERAL,)
    elif isinstance(value, dict):
        yield next((value[name] for name in NAMES if isinstance(value.get(name), str)), NO_LITERAL)
    else:
        yield value if isinstance(value, str) else NO_LITERAL


def _yaml(*tables: str) -> Callable[[str], EcosystemLicences]:
    """Return a reader of YAML whose licence is at the top or in one of some tables. A file that is no
    YAML, such as a template, is read line by line.
    """
    by_lines = lines_of(r"[\"']?licen[sc]es?[\"']?[ \t]*:")

    def read(text: str) -> EcosystemLicences:
        try:
            documents = list(yaml.load_all(text, Loader=_Strict))
        except (yaml.YAMLError, TypeError, AttributeError, RecursionError) as error:
            if re.search(r"\{[{%]", text):
                return by_lines(text)
            raise ValueError("no YAML") from error
        fields = [
            field
            for document in documents
            for table in (document, *(document.get(name) for name in tables if isinstance(document, dict)))
            for field in values_of(table)
        ]
        return EcosystemLicences(tuple(fields))

    return read


def _conda(text: str) -> EcosystemLicences:
    found = _yaml("about")(text) if re.search(r"(?m)^about\s*:", text) else EcosystemLicences()
    # The file is one of the sources, which are elsewhere.
    is_elsewhere = not found.fields and re.search(r"(?m)^[^\S\n]*license_file\s*:", text)
    return EcosystemLicences(("see file",)) if is_elsewhere else found


def _toml(text: str) -> EcosystemLicences:
    """Read `license` at the top or in `[package]`, `[project]` or `[workspace]`."""
    document = tomllib.loads(text)
    tables = (document, *(document.get(name) for name in ("package", "project", "workspace")))
    # Blender writes "SPDX:MIT".
    return EcosystemLicences(
        tuple(field.removeprefix("SPDX:") for table in tables for field in values_of(table))
    )


def _ansible(text: str) -> EcosystemLicences:
    """Read `license` of the `meta/main.yml` of a role. Other files of that name state nothing."""
    return _yaml("galaxy_info")(text) if re.search(r"(?m)^galaxy_info\s*:", text) else EcosystemLicences()


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


def _said(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def _maven(text: str) -> EcosystemLicences:
    fields = []
    for licences in (child for child in _elements(text) if _name(child) == "licenses"):
        for licence in licences:
            parts = {_name(part): _said(part) for part in licence}
            fields.append(parts.get("name") or parts.get("url") or NO_LITERAL)
    return EcosystemLicences(tuple(fields))


def _nuspec(text: str) -> EcosystemLicences:
    fields: list[str] = []
    files: list[str] = []
    for element in _elements(text).iter():
        said = _said(element)
        if _name(element) == "license" and element.get("type") == "file":
            files.append(said)
        elif _name(element) == "license" or (
            _name(element) == "licenseUrl" and not re.search(r"aka\.ms|nuget\.org", said)
        ):
            fields.append(said or NO_LITERAL)
    return EcosystemLicences(tuple(fields), tuple(files))


def _xml(fields: tuple[str, ...], files: tuple[str, ...] = ()) -> Callable[[str], EcosystemLicences]:
    """Return a reader of elements that name a licence, or the file that has it."""

    def read(text: str) -> EcosystemLicences:
        elements = list(_elements(text).iter())
        return EcosystemLicences(
            tuple(_said(e) or e.get("name") or NO_LITERAL for e in elements if _name(e) in fields),
            tuple(_said(e) for e in elements if _name(e) in files and _said(e)),
        )

    return read


def _lazarus(text: str) -> EcosystemLicences:
    elements = [e for e in _elements(text).iter() if _name(e) == "License"]
    return EcosystemLicences(tuple(e.get("Value") or NO_LITERAL for e in elements))


_PROJECT_OF_NET = _xml(("PackageLicenseExpression",), ("PackageLicenseFile",))
_APPSTREAM = _xml(("project_license",))
_MAPPING = _yaml()
READERS: tuple[tuple[str, Callable[[str], EcosystemLicences]], ...] = (
    ("citation.cff", _MAPPING), ("shard.yml", _MAPPING), ("package.yaml", _MAPPING), ("galaxy.yml", _MAPPING),
    ("meta.yml", _MAPPING), ("snapcraft.yaml", _MAPPING), ("pubspec.yaml", _MAPPING), ("nfpm.yaml", _MAPPING),
    ("idf_component.yml", _MAPPING), ("rockcraft.yaml", _MAPPING), ("spago.yaml", _yaml("package")),
    ("publiccode.yml", _yaml("legal")), ("moz.yaml", _yaml("origin")), ("main.yml", _ansible),
    ("main.yaml", _ansible),
    ("meta.yaml", _conda), ("recipe.yaml", _conda),
    ("project.toml", _toml), ("juliaproject.toml", _toml), ("fpm.toml", _toml), ("alire.toml", _toml),
    ("gleam.toml", _toml),
    ("typst.toml", _toml), ("move.toml", _toml), ("scarb.toml", _toml), ("nargo.toml", _toml),
    ("theme.toml", _toml),
    ("minil.toml", _toml), ("pixi.toml", _toml), ("wapm.toml", _toml), ("wasmer.toml", _toml),
    ("forc.toml", _toml), ("lakefile.toml", _toml), ("blender_manifest.toml", _toml), ("mods.toml", _toml),
    ("neoforge.mods.toml", _toml),
    ("pom.xml", _maven), ("*.pom", _maven), ("*.nuspec", _nuspec), ("package.xml", _xml(("license",))),
    ("ivy.xml", _xml(("license",))), ("*.metainfo.xml", _APPSTREAM), ("*.appdata.xml", _APPSTREAM),
    ("*.csproj", _PROJECT_OF_NET), ("*.fsproj", _PROJECT_OF_NET), ("*.vbproj", _PROJECT_OF_NET),
    ("directory.build.props", _PROJECT_OF_NET), ("directory.build.targets", _PROJECT_OF_NET),
    ("*.vsixmanifest", _xml((), ("License",))), ("addon.xml", _xml(("license",))), ("*.lpk", _lazarus),
    ("plugin.xml", _xml(("license", "licence"))), ("info.xml", _xml(("licence", "license"))),
)  # fmt: skip
