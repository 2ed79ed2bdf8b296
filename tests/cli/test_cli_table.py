"""The table of verbs, the manual page, and `s7 doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sevenfold.cli import base
from sevenfold.cli.base import app
from sevenfold.cli.lazy import load
from sevenfold.cli.manual import escaped, manual_page
from sevenfold.cli.pages import command_pages
from sevenfold.cli.table import GROUPS, VERBS
from sevenfold.core.errors import EXIT_CODES
from sevenfold.runs import machine


def test_the_table_is_what_the_modules_define() -> None:
    for verb in VERBS:
        assert load(verb) is not None
        assert verb.group in GROUPS
        assert len(verb.help) <= 72, verb
    defined = {info.name or info.callback.__name__ for info in app.registered_commands if info.callback}
    groups = {str(info.name) for info in app.registered_groups}
    assert defined | groups == {verb.name for verb in VERBS}
    assert len({verb.name for verb in VERBS}) == len(VERBS)


def test_help_imports_no_verb() -> None:
    code = (
        "import sys\nsys.argv = ['s7', '--help']\nfrom sevenfold.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith('sevenfold.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("sevenfold.cli.factory.make", "sevenfold.recipe", "sevenfold.artifact", "sevenfold.engine"):
        assert f"'{heavy}'" not in done.stderr
    for group in GROUPS:
        assert f"{group}:" in done.stdout


def test_the_manual_page_has_every_verb_and_exit_code() -> None:
    page = manual_page()
    for command in command_pages():
        assert f".SS {escaped(command.path)}\n" in page
    for code in EXIT_CODES:
        assert f".B {code}\n" in page


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sevenfold", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.subprocess
def test_doctor_says_what_is_here() -> None:
    value = json.loads(doctor("--json").stdout)
    assert value["machine"]["cores"].isdigit()
    rows = {row["name"]: row for row in value["findings"]}
    assert rows["numpy"]["ok"]
    assert rows["reference"]["ok"]
    assert all(row["detail"] for row in rows.values())
    assert "backends" in doctor().stdout


def test_doctor_names_what_is_missing_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROGRAMS", (("no-such-program", "nothing", "no-such-package"),))
    monkeypatch.setattr(machine, "EXTRAS", {"base": ("numpy",), "train": ("no-such-distribution",)})
    rows = {finding.name: finding for finding in machine.examine()}
    assert rows["no-such-program"].remedy == "apt-get install no-such-package"
    assert rows["no-such-distribution"].remedy == "pip install 'sevenfold[train]'"
    assert not rows["no-such-distribution"].ok
    assert rows["numpy"].ok


def test_an_unknown_processor_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.Path, "read_text", lambda *_, **__: "nothing: known\n")
    assert machine.inventory()["instruction sets"] == "unknown"


def test_a_handled_interrupt_while_a_module_loads_leaves_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import sys\n"
        "from sevenfold import cli\n"
        "def interrupted():\n"
        "    try: exec('raise KeyboardInterrupt')\n"
        "    except KeyboardInterrupt: return 130\n"
        "cli._run = interrupted\n"
        "cli.main()\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 130, done.stderr


@pytest.mark.parametrize("name", ["make", "verify"])
def test_a_stopped_command_promises_no_more_than_it_keeps(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    stopped.__name__ = name
    with pytest.raises(typer.Exit) as ended:
        base.guarded(stopped)()
    assert ended.value.exit_code == 130
    assert ("to continue" in capsys.readouterr().err) is (name == "make")


def test_the_commands_that_go_on_exist() -> None:
    for verb in VERBS:
        load(verb)
    commands = list(app.registered_commands)
    for group in app.registered_groups:
        commands += group.typer_instance.registered_commands if group.typer_instance else []
    assert {info.callback.__name__ for info in commands if info.callback} >= base.RESUMED


# Python takes a module that is None for one that is not installed.
BASE_ALONE = """
import sys
for name in ("torch", "safetensors", "pyarrow", "license_expression", "tree_sitter", "starlette", "uvicorn"):
    sys.modules[name] = None
from sevenfold.cli import main
sys.argv = ["s7", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [("plan", "s7/demo-1m"), ("recipes",), ("models",), ("verify", "demo-1m"), ("run", "demo-1m", "def ")],
    ids=" ".join,
)
def test_the_base_install_has_these_verbs(arguments: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-c", BASE_ALONE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
