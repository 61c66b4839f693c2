"""The plugin on MLX: what it computes whole is what the composed definitions give; packed weights;
and the kernels for a Metal GPU, where there is one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import backends
from gradient.backends import process
from gradient.backends.process.overrides import OVERRIDES
from gradient.backends.process.protocol import PluginMemoryError
from gradient.dtypes import PACKED
from gradient.quantization import quantize
from gradient.tensor import Tensor
from support.backend_table import BARE, CASES, Draw, call

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(
        importlib.util.find_spec("mlx") is None, reason='MLX is not installed (extra "metal")'
    ),
]

ROWS = [(name, i) for name in sorted(OVERRIDES) for i in range(len(CASES[name]))]
EPS = {"float32": 1.2e-7, "float16": 9.8e-4, "bfloat16": 7.8e-3}
EXACT = ("philox", "relu")


@pytest.mark.parametrize("dtype", list(EPS))
@pytest.mark.parametrize(("method", "case"), ROWS)
def test_overrides_give_what_their_definitions_give(method: str, case: int, dtype: str) -> None:
    arguments = CASES[method][case]
    expected = call(BARE, method, arguments(Draw(dtype)))
    got = call(backends.get("metal"), method, arguments(Draw(dtype)))
    limit = 0 if method in EXACT else 64 * EPS[dtype]
    for x, y in zip(got, expected, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        scale = float(
            np.abs(y.astype(np.float64))[np.isfinite(y.astype(np.float64))].max(initial=1)
        )
        np.testing.assert_allclose(
            x.astype(np.float64), y.astype(np.float64), rtol=limit, atol=limit * scale
        )


def half(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (3 * rng.standard_normal(shape)).astype(gradient.bfloat16.numpy)


@pytest.mark.parametrize(
    ("method", "options"),
    [("layer_norm", (1e-5,)), ("rms_norm", (1e-5, False)), ("rms_norm", (1e-5, True))],
)
def test_norms_of_16_bit_floats_are_rounded_where_they_should_be(
    method: str, options: tuple[Any, ...]
) -> None:
    """Once, at the end; or before the weight, too, where that is asked for. (MLX's own functions
    always round before the weight.)"""
    rng = np.random.default_rng(0)
    arrays = [half(rng, 50, 64), half(rng, 64), half(rng, 64)][: 3 if method == "layer_norm" else 2]
    found = []
    for place in ("bare", "metal"):
        backend: Any = backends.get(place)
        out, *_ = getattr(backend, method)(*map(backend.asarray, arrays), *options)
        found.append(backend.to_numpy(out).astype(np.float32))
    assert (found[0] == found[1]).mean() > 0.999


def test_every_override_is_asked_of_the_plugin() -> None:
    backend: Any = backends.get("metal")
    assert set(OVERRIDES) <= backend.client.ops
    assert all(name in vars(type(backend)) for name in OVERRIDES)


@pytest.mark.parametrize("name", [dtype.name for dtype in PACKED])
@pytest.mark.parametrize("rows", [1, 5])
def test_packed_weights(name: str, rows: int, exact_products: None) -> None:
    """Those that MLX multiplies, and others, which are unpacked: values and gradients."""
    weight = quantize(gradient.randn(48, 512), name)
    inputs = gradient.randn(rows, 512)
    found = []
    for place in ("cpu", "metal"):
        x = inputs.clone().to(place).requires_grad_()
        y = F.linear(x, weight.to(place))
        y.square().sum().backward()
        assert x.grad is not None
        found.append((y.detach().cpu().numpy(), x.grad.cpu().numpy()))
    for got, expected in zip(*found[::-1], strict=True):
        assert np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max() * 512**0.5


def test_rows_that_are_no_multiple_of_what_mlx_takes(exact_products: None) -> None:
    weight = quantize(gradient.randn(48, 100), "int8_channel")
    x = gradient.randn(3, 100)
    expected = F.linear(x, weight)
    found = F.linear(x.to("metal"), weight.to("metal")).cpu()
    assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()


def test_packed_weights_are_prepared_once_and_forgotten(exact_products: None) -> None:
    """MLX's layout of a weight lives as long as the weight: memory comes back."""
    backend: Any = backends.get("metal")
    x = gradient.ones(1, 512, device="metal")
    backend.synchronize()
    before = backend.statistics()
    for _ in range(3):
        weight = quantize(gradient.ones(64, 512), "q4_0").to("metal")
        assert F.linear(x, weight)[0, 0].item() == pytest.approx(512, rel=1e-3)
        del weight
    backend.synchronize()
    assert backend.statistics()["arrays"] <= before["arrays"]


def test_out_of_memory() -> None:
    """MLX ends its process where memory is not to be had: it is not asked for."""
    backend: Any = backends.get("metal")
    x = gradient.arange(1 << 20, dtype=gradient.float32, device="metal")
    y = x.unsqueeze(0) + x.unsqueeze(1)  # 4 TiB
    with pytest.raises(PluginMemoryError, match="4398046511104 bytes are more than the device's"):
        y[:2, 3].tolist()
    assert x[:3].tolist() == [0, 1, 2]
    backend.limit_memory(backend.statistics()["bytes"] + (1 << 20))
    with pytest.raises(PluginMemoryError, match="add: MemoryError: 4194304 bytes more would be"):
        (x + 1)[0].item()
    backend.limit_memory(None)
    assert (x + 1)[0].item() == 1


COUNTING = """
import gc
from gradient.backends.metal.bounds import Check
from gradient.backends.metal.plugin import MLXPlugin, main

class Counting(MLXPlugin):
    def used(self):
        return sum(isinstance(x, Check) for x in gc.get_objects())

main(Counting)
"""


def test_checks_of_indices_are_freed_once_they_are_resolved(tmp_path: Path) -> None:
    """The plugin frees the check of an index, with its arrays, once its result is known."""
    script = tmp_path / "counting.py"
    script.write_text(COUNTING)
    backend = process.open_backend("counting", [sys.executable, str(script)])
    x = Tensor._wrap(backend.asarray(np.zeros(8, np.float32)), backend)
    for _ in range(5):
        index = Tensor._wrap(backend.asarray(np.arange(4)), backend)
        x[index] = 1.0
        x.add_(x[index].sum())
    assert backend.statistics()["bytes"] > 0
    backend.synchronize()
    assert backend.statistics()["bytes"] == 0
    backend.close()


def test_arrays_without_values_have_the_dtype_and_shape_asked_for() -> None:
    from gradient.backends.metal.memory import uninitialized
    from gradient.backends.process.numpy_plugin import DTYPES

    for name, dtype in DTYPES.items():
        if name != "bfloat16":  # which comes as uint16
            x = uninitialized(dtype, (2, 3, 5000))
            shown = np.array(x, copy=False)
            assert (shown.shape, shown.dtype) == ((2, 3, 5000), dtype)
            shown[...] = 1  # the memory is the array's own
            assert x.sum().item() == 30000 and x[1, 2, 4999].item() == 1


@pytest.mark.parametrize("name", ["q4_k", "q6_k"])
def test_metal_kernels_agree_with_their_composed_twins(name: str) -> None:
    kernels = pytest.importorskip("gradient.backends.metal.kernels")
    if not kernels.available():
        pytest.skip("no Metal GPU: kernels run on a Mac alone (docs/plugin-protocol.md)")
    import mlx.core as mx

    from gradient.backends.metal import quantized

    weight = quantize(gradient.randn(50, 1024), name)
    blocks = mx.array(weight.array.parts[0])
    x = mx.random.normal((3, 1024))
    (expected,) = quantized._unpacked_product(name, True)(x, blocks)
    np.testing.assert_allclose(kernels.product(name, x, blocks), expected, rtol=1e-4, atol=1e-3)
