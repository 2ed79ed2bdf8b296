"""The recipes lie inside an installed package: in any directory, and in a zip file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sevenfold
from sevenfold.recipe.shipped import PACKAGED, recipe_paths, recipes_directory

pytestmark = pytest.mark.subprocess


@pytest.mark.parametrize("kind", ["directory", "zip"])
def test_recipes_are_found_wherever_the_package_is(kind: str, tmp_path: Path) -> None:
    package = tmp_path / "any" / "sevenfold"
    ignored = shutil.ignore_patterns("__pycache__", "_native")
    shutil.copytree(Path(sevenfold.__file__).parent, package, ignore=ignored)
    shutil.copytree(recipes_directory(), package / PACKAGED)
    place = package.parent
    if kind == "zip":
        place = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", package.parent))
        shutil.rmtree(package)
    # The finder of an editable installation stands before every path, so it is taken out first.
    program = (
        "import sys; sys.meta_path[:] = "
        "[f for f in sys.meta_path if not type(f).__module__.startswith('_editable')];"
        "import json, sevenfold; from sevenfold.recipe import list_shipped, load_recipe, resolve_recipe_path;"
        "print(json.dumps([sevenfold.__file__, [s.name for s in list_shipped()],"
        "str(resolve_recipe_path('demo-1m')), load_recipe(resolve_recipe_path('demo-1m')).digest]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(place)},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    where, names, path, digest = json.loads(done.stdout)
    assert where.startswith(str(place))
    assert names == list(recipe_paths())
    assert path.endswith("s7/demo-1m.yaml")
    assert len(digest) == 64
    if kind == "zip":
        assert not Path(path).exists()  # unpacked for the time of the process
