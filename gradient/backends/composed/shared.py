"""Functions shared by definitions of ops and of backends, in operators and `be` methods only.

They do not import the classes of composed definitions, which are loaded with the first backend.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradient.dtypes import int64

if TYPE_CHECKING:
    from gradient.backends.composed.activation import ActivationDefaults
    from gradient.backends.composed.shape import ShapeDefaults
    from gradient.backends.required import Array, Index, RequiredMethods, Shape


def is_complex(x: Any) -> bool:
    """Whether an array or Tensor is complex."""
    kind: str = x.dtype.kind  # "c" for NumPy's dtypes, "complex" for ours
    return kind[0] == "c"


def at_least(be: ActivationDefaults[Array], x: Array, low: float) -> Array:
    """x, or `low` where x < low; NaN where either is NaN. A zero of x keeps its sign.

    (`maximum` may return either of two zeros.)"""
    if low == 0 and x.dtype.kind not in "biu":
        if math.copysign(1, low) > 0:
            return be.relu(x)
        return be.where(x < 0, be.full((), low, x.dtype), x)
    return be.maximum(x, be.full((), low, x.dtype))


def at_most(be: ActivationDefaults[Array], x: Array, high: float) -> Array:
    """x, or `high` where x > high; NaN where either is NaN. A zero of x keeps its sign."""
    bound = be.full((), high, x.dtype)
    if high == 0 and x.dtype.kind not in "biu":
        return be.where(x > 0, bound, x)
    return be.minimum(x, bound)


def sliced(be: ShapeDefaults[Any], x: Any, axis: int, start: int, stop: int) -> Any:
    """x[start:stop] along `axis`."""
    return be.getitem(x, (*(slice(None),) * axis, slice(start, stop)))


def prod_before(be: ShapeDefaults[Any], x: Any, axis: int) -> Any:
    """For each element, the product of all before it along `axis`; 1 for the first."""
    first = be.ones((*x.shape[:axis], 1 if x.shape[axis] else 0, *x.shape[axis + 1 :]), x.dtype)
    rest = be.cumprod(sliced(be, x, axis, 0, x.shape[axis] - 1 if x.shape[axis] else 0), axis)
    return be.concatenate([first, rest], axis)


def sliding_window_at(
    be: RequiredMethods[Any], shape: Shape, axis: int, size: int, step: int
) -> tuple[Index, ...]:
    """The index of the windows along an axis of an array of `shape`: (count, size) on this axis."""
    count = (shape[axis] - size) // step + 1
    starts = be.reshape(be.arange(0, count * step, step, int64.numpy), (count, 1))
    return (*(slice(None),) * axis, starts + be.arange(0, size, 1, int64.numpy))


def strided_at(
    be: RequiredMethods[Any], size: Shape, stride: tuple[int, ...], offset: int
) -> Index:
    """The flat indices of `as_strided`, in row-major order."""
    at = be.full((1,), offset, int64.numpy)
    for n, step in zip(size, stride, strict=True):
        steps = be.arange(0, n, 1, int64.numpy) * step
        at = be.reshape(be.reshape(at, (*at.shape, 1)) + steps, (at.shape[0] * n,))
    return at


def diagonal_at(be: RequiredMethods[Any], shape: Shape, offset: int) -> tuple[Index, ...]:
    """The index of a diagonal of the last two axes of an array of `shape`."""
    down, right = max(-offset, 0), max(offset, 0)
    n = max(min(shape[-2] - down, shape[-1] - right), 0)
    steps = be.arange(0, n, 1, int64.numpy)
    return (..., steps + down, steps + right)
