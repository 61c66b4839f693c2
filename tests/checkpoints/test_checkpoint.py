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
from gradient.io.signatures import describe, format_of, instead_of_weights
from support.fuzz_files import llama2c_file
from support.paths import GOLDEN

GGUF = "a GGUF file; gradient.hub.load runs it as a model, gradient.io.GGUFFile reads its tensors"
PICKLE = (
    "a pickle, such as an old PyTorch .pt, and is not run here; load it with what wrote it and "
    "save its tensors again, with torch.save of PyTorch 1.6 or later"
)

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


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", ["tinyworld.gguf", "model.safetensors"])
def test_weights_are_opened_once(name, use, gguf, monkeypatch):
    """A file whose name does not say what it is, is looked at as it is opened."""
    opens: list[str] = []

    def counted(path, mode="r", *args, **kwargs):
        opens.append(Path(path).name)
        return open(path, mode, *args, **kwargs)

    for module in (gradient.io.regular_file, gradient.io.safetensors):
        monkeypatch.setattr(module, "open", counted, raising=False)
    USES[use](gguf if name == gguf.name else FOLDER)
    assert opens.count(name) == 1


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
        (b"GGUF\3\0\0\0", "gguf", GGUF),
        (b"PK\3\4....", "zip", "a zip file, such as PyTorch's .pt, which gradient.load reads"),
        (b"pk\3\4....", None, None),
        (b"\x80\2\x8a\nl", "pickle", PICKLE),
        (b"\x80\2\0\0\0\7\0\0", None, None),  # llama2.c's, of a model 640 wide
        (b"lmgg", "ggml", "in GGML's format of before 2023; download a GGUF of the model"),
        (b"\x1f\x8b\x08", "gzip", "packed by gzip; unpack it first (gunzip)"),
        (b" \n<!DOCTYPE html>", None, "a web page; was a link to the file's page downloaded?"),
        (b"", None, "empty"),
        (b"{}", None, None),
    ],
)
def test_what_a_file_is_by_its_first_bytes(beginning, name, words):
    assert (format_of(beginning), describe(beginning)) == (name, words)


@pytest.mark.parametrize(
    ("beginning", "words"),
    [
        (b"", "empty"),
        (bytes(16), "all zeros where it begins, as a broken download leaves a file; download it "
         "again"),
        (b'\n{"a": 1}', "a JSON file ('{\"a\": 1}' ...), not weights"),
        ("h\u00e9llo \u00e9".encode()[:-1], "a text file ('h\u00e9llo' ...), not weights"),
        (b"h\xe9llo", None),  # no UTF-8
        (b"hello\0", None),
        (b"\x1f\x8b\x08", "packed by gzip; unpack it first (gunzip)"),
        (bytes(257) + b"ustar", "a tar archive; unpack it first (tar xf)"),
    ],
)  # fmt: skip
def test_what_is_in_the_place_of_weights(beginning, words):
    assert instead_of_weights(beginning) == words


@pytest.mark.parametrize("start", [b"<!DOCTYPE html>", b"version https://git-lfs.github.com/"])
def test_a_bin_file_that_is_none(tmp_path, start):
    (tmp_path / "m.bin").write_bytes(start + bytes(100))
    with pytest.raises(FileFormatError, match=r"not a format that gradient reads \(it is a"):
        open_checkpoint(tmp_path / "m.bin")


def test_of_damaged_weights_without_a_config_it_is_said_what_is_wrong(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(FileFormatError, match=r"w\.safetensors is not a valid safetensors file"):
        gradient.hub.load(tmp_path / "w.safetensors")


def test_weights_without_a_config_are_said_to_be_no_model(tmp_path):
    gradient.save({"w": gradient.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(
        ModelNotFound, match=r"no config\.json; .*w\.safetensors alone are read by gradient"
    ):
        gradient.hub.load(tmp_path / "w.safetensors")
