"""Folders whose weights GPTQ or AWQ has quantised, made here in those libraries' layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gradient
from gradient.checkpoints import load_model, save_model
from gradient.errors import FileFormatError, UnsupportedModel
from gradient.io import safetensors
from gradient.models import config_class, model_class

pytestmark = pytest.mark.cpu_only

CONFIG = {
    "model_type": "llama", "vocab_size": 50, "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def pack_last(numbers: np.ndarray, order: list[int] | range) -> np.ndarray:
    """4-bit numbers (..., 8 M) as int32 (..., M): number order[i] of eight in bits 4 i on."""
    eights = numbers.reshape(*numbers.shape[:-1], -1, 8).astype(np.uint32)
    words = sum(eights[..., place] << np.uint32(4 * i) for i, place in enumerate(order))
    return np.asarray(words, np.uint32).view(np.int32)


def quantized(
    rng: np.random.Generator, method: str, n: int, k: int, group: int, *, shuffled: bool, above: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The stored tensors of a layer, and the weight (N, K) that they stand for."""
    group = k if group == -1 else group
    codes = rng.integers(0, 16, (k, n)).astype(np.uint8)
    zeros = rng.integers(above, 16 + above, (-(-k // group), n)).astype(np.uint8)
    scales = rng.uniform(0.001, 0.01, (-(-k // group), n)).astype(np.float16)
    index = np.arange(k, dtype=np.int32) // group
    if shuffled:
        rng.shuffle(index)
    weight = scales[index].astype(np.float32) * (codes.astype(np.float32) - zeros[index])
    if method == "awq":
        stored = {"qweight": pack_last(codes, AWQ_ORDER), "qzeros": pack_last(zeros, AWQ_ORDER)}
    else:
        words = np.ascontiguousarray(pack_last(np.ascontiguousarray(codes.T), range(8)).T)
        stored = {"qweight": words, "qzeros": pack_last(zeros - above, range(8)), "g_idx": index}
    return {**stored, "scales": scales}, weight.T


def write(
    folder: Path, method: str, group: int, *, shuffled: bool = False, **settings: object
) -> dict[str, np.ndarray]:
    """A folder of a model whose layers are quantised; their weights."""
    rng = np.random.default_rng(0)
    above = int(method == "gptq" and settings.get("checkpoint_format") != "gptq_v2")
    model = model_class("llama")(config_class("llama").from_hf(CONFIG))
    save_model(model, folder)
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    weights = {}
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        n, k = tensors.pop(name).shape
        stored, weights[name] = quantized(rng, method, n, k, group, shuffled=shuffled, above=above)
        layer = name.removesuffix("weight")
        tensors |= {layer + part: value for part, value in stored.items()}
    safetensors.save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": group}
    config["quantization_config"] |= settings
    (folder / "config.json").write_text(json.dumps(config))
    return weights


@pytest.mark.parametrize("group", [32, 64, 128, 256, -1])
@pytest.mark.parametrize("method", ["gptq", "gptq_v2", "awq"])
def test_weights_are_taken_as_they_are(method: str, group: int, tmp_path: Path) -> None:
    settings = {"checkpoint_format": method} if method == "gptq_v2" else {}
    weights = write(tmp_path, method.removesuffix("_v2"), group, **settings)
    state = load_model(tmp_path).state_dict()
    for name, weight in weights.items():
        assert state[name].dtype.name.startswith("int4_group")
        np.testing.assert_array_equal(state[name].dequantize().numpy(), weight)


def test_they_multiply_save_and_load(tmp_path: Path) -> None:
    weights = write(tmp_path / "gptq", "gptq", 128)
    model, unpacked = load_model(tmp_path / "gptq"), load_model(tmp_path / "gptq")
    for name, weight in weights.items():
        unpacked.get_submodule(name.removesuffix(".weight")).weight = gradient.nn.Parameter(
            gradient.tensor(np.ascontiguousarray(weight))
        )
    ids = gradient.tensor([[1, 2, 3, 4]])
    expected = unpacked(ids).detach().numpy()
    np.testing.assert_allclose(model(ids).detach().numpy(), expected, atol=1e-4, rtol=1e-4)
    with gradient.no_grad():
        np.testing.assert_allclose(model(ids).numpy(), expected, atol=0.05)
    save_model(model, tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert gradient.equal(again(ids), model(ids))


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_groups_that_do_not_divide_a_row_are_made_float16(method: str, tmp_path: Path) -> None:
    weights = write(tmp_path, method, 192)  # of 256 columns or 512: the last is shorter
    state = load_model(tmp_path).state_dict()
    for name, weight in weights.items():
        np.testing.assert_array_equal(state[name].numpy(), weight.astype(np.float16))


def test_groups_are_128_columns_where_nothing_is_said(tmp_path: Path) -> None:
    weights = write(tmp_path, "awq", 128)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["quantization_config"]["group_size"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = load_model(tmp_path).state_dict()
    for name, weight in weights.items():
        np.testing.assert_array_equal(state[name].dequantize().numpy(), weight)


@pytest.mark.parametrize(("said", "expected"), [(128, 2), (-1, 1), (192, 2)])
@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_another_number_of_groups_than_the_config_says(
    method: str, said: int, expected: int, tmp_path: Path
) -> None:
    write(tmp_path, method, 64, group_size=said)
    message = rf"scales \(4, .*: expected {expected} groups, got 4"
    with pytest.raises(FileFormatError, match=message):
        load_model(tmp_path)


def test_columns_that_were_sorted_are_made_float16(tmp_path: Path) -> None:
    weights = write(tmp_path, "gptq", 64, shuffled=True, desc_act=True)
    state = load_model(tmp_path).state_dict()
    for name, weight in weights.items():
        np.testing.assert_array_equal(state[name].numpy(), weight.astype(np.float16))


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("gptq", {"bits": 8}, "to 8 bits; expected 4 bits"),
        ("gptq", {"group_size": 0}, "group_size 0; expected a positive number, or -1"),
        ("awq", {"group_size": "128"}, "group_size '128'; expected a positive number, or -1"),
        ("awq", {"version": "gemv"}, "in the layout 'gemv'; expected 4 bits in the layout gemm"),
        ("bitsandbytes", {}, "quantised by 'bitsandbytes', which is not read here"),
    ],
)
def test_others_are_refused(method: str, settings: dict, message: str, tmp_path: Path) -> None:
    write(tmp_path, method, 64, **settings)
    with pytest.raises(UnsupportedModel, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("part", ["qweight", "qzeros", "scales", "g_idx"])
def test_parts_that_do_not_fit(part: str, tmp_path: Path) -> None:
    write(tmp_path, "gptq", 64)
    file = tmp_path / "model.safetensors"
    tensors = {name: value.numpy() for name, value in safetensors.load_file(file).items()}
    name = f"model.layers.0.self_attn.q_proj.{part}"
    tensors[name] = tensors[name][:-1]
    safetensors.save_file(tensors, file)
    with pytest.raises(FileFormatError, match="q_proj: "):
        load_model(tmp_path)
