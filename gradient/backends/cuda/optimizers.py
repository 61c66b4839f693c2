"""Optimiser steps, and the norm and scaling of gradients, over many tensors in one launch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.optimizers import OptimizerDefaults
from gradient.backends.cuda.launching import FLOATS, KernelLauncher, computed_in
from gradient.backends.options import AdamWOptions, LionOptions, RMSpropOptions, SGDOptions

CHUNK, BLOCK = 8192, 256
"""Elements for a block (`optimizers.cu`), and its threads."""
WORDS = 438
"""Addresses, starts and sizes that a launch is given: arguments of kernels have 4096 bytes."""
TENSORS = np.dtype([("n", np.int64), ("lists", np.int64), ("words", np.int64, WORDS)])
ADAM = np.dtype([(name, np.float64) for name in
                 ("beta1", "beta2", "eps", "decay", "l2", "sign")])  # fmt: skip
DESCENT = np.dtype(
    [(name, np.float64) for name in ("momentum", "rest", "l2", "sign")]
    + [(name, np.int64) for name in ("nesterov", "first_step")]
)
RMS = np.dtype(
    [(name, np.float64) for name in ("alpha", "eps", "momentum", "l2", "sign")]
    + [(name, np.int64) for name in ("moves", "centred")]
)
SIGNS = np.dtype([(name, np.float64) for name in ("beta1", "beta2", "sign")])

Lists = tuple[list[Array], ...]


class OptimizerKernels(KernelLauncher, OptimizerDefaults[Array]):
    """Overrides of `composed.optimizers`."""

    zeros: Any

    def adamw_step(
        self,
        params: list[Array],
        grads: list[Array],
        exp_avgs: list[Array],
        exp_avg_sqs: list[Array],
        options: AdamWOptions,
        steps: list[Array] | None = None,
        found_inf: Array | None = None,
        copies: list[Array] | None = None,
    ) -> None:
        states, o = (params, exp_avgs, exp_avg_sqs), options
        if not self._has_step_kernel(grads, states, copies) or (steps is None) != (
            found_inf is None
        ):
            self.without_device_numbers(o.lr, o.step)
            super().adamw_step(params, grads, exp_avgs, exp_avg_sqs, o, steps, found_inf, copies)
            return
        adam = np.array([(
            o.beta1, o.beta2, o.eps, o.weight_decay if o.decoupled else 0.0,
            0.0 if o.decoupled else o.weight_decay, -1.0 if o.maximize else 1.0,
        )], ADAM)  # fmt: skip
        lists = (params, grads, exp_avgs, exp_avg_sqs, *_present(steps, copies))
        self._launch_over_tensors(
            "adamw" if copies is None else "adamw_masters", grads[0], lists,
            adam, self.number_argument(o.lr), self.count_argument(o.step), found_inf,
        )  # fmt: skip
        if steps is not None:
            self._count_unless(found_inf, steps, grads[0])

    def _count_unless(self, found_inf: Array | None, steps: list[Array], x: Array) -> None:
        """Queue an increment of each step count, if `found_inf` is 0."""
        for some in _parts(len(steps), 1):
            counts = self._tensors((steps[some],), np.zeros(0, np.int64))
            grid = (-(-WORDS // BLOCK),)
            self.launch("optimizers", "count_unless", x, grid, BLOCK, counts, found_inf)

    def sgd_step(
        self,
        params: list[Array],
        grads: list[Array],
        momentum_buffers: list[Array] | None,
        options: SGDOptions,
        found_inf: Array | None = None,
        copies: list[Array] | None = None,
    ) -> None:
        o = options
        buffers = momentum_buffers if o.momentum else None
        if not self._has_step_kernel(grads, (params, *_present(buffers)), copies):
            self.without_device_numbers(o.lr)
            super().sgd_step(params, grads, momentum_buffers, o, found_inf, copies)
            return
        descent = np.array([(
            0.0 if buffers is None else o.momentum, 1 - o.dampening, o.weight_decay,
            -1.0 if o.maximize else 1.0, o.nesterov, o.first,
        )], DESCENT)  # fmt: skip
        self._launch_over_tensors(
            "sgd" if copies is None else "sgd_masters", grads[0],
            (params, grads, *_present(buffers, copies)), descent, self.number_argument(o.lr),
            found_inf,
        )  # fmt: skip

    def rmsprop_step(
        self,
        params: list[Array],
        grads: list[Array],
        square_avgs: list[Array],
        momentum_buffers: list[Array] | None,
        grad_avgs: list[Array] | None,
        options: RMSpropOptions,
        steps: list[Array] | None = None,
        found_inf: Array | None = None,
        copies: list[Array] | None = None,
    ) -> None:
        states, o = (params, square_avgs, *_present(momentum_buffers, grad_avgs)), options
        if not self._has_step_kernel(grads, states, copies) or (steps is None) != (
            found_inf is None
        ):
            self.without_device_numbers(o.lr)
            super().rmsprop_step(
                params, grads, square_avgs, momentum_buffers, grad_avgs, o, steps, found_inf, copies
            )
            return
        rms = np.array([(
            o.alpha, o.eps, o.momentum, o.weight_decay, -1.0 if o.maximize else 1.0,
            momentum_buffers is not None, grad_avgs is not None,
        )], RMS)  # fmt: skip
        lists = (params, grads, square_avgs, *_present(momentum_buffers, grad_avgs, copies))
        self._launch_over_tensors(
            "rmsprop" if copies is None else "rmsprop_masters", grads[0], lists, rms,
            self.number_argument(o.lr), found_inf,
        )  # fmt: skip
        if steps is not None:
            self._count_unless(found_inf, steps, grads[0])

    def lion_step(
        self,
        params: list[Array],
        grads: list[Array],
        exp_avgs: list[Array],
        options: LionOptions,
        found_inf: Array | None = None,
        copies: list[Array] | None = None,
    ) -> None:
        o = options
        if not self._has_step_kernel(grads, (params, exp_avgs), copies):
            self.without_device_numbers(o.lr, o.kept)
            super().lion_step(params, grads, exp_avgs, o, found_inf, copies)
            return
        signs = np.array([(o.beta1, o.beta2, -1.0 if o.maximize else 1.0)], SIGNS)
        numbers = signs, self.number_argument(o.lr), self.number_argument(o.kept), found_inf
        lists = (params, grads, exp_avgs, *_present(copies))
        kernel = "lion" if copies is None else "lion_masters"
        self._launch_over_tensors(kernel, grads[0], lists, *numbers)

    def total_norm(self, arrays: list[Array]) -> Array:
        if not (self._are_alike(arrays) and any(x.size for x in arrays)):
            return super().total_norm(arrays)
        sums = []
        arrays = [x for x in arrays if x.size]
        for some in _parts(len(arrays), 1):
            blocks = int(_starts(arrays[some])[-1])
            squares = self.empty((blocks,), np.dtype(computed_in(arrays[0])))
            self._launch_over_tensors("squares", arrays[0], (arrays[some],), squares)
            sums.append(self.sum(squares, None, True))
        both = sums[0] if len(sums) == 1 else self.sum(self.concatenate(sums, 0), None, False)
        return self.astype(self.sqrt(self.reshape(both, ())), arrays[0].dtype)

    def foreach_mul(self, arrays: list[Array], factor: Array) -> None:
        if not self._writes_apart(arrays):
            super().foreach_mul(arrays, factor)
            return
        by = self.astype(self.astype(factor, arrays[0].dtype), np.dtype(computed_in(arrays[0])))
        self._launch_over_tensors("scale", arrays[0], (arrays,), by)

    def foreach_unscale(self, arrays: list[Array], factor: Array, found_inf: Array) -> None:
        if not self._writes_apart(arrays):
            super().foreach_unscale(arrays, factor, found_inf)
            return
        self._launch_over_tensors("unscale", arrays[0], (arrays,), factor, found_inf)

    def update_scale(
        self,
        scale: Array,
        growth_tracker: Array,
        found_inf: Array,
        growth_factor: float,
        backoff_factor: float,
        growth_interval: int,
    ) -> None:
        self.launch(
            "loss_scale", "update_scale", scale, (1,), 32, scale, growth_tracker, found_inf,
            np.float64(growth_factor), np.float64(backoff_factor), growth_interval,
        )  # fmt: skip

    def _launch_over_tensors(self, kernel: str, x: Array, lists: Lists, *more: Any) -> None:
        """Queue a kernel for x's dtype over lists of tensors, as many at a time as fit."""
        for some in _parts(len(lists[0]), len(lists)):
            part = tuple(each[some] for each in lists)
            starts = _starts(part[0])
            if starts[-1]:
                table = self._tensors(part, np.append(starts, [x.size for x in part[0]]))
                self.launch("optimizers", kernel, x, (int(starts[-1]),), BLOCK, table, *more)

    def _tensors(self, lists: Lists, numbers: np.ndarray) -> np.ndarray:
        """The kernel's struct argument, passed by value: the tensors' addresses and numbers."""
        table = np.zeros(1, TENSORS)
        table["n"], table["lists"] = len(lists[0]), len(lists)
        words = [self.runtime.address(x) for each in lists for x in each]
        table["words"][0, : len(words) + len(numbers)] = [*words, *numbers]
        return table

    def _writes_apart(self, arrays: list[Array]) -> bool:
        """Whether a kernel may write to all arrays at once: no memory occurs twice."""
        return self._are_alike(arrays) and len({id(x) for x in arrays}) == len(arrays)

    def _has_step_kernel(
        self, grads: list[Array], states: Lists, copies: list[Array] | None
    ) -> bool:
        """Whether a kernel can update these parameters. States must have the gradients' dtype; with
        copies (master weights), the copies must have it."""
        if not (self._are_alike(grads, *_present(copies)) and self._are_alike(*states)):
            return False
        stored = grads[0].dtype if copies is None else np.dtype(computed_in(grads[0]))
        return states[0][0].dtype == stored and len(states[0]) == len(grads)

    def _are_alike(self, *lists: list[Array]) -> bool:
        """Whether these are lists of equal length of contiguous arrays of one dtype."""
        if not lists[0]:
            return False
        dtype, is_contiguous = lists[0][0].dtype, self.runtime.is_contiguous
        return dtype in FLOATS and all(
            [
                len(each) == len(lists[0])
                and all([x.dtype == dtype and is_contiguous(x) for x in each])
                for each in lists
            ]
        )


def _present(*lists: list[Array] | None) -> Lists:
    return tuple(each for each in lists if each is not None)


def _parts(tensors: int, lists: int) -> Iterator[slice]:
    """Slices of tensors, one for each launch."""
    step = (WORDS - 1) // (lists + 2)
    return (slice(first, first + step) for first in range(0, tensors, step))


def _starts(tensors: list[Array]) -> np.ndarray:
    """The number of the first block of each tensor, and the total number of blocks."""
    starts = np.zeros(len(tensors) + 1, np.int64)
    np.cumsum([-(-x.size // CHUNK) for x in tensors], out=starts[1:])
    return starts
