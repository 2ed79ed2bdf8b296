"""Put the sealed model of a run into the package of models: file, documents, one row of the index.

    python scripts/ship_model.py RUN [--figure "NAME=VALUE"]...

The file is proved first (V0 to V7, with replay). A model with the same name is replaced. The table
of models is written anew from the index into both front pages; the rest of them is left as it is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sevenfold.artifact import read_artifact
from sevenfold.artifact.bundle import refuse_unverified
from sevenfold.core.files import read_bytes, write_bytes, write_pretty_json
from sevenfold.core.hashing import Json
from sevenfold.core.shipped_models import FORMAT, INDEX
from sevenfold.pipeline.finish import verify_with_replay
from sevenfold.release.documents import write_release_documents
from sevenfold.release.target import find_target, identity_of

MODELS = Path(__file__).resolve().parents[1] / "models"
BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"


def ship(run: Path, package: Path, figures: dict[str, Json]) -> dict[str, Json]:
    """Copy the file and write its documents, and return its row of the index."""
    artifact = find_target(run).artifact
    if artifact is None:
        raise SystemExit(f"{run} holds no sealed model")
    refuse_unverified(verify_with_replay(artifact))
    identity = identity_of(artifact)
    name = str(identity["recipe_name"])
    target = package / f"{name}.s7l"
    target.unlink(missing_ok=True)
    write_bytes(target, read_bytes(artifact.path), 0o444)
    for document in write_release_documents(read_artifact(target), package / name):
        print(document)
    return {
        "name": name,
        "file": target.name,
        "root": artifact.root,
        "n_bytes": artifact.n_bytes,
        "licence": "Apache-2.0",
        "summary": identity["facts"]["recipe"]["summary"],
        "figures": figures,
    }


def table(rows: list[dict[str, Json]]) -> str:
    """Return the table of the models as Markdown."""
    lines = ["| name | bytes | root |", "| --- | --- | --- |"]
    lines += [f"| `{row['name']}` | {row['n_bytes']:,} | `{row['root']}` |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Ship one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--figure", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    figures = dict(figure.split("=", 1) for figure in args.figure)
    package = MODELS / "sevenfold_models"
    index = package / INDEX
    before = json.loads(read_bytes(index))["models"] if index.is_file() else []
    row = ship(args.run, package, figures)
    rows = sorted([r for r in before if r["name"] != row["name"]] + [row], key=lambda r: str(r["name"]))
    write_pretty_json(index, {"index": FORMAT, "models": rows})
    for page in (MODELS / "README.md", MODELS.parent / "README.md"):
        head, rest = page.read_text(encoding="utf-8").split(BEGIN)
        text = f"{head}{BEGIN}\n\n{table(rows)}\n\n{END}{rest.split(END)[1]}"
        page.write_text(text, encoding="utf-8")
    print(f"{row['name']}: root {row['root']}")


if __name__ == "__main__":
    main()
