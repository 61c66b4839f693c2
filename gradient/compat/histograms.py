"""`histogram` and `histogramdd`: how many elements, or how much weight, fall into each bin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradient.autograd.forwarding import forwarded
from gradient.autograd.variable import wrap
from gradient.dtypes import float32, float64
from gradient.errors import ArgumentError, DTypeError, ShapeError, sentence
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of, tensor_of
from gradient.tensor.creation import linspace
from gradient.tensor.reductions import return_type

__all__ = ["histogram", "histogramdd"]


@return_type("histogram")
class Histogram(NamedTuple):
    hist: Tensor
    bin_edges: Tensor


@return_type("histogramdd")
class HistogramDD(NamedTuple):
    hist: Tensor
    bin_edges: tuple[Tensor, ...]


@forwarded
def histogram(
    input: Tensor,
    bins: int | Tensor = 100,
    *,
    range: tuple[float, float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Histogram:
    """(hist, bin_edges) of all elements of a float32 or float64 tensor: how many of them, or how
    much of their `weight`, are in each bin [edge, next edge), the last of which has its end, too.

    Args:
        bins: how many equal bins; or their edges, an increasing vector.
        range: where the first bin begins and the last one ends; by default the extremes.
        density: divide by the sum and the widths, so that the integral is 1.
    """
    x = _taken("histogram", input)
    points = x.reshape(-1, 1)
    heavy = None if weight is None else tensor_of("histogram", weight)
    if heavy is not None and tuple(heavy.shape) != tuple(x.shape):
        got = tuple(heavy.shape)
        raise ShapeError(sentence("histogram", f"a weight of shape {tuple(x.shape)}", got))
    hist, edges = _counted("histogram", points, [bins], range, heavy, density)
    return Histogram(hist, edges[0])


@forwarded
def histogramdd(
    input: Tensor,
    bins: int | Sequence[int] | Sequence[Tensor],
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> HistogramDD:
    """(hist, bin_edges) of points (..., D) in D dimensions: see `histogram`.

    Args:
        bins: how many in every dimension, or in each; or the edges in each.
        range: the first and the last edge in each dimension, 2 D numbers.
        weight: of each point: (...).
    """
    x = _taken("histogramdd", input)
    if x.ndim < 2:
        raise ShapeError(sentence("histogramdd", "points (..., D)", f"shape {tuple(x.shape)}"))
    d = x.shape[-1]
    each: Any = [bins] * d if isinstance(bins, int) else list(bins)
    if len(each) != d:
        raise ArgumentError(sentence("histogramdd", f"bins in {d} dimensions", len(each)))
    heavy = None if weight is None else tensor_of("histogramdd", weight)
    if heavy is not None and tuple(heavy.shape) != tuple(x.shape[:-1]):
        expected = f"a weight of shape {tuple(x.shape[:-1])}"
        raise ShapeError(sentence("histogramdd", expected, tuple(heavy.shape)))
    points = x.reshape(math.prod(x.shape[:-1]), d)
    return HistogramDD(*_counted("histogramdd", points, each, range, heavy, density))


def _taken(caller: str, input: Tensor) -> Tensor:
    x = tensor_of(caller, input)
    if x.dtype not in (float32, float64):
        raise DTypeError(sentence(caller, "float32 or float64", x.dtype))
    return x.detach()


def _counted(
    caller: str, x: Tensor, bins: list[Any], range: Any, weight: Tensor | None, density: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The histogram of points (N, D), and the edges in each dimension; computed by the host."""
    points = np.asarray(x.backend.to_numpy(x.array))
    given = None if range is None else np.asarray(range, np.float64)
    if given is not None and given.size != 2 * len(bins):
        raise ArgumentError(sentence(caller, f"a range of {2 * len(bins)} numbers", given.size))
    edges = [
        _edges(caller, each, column, None if given is None else given[2 * i : 2 * i + 2], x)
        for i, (each, column) in enumerate(zip(bins, points.T, strict=True))
    ]
    counts = tuple(e.size - 1 for e in edges)
    inside = np.full(len(points), bool(edges))
    places = np.zeros(len(points), np.int64)
    for column, e, n in zip(points.T, edges, counts, strict=True):
        be = x.backend
        sought = be.asarray(np.ascontiguousarray(column))
        place = be.to_numpy(be.searchsorted(be.asarray(e), sought, True)) - 1
        place[column == e[-1]] = n - 1  # the last bin has its end, too
        inside &= (column >= e[0]) & (column <= e[-1])
        places = places * n + place
    heavy = None
    if weight is not None:
        heavy = np.asarray(weight.detach().to(x.dtype).double().cpu().numpy()).reshape(-1)[inside]
    found = np.bincount(places[inside], heavy, minlength=math.prod(counts))
    hist = found.reshape(counts).astype(points.dtype)
    if density:
        with np.errstate(all="ignore"):
            hist = hist / hist.sum()
            for i, e in enumerate(edges):
                size = [1] * len(edges)
                size[i] = -1
                hist = hist / np.diff(e).reshape(size)
    backend = x.backend
    out = wrap(backend.asarray(hist.astype(points.dtype)), backend)
    return out, tuple(wrap(backend.asarray(e), backend) for e in edges)


def _edges(
    caller: str, bins: int | Tensor, column: np.ndarray, given: np.ndarray | None, like: Tensor
) -> np.ndarray:
    if isinstance(bins, Tensor):
        if bins.ndim != 1 or not bins.numel():
            got = f"shape {tuple(bins.shape)}"
            raise ShapeError(sentence(caller, "edges of bins as a vector", got))
        if bins.dtype is not like.dtype:
            raise DTypeError(sentence(caller, f"edges of {like.dtype}, as input", bins.dtype))
        if bins.shape[0] == 1:
            raise ArgumentError(sentence(caller, "at least two edges of bins", 1))
        return np.array(bins.detach().cpu().numpy())  # not the memory of the argument
    n = int_of(caller, "bins", bins)
    if n <= 0:
        raise ArgumentError(sentence(caller, "at least one bin", n))
    if given is not None:
        low, high = (float(v) for v in given)
    else:
        low, high = (float(column.min()), float(column.max())) if column.size else (0.0, 1.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ArgumentError(sentence(caller, "a finite range", f"{low} to {high}"))
    if low > high:
        raise ArgumentError(sentence(caller, "a range that does not fall", f"{low} to {high}"))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges: np.ndarray = linspace(low, high, n + 1, dtype=like.dtype, device="cpu").numpy()
    return edges
