"""The rules of the house for TypeScript, and the types and the format of it."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from sevenfold.tokenizer.chat.template import INSTRUCTION

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
SOURCES = sorted((WEB / "src").rglob("*.ts"))
FILES = [
    *SOURCES, *sorted((WEB / "page").glob("*.ts")), *sorted((WEB / "test").rglob("*.ts")),
    *sorted(WEB.glob("*.mjs")),
]  # fmt: skip
# A folder imports itself and what stands before it.
ORDER = (
    "core", "artifact", "control", "tokenizer", "engine", "sampling", "download", "model", "receipt", "api",
    "worker", "react",
)  # fmt: skip
IMPORT = re.compile(r'(?:from|import)\s+"(\.[^"]+)"')


def named(path: Path) -> str:
    return str(path.relative_to(WEB))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_files_are_short_ascii_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.isascii()
    assert len(text.splitlines()) <= 500
    assert text.startswith("/**"), f"{named(path)}: does not say what it is"
    # A function ends where a brace closes at the indentation of the line that opened it.
    opened: dict[int, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        indent = len(line) - len(line.lstrip())
        if re.search(r"(\)|\S+>)[^=]*\{$|=> \{$", line) and not line.lstrip().startswith(("}", "class ")):
            opened[indent] = number
        elif line.lstrip().startswith("}") and indent in opened:
            assert number - opened[indent] < 60, f"{named(path)}:{opened[indent]}: over 60 lines"
            del opened[indent]


def wrong_imports(path: Path, text: str) -> list[str]:
    """Return the imports of a source that go up the order of the folders."""
    own = path.relative_to(WEB / "src").parts[0]
    if own.endswith(".ts"):
        return []
    found = []
    for name in IMPORT.findall(text):
        target = (path.parent / name).resolve().relative_to(WEB / "src").parts[0]
        if target not in ORDER or ORDER.index(target) > ORDER.index(own):
            found.append(f"{named(path)} imports {name}")
    return found


def test_imports_go_one_way() -> None:
    canary = WEB / "src" / "core" / "canary.ts"
    assert wrong_imports(canary, 'import { x } from "../api/x.ts";') == [
        "src/core/canary.ts imports ../api/x.ts"
    ]
    found = [line for path in SOURCES for line in wrong_imports(path, path.read_text(encoding="utf-8"))]
    assert not found, found
    folders = {path.relative_to(WEB / "src").parts[0] for path in SOURCES if path.parent != WEB / "src"}
    assert folders <= set(ORDER), folders - set(ORDER)


def test_the_package_has_the_version_of_the_project_and_no_dependency() -> None:
    package = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert package["version"] == project["version"]
    assert "dependencies" not in package
    assert all(re.fullmatch(r"[0-9.]+", version) for version in package["devDependencies"].values())
    lock = (WEB / "package-lock.json").read_text(encoding="utf-8")
    assert "http" not in re.sub(r'"(?:url|funding)": "[^"]*"', "", lock), "the lock names a host"


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = WEB / "node_modules" / ".bin" / name
    if not program.exists():
        pytest.skip("web/node_modules is not here: `make web-tools` installs it")
    return subprocess.run([program, *arguments], cwd=WEB, capture_output=True, text=True, check=False)


def test_types() -> None:
    found = tool("tsc", "--noEmit")
    assert found.returncode == 0, found.stdout[-3000:]


def test_format() -> None:
    found = tool("prettier", "--check", "src", "page", "test", "build.mjs")
    assert found.returncode == 0, found.stderr[-3000:]


def test_the_form_of_a_chat_is_the_one_of_the_server() -> None:
    text = (WEB / "src" / "api" / "prompts.ts").read_text(encoding="utf-8")
    table = text.split("HEADINGS", 1)[1].split("};", 1)[0]
    assert dict(re.findall(r'^  (\w+): "([^"]+)",$', table, re.MULTILINE)) == INSTRUCTION.headings
    # A turn, and what stands before the answer, with the values put in.
    turn, last = (shape.replace("\\n", "\n") for shape in re.findall(r"`(\$\{.+\\n)`", text))
    said = turn.replace("${HEADINGS[role]}", INSTRUCTION.headings["user"])
    said = re.sub(r"\$\{contentOf\(.+\)\}", "Add.", said)
    last = last.replace('${lines.join("")}', said).replace(
        '${HEADINGS["assistant"]}', INSTRUCTION.headings["assistant"]
    )
    assert last == INSTRUCTION.prompt([("user", "Add.")])
