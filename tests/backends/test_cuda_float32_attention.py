"""Attention of float32 by blocks in registers, run on the CPU, gives what the composed definition
gives: over lengths, widths, masks and layouts."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from gradient.backends.cuda import kernels
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.options import AttentionOptions
from support import cuda_emulation
from support.agreement import agree
from support.attention_calls import CODECS, LAYOUTS, MASKS, Given, given, with_gradients
from support.backend_table import BARE, Draw, cached_attention
from support.cuda_emulation import ORDERS, EmulatedRuntime

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]


@pytest.fixture(scope="module", params=ORDERS, ids=("rising", "falling", "mixed"))
def cuda(request: pytest.FixtureRequest) -> CudaBackend:
    """The backend over kernels on the CPU, whose warps run in one order or another."""
    return CudaBackend(0, EmulatedRuntime(request.param))


@pytest.fixture
def one() -> CudaBackend:
    return CudaBackend(0, EmulatedRuntime())


def check(be: CudaBackend, x: Given) -> None:
    be.runtime.launched.clear()
    agree(with_gradients(be, x), with_gradients(BARE, x), "float32", "attention")
    head = 64 if max(x.q.shape[-1], x.v.shape[-1]) <= 64 else 128
    rows = x.q.shape[1] // x.k.shape[1] * x.q.shape[2]
    kind = "block" if rows > 16 else "decode"
    assert be.runtime.launched[0].startswith(f"attention_{kind}_{head}")
    gradients = [name for name in be.runtime.launched if "grad" in name]
    assert all(name.startswith("attention_block_grad") for name in gradients)


LENGTHS = [(1, 1), (1, 300), (2, 129), (3, 700), (7, 64), (8, 15), (17, 1), (17, 15), (31, 33),
           (63, 65), (64, 64), (65, 63), (129, 1), (128, 128), (129, 129), (150, 300),
           (20, 700)]  # fmt: skip


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_lengths(queries: int, keys: int, is_causal: bool, one: CudaBackend) -> None:
    check(one, given("float32", queries, keys, is_causal=is_causal))


WIDTHS = [(4, 4), (8, 12), (20, 64), (64, 64), (68, 20), (64, 128), (128, 128), (100, 96)]


@pytest.mark.parametrize(("width", "value_width"), WIDTHS)
def test_widths(width: int, value_width: int, one: CudaBackend) -> None:
    for queries in (70, 7, 2):
        check(one, given("float32", queries, 100, width, value_width, is_causal=True))


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("options", MASKS, ids=str)
def test_masks(options: dict[str, Any], width: int, one: CudaBackend) -> None:
    for queries in (70, 5, 2):
        check(one, given("float32", queries, 100, width, heads=(4, 2), **options))


def test_rows_that_see_nothing(cuda: CudaBackend) -> None:
    """Behind the last key's window: zeros, and zeros for gradients."""
    x = given("float32", 200, 20, is_causal=True, window=9)
    check(cuda, x)
    out, _, log_sum = cuda.attention(x.q, x.k, x.v, None, x.options)
    assert not out[:, :, 28:].any()
    assert np.isposinf(log_sum[:, :, 28:]).all()


@pytest.mark.parametrize("heads", [(3, 3), (4, 2), (6, 1)], ids=str)
def test_heads_that_share_keys(heads: tuple[int, int], cuda: CudaBackend) -> None:
    """Of few queries several heads come into one tile, some of them in part."""
    for options in ({}, {"is_causal": True}, {"mask": "heads"}):
        for queries in (27, 2):
            check(cuda, given("float32", queries, 50, heads=heads, **options))


@pytest.mark.parametrize("width", [64, 128])
def test_any_order_of_warps(width: int, cuda: CudaBackend) -> None:
    """Several tiles of each kernel, of each of its shapes."""
    for queries in (200, 3, 6):
        check(cuda, given("float32", queries, 200, width, heads=(1, 1), is_causal=queries > 100))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, one: CudaBackend) -> None:
    for queries in (40, 6):
        x = given("float32", queries, 33, is_causal=True)
        moved = [LAYOUTS[layout](a) for a in (x.q, x.k, x.v, x.g)]
        check(one, Given(*moved, None, x.options))


@pytest.mark.parametrize("queries", [40, 6])
@pytest.mark.parametrize("offset", [1e3, 1e6, -1e6])
def test_large_scores(offset: float, queries: int, one: CudaBackend) -> None:
    """Scores far from zero, in steps that float32 has: the differences are what counts."""
    x = given("float32", queries, 70)
    x.q[..., 0], x.k[..., 0] = 1, offset
    x.q[..., 1:], x.k[..., 1:] = np.round(x.q[..., 1:]), np.round(x.k[..., 1:])
    how = AttentionOptions(scale=0.125)
    got, expected = (be.attention(x.q, x.k, x.v, None, how) for be in (one, BARE))
    agree(list(got), list(expected), "float32", "attention")


@pytest.mark.parametrize("queries", [40, 6])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["q", "k", "v"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_not_finite(where: str, value: float, queries: int, one: CudaBackend) -> None:
    """It reaches the rows and columns that the definition's reaches, and no others."""
    x = given("float32", queries, 70)
    getattr(x, where)[0, 0, 3, 5] = value
    got, expected = (be.attention(x.q, x.k, x.v, None, x.options) for be in (one, BARE))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("queries", [40, 6])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinity_added_by_a_mask(queries: int, one: CudaBackend) -> None:
    """-inf forbids, +inf is a score like that of an overflow."""
    x = given("float32", queries, 70, mask="added")
    assert x.mask is not None
    x.mask[0, 0, 3, 5], x.mask[0, 0, 4], x.mask[1, 0, :, 9] = np.inf, -np.inf, -np.inf
    got, expected = (be.attention(x.q, x.k, x.v, x.mask, x.options) for be in (one, BARE))
    agree(list(got), list(expected), "float32", "attention")


def test_others_are_left_to_the_other_kernels(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for dtype, width in (("float32", 30), ("float32", 160), ("float64", 32)):
        for queries in (20, 2):
            x = given(dtype, queries, 20, width)
            agree(with_gradients(one, x), with_gradients(BARE, x), dtype, "attention")
    x = given("float32", 20, 20)
    for name, value in (("has_tensor_cores", False), ("max_shared", 48 << 10)):
        with monkeypatch.context() as other:
            other.setattr(one.runtime, name, value)
            agree(with_gradients(one, x), with_gradients(BARE, x), "float32", "attention")
    assert not any("block" in name or "decode" in name for name in one.runtime.launched)


CACHES: list[tuple[str, int, dict[str, Any]]] = [
    ("static", 1, {}),
    ("static", 5, {"window": 33, "softcap": 1.5}),
    ("paged", 2, {"window": 90}),
    ("paged", 16, {}),
    ("ring", 3, {"window": 100}),
    ("later", 8, {"window": 140}),
    ("even", 1, {"window": 70}),
]


@pytest.mark.parametrize("size", [32, 80])
@pytest.mark.parametrize("codecs", CODECS, ids=str)
@pytest.mark.parametrize(("layout", "queries", "options"), CACHES, ids=str)
def test_caches(
    layout: str,
    queries: int,
    options: dict[str, Any],
    codecs: tuple[str, str],
    size: int,
    cuda: CudaBackend,
) -> None:
    draw = cached_attention(layout, queries, slots=400, codecs=codecs, size=size, **options)
    cuda.runtime.launched.clear()
    got, expected = (be.cached_attention(*draw(Draw("float32"))) for be in (cuda, BARE))
    agree([got], [expected], "float32", "cached_attention")
    assert cuda.runtime.launched[0].startswith("cached_attention_decode")


BARRIERS = [
    (
        "attention_float32",
        "__syncthreads();  // keys are loaded; previous values are no longer read",
    ),
    ("attention_float32", "__syncthreads();  // values are loaded; the keys are no longer read"),
    ("attention_float32", "__syncwarp();  // the piece is written"),
    ("attention_float32_grad", "__syncthreads();  // previous tiles are no longer read"),
    ("attention_float32_grad", "__syncthreads();  // tiles are loaded"),
    ("attention_decode_float32", "__syncthreads();  // queries are loaded"),
    ("attention_decode_float32", "__syncthreads();  // all statistics are written"),
    ("attention_decode_float32", "__syncthreads();  // all sums are written"),
]


@pytest.mark.parametrize(("family", "barrier"), BARRIERS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_missing_barrier_shows(
    family: str, barrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, text = cuda_emulation.library, (kernels.FOLDER / f"{family}.cu").read_text()
    header = (kernels.FOLDER / "attention_float32.cuh").read_text().replace("#pragma once", "")
    text = text.replace('#include "attention_float32.cuh"', header)
    assert barrier in text
    planted = library(family, text.replace(barrier, ""))
    monkeypatch.setattr(
        cuda_emulation, "library", lambda name: planted if name == family else library(name)
    )
    x = given("float32", 3 if family == "attention_decode_float32" else 129, 150, heads=(1, 1))
    expected, wrong = with_gradients(BARE, x), 0
    for order in ORDERS:
        got = with_gradients(CudaBackend(0, EmulatedRuntime(order)), x)
        wrong += not all(np.allclose(a, b, atol=1e-3) for a, b in zip(got, expected, strict=True))
    assert wrong > 0
