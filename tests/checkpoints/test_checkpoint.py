"""`Checkpoint`: what is read of a stored model, when, and how often."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import gradient
from gradient.checkpoints import load_model, open_checkpoint, save_gguf
from gradient.cli.convert import Opened
from gradient.cli.info import describe_model
from gradient.errors import FileFormatError, ModelNotFound
from gradient.evaluation.memory import forecast
from gradient.hub import EMBEDDED
from gradient.io.signatures import describe, format_of
from support.fuzz_files import llama2c_file
from support.paths import GOLDEN

pytestmark = pytest.mark.cpu_only

FOLDER = EMBEDDED / "tinyworld"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tinyworld.gguf"
    lm = gradient.hub.load(FOLDER)
    save_gguf(lm.model, path, tokenizer=lm.tokenizer)
    return path


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The files whose headers, or tokenizer.json, are read, in turn."""
    seen: list[str] = []

    def counted(target: str) -> None:
        module, _, name = target.rpartition(".")
        original = getattr(__import__(module, fromlist=[name]), name)

        def wrapper(*args):
            seen.append(Path(next(a for a in args if isinstance(a, str | Path))).name)
            return original(*args)

        monkeypatch.setattr(target, wrapper)

    counted("gradient.io.gguf.reader.read_header")
    counted("gradient.io.safetensors._read_header")
    counted("gradient.text.files.read_tokenizer_json")
    counted("gradient.checkpoints.checkpoint.read_json")
    return seen


USES = {
    "load": lambda path: gradient.hub.load(path).generate("Once", max_new_tokens=1),
    "info": lambda path: describe_model(str(path)),
    "convert": lambda path: Opened(str(path), None, revision=None, offline=True),
    "plan": lambda path: forecast(path, context=8),
}


@pytest.mark.parametrize("use", USES)
def test_a_gguf_is_parsed_once(use, gguf, reads):
    USES[use](gguf)
    assert reads == ["tinyworld.gguf"]


@pytest.mark.parametrize("use", USES)
def test_each_file_of_a_folder_is_read_once(use, reads):
    USES[use](FOLDER)
    tokenizer = [] if use == "plan" else ["tokenizer.json"]
    assert sorted(reads) == ["config.json", "model.safetensors", *tokenizer]


def test_nothing_is_read_before_it_is_asked_for(reads):
    checkpoint = open_checkpoint(FOLDER)
    assert checkpoint.has_tokenizer and reads == []
    assert checkpoint.config["model_type"] == "llama" and reads == ["config.json"]
    assert checkpoint.weights is checkpoint.tensors and reads[1:] == ["model.safetensors"]
    assert checkpoint.tokenizer is checkpoint.tokenizer and reads[2:] == ["tokenizer.json"]
    assert checkpoint.chat_template == checkpoint.tokenizer.chat_template
    assert checkpoint.tokenizer.eos_id in checkpoint.generation_config["eos_token_id"]


def test_a_gguf_and_a_folder_say_the_same(gguf):
    a, b = open_checkpoint(FOLDER), open_checkpoint(gguf.parent)
    assert (repr(a), repr(b)) == (f"Checkpoint('{FOLDER}')", f"GGUFCheckpoint('{gguf}')")
    assert set(a.weights) == set(b.weights) and "blk.0.attn_q.weight" in set(b.tensors)
    assert b.metadata["general.architecture"] == "llama" and not a.metadata
    assert a.tokenizer.encode("Once") == b.tokenizer.encode("Once")
    assert a.chat_template == b.chat_template and b.has_tokenizer
    model = load_model(b)
    assert model.config.hidden_size == a.config["hidden_size"]


def test_weights_that_are_no_model_have_tensors_and_no_config(tmp_path):
    shutil.copy(GOLDEN / "gpt2_tiny" / "model.safetensors", tmp_path)
    checkpoint = open_checkpoint(tmp_path / "model.safetensors")
    assert len(checkpoint.tensors) > 10 and checkpoint.tokenizer is None
    assert not checkpoint.has_tokenizer and checkpoint.chat_template is None
    with pytest.raises(ModelNotFound, match=r"there is no config\.json"):
        load_model(checkpoint)


def test_a_file_has_the_generation_config_of_its_folder(tmp_path):
    shutil.copytree(GOLDEN / "gpt2_tiny", tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": 7}))
    for path in (tmp_path / "model", tmp_path / "model" / "model.safetensors"):
        assert gradient.hub.load(path).model.generation_config == {"eos_token_id": 7}


def test_a_file_that_is_a_model_takes_no_neighbours_generation_config(tmp_path, gguf):
    for name in ("config.json", "generation_config.json"):  # of another model
        shutil.copy(FOLDER / name, tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 5}))
    shutil.copy(gguf, tmp_path / "other.gguf")
    (tmp_path / "model.bin").write_bytes(llama2c_file(tmp_path)["model.bin"])
    for name in ("other.gguf", "model.bin"):
        assert open_checkpoint(tmp_path / name).generation_config == {}
    own = gradient.hub.load(gguf)
    lm = gradient.hub.load(tmp_path / "other.gguf")
    assert lm.model.generation_config == lm.recommended == {}
    assert lm.model.config.eos_token_ids == own.model.config.eos_token_ids != {5}


def test_weights_without_a_config_take_no_neighbours_generation_config(tmp_path):
    shutil.copy(GOLDEN / "gpt2_tiny" / "model.safetensors", tmp_path)
    (tmp_path / "generation_config.json").write_text("{")
    assert open_checkpoint(tmp_path / "model.safetensors").generation_config == {}


def test_a_damaged_vocabulary_names_the_file(tmp_path):
    metadata = {"general.architecture": "llama", "tokenizer.ggml.model": "gpt2"}
    gradient.io.gguf.write(tmp_path / "m.gguf", metadata, {})
    with pytest.raises(FileFormatError, match=r"m\.gguf: GGUF: expected an array .*tokens"):
        open_checkpoint(tmp_path / "m.gguf").load_tokenizer()


@pytest.mark.parametrize(
    ("beginning", "name", "words"),
    [
        (b"GGUF\3\0\0\0", "gguf", "a GGUF file"),
        (b"PK\3\4....", "zip", "a zip file, such as PyTorch's .pt"),
        (b"pk\3\4....", None, None),
        (b"\x80\2\x8a\nl", "pickle", "a pickle, such as an old PyTorch .pt"),
        (b"lmgg", "ggml", "in GGML's format of before 2023; download a GGUF of the model"),
        (b"\x1f\x8b\x08", "gzip", "packed by gzip; unpack it first"),
        (b" \n<!DOCTYPE html>", None, "a web page; was a link to the file's page downloaded?"),
        (b"", None, "empty"),
        (b"{}", None, None),
    ],
)
def test_what_a_file_is_by_its_first_bytes(beginning, name, words):
    assert (format_of(beginning), describe(beginning)) == (name, words)
