"""The key-value caches: every layout with every codec, held to computing without one."""

from __future__ import annotations

import functools
import gc
import json

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient.errors import ArgumentError, CacheFull, TypeMismatch
from gradient.generation import KVCache
from gradient.kv_cache import layout
from gradient.kv_cache.dtypes import codec_of
from gradient.kv_cache.paged import PagePool
from support.cache_model import close, fed, feed, make_model, texts, whole

LAYOUTS = {
    "static": {"kind": "static"},
    "static in blocks": {"kind": "static", "block": 8},
    "sliding": {"kind": "sliding", "max_rewind": 3},
    "sliding in blocks": {"kind": "sliding", "max_rewind": 3, "block": 4},
    "sliding, window alone": {"kind": "sliding", "max_rewind": 0},
    "paged": {"kind": "paged", "page_size": 4},
    "paged in blocks": {"kind": "paged", "page_size": 4, "block": 8},
    "paged, bound": {"kind": "paged", "page_size": 5, "pages": 64},
}

#: How far logits may lie from those without a cache, as a share of the largest.
TOLERANCE = {None: 1e-6, "bfloat16": 5e-3, "int8": 1e-2, "int8/int4": 0.1, "int4": 0.1}

#: What is fed, pass by pass: how many tokens of each row.
SCENARIOS = {
    "one prompt and steps": [[7]] + [[1]] * 20,
    "tokens one by one": [[1]] * 30,
    "prompt beyond the windows": [[40]] + [[1]] * 5,
    "even rows": [[9, 9, 9]] + [[1, 1, 1]] * 6,
    "ragged rows": [[9, 2, 30]] + [[1, 1, 1]] * 8,
    "chunks": [[16], [16], [9]] + [[1]] * 3,
    "ragged chunks": [[5, 12], [7, 3], [1, 20], [4, 4], [2, 3], [1, 1]],
    "chunks that some rows do not need": [[8, 8, 3], [8, 2, 0], [5, 0, 0], [1, 1, 1], [1, 1, 1]],
    "short passes, as when drafts are checked": [[14, 3]] + [[4, 4], [3, 1]] * 5,
}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_a_cache_as_without(layout, dtype, scenario, device):
    model, passes = make_model(device), SCENARIOS[scenario]
    text = texts(len(passes[0]))
    expected = whole(model, text)
    cache = KVCache.for_model(model, len(text), dtype=dtype, **LAYOUTS[layout])
    for new in passes:
        starts = list(cache.counts)
        for row, logits in enumerate(feed(model, cache, text, new, starts)):
            stop = starts[row] + new[row]
            close(logits, expected[row, starts[row] : stop], TOLERANCE[dtype])
        assert cache.counts == cache.lengths.tolist()
    assert cache.counts == [sum(counts) for counts in zip(*passes, strict=True)]


@functools.cache
def token_by_token(dtype: str, row: int) -> np.ndarray:
    """The logits of a row of the texts, alone, of one token after another."""
    model, text = make_model().to(getattr(gradient, dtype)), texts(row + 1)[[row]]
    cache = KVCache.for_model(model, 1)
    return np.concatenate([feed(model, cache, text, [1], [i])[0] for i in range(50)])


@pytest.mark.cpu_only
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_are_the_same_bits_however_a_text_comes(layout, dtype, scenario):
    """The CPU's kernels take sums in an order that has nothing to do with what is beside them."""
    pytest.importorskip("numba")
    model, passes = make_model().to(getattr(gradient, dtype)), SCENARIOS[scenario]
    text = texts(len(passes[0]))
    cache = KVCache.for_model(model, len(text), **LAYOUTS[layout])
    for new in passes:
        starts = list(cache.counts)
        for row, logits in enumerate(feed(model, cache, text, new, starts)):
            expected = token_by_token(dtype, row)[starts[row] :][: new[row]]
            np.testing.assert_array_equal(logits, expected)


# ---- rows that come, go, and share --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, "int8", "int4"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_selected_rows_go_on_as_they_were_and_independently(layout, dtype, device):
    model, text = make_model(device), texts(3)
    expected = whole(model, text)
    options = {"dtype": dtype, **LAYOUTS[layout]}
    cache = fed(model, KVCache.for_model(model, 3, **options), text, [21, 2, 13])
    rows = [2, 0, 2]
    chosen = cache.select(rows)
    assert chosen.counts == chosen.lengths.tolist() == [13, 21, 13]
    other = texts(3, seed=2)  # what the copies of a row go on with, each with its own
    apart = text[rows]
    apart[2, 13:] = other[2, 13:]
    for old, new in [([1, 1, 1], [1, 1, 1]), ([1, 1, 1], [2, 3, 1]), ([3, 1, 2], [1, 1, 2])]:
        for each, its_text, counts in [(cache, text, old), (chosen, apart, new)]:
            whole_logits = expected if each is cache else whole(model, apart)
            starts = list(each.counts)
            for row, logits in enumerate(feed(model, each, its_text, counts, starts)):
                stop = starts[row] + counts[row]
                close(logits, whole_logits[row, starts[row] : stop], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [None, "int8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_come_and_go_in_a_running_batch(layout, dtype, device):
    model, text = make_model(device), texts(4)
    expected, options = whole(model, text), {"dtype": dtype, **LAYOUTS[layout]}
    running = fed(model, KVCache.for_model(model, 2, **options), text[:2], [25, 4])
    if running.pool is not None:
        options = {"kind": "paged", "dtype": dtype, "pool": running.pool}
        options |= {"block": LAYOUTS[layout].get("block", 1)}
    newcomers = [KVCache.for_model(model, 1, **options) for _ in range(2)]
    for row, count in ((2, 9), (3, 31)):
        fed(model, newcomers[row - 2], text[row : row + 1], [count])
    running, names = running.join(*newcomers), [0, 1, 2, 3]
    assert running.counts == running.lengths.tolist() == [25, 4, 9, 31]
    for leaving in (1, 0, 2, None):
        for new in ([1] * len(names), [2, 3, 1, 2][: len(names)]):
            starts = list(running.counts)
            found = feed(model, running, text[names], new, starts)
            for row, start, logits in zip(names, starts, found, strict=True):
                close(logits, expected[row, start : start + len(logits)], TOLERANCE[dtype])
        if leaving is not None:
            running = running.select([at for at, name in enumerate(names) if name != leaving])
            names.remove(leaving)


def test_only_caches_that_are_alike_are_joined():
    model = make_model()
    static, paged = (KVCache.for_model(model, 1, kind=kind) for kind in ("static", "paged"))
    with pytest.raises(ArgumentError, match="got static of float32, paged of float32"):
        static.join(paged)
    with pytest.raises(ArgumentError, match="paged caches must be of one pool"):
        paged.join(KVCache.for_model(model, 1, kind="paged"))
    rings = [
        KVCache.for_model(model, 1, kind="sliding", max_rewind=max_rewind) for max_rewind in (2, 3)
    ]
    with pytest.raises(ArgumentError, match="must have the same max_rewind"):
        rings[0].join(rings[1])


#: Rings that keep nothing beyond their window have tests of their own: they go back by one token.
GO_BACK = [layout for layout in LAYOUTS if layout != "sliding, window alone"]


@pytest.mark.parametrize("dtype", [None, "int4"])
@pytest.mark.parametrize("layout", GO_BACK)
@pytest.mark.parametrize(
    ("held", "kept"),
    [([5, 3], [2, 0]), ([9, 14], [9, 12]), ([30, 18], [29, 14]), ([30, 18], [0, 0])],
    ids=str,
)
def test_a_rewound_cache_goes_on_as_if_it_had_never_held_more(layout, dtype, held, kept, device):
    model, text, before = make_model(device), texts(2), texts(2, seed=3)
    for row, count in enumerate(kept):
        before[row, :count] = text[row, :count]
    cache = KVCache.for_model(model, 2, dtype=dtype, **LAYOUTS[layout])
    fed(model, cache, before, held)
    cache.rewind(kept)
    assert cache.counts == cache.lengths.tolist() == kept
    expected = whole(model, text)
    for new in ([1, 1], [3, 4], [1, 1], [12, 5], [1, 1]):
        starts = list(cache.counts)
        for row, logits in enumerate(feed(model, cache, text, new, starts)):
            close(logits, expected[row, starts[row] : starts[row] + new[row]], TOLERANCE[dtype])


@pytest.mark.parametrize("max_rewind", [0, 1, 5])
def test_a_ring_goes_back_by_max_rewind_and_one_and_no_further(max_rewind):
    model, text = make_model(windows=(6,)), texts(1)
    cache = fed(
        model, KVCache.for_model(model, 1, kind="sliding", max_rewind=max_rewind), text, [40]
    )
    with pytest.raises(
        ArgumentError, match=f"row 0 cannot go on after {38 - max_rewind} tokens, .* "
    ):
        cache.rewind([38 - max_rewind])
    assert cache.counts == [40]
    cache.rewind([39 - max_rewind])
    close(
        feed(model, cache, text, [1], cache.counts)[0],
        whole(model, text)[0, 39 - max_rewind : 40 - max_rewind],
        TOLERANCE[None],
    )
    cache.rewind([0])  # for which nothing is needed


def test_a_ring_that_a_broken_pass_has_overwritten_says_so():
    model, text = make_model(), texts(1)
    cache = fed(model, KVCache.for_model(model, 1, kind="sliding", max_rewind=3), text, [30])
    cache.begin(20)  # and never committed
    with pytest.raises(ArgumentError, match="the last pass was broken off midway: row 0"):
        cache.begin(1)
    with pytest.raises(ArgumentError, match="rewind the row to 0 and compute the text anew"):
        cache.begin(1)
    cache.rewind([0])
    logits = feed(model, cache, text, [25], [0])[0]
    close(logits, whole(model, text)[0, :25], TOLERANCE[None])


@pytest.mark.parametrize("layout", GO_BACK)
def test_a_pass_that_fails_changes_nothing(layout):
    model, text = make_model(), texts(2)
    cache = fed(model, KVCache.for_model(model, 2, **LAYOUTS[layout]), text, [9, 4])
    step = cache.begin(2)
    k = gradient.ones(2, 2, 2, 8)
    step.attend(0, gradient.ones(2, 4, 2, 8), k, k)  # the first layer, and no more
    assert cache.counts == cache.lengths.tolist() == [9, 4]
    for row, logits in enumerate(feed(model, cache, text, [3, 2], [9, 4])):
        start = (9, 4)[row]
        close(logits, whole(model, text)[row, start : start + len(logits)], TOLERANCE[None])


# ---- memory -------------------------------------------------------------------------------------


def test_buffers_grow_by_doubling(device):
    cache = KVCache([(2, 4)], 1, device=device)
    capacities = []
    with gradient.no_grad():
        for _ in range(9):
            past = cache.begin(1)
            past.attend(0, *(gradient.ones(1, 2, 1, 4, device=device) for _ in range(3)))
            past.commit()
            capacities.append(cache.layouts[0].capacity)
    assert capacities == [1, 2, 4, 4, 8, 8, 8, 8, 16]
    assert cache.layouts[0].read(0, 0, 0, 9).keys[0].min().item() == 1


@pytest.mark.parametrize("kind", ["static", "sliding", "paged"])
def test_a_cache_that_cannot_grow_stays_as_it_was(kind, monkeypatch):
    model, text = make_model(), texts(2)
    make = layout.empty_parts
    for failing in range(2 * len(model.kv_shapes)):
        cache = fed(model, KVCache.for_model(model, 2, kind=kind), text, [9, 4])
        calls = iter(range(100))

        def parts(*args, calls=calls, failing=failing):
            if next(calls) == failing:
                raise MemoryError
            return make(*args)

        with monkeypatch.context() as patched:
            patched.setattr(layout, "empty_parts", parts)
            with pytest.raises(MemoryError):
                feed(model, cache, text, [30, 30], [9, 4])
        assert cache.counts == [9, 4]
        for row, logits in enumerate(feed(model, cache.select([0, 1]), text, [12, 12], [9, 4])):
            start = (9, 4)[row]
            close(logits, whole(model, text)[row, start : start + 12], TOLERANCE[None])
        assert cache.pool is None or cache.pool.used == 2
        for row, logits in enumerate(feed(model, cache, text, [30, 30], [9, 4])):
            start = (9, 4)[row]
            close(logits, whole(model, text)[row, start : start + 30], TOLERANCE[None])


def test_rows_of_a_paged_cache_share_what_they_have_in_common():
    model, text = make_model(), texts(1)
    cache = fed(model, KVCache.for_model(model, 1, kind="paged", page_size=4), text, [14])
    pool = cache.pool
    assert pool.used == 4
    beams = cache.select([0] * 6)
    assert pool.used == 4
    assert beams.pool is pool
    many = np.repeat(text, 6, axis=0)
    many[:, 14:] = texts(6, seed=5)[:, 14:]
    feed(model, beams, many, [1] * 6, [14] * 6)
    assert pool.used == 4 + 6  # each beam has the last, unfilled page for itself
    feed(model, beams, many, [2] * 6, [15] * 6)
    assert pool.used == 4 + 6 + 6
    beams = beams.select([3, 3])
    gc.collect()
    assert pool.used == 4 + 2  # three full and one of the first cache; two of beam 3
    del cache
    gc.collect()
    assert pool.used == 3 + 2
    beams.rewind([12, 0])
    assert pool.used == 3
    check_tables(beams)
    del beams
    gc.collect()
    assert pool.used == 0


def test_the_last_of_those_who_share_a_page_writes_to_it():
    model, text = make_model(), texts(2)
    text[1, :14] = text[0, :14]
    options = {"kind": "paged", "page_size": 4, "pages": 5}
    cache = fed(model, KVCache.for_model(model, 1, **options), text[:1], [14])
    pair = cache.select([0, 0])
    pool = pair.pool
    del cache
    gc.collect()
    feed(model, pair, text, [1, 1], [14, 14])  # one copy, for which one page is left
    assert pool.used == 4 + 1
    check_tables(pair)


def test_a_row_that_brings_nothing_writes_to_no_page_of_another():
    model, text = make_model(), texts(2)
    text[1] = text[0]
    cache = fed(model, KVCache.for_model(model, 1, kind="paged", page_size=4), text[:1], [16])
    pair = cache.select([0, 0])
    pair.rewind([13, 13])  # into the page that it shares
    feed(model, pair, text, [3, 0], [13, 13])
    check_tables(pair)
    close(feed(model, cache, text[:1], [1], [16])[0], whole(model, text)[0, 16:17], 1e-6)


def test_padding_reaches_no_other_row_whatever_it_is():
    cache = KVCache([(1, 2)], 3, kind="paged", page_size=4)
    ones = gradient.ones(3, 1, 9, 2)
    value = ones.clone()
    value[1, :, 1:] = float("nan")
    value[2, :, 2:] = float("nan")
    past = cache.begin(9, [9, 1, 2])
    past.attend(0, ones, ones, value)
    past.commit()
    one = gradient.ones(3, 1, 1, 2)
    close(cache.begin(1).attend(0, one, one, one).numpy(), one.numpy(), 1e-6)


def check_tables(cache):
    """The device's page table is the host's, and pages are counted as often as they are named."""
    paged = cache.layouts[0]
    for row, pages in enumerate(paged.tables):
        entries = paged.table[row].tolist()
        assert entries == pages + [0] * (len(entries) - len(pages))
        assert all(paged.pool.references[page] >= 1 for page in pages)
    assert paged.table.shape[0] == cache.batch_size


def test_a_full_pool_says_what_is_missing_and_the_cache_stays_usable():
    model, text = make_model(), texts(2)
    cache = KVCache.for_model(model, 2, kind="paged", page_size=4, pages=6)
    fed(model, cache, text, [12, 10])
    expected = "paged cache: 2 more pages of 4 tokens are needed, and 0 of 6 are free"
    with pytest.raises(CacheFull, match=expected):
        feed(model, cache, text, [3, 3], [12, 10])
    assert cache.counts == [12, 10]
    kept = cache.select([0])
    del cache
    gc.collect()
    logits = feed(model, kept, text[:1], [3], [12])[0]
    close(logits, whole(model, text)[0, 12:15], TOLERANCE[None])


@pytest.mark.parametrize("fails", [False, True])
def test_pages_that_come_back_while_others_are_taken_are_not_lost(fails, monkeypatch):
    pool = PagePool(KVCache([(1, 2)], 1, kind="paged").pool.spec, page_size=4)
    first, dropped = pool.allocate(3), pool.allocate(2)
    pool.release(first)
    tensors = PagePool.tensors.fget

    def collected(pool):  # as if the garbage collector found a dropped cache here
        pool.release(dropped)
        if fails:
            raise MemoryError
        return tensors(pool)

    monkeypatch.setattr(PagePool, "tensors", property(collected))
    if fails:
        with pytest.raises(MemoryError):
            pool.allocate(2)
        assert sorted(pool.free) == sorted(first + dropped)
        assert pool.used == 0
    else:
        taken = pool.allocate(2)
        assert set(taken) < set(first)
        assert sorted(taken + pool.free) == sorted(first + dropped)
        assert pool.used == 2


def test_caches_of_one_pool():
    model, text = make_model(), texts(2)
    first = KVCache.for_model(model, 1, kind="paged", page_size=4)
    pool = first.pool
    fed(model, first, text[:1], [9])
    second = KVCache.for_model(model, 1, kind="paged", pool=pool)
    fed(model, second, text[1:], [6])
    assert pool.used == 3 + 2
    close(feed(model, first, text[:1], [2], [9])[0], whole(model, text)[0, 9:11], TOLERANCE[None])
    close(feed(model, second, text[1:], [2], [6])[0], whole(model, text)[1, 6:8], TOLERANCE[None])
    with pytest.raises(ArgumentError, match="the pool was made for another model, dtype or device"):
        KVCache.for_model(model, 1, kind="paged", dtype="int8", pool=pool)


def test_a_page_is_clean_when_it_gets_another_owner():
    model, text = make_model(), texts(2)
    options = {"kind": "paged", "page_size": 8}
    cache = fed(model, KVCache.for_model(model, 2, **options), text, [10, 3])
    for plane in cache.pool.tensors:
        plane[1:] = float("nan")
    cache.rewind([0, 0])
    feed(model, cache, text, [12, 2], [0, 0])
    for row, logits in enumerate(feed(model, cache, text, [1, 1], [12, 2])):
        start = (12, 2)[row]
        close(logits, whole(model, text)[row, start : start + 1], TOLERANCE[None])


def test_layers_that_slide_stay_small():
    model, text = make_model(windows=(6, 11, 6)), texts(1)
    sizes = {}
    for kind in ("static", "sliding"):
        cache = KVCache.for_model(
            model, 1, kind=kind, **({"max_rewind": 2} if kind != "static" else {})
        )
        sizes[kind] = []
        for start in range(0, 80, 10):
            feed(model, cache, text, [10], [start])
            sizes[kind].append(cache.nbytes)
    assert sizes["static"][-1] > 4 * sizes["sliding"][-1]
    slot = 2 * 2 * 8 * 4  # keys and values, two heads of eight float32
    assert sizes["sliding"][2:] == [slot * (3 + 8 + 13 + 8)] * 6  # a bin each, and the rings


@pytest.mark.parametrize(
    ("dtype", "share"), [("bfloat16", 0.5), ("int8", 17 / 64), ("int4", 10 / 64)]
)
def test_fewer_bits_take_less_memory(dtype, share):
    model = make_model(head_size=64)
    sizes = [KVCache.for_model(model, 2, 64, dtype=each).nbytes for each in (None, dtype)]
    assert sizes[1] == sizes[0] * share


# ---- codecs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("head_size", [8, 20, 32, 64, 96])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 300.0])
def test_rounding_is_to_the_nearest_code(head_size, spread, device):
    x = (gradient.randn(3, 5, head_size) * spread).to(device)
    x[0, 0] = 0.0
    x[1, 1] = 7.0
    groups = x.reshape(3, 5, -1, head_size if head_size % 32 else 32)
    largest, range_ = groups.abs().amax(-1), groups.amax(-1) - groups.amin(-1)
    bounds = {
        "int8": largest * (1 / 254 + 2**-11),
        "int4": range_ * (1 / 30) + largest * 2**-10 + range_ * 2**-10,
    }
    for name, bound in bounds.items():
        codec = codec_of(name)
        planes = codec.encode(x)
        assert [(p.shape[-1], p.dtype) for p in planes] == codec.parts(head_size)
        error = (codec.decode(planes, head_size, gradient.float32) - x).abs()
        worst = error.reshape(groups.shape).amax(-1)
        assert bool((worst <= bound + 1e-6 * spread).all()), name
        again = codec.encode(codec.decode(planes, head_size, gradient.float32))
        if name == "int8":
            assert again[0].tolist() == planes[0].tolist()


def test_numbers_beyond_float16_stay_finite():
    for name in ("int8", "int4"):
        codec = codec_of(name)
        x = gradient.tensor([[1e9, -1e9] + [0.0] * 30])
        decoded = codec.decode(codec.encode(x), 32, gradient.float32)
        assert bool(decoded.isfinite().all())


@pytest.mark.cpu_only
def test_what_fewer_bits_cost_a_trained_model(real_data):
    """The bounds of `quantized`'s docstring, on the file it names."""
    lm = gradient.hub.load(real_data("stories260k") / "stories260K.gguf")
    path = real_data("tinystories_sample") / "tinystories_1000.json"
    stories = json.loads(path.read_text(encoding="utf-8"))[:12]
    rows = [gradient.tensor([lm.tokenizer.encode(story)[:257]]) for story in stories]

    def nats(dtype):
        total = 0.0
        for ids in rows:
            cache = KVCache.for_model(lm.model, 1, dtype=dtype)
            with gradient.no_grad():
                logits = lm.model(ids[:, :-1], cache)[0]
            total += F.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        return total / sum(ids.shape[1] - 1 for ids in rows)

    exact = nats(None)
    assert exact == pytest.approx(1.3815, abs=1e-3)
    worse = {dtype: nats(dtype) - exact for dtype in ("bfloat16", "int8", "int8/int4", "int4")}
    bounds = {"bfloat16": 0.001, "int8": 0.005, "int8/int4": 0.007, "int4": 0.45}
    assert all(worse[dtype] < bound for dtype, bound in bounds.items()), worse


# ---- what is asked wrongly ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"kind": "rolling"},
            ArgumentError,
            "expected one of static, sliding, paged, got 'rolling'",
        ),
        ({"dtype": "int3"}, ArgumentError, "stored as one of float32, .*, int4, got 'int3'"),
        ({"block": 0}, ArgumentError, "block must be at least 1 slot, got 0"),
        ({"page_size": 4}, TypeMismatch, r"a static one has no option 'page_size' \(options: cap"),
        (
            {"kind": "sliding", "max_rewind": -1},
            ArgumentError,
            "max_rewind must be at least 0 tokens, got -1",
        ),
        ({"kind": "paged", "page_size": 0}, ArgumentError, "must be at least 1, got 0 and None"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_caches_that_there_are_not(options, error, message):
    with pytest.raises(error, match=message):
        KVCache.for_model(make_model(), 1, **options)


def test_two_dtypes_at_most():
    with pytest.raises(ArgumentError, match="expected one dtype, or that of keys/values, got 'int"):
        KVCache([(2, 8)], 1, dtype="int8/int8/int4")


def test_int4_needs_heads_of_even_size():
    with pytest.raises(ArgumentError, match="heads need an even size, got 7; use int8"):
        KVCache([(2, 7)], 1, dtype="int4")
    assert KVCache([(2, 7)], 1, dtype="int8").codecs.name == "int8"


@pytest.mark.parametrize("counts", [[3], [3, 6], [-1, 2]])
def test_a_cache_cannot_be_rewound_to_what_it_does_not_hold(counts):
    cache = KVCache([], 2)
    cache.begin(5).commit()
    with pytest.raises(ArgumentError, match=r"rewind: expected a count from 0 to .* \[5, 5\]"):
        cache.rewind(counts)
    assert cache.counts == [5, 5]


def test_rows_must_match_the_cache():
    with pytest.raises(ArgumentError, match="cache: holds 2 rows, got 3 rows of tokens"):
        KVCache([(1, 2)], 2).begin(4, lengths=[1, 2, 3])


def test_rows_that_a_cache_does_not_have():
    with pytest.raises(ArgumentError, match=r"select: expected rows 0 to 1, got \[2, -1\]"):
        KVCache.for_model(make_model(), 2).select([0, 2, -1])


@pytest.mark.parametrize("window", [None, 3, 5])
def test_a_sliding_layer_attends_with_the_window_that_was_announced(window):
    cache = KVCache([(2, 8, 4)], 1, kind="sliding")
    x = gradient.ones(1, 2, 3, 8)
    expected = f"window={window}, but the model's kv_shapes announced 4"
    with pytest.raises(ArgumentError, match=expected):
        cache.begin(3).attend(0, x, x, x, window=window)
