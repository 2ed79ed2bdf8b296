"""Import a Hugging Face directory of a foreign Llama as an `ExportSource`: choose the files, and
find their tensors.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.core.run_files import TOKENIZER, WEIGHTS
from sevenfold.export.foreign import Cut, agreeing, object_of, origin, read_foreign_json, sound
from sevenfold.export.gguf import vocabulary
from sevenfold.export.hf import roles
from sevenfold.export.hf.config import CONFIG, Config, shown
from sevenfold.export.names import foreign_names
from sevenfold.export.source import KEY, ExportSource
from sevenfold.export.store import TYPES, Floats, TensorFile, open_tensors
from sevenfold.recipe.schema import ModelSpec
from sevenfold.recipe.sizing import tensors
from sevenfold.tokenizer.codec import Tokenizer

INDEX = f"{WEIGHTS}.index.json"
ADAPTER = "adapter_config.json"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# A buffer in older files. It is computed from theta, here and in transformers.
_COMPUTED = re.compile(r"rotary_emb\.inv_freq$")
_SENTENCEPIECE = "a SentencePiece model"
# The beginning of a SentencePiece file: the first field of its message. A tiktoken file is text.
_FIRST_FIELD = b"\n"
# Other vocabulary files and their kinds. `tokenizer.model` may also be a SentencePiece model.
_OTHER_VOCABULARIES = {
    "tokenizer.model": "a tiktoken vocabulary",
    "spiece.model": _SENTENCEPIECE,
    "sentencepiece.bpe.model": _SENTENCEPIECE,
    "tekken.json": "a Tekken vocabulary",
    "tiktoken.model": "a tiktoken vocabulary",
    "qwen.tiktoken": "a tiktoken vocabulary",
    "vocab.json": "an older form of a byte-level BPE",
    "vocab.txt": "a WordPiece vocabulary",
}
_EVERYDAY = "only a dense Llama without biases or adapters can be imported"


def read_hf(path: Path, *, cut_padding: bool) -> ExportSource:
    """Return the model in a directory.

    Args:
        cut_padding: leave out rows of the embedding after the last token.

    Raises:
        UsageError: this version does not run the model; the error names the key or the tensor.
        StorageError: a file is missing or damaged.
    """
    check_directory(path)
    config = Config(read_foreign_json(path / CONFIG), path / CONFIG)
    stored = config.spec()
    weights = _Weights.open(path, stored)
    raw = _tokenizer_of(path)
    data = _own_form({**raw, "post_processor": None})
    tokenizer = Tokenizer.from_json(data)
    cut = Cut.of(stored.vocab_size, tokenizer.vocab_size, cut_padding, str(path))
    spec = stored.model_copy(update={"tied": weights.is_tied(stored), "vocab_size": cut.n_rows})
    named = config.value.get(KEY)
    provenance: dict[str, Json] = named if isinstance(named, dict) else {}
    return ExportSource(
        path=path,
        spec=agreeing(object_of(provenance.get("recipe")).get("model"), spec),
        tokenizer=data,
        provenance=provenance or origin("hf", path, path.name),
        read=sound(cut.reader(weights.read), weights.names.__getitem__, str(path)),
        roles=roles.read_roles(path, config, raw, tokenizer),
        notes=roles.unheard(path),
    )


def _tokenizer_of(path: Path) -> dict[str, Json]:
    """Return tokenizer.json unchanged. Raises StorageError, and UsageError that names a vocabulary
    of another kind.
    """
    raw = read_foreign_json(path / TOKENIZER) if (path / TOKENIZER).is_file() else None
    if isinstance(raw, dict):
        return raw
    others = [name for name in _OTHER_VOCABULARIES if (path / name).is_file()]
    if others and not (path / TOKENIZER).exists():
        raise _other_vocabulary(path / others[0])
    raise StorageError(
        "the tokenizer is missing", where=str(path / TOKENIZER), remedy="name a directory with tokenizer.json"
    )


def _other_vocabulary(file: Path) -> UsageError:
    """Return the refusal of a vocabulary that is not in tokenizer.json.

    No tokenizer of ours can keep the ids of a SentencePiece model. It puts a space before a text,
    merges characters across spaces, and has some bytes twice, as a character and as a byte. In the
    form of specs/dataset.md a rule splits a text, no text is changed, and every byte string has one
    id.
    """
    kind = _OTHER_VOCABULARIES[file.name]
    with file.open("rb") as opened:
        if file.suffix == ".model" and opened.read(1) == _FIRST_FIELD:
            kind = _SENTENCEPIECE
    directory = shlex.quote(str(file.parent))
    remedy = (
        "no conversion keeps its ids (it changes a text before it cuts it): import a model with a byte-level"
        " BPE, as Llama 3 has"
        if kind == _SENTENCEPIECE
        else "if it is a byte-level BPE, as that of Llama 3, transformers with tiktoken makes"
        f" {TOKENIZER}: "
        'python -c "import sys; from transformers import AutoTokenizer as T; d = sys.argv[1]; '
        f'T.from_pretrained(d).save_pretrained(d)" {directory}'
    )
    return UsageError(
        f"its vocabulary is {kind} ({file.name}), and there is no {TOKENIZER}",
        where=str(file),
        remedy=remedy,
    )


def check_directory(path: Path) -> None:
    """Refuse a directory that is not a model, or that holds an adapter or pickles, and say what it is.

    Raises StorageError, UsageError.
    """
    if not path.is_dir():
        raise StorageError("no such directory", where=str(path), remedy="name a directory with config.json")
    if (path / ADAPTER).is_file():
        base = object_of(read_foreign_json(path / ADAPTER)).get("base_model_name_or_path")
        beside = "beside the weights of its base" if (path / CONFIG).is_file() else "without its base"
        raise UsageError(
            f"{ADAPTER}: an adapter of {shown(base)}, {beside}",
            where=str(path),
            remedy=(
                "merge the adapter into its base (PEFT: merge_and_unload) and import the result, "
                "or import the base without it"
            ),
        )
    if not (path / CONFIG).is_file():
        raise StorageError(f"no {CONFIG} in it", where=str(path), remedy="a Hugging Face directory has one")
    if not (path / WEIGHTS).is_file() and not (path / INDEX).is_file():
        pickled = sorted(f.name for f in path.iterdir() if f.suffix in (".bin", ".pt", ".pth"))
        if pickled:
            raise StorageError(
                f"its weights are {pickled[0]}, a pickle that runs code when it is read; there is no"
                f" {WEIGHTS}",
                where=str(path),
                remedy=(
                    "load it where you trust it and save it as safetensors (transformers: save_pretrained)"
                ),
            )
        raise StorageError(f"neither {WEIGHTS} nor {INDEX} is in it", where=str(path))


def _own_form(tokenizer: Json) -> bytes:
    data = canonical_json(tokenizer)
    vocabulary.pieces_of(data)
    return data


@dataclass(frozen=True)
class _Weights:
    """The tensors of a directory: which file holds each, and their foreign names."""

    path: Path
    files: dict[str, TensorFile]
    names: dict[str, str]

    @classmethod
    def open(cls, path: Path, spec: ModelSpec) -> _Weights:
        """Find the files and check every tensor's name, shape and type.

        Raises StorageError, UsageError.
        """
        files = tensor_files(path)
        names = foreign_names(spec, "hf")
        found = {name for name in files if not _COMPUTED.search(name)}
        if spec.tied and EMBEDDING not in found and HEAD in found:
            # The head is used for both, as in transformers.
            names["embedding.weight"] = HEAD
        wanted = {names[ours]: shape for ours, shape in tensors(spec).items()}
        if spec.tied and HEAD in found:
            wanted[HEAD] = wanted.get(EMBEDDING, wanted.get(HEAD, ()))
        for name in sorted(wanted.keys() | found):
            place = files[name].places[name] if name in files else None
            if place is None or place.shape != wanted.get(name):
                raise UsageError(
                    f"tensor {name!r} is {place.shape if place else 'missing'}, "
                    f"a Llama of this shape has {wanted.get(name, 'none')}",
                    where=str(path),
                    remedy=_EVERYDAY,
                )
            if place.dtype not in TYPES:
                raise UsageError(
                    f"tensor {name!r} is {place.dtype}; {', '.join(TYPES)} are read",
                    where=str(files[name].path),
                    remedy="convert it to float32 where it was made, and import that",
                )
        return cls(path, files, names)

    def read(self, name: str) -> Floats:
        """Return one tensor by our name, float32. Raises StorageError."""
        theirs = self.names[name]
        return self.files[theirs].read(theirs)

    def is_tied(self, spec: ModelSpec) -> bool:
        """Return whether the embedding is the head. The config says so, unless the file holds a
        different head.
        """
        if not spec.tied or HEAD not in self.files or EMBEDDING not in self.files:
            return spec.tied
        equal = np.array_equal(self.files[HEAD].read(HEAD), self.files[EMBEDDING].read(EMBEDDING))
        if not equal:
            self.names["lm_head.weight"] = HEAD
        return equal


def tensor_files(path: Path) -> dict[str, TensorFile]:
    """Return the file of each tensor: one file, or the files in the weight map of an index.

    Raises StorageError.
    """
    if (path / WEIGHTS).is_file():
        # transformers looks for it first. An index beside it is left over from another save.
        file = open_tensors(path / WEIGHTS)
        return dict.fromkeys(file.places, file)
    index = path / INDEX
    placed = object_of(read_foreign_json(index)).get("weight_map")
    if not isinstance(placed, dict) or not placed or not all(isinstance(v, str) for v in placed.values()):
        raise StorageError("its weight_map does not name a file for each tensor", where=str(index))
    names = sorted(set(placed.values()))
    if any(name in ("", "..") or "/" in name or "\\" in name or name.startswith(".") for name in names):
        raise StorageError("an index may name files of its own directory only", where=str(index))
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise StorageError(
            f"shard {missing[0]} is missing, {len(missing)} of {len(names)} are",
            where=str(path),
            remedy="get the missing files",
        )
    opened = {name: open_tensors(path / name) for name in names}
    for tensor, name in placed.items():
        if tensor not in opened[name].places:
            raise StorageError(
                f"the index places tensor {tensor!r} in {name}, which does not hold it", where=str(index)
            )
    # A tensor in a shard that the map does not contain is refused later.
    stray = {tensor: file for file in opened.values() for tensor in file.places if tensor not in placed}
    return stray | {tensor: opened[name] for tensor, name in placed.items()}
