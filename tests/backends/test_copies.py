"""Large copies on all threads are NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradient import backends
from gradient.backends.numpy import copies, kernels, one_pass, threads, transposes

pytestmark = pytest.mark.skipif(not kernels.available(), reason="there are no kernels")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels take arrays of any size, and are compiled at once."""
    monkeypatch.setattr(one_pass, "PATIENCE", 0)
    monkeypatch.setattr(copies, "LARGE", 64)
    monkeypatch.setattr(transposes, "MANY", 64)


def drawn(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_copies_of_runs(dtype: Any, started: list[Any]) -> None:
    x = drawn(3, 5, 4, 32, dtype=dtype)
    taken = [
        x,
        x.transpose(0, 2, 1, 3),
        x.transpose(2, 1, 0, 3),
        x[:, ::2, 1:, :17],
        x[:, :, :1, 3:30],
        np.broadcast_to(x[:, :1], x.shape),
        np.broadcast_to(x[:, :, :, :1], x.shape),
        np.broadcast_to(x[:, :1, :, :1], x.shape),
        np.broadcast_to(x[0, 0, 0, 0], (9, 9, 9)),
        np.broadcast_to(dtype(-0.5), 3 * (1 << 15)),
        drawn(3, 2 * (1 << 16), dtype=dtype)[1:, :],
        drawn(3, 3 * (1 << 15) + 7, dtype=dtype)[:, :-3],
    ]
    for each in taken:
        out = backends.get("cpu").copy(each)
        assert out.flags.carray and out.dtype == dtype and np.array_equal(out, each)
        assert not np.may_share_memory(out, each)
    assert len(started) == len(taken)


def test_copies_by_numpy(started: list[Any]) -> None:
    x = drawn(6, 7, 32)
    for each in (x[..., ::2], x[::-1, ::2], x[..., :8], x.astype(int), x[0, 0, 0]):
        out = backends.get("cpu").copy(each)
        assert out.flags.c_contiguous and out.dtype == each.dtype and np.array_equal(out, each)
    assert not started


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_copies_of_reversed_axes(dtype: Any, started: list[Any]) -> None:
    x = drawn(5, 7, 1, 37, dtype=dtype)
    taken = [x[..., ::-1], x[::-1], x[:, ::-1], x[::-1, ::-1], x[:, ::-1, :, ::-1], np.flip(x)]
    for each in taken:
        out = backends.get("cpu").copy(each)
        assert out.flags.carray and np.array_equal(out, each)
    assert len(started) == len(taken)
    assert np.array_equal(backends.get("cpu").copy(x[::-1, :, :, ::-1]), x[::-1, :, :, ::-1])
    assert len(started) == len(taken)  # by NumPy


def test_copies_to_places_in_any_layout() -> None:
    x = drawn(6, 7, 32)
    for layout in (lambda y: y, lambda y: y[::-1], lambda y: y[..., ::-1], lambda y: y[:, ::-1]):
        place = layout(np.zeros_like(x))
        if (found := copies.launch(x, place)) is None:
            place[...] = x  # by NumPy
        else:
            threads.parallel_for(*found)
        assert np.array_equal(place, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_assigned_as_a_whole(dtype: Any, started: list[Any]) -> None:
    be, x = backends.get("cpu"), drawn(5, 6, 7, 32, dtype=dtype)
    x[0, 0, 0, :3] = np.nan, np.inf, -0.0
    for layout in (lambda y: y, lambda y: y[1:, ::2], lambda y: y[..., :17]):
        for index in (..., ()):
            place = layout(np.zeros_like(x))
            assert be.assign(place, index, layout(x)) is place
            assert place.tobytes() == layout(x).tobytes()
    assert len(started) == 6


def test_arrays_assigned_by_numpy(started: list[Any]) -> None:
    be, x = backends.get("cpu"), drawn(40, 32)
    expected, own = x[:-1].copy(), x.copy()
    assert np.array_equal(be.assign(own[1:], ..., own[:-1]), expected)  # the same memory
    for place, index, value in [
        (np.zeros((40, 32), np.float32), ..., x.astype(np.float64)),
        (np.zeros((40, 32), np.float32), ..., x[0]),
        (np.zeros((40, 32), np.float32)[:, ::-1], (), x),
        (np.zeros((40, 32), np.float32), (slice(None), slice(3, 7)), x[:, :4]),
    ]:
        assert np.array_equal(be.assign(place, index, value)[index], np.broadcast_to(
            value, place[index].shape).astype(np.float32))  # fmt: skip
    own.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        be.assign(own, ..., x)
    assert not started


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_sums_in_place(dtype: Any, count: int, started: list[Any]) -> None:
    be, (x, y) = backends.get("cpu"), (drawn(90, 1031, dtype=dtype) for _ in range(2))
    x[0, :6], y[0, :6] = (np.nan, np.inf, np.inf, -0.0, 1e-40, 3e38), (1, -np.inf, 1, 0.0, 1, 3e38)
    before = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        with np.errstate(all="ignore"):
            expected, own = x + y, x.copy()
        assert be.accumulate(own, y) is own
        assert own.tobytes() == expected.tobytes() and len(started) == 1
    finally:
        threads.set_num_threads(before)


def test_sums_in_place_by_numpy(started: list[Any]) -> None:
    be, x = backends.get("cpu"), drawn(70, 70)
    for other in (x.T, x[0], x.astype(np.float64)):
        assert np.array_equal(be.accumulate(x.copy(), other), (x + other).astype(np.float32))
    own, doubled = x.copy(), x + x
    assert np.array_equal(be.accumulate(own, own), doubled)
    part = x.copy()
    assert np.array_equal(be.accumulate(part[:, 1:], x[:, 1:]), doubled[:, 1:])
    with pytest.raises(ValueError, match="broadcast"):
        be.accumulate(own, x[:, :3])
    assert not started


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_concatenations(axis: int, started: list[Any]) -> None:
    be = backends.get("cpu")
    a, b = drawn(4, 6, 32), -drawn(4, 6, 32)
    c = b.take(range(3), axis).copy()
    for arrays in ([a, b], [c, b], [a, c, b], [a], [a, a[:0] if axis == 0 else b]):
        assert np.array_equal(be.concatenate(arrays, axis), np.concatenate(arrays, axis))
    assert started
    started.clear()
    for arrays in ([a.T, b.T], [a, b.astype(np.float64)]):
        found, expected = be.concatenate(arrays, axis), np.concatenate(arrays, axis)
        assert found.dtype == expected.dtype and found.flags.c_contiguous  # as PyTorch's are
        assert np.array_equal(found, expected)
    assert not started
    with pytest.raises(ValueError, match="match"):
        be.concatenate([a, b[:, :, :5].T.copy()], axis)
