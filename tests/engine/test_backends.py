"""Which engine runs a sealed file, and what happens when one gives other bits."""

from __future__ import annotations

import json

import pytest
from test_session import STEPS, dictionary, seal_input, small  # noqa: F401  # fixtures
from tiny_models import tiny
from typer.testing import CliRunner

from sevenfold.artifact import SealInput, build_contents, write_artifact
from sevenfold.cli import app
from sevenfold.core.errors import ArtifactError, UsageError
from sevenfold.engine import backends, native, reference
from sevenfold.engine import native_ffi as abi
from sevenfold.engine.session import Model, backend_states, replay

REASON = native.unavailable()
TORCH = "not here" if backends.BACKENDS["torch"].unavailable() else "pass"
needs_native = pytest.mark.skipif(REASON is not None, reason=f"native engine: {REASON}")


@pytest.fixture(scope="module")
def path(seal_input: SealInput, tmp_path_factory: pytest.TempPathFactory):  # noqa: F811  # the fixture above
    path = tmp_path_factory.mktemp("sealed") / "model.s7l"
    write_artifact(path, build_contents(seal_input))
    return path


def break_native(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = abi.tables()
    for entry in range(65):
        bad.exp2[entry] -= 512
    monkeypatch.setattr(abi, "tables", lambda: bad)


@needs_native
def test_the_fastest_backend_gives_golden_tokens(path, seal_input: SealInput) -> None:  # noqa: F811  # as above
    golden = seal_input.golden[0]
    for name in (None, "native", "reference"):
        model = Model.open(path, backend=name)
        assert model.backend == (name or "native")
        with model.session(golden.prompt, max_tokens=STEPS) as session:
            assert [session.step() for _ in range(STEPS)] == list(golden.tokens)


@needs_native
def test_a_backend_of_other_bits_is_not_used(path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_native(monkeypatch)
    model = Model.open(path)
    assert model.backend == "reference"
    assert "backend 'native' fails the self-test" in model.note
    with pytest.raises(ArtifactError, match="backend 'native' fails the self-test"):
        Model.open(path, backend="native")
    assert [row.ok for row in replay(model.artifact)] == [False, False, True, True]
    assert [s["status"] for s in backend_states(path)] == ["fail", TORCH, "pass"]
    assert [s["status"] for s in backend_states()] == ["fail", TORCH, "pass"]
    shown = CliRunner().invoke(app, ["backends", "--json"])
    assert shown.exit_code == 3
    ran = CliRunner().invoke(app, ["run", str(path), "print", "--max-tokens", "2"])
    assert ran.exit_code == 0
    assert "running on reference" in ran.stderr


def test_without_the_library_the_reference_runs(path, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "libs7.so")
    assert Model.open(path).backend == "reference"
    with pytest.raises(UsageError, match="was not built"):
        Model.open(path, backend="native")
    states = {s["name"]: s for s in backend_states(path)}
    assert states["native"]["status"] == "not here"
    assert "was not built" in states["native"]["detail"]
    assert states["reference"]["status"] == "pass"


def test_the_verb_lists_them(path) -> None:
    for arguments in (["backends", "--json"], ["backends", str(path), "--json"]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        listed = json.loads(done.stdout)
        assert [s["name"] for s in listed] == list(backends.BACKENDS)
        assert {s["status"] for s in listed} <= {"pass", "not here"}
    done = CliRunner().invoke(app, ["backends"])
    assert done.exit_code == 0
    assert "reference" in done.stdout


def test_the_self_test_without_a_file() -> None:
    assert backends.self_test("reference") == "NumPy"
    with pytest.raises(UsageError, match="no backend 'gpu'"):
        backends.self_test("gpu")


def test_a_model_that_the_fastest_backend_does_not_take_runs_on_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picky = backends.Backend(
        make=lambda model, _: reference.ReferenceEngine(model),
        unavailable=lambda: None,
        refuses=lambda _: "it is odd",
    )
    monkeypatch.setattr(backends, "BACKENDS", {"picky": picky, "reference": backends.BACKENDS["reference"]})
    weights = tiny("stacks").load()
    assert backends.available() == ["picky", "reference"]
    assert backends.available(weights) == ["reference"]
    with pytest.raises(UsageError, match="'picky' does not take this model: it is odd"):
        backends.make_engine("picky", weights)
