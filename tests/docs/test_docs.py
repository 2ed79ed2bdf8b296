"""The documentation against the code: commands, snippets, requirements, native names, pictures."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sevenfold.cli.pages import root_command
from sevenfold.recipe.loader import load_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"\b([A-E]\d{1,2})\b")


def blocks(language: str) -> list[tuple[str, str]]:
    """Return (page, text) of every fenced block in a language."""
    return [
        (str(page.relative_to(ROOT)), text)
        for page in PAGES
        for found, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if found == language
    ]


def commands() -> list[tuple[str, str]]:
    """Return (page, line) of every command of ours in a shell block."""
    lines = []
    for page, text in blocks("sh"):
        for line in text.replace("\\\n", " ").splitlines():
            line = re.sub(r"^(\w+=\S+ )+", "", line.strip())
            if line.startswith("s7 "):
                lines.append((page, line))
    return lines


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 30


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda value: value)
def test_every_command_of_the_documentation_parses(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    for end in (">", "<", "|", "&&", ";"):
        words = words[: words.index(end)] if end in words else words
    root = root_command()
    context = root.context_class(root, info_name="s7")
    command, rest = root, words[1:]
    if rest[0].startswith("--"):
        assert rest[0] in {name for parameter in root.params for name in parameter.opts}
        return
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, list(rest))
        context = command.context_class(command, info_name=name, parent=context)
    # Parsing checks names of options and the number of arguments; nothing runs.
    command.make_context(command.name, list(rest), parent=context.parent)


# What people read besides the site; its commands stand in the text.
PROSE = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "specs").glob("*.md"))]
INLINE = re.compile(r"`((?:s7|make) [^`]+)`")


def inline_commands(start: str) -> list[tuple[str, str]]:
    """Return (page, text) of the code spans in prose that begin with a program's name."""
    found = set()
    for page in PROSE:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for span in INLINE.findall(prose):
            if span.startswith(f"{start} "):
                found.add((str(page.relative_to(ROOT)), " ".join(span.split())))
    return sorted(found)


def flags_of(words: list[str]) -> tuple[str, set[str]]:
    """Return the verb that words begin with, and the names of all its options."""
    root = root_command()
    command, rest = root, list(words)
    context = root.context_class(root, info_name="s7")
    path = "s7"
    while hasattr(command, "resolve_command") and rest and not rest[0].startswith("-"):
        name, command, rest = command.resolve_command(context, rest)
        context = command.context_class(command, info_name=name, parent=context)
        path += f" {name}"
    return path, {name for parameter in command.params for name in parameter.opts + parameter.secondary_opts}


def test_verbs_and_flags_in_prose_are_known() -> None:
    found = inline_commands("s7")
    assert len(found) > 40
    wrong = []
    for page, text in found:
        words = [word.strip("[]()").rstrip(".,;:") for word in text.split()[1:]]
        # An upper-case word is a placeholder, also for a verb.
        if not words or words[0].isupper() or words[0] in ("...", "--help"):
            continue
        verb, known = flags_of(words)
        flags = {word.split("=")[0] for word in words if word.startswith("--")} - {"--help"}
        wrong += [f"{page}: {verb} has no {flag} (`{text}`)" for flag in sorted(flags - known)]
    assert not wrong, "\n".join(wrong)


def test_a_flag_that_is_gone_would_be_found() -> None:
    verb, known = flags_of(["verify", "FILE", "--key", "KEY"])
    assert verb == "s7 verify"
    assert "--key" in known
    assert "--keys" not in known


def test_make_targets_in_prose_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    words = {text.split()[1] for _, text in inline_commands("make")}
    words |= {
        line.split()[1] for _, text in blocks("sh") for line in text.splitlines() if line.startswith("make ")
    }
    assert {"demo", "test", "docs"} <= words
    assert words <= targets, words - targets


def test_every_format_page_is_on_the_site() -> None:
    listed = set(
        re.findall(r"reference/formats/([\w-]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    )
    assert listed == {path.name for path in (ROOT / "specs").glob("*.md")}


def test_the_page_of_native_names_is_true() -> None:
    page = (ROOT / "docs" / "reference" / "kernel-names.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line[:3] == "| `"
    ]
    folders = [row for row in rows if row[0].startswith("`native/")]
    built = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "native").rglob("build.sh")}
    assert {row[0].strip("`") for row in folders} == built
    for folder, library, room, headers, _ in folders:
        directory = ROOT / folder.strip("`")
        script = (directory / "build.sh").read_text(encoding="utf-8")
        assert library.strip("`") in script, library
        # "-": the library is for programs in other languages.
        assert room == "-" or (ROOT / "src" / "sevenfold" / room.strip("`") / "native.py").is_file()
        named = set(re.findall(r"`([^`]+)`", headers))
        c_headers = {p.name for p in directory.glob("*.h") if 'extern "C"' in p.read_text(encoding="utf-8")}
        assert named == c_headers, folder
    sources = "".join(
        p.read_text(encoding="utf-8")
        for p in (ROOT / "native").rglob("*.*")
        if p.suffix in (".h", ".cpp", ".cu")
    )
    for row in rows:
        for example in re.findall(r"`([^`]+)`", row[-1]) if row not in folders else []:
            assert (ROOT / example).is_file() if "/" in example else f"{example}(" in sources, example


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_python_snippets_compile(page: str, text: str) -> None:
    ast.parse(text, page)


@pytest.mark.parametrize(("page", "text"), [(p, t) for p, t in blocks("yaml") if t.startswith("extends:")])
def test_recipe_snippets_load(page: str, text: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "recipes" / "s7", tmp_path / "s7")
    path = tmp_path / "s7" / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_recipe(path).name == yaml.safe_load(text)["name"]


def defined_codes() -> set[str]:
    page = (ROOT / "docs" / "reference" / "requirements.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| ([A-E]\d{1,2}) \|", page, re.MULTILINE))


def test_every_requirement_that_the_source_cites_is_defined() -> None:
    known = defined_codes()
    assert len(known) > 40
    # Sets of control characters, an instruction set and a type, not requirements.
    other = re.compile(r"\bC[01] (?:control|set)|C1 controls|C0, |C0 and C1|\bA64\b|\bC64\b")
    missing = []
    for folder, kinds in (("src", ("*.py",)), ("native", ("*.h", "*.cpp")), ("specs", ("*.md",))):
        for path in (p for kind in kinds for p in (ROOT / folder).rglob(kind)):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                for code in CODE.findall(other.sub("", line)):
                    if code not in known:
                        missing.append(f"{path.relative_to(ROOT)}:{number}: {code}")
    assert not missing, missing


def test_pages_wrap_at_100_columns() -> None:
    wide = []
    for page in [p for p in PAGES if p.name != "requirements.md"]:
        inside = False
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            inside ^= line.startswith("```")
            if len(line) > 100 and not inside and not line.startswith("|") and "](" not in line:
                wide.append(f"{page.relative_to(ROOT)}:{number}: {len(line)} columns")
    assert not wide, wide


def test_the_picture_is_what_its_script_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    images = ROOT / "docs" / "images"
    for name in ("draw.py", "chain.json"):
        shutil.copy(images / name, tmp_path / name)
    subprocess.run([sys.executable, tmp_path / "draw.py"], check=True)
    assert (tmp_path / "chain.svg").read_bytes() == (images / "chain.svg").read_bytes()
    assert {path.suffix for path in images.iterdir() if path.is_file()} <= {".py", ".json", ".svg", ".png"}


def test_generated_pages_are_whole() -> None:
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    assert "## s7 verify" in hooks.cli_page()
    assert "`--replay`" in hooks.cli_page()
    assert "| `train.learning_rate` |" in hooks.recipe_page()
    assert "| 130 | interrupted" in hooks.exit_code_page()
    assert "| `model.s7l` | `ARTIFACT` |" in hooks.run_directory_page()


def test_the_site_s_search_is_a_file_of_ours() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (script,) = re.findall(r"^  polyfills: \[(.*)\]$", settings, re.MULTILINE)
    # By this name the theme sees that it need not load its own from a server.
    assert "iframe-worker" in script
    assert (ROOT / "docs" / script).is_file()


@pytest.mark.slow
@pytest.mark.subprocess
def test_the_site_loads_nothing_from_a_server(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path / "site"]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 60
    loaded = re.compile(
        r"<(?:script|img|iframe|source)[^>]+src=[\"']?(?:https?:)?//|<link[^>]+href=[\"']?https?:"
    )
    assert not [page.name for page in pages if loaded.search(page.read_text(encoding="utf-8"))]
