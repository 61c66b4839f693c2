"""Functions that search or count values: in sorted rows, among elements, in intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.forwarding import forwarded
from gradient.autograd.promotion import cast
from gradient.autograd.variable import Number, Variable, wrap
from gradient.dtypes import DType, bool_, result_type
from gradient.errors import ArgumentError, DTypeError, TypeMismatch, sentence
from gradient.tensor.arguments import int_of, number_of, tensor_of

if TYPE_CHECKING:
    from gradient.backends import Backend
    from gradient.tensor.core import Tensor

COUNTED = 1 << 15
"""Elements whose intervals are computed at a time."""

__all__ = ["bucketize", "histc", "isin", "searchsorted"]


@forwarded
def searchsorted(
    sorted_sequence: Tensor,
    input: Tensor | Number,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Return the index at which to insert each value in sorted rows: before equal elements, or
    after them (`right`)."""
    return tensor_of("searchsorted", sorted_sequence).searchsorted(
        input, out_int32=out_int32, right=right, side=side, sorter=sorter
    )


@forwarded
def bucketize(
    input: Tensor | Number, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """Return the bucket of each value. A value equal to a boundary is in the bucket below it, or
    with `right` above it."""
    if tensor_of("bucketize", boundaries).ndim != 1:
        raise ArgumentError(sentence("bucketize", "1-D boundaries", tuple(boundaries.shape)))
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


@forwarded
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """Count the elements in each of `bins` equal intervals from `min` to `max` (if these are equal:
    from the smallest to the largest element)."""
    x = tensor_of("histc", input)
    if not x.is_floating_point():
        raise DTypeError(sentence("histc", "a floating-point dtype", x.dtype))
    min, max = number_of("histc", "min", min), number_of("histc", "max", max)
    bins = int_of("histc", "bins", bins)
    if bins <= 0 or min > max:
        got = f"{bins} bins from {min} to {max}"
        raise ArgumentError(sentence("histc", "bins above 0 and min below max", got))

    def counted(row: np.ndarray) -> np.ndarray:
        low, high = (float(min), float(max)) if min != max or not row.size else (
            float(row.min()), float(row.max()))  # fmt: skip
        if low == high:
            low, high = low - 1, high + 1
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ArgumentError(sentence("histc", "a finite range", f"{low} to {high}"))
        width = high - low or 1.0  # 0: the elements are so large that +-1 is lost
        found = np.zeros(bins, np.int64)
        for first in range(0, row.size, COUNTED):  # as many as stay in the cache
            part = row[first : first + COUNTED]
            if min != max:
                part = part[(part >= low) & (part <= high)]
            places = ((part - low) * bins / width).astype(np.int64)
            found += np.bincount(np.minimum(places, bins - 1), minlength=bins)
        return found

    def counts(host: np.ndarray) -> np.ndarray:
        host = _as_numbers(host)
        samples = host.shape[: host.ndim - x.ndim]  # those of `vmap`
        rows = host.reshape(math.prod(samples), math.prod(x.shape))
        return np.array([counted(row) for row in rows], np.int64).reshape(*samples, bins)

    return wrap(x.backend.of_values(counts, x.detach().array), x.backend).to(x.dtype)


@forwarded
def isin(
    elements: Tensor | Number,
    test_elements: Tensor | Number,
    *,
    assume_unique: bool = False,
    invert: bool = False,
) -> Tensor:
    """Whether each element is among `test_elements`; with `invert`, whether it is not."""
    tensors = [v for v in (elements, test_elements) if isinstance(v, Variable)]
    if not tensors:
        raise TypeMismatch(sentence("isin", "a Tensor", type(elements).__name__))
    dtype = result_type(elements, test_elements)
    if any(result_type(v, v) is bool_ for v in (elements, test_elements)):
        raise DTypeError(sentence("isin", "numbers", "bool", "cast with .to()"))
    backend = tensors[0].backend
    given, others = (
        v.to(dtype) if isinstance(v, Variable) else _number(v, dtype, backend)
        for v in (elements, test_elements)
    )
    if not all(v.backend.reads_values and v.backend.has_values for v in (given, others)):
        inside = (given.detach().unsqueeze(-1) == others.detach().reshape(-1)).any(-1)
        return ~inside if invert else inside
    first, among = (_as_numbers(v.backend.to_numpy(v.array)) for v in (given, others))
    found = np.isin(first, among, assume_unique=assume_unique, invert=invert)
    return wrap(backend.asarray(found), backend)


def _number(value: Any, dtype: DType, backend: Backend) -> Tensor:
    return wrap(backend.full((), cast(backend, value, dtype), dtype.numpy), backend)


def _as_numbers(host: np.ndarray) -> np.ndarray:
    """Make float32 of bfloat16."""
    return host.astype(np.float32) if host.dtype.kind == "V" else host
