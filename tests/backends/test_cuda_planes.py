"""Packed weights as a GPU keeps them: the same bytes in another order, which nobody else sees."""

from __future__ import annotations

import copy
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.backends.cuda.planes import LAYOUTS
from gradient.backends.packed import PackedArray, parts_of
from gradient.checkpoints.gguf.save import save_gguf
from gradient.checkpoints.loading import load_model
from gradient.io import load_file, save_file
from gradient.models.llama import LlamaConfig, LlamaForCausalLM
from gradient.nn import functional as F  # noqa: N812
from gradient.quantization import packed_tensor, quantize, quantize_
from support import fake_cupy, fake_device

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]


@pytest.fixture(autouse=True)
def _gpu() -> Iterator[None]:
    with fake_device.as_cuda():
        fake_cupy.waits.clear()
        fake_cupy.uploads.clear()
        yield
    fake_cupy.waits.clear()
    fake_cupy.uploads.clear()


def weight(name: str, *shape: int) -> gradient.Tensor:
    return quantize(gradient.randn(*shape), name)


def same_blocks(a: gradient.Tensor, b: gradient.Tensor) -> bool:
    """Whether two tensors of the CPU have the same parts, to the last bit."""
    pairs = zip(parts_of(a.array), parts_of(b.array), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("shape", [(3, 256), (2, 5, 512), (0, 256), (1, 768)], ids=str)
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_weight_comes_and_goes(name: str, shape: tuple[int, ...]) -> None:
    w = weight(name, *shape)
    there = w.to("cuda")
    assert there.array.layout is LAYOUTS[name] and w.array.layout is None
    assert there.dtype is w.dtype and there.shape == w.shape
    assert sum(part.nbytes for part in there.array.parts) == there.nbytes == w.nbytes
    assert [size for size, _ in fake_cupy.uploads] == [w.nbytes]
    assert fake_cupy.waits == []
    assert all(part.flags.c_contiguous for part in there.array.parts)
    assert same_blocks(there.cpu(), w)
    copied = there.to("cpu", non_blocking=True)
    gradient.cuda.synchronize()
    assert same_blocks(copied, w)
    np.testing.assert_array_equal(there.dequantize().cpu().numpy(), w.dequantize().numpy())
    assert there.equal(w.to("cuda")) and there.clone().equal(there)
    assert same_blocks(copy.deepcopy(there).cpu(), w)
    again = pickle.loads(pickle.dumps(there))
    assert again.device == there.device and again.array.layout is LAYOUTS[name]
    assert same_blocks(again.cpu(), w)
    half = there.dequantize(gradient.float16).cpu()
    np.testing.assert_array_equal(half.numpy(), w.dequantize(gradient.float16).numpy())


@pytest.mark.parametrize("name", LAYOUTS)
def test_rows_of_it(name: str) -> None:
    w = weight(name, 7, 512)
    there, picked = w.to("cuda"), gradient.tensor([6, 0, 6])
    assert same_blocks(there[2:5].cpu(), w[2:5])
    assert same_blocks(there[4].cpu(), w[4])
    rows = F.embedding(picked.to("cuda"), there)
    np.testing.assert_array_equal(rows.cpu().numpy(), F.embedding(picked, w).numpy())
    assert there[picked.to("cuda")].array.layout is LAYOUTS[name]


@pytest.mark.parametrize("rows", [1, 3, 70])
@pytest.mark.parametrize("name", LAYOUTS)
def test_blocks_that_were_made_there_are_read_alike(name: str, rows: int) -> None:
    """As a backend's own `pack` gives them: they are taken apart once, beside the blocks."""
    w, x = weight(name, 5, 512), gradient.randn(rows, 512).to("cuda")
    there = w.to("cuda")
    be: Any = there.backend
    blocks = PackedArray(w.array.dtype, w.array.shape, tuple(map(be.asarray, w.array.parts)))
    got = be.quantized_matmul(x.array, blocks)
    kept = blocks.prepared(be.arranged)
    assert kept.layout is LAYOUTS[name]
    assert be.readable(blocks) is kept and be.readable(kept) is kept
    expected = be.quantized_matmul(x.array, there.array)
    np.testing.assert_array_equal(be.to_numpy(got), be.to_numpy(expected))
    g = gradient.randn(rows, 5).to("cuda").array
    np.testing.assert_array_equal(
        be.to_numpy(be.quantized_matmul_grad(g, blocks)),
        be.to_numpy(be.quantized_matmul_grad(g, there.array)),
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_blocks_are_written_over(name: str) -> None:
    w, other = weight(name, 4, 256), weight(name, 4, 256)
    for start, given in (("cuda", "cpu"), ("cuda", "cuda"), ("cpu", "cuda")):
        to = w.clone().to(start)
        to.copy_(other.to(given))
        assert same_blocks(to.cpu(), other)


@pytest.mark.parametrize("name", LAYOUTS)
def test_files_get_the_blocks(name: str, tmp_path: Path) -> None:
    w = weight(name, 4, 256)
    save_file({"w": w.to("cuda")}, tmp_path / "w.safetensors")
    assert same_blocks(load_file(tmp_path / "w.safetensors")["w"], w)
    layer = nn.Linear(256, 4, bias=False)
    quantize_(layer, name)
    before = layer.weight.detach().clone()
    layer.to("cuda")
    assert same_blocks(layer.state_dict()["weight"].cpu(), before)
    made = quantize(layer.weight.dequantize(), name)  # packed where it is
    assert made.array.layout is LAYOUTS[name]
    assert packed_tensor(w.array.parts, name, (4, 256), "cuda").array.layout is LAYOUTS[name]


@pytest.mark.parametrize("name", ["q8_0", "q6_k"])
def test_a_model_on_a_gpu_is_saved_as_one_on_the_cpu(name: str, tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=32, hidden_size=256, intermediate_size=256, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    model = quantize_(LlamaForCausalLM(config), name)
    save_gguf(model, tmp_path / "cpu.gguf")
    save_gguf(model.to("cuda"), tmp_path / "cuda.gguf")
    assert (tmp_path / "cuda.gguf").read_bytes() == (tmp_path / "cpu.gguf").read_bytes()
    there = load_model(tmp_path / "cpu.gguf", device="cuda")
    ids = gradient.tensor([[1, 2, 3]], device="cuda")
    assert there(ids).equal(model(ids))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", ["nf4", "iq4_nl", "iq4_xs", "mxfp4"])
def test_what_codes_stand_for_is_not_uploaded(name: str, rows: int) -> None:
    """It goes with each launch, so that no stream meets it before it has come."""
    there, x = weight(name, 5, 256).to("cuda"), gradient.randn(rows, 256).to("cuda")
    fake_cupy.uploads.clear()
    F.linear(x, there)
    there.dequantize()
    assert fake_cupy.uploads == []
