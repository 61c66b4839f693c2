"""What definitions of ops and of backends share, in operators and `be` methods alone.

It asks nothing of the classes of definitions: these are imported with the first backend.
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
    """Whether an array, or a Tensor in its place, holds complex numbers."""
    kind: str = x.dtype.kind  # "c" of NumPy's dtypes, "complex" of ours
    return kind[0] == "c"


def at_least(be: ActivationDefaults[Array], x: Array, low: float) -> Array:
    """x, or `low` where x is less; NaN where either is, and a zero of x keeps its sign.

    `maximum` may give either of two zeros."""
    if low == 0 and x.dtype.kind not in "biu":
        if math.copysign(1, low) > 0:
            return be.relu(x)
        return be.where(x < 0, be.full((), low, x.dtype), x)
    return be.maximum(x, be.full((), low, x.dtype))


def at_most(be: ActivationDefaults[Array], x: Array, high: float) -> Array:
    """x, or `high` where x is greater; NaN where either is, and a zero of x keeps its sign."""
    bound = be.full((), high, x.dtype)
    if high == 0 and x.dtype.kind not in "biu":
        return be.where(x > 0, bound, x)
    return be.minimum(x, bound)


def sliced(be: ShapeDefaults[Any], x: Any, axis: int, start: int, stop: int) -> Any:
    """x[start:stop] along `axis`."""
    return be.getitem(x, (*(slice(None),) * axis, slice(start, stop)))


def prod_before(be: ShapeDefaults[Any], x: Any, axis: int) -> Any:
    """For each element, the product of those before it along `axis`: 1 for the first."""
    first = be.ones((*x.shape[:axis], 1 if x.shape[axis] else 0, *x.shape[axis + 1 :]), x.dtype)
    rest = be.cumprod(sliced(be, x, axis, 0, x.shape[axis] - 1 if x.shape[axis] else 0), axis)
    return be.concatenate([first, rest], axis)


def sliding_window_at(
    be: RequiredMethods[Any], shape: Shape, axis: int, size: int, step: int
) -> tuple[Index, ...]:
    """The index of the windows along an axis of an array of `shape`: (count, size) for it."""
    count = (shape[axis] - size) // step + 1
    starts = be.reshape(be.arange(0, count * step, step, int64.numpy), (count, 1))
    return (*(slice(None),) * axis, starts + be.arange(0, size, 1, int64.numpy))


def strided_at(
    be: RequiredMethods[Any], size: Shape, stride: tuple[int, ...], offset: int
) -> Index:
    """The places of `as_strided` in a flat array, in row-major order."""
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
