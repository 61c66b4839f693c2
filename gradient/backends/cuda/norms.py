"""Softmax and normalisation by kernels, along the last axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.norms import NormDefaults
from gradient.backends.cuda.launching import LOAD, MANY_ROWS, MAX_BLOCK, KernelLauncher, computed_in
from gradient.backends.required import Axis

ENOUGH_BLOCKS = 1024
"""That add up the columns of a gradient, where it has rows for so many."""
ENOUGH_THREADS, LEAST_ROWS = 1 << 17, 8
"""Of all blocks that take rows by turns, and rows for each of them."""


class NormKernels(KernelLauncher, NormDefaults[Array]):
    """Overrides of `composed.norms`."""

    sums_of_parts: Any

    # Softmax -------------------------------------------------------------------------------------

    def softmax(self, x: Array, axis: Axis) -> Array:
        if not _along_last(self, axis, x):
            return super().softmax(x, axis)
        return self._each_row("softmax", x)

    def softmax_grad(self, g: Array, out: Array, axis: int) -> Array:
        if not _along_last(self, axis, g, out):
            return super().softmax_grad(g, out, axis)
        return self._each_row("softmax_grad", g, out)

    def log_softmax(self, x: Array, axis: int) -> Array:
        if not _along_last(self, axis, x):
            return super().log_softmax(x, axis)
        return self._each_row("log_softmax", x)

    def log_softmax_grad(self, g: Array, out: Array, axis: int) -> Array:
        if not _along_last(self, axis, g, out):
            return super().log_softmax_grad(g, out, axis)
        return self._each_row("log_softmax_grad", g, out)

    def _each_row(self, kernel: str, *arrays: Array) -> Array:
        out = self.empty(arrays[0].shape, arrays[0].dtype)
        self.launch_held_rows("softmax", kernel, out, *map(self.contiguous, arrays), out)
        return out

    # Normalisation over the last axis ------------------------------------------------------------

    def layer_norm(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        if not self.has_kernel(x, weight, bias):
            return super().layer_norm(x, weight, bias, eps)
        number = computed_in(x)
        y = self.empty(x.shape, x.dtype)
        mean, rstd = (self.empty((*x.shape[:-1], 1), np.dtype(number)) for _ in range(2))
        self.launch_held_rows(
            "norms", "layer_norm", x,
            self.contiguous(x), self.optional(weight), self.optional(bias), y, mean, rstd,
            after=(number(eps),),
        )  # fmt: skip
        return y, mean, rstd

    def layer_norm_grad(
        self, g: Array, x: Array, weight: Array | None, mean: Array, rstd: Array
    ) -> tuple[Array, Array | None, Array]:
        number = computed_in(x)
        if not self.has_kernel(x, g, weight):
            return super().layer_norm_grad(g, x, weight, mean, rstd)
        g, x = self.contiguous(g), self.contiguous(x)
        mean, rstd = self.statistic(mean, number), self.statistic(rstd, number)
        gx, weight = self.empty(x.shape, x.dtype), self.optional(weight)
        sums = self._all_grads("layer_norm_grads", g, x, weight, mean, rstd, gx)
        if sums is None:
            self.launch_held_rows("norms", "layer_norm_grad", x, g, x, weight, mean, rstd, gx)
            sums = self._column_sums("layer_norm_grad_weight", x, g, x, mean, rstd)
        gw, gb = self.sums_of_parts(sums, x.dtype)
        return gx, None if weight is None else gw, gb

    def rms_norm(
        self, x: Array, weight: Array | None, eps: float, round_first: bool = False
    ) -> tuple[Array, Array]:
        if not self.has_kernel(x, weight):
            return super().rms_norm(x, weight, eps, round_first)
        number = computed_in(x)
        y, rstd = self.empty(x.shape, x.dtype), self.empty((*x.shape[:-1], 1), np.dtype(number))
        self.launch_held_rows(
            "norms", "rms_norm", x, self.contiguous(x), self.optional(weight), y, rstd,
            after=(number(eps), int(round_first)),
        )  # fmt: skip
        return y, rstd

    def rms_norm_grad(
        self, g: Array, x: Array, weight: Array | None, rstd: Array
    ) -> tuple[Array, Array | None]:
        if not self.has_kernel(x, g, weight):
            return super().rms_norm_grad(g, x, weight, rstd)
        g, x, rstd = self.contiguous(g), self.contiguous(x), self.statistic(rstd, computed_in(x))
        gx, weight = self.empty(x.shape, x.dtype), self.optional(weight)
        if weight is None:
            self.launch_held_rows("norms", "rms_norm_grad", x, g, x, None, rstd, gx)
            return gx, None
        sums = self._all_grads("rms_norm_grads", g, x, weight, None, rstd, gx)
        if sums is None:
            self.launch_held_rows("norms", "rms_norm_grad", x, g, x, weight, rstd, gx)
            sums = self._column_sums("rms_norm_grad_weight", x, g, x, rstd)
        return gx, self.sums_of_parts(sums[:1], x.dtype)[0]

    def _all_grads(
        self, kernel: str, g: Array, x: Array, weight: Array | None, mean: Array | None,
        rstd: Array, gx: Array,
    ) -> Array | None:  # fmt: skip
        """Queue the kernel that writes gx; return each block's sums for weight and bias,
        (2, blocks, columns). None if rows are few, too long, or not aligned."""
        columns, each = x.shape[-1], LOAD // x.itemsize
        rows, threads = x.size // columns, -(-columns // (32 * each)) * 32
        if (
            rows < MANY_ROWS
            or columns % each
            or threads > MAX_BLOCK
            or not self.begin_at_loads(g, x, weight, gx)
        ):
            return None
        blocks = min(-(-rows // LEAST_ROWS), ENOUGH_THREADS // threads)
        sums = self.empty((2, blocks, columns), np.dtype(computed_in(x)))
        self.launch(
            "norms", kernel, x, (blocks,), threads,
            g, x, weight, mean, rstd, gx, sums, rows, columns,
        )  # fmt: skip
        return sums

    def _column_sums(self, kernel: str, x: Array, *arrays: Array) -> Array:
        """The sums of each block for weight and bias, (2, blocks, columns), over a part of the rows
        for some columns, in a fixed order."""
        columns = x.shape[-1]
        rows = x.size // columns
        across = -(-columns // (32 * (LOAD // x.itemsize)))
        parts = min(-(-rows // 64), max(64, ENOUGH_BLOCKS // across))
        number = np.dtype(computed_in(x))
        sums = self.empty((2, parts, columns), number)
        self.launch(
            "norms", kernel, x, (across, parts), 256,
            *arrays, sums, rows, columns,
        )  # fmt: skip
        return sums


def _along_last(be: Any, axis: Axis, *arrays: Array) -> bool:
    return axis in (-1, arrays[0].ndim - 1) and be.has_kernel(*arrays)
