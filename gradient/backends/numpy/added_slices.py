"""What is added at arrays of integers for one or more adjacent axes, such as `x[:, rows, columns]`:
the gradient of such an index."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradient.backends.numpy import kernels, threads
from gradient.backends.required import Index, Shape

CHUNK = 1 << 14
"""Elements of whole parts that a thread adds at a time."""


def added_slices(x: np.ndarray, index: Index, value: np.ndarray) -> bool:
    """Add to x by a kernel, in the order of np.add.at; return whether it was done. If an integer is
    negative or too large, nothing is changed."""
    found = _axes(index, x.ndim) if type(value) is np.ndarray and x.flags.carray else None
    if found is None:
        return False
    value = kernels.contiguous(value)
    if not kernels.supports(value, x):
        return False
    first, arrays = found
    after = first + len(arrays)
    sizes, inner = x.shape[first:after], math.prod(x.shape[after:])
    outer = math.prod(x.shape[:first])
    places = flat_places(arrays, sizes)
    if places is None or value.shape != (*x.shape[:first], *places.shape, *x.shape[after:]):
        return False
    threads.parallel_for(
        kernels.load("embedding").add_slices, outer, max(1, CHUNK // (places.size * inner)),
        x.reshape(-1), math.prod(sizes), inner, places.reshape(-1),
        value.reshape(-1),
    )  # fmt: skip
    return True


def _axes(index: Index, ndim: int) -> tuple[int, list[np.ndarray]] | None:
    """The first axis with an array of integers, and the arrays; None unless they are side by side,
    and the index takes all of every other axis."""
    items = list(index) if isinstance(index, tuple) else [index]
    if sum(item is Ellipsis for item in items) == 1:
        at = next(i for i, item in enumerate(items) if item is Ellipsis)
        items[at : at + 1] = [slice(None)] * (ndim + 1 - len(items))
    places = [i for i, item in enumerate(items) if type(item) is np.ndarray]
    if not places or places[-1] - places[0] + 1 != len(places):
        return None
    others = items[: places[0]] + items[places[-1] + 1 :]
    arrays = [items[i] for i in places]
    if any(not isinstance(item, slice) or item != slice(None) for item in others):
        return None
    return (places[0], arrays) if all(a.dtype.kind == "i" for a in arrays) else None


def flat_places(arrays: Sequence[np.ndarray], sizes: Shape) -> np.ndarray | None:
    """The places in flattened axes of these sizes, int64; None if one is out of range."""
    if any(a.size == 0 or a.min() < 0 or a.max() >= n for a, n in zip(arrays, sizes, strict=True)):
        return None
    flat = arrays[0].astype(np.int64)  # of int32, places from 2^31 on would be negative
    for array, n in zip(arrays[1:], sizes[1:], strict=True):
        flat = flat * n + array
    return np.asarray(flat, order="C")
