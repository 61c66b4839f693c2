"""Transforms of outcomes: invertible functions with the logarithm of their Jacobian."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any

from gradient.distributions import constraints
from gradient.distributions.constraints import Constraint
from gradient.distributions.distribution import same_as, sum_rightmost
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.tensor import Size, Tensor
from gradient.tensor.creation_like import zeros_like

__all__ = [
    "ComposeTransform",
    "IndependentTransform",
    "ReshapeTransform",
    "Transform",
    "identity_transform",
]


class Transform:
    """y = t(x), and x = t.inv(y).

    Attributes:
        domain, codomain: the constraints of x and of y.
        bijective: whether each y has exactly one x.
        sign: 1 if it is increasing, -1 if decreasing, if either holds.

        `cache_size` is as in PyTorch: 1 keeps the last x and y, so that `inv` of that y is exact.
    """

    domain: Constraint
    codomain: Constraint
    bijective = False
    sign: Any

    def __init__(self, cache_size: int = 0) -> None:
        if cache_size not in (0, 1):
            raise ArgumentError(sentence("Transform", "cache_size 0 or 1", cache_size))
        self._cache_size = cache_size
        self._last: tuple[Any, Any] = (None, None)

    @property
    def event_dim(self) -> int:
        if self.domain.event_dim != self.codomain.event_dim:
            raise ArgumentError("event_dim: use domain.event_dim or codomain.event_dim")
        return self.domain.event_dim

    def with_cache(self, cache_size: int = 1) -> Transform:
        """Return the same transform with such a cache."""
        made = copy.copy(self)
        Transform.__init__(made, cache_size)
        return made

    @property
    def inv(self) -> Transform:
        """The inverse transform."""
        return _Inverse(self)

    def __call__(self, x: Tensor) -> Tensor:
        if self._cache_size == 0:
            return self._call(x)
        known, y = self._last
        if x is known:
            return y
        y = self._call(x)
        self._last = x, y
        return y

    def _inv_call(self, y: Tensor) -> Tensor:
        x, known = self._last
        if self._cache_size and y is known:
            return x
        x = self._inverse(y)
        if self._cache_size:
            self._last = x, y
        return x

    def _call(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no _call")

    def _inverse(self, y: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log |dy/dx|, with the shape of x without its event dimensions."""
        raise NotImplementedError(f"{type(self).__name__} has no log_abs_det_jacobian")

    def forward_shape(self, shape: Sequence[int]) -> Size:
        """The shape of y for a shape of x."""
        return Size(shape)

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        """The shape of x for a shape of y."""
        return Size(shape)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(type(self))

    def _key(self) -> tuple[Any, ...]:
        """The values that distinguish transforms of one class."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class _Inverse(Transform):
    """The inverse of another transform."""

    def __init__(self, transform: Transform) -> None:
        super().__init__(transform._cache_size)
        self._inv = transform
        self.bijective = transform.bijective

    domain: Constraint = same_as("_inv.codomain")
    codomain: Constraint = same_as("_inv.domain")
    sign: Any = same_as("_inv.sign")

    @property
    def inv(self) -> Transform:
        return self._inv

    def __call__(self, x: Tensor) -> Tensor:
        return self._inv._inv_call(x)

    def _inv_call(self, y: Tensor) -> Tensor:
        return self._inv(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -self._inv.log_abs_det_jacobian(y, x)

    def forward_shape(self, shape: Sequence[int]) -> Size:
        return self._inv.inverse_shape(shape)

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        return self._inv.forward_shape(shape)

    def _key(self) -> tuple[Any, ...]:
        return (self._inv,)

    def __repr__(self) -> str:
        return f"{self._inv!r}.inv"


class ComposeTransform(Transform):
    """One transform after another: the first of `parts` is applied first."""

    def __init__(self, parts: Sequence[Transform], cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.parts = [p.with_cache(cache_size) for p in parts] if cache_size else list(parts)
        self.bijective = all(p.bijective for p in self.parts)
        self.domain, self.codomain = self._domain(), self._codomain()

    def _domain(self) -> Constraint:
        if not self.parts:
            return constraints.real
        dims = self.parts[-1].codomain.event_dim
        for part in reversed(self.parts):
            dims = max(
                dims + part.domain.event_dim - part.codomain.event_dim, part.domain.event_dim
            )
        return _with_event_dim(self.parts[0].domain, dims)

    def _codomain(self) -> Constraint:
        if not self.parts:
            return constraints.real
        dims = self.parts[0].domain.event_dim
        for part in self.parts:
            dims = max(
                dims + part.codomain.event_dim - part.domain.event_dim, part.codomain.event_dim
            )
        return _with_event_dim(self.parts[-1].codomain, dims)

    @property
    def sign(self) -> Any:
        return math.prod(part.sign for part in self.parts)

    @property
    def inv(self) -> Transform:
        return ComposeTransform([p.inv for p in reversed(self.parts)])

    def _call(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x

    def _inverse(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part._inv_call(y)
        return y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.parts:
            return zeros_like(x.detach())
        dims, values = self.domain.event_dim, [x]
        for part in self.parts[:-1]:
            values.append(part(values[-1]))
        values.append(y)
        total: Any = 0
        for part, before, after in zip(self.parts, values[:-1], values[1:], strict=True):
            found = part.log_abs_det_jacobian(before, after)
            total = total + sum_rightmost(found, dims - part.domain.event_dim)
            dims += part.codomain.event_dim - part.domain.event_dim
        return total

    def forward_shape(self, shape: Sequence[int]) -> Size:
        for part in self.parts:
            shape = part.forward_shape(shape)
        return Size(shape)

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        for part in reversed(self.parts):
            shape = part.inverse_shape(shape)
        return Size(shape)

    def _key(self) -> tuple[Any, ...]:
        return tuple(self.parts)

    def __repr__(self) -> str:
        return f"ComposeTransform({self.parts})"


identity_transform = ComposeTransform([])


def _with_event_dim(constraint: Constraint, dims: int) -> Constraint:
    """The constraint for events of `dims` dimensions."""
    extra = dims - constraint.event_dim
    return constraints.independent(constraint, extra) if extra else constraint


class IndependentTransform(Transform):
    """A transform whose last `reinterpreted_batch_ndims` batch dimensions belong to the event."""

    def __init__(
        self, base_transform: Transform, reinterpreted_batch_ndims: int, cache_size: int = 0
    ) -> None:
        super().__init__(cache_size)
        self.base_transform = base_transform
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims
        self.bijective = base_transform.bijective
        self.domain = constraints.independent(base_transform.domain, reinterpreted_batch_ndims)
        self.codomain = constraints.independent(base_transform.codomain, reinterpreted_batch_ndims)

    sign: Any = same_as("base_transform.sign")

    def _call(self, x: Tensor) -> Tensor:
        return self.base_transform(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.base_transform._inv_call(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        found = self.base_transform.log_abs_det_jacobian(x, y)
        return sum_rightmost(found, self.reinterpreted_batch_ndims)

    def _key(self) -> tuple[Any, ...]:
        return (self.base_transform, self.reinterpreted_batch_ndims)


class ReshapeTransform(Transform):
    """Reshapes events from `in_shape` to `out_shape`."""

    bijective = True

    def __init__(
        self, in_shape: Sequence[int], out_shape: Sequence[int], cache_size: int = 0
    ) -> None:
        super().__init__(cache_size)
        self.in_shape, self.out_shape = Size(in_shape), Size(out_shape)
        if math.prod(in_shape) != math.prod(out_shape):
            expected = "in_shape and out_shape of as many elements"
            got = f"{tuple(in_shape)} and {tuple(out_shape)}"
            raise ArgumentError(sentence("ReshapeTransform", expected, got))
        self.domain = constraints.independent(constraints.real, len(in_shape))
        self.codomain = constraints.independent(constraints.real, len(out_shape))

    def _lead(self, shape: Sequence[int], own: Size) -> tuple[int, ...]:
        cut = len(shape) - len(own)
        if cut < 0 or tuple(shape[cut:]) != tuple(own):
            raise ShapeError(sentence("ReshapeTransform", f"a shape that ends in {own}", shape))
        return tuple(shape[:cut])

    def _call(self, x: Tensor) -> Tensor:
        return x.reshape((*self._lead(x.shape, self.in_shape), *self.out_shape))

    def _inverse(self, y: Tensor) -> Tensor:
        return y.reshape((*self._lead(y.shape, self.out_shape), *self.in_shape))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.new_zeros(self._lead(x.shape, self.in_shape))

    def forward_shape(self, shape: Sequence[int]) -> Size:
        return Size((*self._lead(shape, self.in_shape), *self.out_shape))

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        return Size((*self._lead(shape, self.out_shape), *self.in_shape))

    def _key(self) -> tuple[Any, ...]:
        return (self.in_shape, self.out_shape)


def composed(transforms: Transform | Iterable[Transform]) -> list[Transform]:
    """Return one transform or several as a list."""
    found = [transforms] if isinstance(transforms, Transform) else list(transforms)
    if not all(isinstance(t, Transform) for t in found):
        expected = "a Transform, or a list of such"
        raise ArgumentError(sentence("TransformedDistribution", expected, transforms))
    return found
