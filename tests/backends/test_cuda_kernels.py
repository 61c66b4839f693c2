"""The CUDA kernels, run on the CPU, give what the composed defaults give.

`support.cuda_emulation` runs them: the same .cu files, one fiber a thread. What it does not cover
is said in `cuda_emulator/emulator.h`; `test_cuda_compilation` compiles them for GPUs.
"""

from __future__ import annotations

import functools
import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradient.backends.base import Backend
from gradient.backends.cuda import convolution_products, convolution_tiles, kernels, quantized
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.options import (
    AdamWOptions,
    AttentionOptions,
    ConvolutionOptions,
    LionOptions,
    PoolingOptions,
    RMSpropOptions,
    SGDOptions,
)
from gradient.backends.packed import PackedArray
from support import backend_table, cuda_emulation
from support.agreement import EPS, agree
from support.array_backends import BareBackend
from support.backend_table import (
    BARE,
    CACHED,
    CASES,
    LAYOUTS,
    Draw,
    cached_attention,
    call,
    case_of,
    packed,
)
from support.cuda_emulation import ORDERS, EmulatedRuntime

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

FAMILIES = {
    f"gradient.backends.cuda.{name}"
    for name in (
        "attention",
        "cached_attention",
        "cache_updates",
        "batch_norm",
        "convolution",
        "convolution_products",
        "convolution_tiles",
        "copies",
        "cross_entropy",
        "depthwise",
        "draws",
        "elementwise",
        "extremes",
        "feedback",
        "flash_attention",
        "float32_attention",
        "grouped",
        "indexed",
        "norms",
        "optimizers",
        "pooling",
        "products",
        "quantized",
        "row_products",
        "scaled_products",
        "sorting",
        "sums",
        "tiled_attention",
    )
}


def overrides() -> list[str]:
    """The methods of `CudaBackend` that kernels override."""
    return sorted(
        name
        for name in dir(Backend)
        if getattr(getattr(CudaBackend, name), "__module__", "") in FAMILIES
        and not name.startswith("_")
    )


DTYPES = tuple(EPS)


def beside(x: Any, off: int) -> Any:
    """A copy that begins `off` elements behind a multiple of 16 bytes."""
    memory = np.zeros(x.size + 32, x.dtype)
    start = -(memory.ctypes.data // x.itemsize) % (16 // x.itemsize) + off
    out = memory[start : start + x.size].reshape(x.shape)
    out[...] = x
    return out


def moved(x: Any) -> Any:
    """An argument, of which each array begins one element behind a multiple of 16 bytes."""
    if isinstance(x, PackedArray):
        return PackedArray(x.dtype, x.shape, moved(x.parts), x.float_dtype, x.layout)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*map(moved, x))
    if isinstance(x, (list, tuple)):
        return type(x)(map(moved, x))
    return beside(x, 1) if isinstance(x, np.ndarray) and x.size else x


NAMES_OF_ORDERS = ("rising", "falling", "mixed")


@functools.cache
def in_orders() -> dict[str, CudaBackend]:
    """The backend over kernels on the CPU, whose warps run in one order or another."""
    backends = (CudaBackend(0, EmulatedRuntime(order)) for order in ORDERS)
    return dict(zip(NAMES_OF_ORDERS, backends, strict=True))


@pytest.fixture(scope="module", params=NAMES_OF_ORDERS)
def cuda(request: pytest.FixtureRequest) -> CudaBackend:
    return in_orders()[request.param]


@pytest.fixture
def one() -> CudaBackend:
    return CudaBackend(0, EmulatedRuntime())


def test_every_kernel_is_of_a_family_that_is_tested():
    of_backend = {kind.__module__ for kind in CudaBackend.__mro__}
    found = {name for name in of_backend if name.startswith("gradient.backends.cuda.")}
    # What chains of plans become has no definition, and tests of its own (`test_cuda_fused`), nor
    # has what a decoder's rotation and attention become (`test_cuda_rope_attention`).
    names = ("assignment", "backend", "launching", "fused", "rope_attention")
    others = {f"gradient.backends.cuda.{name}" for name in names}
    assert found - others == FAMILIES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", overrides())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_kernel(method: str, dtype: str, one: CudaBackend) -> None:
    for case, arguments in enumerate(CASES[method]):
        with case_of(method, case):
            expected = call(BARE, method, arguments(Draw(dtype, rows=37)))
            agree(call(one, method, arguments(Draw(dtype, rows=37))), expected, dtype, method)


@pytest.mark.slow
@pytest.mark.parametrize("method", overrides())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_kernel_in_any_order(method: str) -> None:
    for case, arguments in enumerate(CASES[method]):
        expected = call(BARE, method, arguments(Draw("float32", rows=11)))
        for order, be in in_orders().items():
            with case_of(method, f"{case}, {order}"):
                got = call(be, method, arguments(Draw("float32", rows=11)))
                agree(got, expected, "float32", method)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "contiguous"])
@pytest.mark.parametrize("method", overrides())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_layout(method: str, layout: str, one: CudaBackend) -> None:
    for case, arguments in enumerate(CASES[method]):
        if (method, layout) == ("put_along", "reversed") and not arguments(Draw("float32"))[-1]:
            continue  # NumPy writes backwards, so that of several numbers the first stays
        with case_of(method, case):
            expected = call(BARE, method, arguments(Draw("float32", layout)))
            got = call(one, method, arguments(Draw("float32", layout)))
            agree(got, expected, "float32", method)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", overrides())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_arrays_that_begin_between_two_multiples_of_16_bytes(
    method: str, dtype: str, one: CudaBackend
) -> None:
    """As a part of a larger array does: whatever a kernel loads at a time must be aligned to it,
    which the emulator checks."""
    for case, arguments in enumerate(CASES[method]):
        with case_of(method, case):
            expected = call(BARE, method, arguments(Draw(dtype)))
            agree(call(one, method, moved(arguments(Draw(dtype)))), expected, dtype, method)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", overrides())
def test_the_kernel_runs(method: str, dtype: str, one: CudaBackend) -> None:
    """Nothing is left to the default, which would be compared with itself above."""
    call(one, method, CASES[method][0](Draw(dtype)))
    assert one.runtime.launched or one.runtime.copied


@pytest.mark.parametrize("method", overrides())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_arrays_of_nothing(method: str, one: CudaBackend) -> None:
    for case, arguments in enumerate(CASES[method]):
        with case_of(method, case):
            try:
                expected = call(BARE, method, arguments(Draw("float32", rows=0)))
            except (ValueError, IndexError) as error:
                with pytest.raises(type(error)):
                    call(one, method, arguments(Draw("float32", rows=0)))
            else:
                got = call(one, method, arguments(Draw("float32", rows=0)))
                agree(got, expected, "float32", method)


WIDTHS = [(50, 50), (70, 80), (128, 96), (192, 128), (256, 250)]
"""Of keys and values: a kernel is compiled for 64, 128 and 256 columns."""
TILED_WIDTHS = [(24, 32), (64, 56), (96, 96), (256, 248)]
"""Other ones that tensor cores' kernels are compiled for (`test_cuda_flash_attention`)."""


def wide_attention(
    be: Any, dtype: str, width: int, value_width: int, queries: int = 3
) -> list[np.ndarray]:
    """Attention and its gradients: few queries of many keys, which several blocks share."""
    a = Draw(dtype)
    q, k, v = a(1, 4, queries, width), a(1, 2, 300, width), a(1, 2, 300, value_width)
    g, options = a(1, 4, queries, value_width), AttentionOptions(scale=width**-0.5)
    out, high, log_sum = be.attention(q, k, v, None, options)
    grads = be.attention_grad(g, q, k, v, out, high, log_sum, None, options)
    return [out, high, log_sum, *(grad.astype(q.dtype) for grad in grads)]  # as the engine does


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("width", "value_width"), WIDTHS)
def test_wide_heads(width: int, value_width: int, dtype: str, one: CudaBackend) -> None:
    got, expected = (wide_attention(be, dtype, width, value_width) for be in (one, BARE))
    agree(got, expected, dtype, "attention")


def wide_cache(be: Any, dtype: str, width: int, queries: int = 1) -> list[np.ndarray]:
    """A step of heads of this width, over a cache whose values are codes."""
    q, keys, values, slots, how = cached_attention(
        "static", queries, heads=(4, 2), size=width, codecs=("float", "int8")
    )(Draw(dtype))
    return [be.cached_attention(q, keys, values, slots, how)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [96, 256])
def test_wide_heads_over_a_cache(width: int, dtype: str, one: CudaBackend) -> None:
    agree(*(wide_cache(be, dtype, width) for be in (one, BARE)), dtype, "cached_attention")


def test_a_cache_is_read_where_it_lies(one: CudaBackend) -> None:
    """Of keys in a larger array only the strides are given on: no copy is made."""
    a = Draw("bfloat16")
    q, cache = a(2, 4, 1, 16), a(2, 2, 500, 16)
    whole = cache[:, :, 7:407]
    options = AttentionOptions(scale=0.25)
    copies: list[Any] = []
    one.contiguous = lambda x: copies.append(x) or np.ascontiguousarray(x)  # type: ignore[method-assign,func-returns-value]
    got = one.attention(q, whole, whole, None, options)
    assert all(x.size < whole.size for x in copies)
    agree(list(got), list(BARE.attention(q, whole, whole, None, options)), "bfloat16", "attention")


def kernel_of(launched: str) -> str:
    """A kernel's name without its dtype."""
    return launched.rpartition("_")[0]


FORMATS = sorted(quantized.FAMILIES)


def few_rows(be: Any, dtype: str, name: str, rows: int, columns: int = 768) -> list[np.ndarray]:
    """Products of a few rows with a packed matrix of several steps of a warp, and a bias."""
    a = Draw(dtype)
    weight = packed(a, name, 5, columns)
    return [be.linear(a(rows, columns), weight, bias) for bias in (None, a(5))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 9, 16, 17])
@pytest.mark.parametrize("name", FORMATS)
def test_packed_products(name: str, rows: int, dtype: str, one: CudaBackend) -> None:
    got, expected = (few_rows(be, dtype, name, rows) for be in (one, BARE))
    agree(got, expected, dtype, "linear")
    by_codes = rows <= 16 and dtype in ("float32", "float64")
    assert len(one.runtime.launched) == (2 if rows == 1 or by_codes else 4)


@pytest.mark.parametrize("outputs", [5, 64, 150])
@pytest.mark.parametrize("rows", [2, 8, 33, 64, 65])
def test_packed_products_by_tensor_cores(rows: int, outputs: int, cuda: CudaBackend) -> None:
    """Of several blocks and parts, the last of them not filled."""
    for dtype, name in (("bfloat16", "q4_k"), ("float16", "q6_k"), ("bfloat16", "int8_channel")):
        a = Draw(dtype)
        weight, x, bias = packed(a, name, outputs, 768), a(2, rows, 768)[0], a(outputs)
        for added in (None, bias):
            agree([cuda.linear(x, weight, added)], [BARE.linear(x, weight, added)], dtype, name)
    by_tensor_cores = [name for name in cuda.runtime.launched[-2:] if "batch" in name]
    assert bool(by_tensor_cores) == (rows <= 64)


def test_a_product_by_tensor_cores_in_one_part(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradient.backends.cuda.quantized.FILLING", 1)
    got, expected = (few_rows(be, "bfloat16", "q5_0", 7) for be in (one, BARE))
    agree(got, expected, "bfloat16", "linear")
    assert one.runtime.launched == ["q5_0_batch_bfloat16"] * 2


@pytest.mark.parametrize("columns", [1, 3, 4, 8, 70, 255, 258, 264, 1036])
def test_packed_rows_of_any_length(columns: int, cuda: CudaBackend) -> None:
    for rows, dtype in ((2, "float32"), (20, "float32"), (2, "float16"), (20, "bfloat16")):
        got, expected = (few_rows(be, dtype, "int8_channel", rows, columns)
                         for be in (cuda, BARE))  # fmt: skip
        agree(got, expected, dtype, "linear")


def test_a_matrix_of_more_weights_than_kernels_count_is_left_to_the_default(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in (("COUNTED", 5 * 768), ("MOST_COLUMNS", 768)):
        with monkeypatch.context() as limited:
            limited.setattr(quantized, name, most)
            got, expected = (few_rows(be, "float32", "q4_0", 2) for be in (one, BARE))
            agree(got, expected, "float32", "linear")
    assert not any("product" in name or "unpack" in name for name in one.runtime.launched)


def test_parts_at_odd_places_are_moved(one: CudaBackend) -> None:
    """Kernels read codes by words: those of a slice of an array may begin anywhere."""
    weight = packed(Draw("float32"), "int4_group32", 7, 64)
    memory = np.empty(weight.parts[0].size + 2, np.uint8)
    moved = memory[2:].reshape(weight.parts[0].shape)
    moved[...] = weight.parts[0]
    other = PackedArray(weight.dtype, weight.shape, (moved, *weight.parts[1:]))
    np.testing.assert_array_equal(one.unpack(other), one.unpack(weight))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMATS)
def test_rows_of_a_packed_embedding_are_one_launch(name: str, dtype: str, one: CudaBackend) -> None:
    numbers = Draw(dtype)(1).dtype
    stored = packed(Draw("float32"), name, 11, 512).with_float_dtype(numbers)
    weight = one.arranged(stored)
    for index in (np.array([[3, -1], [10, 3]]), np.arange(12)[::4], np.array(5)):
        one.runtime.launched.clear()
        got = one.embedding(weight, index)
        np.testing.assert_array_equal(got, one.unpack(stored, numbers)[index])
        assert got.dtype == numbers
        assert one.runtime.launched[0] == f"{quantized.FAMILIES[name]}_unpack_{dtype}"
        assert len(one.runtime.launched) == 2  # and that of the expected rows
    assert one.embedding(weight, np.zeros((0, 3), np.int64)).shape == (0, 3, 512)
    np.testing.assert_array_equal(
        one.embedding(stored, np.array([3, 10])), one.embedding(weight, np.array([3, 10]))
    )


def test_an_index_out_of_range_of_a_packed_embedding_is_told_later(one: CudaBackend) -> None:
    weight = one.arranged(packed(Draw("float32"), "q4_0", 11, 64))
    rows = one.unpack(weight)
    for index in (11, -12, -(2**62)):
        found = one.embedding(weight, np.array([2, index, 3]))
        np.testing.assert_array_equal(found[[0, 2]], rows[[2, 3]])
        with pytest.raises(IndexError, match="out of range"):
            one.to_numpy(found)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinity_and_nan_in_packed_products(one: CudaBackend) -> None:
    for name in FORMATS:
        for dtype in ("float32", "float16"):
            x = Draw(dtype)(3, 256)
            x[0, 9], x[1, 200] = np.inf, np.nan
            weight = packed(Draw("float32"), name, 4, 256)
            got, expected = (be.quantized_matmul(x, weight) for be in (one, BARE))
            agree([got], [expected], dtype, name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_packed_matrix_that_is_unpacked_a_few_rows_at_a_time(
    dtype: str, one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient is a sum over its rows, which is not rounded in between."""
    weight = packed(Draw("float32"), "q4_0", 300, 64)
    x, g = Draw(dtype)(2, 40, 64), Draw(dtype)(2, 40, 300, low=0.5, high=1.0)
    whole = one.quantized_matmul(x, weight), one.quantized_matmul_grad(g, weight)
    monkeypatch.setattr("gradient.backends.cuda.quantized.UNPACKED", 3 * 64)
    got = one.quantized_matmul(x, weight), one.quantized_matmul_grad(g, weight)
    agree(list(got), list(whole), dtype, "quantized_matmul")


SUMMED = [
    # a shape, and axes: in parts, in several runs, of one column, of rows and columns at odd places
    *(
        ((700, 5), 0),
        ((130, 300), 0),
        ((130, 304), 0),
        ((3, 9000), 1),
        ((9000,), None),
        ((2, 70001), 1),
    ),
    *(
        ((4, 6, 33, 7), (0, 2)),
        ((4, 6, 33, 7), (1, 3)),
        ((5, 1, 300), (1, 2)),
        ((40, 3, 5), (0, 2)),
    ),
    *(
        ((1, 1, 2000), 2),
        ((5000, 1), 0),
        ((600, 2, 3), 1),
        ((2, 3, 4), (0, 1, 2)),
        ((66000, 3, 2), 1),
        ((600, 7, 8), 1),
    ),
    # Folded, of which the last rows are no whole row of a warp's width.
    *(((50003, 3), 0), ((3, 4001, 5), 1), ((2001, 36), 0), ((13, 31), 0), ((2, 300, 64), 1)),
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_in_parts_and_over_several_axes(
    dtype: str, cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shape, axis in SUMMED:
        x = Draw(dtype)(*shape)
        got, expected = (be.sum(x, axis, True) for be in (cuda, BARE))
        size = np.prod(shape) // np.prod(expected.shape)
        bound = EPS[dtype] * np.abs(expected.astype(np.float64)) + 1e-6 * size
        assert got.dtype == x.dtype and got.shape == expected.shape
        assert (np.abs(got.astype(np.float64) - expected.astype(np.float64)) <= bound).all()
    assert {name.rsplit("_", 1)[0] for name in cuda.runtime.launched} >= (
        {"rows_parts", "columns_parts", "columns_join", "short_rows_parts", "small_tiles_sum"}
        if dtype.endswith("16")
        else {"rows_sum", "columns_sum", "short_rows_sum", "small_tiles_sum"}
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["max", "min"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_extremes_in_parts_and_over_several_axes(method: str, dtype: str, one: CudaBackend) -> None:
    for shape, axis in SUMMED:
        for odd in (None, np.nan, np.inf, -np.inf):
            x = Draw(dtype)(*shape)
            if odd is not None:
                x.flat[x.size // 3] = odd
            got, expected = (getattr(be, method)(x, axis, True) for be in (one, BARE))
            assert got.dtype == x.dtype
            np.testing.assert_array_equal(got.astype(np.float64), expected.astype(np.float64))
        if x.size < 10000:
            x[...] = -np.inf if method == "max" else np.inf
            np.testing.assert_array_equal(
                getattr(one, method)(x, axis), getattr(BARE, method)(x, axis)
            )


def test_a_copy_within_an_array_reads_before_it_writes(one: CudaBackend) -> None:
    x = Draw("float32")(9, 70)
    expected = x.copy()
    expected[:, 1:] = expected[:, :-1].copy()
    one.assign(x, (slice(None), slice(1, None)), x[:, :-1])
    np.testing.assert_array_equal(x, expected)


def strided(dtype: str) -> dict[str, np.ndarray]:
    """Arrays, by the kernel that copies them into one without gaps."""
    x = Draw(dtype)(6, 5, 2000)[..., :1999]
    return {
        "rows": x,
        "packs": x[::-1, :, :1992],
        "tiles": Draw(dtype)(3, 70, 90)[..., :81].swapaxes(1, 2),
        "elements": x[..., ::2],
        "cast": x[0, 0],
    }


@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_go_by_the_kernel_for_their_strides(
    dtype: str, target: str, one: CudaBackend
) -> None:
    for way, given in strided(dtype).items():
        one.runtime.copied.clear()
        out = np.empty(given.shape, target)
        one.assign(out, ..., given)
        np.testing.assert_array_equal(out, given.astype(target))
        is_same = way == "cast" and dtype == target
        assert one.runtime.copied == ["memcpy" if is_same else f"{way}_to_{target}_{dtype}"]


def test_bits_of_nan_and_zeros_are_copied_as_they_are(one: CudaBackend) -> None:
    bits = np.array([0x7F800001, 0xFFC00123, 0x80000000, 1] * 20, np.uint32).view(np.float32)
    for given in (bits, bits.reshape(20, 4).T, bits[::2]):
        got = one.copy(given)
        np.testing.assert_array_equal(got.view(np.uint32), np.array(given).view(np.uint32))


def test_planes_are_pooled_a_few_at_a_time(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradient.backends.cuda.pooling.COUNTED", 2 * 5 * 11 + 1)
    case = (Draw("float32")(7, 5, 11), PoolingOptions((3, 2), (2, 1), ((1, 1),) * 2, (1, 1), -9.0))
    (y, index), expected = one.max_pool(*case), BARE.max_pool(*case)
    agree([y, index], list(expected), "float32", "max_pool")
    given = Draw("float32")(*y.shape), index, case[0].shape, case[1]
    grads = [be.max_pool_grad(*given) for be in (one, BARE)]
    agree(grads[:1], grads[1:], "float32", "max_pool_grad")
    assert one.runtime.launched == ["max_pool_float32"] * 4 + ["max_pool_grad_float32"] * 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_that_a_block_keeps_in_registers(
    dtype: str, cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradient.backends.cuda.launching.MANY_ROWS", 2)
    for columns in (8, 264, 1040, 4104):
        x, g, w = (Draw(dtype)(3, columns), 2 * Draw(dtype)(3, columns), Draw(dtype)(columns))
        x[1, 5], x[2, :7] = np.inf, -np.inf
        for method, given in (
            ("softmax", (x, -1)), ("log_softmax", (x, -1)),
            ("softmax_grad", (g, x, -1)), ("log_softmax_grad", (g, x, -1)),
            ("layer_norm", (g, w, w, 1e-5)), ("rms_norm", (g, w, 1e-5)),
        ):  # fmt: skip
            cuda.runtime.launched.clear()
            got, expected = (call(be, method, given) for be in (cuda, BARE))
            agree(got, expected, dtype, method)
            is_short = columns * x.itemsize <= 512 * 64
            assert cuda.runtime.launched == [f"{method}{'_held' * is_short}_{dtype}"]
        for norm in ("layer_norm", "rms_norm"):
            _, *told = getattr(BARE, norm)(x[:1], *(None,) * (1 + (norm == "layer_norm")), 1e-5)
            grads = [getattr(be, f"{norm}_grad")(g[:1], x[:1], w, *told) for be in (cuda, BARE)]
            agree(list(grads[0]), list(grads[1]), dtype, f"{norm}_grad")


SLIDES = [
    # sizes, kernel, channels, stride, padding, dilation, groups: of 64 x 64 tiles, more than one
    ((9, 12), (3, 4), (5, 70), (2, 3), ((1, 2), (0, 4)), (2, 1), 1),
    ((7, 8), (2, 3), (66, 6), (1, 2), ((0, 1), (2, 2)), (1, 4), 2),  # taps that skip every other
    ((20,), (2,), (3, 6), (4,), ((3, 0),), (6,), 3),  # remainders that no tap meets
    ((6, 5), (2, 2), (4, 3), (3, 3), ((-1, 0), (0, -1)), (1, 1), 1),
    ((5, 4, 6), (2, 3, 1), (3, 4), (2, 1, 3), ((1, 1), (1, 0), (0, 2)), (1, 1, 1), 1),
    ((5, 4, 6), (2, 3, 2), (4, 12), (2, 1, 3), ((1, 1), (1, 0), (0, 2)), (2, 1, 2), 4),
    ((8, 8), (1, 1), (6, 5), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
]


def slides(be: Any, dtype: str, case: tuple[Any, ...]) -> list[np.ndarray]:
    """A convolution with a bias and without, and its gradients."""
    sizes, kernel, (inputs, outputs), stride, padding, dilation, groups = case
    a, options = Draw(dtype), ConvolutionOptions(stride, padding, dilation, groups)
    x, weight = a(3, inputs, *sizes), a(outputs, inputs // groups, *kernel)
    g = a(3, outputs, *options.windows(sizes, kernel))
    return [
        be.convolution(x, weight, a(outputs), options),
        be.convolution(x, weight, None, options),
        be.convolution_input_grad(g, weight, x.shape, options),
        be.convolution_weight_grad(g, x, weight.shape, options),
    ]


@pytest.mark.parametrize("case", SLIDES, ids=str)
def test_windows_that_differ_by_dimension(case: tuple[Any, ...], cuda: CudaBackend) -> None:
    for dtype in ("float32", "float16"):
        agree(slides(cuda, dtype, case), slides(BARE, dtype, case), dtype, "convolution")


DEPTHWISE = [
    (sizes, (kernel, kernel), channels, (stride, stride), padding, (1, 1), channels[0])
    for kernel in (3, 5, 7)
    for sizes, channels, stride, padding in (
        ((17, 33), (2, 2), 1, ((kernel // 2,) * 2,) * 2),
        ((9, 7), (5, 10), 1, ((0, 3), (2, kernel))),
        ((17, 12), (3, 3), 2, ((kernel // 2,) * 2,) * 2),
        ((8, 19), (3, 6), 2, ((2, 0), (-1, 3))),
        ((15, 15), (4, 4), 2, ((-1, 1), (4, -1))),
    )
]


@pytest.mark.parametrize("case", DEPTHWISE, ids=str)
def test_depthwise_convolutions_by_strips(case: tuple[Any, ...], cuda: CudaBackend) -> None:
    cuda.runtime.launched.clear()
    for dtype in DTYPES:
        agree(slides(cuda, dtype, case), slides(BARE, dtype, case), dtype, "convolution")
    name = f"depthwise_{case[1][0]}_{case[3][0]}"
    launched = [*2 * [name], f"{name}_input_grad", f"{name}_weight_grad"]
    for dtype in ("float32", "float16", "bfloat16"):
        assert [
            n for n in cuda.runtime.launched if n.startswith(name) and n.endswith(f"_{dtype}")
        ] == [f"{kernel}_{dtype}" for kernel in launched]


@pytest.mark.parametrize("case", DEPTHWISE[:4:2], ids=str)
def test_gradients_of_few_inputs_by_strips(case: tuple[Any, ...], cuda: CudaBackend) -> None:
    """As of the first layer of images; in groups, too."""
    cuda.runtime.launched.clear()
    for dtype, (channels, groups) in itertools.product(
        ("float32", "bfloat16"), (((3, 9), 1), ((6, 4), 2))
    ):
        few = (*case[:2], channels, *case[3:6], groups)
        agree(slides(cuda, dtype, few), slides(BARE, dtype, few), dtype, "convolution")
    name = f"depthwise_{case[1][0]}_{case[3][0]}_input_grad"
    assert sum(launched.startswith(name) for launched in cuda.runtime.launched) == 4


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("stride", [1, 2])
def test_nan_and_infinity_in_strips(stride: int, one: CudaBackend) -> None:
    """What is outside of a plane is no summand of gradients, nor are windows behind the last."""
    padding = ((1, 1), (1, 1))
    options = ConvolutionOptions((stride, stride), padding, (1, 1), 2)
    a = Draw("float32")
    x, weight = a(2, 2, 10, 9), a(2, 1, 3, 3)
    g = a(2, 2, *options.windows((10, 9), (3, 3)))
    x[0, 0, -1, 3], x[1, 1, 0, 0], x[1, 0, 4, -1] = np.nan, np.inf, -np.inf
    g[0, 1, -1, -1], g[1, 0, 2, 2] = np.inf, np.nan
    infinite = weight.copy()
    infinite[0, 0, 0, 0], infinite[1, 0, 2, 2] = np.inf, np.nan
    finite = np.nan_to_num(g, posinf=1)
    for method, *given in (
        ("convolution", x, weight, None),
        ("convolution", np.nan_to_num(x, posinf=1, neginf=1), infinite, None),
        ("convolution_input_grad", g, weight, x.shape),
        ("convolution_input_grad", finite, infinite, x.shape),
        ("convolution_weight_grad", finite, x, weight.shape),
        ("convolution_weight_grad", g, x, weight.shape),
    ):
        got, expected = (getattr(be, method)(*given, options) for be in (one, BARE))
        agree([got], [expected], "float32", method)


def test_a_gradient_by_the_weight_is_the_same_in_parts(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradient.backends.cuda.convolution.PART", 7)
    for case in SLIDES:
        agree(slides(one, "float32", case), slides(BARE, "float32", case), "float32", "parts")
    assert one.runtime.launched.count("convolution_join_float32") >= 4


def every_convolution_by_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution_products, "LEAST_OUTPUTS", 1)
    monkeypatch.setattr(convolution_products, "LEAST_MULTIPLIED", 0)


@pytest.mark.parametrize("bytes_at_a_time", [1 << 29, 3000])
def test_convolutions_by_products(
    bytes_at_a_time: int, one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images at a time, or one or two."""
    every_convolution_by_products(monkeypatch)
    monkeypatch.setattr(convolution_products, "COLUMN_BYTES", bytes_at_a_time)
    same = ((8, 9), (3, 4), (3, 70), (1, 1), ((2, 2), (4, 1)), (2, 1), 1)
    even = ((8, 8), (3, 3), (3, 4), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    groups = ((5, 6), (3, 2), (4, 6), (1, 1), ((1, 1), (1, 0)), (1, 1), 2)
    for dtype in DTYPES:
        for case in (*SLIDES, same, even, groups):
            agree(slides(one, dtype, case), slides(BARE, dtype, case), dtype, "convolution")
    launched = one.runtime.launched
    for dtype in DTYPES:
        assert launched.count(f"columns_{dtype}") >= 12


WIDE_SLIDES = [
    ((8, 9), (3, 4), (8, 136), (1, 1), ((2, 2), (4, 1)), (2, 1), 1),
    ((8, 8), (3, 3), (40, 32), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((19, 13), (5, 3), (24, 32), (2, 3), ((2, 1), (0, 3)), (1, 2), 1),
    ((131,), (7,), (16, 40), (1,), ((3, 3),), (1,), 1),
    ((3, 5, 4), (2, 2, 2), (8, 32), (1, 2, 1), ((1, 0), (0, 0), (1, 1)), (1, 1, 2), 1),
    ((2, 2), (2, 2), (264, 32), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((6, 7), (3, 3), (96, 64), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),  # channels by 32
    ((7, 6), (3, 2), (64, 96), (2, 1), ((1, 1), (0, 1)), (1, 1), 1),
]


def every_convolution_by_wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution_tiles, "LEAST_MULTIPLIED", 0)
    monkeypatch.setattr(convolution_tiles, "LEAST_ROWS", 1)
    monkeypatch.setattr(convolution_tiles, "LEAST_TILES", 0)
    monkeypatch.setattr(convolution_tiles, "WINDOWS_OF_PART", 40)


@pytest.mark.parametrize("case", WIDE_SLIDES, ids=str)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_convolutions_by_wide_tiles(
    dtype: str, case: tuple[Any, ...], cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of few and of several images in a step, of an even and an odd number, in parts."""
    every_convolution_by_wide_tiles(monkeypatch)
    library = cuda_emulation.library("convolution_wide")
    before = cuda_emulation.bank_conflicts(library)
    cuda.runtime.launched.clear()
    agree(slides(cuda, dtype, case), slides(BARE, dtype, case), dtype, "convolution")
    assert cuda_emulation.bank_conflicts(library) == before
    input_grad = "" if max(case[3]) == 1 else "_input_grad"  # a convolution of g
    kernels_of = ("", "", input_grad, "_weight_grad", "_join")
    launched = [name for name in cuda.runtime.launched if name.startswith("convolution")]
    assert launched == [f"convolution_wide{kernel}_{dtype}" for kernel in kernels_of]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_infinity_in_wide_tiles(one: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution_tiles, "LEAST_MULTIPLIED", 0)
    monkeypatch.setattr(convolution_tiles, "LEAST_TILES", 0)
    options = ConvolutionOptions((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    a = Draw("float16")
    x, weight = a(2, 8, 5, 6), a(32, 8, 3, 3)
    x[0, 3, 2, 2], x[1, 0, 0, 0] = np.nan, np.inf
    got, expected = (be.convolution(x, weight, None, options) for be in (one, BARE))
    agree([got], [expected], "float16", "convolution")
    given = got
    for grad, other, shape in (("weight", x, weight.shape), ("input", weight, x.shape)):
        got, expected = (
            getattr(be, f"convolution_{grad}_grad")(given, other, shape, options)
            for be in (one, BARE)
        )
        agree([got], [expected], "float16", "convolution")


def test_gpus_before_sm_80_multiply_without_tensor_cores(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one.runtime, "has_tensor_cores", False)
    text = (kernels.FOLDER / "convolution.cu").read_text()
    before = cuda_emulation.library("convolution", f"#define __CUDA_ARCH__ 750\n{text}")
    library = cuda_emulation.library
    monkeypatch.setattr(
        cuda_emulation, "library", lambda name: before if name == "convolution" else library(name)
    )
    for dtype in ("float16", "bfloat16"):
        for case in SLIDES[:2]:
            agree(slides(one, dtype, case), slides(BARE, dtype, case), dtype, "convolution")
        got, expected = (few_rows(be, dtype, "q4_k", 9) for be in (one, BARE))
        agree(got, expected, dtype, "linear")
    assert one.runtime.launched[-2:] == ["q4_k_product_8_bfloat16"] * 2


@pytest.mark.parametrize(
    "barrier",
    [
        "right.prepare(first, 0);\n    __syncthreads();",
        "right.prepare(next, turn ^ 1);\n        __syncthreads();",
    ],
    ids=("before", "in a step"),
)
def test_a_tile_without_a_barrier_is_wrong_in_some_order(
    barrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = (kernels.FOLDER / "tile_product.cuh").read_text().replace("#pragma once", "")
    text = (kernels.FOLDER / "convolution.cu").read_text()
    assert barrier in tile
    tile = tile.replace(barrier, barrier.replace("__syncthreads();", ""))
    text = text.replace('#include "tile_product.cuh"', tile)
    text = text.replace("FOR_EACH_FLOAT(EXPORT)", "EXPORT(float32, float)")
    planted, case = cuda_emulation.library("convolution", text), SLIDES[0]
    monkeypatch.setattr(cuda_emulation, "library", lambda name: planted)
    expected, wrong = slides(BARE, "float32", case), 0
    for order in ORDERS:
        got = slides(CudaBackend(0, EmulatedRuntime(order)), "float32", case)
        wrong += not all(np.allclose(x, y, atol=1e-3) for x, y in zip(got, expected, strict=True))
    assert wrong > 0


COUNTS = {
    "few": [0, 3, 0, 1, 2],
    "one": [0, 0, 21, 0, 0],
    "tiles": [64, 0, 130, 1, 65],
    "beyond a warp": [1, 0, 2] * 13,
    "beyond a launch": [0, 3] * 75,
}


def groups(
    be: Any, dtype: str, sizes: list[int], name: str = "", shape: tuple[int, int] = (37, 70)
) -> list[np.ndarray]:
    """Products of groups with matrices of this shape, or packed, and their gradients."""
    a, counts, (n, k) = Draw(dtype), np.array(sizes), (shape[0], 512) if name else shape
    some = [packed(a, name, n, k) if name else a(n, k) for _ in range(7)]
    weights = [some[i % 7] for i in range(len(sizes))]
    x, g = a(sum(sizes), k), a(sum(sizes), n)
    grads = be.grouped_linear_weight_grad(g, x, counts)
    return [
        be.grouped_linear(x, weights, counts),
        be.grouped_linear_input_grad(g, weights, counts),
        *grads,
    ]


@pytest.mark.parametrize("sizes", COUNTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_groups(dtype: str, sizes: str, one: CudaBackend) -> None:
    got, expected = (groups(be, dtype, COUNTS[sizes]) for be in (one, BARE))
    agree(got, expected, dtype, "grouped_linear")


@pytest.mark.parametrize("sizes", COUNTS)
def test_groups_in_any_order(sizes: str, cuda: CudaBackend) -> None:
    for dtype in ("float32", "bfloat16"):
        got, expected = (groups(be, dtype, COUNTS[sizes]) for be in (cuda, BARE))
        agree(got, expected, dtype, "grouped_linear")


WIDE_GROUPS = {
    "uneven": ([64, 0, 460, 1, 129], (136, 72)),
    "long": ([128, 131], (8, 200)),
    "one of all": ([0, 0, 400], (264, 8)),
}


@pytest.mark.parametrize("case", WIDE_GROUPS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_groups_by_wide_tiles(dtype: str, case: str, cuda: CudaBackend) -> None:
    sizes, shape = WIDE_GROUPS[case]
    library = cuda_emulation.library("grouped")
    before = cuda_emulation.bank_conflicts(library)
    got, expected = (groups(be, dtype, sizes, shape=shape) for be in (cuda, BARE))
    agree(got, expected, dtype, "grouped_linear")
    assert cuda_emulation.bank_conflicts(library) == before
    for kernel in ("grouped_rows", "grouped_input_grad", "grouped_weight_grad"):
        assert f"{kernel}_wide_{dtype}" in cuda.runtime.launched


@pytest.mark.parametrize("name", FORMATS)
def test_groups_of_packed_weights(name: str, one: CudaBackend) -> None:
    for sizes in ("few", "one"):
        got, expected = (groups(be, "float32", COUNTS[sizes], name)[:2] for be in (one, BARE))
        agree(got, expected, "float32", "grouped_linear")


def test_packed_weights_of_groups_are_unpacked_a_few_at_a_time(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradient.backends.cuda.grouped.UNPACKED", 2 * 37 * 512)
    got, expected = (groups(be, "float32", COUNTS["tiles"], "q4_k")[:2] for be in (one, BARE))
    agree(got, expected, "float32", "grouped_linear")
    assert one.runtime.launched.count("grouped_rows_float32") == 3


def test_groups_of_more_rows_than_a_grid_has_tiles_for(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradient.backends.cuda.grouped.MAX_GRID", 63)
    got, expected = (groups(be, "float32", COUNTS["tiles"])[:2] for be in (one, BARE))
    agree(got, expected, "float32", "grouped_linear")
    assert not {name for name in one.runtime.launched if name.startswith("grouped_rows")}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinity_and_nan_stay_in_their_rows(one: CudaBackend) -> None:
    a, counts = Draw("float32"), np.array([40, 2])
    for dtype in ("float32", "float16"):
        x = a(42, 70).astype(dtype)
        x[3, 5], x[40, 69] = np.nan, np.inf
        weights = [a(37, 70).astype(dtype) for _ in counts]
        got, expected = (be.grouped_linear(x, weights, counts) for be in (one, BARE))
        agree([got], [expected], dtype, "grouped_linear")


@pytest.mark.parametrize("sizes", [[5, 2], [3, -1], [1, 1], [2**62, 2**62], [0, 0]], ids=str)
@pytest.mark.parametrize("rows", [3, 70])
def test_counts_that_do_not_fit_are_told_at_the_next_copy(
    rows: int, sizes: list[int], one: CudaBackend
) -> None:
    """And nothing outside of the arrays is read or written."""
    a, counts = Draw("float32"), np.array(sizes)
    x, g, weights = a(rows, 70), a(rows, 37), [a(37, 70) for _ in sizes]
    for run in (
        lambda: one.grouped_linear(x, weights, counts),
        lambda: one.grouped_linear_input_grad(g, weights, counts),
        lambda: one.grouped_linear_weight_grad(g, x, counts)[0],
    ):
        with pytest.raises(IndexError, match="an op got earlier was out of range"):
            one.to_numpy(run())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("options", [o for o in CACHED if o["layout"] not in ("fresh",)], ids=str)
def test_a_step_reads_the_cache_where_it_lies(options: Any, dtype: str, one: CudaBackend) -> None:
    """One kernel, and one more to join parts: no copy of what is stored, nor a mask."""
    q, keys, values, slots, how = cached_attention(**options)(Draw(dtype))
    expected = BARE.cached_attention(q, keys, values, slots._replace(masks={}), how)
    copies: list[Any] = []
    one.contiguous = lambda x: copies.append(x) or np.ascontiguousarray(x)  # type: ignore[method-assign,func-returns-value]
    got = one.cached_attention(q, keys, values, slots, how)
    agree([got], [expected], dtype, "cached_attention")
    names = {name.rstrip("_0123456789") for name in map(kernel_of, one.runtime.launched)}
    few = q.shape[1] // (options.get("heads", (6, 2))[1]) * q.shape[2] <= 64
    pieces = 16 if "int4" in options.get("codecs", ()) else 8
    if dtype == "float16" and q.shape[-1] % pieces == 0:
        reads = {"decode_cached_attention" if few else "flash_cached_attention"}
    elif dtype == "float32" and q.shape[-1] % (pieces // 2) == 0:
        reads = {"cached_attention_decode" if few else "attention_block"}
    else:
        reads = {"cached_attention" if few else "attention"}
    assert names - {"join_parts"} == reads
    if few or "flash_cached_attention" in reads:
        assert all(x.size < keys[0].size for x in copies)
        assert slots.masks == {}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["static", "paged"])
def test_slots_behind_the_last_position_are_not_read(
    layout: str, dtype: str, one: CudaBackend
) -> None:
    q, keys, values, slots, how = cached_attention(layout)(Draw(dtype))
    expected = one.cached_attention(q, keys, values, slots, how)
    for row, last in enumerate(slots.positions[:, -1]):
        for (part,) in (keys, values):
            if slots.table is None:
                part[row, :, last + 1 :] = np.nan
            else:
                for slot in range(int(last) + 1, slots.extent):
                    part[slots.table[row, slot // 16], slot % 16] = np.nan
    np.testing.assert_array_equal(one.cached_attention(q, keys, values, slots, how), expected)


def test_a_cache_of_another_make_is_left_to_the_default(one: CudaBackend) -> None:
    """Parts whose slots lie differently, a cache of other floats than the queries'."""
    q, keys, values, slots, how = cached_attention("static", codecs=("int8", "int8"), size=64)(
        Draw("float32")
    )
    moved = keys[1].transpose(1, 0, 2, 3).copy().transpose(1, 0, 2, 3)
    got = one.cached_attention(q, (keys[0], moved), values, slots, how)
    agree([got], [BARE.cached_attention(q, keys, values, slots, how)], "float32", "moved")
    q, keys, values, slots, how = cached_attention("static")(Draw("float32"))
    halves = tuple(tuple(x.astype(np.float16) for x in parts) for parts in (keys, values))
    got = one.cached_attention(q, *halves, slots, how)
    agree([got], [BARE.cached_attention(q, *halves, slots, how)], "float32", "halves")
    assert not any(name.startswith("cached") for name in one.runtime.launched)


class NamingRuntime(EmulatedRuntime):
    """Notes which kernels are launched and runs none: what they compute, the other tests say."""

    def launch(self, family: str, kernel: str, dtype: str, *_: Any, **__: Any) -> None:
        self.launched.append(f"{kernel}_{dtype}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_kernel_is_launched_by_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a .cu file exports is reached by the table's cases, those of wide heads, of a few
    and of many rows, of groups, of copies or of large convolutions. (`test_cuda_rope_attention` and
    `test_cuda_arithmetic` have their own.)"""
    backend = CudaBackend(0, NamingRuntime())
    for dtype in DTYPES:
        for method in ("layer_norm_grad", "rms_norm_grad"):
            call(backend, method, getattr(backend_table, method)(True, 64)(Draw(dtype, rows=517)))
        groups(backend, dtype, *WIDE_GROUPS["uneven"][:1], shape=WIDE_GROUPS["uneven"][1])
        for method in overrides():
            for arguments in CASES[method]:
                call(backend, method, arguments(Draw(dtype)))
        for widths in WIDTHS + TILED_WIDTHS:
            for queries, has_warpgroups in itertools.product((1, 3, 12), (False, True)):
                backend.runtime.has_warpgroups = has_warpgroups
                wide_attention(backend, dtype, *widths, queries)
            for width in widths:
                for queries in (1, 3, 40):
                    wide_cache(backend, dtype, width, queries)
        groups(backend, dtype, COUNTS["one"])
        for operator in ("neg", "abs"):
            backend.runtime.arithmetic.unary(operator)(Draw(dtype)(3))
        for target, given in itertools.product(DTYPES, strided(dtype).values()):
            backend.assign(np.empty(given.shape, target), ..., given)
        for name in FORMATS:
            for has_tensor_cores in (False, True):
                backend.runtime.has_tensor_cores = has_tensor_cores
                few_rows(backend, dtype, name, 1)
                few_rows(backend, dtype, name, 2)
            groups(backend, dtype, COUNTS["few"], name)
    backend.runtime.has_tensor_cores = True
    every_convolution_by_wide_tiles(monkeypatch)
    for dtype, case in itertools.product(("float16", "bfloat16"), WIDE_SLIDES[1:3]):
        slides(backend, dtype, case)
    every_convolution_by_products(monkeypatch)
    for dtype, case in itertools.product(DTYPES, (SLIDES[0], *DEPTHWISE)):
        slides(backend, dtype, case)
    families = set(kernels.FAMILIES) - {"rope_attention", "arithmetic"}
    exported = {name for family in families for name in cuda_emulation.kernel_names(family)}
    assert exported - set(backend.runtime.launched) == set()


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_many_blocks(dtype: str) -> None:
    """The last of a block's elements, tensors without any, infinity without weight decay."""
    sizes = (8192, 0, 20001, 1, 8193)
    parts = []
    for be in (CudaBackend(0, EmulatedRuntime(1)), BARE):
        a = Draw(dtype)
        lists = [[a(n, low=0.5) for n in sizes] for _ in range(4)]
        lists[0][2][7] = np.inf
        params, grads, first, second = lists
        options = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0}
        be.adamw_step(params, grads, first, second, AdamWOptions(**options, step=2))
        be.sgd_step(params, grads, first, SGDOptions(0.1, momentum=0.9))
        be.sgd_step(params, grads, None, SGDOptions(0.1))
        be.rmsprop_step(params, grads, second, first, None, RMSpropOptions(0.01, 0.9, 1e-8))
        be.lion_step(params, grads, first, LionOptions(0.1, 0.9, 0.99))
        parts.append([x for each in lists for x in each])
    agree(parts[0], parts[1], dtype, "steps of optimisers")


# Edges --------------------------------------------------------------------------------------------

EDGES = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e30, -1e30, 1e-30, 88.0, -88.0, 6.5e4]
OF_ELEMENTS = [
    m
    for m in overrides()
    for x, *others in [CASES[m][0](Draw("float32"))]
    if not others and isinstance(x, np.ndarray)
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", OF_ELEMENTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_extreme_values(method: str, dtype: str, one: CudaBackend) -> None:
    x = np.array(EDGES).astype(Draw(dtype).dtype)
    got, expected = (np.asarray(getattr(be, method)(x), np.float64) for be in (one, BARE))
    np.testing.assert_allclose(got, expected, rtol=64 * EPS[dtype], atol=0)


ROWS_OF_EDGES = np.array(
    [
        [0.0, 1.0, -np.inf, 2.0, 3.0],  # a column that is masked
        [-np.inf] * 5,
        [1.0, np.nan, 2.0, 0.0, -1.0],
        [1e6, 1e6 + 1, 1e6 - 1, 1e6, 1e6 + 0.5],
        [np.inf, 0.0, 1.0, 2.0, 3.0],
        [-1e30, 1e30, 0.0, 1.0, 2.0],
    ]
)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", ["softmax", "log_softmax", "layer_norm", "rms_norm"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_extreme_rows(method: str, dtype: str, cuda: CudaBackend) -> None:
    rows = 5 if method == "layer_norm" else 6  # the mean of +-1e30 is a matter of the order
    x = np.repeat(ROWS_OF_EDGES[:rows], 60, axis=1).astype(dtype)
    more: tuple[Any, ...] = {"layer_norm": (None, None, 1e-5), "rms_norm": (None, 1e-5)}.get(
        method, (-1,)
    )
    got, expected = call(cuda, method, (x, *more)), call(BARE, method, (x, *more))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=256 * EPS[dtype], atol=256 * EPS[dtype])


def test_a_layer_norm_far_from_zero_keeps_its_mean(one: CudaBackend) -> None:
    """To half of what float32 tells apart there, though a sum of such numbers is not: the gradient
    is taken around it."""
    x = (1e6 + np.random.default_rng(0).standard_normal((4, 3001))).astype(np.float32)
    _, mean, _ = one.layer_norm(x, None, None, 1e-5)
    exact = x.astype(np.float64).mean(-1, keepdims=True)
    np.testing.assert_allclose(mean, exact, rtol=0, atol=np.spacing(np.float32(1e6)) * 0.51)


@pytest.mark.parametrize("columns", [1, 2, 31, 32, 33, 255, 256, 1000, 4096, 9001])
def test_rows_of_any_length(columns: int, one: CudaBackend) -> None:
    for method in ("softmax", "log_softmax"):
        x = Draw("float32")(3, columns)
        agree(call(one, method, (x, -1)), call(BARE, method, (x, -1)), "float32", method)


def test_rounding_first_is_exact_with_large_weights(one: CudaBackend) -> None:
    """As models were trained: x * rstd rounded to bfloat16, then multiplied."""
    draw = Draw("bfloat16")
    x, weight = draw(64, 67), draw(67, low=90.0, high=100.0)
    got, _ = one.rms_norm(x, weight, 1e-5, True)
    expected, _ = BARE.rms_norm(x, weight, 1e-5, True)
    np.testing.assert_array_equal(np.asarray(got, np.float64), np.asarray(expected, np.float64))


@pytest.mark.parametrize("items", [400, 5000])
def test_an_embedding_adds_up_the_same_in_every_run(items: int, cuda: CudaBackend) -> None:
    """Each index many times: the parts of its sum, and their order, follow from the shapes alone.
    One of these warps' orders or another's blocks would show in the last bits."""
    index = np.random.default_rng(0).integers(0, 5, items)
    index[items // 3 :: 2] = 3  # a run of many parts, too
    g = Draw("float32")(items, 33)
    got = cuda.embedding_grad(g, index, 6)
    np.testing.assert_array_equal(
        got, CudaBackend(0, EmulatedRuntime()).embedding_grad(g, index, 6)
    )
    exact = BARE.embedding_grad(g.astype(np.float64), index, 6)
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-6 * np.abs(exact).max())


def test_an_index_out_of_range_is_told_at_the_next_copy(one: CudaBackend) -> None:
    out = one.embedding_grad(Draw("float32")(3, 4), np.array([0, 7, -1]), 2)
    with pytest.raises(IndexError, match="cuda:0: an index or a target that an op got earlier"):
        one.to_numpy(out)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 1023, 1024, 1025, 5000])
def test_random_numbers_are_those_of_the_cpu(count: int, cuda: CudaBackend) -> None:
    for dtype in ("float32", "float64"):
        kind = np.dtype(dtype)
        for key, offset in ((0, 0), (2**64 - 1, 2**40 - 3), (12345, 2**32 - 2)):
            got, used = cuda.uniform(key, offset, count, kind)
            expected, blocks = BARE.uniform(key, offset, count, kind)
            np.testing.assert_array_equal(got, expected)
            assert used == blocks


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_channels_far_from_zero(dtype: str, one: CudaBackend) -> None:
    x = (Draw(dtype)(6, 3, 50) + 1e4).astype(dtype)
    for got, expected in zip(one.batch_norm(x, None, None, 1e-5),
                             BARE.batch_norm(x, None, None, 1e-5), strict=True):  # fmt: skip
        np.testing.assert_allclose(got, expected, rtol=1e4 * EPS[dtype], atol=1e5 * EPS[dtype])


def test_a_target_out_of_range_is_told_at_the_next_copy(one: CudaBackend) -> None:
    logits, target = Draw("float32")(3, 5), np.array([0, 5, 1])
    loss, _, _ = one.cross_entropy(logits, target, -100, 0.0)
    with pytest.raises(IndexError, match="cuda:0: an index or a target that an op got earlier"):
        one.to_numpy(loss)
    assert np.isnan(one.to_numpy(loss)).tolist() == [False, True, False]  # and goes on


def test_a_copy_waits_once(one: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the fault, too, which is copied before without a wait."""
    copies: list[np.ndarray] = []
    monkeypatch.setattr(one.runtime, "to_numpy", lambda x: copies.append(x) or np.array(x))
    x = Draw("float32")(3, 5)
    one.to_numpy(one.softmax(x, -1))
    assert len(copies) == 1
    one.to_numpy(one.cross_entropy(x, np.array([0, 4, 1]), -100, 0.0)[0])
    assert len(copies) == 2
    one.to_numpy(x)
    assert len(copies) == 3


# The emulator itself ------------------------------------------------------------------------------


def changed(old: str, new: str) -> Any:
    """The softmax kernels, with their headers in the file, where `old` is replaced."""
    text = (kernels.FOLDER / "softmax.cu").read_text()
    rows = (kernels.FOLDER / "rows.cuh").read_text().replace("#pragma once", "")
    assert old in rows
    return cuda_emulation.library(
        "softmax", text.replace('#include "rows.cuh"', rows.replace(old, new))
    )


def test_a_missing_barrier_shows():
    planted = changed("    if (lane == 0) of_warp[warp] = value;\n    __syncthreads();\n",
                      "    if (lane == 0) of_warp[warp] = value;\n")  # fmt: skip
    x = Draw("float32")(4, 4000)
    wrong = 0
    for order in ORDERS:
        out = np.empty_like(x)
        cuda_emulation.launch(
            planted, "softmax_float32", (4,), 256, x, out, np.int64(4000), order=order
        )
        wrong += not np.allclose(out, BARE.softmax(x, -1), atol=1e-6)
    assert wrong > 0


def test_a_barrier_that_some_threads_never_reach_is_reported():
    planted = changed("    if (lane == 0) of_warp[warp] = value;\n    __syncthreads();\n",
                      "    if (lane == 0) of_warp[warp] = value, __syncthreads();\n")  # fmt: skip
    x = Draw("float32")(1, 400)
    with pytest.raises(RuntimeError, match="threads that wait where others never come"):
        cuda_emulation.launch(
            planted, "softmax_float32", (1,), 256, x, np.empty_like(x), np.int64(400)
        )


ODD = """
struct alignas(16) Four { float of[4]; };
extern "C" __global__ void copy(const float* x, float* out) {
    *reinterpret_cast<Four*>(out) = *reinterpret_cast<const Four*>(x);
}
"""


def test_a_load_that_is_not_aligned_is_reported():
    library, x = cuda_emulation.library("copy", ODD), np.arange(8, dtype=np.float32)
    aligned, odd, out = (beside(x, off) for off in (0, 1, 0))
    cuda_emulation.launch(library, "copy", (1,), 1, aligned[4:], out)
    assert out[:4].tolist() == [4, 5, 6, 7]
    for given in ((odd, out), (aligned, odd)):
        with pytest.raises(RuntimeError, match="copy loads or stores at an address that is not al"):
            cuda_emulation.launch(library, "copy", (1,), 1, *given)


RACE = """
extern "C" __global__ void pass_on(float* out, long long from, long long to, long long barrier) {
    __shared__ float held;
    if (threadIdx.x == 0) held = 0;
    __syncthreads();
    if (threadIdx.x / 32 == from) held = 1;
    if (barrier) __syncthreads();
    if (threadIdx.x / 32 == to) out[threadIdx.x % 32] = held;
}
"""


def test_a_race_between_any_two_warps_shows_in_some_order():
    """Whichever of them writes what the other reads without a barrier."""
    library = cuda_emulation.library("pass_on", RACE)
    for barrier in (0, 1):
        for pair in itertools.permutations(range(8), 2):
            right = []
            for order in ORDERS:
                out = np.zeros(32, np.float32)
                numbers = map(np.int64, (*pair, barrier))
                cuda_emulation.launch(library, "pass_on", (1,), 256, out, *numbers, order=order)
                right.append(bool((out == 1).all()))
            assert all(right) == barrier, (pair, right)


STUCK = """
extern "C" __global__ void count(float* out, long long stop) {
    if (threadIdx.x < stop) __syncthreads(); else __syncwarp();
    out[threadIdx.x] += 1;
}
"""


def test_threads_that_were_left_waiting_begin_anew():
    """The next launch of a library goes on with none of a block that never ended."""
    library = cuda_emulation.library("count", STUCK)
    first, second = np.zeros(64, np.float32), np.zeros(64, np.float32)
    with pytest.raises(RuntimeError, match="threads that wait where others never come"):
        cuda_emulation.launch(library, "count", (1,), 64, first, np.int64(16))
    for _ in range(2):
        cuda_emulation.launch(library, "count", (2,), 64, second, np.int64(64))
    assert (first[:16] == 0).all() and (second == 4).all()


def test_arguments_of_the_wrong_type_are_refused():
    x = Draw("float32")(1, 4)
    with pytest.raises(RuntimeError, match="takes arguments PPq, got PPf"):
        cuda_emulation.launch(
            cuda_emulation.library("softmax"), "softmax_float32", (1,), 32, x, x, np.float32(4)
        )


def test_no_kernel_is_defined_beside_the_exported_ones():
    for path in Path(kernels.FOLDER).glob("*.cu*"):
        text = path.read_text()
        assert len(re.findall("__global__", text)) == len(
            re.findall(r'extern "C" __global__ void', text)
        ), f"{path.name}: a kernel that is not extern C"


def test_the_bare_backend_has_no_kernels():
    assert all(getattr(BareBackend, name).__module__ not in FAMILIES for name in overrides())


def test_a_norm_of_many_tensors_reads_nothing_of_those_without_elements(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of these than a launch has: no block writes what its sum would be of."""
    monkeypatch.setattr(one, "empty", lambda shape, dtype: np.full(shape, np.nan, dtype))
    arrays = [np.empty(0, np.float32)] * 500 + [np.full(3, 2, np.float32)]
    assert one.total_norm(arrays) == np.sqrt(np.float32(12))


@pytest.mark.parametrize(
    ("count", "digits"),
    [(1, 1), (2, 1), (256, 1), (257, 2), (50257, 2), (65536, 2), (65537, 3), (151936, 3)],
)
def test_an_embedding_sorts_by_the_digits_of_its_vocabulary(
    count: int, digits: int, one: CudaBackend
) -> None:
    draw = np.random.default_rng(0)
    index = draw.integers(0, count, (2, 2600))
    index[0, :3] = index[1, -3:] = 0, count - 1, count // 2
    g = draw.standard_normal((2, 2600, 1)).astype(np.float32)
    out = one.embedding_grad(g, index, count)
    agree([out], [BARE.embedding_grad(g, index, count)], "float32", "embedding_grad")
    moved = [name for name in one.runtime.launched if name.startswith("radix_move")]
    assert len(moved) == digits
    assert set(moved) == {"radix_move_float32"}


@pytest.mark.parametrize("k", [1, 50, 1000])
@pytest.mark.parametrize("columns", [4097, 16384, 24577, 50257])
@pytest.mark.parametrize("largest", [True, False])
def test_the_best_of_a_vocabulary_are_sought_by_several_blocks(
    columns: int, k: int, largest: bool, one: CudaBackend
) -> None:
    """With many ties, within parts and between them: the first of equal ones comes first."""
    draw = np.random.default_rng(columns)
    x = draw.integers(-40, 40, (2, columns)).astype(np.float32)
    x[1] = 1.0
    x[0, [0, -1]] = np.nan, np.inf
    places = one.topk(x, k, -1, largest)
    np.testing.assert_array_equal(places, BARE.topk(x, k, -1, largest))
    assert ("sort_rows_float32" in one.runtime.launched) is (columns > 16383 and k < 4096)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [64, 72, 400])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("method", ["layer_norm_grad", "rms_norm_grad"])
def test_all_gradients_of_a_norm_at_once(
    method: str, weighted: bool, columns: int, dtype: str, one: CudaBackend
) -> None:
    """Of so many rows that blocks take several by turns, some of them one more than others."""
    case = getattr(backend_table, method)(weighted, columns)
    arguments = case(Draw(dtype, rows=517))
    one.runtime.launched.clear()
    agree(call(one, method, arguments), call(BARE, method, arguments), dtype, method)
    at_once = method == "layer_norm_grad" or weighted
    assert (f"{method}s_{dtype}" in one.runtime.launched) is at_once
    assert len(one.runtime.launched) <= 4
    # Rounded where they are stored: the engine need not cast them.
    found = getattr(one, method)(*arguments)
    assert {x.dtype.name for x in found if x is not None} == {dtype}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", [(0,), (1,), (2,), (0, 1, 2), ()], ids=str)
@pytest.mark.parametrize("method", ["layer_norm", "layer_norm_grad", "rms_norm_grad", "rope"])
def test_one_array_that_is_not_aligned(
    method: str, which: tuple[int, ...], dtype: str, one: CudaBackend
) -> None:
    """Rows of whole packs, of which some begin between two multiples of 16 bytes."""
    arguments = CASES[method][-1](Draw(dtype, rows=9))
    given = [
        beside(x, int(i in which)) if isinstance(x, np.ndarray) and x.dtype.name == dtype else x
        for i, x in enumerate(arguments)
    ]
    agree(call(one, method, given), call(BARE, method, arguments), dtype, method)
