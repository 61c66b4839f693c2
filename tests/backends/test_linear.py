"""`linear` on the CPU: the kernels that read a weight of 32 or 16 bits as it is stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradient import backends
from gradient.backends.numpy import gemm, kernels, linear
from gradient.dtypes import bfloat16, float16, float32

pytestmark = pytest.mark.cpu_only

EVERY = bfloat16.numpy, float16.numpy, float32.numpy
FLOATS = [dtype for dtype in EVERY if kernels.computes(dtype)]
"""Without an instruction for its conversion, float16 is left to the default."""
DTYPES = pytest.mark.parametrize("dtype", FLOATS, ids=str)
UNITS = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}
"""Half a unit in the last place, of a number."""


def draw(rng: np.random.Generator, dtype: np.dtype, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32).astype(dtype)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def numba() -> None:
    pytest.importorskip("numba")


@DTYPES
@pytest.mark.parametrize("k", [3, 16, 17, 31, 32, 67, 768])
@pytest.mark.parametrize("n", [1024, 1031])
@pytest.mark.parametrize("rows", [1, 2, 9, 14, 31])
def test_product_is_rounded_once(
    dtype: np.dtype, rows: int, n: int, k: int, rng: np.random.Generator, monkeypatch: Any
) -> None:
    monkeypatch.setattr(kernels, "MIN_SIZE", 1)
    x, weight, bias = draw(rng, dtype, rows, k), draw(rng, dtype, n, k), draw(rng, dtype, n)
    assert linear.takes(weight, x, bias) or gemm.takes_linear(x, weight, bias)
    got = backends.get("cpu").linear(x, weight, bias).astype(np.float64)
    exact = x.astype(np.float64) @ weight.astype(np.float64).T + bias.astype(np.float64)
    # One rounding, and what the float32 sums of k products may be off.
    terms = np.abs(x.astype(np.float64)) @ np.abs(weight.astype(np.float64)).T
    error = UNITS[str(dtype)] * np.abs(exact) + k * 2.0**-24 * terms
    assert (np.abs(got - exact) <= error).all()


@pytest.mark.parametrize("k", [3, 16, 31, 67, 800])
@pytest.mark.parametrize("rows", [1, 2, 9, 14, 47, 100])
@pytest.mark.parametrize("way", ["tiles", "pairs", "floats"])
def test_each_way_to_multiply_bfloat16(
    way: str, rows: int, k: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x and W as they are, where the processor has an instruction for that, or in float32."""
    if way == "tiles" and kernels.load("cpu").PATH != "amx":
        pytest.skip("this processor has no tiles")
    if way != "tiles":
        monkeypatch.setattr(kernels.load("cpu"), "PATH", "avx512vnni")
    dtype, be = bfloat16.numpy, backends.get("cpu")
    x, weight, bias = draw(rng, dtype, 100, k), draw(rng, dtype, 1031, k), draw(rng, dtype, 1031)
    exact = x.astype(np.float64) @ weight.astype(np.float64).T + bias.astype(np.float64)
    terms = np.abs(x.astype(np.float64)) @ np.abs(weight.astype(np.float64)).T
    monkeypatch.setattr(linear, "_multiplies_pairs", lambda: way == "pairs")
    together = be.linear(x, weight, bias)
    error = 2.0**-8 * np.abs(exact) + k * 2.0**-23 * terms
    assert (np.abs(together.astype(np.float64) - exact) <= error).all()
    np.testing.assert_array_equal(be.linear(x[-rows:], weight, bias), together[-rows:])


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_the_instruction_for_bfloat16(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """LLVM compiles it for processors that have it, which this one need not; twice, as kernels use
    it more than once."""
    from llvmlite import binding, ir

    own = kernels.load("instructions")
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    monkeypatch.setattr(kernels.load("cpu"), "MULTIPLIES_BFLOAT16", True)
    module, floats = ir.Module(), ir.VectorType(own.F32, lanes)
    module.triple = "x86_64-linux-gnu"
    pairs = ir.VectorType(own.I32, lanes)
    function = ir.Function(module, ir.FunctionType(floats, [floats, pairs, pairs]), "products")
    builder = ir.IRBuilder(function.append_basic_block())
    total, x, w = function.args
    builder.ret(own.bfloat16_dot(builder, own.bfloat16_dot(builder, total, x, w), x, w))
    machine = binding.Target.from_triple(module.triple).create_target_machine(
        cpu="cooperlake", opt=2
    )
    assembly = machine.emit_assembly(binding.parse_assembly(str(module)))
    assert assembly.count("vdpbf16ps") == 2


@DTYPES
@pytest.mark.parametrize("shape", [(512, 2048), (1031, 83), (64, 300)])
def test_rows_do_not_depend_on_their_number(
    dtype: np.dtype, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    be = backends.get("cpu")
    weight, x = draw(rng, dtype, *shape), draw(rng, dtype, 500, shape[1])
    together = be.linear(x, weight)
    for start, count in [(0, 1), (5, 2), (7, 3), (20, 4), (1, 5), (3, 11), (40, 97), (9, 485)]:
        some = slice(start, start + count)
        np.testing.assert_array_equal(be.linear(x[some], weight), together[some])
    np.testing.assert_array_equal(be.linear(x[0], weight), together[0])


@DTYPES
def test_neighbouring_rows_do_not_leak(dtype: np.dtype, rng: np.random.Generator) -> None:
    """The last, partial vector of a row must not read the next row's numbers."""
    weight, x = draw(rng, dtype, 600, 37), draw(rng, dtype, 5, 37)
    expected = backends.get("cpu").linear(x, weight)
    weight[1::2], x[1::2] = np.nan, np.inf
    got = backends.get("cpu").linear(x, weight)
    np.testing.assert_array_equal(got[::2, ::2], expected[::2, ::2])
    assert np.isnan(got[:, 1::2]).all()


@DTYPES
def test_other_layouts_are_left_to_the_default(dtype: np.dtype, rng: np.random.Generator) -> None:
    weight, x = draw(rng, dtype, 256, 128), draw(rng, dtype, 2, 128)
    expected = backends.get("cpu").linear(x, weight).astype(np.float32)
    for other in (np.asfortranarray(weight), np.repeat(weight, 2, 0)[::2]):
        assert not linear.takes(other, x, None)
        got = backends.get("cpu").linear(x, other).astype(np.float32)
        np.testing.assert_allclose(got, expected, rtol=2.0**-7, atol=1e-2)
    assert linear.takes(weight, x[:, ::-1], None)  # rows of x are copied anyway


@DTYPES
@pytest.mark.parametrize("special", [np.nan, np.inf, 3e38, 1e-40])
def test_special_numbers_are_rounded_as_numpy_rounds_them(dtype: np.dtype, special: float) -> None:
    weight = np.eye(160, dtype=dtype)
    x = np.ones((20, 160), dtype)
    with np.errstate(all="ignore"):
        x[3], x[5] = special, -special
        exact = (x.astype(np.float32) @ weight.astype(np.float32).T).astype(dtype)
    if dtype == bfloat16.numpy and kernels.load("cpu").PATH in ("avx512bf16", "amx"):
        exact[np.abs(exact) < 2.0**-126] = 0  # as the processor takes them
    got = backends.get("cpu").linear(x, weight)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.astype(np.float32), exact.astype(np.float32))
