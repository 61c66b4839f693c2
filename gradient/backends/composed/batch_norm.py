"""Batch normalisation: of each channel of (N, C, ...) by its mean and variance over the batch.
Group normalisation: of each group of a sample's channels by their mean and variance."""

from __future__ import annotations

import math

from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.required import Array


class BatchNormDefaults(ShapeDefaults[Array]):
    """Methods of `Backend` that normalise channels."""

    def channel_moments(self, x: Array) -> Array:
        """The mean and the (uncorrected) variance of each channel of x: (2, C)."""
        mean, _, var = self._moments(self._channels(x))
        return self.reshape(self.concatenate([mean, var], 0), (2, x.shape[1]))

    @in_float32
    def batch_norm(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """(x - mean) / sqrt(var + eps) * weight + bias for each channel of x (N, C, ...), and the
        mean and 1/sqrt(var + eps), each (C,). `weight` and `bias` (C,) may be None."""
        rows, c = self._channels(x), x.shape[1]
        mean, centred, var = self._moments(rows)
        rstd = 1 / self.sqrt(var + eps)
        y = centred * rstd
        if weight is not None:
            y = y * self.reshape(weight, (1, c, 1))
        if bias is not None:
            y = y + self.reshape(bias, (1, c, 1))
        return self.reshape(y, tuple(x.shape)), self.reshape(mean, (c,)), self.reshape(rstd, (c,))

    @in_float32
    def batch_norm_grad(
        self, g: Array, x: Array, weight: Array | None, mean: Array, rstd: Array
    ) -> tuple[Array, Array | None, Array]:
        """Gradients for x, weight (None without weight) and bias (C,)."""
        c = x.shape[1]
        mean, rstd = self.reshape(mean, (1, c, 1)), self.reshape(rstd, (1, c, 1))
        normed, rows = (self._channels(x) - mean) * rstd, self._channels(g)
        scale = rstd if weight is None else rstd * self.reshape(weight, (1, c, 1))
        products = rows * normed
        gx = scale * (rows - self._mean(rows) - normed * self._mean(products))
        gw = None if weight is None else self.sum(products, (0, 2))
        return self.reshape(gx, tuple(x.shape)), gw, self.sum(rows, (0, 2))

    @in_float32
    def group_norm(
        self, x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """(x - mean) / sqrt(var + eps) * weight + bias for each of `groups` groups of the channels
        of each sample of x (N, C, ...), and the mean and 1/sqrt(var + eps), each (N * groups,).
        `weight` and `bias` (C,) may be None. (Wu and He 2018.)"""
        n, c, size = x.shape[0], x.shape[1], math.prod(x.shape[2:])
        rows = self.reshape(x, (1, n * groups, c // groups * size))
        y, mean, rstd = self.batch_norm(rows, None, None, eps)
        y = self.reshape(y, (n, c, size))
        if weight is not None:
            y = y * self.reshape(weight, (1, c, 1))
        if bias is not None:
            y = y + self.reshape(bias, (1, c, 1))
        return self.reshape(y, tuple(x.shape)), mean, rstd

    @in_float32
    def group_norm_grad(
        self, g: Array, x: Array, weight: Array | None, mean: Array, rstd: Array, groups: int
    ) -> tuple[Array, Array | None, Array]:
        """Gradients for x, weight (None without weight) and bias (C,)."""
        n, c = x.shape[:2]
        shape, per_group = (n, groups, c // groups, math.prod(x.shape[2:])), (n, groups, 1, 1)
        mean, rstd = self.reshape(mean, per_group), self.reshape(rstd, per_group)
        normed, rows = (self.reshape(x, shape) - mean) * rstd, self.reshape(g, shape)
        products = rows * normed
        gb = self.reshape(self.sum(rows, (0, 3)), (c,))
        gw = None if weight is None else self.reshape(self.sum(products, (0, 3)), (c,))
        if weight is not None:
            scale = self.reshape(weight, (1, groups, c // groups, 1))
            rows, products = rows * scale, products * scale
        along = self.mean(products, (2, 3), True)
        gx = rstd * (rows - self.mean(rows, (2, 3), True) - normed * along)
        return self.reshape(gx, tuple(x.shape)), gw, gb

    def _channels(self, x: Array) -> Array:
        return self.reshape(x, (x.shape[0], x.shape[1], math.prod(x.shape[2:])))

    def _mean(self, x: Array) -> Array:
        return self.mean(x, (0, 2), True)

    def _moments(self, x: Array) -> tuple[Array, Array, Array]:
        """The mean, x - mean, and the variance."""
        mean = self._mean(x)
        centred = x - mean
        rest = self._mean(centred)  # not exactly 0, as the mean was rounded
        centred = centred - rest
        return mean + rest, centred, self._mean(centred * centred)
