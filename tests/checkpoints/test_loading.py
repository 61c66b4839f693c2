"""Checkpoints: what is read, what is refused and in which words, what is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import gradient
from gradient.checkpoints import load_model, save_gguf, save_model
from gradient.checkpoints.weight_names import split_weight
from gradient.errors import (
    ArgumentError,
    FileFormatError,
    ModelNotFound,
    StateDictError,
    UnsupportedModel,
)
from gradient.io import load_file, save_file
from gradient.models import (
    CausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModelConfig,
    register_model,
    supported_models,
)
from gradient.quantization import quantize_
from support.paths import GOLDEN

CHECKPOINT = GOLDEN / "gpt2_tiny"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the golden checkpoint, to be spoilt."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "model"))


def rewrite(folder: Path, change) -> None:
    """Save the folder's tensors as `change(tensors)` returns them."""
    tensors = {
        name: value.clone() for name, value in load_file(folder / "model.safetensors").items()
    }
    save_file(change(tensors), folder / "model.safetensors", {"format": "pt"})


def set_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def logits(model: CausalLM) -> np.ndarray:
    with gradient.no_grad():
        return model(gradient.tensor([[1, 2, 3]])).float().numpy()


# ---- reading ------------------------------------------------------------------------------------


def test_weight_names_are_the_files_own():
    names = set(load_file(CHECKPOINT / "model.safetensors"))
    assert set(load_model(CHECKPOINT).state_dict()) == names | {"lm_head.weight"}


def test_weights_lie_in_the_mapped_file():
    model = load_model(CHECKPOINT)
    for name, parameter in model.named_parameters():
        base = parameter.array
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert base.base is not None, f"{name} was copied"
        assert not isinstance(base.base, bytes)
    weight = model.transformer.h[0].attn.c_attn.weight  # (out, in), a view of the file's (in, out)
    assert weight.shape == (96, 32)
    assert weight.mT.is_contiguous()


def test_names_without_the_prefix_and_masks_of_old_files(folder):
    def as_in_2019(tensors):
        old = {name.removeprefix("transformer."): value for name, value in tensors.items()}
        old["h.0.attn.bias"] = gradient.ones(1, 1, 64, 64).tril()
        old["h.1.attn.masked_bias"] = gradient.tensor(-1e4)
        return old

    rewrite(folder, as_in_2019)
    assert (logits(load_model(folder)) == logits(load_model(CHECKPOINT))).all()


def test_training_a_loaded_model_leaves_the_file_alone(folder):
    before = (folder / "model.safetensors").read_bytes()
    model = load_model(folder).train()
    optimizer = gradient.optim.AdamW(model.parameters(), lr=0.1)
    first = logits(model)
    model(gradient.tensor([[1, 2, 3]])).sum().backward()
    optimizer.step()
    assert (logits(model) != first).any()
    assert (folder / "model.safetensors").read_bytes() == before


def test_models_come_in_evaluation_mode():
    assert not any(module.training for module in load_model(CHECKPOINT).modules())


def test_stored_dtype_is_kept_and_another_is_made_on_request(folder):
    assert load_model(folder).dtype == gradient.float32
    model = load_model(folder, dtype=gradient.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {gradient.bfloat16}
    assert model.lm_head.weight is model.transformer.wte.weight
    save_model(model, folder)
    assert load_model(folder).dtype == gradient.bfloat16
    assert np.abs(logits(load_model(folder)) - logits(load_model(CHECKPOINT))).max() < 0.2


# ---- tied weights -------------------------------------------------------------------------------


def test_a_tied_head_may_be_in_the_file_twice(folder):
    rewrite(folder, lambda t: t | {"lm_head.weight": t["transformer.wte.weight"].clone()})
    model = load_model(folder)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_a_file_with_another_head_is_believed_over_the_config(folder):
    rewrite(folder, lambda t: t | {"lm_head.weight": t["transformer.wte.weight"] * 2})
    model = load_model(folder)
    assert model.config.tie_word_embeddings is False
    np.testing.assert_allclose(logits(model), 2 * logits(load_model(CHECKPOINT)), rtol=1e-5)
    save_model(model, folder)
    np.testing.assert_array_equal(logits(load_model(folder)), logits(model))


def test_an_untied_model_needs_its_head(folder):
    set_config(folder, tie_word_embeddings=False)
    with pytest.raises(StateDictError, match=r"missing +lm_head\.weight"):
        load_model(folder)


# ---- misfits ------------------------------------------------------------------------------------


def test_all_misfits_are_told_together(folder):
    def spoil(tensors):
        tensors["transformer.h.0.ln_l.weight"] = tensors.pop("transformer.h.0.ln_1.weight")
        tensors["transformer.h.1.mlp.c_fc.bias"] = gradient.zeros(5)
        tensors["extra.weight"] = gradient.zeros(2, 2)
        return tensors

    rewrite(folder, spoil)
    with pytest.raises(StateDictError) as error:
        load_model(folder)
    message = str(error.value)
    for part in (
        "1 missing, 2 unexpected, 1 wrong",
        "transformer.h.0.ln_1.weight (near name given: transformer.h.0.ln_l.weight)",
        "extra.weight",
        "transformer.h.1.mlp.c_fc.bias: expected (128,), got (5,)",
    ):
        assert part in message
    assert message.startswith(f"{folder}: ") and "strict=False" not in message


def test_a_name_of_a_hundred_thousand_words(folder):
    """Its ends, by which a name that is meant is looked for, would have gigabytes."""
    rewrite(folder, lambda t: t | {"a." * 100_000: gradient.zeros(1)})
    tracemalloc.start()
    with pytest.raises(StateDictError, match=r"unexpected  a\.a\.a"):
        load_model(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000


def test_weights_that_are_integers(folder):
    rewrite(folder, lambda t: t | {"transformer.ln_f.bias": gradient.zeros(32).int()})
    with pytest.raises(StateDictError, match=r"floating-point numbers:\n  transformer\.ln_f\.bias"):
        load_model(folder)


def test_a_layer_takes_more_than_a_tensor(folder):
    rewrite(folder, lambda t: t | {f"x{number}": gradient.zeros(1) for number in range(5000)})
    tensors = 5000 + len(load_file(CHECKPOINT / "model.safetensors"))
    set_config(folder, n_layer=2000)
    with pytest.raises(StateDictError, match=rf"says 2000 layers, but .* only {tensors} tensors"):
        load_model(folder)
    set_config(folder, n_layer=5000)
    with pytest.raises(StateDictError, match="says 5000 layers.* more than 4096 are not built"):
        load_model(folder)


def test_an_adapter_is_no_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/etc"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelNotFound, match=r"holds an adapter .*; merge it into its base model"):
        load_model(tmp_path)


@pytest.mark.parametrize("cut", [1, 100, 100_000, 124_900])
def test_a_truncated_file(folder, cut):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(FileFormatError, match="model.safetensors"):
        load_model(folder)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '"gpt2"', "\xff", "{" * 100_000])
def test_a_config_that_is_no_json_object(folder, content):
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(FileFormatError, match=r"config\.json"):
        load_model(folder)


def test_a_bad_value_names_the_file(folder):
    set_config(folder, n_head=5)
    with pytest.raises(FileFormatError, match=r"config\.json: .*\n  n_head = 5 must divide"):
        load_model(folder)


@pytest.mark.parametrize("model_type", ["gtp2", None, 3, ["gpt2"]])
def test_an_unknown_model_type(folder, model_type):
    set_config(folder, model_type=model_type)
    with pytest.raises(UnsupportedModel, match=r"is not supported.*\(supported: .*gpt2") as error:
        load_model(folder)
    assert ("did you mean 'gpt2'?" in str(error.value)) == (model_type == "gtp2")
    assert str(folder) in str(error.value)
    assert ("has none" in str(error.value)) == (model_type is None)


def test_a_model_type_that_only_rhymes(folder):
    set_config(folder, model_type="mamba")
    with pytest.raises(UnsupportedModel) as error:
        load_model(folder)
    assert "did you mean" not in str(error.value)


def test_a_multimodal_model_is_called_one(folder):
    set_config(folder, model_type="llava", vision_config={"model_type": "clip_vision_model"})
    with pytest.raises(UnsupportedModel, match="is a model of more than text") as error:
        load_model(folder)
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\n<!DOCTYPE html>\n<html></html>", "it is a web page"),
        (b"<HTML><body>404</body></HTML>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a Git LFS pointer"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "it is a JPEG picture"),
        (b"", "it is empty"),
    ],
)
def test_what_a_wrong_file_is(folder, content, what):
    (folder / "model.gguf").write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"model\.gguf: not a format .*\({what}"):
        load_model(folder / "model.gguf")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"config\.json is not a valid JSON file: {what}"):
        load_model(folder)


@pytest.mark.parametrize(
    "changes", [{"n_layer": 10**9}, {"vocab_size": 10**15}, {"n_embd": 4 * 10**9}]
)
def test_a_config_that_asks_for_the_whole_machine(folder, changes):
    set_config(folder, **changes)
    with pytest.raises((StateDictError, FileFormatError), match="its configuration "):
        load_model(folder)


def test_what_is_absent_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match="there is no such folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelNotFound, match=r"there is no config\.json; expected the folder of a"):
        load_model(tmp_path)
    shutil.copy(CHECKPOINT / "config.json", tmp_path)
    with pytest.raises(ModelNotFound, match=r"model\.safetensors"):
        load_model(tmp_path)
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(ModelNotFound, match=r"fix: name the file to load: weights\.pth"):
        load_model(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"pytorch_model\.bin is not a PyTorch file"):
        load_model(tmp_path)


# ---- writing ------------------------------------------------------------------------------------


def test_saving_gives_the_file_that_was_loaded(tmp_path):
    save_model(load_model(CHECKPOINT), tmp_path)
    before, after = (load_file(f / "model.safetensors") for f in (CHECKPOINT, tmp_path))
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name].numpy(), after[name].numpy())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["model_type"] == "gpt2"


@pytest.mark.parametrize("name", ["m.gguf", "m.safetensors"])
def test_a_folder_that_is_named_like_a_file_is_not_made(tmp_path, name):
    with pytest.raises(ArgumentError, match=rf"expected a folder's name, got '.*{name}'"):
        save_model(load_model(CHECKPOINT), tmp_path / name)
    assert not list(tmp_path.iterdir())


class Adapter(gradient.nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.scale = base, gradient.nn.Parameter(gradient.ones(1))


def test_a_model_with_an_adapter_inside_is_not_saved(tmp_path):
    model = load_model(CHECKPOINT)
    plain = model.transformer.h[0].attn.c_proj
    model.transformer.h[0].attn.c_proj = Adapter(plain)
    with pytest.raises(StateDictError, match="nothing was written") as raised:
        save_model(model, tmp_path / "m")
    lines = str(raised.value)
    assert "not in the config  transformer.h.0.attn.c_proj.scale (1,)" in lines
    assert "missing            transformer.h.0.attn.c_proj.weight" in lines
    assert "fix: put adapters" in lines and not (tmp_path / "m").exists()
    model.transformer.h[0].attn.c_proj = plain
    save_model(model, tmp_path / "m")
    assert (logits(load_model(tmp_path / "m")) == logits(model)).all()


def test_a_model_of_another_size_than_its_config_is_not_saved(tmp_path):
    model = load_model(CHECKPOINT)
    model.transformer.wpe = gradient.nn.Embedding(3, model.config.n_embd)
    with pytest.raises(StateDictError, match=r"transformer.wpe.weight \(3, .*by the config \("):
        save_model(model, tmp_path / "m")


def test_a_model_of_a_class_with_other_arguments_is_saved(tmp_path):
    class Mine(GPT2LMHeadModel):
        def __init__(self, config, name):
            super().__init__(config)
            self.name = name

    save_model(Mine(load_model(CHECKPOINT).config, "mine"), tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").exists()


def test_a_sharded_save_and_what_an_earlier_one_left(tmp_path):
    model = load_model(CHECKPOINT)
    save_model(model, tmp_path, max_shard_bytes=40_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) >= 3
    assert (logits(load_model(tmp_path)) == logits(model)).all()
    other = GPT2LMHeadModel(model.config).eval()
    save_model(other, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    # Not to the bit: the loaded matrices are transposed views, which BLAS adds in another order.
    np.testing.assert_allclose(logits(load_model(tmp_path)), logits(other), atol=1e-5)
    save_model(model, tmp_path, max_shard_bytes=40_000)
    assert (logits(load_model(tmp_path)) == logits(model)).all()


def test_saving_a_model_over_the_file_it_is_mapped_from(folder):
    model = load_model(folder)
    with gradient.no_grad():
        model.transformer.ln_f.bias.add_(1.0)
    changed = logits(model)
    save_model(model, folder)
    assert (logits(model) == changed).all()
    assert (logits(load_model(folder)) == changed).all()


# ---- memory -------------------------------------------------------------------------------------

MEASURE = """
import sys, gradient
from gradient import quantization
from gradient.checkpoints import load_model

def resident(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024

small, large, dtype, scheme = sys.argv[1:]
def run(path):
    packing = quantization.quantizer(scheme) if scheme else None
    target = getattr(gradient, dtype) if dtype else None
    model = load_model(path, dtype=target, converter=packing)
    with gradient.no_grad():
        model(gradient.tensor([[1, 2, 3]]))
run(small)                      # imports
x = gradient.ones(3, 256)
for name in ("q8_0", "q4_k", "q6_k"):  # compiled kernels, of which small models need none
    weight = quantization.quantize(gradient.ones(4096, 256), name)  # on all threads
    with gradient.no_grad():
        gradient.functional.linear(x, weight)
gradient.functional.linear(x.bfloat16(), gradient.ones(256, 256).bfloat16())
before = resident("VmRSS")
run(large)
print(resident("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A folder and two GGUF files of a model of 58 million weights with an output layer of its own.

    Its heads have keys of their own: a sixth of a layer's rows are reordered when GGUF is read.
    """
    config = LlamaConfig(
        vocab_size=8000, hidden_size=768, intermediate_size=2048, num_hidden_layers=7,
        num_attention_heads=12, tie_word_embeddings=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("large")
    model = LlamaForCausalLM(config)
    save_model(model, folder / "model")
    save_gguf(model, folder / "model.gguf")
    save_gguf(quantize_(model, "q8_0"), folder / "packed.gguf")
    return folder


@pytest.mark.slow
@pytest.mark.cpu_only
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(
    ("file", "dtype", "scheme", "share"),
    [
        ("model", "", "", 1.1),
        ("model.gguf", "", "", 1.1),
        # 1.1 times the file and its largest tensor, which is a tenth of it.
        ("packed.gguf", "", "", 1.2),
        # Half of the file, and one matrix in float32, as it is used.
        ("model", "bfloat16", "", 0.75),
        # The packed blocks (0.27 of the file) and the row panels that products read.
        ("model", "", "q8_0", 0.55),
        ("model.gguf", "", "q4_k_m", 0.4),
    ],
)
def test_peak_memory_of_loading_is_the_weights_size(large, file, dtype, scheme, share):
    """With a forward pass, so that all weights are read."""
    path = large / file
    size = (path / "model.safetensors" if path.is_dir() else path).stat().st_size
    command = [sys.executable, "-c", MEASURE, CHECKPOINT, path, dtype, scheme]
    for _ in range(2):  # the first compiles kernels, which takes memory of its own
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) <= share * size


# ---- registry -----------------------------------------------------------------------------------


def test_a_model_of_ones_own_is_loaded_once_registered(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("gradient.models.registry._registered", {})
    set_config(folder, model_type="mine")

    class MineConfig(GPT2Config):
        model_type = "mine"

    @register_model("mine", "cousin")
    class Mine(GPT2LMHeadModel):
        config_class = MineConfig

    assert {"mine", "cousin"} <= set(supported_models())
    model = load_model(folder)
    assert isinstance(model, Mine)
    assert isinstance(model.config, ModelConfig)
    assert model.config.to_hf()["model_type"] == "mine"

    # One class may serve several types: what it read, it writes.
    set_config(folder, model_type="cousin", architectures=["CousinForCausalLM"])
    save_model(load_model(folder), tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert (saved["model_type"], saved["architectures"]) == ("cousin", ["CousinForCausalLM"])


# ---- tensors that files hold in one piece -------------------------------------------------------


class Fused:
    split = {
        r"\.gate_up$": (".{}.gate.weight", ".{}.up.weight"),
        r"\.qk\.(weight|bias)$": (".q.weight", ".k.weight"),
    }


def test_fused_tensors_are_split_into_views():
    stack, pair = gradient.randn(3, 4, 5), gradient.randn(6, 2)
    state = {"h.gate_up": stack, "h.qk.weight": pair, "h.norm": pair}
    found = dict(part for name, value in state.items() for part in split_weight(Fused, name, value))
    assert list(found) == [
        *(f"h.{e}.{name}.weight" for e in range(3) for name in ("gate", "up")),
        "h.q.weight",
        "h.k.weight",
        "h.norm",
    ]
    assert found["h.2.up.weight"].tolist() == stack[2, 2:].tolist()
    assert found["h.k.weight"].tolist() == pair[3:].tolist()
    stack[2, 3, 4] = 7.0  # no copy
    assert found["h.2.up.weight"][1, 4].item() == 7.0


@pytest.mark.parametrize("shape", [(3, 5, 5), (4,), (0, 4, 5), (1 << 40, 4, 0)])
def test_what_cannot_be_split_stays_for_the_error_to_name(shape):
    value = gradient.zeros(*shape)
    assert list(split_weight(Fused, "h.gate_up", value)) == [("h.gate_up", value)]
