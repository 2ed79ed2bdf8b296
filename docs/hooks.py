"""Pages of the documentation that are generated from the code, so that they cannot be stale.

MkDocs calls `on_files` before it builds. The command line comes from the command tree, the recipe
keys from the schema, the exit codes from `core.errors`, the file layout from `core.run_files`, and
the format pages from `specs/`.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those that are written by hand."""
    pages = {
        "reference/cli.md": cli_page(),
        "reference/recipe-keys.md": recipe_page(),
        "reference/exit-codes.md": exit_code_page(),
        "reference/run-directory.md": run_directory_page(),
    }
    for spec in sorted((ROOT / "specs").glob("*.md")):
        pages[f"reference/formats/{spec.name}"] = with_local_links(spec.read_text(encoding="utf-8"))
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def with_local_links(text: str) -> str:
    """Replace links that leave the documentation by their text."""
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", text)


def cli_page() -> str:
    """Return the page of all verbs with their usage, arguments and options."""
    from sevenfold.cli.pages import command_pages

    lines = [
        "# Command line",
        "",
        "This page is generated from the command tree. `s7 VERB --help` prints the same.",
        "",
    ]
    for page in command_pages():
        lines += [f"## {page.path}", "", page.help, "", "```text", page.usage, "```", ""]
        if page.parameters:
            lines += ["| name | what |", "| --- | --- |"]
            lines += [f"| `{names}` | {escaped(text)} |" for names, text in page.parameters]
            lines.append("")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def recipe_page() -> str:
    """Return the table of every recipe key with type, default and the section's purpose."""
    from sevenfold.recipe.schema import Recipe

    lines = [
        "# Recipe keys",
        "",
        "This page is generated from the schema. The rules, units and ranges are in",
        "[the format page](formats/recipe.md).",
        "",
    ]
    waiting: list[tuple[str, Any]] = [("", Recipe)]
    seen = set()
    while waiting:
        prefix, section = waiting.pop(0)
        if (prefix, section) in seen:
            continue
        seen.add((prefix, section))
        title = f"`{prefix.rstrip('.')}`" if prefix else "The recipe"
        lines += [
            f"## {title} ({section.__name__})",
            "",
            (inspect.getdoc(section) or "").split("\n\n")[0],
            "",
        ]
        lines += ["| key | type | default |", "| --- | --- | --- |"]
        for name, field in section.model_fields.items():
            default = (
                "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"
            )
            lines.append(
                f"| `{prefix}{name}` | {escaped(type_name(field.annotation))} | {escaped(default)} |"
            )
            waiting += [(f"{prefix}{name}.", inner) for inner in sections_in(field.annotation)]
        lines.append("")
    return "\n".join(lines)


def sections_in(annotation: Any) -> list[Any]:
    """Return the schema sections inside a type."""
    from sevenfold.recipe.fields import Section

    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [inner for part in typing.get_args(annotation) for inner in sections_in(part)]


def type_name(annotation: Any) -> str:
    """Return a type as people read it."""
    if annotation is type(None):
        return "null"
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_name(parts[0])
    if origin is typing.Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(part) for part in parts)
    if origin is not None:
        inner = ", ".join(type_name(part) for part in parts if part is not Ellipsis)
        return f"{getattr(origin, '__name__', str(origin))} of {inner}"
    return getattr(annotation, "__name__", str(annotation))


def exit_code_page() -> str:
    """Return the page of exit codes."""
    from sevenfold.core.errors import EXIT_CODES

    rows = [f"| {code} | {escaped(text)} |" for code, text in EXIT_CODES.items()]
    return "\n".join(["# Exit codes", "", "| code | meaning |", "| --- | --- |", *rows, ""])


def run_directory_page() -> str:
    """Return the page of every file name of a run, from the module that defines them."""
    source = (ROOT / "src" / "sevenfold" / "core" / "run_files.py").read_text(encoding="utf-8")
    lines = [
        "# The run directory",
        "",
        "A run is one recipe in one directory. Every stage writes a directory of its own.",
        "",
    ]
    for line in source.splitlines():
        if line.startswith("# "):
            lines += ["", line[2:], "", "| file | name in the code |", "| --- | --- |"]
        elif found := re.match(r'([A-Z_]+) = "([^"]+)"', line):
            lines.append(f"| `{found[2]}` | `{found[1]}` |")
    return "\n".join(lines) + "\n"
