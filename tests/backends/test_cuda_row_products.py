"""Products of a few rows on a GPU: one launch for what is several calls, to the last bit."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.quantized import FAMILIES
from gradient.backends.cuda.row_products import MOST_PACKED, MOST_TILES, OF_NORM, PACKED, STEP
from gradient.backends.packed import PackedArray
from gradient.dtypes import dtype_of
from support.agreement import agree
from support.backend_table import BARE, Draw, packed
from support.cuda_emulation import EmulatedRuntime

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]


@pytest.fixture
def one() -> CudaBackend:
    return CudaBackend(0, EmulatedRuntime())


def matrix(a: Draw, kind: str, rows: int, columns: int) -> Any:
    return a(rows, columns) if kind == "numbers" else packed(a, kind, rows, columns)


@pytest.mark.parametrize(
    ("kind", "columns"),
    [(kind, n) for kind in ("numbers", "q4_0", "q8_0") for n in (64, 320, 2048, 5632, 11008)]
    + [(kind, n) for kind in ("q4_k", "q5_k", "q6_k") for n in (256, 1280, 5632, 11008)]
    + [(kind, n) for kind in ("int8_channel", "int4_group32") for n in (32, 352, 5632)]
    + [("int4_group", 320), ("int4_group", 4096), ("int4_group128", 640)],
)
@pytest.mark.parametrize("rows", [(67,), (9, 7, 8), (1, 1)])
def test_one_launch_gives_what_the_calls_give(
    rows: tuple[int, ...], columns: int, kind: str, one: CudaBackend
) -> None:
    a = Draw("bfloat16")
    x, norm = a(1, 1, columns), a(columns)
    weights = [matrix(a, kind, n, columns) for n in rows]
    normed = one.rms_norm(x, norm, 1e-6, True)[0]
    expected = [one.linear(normed, w) for w in weights]
    one.runtime.launched.clear()
    got = one.projections(x, weights, norm, 1e-6, True)
    name = "row_product_1" if kind == "numbers" else f"normed_row_product_{FAMILIES[kind]}"
    assert one.runtime.launched == [f"{name}_bfloat16"]
    assert [y.tobytes() for y in got] == [y.tobytes() for y in expected]
    agree(list(got), list(BARE.projections(x, weights, norm, 1e-6, True)), "bfloat16", "linear")


@pytest.mark.parametrize(
    ("dtype", "columns"),
    [("float32", n) for n in (768, 1024, 5120)] + [("bfloat16", n) for n in (768, 5120, 8192)],
)
def test_the_norm_is_that_of_its_own_call(dtype: str, columns: int, one: CudaBackend) -> None:
    """Added up by as many threads: of numbers that round differently in another order."""
    a = Draw(dtype)
    x, norm, weight = a(1, columns), a(columns), a(5, columns)
    x *= np.logspace(-3, 3, columns).astype(dtype)
    expected = one.linear(one.rms_norm(x, norm, 1e-6)[0], weight)
    [got] = one.projections(x, [weight], norm, 1e-6)
    assert got.tobytes() == expected.tobytes()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("kind", [*PACKED])
def test_products_of_packed_weights_with_what_is_not_finite(
    kind: str, value: float, dtype: str, one: CudaBackend
) -> None:
    a = Draw(dtype)
    x, weight = a(1, 512), packed(a, kind, 9, 512)
    x[0, 40] = value
    assert not np.isfinite(one.linear(x, weight)).any()
    assert one.runtime.launched == [f"row_product_{kind}_{dtype}"]


@pytest.mark.parametrize(
    ("kind", "columns"),
    [(kind, n) for kind in ("numbers", "q4_0", "q8_0") for n in (64, 2048, 4160)]
    + [("q4_k", 768), ("q5_k", 768), ("q6_k", 768), ("int8_channel", 96), ("int4_group", 192)],
)
def test_a_gate_and_a_sum_round_as_their_calls_do(
    kind: str, columns: int, one: CudaBackend
) -> None:
    a = Draw("bfloat16")
    x, norm, residual = a(1, columns), a(columns), a(1, 37)
    gate, up = (matrix(a, kind, 37, columns) for _ in range(2))
    normed = one.rms_norm(x, norm, 1e-5)[0]
    first, second = one.linear(normed, gate), one.linear(normed, up)
    [got] = one.projections(x, [gate, up], norm, 1e-5, False, True)
    assert got.tobytes() == (one.silu(first) * second).tobytes()
    [got] = one.projections(normed, [gate], residual=residual)
    assert got.tobytes() == (residual + first).tobytes()


@pytest.mark.parametrize("rows", [1, 8, 37])
@pytest.mark.parametrize("begins", [0, 1])
def test_a_bias_that_begins_anywhere(begins: int, rows: int, one: CudaBackend) -> None:
    a = Draw("bfloat16")
    x, weight, bias = a(64), packed(a, "q4_0", rows, 64), a(begins + rows)[begins:]
    got = one.linear(x, weight, bias)
    assert one.runtime.launched == ["row_product_q4_0_bfloat16"]
    agree(got, BARE.linear(x, weight, bias), "bfloat16", "linear")


@pytest.mark.parametrize("multiprocessors", [1, 2])
@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("q4_0", 64),
        ("q4_0", 1088),
        ("q4_0", 5632),
        ("q8_0", 1088),
        ("q4_k", 4608),
        ("q5_k", 512),
        ("q6_k", 2816),
    ],
)
def test_blocks_that_go_on_to_other_rows_give_the_same(
    kind: str, columns: int, multiprocessors: int, one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = Draw("bfloat16")
    x, residual, norm = a(1, columns), a(1, 61), a(columns)
    weights = [packed(a, kind, n, columns) for n in (61, 9, 30)]

    def products() -> list[bytes]:
        ways = (
            one.projections(x, weights, norm, 1e-5),
            one.projections(x, weights[:1] * 2, gated=True),
            one.projections(x, weights[:1], residual=residual),
        )
        return [y.tobytes() for ys in ways for y in ys]

    expected = products()
    monkeypatch.setattr(one.runtime, "multiprocessors", multiprocessors)
    assert products() == expected


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if FAMILIES[kind] in PACKED])
def test_products_of_any_sizes_on_any_gpu(kind: str, seed: int, one: CudaBackend) -> None:
    """Rows that fill no tile, and columns that fill no step: a warp that sums up several tiles,
    some warps with a step each, and with several steps of several tiles."""
    a, sizes = Draw(("bfloat16", "float16")[seed % 2]), np.random.default_rng(seed)
    unit = max(PACKED[FAMILIES[kind]][0], dtype_of(kind).block_size)
    least, most = ((1, 256), (300, 2600), (4100, 5000))[seed]
    columns = unit * int(sizes.integers(-(-least // unit), most // unit + 1))
    rows = [(600, 37, 90)[seed], *(int(n) for n in sizes.integers(1, 50, 2))]
    x, norm, residual, bias = a(1, columns), a(columns), a(1, rows[0]), a(rows[0])
    weights = [packed(a, kind, n, columns) for n in rows]
    pair = [packed(a, kind, rows[0], columns) for _ in range(2)]

    def products(be: Any) -> list[Any]:
        ways = (
            be.projections(x, weights, norm, 1e-5, bool(seed % 2)),
            be.projections(x, weights[:2]),
            be.projections(x, pair, norm, 1e-5, False, True),
            be.projections(x, pair, gated=True),
            be.projections(x, weights[:1], residual=residual),
            (be.linear(x, weights[0], bias),),
        )
        return [y for ys in ways for y in ys]

    expected = products(one)
    agree(expected, products(BARE), a.dtype.name, "linear")
    for multiprocessors in (1, 2, 7):
        one.runtime.multiprocessors = multiprocessors
        got = products(one)
        assert [y.tobytes() for y in got] == [y.tobytes() for y in expected]
    assert len(one.runtime.launched) == 4 * 6  # one kernel each


@pytest.mark.parametrize("kib", [99, 163, 227])
@pytest.mark.parametrize("kind", [*PACKED])
def test_blocks_fit_a_gpu_with_less_shared_memory(
    kind: str, kib: int, one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one.runtime, "max_shared", kib << 10)
    for steps in range(1, MOST_PACKED // STEP + 1):
        found = [one._division(kind, tiles, steps) for tiles in (1, 33, 265, 8016, 20000)]
        assert len({(warps, of_warp) for warps, of_warp, *_ in found}) == 1  # one order of sums
        for warps, of_warp, each, shared in found:
            assert warps * of_warp >= steps and 1 <= each <= MOST_TILES
            assert shared + OF_NORM <= kib << 10
    monkeypatch.setattr(one.runtime, "multiprocessors", 1)
    a = Draw("bfloat16")
    x, weight, norm = a(1, 11008), packed(a, kind, 40, 11008), a(11008)
    got = one.projections(x, [weight], norm, 1e-5)
    assert one.runtime.launched == [f"normed_row_product_{kind}_bfloat16"]
    agree(list(got), list(BARE.projections(x, [weight], norm, 1e-5)), "bfloat16", "linear")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", [*PACKED])
def test_small_numbers_beside_a_large_one(kind: str, dtype: str, one: CudaBackend) -> None:
    """In a block, those from 2^-6 of the largest on (float16: 2^-3) are exact, and the error of
    smaller ones is at most 2^-14 of the largest. Each output shows one number of x."""
    a, bits = Draw(dtype), 11 if dtype == "float16" else 8
    form = dtype_of(kind)
    weight = PackedArray(form, (256, 256), form.pack(np.eye(256, dtype=np.float32)))
    exact = one.unpack(weight, np.dtype(np.float32)).astype(np.float64)
    for size in (2.0 ** (bits - 14), 2.0 ** (bits - 18), 2.0**-14):
        x = (a(1, 256, low=1.0, high=2.0).astype(np.float64) * size).astype(a.dtype)
        x[:, ::32] = 1
        wide = x.astype(np.float64)
        expected = wide @ exact.T
        bound = 2.0**-bits * abs(expected) + 1e-6 * abs(wide) @ abs(exact).T
        if size < 2.0 ** (bits - 14):
            bound += 2.0**-14 * abs(exact).sum(-1)
        assert (abs(one.linear(x, weight).astype(np.float64) - expected) <= bound).all()


@pytest.mark.parametrize("power", [-44, -20, 30, 60])
@pytest.mark.parametrize("kind", [*PACKED])
def test_large_and_small_numbers_lose_nothing(kind: str, power: int, one: CudaBackend) -> None:
    a = Draw("bfloat16")
    x, weight = a(1, 768), packed(a, kind, 33, 768)
    scaled = (x.astype(np.float64) * 2.0**power).astype(x.dtype)
    got = one.linear(scaled, weight).astype(np.float64) / 2.0**power
    usual = one.linear(x, weight).astype(np.float64)
    np.testing.assert_allclose(got, usual, rtol=0.01, atol=0.01 * abs(usual).max())
    assert one.runtime.launched == [f"row_product_{kind}_bfloat16"] * 2


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_rows_do_not_hang_on_each_other(dtype: str, one: CudaBackend) -> None:
    a = Draw(dtype)
    x, weight = a(4, 1040), a(19, 1040)
    whole = one.linear(x, weight)
    for i, row in enumerate(whole):
        assert one.linear(x[i], weight).tobytes() == row.tobytes()
    assert {name.rpartition("_")[0] for name in one.runtime.launched} == {
        "row_product_4", "row_product_1",
    }  # fmt: skip


def test_what_is_not_a_number_stays(one: CudaBackend) -> None:
    a = Draw("float32")
    x, weight = a(2, 64), a(5, 64)
    weight[2, 63] = np.nan
    weight[4, 0] = np.inf
    x[1, 0] = 0
    with np.errstate(invalid="ignore"):
        got, expected = one.linear(x, weight), BARE.linear(x, weight)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))


@pytest.mark.parametrize(
    ("x", "weight"),
    [((5, 64), (7, 64)), ((1, 67), (7, 67)), ((1, 64), (0, 64)), ((0, 64), (7, 64))],
)
def test_what_the_kernel_does_not_take_goes_another_way(
    x: tuple[int, ...], weight: tuple[int, ...], one: CudaBackend
) -> None:
    a = Draw("float32")
    given = a(*x), a(*weight)
    agree(one.linear(*given), BARE.linear(*given), "float32", "linear")
    assert not any("row_product" in name for name in one.runtime.launched)


def test_sizes_that_do_not_match_are_refused(one: CudaBackend) -> None:
    a = Draw("float32")
    with pytest.raises(ValueError):
        one.linear(a(1, 64), a(7, 60))


def test_a_matrix_with_too_many_blocks_to_count_goes_another_way(one: CudaBackend) -> None:
    form = dtype_of("q4_0")
    x = np.zeros((1, 64), np.float16)
    for rows, family in ((1 << 27, "q4_0"), (1 << 28, None)):
        parts = (np.broadcast_to(np.zeros((), d), s) for s, d in form.parts_of((rows, 64)))
        weight = PackedArray(form, (rows, 64), tuple(parts))
        assert one._packed_as(x, [weight]) == family
