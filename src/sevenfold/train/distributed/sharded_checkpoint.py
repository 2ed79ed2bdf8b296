"""A checkpoint that several ranks write together: a directory, complete or absent.

Each rank writes its rows through `torch.distributed.checkpoint` as safetensors (no pickle) and
hashes its files. The first rank then writes manifest.json with these hashes and renames the
directory. Any number of ranks reads it, also one without a group, and each asks for its own rows. A
directory is damaged when a file does not match its hash, or the manifest does not match the digest
in it.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.checkpoint.state_dict_saver import save as save_shards
from torch.distributed.tensor import DTensor, Shard

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import PARTIAL_SUFFIX, read_json, sync_directory, write_json
from sevenfold.core.hashing import Json, canonical_json, digest, sha256_file
from sevenfold.core.run_files import MANIFEST
from sevenfold.train.distributed.ranks import Ranks
from sevenfold.train.distributed.shards import local

VERSION = 2
# The name of values that every rank has completely.
_WHOLE = "rng.state"


def path_of(directory: Path, step: int) -> Path:
    """Return the path of the shards of a step."""
    return directory / f"checkpoint-{step:08d}.sharded"


def remove_partials(directory: Path) -> None:
    """Delete what interrupted writers left behind."""
    for leftover in directory.glob(f".checkpoint-*{PARTIAL_SUFFIX}"):
        shutil.rmtree(leftover, ignore_errors=True)


def write(
    directory: Path, step: int, tensors: dict[str, Tensor], meta: dict[str, Json], ranks: Ranks
) -> None:
    """Write the shards of all ranks; a collective. `tensors` has the same names on every rank.
    Raises StorageError.
    """
    final = path_of(directory, step)
    partial = final.with_name(f".{final.name}{PARTIAL_SUFFIX}")
    if ranks.is_first:
        with storage(partial):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
    ranks.barrier()
    with storage(partial):
        save_shards(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            storage_writer=HuggingFaceStorageWriter(str(partial), save_distributed=True),
            process_group=ranks.control,
        )
        # Shard files are named after their rank, counted from 1.
        own = {path.name: sha256_file(path) for path in sorted(partial.glob(f"shard-{ranks.rank + 1:05d}-*"))}
    hashes = {name: value for part in ranks.all_gather_object(own) for name, value in part.items()}
    if ranks.is_first:
        said = {"version": VERSION, "meta": meta, "files": hashes}
        write_json(partial / MANIFEST, said | {"sha256": _digest(said)})
        with storage(final):
            if final.is_dir():
                shutil.rmtree(final)
            partial.rename(final)
            sync_directory(directory)
    ranks.barrier()


def _digest(said: dict[str, Json]) -> str:
    return digest("sevenfold/sharded/1", canonical_json(said))


def checked(path: Path) -> dict[str, Json]:
    """Return the meta of a directory whose files are whole.

    Raises ValueError, KeyError or TypeError when they are not.
    """
    try:
        manifest = read_json(path / MANIFEST)
        if manifest["version"] != VERSION:
            raise ValueError(f"version {manifest['version']}, this reader knows {VERSION}")
        if manifest.pop("sha256") != _digest(manifest):
            raise ValueError(f"{MANIFEST} does not have its digest")
        found = {file.name: sha256_file(file) for file in path.glob("*.safetensors")}
    except StorageError as error:
        raise ValueError(str(error)) from error
    wrong = sorted(
        name for name in {*found, *manifest["files"]} if found.get(name) != manifest["files"].get(name)
    )
    if wrong:
        raise ValueError(f"{wrong[0]} is missing, damaged, or not of it")
    meta: dict[str, Json] = manifest["meta"]
    return meta


def _place(name: str, shape: torch.Size, dtype: torch.dtype, ranks: Ranks | None) -> Tensor:
    """Return memory for a tensor in the layout of this rank.

    It is on the CPU and is moved when it is used.
    """
    if ranks is None or ranks.is_alone or not shape or name == _WHOLE:
        return torch.empty(shape, dtype=dtype)
    rows = ranks.rows(shape[0])
    own = torch.empty((rows.stop - rows.start, *shape[1:]), dtype=dtype, device=ranks.device)
    stride = torch.empty(shape, dtype=dtype, device="meta").stride()
    return DTensor.from_local(own, ranks.mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)


def read(path: Path, ranks: Ranks | None) -> tuple[dict[str, Json], dict[str, Tensor]]:
    """Return the meta, and the rows of this rank of each tensor.

    A single rank checks the hashes. With several ranks, the first has done so.

    Raises:
        ValueError, KeyError: it is damaged.
        StorageError: it cannot be read.
    """
    alone = ranks is None or ranks.is_alone
    meta = checked(path) if alone else read_json(path / MANIFEST)["meta"]
    with storage(path), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        found = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
        tensors = {
            name: _place(name, torch.Size(m.size), m.properties.dtype, ranks)
            for name, m in found.items()
            if isinstance(m, TensorStorageMetadata)
        }
        load_shards(
            tensors,
            storage_reader=HuggingFaceStorageReader(str(path)),
            process_group=None if ranks is None else ranks.control,
            no_dist=alone,
        )
    return meta, {name: local(tensor) for name, tensor in tensors.items()}
