"""Products of a few rows on a GPU: one launch for what is several calls, to the last bit."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.quantized import FAMILIES
from gradient.backends.cuda.row_products import PACKED
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
    suffix = "1" if kind == "numbers" else FAMILIES[kind]
    assert one.runtime.launched == [f"row_product_{suffix}_bfloat16"]
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
