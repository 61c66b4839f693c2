"""Running maxima, minima and log-sum-exps; integrals and slopes of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradient.autograd.forwarding import forwarded
from gradient.autograd.promotion import refuse_complex
from gradient.autograd.variable import wrap
from gradient.dtypes import HALF_PRECISION, bool_, float32
from gradient.errors import (
    ArgumentError,
    DTypeError,
    IndexOutOfRange,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.ops import reduce
from gradient.tensor.arguments import axis_of, number_of, tensor_of
from gradient.tensor.arithmetic import floating
from gradient.tensor.base import TensorBase
from gradient.tensor.joining import cat
from gradient.tensor.reductions import ValuesAndIndices, returned
from gradient.tensor.views import without_base

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor


class Scans(TensorBase):
    """cummax, cummin, logcumsumexp."""

    __slots__ = ()

    def cummax(self: Any, dim: int) -> ValuesAndIndices:
        """(values, indices) of the running maximum along `dim`, in the shape of self; indices
        are int64, of the last one at ties."""
        return _running("cummax", self, dim, True)

    def cummin(self: Any, dim: int) -> ValuesAndIndices:
        """(values, indices) of the running minimum along `dim`, in the shape of self; indices
        are int64, of the last one at ties."""
        return _running("cummin", self, dim, False)

    def logcumsumexp(self: Any, dim: int) -> Tensor:
        """The logarithm of the running sum of exponentials along `dim`."""
        floating("logcumsumexp", self)
        axis = axis_of(dim, self.ndim)
        if not self.ndim:
            return self.clone()
        if self.dtype in HALF_PRECISION:  # to round only once
            return self.to(float32).logcumsumexp(axis).to(self.dtype)
        return reduce.logcumsumexp(self, axis=axis)


def _running(name: str, x: Any, dim: int, largest: bool) -> ValuesAndIndices:
    """Compute a running extreme; NaN propagates."""
    refuse_complex("cummax and cummin", [x.dtype])
    axis = axis_of(dim, x.ndim)
    vector = x.detach() if x.ndim else x.detach().reshape(1)
    backend = x.backend
    places = wrap(backend.running_extreme(vector.array, axis, largest), backend)
    places = without_base(places if x.ndim else places.reshape(()))
    return returned[name](x.gather(dim, places), places)


@forwarded
def trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1
) -> Tensor:
    """The integral along `dim` by the trapezoidal rule, for points at `x`, or with distance `dx`
    (default 1)."""
    if isinstance(dx, bool):
        raise TypeMismatch(sentence("trapezoid", "a number as dx", dx))
    return _integral("trapezoid", y, x, dx, dim)


@forwarded
def trapz(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1) -> Tensor:
    """An alias of `trapezoid`."""
    return _integral("trapz", y, x, dx, dim)


@forwarded
def cumulative_trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1
) -> Tensor:
    """The integrals along `dim` from the first point to each later one."""
    if isinstance(dx, bool):
        raise TypeMismatch(sentence("cumulative_trapezoid", "a number as dx", dx))
    sums, widths, axis = _neighbours("cumulative_trapezoid", y, x, dx, dim)
    return (sums * widths / 2).cumsum(axis)


def _integral(caller: str, y: Any, x: Any, dx: Any, dim: int) -> Tensor:
    sums, widths, axis = _neighbours(caller, y, x, dx, dim, summed=x is not None)
    if not y.shape[axis]:
        return y.detach().sum(axis, dtype=y.dtype)
    if isinstance(widths, TensorBase):
        return (sums * widths).sum(axis) / 2
    # As in PyTorch: NaN if the first or the last is infinite.
    return (y.sum(axis) - (y.select(axis, 0) + y.select(axis, -1)) * 0.5) * widths


def _neighbours(
    caller: str, y: Any, x: Any, dx: Any, dim: int, summed: bool = True
) -> tuple[Tensor, Tensor | float, int]:
    """Return the sums of neighbours (if they are needed, else y), their distances, and the axis."""
    axis = axis_of(dim, tensor_of(caller, y).ndim)
    if not y.ndim:
        raise IndexOutOfRange(sentence(caller, "at least 1 dimension", "0"))
    if y.dtype is bool_ or (x is not None and tensor_of(caller, x).dtype is bool_):
        raise DTypeError(sentence(caller, "numbers", "bool"))
    if x is not None and dx is not None:
        raise ArgumentError(sentence(caller, "x or dx", "both"))
    step = 1 if dx is None else number_of(caller, "dx", dx)
    n = y.shape[axis]
    if not n or not summed:
        return y, step, axis
    sums = y.narrow(axis, 1, n - 1) + y.narrow(axis, 0, n - 1)
    if x is None:
        return sums, step, axis
    if x.ndim == 1:
        if x.shape[0] != n:
            raise ShapeError(sentence(caller, f"as many x as y, {n}", x.shape[0]))
        return sums, x.diff().reshape([-1 if i == axis else 1 for i in range(y.ndim)]), axis
    x = x.reshape((1,) * (y.ndim - x.ndim) + tuple(x.shape)) if x.ndim < y.ndim else x
    return sums, x.diff(dim=axis), axis


@forwarded
def gradient(
    input: Tensor,
    *,
    spacing: float | Sequence[float] | Sequence[Tensor] | None = 1,
    dim: int | Sequence[int] | None = None,
    edge_order: int = 1,
) -> list[Tensor]:
    """Estimate the gradient of samples along each of `dim`, as a list of tensors of self's shape.

    Inside, it uses central differences of second order, also for uneven points (`spacing`); at the
    edges, one-sided differences of order `edge_order`, 1 or 2."""
    tensor_of("gradient", input)
    if edge_order not in (1, 2):
        raise ArgumentError(sentence("gradient", "edge_order 1 or 2", edge_order))
    dims = range(input.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    axes = [axis_of(d, input.ndim) for d in dims]
    spacing = 1 if spacing is None else spacing
    spacings: list[Any] = (
        list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * len(axes)
    )
    if len(set(axes)) != len(axes) or len(spacings) != len(axes):
        expected = "different dims, and as many spacings"
        raise ArgumentError(sentence("gradient", expected, f"{dims} and {len(spacings)}"))
    if input.dtype is bool_:
        raise DTypeError(sentence("gradient", "numbers", "bool", "cast with .to()"))
    return [_slope(input, axis, h, edge_order) for axis, h in zip(axes, spacings, strict=True)]


def _slope(x: Any, axis: int, spacing: Any, edge_order: int) -> Tensor:
    points: Any = spacing
    n = x.shape[axis]
    if n <= edge_order:
        raise ShapeError(sentence("gradient", f"more than {edge_order} points along {axis}", n))
    if x.array.dtype.kind in "biu":
        x = x.float()

    def part(start: int, length: int) -> Tensor:
        return x.narrow(axis, start, length)

    uneven = isinstance(spacing, TensorBase) and spacing.ndim > 0
    if uneven:
        h = points.diff().reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    else:
        widths = [n - 1 if i == axis else 1 for i in range(x.ndim)]
        h = x.detach().new_tensor(float(spacing)).expand(widths)
    a, b = h.narrow(axis, 0, max(n - 2, 0)), h.narrow(axis, min(1, n - 2), max(n - 2, 0))
    first, last = h.narrow(axis, 0, 1), h.narrow(axis, n - 2, 1)
    if edge_order == 1:
        edges = [(part(1, 1) - part(0, 1)) / first, (part(n - 1, 1) - part(n - 2, 1)) / last]
    else:
        edges = [
            _one_sided(part(0, 1), part(1, 1), part(2, 1), first, h.narrow(axis, 1, 1)),
            -_one_sided(part(n - 1, 1), part(n - 2, 1), part(n - 3, 1), last,
                        h.narrow(axis, n - 3, 1)),
        ]  # fmt: skip
    if n == 2:
        return cat(edges, axis)
    below, at, above = (part(i, n - 2) for i in range(3))
    if uneven:
        middle = below * (-b / (a * (a + b))) + at * ((b - a) / (a * b))
        middle = middle + above * (a / (b * (a + b)))
    else:
        middle = (above - below) / (2 * a)
    return cat([edges[0], middle, edges[1]], axis)


def _one_sided(at: Any, near: Any, far: Any, a: Any, b: Any) -> Tensor:
    """The slope, at the first of three points, of the parabola through them; the others are at
    distances a and a + b."""
    return (
        at * (-(2 * a + b) / (a * (a + b)))
        + near * ((a + b) / (a * b))
        + far * (-a / (b * (a + b)))
    )


__all__ = ["cumulative_trapezoid", "gradient", "trapezoid", "trapz"]
