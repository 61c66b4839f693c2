"""Tensors for tests: random values in a suitable range for their dtype."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradient import dtypes
from gradient.dtypes import DType, dtype_of
from gradient.errors import ArgumentError, sentence
from gradient.random import rand, randint
from gradient.tensor import Tensor
from gradient.tensor.arguments import DTypeLike, size_of
from gradient.tensor.complex_numbers import complex as of_parts
from gradient.tensor.creation import empty
from gradient.tensor.device import DeviceLike

__all__ = ["make_tensor"]

PARTS = {dtypes.complex64: dtypes.float32, dtypes.complex128: dtypes.float64}


def make_tensor(
    *shape: int | Sequence[int],
    dtype: DTypeLike,
    device: DeviceLike = None,
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
    memory_format: object = None,
) -> Tensor:
    """Return a tensor of uniform random values in [low, high).

    The default ranges are [0, 2) for bools, [0, 10) for uint8, [-9, 10) for other integers, and
    [-9, 9) for floats and for both parts of complex numbers.

    Args:
        noncontiguous: leave a gap of one element between neighbours in the last dimension.
        exclude_zero: replace 0 by 1, or by the smallest normal number.

    Raises:
        ArgumentError: `low` is not below `high`, or one of them is NaN; integers with
            `requires_grad`; `noncontiguous` and `memory_format` are both given.
    """
    kind, size = dtype_of(dtype), size_of(shape or ((),))
    if noncontiguous and memory_format is not None:
        got = "noncontiguous and memory_format"
        raise ArgumentError(sentence("make_tensor", "one of two that exclude each other", got))
    if requires_grad and not (kind.is_floating_point or kind.is_complex):
        expected = "a floating-point dtype where requires_grad"
        raise ArgumentError(sentence("make_tensor", expected, kind))
    least, most = _limits(kind, low, high)
    drawn = (*size[:-1], 2 * size[-1]) if noncontiguous and size else size
    part = PARTS.get(kind)
    if part is not None:
        out = of_parts(*(_drawn(drawn, part, device, least, most) for _ in "ri"))
    else:
        out = _drawn(drawn, kind, device, least, most)
    if exclude_zero:
        tiny = dtypes.finfo(kind).tiny if kind.is_floating_point or part else 1
        out[out == 0] = tiny
    if noncontiguous and size:
        out = out[..., ::2].detach()
    return out.requires_grad_() if requires_grad else out


def _limits(kind: DType, low: float | None, high: float | None) -> tuple[float, float]:
    if kind is dtypes.bool_:
        usual = 0, 2
    elif kind is dtypes.uint8:
        usual = 0, 10
    else:
        usual = -9, 9 if kind.is_floating_point or kind.is_complex else 10
    least, most = (u if given is None else given for u, given in zip(usual, (low, high)))  # noqa: B905
    if math.isnan(least) or math.isnan(most):
        raise ArgumentError(sentence("make_tensor", "limits that are numbers", f"{low}, {high}"))
    if kind.is_floating_point or kind.is_complex:
        info = dtypes.finfo(PARTS.get(kind, kind))
        bounds: tuple[float, float] = info.min, info.max
    elif kind is dtypes.bool_:
        bounds = 0, 2
    else:
        bounds = dtypes.iinfo(kind).min, dtypes.iinfo(kind).max + 1
    least, most = (min(max(v, bounds[0]), bounds[1]) for v in (least, most))
    if not (kind.is_floating_point or kind.is_complex or kind is dtypes.bool_):
        least, most = math.ceil(least), math.ceil(most)
    same_float = least == most and (kind.is_floating_point or kind.is_complex)
    if least >= most and not same_float:
        raise ArgumentError(sentence("make_tensor", "low below high", f"{low} and {high}"))
    return least, most


def _drawn(
    size: tuple[int, ...], kind: DType, device: DeviceLike, least: float, most: float
) -> Tensor:
    if not kind.is_floating_point:
        if 0 in size:
            return empty(size, dtype=kind, device=device)
        return randint(int(least), int(most), size, device=device).to(kind)
    unit = rand(size, dtype=dtypes.float64, device=device)
    numbers = least * (1 - unit) + most * unit  # the span itself may be infinite
    return numbers.to(kind).clamp(max=_below(most, kind)) if least < most else numbers.to(kind)


def _below(most: float, kind: DType) -> float:
    """The next smaller number of the dtype, so that rounding up cannot give the limit itself."""
    limit = empty((), dtype=dtypes.float32 if kind in dtypes.HALF_PRECISION else kind)
    limit.fill_(most)
    if kind in dtypes.HALF_PRECISION:
        gap = max(abs(most) * dtypes.finfo(kind).eps, dtypes.finfo(kind).tiny)
        return most - gap
    below: float = limit.nextafter(limit.new_full((), -math.inf)).item()
    return below
