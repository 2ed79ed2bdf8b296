"""The house rules, executable. Each failure names the file and the rule."""

from __future__ import annotations

import ast
import fnmatch
import re
import runpy
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "sevenfold"
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_FOLDER_FILES = 15
PYTHON = sorted(p for base in ("src", "tests", "benchmarks") for p in (ROOT / base).rglob("*.py"))
NATIVE = sorted(p for kind in ("native/**/*.h", "native/**/*.cpp", "web/**/*.wgsl") for p in ROOT.glob(kind))
SOURCES = [p for p in PYTHON if SOURCE in p.parents]
# The names of these words are split so that this file does not contain them.
UNFINISHED = re.compile(
    "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3 + r"\b", "simplified" + " for now", "Not" + "Implemented"))
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_sizes_and_characters(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.isascii(), f"{relative(path)}: source is ASCII"
    assert len(text.splitlines()) <= MAX_FILE_LINES, f"{relative(path)}: over {MAX_FILE_LINES} lines"
    for node in functions(path):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        assert length <= MAX_FUNCTION_LINES, f"{relative(path)}:{node.lineno}: {node.name} has {length} lines"


def large_folders(paths: list[Path]) -> dict[str, int]:
    """Return the folders with more Python files than a reader takes in at a glance, and the number."""
    counts = Counter(path.parent for path in paths)
    return {relative(folder): n for folder, n in counts.items() if n > MAX_FOLDER_FILES}


def test_folders_are_small() -> None:
    canary = [ROOT / "room" / f"{n}.py" for n in range(MAX_FOLDER_FILES + 1)]
    assert large_folders(canary) == {"room": MAX_FOLDER_FILES + 1}
    assert large_folders(canary[1:]) == {}
    assert large_folders(SOURCES) == {}, "split the folder"


@pytest.mark.parametrize("path", NATIVE, ids=relative)
def test_native_sources(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.isascii(), f"{relative(path)}: source is ASCII"
    assert len(text.splitlines()) <= MAX_FILE_LINES, f"{relative(path)}: over {MAX_FILE_LINES} lines"
    assert UNFINISHED.search(text) is None
    assert text.startswith(("// ", "/* ")), f"{relative(path)}: does not say what it is"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_source_is_documented_and_finished(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module), f"{relative(path)}: no module docstring"
    found = UNFINISHED.search(path.read_text(encoding="utf-8"))
    assert found is None, f"{relative(path)}: says {found.group() if found else ''}"
    for node in module.body:
        public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if public:
            assert ast.get_docstring(node), f"{relative(path)}:{node.lineno}: {node.name} has no docstring"


# Words that a sentence without a verb begins with: "What is kept", "The root of", "As `forward`".
NO_VERB = frozenset(
    (
        *("A", "All", "An", "As", "By", "Each", "Every", "For", "How", "In", "It", "None", "Of", "Only"),
        *("Raises", "So", "Some", "The", "There", "These", "They", "This", "To", "True", "What", "When"),
        *("Where", "Whether", "Which", "Who"),
    )
)


def noun_first(path: Path) -> list[str]:
    """Return the functions of a module whose docstring does not begin with what the function does."""
    return [
        f"{node.name}: {text.splitlines()[0]}"
        for node in functions(path)
        if (text := ast.get_docstring(node)) and text.split()[0].rstrip(":,.") in NO_VERB
    ]


def test_docstrings_of_functions_begin_with_a_verb(tmp_path: Path) -> None:
    canary = tmp_path / "canary.py"
    canary.write_text('''def root():\n    """The root of all lanes."""\n''')
    assert noun_first(canary) == ["root: The root of all lanes."]
    found = [f"{relative(path)}: {line}" for path in SOURCES for line in noun_first(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_assert_guards_input(path: Path) -> None:
    # `python -O` removes asserts; a check that can be removed is not a check.
    lines = [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Assert)]
    assert not lines, f"{relative(path)}: assert on lines {lines}"


def test_every_error_derives_from_the_root() -> None:
    bases = {"SevenfoldError"}
    classes = [(p, n) for p in SOURCES for n in ast.walk(tree(p)) if isinstance(n, ast.ClassDef)]
    changed = True
    while changed:
        changed = False
        for _, node in classes:
            if node.name not in bases and any(isinstance(b, ast.Name) and b.id in bases for b in node.bases):
                bases.add(node.name)
                changed = True
    strays = [
        f"{relative(path)}: {node.name}"
        for path, node in classes
        if node.name.endswith("Error") and node.name not in bases
    ]
    assert not strays, strays


def names_of_several_classes(paths: list[Path]) -> list[str]:
    """Return the public class names that more than one module defines."""
    homes: dict[str, list[str]] = {}
    for path in paths:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(path.name)
    return [f"{name}: {', '.join(places)}" for name, places in homes.items() if len(places) > 1]


def test_a_public_class_name_stands_for_one_class(tmp_path: Path) -> None:
    # A shared name once hid that an error of one room did not derive from the root.
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("class Row:\n    pass\n")
    assert names_of_several_classes(sorted(tmp_path.glob("*.py"))) == ["Row: one.py, two.py"]
    assert not names_of_several_classes(SOURCES), names_of_several_classes(SOURCES)


# Public names that only tests use, each with its reason.
FOR_TESTS = {
    "turn_of_angle": "part of the definition in exact fractions, to which native/train is held",
    "n_nodes": "the native parser is compared with tree-sitter by it",
    "key_values": "the caches of two engines are compared",
}
# Functions that a library calls by name.
CALLED_BY_LIBRARIES = {
    "SevenfoldLM": "lm-eval finds the class by its registration",
    "loglikelihood": "lm-eval",
    "loglikelihood_rolling": "lm-eval",
    "generate_until": "lm-eval",
    "format_commands": "click",
    **dict.fromkeys(("handle_starttag", "handle_endtag", "handle_data", "handle_comment"), "html.parser"),
    "allocate": "PyTorch's FSDP",
    "readinto": "io",
    "seekable": "io",
    "writelines": "io",
}
USERS = (
    "src/**/*.py",
    "scripts/*.py",
    "benchmarks/**/*.py",
    "examples/*.py",
    "interop/*.py",
    "docs/hooks.py",
)


def names_used_in(path: Path) -> set[str]:
    """Return the names that a module loads, imports, or holds as a string."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add(node.name.rsplit(".", 1)[-1])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def public_definitions(path: Path) -> Iterator[str]:
    """Yield the public functions, classes and methods of a module that no decorator registers."""
    body = tree(path).body
    inside = [node for owner in body if isinstance(owner, ast.ClassDef) for node in owner.body]
    for node in (*body, *inside):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            registered = re.search("command|callback|validator", "".join(map(ast.dump, node.decorator_list)))
            if not node.name.startswith("_") and not registered:
                yield node.name


def test_what_is_public_has_a_user(tmp_path: Path) -> None:
    canary = tmp_path / "canary.py"
    canary.write_text("def used(): ...\n\ndef unused(): ...\n\nused()\n")
    assert set(public_definitions(canary)) - names_used_in(canary) == {"unused"}
    used = {name for pattern in USERS for path in ROOT.glob(pattern) for name in names_used_in(path)}
    pages = (ROOT / "docs" / "reference").glob("*.md")
    used |= {name for page in pages for name in re.findall(r"\w+", page.read_text(encoding="utf-8"))}
    unused = {name for path in SOURCES for name in public_definitions(path)} - used
    assert unused == FOR_TESTS.keys() | CALLED_BY_LIBRARIES.keys(), "delete it, or give it its use"


def imported_files(module: str, files: dict[str, Path]) -> set[str]:
    """Return the modules that a module imports, also inside functions, but not for types alone."""
    found: set[str] = set()
    pending: list[ast.AST] = [tree(files[module])]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        pending.extend(ast.iter_child_nodes(node))
    # A package is the door of its modules, so its own imports are no circle.
    return {name for name in found if name in files and files[name].name != "__init__.py"}


def circle_of_files(files: dict[str, Path]) -> list[str]:
    """Return modules that import each other in a circle; [] when there is none."""
    left = {module: imported_files(module, files) for module in files}
    while free := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    # What is left imports into a circle. Modules that nobody there imports only lead to it.
    while outside := [m for m in left if all(m not in needs for needs in left.values())]:
        for module in outside:
            del left[module]
    return sorted(left)


def test_no_files_import_each_other_in_a_circle(tmp_path: Path) -> None:
    canary = {"a": tmp_path / "a.py", "b": tmp_path / "b.py", "c": tmp_path / "c.py"}
    for name, text in (("a", "import b"), ("b", "def f():\n    import a"), ("c", "import a")):
        canary[name].write_text(text)
    assert circle_of_files(canary) == ["a", "b"]
    files = {
        ".".join(p.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): p
        for p in SOURCES
    }
    assert circle_of_files(files) == []


def test_ignores_carry_a_reason() -> None:
    bare = []
    for path in SOURCES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.search(r"#\s*(type: ignore|noqa)[^#]*$", line)
            if found and not re.search(r"(\s{2}\(|\s-\s|\s{2}#)", found.group()):
                bare.append(f"{relative(path)}:{number}: {found.group()}")
    assert not bare, f"an ignore without a reason beside it: {bare}"


def test_every_room_has_strict_types() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert settings["packages"] == ["sevenfold"]
    assert settings["strict"]
    loosened = [one for one in settings["overrides"] if one.keys() != {"module", "ignore_missing_imports"}]
    assert not loosened, "an override may only name libraries without type information"
    assert not [name for one in settings["overrides"] for name in one["module"] if "sevenfold" in name]


# A name of a run's file that is something else where it stands.
OTHER_MEANINGS = {
    # The published bundle has names of its own, which happen to be the same (specs/artifact.md).
    ("src/sevenfold/artifact/bundle.py", "model.safetensors"),
    ("src/sevenfold/artifact/bundle.py", "tokenizer.json"),
    # conda's metadata of a package.
    ("src/sevenfold/corpus/licences/declared/structured.py", "recipe.yaml"),
    # A key of a recipe: section `train`, key `tokens`.
    ("src/sevenfold/recipe/families/common.py", "train.tokens"),
}


def file_names_in(path: Path, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Yield line and name of each string that is a run's file name, or a path
    or pattern that ends in one.
    """
    module = tree(path)
    prose = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node)
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            last = node.value.rsplit("/", 1)[-1]
            if last in names:
                yield node.lineno, last
        # f"{split}.tokens" is a name of a run's file, too.
        elif isinstance(node, ast.JoinedStr):
            end = node.values[-1].value if isinstance(node.values[-1], ast.Constant) else None
            if end in (".tokens", ".s7l"):
                yield node.lineno, end


def run_file_names() -> frozenset[str]:
    from sevenfold.core import run_files

    values = (value for name, value in vars(run_files).items() if name.isupper() and isinstance(value, str))
    return frozenset(name for name in values if "." in name[1:])


def test_every_file_name_of_a_run_has_one_home() -> None:
    home = SOURCE / "core" / "run_files.py"
    names = run_file_names()
    assert {"model.s7l", "metrics.jsonl", "train.parquet", "heldout.tokens"} <= names
    found = {
        (relative(path), name): number
        for path in SOURCES
        if path != home
        for number, name in file_names_in(path, names)
    }
    elsewhere = [f"{path}:{found[path, name]}: {name}" for path, name in found.keys() - OTHER_MEANINGS]
    assert not elsewhere, f"import these from core/run_files.py: {sorted(elsewhere)}"
    assert found.keys() >= OTHER_MEANINGS, "an exception that is needed no more"


def test_a_file_name_elsewhere_is_found(tmp_path: Path) -> None:
    module = tmp_path / "canary.py"
    module.write_text(
        '"""Reads model.s7l."""\npath = out / "model.s7l"\nwhere = "tokenizer/train.tokens"\n'
        'pattern = "**/metrics.jsonl"\nsplit = f"{name}.tokens"\nsaid = "no model.s7l here"\n'
    )
    assert sorted(line for line, _ in file_names_in(module, run_file_names())) == [2, 3, 4, 5]


def test_import_layers() -> None:
    # The tool reads the contracts in pyproject.toml; it fails when one is broken.
    script = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_map_matches_the_tree() -> None:
    text = (ROOT / "docs" / "concepts" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("## File map", 1)[1].split("\n## ", 1)[0]
    listed = re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)
    named = set(listed)
    assert len(listed) == len(named), f"twice: {sorted(name for name in named if listed.count(name) > 1)}"
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()] + [
        ".git",
        ".gitignore",
    ]

    def entries(directory: Path, prefix: str) -> set[str]:
        return {
            f"{prefix}{path.name}" + ("/" if path.is_dir() else "")
            for path in directory.iterdir()
            if not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
        }

    rooms = entries(SOURCE, "src/sevenfold/") - {"src/sevenfold/py.typed", "src/sevenfold/__init__.py"}
    tops = entries(ROOT, "") - {"src/"}
    assert named == rooms | tops, (
        f"missing: {sorted((rooms | tops) - named)}; stale: {sorted(named - rooms - tops)}"
    )


def test_no_two_test_modules_share_a_name() -> None:
    """Pytest imports them by their file's name alone, so the second of two would not be collected."""
    names = Counter(
        p.name for p in (ROOT / "tests").rglob("*.py") if p.name not in ("conftest.py", "__init__.py")
    )
    assert [name for name, n in names.items() if n > 1] == []


def test_minutes_are_summed_by_folder(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    rows = (("tests.cli.test_cli", 60.0), ("tests.cli.test_table", 30.0), ("tests.test_house", 15.0))
    cases = "".join(f'<testcase classname="{name}" name="t" time="{seconds}"/>' for name, seconds in rows)
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    command = [sys.executable, str(ROOT / "scripts" / "minutes.py"), str(report)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["tests/cli", "2", "tests", "1.5", "min"],
        ["tests", "1", "tests", "0.2", "min"],
        ["all", "3", "tests", "1.8", "min"],
    ]


def test_prose_of_pages_is_wrapped() -> None:
    found = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "wrap_markdown.py"), "--check"],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_nothing_is_said_twice_in_the_log_or_the_changelog() -> None:
    # Two branches that both append meet in a merge, and a merge that keeps both may keep one twice.
    for name, split in (("dev/LOG.md", r"\n\n"), ("CHANGELOG.md", r"\n(?=- |## )")):
        found = re.split(split, (ROOT / name).read_text(encoding="utf-8"))
        twice = [
            text for text, n in Counter(" ".join(one.split()) for one in found).items() if n > 1 and text
        ]
        assert not twice, f"{name}: {twice[0][:90]}"


def test_specs_named_by_the_design_exist() -> None:
    for page in ("artifact", "arithmetic", "control", "verification", "dataset", "recipe"):
        assert (ROOT / "specs" / f"{page}.md").stat().st_size > 1000, page


def test_base_rooms_run_without_pytorch() -> None:
    # A base install has no torch: artifact, engine and the command line must import without it.
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['pyarrow'] = None\n"
        "import sevenfold.cli, sevenfold.artifact, sevenfold.engine.session, sevenfold.recipe.loader\n"
        "import sevenfold.tokenizer.codec, sevenfold.report.console"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_nothing_names_a_place_of_a_machine() -> None:
    skipped = {".venv", ".interop", ".git", "out", "build", "node_modules"}
    place = re.compile("/" + r"(?:root|home|work|Users)/[a-z]")
    found = [
        f"{relative(path)}:{number}"
        for pattern in ("*.md", "*.py", "*.toml", "*.yaml", "*.sh", "Makefile")
        for path in ROOT.rglob(pattern)
        if not skipped & set(path.relative_to(ROOT).parts)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if place.search(line)
    ]
    assert not found, found


def test_a_changed_room_has_tests_that_run() -> None:
    tests_of = runpy.run_path(str(ROOT / "scripts" / "changed_tests.py"))["tests_of"]
    rooms = [p.parent.name for p in SOURCE.glob("*/__init__.py") if p.parent.name != "core"]
    libraries = [p.parent.name for p in (ROOT / "native").glob("*/build.sh")]
    files = [f"src/sevenfold/{room}/some.py" for room in rooms]
    files += [f"native/{library}/some.cpp" for library in libraries]
    assert not [file for file in files if not tests_of({file})]
    assert tests_of({"src/sevenfold/core/errors.py"}) == ["tests"]
    assert tests_of({"LICENSE"}) == []
