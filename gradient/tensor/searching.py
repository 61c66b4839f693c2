"""Where values lie among others, and how many: functions without gradients."""

from __future__ import annotations

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
    """Where each value would be put into sorted rows: before equal ones, or after (`right`)."""
    return tensor_of("searchsorted", sorted_sequence).searchsorted(
        input, out_int32=out_int32, right=right, side=side, sorter=sorter
    )


@forwarded
def bucketize(
    input: Tensor | Number, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The bucket of each value: that whose upper bound, or with `right` lower bound, it is at."""
    if tensor_of("bucketize", boundaries).ndim != 1:
        raise ArgumentError(sentence("bucketize", "1-D boundaries", tuple(boundaries.shape)))
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


@forwarded
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements fall into each of `bins` equal intervals from `min` to `max` (the extremes
    of the elements, if both are equal)."""
    x = tensor_of("histc", input)
    if not x.is_floating_point():
        raise DTypeError(sentence("histc", "a floating-point dtype", x.dtype))
    min, max = number_of("histc", "min", min), number_of("histc", "max", max)
    bins = int_of("histc", "bins", bins)
    if bins <= 0 or min > max:
        got = f"{bins} bins from {min} to {max}"
        raise ArgumentError(sentence("histc", "bins above 0 and min below max", got))
    host = _host(x).reshape(-1)
    low, high = (float(min), float(max)) if min != max or not host.size else (
        float(host.min()), float(host.max()))  # fmt: skip
    if low == high:
        low, high = low - 1, high + 1
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ArgumentError(sentence("histc", "a finite range", f"{low} to {high}"))
    inside = host[(host >= low) & (host <= high)]
    places = ((inside - low) * bins / (high - low)).astype(np.int64)
    counts = np.bincount(np.minimum(places, bins - 1), minlength=bins)
    return wrap(x.backend.asarray(counts), x.backend).to(x.dtype)


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
    first, among = (
        _host(v.to(dtype) if isinstance(v, Variable) else _number(v, dtype, backend))
        for v in (elements, test_elements)
    )
    found = np.isin(first, among, assume_unique=assume_unique, invert=invert)
    return wrap(backend.asarray(found), backend)


def _number(value: Any, dtype: DType, backend: Backend) -> Tensor:
    return wrap(backend.full((), cast(backend, value, dtype), dtype.numpy), backend)


def _host(x: Any) -> np.ndarray:
    """The elements on the host, bfloat16 as float32."""
    host = x.backend.to_numpy(x.array)
    return host.astype(np.float32) if host.dtype.kind == "V" else host
