"""Rotary positions, the write to a cache and attention by one kernel: the bits of the two."""

from __future__ import annotations

import random
import shutil
import sys
from typing import Any

import numpy as np
import pytest

from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.flash_attention import HEADS
from support import cuda_emulation
from support.backend_table import Draw, rope_attention
from support.cuda_emulation import ORDERS, EmulatedRuntime

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]


@pytest.fixture(autouse=True)
def _the_slot_races(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--races`, too: the new token's slot is read while it is written, but what was read is
    replaced. `test_no_races` looks for others."""
    monkeypatch.setattr(cuda_emulation, "finds_races", False)


def given(case: Any, dtype: str) -> tuple[list[Any], Any, tuple[Any, ...]]:
    """The arguments before the cache, the cache, and those behind it."""
    arguments = case(Draw(dtype))
    return list(arguments[:5]), arguments[5], arguments[6:]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "case",
    [
        rope_attention(8, 2, 64),
        *(rope_attention(4, 2, 64, at=at) for at in (0, 1, 15, 16, 63, 64, 69)),
        rope_attention(32, 4, 64, slots=256, at=255, window=70),
        rope_attention(2, 2, 32, half=8, by=True),
        rope_attention(16, 1, 96, slots=9, at=8),
        rope_attention(6, 2, 128, slots=600, at=517),
        rope_attention(2, 1, 256, slots=40, at=33),
        rope_attention(2, 1, 192, slots=300, at=13),
    ],
)
def test_one_launch_gives_what_two_give(case: Any, dtype: str, order: int) -> None:
    be = CudaBackend(0, EmulatedRuntime(order))
    first, cache, (places, slots, options) = given(case, dtype)
    caches = [tuple(x.copy() for x in cache) for _ in range(2)]
    rotated, keys, values = be.rope_update(*first, caches[0], places)
    expected = be.cached_attention(rotated, (keys,), (values,), slots, options)
    be.runtime.launched.clear()
    got, *_ = be.rope_attention(*first, caches[1], places, slots, options)
    assert be.runtime.launched[0].startswith("rope_attention_")
    assert got.tobytes() == expected.tobytes()
    for one, other in zip(*caches, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(60))
def test_any_problem(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any sizes, places and positions, with numbers that are not finite."""
    r = random.Random(seed)
    monkeypatch.setattr(EmulatedRuntime, "multiprocessors", r.choice([1, 4, 132]))
    be = CudaBackend(0, EmulatedRuntime(r.choice(ORDERS)))
    size, key_heads, room = r.choice(HEADS), r.randint(1, 3), r.choice([9, 64, 70, 300, 700])
    half, at = r.randrange(8, size // 2 + 1, 8), r.randrange(room)
    window = r.choice([None, None, 1, 2, 15, 16, 17, 64, 100, 1000])
    case = rope_attention(r.randint(1, 16) * key_heads, key_heads, size, slots=room, half=half,
                          by=r.random() < 0.5, at=at, window=window)  # fmt: skip
    first, cache, (places, slots, options) = given(case, r.choice(["bfloat16", "float16"]))
    extent, position = (
        r.choice([room, r.randint(1, room)]),
        r.choice([at, r.randint(-3, room + 30)]),
    )
    slots = slots._replace(extent=extent, positions=np.full((1, 1), position))
    places = places[0], places[1] + room * r.choice([0, 0, -1, 1, -3, 5])
    options = options._replace(softcap=r.choice([None, 1.5]))
    for x in (*first[:3], *cache):
        if r.random() < 0.2:
            x[tuple(r.randrange(n) for n in x.shape)] = r.choice([np.inf, -np.inf, np.nan])
    caches = [tuple(x.copy() for x in cache) for _ in range(2)]
    rotated, keys, values = be.rope_update(*first, caches[0], places)
    expected = be.cached_attention(rotated, (keys,), (values,), slots, options)
    be.runtime.launched.clear()
    got, *_ = be.rope_attention(*first, caches[1], places, slots, options)
    assert be.runtime.launched[0].startswith("rope_attention_")
    for one, other in zip((expected, *caches[0]), (got, *caches[1]), strict=True):
        assert np.array_equal(*(x.astype(np.float32) for x in (one, other)), equal_nan=True)


def test_heads_that_lie_apart_and_places_from_behind() -> None:
    be = CudaBackend(0, EmulatedRuntime())
    a = Draw("bfloat16")
    first, cache, (places, slots, options) = given(rope_attention(8, 2, 64), "bfloat16")
    whole = a(1, 1, 12, 64)
    first[:3] = (
        x.transpose(0, 2, 1, 3) for x in (whole[:, :, :8], whole[:, :, 8:10], whole[:, :, 10:])
    )
    places = places[0], places[1] - 70
    caches = [tuple(x.copy() for x in cache) for _ in range(2)]
    rotated, keys, values = be.rope_update(*first, caches[0], places)
    expected = be.cached_attention(rotated, (keys,), (values,), slots, options)
    got, *_ = be.rope_attention(*first, caches[1], places, slots, options)
    assert be.runtime.launched[-1] == "rope_attention_64_bfloat16"
    assert got.tobytes() == expected.tobytes()
    for one, other in zip(*caches, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_token_that_its_query_does_not_see(dtype: str) -> None:
    """What is not finite in it reaches no sum."""
    be = CudaBackend(0, EmulatedRuntime())
    first, cache, (places, slots, options) = given(rope_attention(8, 2, 64), dtype)
    slots = slots._replace(positions=slots.positions - 3)
    first[1][...] = first[2][...] = np.inf
    for at in (38, 40, 47, 69):
        places = places[0], np.full((1, 1), at)
        rotated, keys, values = be.rope_update(*first, cache, places)
        expected = be.cached_attention(rotated, (keys,), (values,), slots, options)
        got, *_ = be.rope_attention(*first, cache, places, slots, options)
        assert be.runtime.launched[-1].startswith("rope_attention_")
        assert np.isfinite(got).all() and got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "case",
    [
        rope_attention(16, 1, 192),
        rope_attention(16, 1, 96, half=16, by=True),
        rope_attention(16, 1, 256, half=8),
        rope_attention(14, 2, 128, slots=300, at=170, window=90),
    ],
)
def test_no_races(case: Any, order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the new token in a slot behind all that is read."""
    monkeypatch.setattr(cuda_emulation, "finds_races", True)
    be = CudaBackend(0, EmulatedRuntime(order))
    first, cache, (places, slots, options) = given(case, "bfloat16")
    places = places[0], np.full_like(places[1], cache[0].shape[2] - 1)
    be.rope_attention(*first, cache, places, slots, options)
    assert be.runtime.launched[0].startswith("rope_attention_")


@pytest.mark.parametrize("window", [1 << 31, (1 << 32) - 1, sys.maxsize, 1 << 64])
def test_a_window_wider_than_a_kernel_counts(window: int) -> None:
    be = CudaBackend(0, EmulatedRuntime())
    first, cache, (places, slots, options) = given(rope_attention(4, 2, 64), "bfloat16")
    expected, *_ = be.rope_attention(*first, cache, places, slots, options)
    wide = options._replace(window=window)
    assert be.rope_attention(*first, cache, places, slots, wide)[0].tobytes() == expected.tobytes()
    for dtype in ("float32", "bfloat16"):
        q, k, v, g = (Draw(dtype)(1, 2, 70, 64) for _ in range(4))
        outs, grads = [], []
        for o in (options, wide):
            outs.append(be.attention(q, k, v, None, o))
            grads.append(be.attention_grad(g, q, k, v, *outs[-1], None, o))
        for one, other in ((a, b) for both in (outs, grads) for a, b in zip(*both, strict=True)):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("slots", "window", "keys"), [(256, None, 256), (2048, None, 3 * 128), (2048, 60, 60)]
)
def test_what_is_fetched_early_fits_the_cache(
    slots: int, window: int | None, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first keys of each of three blocks, or one; in a window at its end."""
    monkeypatch.setattr(EmulatedRuntime, "multiprocessors", 1)
    be = CudaBackend(0, EmulatedRuntime())
    kernels = cuda_emulation.library("rope_attention")
    before = cuda_emulation.fetches(kernels)
    case = rope_attention(2, 1, 64, slots=slots, at=slots - 1, window=window)
    be.rope_attention(*case(Draw("bfloat16")))
    assert cuda_emulation.fetches(kernels) - before == 2 * keys


def test_what_the_kernel_does_not_take() -> None:
    be = CudaBackend(0, EmulatedRuntime())
    for case in (rope_attention(4, 2, 64, tokens=2), rope_attention(4, 2, 40),
                 rope_attention(17, 1, 64)):  # fmt: skip
        be.rope_attention(*case(Draw("bfloat16")))
    be.rope_attention(*rope_attention(4, 2, 64)(Draw("float32")))
    assert not any(name.startswith("rope_attention") for name in be.runtime.launched)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("at", "window"), [(0, None), (17, None), (47, None), (17, 5)])
def test_slots_behind_the_newest_hold_anything(at: int, window: int | None, order: int) -> None:
    be = CudaBackend(0, EmulatedRuntime(order))
    first, cache, rest = given(rope_attention(8, 2, 64, at=at, window=window), "bfloat16")
    results = []
    for value in (0, np.nan):
        for x in cache:
            x[:, :, at + 1 :] = value
        results.append(be.rope_attention(*first, cache, *rest)[0].tobytes())
    assert be.runtime.launched[0].startswith("rope_attention_")
    assert results[0] == results[1]
