"""Write and check a handover pack: one ZIP file with everything that a model is handed over with
(requirement C20; specs/programme.md, section 5).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from sevenfold import __version__
from sevenfold.artifact import Artifact, read_artifact, verify
from sevenfold.artifact.bundle import refuse_unverified
from sevenfold.core.errors import SevenfoldError, StorageError
from sevenfold.core.files import read_bytes, write_bytes
from sevenfold.core.hashing import Json, sha256
from sevenfold.core.ownership import refuse_foreign
from sevenfold.core.run_files import RECIPE, sealed_name
from sevenfold.engine.session import Model, replay
from sevenfold.evals.decoding.decoder import EvaluationDecoder
from sevenfold.programme.figures import collect, runs_beside
from sevenfold.programme.handover_texts import memory_bootstrap, readme, safety_report
from sevenfold.programme.items import packed_items, result_of
from sevenfold.programme.pack import (
    FORMAT,
    MANIFEST_NAME,
    file_rows,
    pack_error,
    pack_root,
    read_pack,
    write_pack,
)
from sevenfold.programme.risks import DEFAULT, load_risks, risk_states
from sevenfold.recipe.shipped import GATES, RISKS, SUITES, recipes_directory
from sevenfold.release.documents import described, documents_of
from sevenfold.release.lineage import at
from sevenfold.release.signature import find_signature
from sevenfold.release.statements import statement_paths
from sevenfold.release.target import identity_of

# In the package, where a wheel has them (native/CMakeLists.txt); `deploy/` in a checkout.
PACKAGED_DEPLOY = "_deploy"


def deploy_directory() -> Path:
    """Return the directory of the files that start and watch a server.

    Raises StorageError when the installation lacks it.
    """
    inside = Path(str(package_files("sevenfold") / PACKAGED_DEPLOY))
    beside = Path(__file__).resolve().parents[3] / "deploy"
    for path in (inside, beside):
        if path.is_dir():
            return path
    raise StorageError("the deployment files are not installed", where=str(inside), remedy="install again")


def _below(directory: Path, prefix: str, pattern: str = "*") -> dict[str, bytes]:
    return {
        f"{prefix}/{path.name}": read_bytes(path)
        for path in sorted(directory.glob(pattern))
        if path.is_file() and not path.name.startswith(".")
    }


def _data_files(artifact: Artifact) -> dict[str, bytes]:
    """Return recipe, ledger and locks: what names every document by hash."""
    facts = identity_of(artifact)["facts"]
    recipe = facts.get("recipe")
    found = {f"data/{RECIPE}": _pretty(recipe), "data/ledger.json": _pretty(facts.get("corpus"))}
    for source in at(recipe, "corpus", "sources") or []:
        name = PurePosixPath(str(at(source, "path"))).name
        lock = recipes_directory() / "locks" / name
        if at(source, "kind") == "lock" and lock.is_file():
            found[f"data/locks/{name}"] = read_bytes(lock)
    return found


def _pretty(value: Json) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def _evaluation_files(items: list[Json]) -> dict[str, bytes]:
    home = package_files("sevenfold.evals.tasks")
    return {
        "evaluation/items.json": _pretty(items),
        **{f"evaluation/{name}": home.joinpath(name).read_bytes() for name in ("cards.toml", "data.toml")},
        **_below(recipes_directory() / SUITES, "evaluation/suites", "*.yaml"),
        **_below(recipes_directory() / GATES, "evaluation/gates", "*.yaml"),
    }


def write_handover(
    artifact: Artifact, out: Path, data: Path | None = None, corpus: Path | None = None
) -> dict[str, Json]:
    """Write the pack of a sealed file, which is verified first. Return its manifest and its root.

    Args:
        data: directory of the evaluation sets, for items of cards that need them.
        corpus: the run directory of the model, for held-out items.

    Raises:
        ArtifactError: the file is refused, or does not say where it comes from.
        StorageError: the pack cannot be written, or something else is there.
    """
    refuse_foreign(out, lambda head: head[30:].startswith(MANIFEST_NAME.encode()), "handover pack")
    refuse_unverified(verify(artifact, replay))
    identity, value = identity_of(artifact), described(artifact)
    name = str(identity["recipe_name"])
    path, runs = artifact.path, runs_beside(artifact.path)
    items, missing = packed_items(EvaluationDecoder(Model.of(artifact)), data, corpus)
    states = risk_states(load_risks(DEFAULT), collect(artifact, runs, corpus))
    model = f"model/{sealed_name(name)}"
    beside = [*statement_paths(path), *[p for p in [find_signature(path)] if p.is_file()]]
    files = {
        model: read_bytes(path),
        **{f"model/{p.name.replace(path.name, sealed_name(name), 1)}": read_bytes(p) for p in beside},
        # In the folder of the model's name, where `s7 release` looks for them.
        **{f"model/{name}/{name}.{end}": text for end, text in documents_of(value).items()},
        f"model/{name}/safety-report.md": safety_report(value, states),
        **_below(runs, f"model/{name}/eval", "*.eval.json"),
        **_below(deploy_directory(), "serving"),
        **_evaluation_files(items),
        **_below(recipes_directory() / RISKS, "risks", "*.yaml"),
        "memory/bootstrap.json": _pretty(memory_bootstrap(sealed_name(name))),
        **_data_files(artifact),
    }
    manifest: dict[str, Json] = {
        "handover": FORMAT,
        "name": name,
        "model": {"path": model, "root": artifact.root, "sha256": sha256(files[model]).hex()},
        "dataset_root": identity.get("dataset_root"),
        "code_version": __version__,
        "items": [{"card": row["card"], "suites": row["suites"]} for row in items],
        "items_left_out": missing,
        "risks": [asdict(state) for state in states],
    }
    files["README.md"] = readme(manifest, sorted(files))
    manifest["files"] = file_rows(files)
    write_pack(out, manifest, files)
    return {"manifest": manifest, "root": pack_root(manifest)}


def check_handover(path: Path) -> dict[str, Json]:
    """Check a pack: every hash, every rule of the model, its golden prompts on every engine of this
    machine, and one evaluation item of each card. Return what was checked.

    It needs the base install alone: no data set, no sandbox, no network.

    Raises:
        PackError: a byte of the pack, or the result of an item, differs.
        ArtifactError: the model is refused.
        StorageError: the pack cannot be read.
    """
    manifest, files = read_pack(path)
    try:
        name, root = manifest["model"]["path"], manifest["model"]["root"]
        items = json.loads(files["evaluation/items.json"])
        data = files[name]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise pack_error(path, f"its manifest has another form ({type(error).__name__})") from error
    with TemporaryDirectory(prefix="s7-handover-") as folder:
        file = Path(folder) / PurePosixPath(str(name)).name
        write_bytes(file, data, 0o444)
        artifact = read_artifact(file)
        if artifact.root != root:
            raise pack_error(path, f"the model has root {artifact.root[:16]}, the manifest says {root}")
        verification = verify(artifact, replay)
        refuse_unverified(verification)
        rows = _checked_items(path, artifact, items)
    return {
        "root": pack_root(manifest),
        "name": manifest.get("name"),
        "model": root,
        "n_files": len(files),
        "n_bytes": sum(map(len, files.values())),
        "self_test": next(row.detail for row in verification.rows if row.id == "V6"),
        "items": rows,
        "items_left_out": manifest.get("items_left_out"),
    }


def _checked_items(path: Path, artifact: Artifact, items: list[Json]) -> list[Json]:
    decoder = EvaluationDecoder(Model.of(artifact))
    rows: list[Json] = []
    for row in items:
        try:
            found, wanted, card = result_of(decoder, row), row["result"], row["card"]
            suites = row["suites"]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, SevenfoldError) as error:
            raise pack_error(path, f"an evaluation item cannot be run: {error}") from error
        if found != wanted:
            raise pack_error(path, f"item {row['item']['id']!r} of {card} gives another result here")
        rows.append({"card": card, "suites": suites, "item": row["item"]["id"]})
    return rows
