"""Additions and writes at an index on a GPU: in an order that does not change, and of several
numbers for one place the last stays."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends.cuda import indexed
from gradient.backends.cuda.backend import CudaBackend
from support import fake_cupy
from support.agreement import agree
from support.backend_table import BARE, Draw
from support.cuda_emulation import EmulatedRuntime
from support.fake_device import DEVICE, fake_backend

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]
DTYPES = ("float32", "float64", "float16", "bfloat16")
ALL = slice(None)
TWICE = np.array([2, 0, -1, 2, 2, 0])

INDICES: dict[str, tuple[tuple[int, ...], Any]] = {
    "rows": ((4, 5), (TWICE,)),
    "an array alone": ((4, 5), TWICE),
    "32 bits": ((4, 5), (TWICE.astype(np.int32),)),
    "columns": ((5, 4), (ALL, TWICE)),
    "the middle": ((2, 4, 8), (ALL, TWICE)),
    "the end": ((2, 3, 4), (..., TWICE)),
    "before the rest": ((4, 3, 2), (TWICE, ...)),
    "two axes": ((3, 4, 4), (np.array([0, 1, 0, 0]), np.array([3, -4, 3, 3]))),
    "two that broadcast": ((3, 4, 2), (np.array([[0], [2]]), np.array([1, 1, 0]))),
    "a matrix of them": ((4, 8), (TWICE.reshape(2, 3),)),
    "transposed": ((4, 8), (TWICE.reshape(2, 3).T,)),
    "beside an int": ((3, 4, 2), (-1, TWICE)),
    "around an int": ((4, 3, 4), (TWICE, 1, TWICE)),
    "one": ((4, 3), (np.array(2),)),
    "none": ((4, 3), (np.array([], np.int64),)),
    "apart": ((4, 3, 4), (TWICE, ALL, TWICE)),
    "with a step": ((4, 6), (TWICE, slice(None, None, 2))),
    "backwards": ((4, 6), (TWICE, slice(None, None, -1))),
    "apart, of parts": ((4, 7, 4, 3), (TWICE, slice(5, 0, -2), TWICE, slice(1, None))),
    "apart, and the rest": ((4, 3, 4, 8), (TWICE, ALL, TWICE)),
    "apart, by an int": ((3, 4, 4), (1, ALL, TWICE)),
    "apart, before an axis": ((2, 4, 3, 4), (ALL, TWICE, ALL, TWICE)),
    "that broadcast, apart": ((3, 2, 4, 2), (np.array([[0], [2]]), ALL, np.array([1, 1, 0]))),
    "after a part": ((5, 4, 3), (slice(1, 4), TWICE)),
    "between parts": ((5, 4, 6), (slice(3, None, -1), TWICE, slice(0, 6, 3))),
    "of an empty part": ((4, 3), (TWICE, slice(2, 2))),
    "around a new axis": ((4, 4), (TWICE, None, TWICE)),
    "with a new axis": ((4, 3), (None, TWICE)),
    "bools": ((4, 3), (np.array([True, False, True, True]),)),
    "bools and integers": ((2, 4), (np.array([True, True]), np.array([1, 1]))),
}


def given(be: CudaBackend, index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(given(be, part) for part in index)
    return be.asarray(index) if isinstance(index, np.ndarray) else index


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    """CuPy's atomic additions are not for floats."""
    add = fake_cupy.module.add

    def at(x: Any, index: Any, value: Any) -> None:
        assert x.dtype.kind in "iu"
        type(add).at(add, x, index, value)

    monkeypatch.setattr(add, "at", at, raising=False)
    return fake_backend(0)


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64"])
@pytest.mark.parametrize("name", INDICES)
def test_what_is_added_at_any_index(name: str, dtype: str, be: CudaBackend) -> None:
    shape, index = INDICES[name]
    kind = np.dtype(dtype) if dtype != "bfloat16" else fake_cupy.BFLOAT16
    x = (np.arange(np.prod(shape)) % 7 - 3).reshape(shape).astype(kind)
    value = (np.arange(x[index].size) % 5 - 2).reshape(x[index].shape).astype(kind)
    expected = x.copy()
    np.add.at(expected, index, value)
    for moved in (False, True):  # rows that lie apart in memory
        got = be.asarray(x.copy())
        if moved:
            got = be.asarray(np.concatenate([x, x], -1))[..., : shape[-1]]
        out = be.index_add(got, given(be, index), be.asarray(value))
        assert out is got and out.dtype == kind
        np.testing.assert_array_equal(be.to_numpy(got), expected)


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "float64", "int64", "uint8", "bool", "complex128"]
)
@pytest.mark.parametrize("name", INDICES)
def test_of_several_numbers_for_one_place_the_last_stays(
    name: str, dtype: str, be: CudaBackend
) -> None:
    """The stand-in for CuPy lets the first stay."""
    shape, index = INDICES[name]
    kind = fake_cupy.BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
    x = np.zeros(shape, kind)
    value = (np.arange(1, x[index].size + 1)).reshape(x[index].shape).astype(kind)
    if dtype == "bool":
        value[...] = np.arange(value.size).reshape(value.shape) % 2
    expected = x.copy()
    expected[index] = np.ascontiguousarray(value)
    got = be.asarray(x.copy())
    fake_cupy.waits.clear()
    assert be.assign(got, given(be, index), be.asarray(value)) is got
    assert ("mask" in fake_cupy.waits) is ("bools" in name)
    np.testing.assert_array_equal(be.to_numpy(got), expected)


@pytest.mark.parametrize("seed", range(40))
def test_parts_of_all_kinds_take_what_numpy_takes(seed: int, be: CudaBackend) -> None:
    draw = np.random.default_rng(seed)
    shape = tuple(draw.integers(1, 5, draw.integers(2, 6)).tolist())
    kinds = draw.choice(["all", "slice", "int", "array"], len(shape), p=[0.3, 0.2, 0.1, 0.4])
    kinds[draw.integers(len(shape))] = "array"
    index: list[Any] = []
    for n, kind in zip(shape, kinds, strict=True):
        start, stop = draw.integers(-n, n + 1, 2).tolist()
        part = slice(start, stop, int(draw.choice([-2, -1, 1, 2])))
        few = draw.integers(-n, n, [(3,), (1,), (2, 1), ()][draw.integers(4)])
        index.append({"all": ALL, "slice": part, "int": start % n, "array": few}[kind])
        if draw.random() < 0.1:
            index.append(None)
    index = index[: len(index) - draw.integers(2)] or index
    if not any(isinstance(part, np.ndarray) for part in index):
        return
    places = tuple(index)
    x = draw.integers(0, 9, shape).astype(np.float32)
    value = draw.integers(0, 9, x[places].shape).astype(np.float32)
    be.arange = None  # type: ignore[assignment] # not all places are numbered
    added, expected = be.asarray(x.copy()), x.copy()
    np.add.at(expected, places, value)
    be.index_add(added, given(be, places), be.asarray(value))
    np.testing.assert_array_equal(be.to_numpy(added), expected)
    written, expected = be.asarray(x.copy()), x.copy()
    expected[places] = value
    be.assign(written, given(be, places), be.asarray(value))
    np.testing.assert_array_equal(be.to_numpy(written), expected)


def test_the_last_stays_where_rows_lie_apart(be: CudaBackend) -> None:
    x = be.zeros((4, 6), np.dtype(np.float32))
    shown = x[:, ::2]
    value = np.arange(18, dtype=np.float32).reshape(6, 3)
    be.assign(shown, (be.asarray(TWICE),), be.asarray(value))
    expected = np.zeros((4, 6), np.float32)
    expected[:, ::2][TWICE] = value
    np.testing.assert_array_equal(be.to_numpy(x), expected)


@pytest.mark.parametrize("shape", [(1, 6, 3), (1, 1, 1, 3), (6, 1), (3,)])
def test_what_is_broadcast(shape: tuple[int, ...], be: CudaBackend) -> None:
    value = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    for index in ((TWICE,), (TWICE, slice(None, None, -1))):
        got, expected = be.asarray(np.zeros((4, 3))), np.zeros((4, 3))
        be.assign(got, given(be, index), be.asarray(value))
        expected[index] = value
        np.testing.assert_array_equal(be.to_numpy(got), expected)


def test_rows_go_to_other_rows_of_the_same_array(be: CudaBackend) -> None:
    x = be.asarray(np.arange(12.0).reshape(4, 3))
    be.assign(x, (be.asarray(np.array([1, 2, 3, 1])),), x)
    assert be.to_numpy(x)[:, 0].tolist() == [0, 9, 3, 6]


@pytest.mark.parametrize("name", ["index_put_", "index_copy_", "scatter_", "put_", "setitem"])
def test_tensors_keep_the_last(name: str, be: CudaBackend) -> None:
    x, at = gradient.zeros(3, device=DEVICE), gradient.tensor([1, 1, 0, 1], device=DEVICE)
    value = gradient.arange(1.0, 5, device=DEVICE)
    fake_cupy.waits.clear()
    if name == "index_put_":
        x.index_put_((at,), value)
    elif name == "setitem":
        x[at] = value
    elif name == "put_":
        x.put_(at, value)
    else:
        getattr(x, name)(0, at, value)
    assert fake_cupy.waits == []
    assert x.tolist() == [3, 4, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("items", "outer", "inner"), [(65, 1, 1), (700, 1, 16), (300, 3, 5), (5000, 1, 1), (4200, 2, 8)]
)
def test_long_runs_are_added_up_in_parts(items: int, outer: int, inner: int, dtype: str) -> None:
    be = CudaBackend(0, EmulatedRuntime())
    draw, index = Draw(dtype), np.random.default_rng(items).integers(0, 40, items)
    index[items // 4 : items // 2] = index[items // 4]
    x, value = draw(outer, 40, inner), draw(outer, items, inner)
    wide = [a.astype(np.float64) for a in (x, value)]
    exact = BARE.index_add(wide[0], (ALL, index), wide[1])
    got = be.index_add(x, (ALL, index), value)
    agree([got], [exact.astype(got.dtype)], dtype, "index_add")
    added = {name for name in be.runtime.launched if name.startswith("add_")}
    assert added == {f"add_runs_{dtype}", *([f"add_parts_{dtype}"] if "16" in dtype else [])}


@pytest.mark.parametrize("order", [1, 2])
def test_sums_are_the_same_in_every_run(order: int) -> None:
    """To the bit, however warps interleave; a row that comes once is added exactly."""
    draw = np.random.default_rng(1)
    index, value = draw.integers(0, 9, (33, 700)), draw.standard_normal((33, 700))
    runs = [
        CudaBackend(0, EmulatedRuntime(each)).put_along(
            np.zeros((33, 9), np.float32), index, value.astype(np.float32), 1, True
        )
        for each in (0, order)
    ]
    np.testing.assert_array_equal(*runs)


def test_rows_that_32_bits_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed, "NARROW", 3)
    be, index = CudaBackend(0, EmulatedRuntime()), np.random.default_rng(0).integers(-40, 40, 5000)
    x, value = np.zeros((40, 2), np.float32), np.ones((5000, 2), np.float32)
    np.testing.assert_array_equal(
        be.index_add(x, (index,), value)[:, 0], np.bincount(index % 40, minlength=40)
    )
    be.assign(x, (index,), np.arange(10000, dtype=np.float32).reshape(-1, 2))
    expected = np.zeros((40, 2))
    expected[index] = np.arange(10000).reshape(-1, 2)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    "work",
    [
        lambda be, x, at: be.index_add(x, (at([0, 4]),), x[:2]),
        lambda be, x, at: be.index_add(x, (ALL, at([-4, 1])), x[:, :2]),
        lambda be, x, at: be.index_add(x, (at([0, 1]), at([0, 3])), x[0, :2]),
        lambda be, x, at: be.put_along(x, at([[0, -1, 1]]), x[:1], 0, True),
        lambda be, x, at: be.put_along(x, at([[4, 0, 1]]), x[:1], 0, False),
        lambda be, x, at: be.assign(x, (at([0, 4]),), be.copy(x[:2])),
    ],
)
def test_an_index_out_of_range_is_told_later_and_writes_nothing(work: Any, be: CudaBackend) -> None:
    x = be.asarray(np.ones((4, 3), np.float32))
    work(be, x, lambda each: be.asarray(np.array(each)))
    with pytest.raises(IndexError, match="an op got earlier was out of range"):
        be.to_numpy(x)
    assert be.to_numpy(x).shape == (4, 3)


def test_what_does_not_fit_is_refused_at_once(be: CudaBackend) -> None:
    x = be.asarray(np.ones((4, 3), np.float32))
    for index, shape in (((be.asarray(TWICE),), (5, 3)), ((4, be.asarray(TWICE)), (6,)),
                         ((ALL, ALL, be.asarray(TWICE)), (6,))):  # fmt: skip
        with pytest.raises((ValueError, IndexError)):
            be.index_add(x, index, be.asarray(np.ones(shape, np.float32)))


def test_gradients_of_what_was_picked_are_added_in_a_graph() -> None:
    @gradient.compile
    def step(x: Any, at: Any, pick: Any) -> Any:
        x = x.clone().requires_grad_()
        (x[at].square().sum() + x.gather(1, pick).sum() + x[:, at].sum()).backward()
        return x.grad

    draw = np.random.default_rng(0)
    for _ in range(4):
        x = draw.integers(-3, 3, (5, 5)).astype(np.float32)
        at, pick = draw.integers(0, 5, 7), draw.integers(0, 5, (5, 3))
        on_cpu = step(*map(gradient.tensor, (x, at, pick)))
        there = step(*(gradient.tensor(each, device=DEVICE) for each in (x, at, pick)))
        np.testing.assert_array_equal(there.cpu().numpy(), on_cpu.numpy())


CALLS = {
    "index_add": lambda x, at: x.index_add(0, at([0, -1]), x[:2]),
    "index_add along columns": lambda x, at: x.index_add(1, at([-1]), x[:, :1]),
    "index_copy": lambda x, at: x.index_copy(0, at([0, -1]), x[:2]),
    "index_select": lambda x, at: x.index_select(1, at([-1])),
    "index_reduce": lambda x, at: x.index_reduce(0, at([0, -1]), x[:2], "prod"),
    "gather": lambda x, at: x.gather(0, at([[0, -1]])),
    "scatter": lambda x, at: x.scatter(0, at([[0, -1]]), 1),
    "scatter_add": lambda x, at: x.scatter_add(0, at([[-4, 0]]), x[:1]),
    "scatter_reduce": lambda x, at: x.scatter_reduce(0, at([[0, -1]]), x[:1], "amax"),
    "scatter of no rows": lambda x, at: x[:0].scatter(0, at([[0, 0]]), 1),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool"])
@pytest.mark.parametrize("name", CALLS)
def test_an_index_that_may_not_count_from_the_end_is_told_of(name: str, dtype: str) -> None:
    x = gradient.ones(4, 3, dtype=getattr(gradient, dtype), device=DEVICE)
    with pytest.raises(IndexError, match="an op got earlier was out of range"):
        CALLS[name](x, lambda numbers: gradient.tensor(numbers, device=DEVICE)).tolist()
    assert x.index_select(0, gradient.tensor([3, 0], device=DEVICE)).tolist() == [[1, 1, 1]] * 2


def test_an_index_is_looked_at_in_a_plan_too() -> None:
    x = gradient.arange(6.0, device=DEVICE).reshape(3, 2)
    step = gradient.compile(lambda x, index: x.index_select(0, index) * 2)
    with gradient.no_grad():
        for numbers in ([0, 2], [1, 1], [2, 0]):
            found = step(x, gradient.tensor(numbers, device=DEVICE))
            assert found.tolist() == (x[numbers] * 2).tolist()
