"""Transforms of a tensor's parts, a different one for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.distributions import constraints
from gradient.distributions.distribution import sum_rightmost
from gradient.distributions.transforms.base import Transform
from gradient.errors import ArgumentError, sentence
from gradient.tensor import Tensor
from gradient.tensor.joining import cat, stack

__all__ = ["CatTransform", "StackTransform"]


class _Joined(Transform):
    """`tseq`, one transform for each part along `dim`."""

    def __init__(self, tseq: Sequence[Transform], dim: int, cache_size: int) -> None:
        super().__init__(cache_size)
        name = type(self).__name__
        if not all(isinstance(t, Transform) for t in tseq):
            raise ArgumentError(sentence(name, "Transforms as tseq", list(tseq)))
        self.transforms = [t.with_cache(cache_size) for t in tseq] if cache_size else list(tseq)
        self.dim = dim
        self.bijective = all(t.bijective for t in self.transforms)

    def _parts(self, x: Tensor) -> Sequence[Tensor]:
        raise NotImplementedError

    def _join(self, parts: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def _each(self, x: Tensor) -> list[tuple[Transform, Tensor]]:
        parts = self._parts(x)
        if len(parts) != len(self.transforms):
            expected = f"{len(self.transforms)} parts along dim {self.dim}"
            raise ArgumentError(sentence(type(self).__name__, expected, tuple(x.shape)))
        return list(zip(self.transforms, parts, strict=True))

    def _call(self, x: Tensor) -> Tensor:
        return self._join([t(part) for t, part in self._each(x)])

    def _inverse(self, y: Tensor) -> Tensor:
        return self._join([t.inv(part) for t, part in self._each(y)])

    def _key(self) -> tuple[Any, ...]:
        return (self.dim, *self.transforms)


class CatTransform(_Joined):
    """Transforms pieces of `lengths` (default: 1 each) along `dim`, and joins them like `cat`."""

    def __init__(
        self,
        tseq: Sequence[Transform],
        dim: int = 0,
        lengths: Sequence[int] | None = None,
        cache_size: int = 0,
    ) -> None:
        super().__init__(tseq, dim, cache_size)
        self.lengths = [1] * len(self.transforms) if lengths is None else list(lengths)
        if len(self.lengths) != len(self.transforms):
            expected = f"as many lengths as transforms, {len(self.transforms)}"
            raise ArgumentError(sentence("CatTransform", expected, len(self.lengths)))
        self.domain = constraints.cat([t.domain for t in self.transforms], dim, self.lengths)
        self.codomain = constraints.cat([t.codomain for t in self.transforms], dim, self.lengths)

    @property
    def length(self) -> int:
        return sum(self.lengths)

    @property
    def event_dim(self) -> int:
        return max(t.event_dim for t in self.transforms)

    def _parts(self, x: Tensor) -> Sequence[Tensor]:
        return x.split(self.lengths, self.dim)

    def _join(self, parts: list[Tensor]) -> Tensor:
        return cat(parts, self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        found = []
        for (t, before), (_, after) in zip(self._each(x), self._each(y), strict=True):
            part = t.log_abs_det_jacobian(before, after)
            found.append(sum_rightmost(part, self.event_dim - t.event_dim))
        dim = (self.dim - x.ndim if self.dim >= 0 else self.dim) + self.event_dim
        if dim < 0:
            return cat(found, dim)
        total = found[0]  # the pieces are parts of one event
        for part in found[1:]:
            total = total + part
        return total

    def _key(self) -> tuple[Any, ...]:
        return (*super()._key(), *self.lengths)


class StackTransform(_Joined):
    """Transforms the slices along `dim`, and joins them like `stack`."""

    def __init__(self, tseq: Sequence[Transform], dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(tseq, dim, cache_size)
        self.domain = constraints.stack([t.domain for t in self.transforms], dim)
        self.codomain = constraints.stack([t.codomain for t in self.transforms], dim)

    def _parts(self, x: Tensor) -> Sequence[Tensor]:
        return x.unbind(self.dim)

    def _join(self, parts: list[Tensor]) -> Tensor:
        return stack(parts, self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(self._each(x), self._each(y), strict=True)
        return stack([t.log_abs_det_jacobian(a, b) for (t, a), (_, b) in pairs], self.dim)
