"""Functions that PyTorch's database of ops has no samples of, each called under both packages."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402
from support.both_packages import assert_alike  # noqa: E402

NAN, INF = float("nan"), float("inf")


def leaf(t: Any, values: Any) -> Any:
    return t.tensor(values, dtype=t.float64, requires_grad=True)


def slopes(t: Any, function: Any, *values: Any) -> Any:
    """The result of a function, and its gradient for each input."""
    xs = [leaf(t, x) for x in values]
    y = function(*xs)
    return y, t.autograd.grad(y.sum(), xs)


def eight() -> bytearray:
    return bytearray(range(8))


def shared(t: Any) -> Any:
    """What a buffer holds after a write into the tensor that shares it."""
    memory = eight()
    t.frombuffer(memory, dtype=t.uint8)[1] = 99
    return tuple(memory)


VANDER: dict[str, Callable[[Any], Any]] = {
    "ints": lambda t: t.vander(t.tensor([1, 2, -3])),
    "increasing": lambda t: t.vander(t.tensor([1.0, 0.0, 3.0]), N=2, increasing=True),
    "by position": lambda t: t.vander(t.tensor([2, 3], dtype=t.int8), 4, True),
    "bools": lambda t: t.vander(t.tensor([True, False])),
    "nothing": lambda t: t.vander(t.tensor([])),
    "no columns": lambda t: t.vander(t.tensor([1.0, 2.0]), N=0),
    "one column": lambda t: t.vander(t.tensor([NAN, INF]), N=1),
    "infinities": lambda t: t.vander(t.tensor([NAN, -INF, 2.0]), N=3),
    "16 bits": lambda t: t.vander(t.tensor([2.0, 3.0], dtype=t.bfloat16), 3),
    "complex": lambda t: t.vander(t.tensor([2j, 3.0])),
    "slopes": lambda t: slopes(  # PyTorch's own has none: it multiplies in place
        t,
        lambda x: t.linalg.vander(x, N=3).flip(-1) if t is torch else t.vander(x, 3),
        [0.0, 2.0, -1.5],
    ),
    "a matrix": lambda t: t.vander(t.ones(2, 2)),
    "a number": lambda t: t.vander(t.tensor(1.0)),
    "N below zero": lambda t: t.vander(t.ones(2), -1),
}

MADE: dict[str, Callable[[Any], Any]] = {
    "scalar_tensor of an int": lambda t: t.scalar_tensor(3),
    "scalar_tensor of a bool": lambda t: t.scalar_tensor(True),
    "scalar_tensor of a tensor": lambda t: t.scalar_tensor(t.tensor(2)),
    "scalar_tensor of a dtype": lambda t: t.scalar_tensor(2.5, dtype=t.int64),
    "scalar_tensor that overflows": lambda t: t.scalar_tensor(300, dtype=t.uint8),
    "scalar_tensor of a complex number": lambda t: t.scalar_tensor(1j),
    "scalar_tensor of complex dtype": lambda t: t.scalar_tensor(1j, dtype=t.complex64),
    "scalar_tensor of a list": lambda t: t.scalar_tensor([2]),
    "scalar_tensor, a leaf": lambda t: t.scalar_tensor(1.0, requires_grad=True),
    "fill": lambda t: slopes(t, t.fill, [1.0, NAN], 3.0),
    "fill ints": lambda t: t.fill(t.tensor([1, 2]), 2.7),
    "fill nothing": lambda t: t.fill(t.zeros(0, 2), 2),
    "fill with a vector": lambda t: t.fill(t.ones(2), t.ones(1)),
    "range": lambda t: t.range(0, 4),
    "range by steps": lambda t: t.range(0, 1, 0.3),
    "range backwards": lambda t: t.range(3, 0, -1.5),
    "range of one": lambda t: t.range(2, 2),
    "range of ints": lambda t: t.range(0.5, 4, dtype=t.int64),
    "range by name": lambda t: t.range(start=1, end=3, step=2),
    "range, a leaf": lambda t: t.range(0, 3, requires_grad=True),
    "range away": lambda t: t.range(3, 0),
    "range without a step": lambda t: t.range(0, 1, 0),
    "range without an end": lambda t: t.range(5),
    "range without an infinite end": lambda t: t.range(0, INF),
    "frombuffer": lambda t: t.frombuffer(eight(), dtype=t.int32),
    "frombuffer of an array": lambda t: t.frombuffer(array.array("d", [1.5, 2.5]), dtype=t.float64),
    "frombuffer of bfloat16": lambda t: t.frombuffer(eight(), dtype=t.bfloat16),
    "frombuffer with a count": lambda t: t.frombuffer(eight(), dtype=t.int16, count=2, offset=1),
    "frombuffer with count -5": lambda t: t.frombuffer(eight(), dtype=t.int16, count=-5),
    "frombuffer, a leaf": lambda t: t.frombuffer(eight(), dtype=t.float32, requires_grad=True),
    "frombuffer, a leaf of ints": lambda t: t.frombuffer(
        eight(), dtype=t.int32, requires_grad=True
    ),
    "frombuffer shares": shared,
    "frombuffer of bytes": lambda t: t.frombuffer(b"abcd", dtype=t.int32),
    "frombuffer, cut": lambda t: t.frombuffer(eight(), dtype=t.int32, offset=2),
    "frombuffer, too many": lambda t: t.frombuffer(eight(), dtype=t.int32, count=3),
    "frombuffer, none": lambda t: t.frombuffer(eight(), dtype=t.int32, count=0),
    "frombuffer, past the end": lambda t: t.frombuffer(eight(), dtype=t.int32, offset=8),
    "frombuffer, before the start": lambda t: t.frombuffer(eight(), dtype=t.int32, offset=-1),
    "frombuffer of nothing": lambda t: t.frombuffer(bytearray(), dtype=t.int32),
    "frombuffer of a number": lambda t: t.frombuffer(3, dtype=t.int32),
    "empty_strided": lambda t: t.empty_strided((2, 3), (1, 2)).stride(),
    "empty_strided in place": lambda t: t.empty_strided((2,), (0,)).stride(),
    "empty_strided, empty": lambda t: t.empty_strided((0, 3), (1, 4)).shape == (0, 3),
    "empty_strided, misfit": lambda t: t.empty_strided((2, 3), (1,)),
    "empty_permuted": lambda t: t.empty_permuted((2, 3), (1, 0), dtype=t.int8).stride(),
    "empty_permuted twice": lambda t: t.empty_permuted((2, 3), (1, 1)),
    "is_inference": lambda t: t.is_inference(t.ones(1)),
}

TYPES: dict[str, Callable[[Any], Any]] = {
    "by name": lambda t: t.ones(2).type("torch.DoubleTensor"),
    "of ints": lambda t: t.tensor([1.7, -1.7]).type("torch.LongTensor"),
    "by type": lambda t: t.ones(2).type(t.HalfTensor),
    "by dtype": lambda t: t.ones(2).type(t.int32),
    "itself": lambda t: (lambda x: x.type("torch.FloatTensor") is x)(t.ones(2)),
    "unknown": lambda t: t.ones(2).type("torch.NoTensor"),
    "of no package": lambda t: t.ones(2).type("DoubleTensor"),
    "of modules": lambda t: t.nn.Linear(1, 1).type("torch.DoubleTensor").weight.dtype.itemsize,
}


def dots(t: Any) -> Any:
    return t.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [2.0, 2.0]])


DRAWN: dict[str, Callable[[Any], Any]] = {
    "poisson of rate 0": lambda t: t.poisson(t.zeros(2, 2)),
    "poisson of nothing": lambda t: t.poisson(t.zeros(0)),
    "poisson of ints": lambda t: t.poisson(t.tensor([1, 2])),
    "poisson below 0": lambda t: t.poisson(t.tensor([-1.0])),
    "poisson of NaN": lambda t: t.poisson(t.tensor([NAN])),
    "the gradient of poisson": lambda t: (lambda x: t.autograd.grad(t.poisson(x).sum(), x)[0])(
        leaf(t, [2.0, 30.0])
    ),
    "poisson of bfloat16": lambda t: t.poisson(t.zeros(3, dtype=t.bfloat16)),
    "binomial of sure coins": lambda t: t.binomial(t.tensor([5.0, 10.0]), t.tensor([0.0, 1.0])),
    "binomial broadcasts": lambda t: t.binomial(t.tensor([5.0]), t.tensor([1.5, -1.0])),
    "binomial of no coins": lambda t: t.binomial(t.tensor([-5.0]), t.tensor([0.5])),
    "binomial of ints": lambda t: t.binomial(t.tensor([5]), t.tensor([0.5])),
    "binomial of two dtypes": lambda t: t.binomial(t.tensor([5.0]).double(), t.tensor([0.5])),
    "binomial of a number": lambda t: t.binomial(5, t.tensor([0.5])),
}

BINS: dict[str, Callable[[Any], Any]] = {
    name: lambda t, call=call: tuple(call(t))
    for name, call in {
        "a range": lambda t: t.histogram(t.tensor([1.0, 2, 1]), bins=4, range=(0.0, 3.0)),
        "weights": lambda t: t.histogram(
            t.tensor([1.0, 2, 1]), 4, range=(0.0, 3.0), weight=t.tensor([1.0, 2.0, 4.0])
        ),
        "density": lambda t: t.histogram(t.tensor([1.0, 2, 1]), 4, range=(0.0, 3.0), density=True),
        "density of none": lambda t: t.histogram(
            t.tensor([5.0, 6.0]), 2, range=(0.0, 1.0), density=True
        ),
        "edges": lambda t: t.histogram(t.tensor([1.0, 2, 5, 0.5]), t.tensor([0.0, 1.0, 2.0, 5.0])),
        "edges written to afterwards": lambda t: (
            lambda e: (t.histogram(t.ones(2), e), e.fill_(9.0))
        )(t.tensor([0.0, 1.0, 2.0])),
        "equal edges": lambda t: t.histogram(t.tensor([1.0, 2, 3]), t.tensor([2.0, 2.0, 3.0])),
        "extremes": lambda t: t.histogram(t.tensor([[1.0, 5.0], [2.0, 3.0]]), 3),
        "nothing": lambda t: t.histogram(t.tensor([]), 3),
        "one value": lambda t: t.histogram(t.tensor([1.0, 1.0]), 3),
        "a value on an edge that is rounded": lambda t: t.histogram(t.tensor(-3.710008), 2),
        "NaN within a range": lambda t: t.histogram(t.tensor([1.0, NAN]), 2, range=(0.0, 2.0)),
        "NaN": lambda t: t.histogram(t.tensor([1.0, NAN]), 2),
        "ints": lambda t: t.histogram(t.tensor([1, 1]), 3),
        "16 bits": lambda t: t.histogram(t.tensor([1.0, 3.0]).bfloat16(), 2),
        "no bins": lambda t: t.histogram(t.tensor([1.0, 1.0]), 0),
        "one edge": lambda t: t.histogram(t.tensor([1.0, 1.0]), t.tensor([2.0])),
        "a matrix of edges": lambda t: t.histogram(t.tensor([1.0]), t.tensor([[0.0, 1.0]])),
        "edges of another dtype": lambda t: t.histogram(
            t.tensor([1.0]), t.tensor([0.0, 1.0]).double()
        ),
        "a range that falls": lambda t: t.histogram(t.tensor([1.0]), 2, range=(3.0, 1.0)),
        "weights of another shape": lambda t: t.histogram(t.tensor([1.0]), 2, weight=t.ones(3)),
        "points": lambda t: t.histogramdd(
            dots(t), bins=[3, 3], weight=t.tensor([1.0, 2.0, 4.0, 8.0])
        ),
        "points' density": lambda t: t.histogramdd(
            dots(t), bins=[2, 3], range=[0.0, 1.0, 0.0, 1.5], density=True
        ),
        "points, all alike": lambda t: t.histogramdd(dots(t), 2),
        "points by edges": lambda t: t.histogramdd(
            dots(t), (t.tensor([0.0, 1.0, 3.0]), t.tensor([0.0, 2.0]))
        ),
        "points in rows": lambda t: t.histogramdd(dots(t).reshape(2, 2, 2), [2, 3]),
        "no points": lambda t: t.histogramdd(t.zeros(0, 2), [2, 3]),
        "no dimensions": lambda t: t.histogramdd(t.zeros(3, 0), []),
        "a vector": lambda t: t.histogramdd(t.tensor([0.0, 1.0]), [2]),
        "bins of one dimension": lambda t: t.histogramdd(dots(t), [2]),
        "a range of one dimension": lambda t: t.histogramdd(dots(t), [2, 2], range=[0.0, 1.0]),
    }.items()
}

POOLS = [
    f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for n in "123"
]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("name", POOLS)
def test_dtypes_that_pooling_takes(name, dtype):
    def pooled(t: Any) -> Any:
        x = t.arange(4 ** int(name[-2])).reshape(1, 1, *[4] * int(name[-2]))
        return getattr(t.nn.functional, name)(x.to(getattr(t, dtype)), 2)

    assert_alike(pooled)


def test_pooling_of_bools_names_the_op():
    x = gradient.ones(1, 1, 4, 4) > 0
    with pytest.raises(NotImplementedError, match="max_pool2d: expected a dtype of numbers, got"):
        gradient.nn.functional.max_pool2d(x, 2)
    with pytest.raises(NotImplementedError, match="max_pool1d: expected a floating-point dtype"):
        gradient.nn.functional.max_pool1d(x[0].long(), 2)
    whole, where = gradient.nn.functional.max_pool1d(x[0].long(), 2, return_indices=True)
    assert whole.dtype is gradient.int64 and where[0, 0].tolist() == [0, 2]


@pytest.mark.parametrize("name", VANDER)
def test_vander(name):
    assert_alike(VANDER[name])


@pytest.mark.parametrize("name", MADE)
def test_what_makes_tensors(name):
    assert_alike(MADE[name])


@pytest.mark.parametrize("name", DRAWN)
def test_draws_of_counts(name):
    assert_alike(DRAWN[name])


@pytest.mark.parametrize("name", BINS)
def test_histograms(name):
    assert_alike(BINS[name])


@pytest.mark.parametrize("name", TYPES)
def test_types_of_old(name):
    assert_alike(TYPES[name])
