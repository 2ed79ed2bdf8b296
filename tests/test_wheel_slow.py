"""A wheel holds the native engine and the recipes, for every Python; without a compiler it is made
without the engine. The base install runs models without PyTorch, also from a zip file.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from sevenfold.core.run_files import ARTIFACT
from sevenfold.runs.job import Job

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.subprocess,
    pytest.mark.skipif(
        not (shutil.which("cmake") or importlib.util.find_spec("cmake")),
        reason="cmake is not here: `make slow-tools` installs it",
    ),
]


def wheel(out: Path, cxx: str) -> Path:
    """A wheel of a copy of the sources, so that nothing is written into the checkout."""
    out.mkdir()
    names = ("native", "recipes", "src", "pyproject.toml", "README.md", "LICENSE", ".gitignore")
    for name in names:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, out / name)
    stale = out / "src" / "sevenfold" / "engine" / "_native"
    stale.mkdir(exist_ok=True)
    (stale / "stale.so").write_text("of the checkout")
    environment = {k: v for k, v in os.environ.items() if k != "CI"} | {"CXX": cxx}
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        out / "wheels",
        out,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = (out / "wheels").glob("*.whl")
    return made


def install(made: Path, out: Path) -> Callable[..., str]:
    """`s7` of a fresh environment that has the wheel, and this environment's packages behind it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", out], check=True)
    python = out / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "-q", made]
    subprocess.run(command, check=True)
    # The .pth files of a directory that is named by one are not read, so an
    # editable sevenfold stays out.
    packages = next(out.glob("lib/python*/site-packages"))
    paths = [p for p in sys.path if "site-packages" in p] or [sysconfig.get_path("purelib")]
    (packages / "behind.pth").write_text("\n".join(paths))

    def s7(*arguments: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"COLUMNS": "200"}
        return subprocess.run(
            [out / "bin" / "s7", *arguments],
            env=environment,
            cwd=out,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    where = subprocess.run(
        [python, "-P", "-c", "import sevenfold; print(sevenfold.__file__)"],
        env={"PATH": os.environ["PATH"]}, cwd=out, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(out)), "the installed package is the one that runs"
    return s7


NATIVE = ["sevenfold/corpus/_native/libs7corpus.so", "sevenfold/engine/_native/libs7.so"]
if platform.machine() in ("x86_64", "aarch64"):
    NATIVE.append("sevenfold/model/_native/libs7train.so")
NATIVE.append("sevenfold/tokenizer/_native/libs7tokens.so")
NATIVE.append("sevenfold/agent/memory/_native/libs7memory.so")
# libsevenfold for other languages: header, libraries, packages.
EMBED = "sevenfold/artifact/_native/"
EMBEDDED = {f"{EMBED}include/sevenfold.h", f"{EMBED}lib/libsevenfold.a", f"{EMBED}lib/libsevenfold.so"}


def test_a_wheel_with_the_native_engine(tmp_path: Path) -> None:
    cxx = os.environ.get("CXX", "g++")
    if shutil.which(cxx.split()[0]) is None:
        pytest.skip(f"no {cxx}")
    made = wheel(tmp_path / "source", cxx)
    assert made.name.startswith("sevenfold-")
    assert "-py3-none-" in made.name
    assert not made.name.endswith("-any.whl")
    names = ZipFile(made).namelist()
    libraries = [n for n in names if "_native" in n and not n.startswith(EMBED)]
    assert sorted(libraries) == sorted(NATIVE)
    assert set(names) >= EMBEDDED
    s7 = install(made, tmp_path / "fresh")
    assert [line.split()[:2] for line in s7("backends").splitlines() if "native" in line] == [
        ["native", "pass"]
    ]
    assert "s7/demo-1m" in s7("recipes")
    assert "sevenfold/_recipes/s7/_family.yaml" in names
    assert not [n for n in names if "share/" in n]


@pytest.mark.parametrize("way", ["--target", "--prefix", "--user"])
def test_the_recipes_come_with_the_package_wherever_it_is_installed(way: str, tmp_path: Path) -> None:
    made = wheel(tmp_path / "source", "no-such-compiler")
    place = tmp_path / "place"
    where = [way] if way == "--user" else [way, place]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONUSERBASE": str(place)}
    base = getattr(
        sys, "_base_executable", sys.executable
    )  # of an environment, what it was made from: --user is for that
    command = [base, "-m", "pip", "install", "--no-deps", "-q", "--break-system-packages", *where, made]
    subprocess.run(command, env=environment, check=True)
    (package,) = place.rglob("sevenfold/__init__.py")
    path = os.pathsep.join([str(package.parents[1]), *(p for p in sys.path if "site-packages" in p)])
    done = subprocess.run(
        # -S: the editable install of a checkout would go before the path.
        [sys.executable, "-S", "-m", "sevenfold.cli", "recipes", "--json"],
        env=environment | {"PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(package.parent / "_recipes" / "s7" / "demo-1m.yaml") in done.stdout


def test_a_wheel_without_a_compiler(tmp_path: Path) -> None:
    made = wheel(tmp_path / "source", "no-such-compiler")
    assert not [n for n in ZipFile(made).namelist() if "_native" in n]
    text = install(made, tmp_path / "fresh")("backends")
    assert "was not built" in text
    assert "pass" in text


def place_wheel(made: Path, out: Path) -> None:
    """Install the wheel alone into a directory."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", out, made]
    subprocess.run(command, check=True)


def base_packages(made: Path, out: Path) -> Path:
    """Return a directory of links to the packages that the wheel needs without extras."""
    out.mkdir()
    (metadata,) = (n for n in ZipFile(made).namelist() if n.endswith(".dist-info/METADATA"))
    asked = [
        line.removeprefix("Requires-Dist: ")
        for line in ZipFile(made).read(metadata).decode().splitlines()
        if line.startswith("Requires-Dist: ")
    ]
    waiting, seen = [Requirement(line) for line in asked], set()
    while waiting:
        requirement = waiting.pop()
        if requirement.name in seen or (
            requirement.marker and not requirement.marker.evaluate({"extra": ""})
        ):
            continue
        seen.add(requirement.name)
        found = importlib.metadata.distribution(requirement.name)
        waiting += [Requirement(line) for line in found.requires or []]
        for top in {
            file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")
        }:
            if not (out / top).exists():
                (out / top).symlink_to(found.locate_file(top))
    assert {"numpy", "tokenizers", "typer"} <= seen
    return out


USES = """
import sys
import sevenfold
model = sevenfold.Model.open(sys.argv[1])
with model.session("import os\\n") as session:
    assert len("".join(session.generate(4))) > 0
assert not {"torch", "safetensors", "pyarrow"} & sys.modules.keys()
"""


def unpack(made: Path, place: Path) -> None:
    """The wheel alone, at a place of its own."""
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", place, made]
    subprocess.run(pip, check=True)


def test_the_base_install_runs_a_model_without_pytorch(dense_run: Job, tmp_path: Path) -> None:
    made = wheel(tmp_path / "source", "no-such-compiler")
    packages = base_packages(made, tmp_path / "packages")
    unpack(made, tmp_path / "place")
    path = os.pathsep.join([str(tmp_path / "place"), str(packages)])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "COLUMNS": "200"}

    def python(*arguments: str | Path) -> str:
        # -S: the packages of this environment, PyTorch among them, are not seen.
        return subprocess.run(
            [sys.executable, "-S", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    with pytest.raises(subprocess.CalledProcessError):
        python("-c", "import torch")
    sealed = dense_run.out / ARTIFACT
    root = str(dense_run.manifest("seal").facts["root"])
    assert root in python("-m", "sevenfold", "verify", sealed, "--replay", "--json")
    assert root[:16] in python("-m", "sevenfold", "inspect", sealed)
    assert python("-m", "sevenfold", "run", sealed, "def ", "--max-tokens", "3")
    python("-c", USES, sealed)


def test_a_zip_file_runs_models_and_has_the_recipes(dense_run: Job, tmp_path: Path) -> None:
    made = wheel(tmp_path / "source", "no-such-compiler")
    packages = base_packages(made, tmp_path / "packages")
    unpack(made, tmp_path / "place")
    zipapp = [sys.executable, "-m", "zipapp", tmp_path / "place", "-m", "sevenfold.cli:main"]
    subprocess.run([*zipapp, "-o", tmp_path / "s7.pyz"], check=True)

    def s7(*arguments: str | Path) -> str:
        return subprocess.run(
            [sys.executable, "-S", tmp_path / "s7.pyz", *arguments],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(packages)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert "s7/demo-1m" in s7("recipes")
    assert "demo-1m" in s7("plan", "s7/demo-1m")
    sealed = dense_run.out / ARTIFACT
    assert str(dense_run.manifest("seal").facts["root"]) in s7("verify", sealed, "--json")
    assert s7("run", sealed, "def ", "--max-tokens", "3")
