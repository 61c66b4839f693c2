"""Attention by tensor cores, run on the CPU, gives what the composed definition gives: values and
gradients of 16-bit floats, over lengths, widths, masks and layouts."""

from __future__ import annotations

import itertools
import re
import shutil
from typing import Any

import numpy as np
import pytest

from gradient.backends.cuda import kernels
from gradient.backends.cuda.attention import MOST_PARTS
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.flash_attention import WARPGROUP_HEADS, head_of
from gradient.backends.options import AttentionOptions, SlotMap
from support import cuda_emulation
from support.agreement import EPS, NARROW, agree
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


def check(be: CudaBackend, dtype: str, x: Given) -> None:
    """By warps' products, and by warpgroups' where there are kernels of these."""
    expected = with_gradients(BARE, x)
    head = head_of(max(x.q.shape[-1], x.v.shape[-1]))
    for has_warpgroups in (False, True) if head in WARPGROUP_HEADS else (True,):
        be.runtime.has_warpgroups = has_warpgroups
        be.runtime.launched.clear()
        agree(with_gradients(be, x), expected, dtype, "attention")
        names = {name.rpartition("_")[0].rstrip("_0123456789") for name in be.runtime.launched}
        rows = x.q.shape[1] // x.k.shape[1] * x.q.shape[2]
        kind = "warpgroup" if has_warpgroups and head in WARPGROUP_HEADS else "flash"
        forward = f"{kind}_attention" if rows > 16 else "decode_attention"
        gradients = {f"{kind}_attention_grad_query", f"{kind}_attention_grad_key"}
        assert names - {"join_parts", "columns_sum"} == {forward, "row_statistics", *gradients}


LENGTHS = [(1, 1), (1, 129), (15, 17), (16, 16), (17, 15), (63, 65), (64, 64), (65, 63), (129, 1),
           (129, 129), (3, 700)]  # fmt: skip


@pytest.mark.parametrize(("dtype", "width"), [*((dtype, 32) for dtype in NARROW), ("bfloat16", 64)])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_lengths(
    queries: int, keys: int, is_causal: bool, dtype: str, width: int, one: CudaBackend
) -> None:
    check(one, dtype, given(dtype, queries, keys, width, is_causal=is_causal))


WIDTHS = [(8, 8), (24, 32), (40, 64), (64, 64), (80, 96), (96, 72), (128, 128), (64, 128),
          (192, 128), (160, 192), (256, 256), (200, 248)]  # fmt: skip


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("width", "value_width"), WIDTHS)
def test_widths(width: int, value_width: int, dtype: str, one: CudaBackend) -> None:
    for queries in (20, 3):
        check(one, dtype, given(dtype, queries, 70, width, value_width))


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("options", MASKS, ids=str)
def test_masks(options: dict[str, Any], dtype: str, width: int, one: CudaBackend) -> None:
    for queries in (70, 5):
        check(one, dtype, given(dtype, queries, 100, width, heads=(4, 2), **options))


@pytest.mark.parametrize("width", [32, 64])
def test_rows_that_see_nothing(width: int, cuda: CudaBackend) -> None:
    """Behind the last key's window: zeros, and zeros for gradients."""
    x = given("bfloat16", 200, 20, width, is_causal=True, window=9)
    check(cuda, "bfloat16", x)
    cuda.runtime.has_warpgroups = True
    out, _, log_sum = cuda.attention(x.q, x.k, x.v, None, x.options)
    assert not out[:, :, 28:].any()
    assert np.isposinf(log_sum[:, :, 28:]).all()


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("heads", [(3, 3), (4, 2), (6, 1)], ids=str)
def test_heads_that_share_keys(heads: tuple[int, int], width: int, cuda: CudaBackend) -> None:
    """Of few queries several heads come into one tile, some of them in part."""
    for options in ({}, {"is_causal": True}, {"mask": "heads"}):
        check(cuda, "bfloat16", given("bfloat16", 27, 50, width, heads=heads, **options))


FEW: list[tuple[int, dict[str, Any]]] = [
    (1, {}),
    (1, {"mask": "heads"}),
    (1, {"mask": "added", "softcap": 1.5}),
    (2, {}),
    (2, {"mask": "heads"}),
    (2, {"is_causal": True, "window": 1}),
]


@pytest.mark.parametrize("dtype", [*NARROW, "float32"])
@pytest.mark.parametrize("has_warpgroups", [False, True])
@pytest.mark.parametrize(("queries", "options"), FEW, ids=str)
def test_gradients_of_few_queries(
    queries: int,
    options: dict[str, Any],
    has_warpgroups: bool,
    dtype: str,
    cuda: CudaBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tile has the rows of several heads, if they see the same; and several blocks share out the
    keys of a group for the gradient of q."""
    x = given(dtype, queries, 300, 64, heads=(6, 2), **options)
    launched: dict[str, tuple[Any, ...]] = {}
    launch = cuda.runtime.launch

    def noted(family: str, kernel: str, *arguments: Any, **more: Any) -> None:
        launched[kernel.rpartition("_")[0].rpartition("_")[2]] = arguments
        launch(family, kernel, *arguments, **more)

    monkeypatch.setattr(cuda.runtime, "has_warpgroups", has_warpgroups)
    monkeypatch.setattr(cuda.runtime, "launch", noted)
    agree(with_gradients(cuda, x), with_gradients(BARE, x), dtype, "attention")
    assert launched["query"][1] == (1, 4, 3)
    heads = launched["key"][3 + 20]  # the first of PROBLEM_PARAMETERS
    assert heads == (6 if queries == 2 and options else 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("queries", [17, 65])
def test_gradients_are_no_views(queries: int, dtype: str, one: CudaBackend) -> None:
    """A leaf keeps them without a copy."""
    x = given(dtype, queries, 33, 64, heads=(2, 2))
    kept = one.attention(x.q, x.k, x.v, None, x.options)
    grads = one.attention_grad(x.g, x.q, x.k, x.v, *kept, None, x.options)
    assert not any(map(one.is_view, grads))


@pytest.mark.parametrize("queries", [1, 2])
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "part of a cache"])
def test_layouts_of_few_queries(layout: str, queries: int, one: CudaBackend) -> None:
    x = given("bfloat16", queries, 33, 64, heads=(4, 2))
    moved = [LAYOUTS[layout](a) for a in (x.q, x.k, x.v, x.g)]
    check(one, "bfloat16", Given(*moved, None, x.options))


@pytest.mark.parametrize("width", [64, 128, 256])
def test_any_order_of_warps(width: int, cuda: CudaBackend) -> None:
    """Several tiles of each kernel, of each of its shapes."""
    check(cuda, "float16", given("float16", 150, 150, width, heads=(1, 1), is_causal=True))


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, width: int, one: CudaBackend) -> None:
    x = given("bfloat16", 40, 33, width, is_causal=True)
    moved = [LAYOUTS[layout](a) for a in (x.q, x.k, x.v, x.g)]
    check(one, "bfloat16", Given(*moved, None, x.options))


def test_rows_are_read_where_they_lie(one: CudaBackend) -> None:
    """Of q, k, v in one array, as a layer makes them, nothing is copied."""
    x = Draw("bfloat16")(2, 30, 3, 4, 32)
    q, k, v = (np.swapaxes(x[:, :, i], 1, 2) for i in range(3))
    assert all(one._in_pieces(a) is a for a in (q, k, v))
    assert one._in_pieces(q[..., 1:25]) is not q


def test_a_gpu_without_these_tensor_cores(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before sm_80 nothing is asked of them."""
    monkeypatch.setattr(one.runtime, "has_tensor_cores", False)
    x = given("float16", 5, 20)
    agree(with_gradients(one, x), with_gradients(BARE, x), "float16", "attention")
    one.cached_attention(*cached_attention("static", size=32)(Draw("float16")))
    assert not any("flash" in name or "decode" in name for name in one.runtime.launched)


@pytest.mark.parametrize("dtype", NARROW)
def test_others_are_left_to_the_other_kernels(dtype: str, one: CudaBackend) -> None:
    for width, kind in ((36, dtype), (32, "float32")):
        x = given(kind, 5, 20, width)
        agree(with_gradients(one, x), with_gradients(BARE, x), kind, "attention")
    assert not any("flash" in name for name in one.runtime.launched)


# A cache ------------------------------------------------------------------------------------------

CACHES: list[tuple[str, int, dict[str, Any]]] = [
    ("static", 1, {}),
    ("static", 5, {"window": 33, "softcap": 1.5}),
    ("static", 130, {"softcap": 1.5}),
    ("paged", 2, {"window": 90}),
    ("paged", 49, {}),
    ("ring", 3, {"window": 100}),
    ("ring", 60, {"window": 30}),
    ("later", 8, {"window": 140}),
    ("later", 75, {"window": 40}),
    ("even", 1, {"window": 70}),
]


def check_cache(be: CudaBackend, dtype: str, layout: str, queries: int, **options: Any) -> None:
    """Of rows of different lengths, up to 150 slots."""
    draw = cached_attention(layout, queries, slots=150, **options)
    be.runtime.launched.clear()
    got, expected = (x.cached_attention(*draw(Draw(dtype))) for x in (be, BARE))
    agree([got], [expected], dtype, "cached_attention")
    kind = "decode" if 3 * queries <= 64 or queries == 1 else "flash"
    assert be.runtime.launched[0].startswith(f"{kind}_cached_attention")


@pytest.mark.parametrize("codecs", CODECS, ids=str)
@pytest.mark.parametrize(("layout", "queries", "options"), CACHES, ids=str)
def test_caches(
    layout: str, queries: int, options: dict[str, Any], codecs: tuple[str, str], cuda: CudaBackend
) -> None:
    check_cache(cuda, "float16", layout, queries, codecs=codecs, size=64, **options)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("codecs", CODECS, ids=str)
@pytest.mark.parametrize("width", [16, 32, 80, 96, 128, 192, 256])
def test_widths_of_caches(
    width: int, codecs: tuple[str, str], dtype: str, one: CudaBackend
) -> None:
    for queries in (1, 25):
        check_cache(one, dtype, "paged", queries, codecs=codecs, size=width)


def test_codes_are_exact(one: CudaBackend) -> None:
    """Every int8 code, and every int4 code and minimum, is the number that it stands for."""
    codes = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 8, 32)
    both = np.arange(256).astype(np.uint8).reshape(1, 1, 16, 16)
    scales, lowest = np.full((1, 1, 16, 1), 0.5, np.float16), np.full((1, 1, 16, 1), -2, np.float16)
    for parts in ((codes, scales[:, :, :8]), (both, scales, lowest)):
        vectors = BARE.stored_vectors(parts, np.dtype(np.float32))
        for slot in range(vectors.shape[2]):
            seen = tuple(part[:, :, slot : slot + 1].copy() for part in parts)
            where = SlotMap(np.zeros((1, 1), np.int64), 1, 1, {})
            q = np.ones((1, 1, 1, 32), np.float16)
            out = one.cached_attention(q, seen, seen, where, AttentionOptions())
            np.testing.assert_array_equal(out[0, 0, 0], vectors[0, 0, slot])


# Edges --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("offset", [1e3, 1e6, -1e6])
def test_large_scores(offset: float, width: int, one: CudaBackend) -> None:
    """Scores far from zero, in steps that float32 has: the differences are what counts. (The
    gradient of the column that makes them large is one of differences times the offset.)"""
    x = given("bfloat16", 20, 70, width)
    x.q[..., 0], x.k[..., 0] = 1, offset
    x.q[..., 1:], x.k[..., 1:] = np.round(x.q[..., 1:]), np.round(x.k[..., 1:])
    x = x._replace(options=AttentionOptions(scale=0.125))
    got, expected = with_gradients(one, x), with_gradients(BARE, x)
    got[3][..., 0] = expected[3][..., 0]
    agree(got, expected, "bfloat16", "attention")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["q", "k", "v"])
@pytest.mark.parametrize(("queries", "width"), [(20, 32), (20, 64), (8, 32)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_not_finite(
    where: str, value: float, queries: int, width: int, one: CudaBackend
) -> None:
    """It reaches the rows and columns that the definition's reaches, and no others."""
    x = given("float16", queries, 70, width)
    getattr(x, where)[0, 0, 3, 5] = value
    got, expected = (be.attention(x.q, x.k, x.v, None, x.options) for be in (one, BARE))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_allclose(a.astype(float), b.astype(float), atol=2 * EPS["float16"])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("queries", [20, 8])
def test_infinity_added_by_a_mask(queries: int, one: CudaBackend) -> None:
    """-inf forbids, +inf is a score like that of an overflow."""
    x = given("bfloat16", queries, 70, mask="added")
    assert x.mask is not None
    x.mask[0, 0, 3, 5], x.mask[0, 0, 4], x.mask[1, 0, :, 9] = np.inf, -np.inf, -np.inf
    got, expected = (be.attention(x.q, x.k, x.v, x.mask, x.options) for be in (one, BARE))
    agree(list(got), list(expected), "bfloat16", "attention")


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("queries", "width"), [(20, 32), (3, 32), (20, 12)])
def test_a_mask_of_float32_is_not_rounded(
    queries: int, width: int, dtype: str, one: CudaBackend
) -> None:
    """Far from zero, as positions' distances are; and a row of the least number there is, which in
    16 bits is -infinity, forbids nothing that others have."""
    x = given(dtype, queries, 70, width, mask="float32")
    assert x.mask is not None
    x.mask[...] -= 1000 + np.random.default_rng(1).random(x.mask.shape, np.float32)
    x.mask[0, 0, 1] = np.finfo(np.float32).min
    agree(with_gradients(one, x), with_gradients(BARE, x), dtype, "attention")


def test_a_result_at_an_odd_place_is_copied_before_it_is_read_by_pairs(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As hooks on saved tensors may give it: a GPU refuses to load 4 bytes from there."""
    x = given("bfloat16", 20, 70)
    out, *kept = one.attention(x.q, x.k, x.v, None, x.options)
    expected = one.attention_grad(x.g, x.q, x.k, x.v, out, *kept, None, x.options)
    moved = np.empty(out.size + 1, out.dtype)[1:].reshape(out.shape)
    moved[...] = out
    launch = one.runtime.launch

    def checked(*arguments: Any, **more: Any) -> None:
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        assert all(a.ctypes.data % 16 == 0 for a in arrays)
        launch(*arguments, **more)

    monkeypatch.setattr(one.runtime, "launch", checked)
    got = one.attention_grad(x.g, x.q, x.k, x.v, moved, *kept, None, x.options)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("width", [32, 64])
def test_gradients_are_the_same_in_every_run(width: int, cuda: CudaBackend) -> None:
    cuda.runtime.has_warpgroups = True
    x = given("bfloat16", 150, 70, width, heads=(4, 1))
    first = with_gradients(CudaBackend(0, EmulatedRuntime()), x)
    for a, b in zip(with_gradients(cuda, x), first, strict=True):
        np.testing.assert_array_equal(a, b)


# The kernels as such ------------------------------------------------------------------------------


def test_no_bank_conflicts(one: CudaBackend) -> None:
    for family in ("decode_attention", "flash_attention", "flash_attention_grad"):
        library = cuda_emulation.library(family)
        before = cuda_emulation.bank_conflicts(library)
        for width in (32, 64, 96, 128, 192, 256):
            for queries in (3, 20):
                x = given("float16", queries, 20, width)
                one.runtime.has_warpgroups = False
                with_gradients(one, x)
        assert cuda_emulation.bank_conflicts(library) == before


def test_blocks_fit_any_gpu(one: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of shared memory the smallest of them, since sm_80, gives a block 99 KiB."""
    asked: list[int] = []
    one.runtime.has_warpgroups = False
    launch = one.runtime.launch
    monkeypatch.setattr(
        one.runtime, "launch", lambda *args, **kw: asked.append(kw["shared"]) or launch(*args, **kw)
    )
    for width in (32, 64, 96, 128, 192, 256):
        for queries in (3, 20):
            with_gradients(one, given("bfloat16", queries, 20, width))
    assert max(asked) <= 99 << 10


def test_parts_of_a_gpu_of_many_multiprocessors(
    one: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are no more than the kernel that joins them has room for."""
    room = re.search(r"MOST_PARTS = (\d+)", (kernels.FOLDER / "attention.cu").read_text())
    assert room is not None
    monkeypatch.setattr(one.runtime, "multiprocessors", 188)
    assert one.parts_of_decoding(1, 1 << 20) == int(room[1]) == MOST_PARTS


BARRIERS = [
    ("flash_attention", "this tile is loaded; the previous one is no longer read"),
    ("flash_attention_grad", "this tile is loaded; the previous one is no longer read"),
    ("warpgroup_attention", "this tile is loaded; the previous one is no longer read"),
    ("warpgroup_attention_grad", "this tile is loaded; the previous one is no longer read"),
    ("flash_cached_attention", "`places` are written"),
    ("decode_attention", "queries are loaded"),
    ("decode_attention", "tiles are no longer read"),
    ("decode_attention", "all statistics are written"),
    ("decode_attention", "all sums are written"),
]
LINES = [
    *((family, f"__syncthreads();  // {barrier}") for family, barrier in BARRIERS),
    *itertools.product(
        ("warpgroup_attention", "warpgroup_attention_grad"),
        ("fence_shared();", "warpgroup_wait<0>();"),
    ),
]


def narrow_kernels(family: str, without: str) -> Any:
    """The family's kernels of float16 and of its narrowest heads alone, which compile soon, without
    a line."""
    text = (kernels.FOLDER / f"{family}.cu").read_text()
    for include, header in re.findall(r'(#include "((?:flash|decode)_attention.cuh)")', text):
        shared = (kernels.FOLDER / header).read_text().replace("#pragma once", "")
        text = text.replace(include, shared)
    assert without in text
    others = "128" if family.startswith("warpgroup") else "64|96|128|192|256"
    text = re.sub(rf"^    [A-Z_]+\(({others}), [^)]*\)", "    ", text, flags=re.M)
    text = text.replace("FOR_EACH_HALF(EXPORT)", "EXPORT(float16, __half)")
    return cuda_emulation.library(family, text.replace(without, ""))


@pytest.mark.parametrize(("family", "line"), LINES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_missing_line_shows(family: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = narrow_kernels(family, line)
    library = cuda_emulation.library
    monkeypatch.setattr(
        cuda_emulation, "library", lambda name: planted if name == family else library(name)
    )
    width = 64 if family.startswith("warpgroup") else 32
    x = given("float16", 3 if family == "decode_attention" else 129, 150, width, heads=(1, 1))
    cache = cached_attention("paged", 80, slots=150, size=32)

    def results(be: Any) -> list[np.ndarray]:
        if family == "flash_cached_attention":
            return [be.cached_attention(*cache(Draw("float16")))]
        return with_gradients(be, x)

    def is_right(order: int) -> bool:
        try:
            got = results(CudaBackend(0, EmulatedRuntime(order)))
        except RuntimeError:  # the emulator reports it
            return False
        return all(
            np.allclose(a.astype(float), b.astype(float), atol=0.01)
            for a, b in zip(got, expected, strict=True)
        )

    expected = results(BARE)
    assert not all(is_right(order) for order in ORDERS)
