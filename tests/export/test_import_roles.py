"""What begins, ends and pads a text: the files of an import decide, in
import, run and every export.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import foreign_models as foreign
import pytest

from sevenfold import pipeline
from sevenfold.core.errors import SevenfoldError
from sevenfold.core.process.log import Silent
from sevenfold.engine.session import Model, prompt_ids
from sevenfold.export.importer import import_model
from sevenfold.export.proof import runtimes
from sevenfold.export.run import Request, export
from sevenfold.export.source import open_source
from sevenfold.tokenizer.roles import Roles

TEXT = "def add(a):"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bos <s> (1), eos </s> (2), and <|endoftext|> (0) is reserved, too."""
    return foreign.make(tmp_path_factory.mktemp("roles") / "hf", begin="<s>")


@pytest.fixture
def model(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "hf"))


def made(imported: Path, code_dir: Path) -> Path:
    """The sealed file of an import, over a corpus of this test."""
    job = foreign.job_of(imported, code_dir)
    pipeline.make(job)
    return job.out / "model.s7l"


def roles(directory: Path) -> tuple[int | None, Any]:
    """What transformers puts before a text, and where its generation ends."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    network = transformers.AutoModelForCausalLM.from_pretrained(directory)
    with_it, without = tokenizer(TEXT)["input_ids"], tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    begin = with_it[0] if len(with_it) > len(without) else None
    return begin, network.generation_config.eos_token_id


def test_the_files_decide_in_import_run_and_export(model: Path, tmp_path: Path, code_dir: Path) -> None:
    foreign.edit(model / "generation_config.json", lambda v: v.update(eos_token_id=[2, 3], pad_token_id=0))
    import_model("hf", model, tmp_path / "in")
    wanted = Roles(begin=1, bos=1, ends=(2, 3), pad=0)
    assert open_source(tmp_path / "in").vocabulary().roles == wanted

    sealed = Model.open(made(tmp_path / "in", code_dir))
    assert sealed.tokenizer.roles == wanted
    ids = prompt_ids(sealed.tokenizer, TEXT)
    assert ids[0] == 1
    assert 0 not in ids

    for source in (tmp_path / "in", tmp_path / "run", tmp_path / "run" / "model.s7l"):
        out = tmp_path / f"out-{source.name}"
        export(source, out, Request(target="hf", proven=False), Silent())
        config, generation = (
            json.loads((out / f"{name}.json").read_text()) for name in ("config", "generation_config")
        )
        for value in (config, generation):
            assert (value["bos_token_id"], value["eos_token_id"], value["pad_token_id"]) == (1, [2, 3], 0)
        settings = json.loads((out / "tokenizer_config.json").read_text())
        assert (settings["bos_token"], settings["eos_token"]) == ("<s>", "</s>")
        assert roles(out) == roles(model) == (1, [2, 3])
        import_model("hf", out, tmp_path / f"again-{source.name}")
        assert open_source(tmp_path / f"again-{source.name}").vocabulary().roles == wanted
        gguf = tmp_path / f"{source.name}.gguf"
        export(source, gguf, Request(target="gguf", proven=False), Silent())
        import_model("gguf", gguf, tmp_path / f"gguf-{source.name}")
        assert open_source(tmp_path / f"gguf-{source.name}").vocabulary().roles == wanted


def test_generation_ends_at_every_end_and_at_nothing_else(
    model: Path, tmp_path: Path, code_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign.edit(model / "generation_config.json", lambda v: v.update(eos_token_id=[2, 3]))
    import_model("hf", model, tmp_path / "in")
    sealed = Model.open(made(tmp_path / "in", code_dir))
    for end, goes_on in ((2, False), (3, False), (0, True), (1, True)):
        with sealed.session(TEXT, max_tokens=8) as session:
            steps = iter([end, 50, 2, 2, 2, 2, 2, 2])
            monkeypatch.setattr(session._decoder, "take", lambda _, steps=steps: [next(steps)])
            text = "".join(session.generate(8))
        assert bool(text) is goes_on


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        # generation_config before config, which is before the tokenizer's own files.
        ({"generation_config": {"eos_token_id": 3}}, Roles(begin=1, bos=1, ends=(3,), pad=None)),
        (
            {"config": {"eos_token_id": [3, 2]}, "generation_config": None},
            Roles(begin=1, bos=1, ends=(3, 2), pad=None),
        ),
        (
            {"config": {"eos_token_id": None, "bos_token_id": None}, "generation_config": None}
            | {
                "tokenizer_config": {
                    "eos_token": "<|end|>",
                    "bos_token": {"content": "<s>", "__type": "AddedToken"},
                }
            },
            Roles(begin=1, bos=1, ends=(3,), pad=None),
        ),
        (
            {"config": {"eos_token_id": None}, "generation_config": None}
            | {"tokenizer_config": {"eos_token": "</s>"}, "special_tokens_map": {"eos_token": "<|end|>"}},
            Roles(begin=1, bos=1, ends=(3,), pad=None),
        ),
        (
            {"config": {"eos_token_id": None}, "generation_config": None}
            | {"tokenizer_config": {"eos_token": "</s>", "added_tokens_decoder": {}}}
            | {"special_tokens_map": {"eos_token": "<|end|>"}},
            Roles(begin=1, bos=1, ends=(2,), pad=None),
        ),
        ({"tokenizer_config": {"pad_token": "<|end|>"}}, Roles(begin=1, bos=1, ends=(2,), pad=3)),
        # add_bos_token is not heard beside a tokenizer.json.
        ({"tokenizer_config": {"add_bos_token": False}}, Roles(begin=1, bos=1, ends=(2,), pad=None)),
        ({"tokenizer": {"post_processor": None}}, Roles(begin=None, bos=1, ends=(2,), pad=None)),
        (
            {"tokenizer": {"post_processor": foreign.template("<|endoftext|>", 0)}},
            Roles(begin=0, bos=1, ends=(2,), pad=None),
        ),
        (
            {"tokenizer": {"post_processor": foreign.template("<|endoftext|>", 0)}}
            | {"config": {"eos_token_id": 0, "bos_token_id": 0}, "generation_config": None},
            Roles(begin=0, bos=0, ends=(0,), pad=None),
        ),
    ],
)
def test_which_file_says_what(model: Path, tmp_path: Path, change: dict[str, Any], wanted: Roles) -> None:
    for name, values in change.items():
        path = model / f"{name}.json"
        if values is None:
            path.unlink()
        else:
            foreign.edit(path, lambda v, values=values: v.update(values))
    import_model("hf", model, tmp_path / "in")
    assert open_source(tmp_path / "in").vocabulary().roles == wanted
    begin, ends = roles(model)
    assert begin == wanted.begin
    named = [] if ends is None else ends if isinstance(ends, list) else [ends]
    assert tuple(named) in (wanted.ends, ())  # transformers asks the tokenizer's files for nothing


def test_what_the_names_say_is_not_written_out(model: Path, tmp_path: Path) -> None:
    foreign.edit(
        model / "tokenizer.json", lambda v: v.update(post_processor=foreign.template("<|endoftext|>", 0))
    )
    foreign.edit(model / "config.json", lambda v: v.update(eos_token_id=0, bos_token_id=0))
    (model / "generation_config.json").unlink()
    import_model("hf", model, tmp_path / "in")
    assert "roles" not in json.loads((tmp_path / "in" / "recipe.yaml").read_text())["tokenizer"]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("config", {"eos_token_id": 300}, "eos_token_id is 300"),
        ("config", {"eos_token_id": -1}, "eos_token_id is -1"),
        ("generation_config", {"eos_token_id": [2, "x"]}, "eos_token_id is 'x'"),
        ("generation_config", {"eos_token_id": True}, "eos_token_id is True"),
        ("config", {"bos_token_id": "<s>"}, "bos_token_id is '<s>'"),
        ("tokenizer", {"post_processor": {"type": "BertProcessing"}}, "post_processor"),
        (
            "tokenizer",
            {"post_processor": {"type": "Sequence", "processors": [foreign.template("<s>", 1)] * 2}},
            "puts 2 tokens",
        ),
        ("tokenizer", {"post_processor": foreign.template("<s>", 2)}, "'<s>'"),
        (
            "tokenizer",
            {
                "post_processor": foreign.template("<s>", 1)
                | {"single": foreign.template("<s>", 1)["single"][::-1]}
            },
            "after a text",
        ),
    ],
)
def test_what_is_not_understood_is_refused(
    model: Path, tmp_path: Path, name: str, change: dict[str, Any], words: str
) -> None:
    if name == "config":
        (model / "generation_config.json").unlink()
    foreign.edit(model / f"{name}.json", lambda v: v.update(change))
    with pytest.raises(SevenfoldError, match=words) as caught:
        import_model("hf", model, tmp_path / "in")
    assert "\n" not in str(caught.value)


def test_llama_cpp_begins_and_ends_as_the_files_say(model: Path, tmp_path: Path, interop: None) -> None:
    foreign.edit(model / "generation_config.json", lambda v: v.update(eos_token_id=[2, 3]))
    import_model("hf", model, tmp_path / "in")
    report = export(tmp_path / "in", tmp_path / "x.gguf", Request(target="gguf"), Silent())
    assert {check["status"] for check in report["checks"]} <= {"pass", "measured"}
    with runtimes.llama_cpp() as runtime:
        assert runtime is not None
        runtime.open(tmp_path / "x.gguf", 64)
        found = runtime.ask("roles")
    # llama.cpp adds what it knows by name, such as <|endoftext|>.
    assert {2, 3} <= set(found.pop("ends"))
    assert found == {"bos": 1, "eos": 2, "adds_bos": True}


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"begin": 1, "bos": 1, "ends": 2, "pad": None},
        {"begin": -1, "bos": 1, "ends": [2], "pad": None},
        {"begin": True, "bos": 1, "ends": [2], "pad": None},
        {"begin": 1, "bos": 1, "ends": ["x"], "pad": None},
        {"begin": 1, "bos": 1, "ends": list(range(65)), "pad": None},
        {"begin": 1, "bos": 1, "ends": [2], "pad": None, "more": 1},
    ],
)
def test_roles_of_another_form_are_no_roles(value: Any) -> None:
    with pytest.raises(ValueError, match=r"ends|role"):
        Roles.read(value)


def test_settings_that_choose_other_tokens_are_noted(model: Path, tmp_path: Path) -> None:
    asked = {"repetition_penalty": 1.1, "suppress_tokens": [4], "temperature": 0.6, "num_beams": 1}
    foreign.edit(model / "generation_config.json", lambda v: v.update(asked))
    notes = import_model("hf", model, tmp_path / "in")["notes"]
    assert [note.split()[1] for note in notes] == ["repetition_penalty", "suppress_tokens"]
    (model / "generation_config.json").unlink()
    assert import_model("hf", model, tmp_path / "again")["notes"] == []
