"""`gradient convert` and `gradient quantize`: formats there and back, by the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import gradient
from gradient import hub
from gradient.checkpoints import load_model, save_model
from gradient.checkpoints.gguf import to_gguf
from gradient.cli.app import app
from gradient.io import gguf
from gradient.io.gguf import GGUFFile
from gradient.models import config_class, model_class
from gradient.text import Tokenizer, train_bpe

pytestmark = pytest.mark.cpu_only

TEXTS = ["the cat sat on the mat, the cat sat", "Größe 🙂 12 345\n\n  x", ""]
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: object) -> dict:
    """The report of a command that succeeds."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def model_folder(folder: Path, model_type: str = "llama", **changes) -> Path:
    """A model, its embedding a little larger than its vocabulary, and its tokenizer."""
    gradient.manual_seed(0)
    backend = train_bpe([TEXTS[0] * 20], 300, special_tokens=["<|end|>"]).backend
    tokenizer = Tokenizer(
        backend, bos_token="<|end|>", eos_token="<|end|>", add_bos=True, chat_template=TEMPLATE
    )
    cls = model_class(model_type)
    values = SHAPE | {"vocab_size": tokenizer.vocab_size + 3, "eos_token_id": tokenizer.eos_id}
    values |= {"bos_token_id": tokenizer.bos_id, "pad_token_id": None} | changes
    model = cls(config_class(model_type).from_hf({"model_type": model_type} | values)).eval()
    with gradient.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * gradient.randn(*parameter.shape))
    save_model(model, folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model") / "cat")


def logits(path: Path, **options) -> np.ndarray:
    model = hub.load(path, **options).model
    with gradient.no_grad():
        return model(gradient.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])).float().numpy()


# convert -----------------------------------------------------------------------------------------


def test_a_folder_to_gguf_and_back(folder, tmp_path):
    report = done("convert", folder, tmp_path / "new" / "cat.gguf")
    assert report["architecture"] == "LlamaForCausalLM" and report["tokenizer"]
    assert set(report["dtypes"]) == {"float32"} and report["notes"] == []
    again = done("convert", tmp_path / "new" / "cat.gguf", tmp_path / "folder")
    assert again["bytes"] == report["bytes"] == sum(again["dtypes"].values())
    for path in (tmp_path / "new" / "cat.gguf", tmp_path / "folder"):
        np.testing.assert_array_equal(logits(path), logits(folder))
    before, after = (
        json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "folder")
    )
    assert {key: (before[key], after.get(key)) for key in before if before[key] != after[key]} == {}
    names = {path.name for path in (tmp_path / "folder").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_the_tokenizer_comes_along(folder, tmp_path):
    done("convert", folder, tmp_path / "cat.gguf")
    metadata = GGUFFile(tmp_path / "cat.gguf").metadata
    assert metadata["general.name"] == "cat"
    tokens = metadata["tokenizer.ggml.tokens"]
    rows = GGUFFile(tmp_path / "cat.gguf").entries["token_embd.weight"].shape[0]
    # llama.cpp wants a name for each row of the embedding.
    assert len(tokens) == len(metadata["tokenizer.ggml.token_type"]) == rows
    assert tokens[-1] == f"[PAD{rows - 1}]" and metadata["tokenizer.ggml.token_type"][-1] == 5
    before, after = hub.load(folder).tokenizer, hub.load(tmp_path / "cat.gguf").tokenizer
    for text in TEXTS:
        ids = before.encode(text)
        assert after.encode(text) == ids and after.decode(ids) == before.decode(ids)
    assert after.chat_template == TEMPLATE
    assert (after.bos_token, after.eos_token) == ("<|end|>", "<|end|>")


@pytest.mark.parametrize(
    ("name", "stored"), [("f16", "F16"), ("bf16", "BF16"), ("f32", "F32"), ("float16", "F16")]
)
def test_dtypes(name, stored, folder, tmp_path):
    done("convert", folder, tmp_path / "cat.gguf", "--dtype", name)
    for entry in GGUFFile(tmp_path / "cat.gguf").entries.values():
        assert entry.type.name == (stored if len(entry.shape) == 2 else "F32")
    done("convert", folder, tmp_path / "folder", "--dtype", name)
    dtype = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}[stored]
    assert {p.dtype.name for p in load_model(tmp_path / "folder").parameters()} == {dtype}
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["dtype"] == dtype


def test_tied_weights_are_written_once(tmp_path):
    tied = model_folder(tmp_path / "tied", tie_word_embeddings=True)
    done("convert", tied, tmp_path / "tied.gguf")
    assert "output.weight" not in GGUFFile(tmp_path / "tied.gguf")
    done("convert", tmp_path / "tied.gguf", tmp_path / "again", "--dtype", "bf16")
    model = load_model(tmp_path / "again")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    np.testing.assert_array_equal(logits(tmp_path / "tied.gguf"), logits(tied))


def test_a_gguf_keeps_what_it_says_of_itself(folder, tmp_path):
    done("convert", folder, tmp_path / "a.gguf")
    file = GGUFFile(tmp_path / "a.gguf")
    extra = {"general.license": "mit", "tokenizer.ggml.pre": "qwen2", "general.alignment": 64}
    parts = {"split.count": np.uint16(2), "split.tensors.count": np.int32(len(file))}
    names = list(file)
    for number, some in enumerate((names[:7], names[7:])):
        head = file.typed_metadata | extra | parts if number == 0 else dict(parts)
        head["split.no"] = np.uint16(number)
        path = tmp_path / f"b-{number + 1:05d}-of-00002.gguf"
        gguf.write(path, head, {name: file[name] for name in some})
    done("convert", tmp_path / "b-00001-of-00002.gguf", tmp_path / "whole.gguf")
    whole = GGUFFile(tmp_path / "whole.gguf")
    assert whole.metadata["general.license"] == "mit"
    assert whole.metadata["tokenizer.ggml.pre"] == "qwen2"
    assert not {"general.alignment", "split.count", "split.no"} & set(whole.metadata)
    assert set(whole) == set(file)
    assert all(np.array_equal(whole.array(name), file.array(name)) for name in file)


def test_a_folder_whose_name_is_no_utf8(folder, tmp_path):
    named = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(folder, named)
    done("convert", named, tmp_path / "a.gguf")
    assert GGUFFile(tmp_path / "a.gguf").metadata["general.name"] == "caf\ufffd"


def test_without_a_tokenizer(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "bare").mkdir(exist_ok=True)
        (tmp_path / "bare" / name).write_bytes((folder / name).read_bytes())
    result = run("convert", tmp_path / "bare", tmp_path / "bare.gguf")
    assert result.exit_code == 0 and "note: no tokenizer was found" in result.stderr
    assert "tokenizer.ggml.tokens" not in GGUFFile(tmp_path / "bare.gguf").metadata
    report = done("convert", tmp_path / "bare.gguf", tmp_path / "folder")
    assert not report["tokenizer"] and "holds no tokenizer" in report["notes"][0]
    other = done("convert", tmp_path / "bare", tmp_path / "more.gguf", "--tokenizer", folder)
    assert other["tokenizer"] and other["notes"] == []
    assert "tokenizer.ggml.tokens" in GGUFFile(tmp_path / "more.gguf").metadata


def test_llama2c(real_data, tmp_path):
    source = real_data("stories260k/stories260K.bin")
    done("convert", source, tmp_path / "s.gguf")
    text = "Once upon a time, there was a little girl named Lily."
    ids = hub.load(source).tokenizer.encode(text)
    assert hub.load(tmp_path / "s.gguf").tokenizer.encode(text) == ids
    np.testing.assert_array_equal(logits(tmp_path / "s.gguf"), logits(source))
    theirs = GGUFFile(real_data("stories260k/stories260K.gguf"))
    assert (
        GGUFFile(tmp_path / "s.gguf").metadata["tokenizer.ggml.tokens"][3:]
        == (theirs.metadata["tokenizer.ggml.tokens"][3:])
    )


def test_all_ids_that_end_a_text(tmp_path):
    chatty = model_folder(tmp_path / "chatty", eos_token_id=[5, 7])
    done("convert", chatty, tmp_path / "chatty.gguf")
    file = GGUFFile(tmp_path / "chatty.gguf")
    eos = Tokenizer.from_folder(chatty).eos_id
    ids = [file.metadata[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "eot", "eom")]
    assert ids == [eos, 5, 7]
    assert load_model(tmp_path / "chatty.gguf").config.eos_token_ids == {eos, 5, 7}


# quantize ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["q8_0", "q4_0", "q4_k_m", "q6_k"])
def test_packed_to_a_file_as_in_memory(to, folder, tmp_path):
    report = done("quantize", folder, tmp_path / "cat.gguf", "--to", to)
    assert report["bytes"] < 0.5 * done("convert", folder, tmp_path / "f32.gguf")["bytes"]
    packed, memory = hub.load(tmp_path / "cat.gguf").model, hub.load(folder, quantize=to).model
    kinds = {name: p.dtype.name for name, p in packed.named_parameters()}
    assert kinds == {name: p.dtype.name for name, p in memory.named_parameters()}
    np.testing.assert_array_equal(logits(tmp_path / "cat.gguf"), logits(folder, quantize=to))


def test_rows_of_whole_blocks(tmp_path):
    """With rows of 256 the formats are those asked for, and not their stand-ins."""
    wide = model_folder(tmp_path / "wide", hidden_size=256, intermediate_size=512)
    done("quantize", wide, tmp_path / "wide.gguf", "--to", "q4_k_m")
    file = GGUFFile(tmp_path / "wide.gguf")
    kinds = {name: entry.type.name for name, entry in file.entries.items()}
    assert kinds["output.weight"] == "Q6_K" and kinds["blk.0.attn_q.weight"] == "Q4_K"
    assert file.metadata["general.file_type"] == 15  # MOSTLY_Q4_K_M
    np.testing.assert_array_equal(logits(tmp_path / "wide.gguf"), logits(wide, quantize="q4_k_m"))


@pytest.mark.parametrize(("to", "said"), [("q8_0", 7), ("q4_0", 2), ("q4_k_m", 15)])
def test_a_small_file_says_the_format_that_was_asked_for(to, said, tmp_path):
    """Also where a wide output layer of another format has most bytes."""
    wide = {"hidden_size": 256, "intermediate_size": 256, "vocab_size": 3000}
    small = model_folder(tmp_path / "small", num_hidden_layers=1, **wide)
    done("quantize", small, tmp_path / "small.gguf", "--to", to)
    assert GGUFFile(tmp_path / "small.gguf").metadata["general.file_type"] == said
    done("convert", small, tmp_path / "half.gguf", "--dtype", "float16")
    assert GGUFFile(tmp_path / "half.gguf").metadata["general.file_type"] == 1


@pytest.mark.parametrize("to", ["int8", "int4", "q8_0"])
def test_packed_to_a_folder(to, folder, tmp_path):
    report = done("quantize", folder, tmp_path / "packed", "--to", to)
    assert report["tokenizer"] and len(report["dtypes"]) > 1
    np.testing.assert_array_equal(logits(tmp_path / "packed"), logits(folder, quantize=to))


def test_a_folder_keeps_the_generation_config(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    recommended = '{"do_sample": true, "temperature": 0.5, "eos_token_id": [1, 2]}'
    (tmp_path / "model" / "generation_config.json").write_text(recommended)
    done("quantize", tmp_path / "model", tmp_path / "packed", "--to", "q8_0")
    kept = (tmp_path / "packed" / "generation_config.json").read_text()
    assert json.loads(kept) == json.loads(recommended)


def test_what_is_not_packed_has_the_dtype_asked_for(tmp_path):
    """Rows of 40 fit no block."""
    odd = model_folder(tmp_path / "model", intermediate_size=40)
    for name in ("odd.gguf", "odd"):
        done("quantize", odd, tmp_path / name, "--to", "q8_0", "--dtype", "f16")
    types = {n: e.type.name for n, e in GGUFFile(tmp_path / "odd.gguf").entries.items()}
    assert (types["blk.0.ffn_down.weight"], types["blk.0.ffn_up.weight"]) == ("F16", "Q8_0")
    assert types["output_norm.weight"] == "F32"
    dtypes = {n: p.dtype.name for n, p in load_model(tmp_path / "odd").named_parameters()}
    assert dtypes["model.layers.0.mlp.down_proj.weight"] == "float16"
    assert dtypes["model.layers.0.mlp.up_proj.weight"] == "q8_0"


def test_packed_and_unpacked_again(folder, tmp_path, exact_products):
    done("quantize", folder, tmp_path / "q.gguf", "--to", "q8_0")
    done("convert", tmp_path / "q.gguf", tmp_path / "plain")
    assert {p.dtype.name for p in load_model(tmp_path / "plain").parameters()} == {"float16"}
    done("convert", tmp_path / "q.gguf", tmp_path / "f32", "--dtype", "f32")
    expected = logits(tmp_path / "q.gguf")
    np.testing.assert_allclose(logits(tmp_path / "f32"), expected, atol=1e-4)
    copy = done("convert", tmp_path / "q.gguf", tmp_path / "copy.gguf")
    assert set(copy["dtypes"]) == {"q8_0", "float32"}
    np.testing.assert_array_equal(logits(tmp_path / "copy.gguf"), expected)
    # Packed anew, in fewer bits.
    fewer = done("quantize", tmp_path / "q.gguf", tmp_path / "q4.gguf", "--to", "q4_0")
    assert "q4_0" in fewer["dtypes"] and fewer["bytes"] < copy["bytes"]


def test_packed_weights_are_not_packed_again_in_a_folder(folder, tmp_path):
    done("quantize", folder, tmp_path / "q8", "--to", "int8")
    again = CliRunner().invoke(
        app, ["quantize", str(tmp_path / "q8"), str(tmp_path / "q4"), "--to", "int4"]
    )
    assert again.exit_code == 1 and "packed already (int8_channel)" in again.stderr
    assert not (tmp_path / "q4").exists()
    done("quantize", tmp_path / "q8", tmp_path / "same", "--to", "int8")


def test_experts(tmp_path):
    moe = model_folder(tmp_path / "moe", "mixtral", num_local_experts=3, num_experts_per_tok=2)
    done("quantize", moe, tmp_path / "moe.gguf", "--to", "q8_0")
    kinds = {n: e.type.name for n, e in GGUFFile(tmp_path / "moe.gguf").entries.items()}
    assert kinds["blk.1.ffn_down_exps.weight"] == "Q8_0"
    assert kinds["blk.1.ffn_gate_inp.weight"] == "F32"
    np.testing.assert_array_equal(logits(tmp_path / "moe.gguf"), logits(moe, quantize="q8_0"))


# Errors, interruptions, progress -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convert", "{tmp}/nowhere", "{tmp}/a.gguf"), "not found"),
        (("convert", "{folder}", "{folder}"), "exists already"),
        (("convert", "{folder}", "{folder}/config.json"), "exists already"),
        (("convert", "{folder}", "{tmp}/a.gguf", "--dtype", "int3"), r"float32 \(f32\), float16"),
        (("convert", "{folder}", "{tmp}/a.gguf", "--tokenizer", "{tmp}"), "no tokenizer"),
        (("convert", "{folder}", "{tmp}/a.safetensors"), "no .safetensors file is written"),
        (("quantize", "{folder}", "{tmp}/a.bin"), "no .bin file is written"),
        (("convert", "{folder}/tokenizer.json", "{tmp}/a.gguf"), "not a format"),
        (("convert", "{gelu}", "{tmp}/a.gguf"), "hidden_act = 'gelu'"),
        (("quantize", "{folder}", "{tmp}/a.gguf", "--to", "q9_9"), "expected one of q4_k_m"),
        (("quantize", "{folder}", "{tmp}/a.gguf", "--to", "int8"), "give a folder as destination"),
        (("quantize", "{folder}", "{folder}", "--to", "int8"), "exists already"),
        (("quantize", "{tmp}/nowhere", "{tmp}/a.gguf"), "not found"),
    ],
)
def test_errors(arguments, message, folder, tmp_path):
    gelu = model_folder(tmp_path / "gelu", hidden_act="gelu") if "{gelu}" in arguments else ""
    arguments = [each.format(tmp=tmp_path, folder=folder, gelu=gelu) for each in arguments]
    result = run(*arguments)
    assert result.exit_code == 1 and "defect" not in result.output, result.output
    assert result.stdout == "" and re.search(f"error: .*{message}", result.stderr, re.DOTALL)
    assert not list(tmp_path.glob("*.gguf"))
    as_json = run(*arguments, "--json")
    assert as_json.exit_code == 1 and "error" in json.loads(as_json.stdout)


@pytest.mark.parametrize("command", ["convert", "quantize"])
@pytest.mark.parametrize("name", ["cat.gguf", "cat"])
def test_ctrl_c_leaves_nothing(command, name, folder, tmp_path, monkeypatch):
    calls = []

    @contextmanager
    def interrupted(title, *, quiet=False):
        def progress(done: int, total: int) -> None:
            calls.append(done)
            if len(calls) == 5:
                raise KeyboardInterrupt

        yield progress

    monkeypatch.setattr(f"gradient.cli.{command}.byte_progress", interrupted)
    result = run(command, folder, tmp_path / name)
    assert result.exit_code == 130 and result.stderr == "interrupted\n"
    assert not list(tmp_path.iterdir())


def test_progress_in_a_log(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("gradient.cli.progress.LINE_EVERY", 0.0)
    result = run("convert", folder, tmp_path / "cat.gguf")
    lines = [line for line in result.stderr.splitlines() if line.startswith("writing: ")]
    assert len(lines) == len(GGUFFile(tmp_path / "cat.gguf"))
    shape = r"writing: [\d.]+ \w+ of [\d.]+ \w+, [\d.]+ \w+/s, \d+ s left"
    assert all(re.fullmatch(shape, line) for line in lines)
    assert lines[-1].endswith(" 0 s left")
    assert "in all" in result.stdout and str(tmp_path / "cat.gguf") in result.stdout
    silent = run("convert", folder, tmp_path / "again.gguf", "--json")
    assert silent.stderr == ""


def test_a_larger_vocabulary_than_the_model_is_refused(folder, tmp_path):
    model = load_model(folder)
    metadata, tensors = to_gguf(model)
    tokens = [f"t{number}" for number in range(model.config.vocab_size + 1)]
    gguf.write(tmp_path / "m.gguf", metadata | {"tokenizer.ggml.tokens": tokens}, tensors)
    result = run("convert", tmp_path / "m.gguf", tmp_path / "n.gguf", "--tokenizer", folder)
    assert result.exit_code == 0, result.output
    assert len(GGUFFile(tmp_path / "n.gguf").metadata["tokenizer.ggml.tokens"]) == (
        model.config.vocab_size
    )
    from gradient.checkpoints.gguf.save import save_gguf
    from gradient.errors import ArgumentError

    with pytest.raises(ArgumentError, match="it is not the model's own"):
        save_gguf(model, tmp_path / "o.gguf", metadata={"tokenizer.ggml.tokens": tokens})
