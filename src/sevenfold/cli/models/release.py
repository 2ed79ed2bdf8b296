"""The verbs keygen, sign and model-card, which prepare a release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sevenfold.cli.base import FileArg, RunArg, app, guarded
from sevenfold.core.errors import UsageError


@app.command()
@guarded
def keygen(
    key: Annotated[
        Path,
        typer.Argument(
            metavar="KEY", readable=False, help="File of the private key to write; KEY.pub is the public key."
        ),
    ],
) -> None:
    """Make a key pair for `s7 sign` (P-256; encrypted when S7_KEY_PASSWORD is set)."""
    from sevenfold.release.signature import make_key_pair

    public = make_key_pair(key)
    print(f"private key {key} (keep it), public key {public} (publish it)")


@app.command()
@guarded
def sign(
    file: FileArg,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="KEY", readable=False, help="Private key; see `s7 keygen`."),
    ] = None,
    keyless: Annotated[
        bool, typer.Option("--keyless", help="Sign with your identity through sigstore; needs a network.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="SIG", readable=False, help="The signature; default: FILE.sig."),
    ] = None,
    statements: Annotated[
        bool, typer.Option("--statements", help="Sign the statements beside the file instead of the file.")
    ] = False,
) -> None:
    """Sign a sealed model with a sigstore bundle beside it, or sign the statements beside it."""
    from sevenfold.artifact import read_artifact
    from sevenfold.release.signature import sign as sign_file
    from sevenfold.release.signature import signature_path

    if keyless == (key is not None):
        raise UsageError("sign takes one of --key and --keyless", remedy="`s7 keygen KEY` makes a key")
    # A damaged file must not be signed.
    root = read_artifact(file).root
    if statements:
        _sign_statements(file, root, key, out)
        return
    signature = out or signature_path(file)
    sign_file(file, signature, key)
    print(f"signed {file}, root {root}: {signature}")


def _sign_statements(file: Path, root: str, key: Path | None, out: Path | None) -> None:
    """Sign the statements beside a file, and print their paths. Raises UsageError without a key."""
    from sevenfold.cli.base import private_key
    from sevenfold.release.statements import sign_statements

    if key is None or out is not None:
        raise UsageError(
            "--statements takes --key, and no --out", remedy="each signed statement has a name of its own"
        )
    signed = sign_statements(file, root, private_key(key))
    print("\n".join(f"signed {path}" for path in signed) or "there is no unsigned statement beside the file")


@app.command(name="model-card")
@guarded
def model_card(
    path: RunArg,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", readable=False, help="Output directory; default: beside the file."
        ),
    ] = None,
) -> None:
    """Write the model card, the bill of materials (CycloneDX) and the notice of sources from the
    sealed file.
    """
    from sevenfold.release.documents import write_release_documents
    from sevenfold.release.target import sealed_file

    for document in write_release_documents(sealed_file(path), out):
        print(document)
