"""Optimiser steps, and the norm and the scaling of gradients, over all tensors in one launch."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.optimizers import OptimizerDefaults
from gradient.backends.cuda.launching import FLOATS, KernelLauncher, computed_in
from gradient.backends.options import AdamWOptions

CHUNK, BLOCK = 8192, 256
"""Elements for a block (`optimizers.cu`), and its threads."""
TABLES_KEPT = 8


class OptimizerKernels(KernelLauncher, OptimizerDefaults[Array]):
    """Overrides of `composed.optimizers`."""

    _tables: dict[bytes, Array]
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
    ) -> None:
        lists = (params, grads, exp_avgs, exp_avg_sqs)
        if not _has_optimizer_kernel(lists) or (steps is None) != (found_inf is None):
            super().adamw_step(params, grads, exp_avgs, exp_avg_sqs, options, steps, found_inf)
            return
        o = options
        decay = o.lr * o.weight_decay if o.decoupled else 0.0
        averages = o.beta1, 1 - o.beta1, o.beta2, 1 - o.beta2
        rest = (
            o.eps, 1 - decay, 0.0 if o.decoupled else o.weight_decay, -1.0 if o.maximize else 1.0,
        )  # fmt: skip
        if steps is None:
            rate, root2 = o.lr / (1 - o.beta1**o.step), (1 - o.beta2**o.step) ** 0.5
            self._launch_over_tensors("adamw", lists, (rate, *averages, root2, *rest))
            return
        self._launch_over_tensors(
            "adamw_unless", (*lists, steps), (*averages, *rest), found_inf,
            *map(np.float64, (o.lr, o.beta1, o.beta2)),
        )  # fmt: skip
        counts = self._on_device(np.array([self.runtime.address(x) for x in steps], np.int64))
        self.launch(
            "loss_scale", "count_unless", steps[0], (-(-len(steps) // BLOCK),), BLOCK,
            counts, np.int64(len(steps)), found_inf,
        )  # fmt: skip

    def sgd_step(
        self,
        params: list[Array],
        grads: list[Array],
        momentum_buffers: list[Array] | None,
        *,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        first: bool = False,
        found_inf: Array | None = None,
    ) -> None:
        buffers = momentum_buffers if momentum else None
        lists = (params, grads) if buffers is None else (params, grads, buffers)
        if not _has_optimizer_kernel(lists):
            super().sgd_step(
                params, grads, momentum_buffers, lr=lr, momentum=momentum, dampening=dampening,
                weight_decay=weight_decay, nesterov=nesterov, maximize=maximize, first=first,
                found_inf=found_inf,
            )  # fmt: skip
            return
        self._launch_over_tensors(
            "sgd", lists,
            (lr, 0.0 if buffers is None else momentum, 1 - dampening, weight_decay,
             -1.0 if maximize else 1.0),
            np.int64(nesterov), np.int64(first), found_inf,
        )  # fmt: skip

    def total_norm(self, arrays: list[Array]) -> Array:
        blocks = _blocks(arrays)
        if not (_has_optimizer_kernel((arrays,)) and blocks):
            return super().total_norm(arrays)
        dtype = arrays[0].dtype
        squares = self.empty((blocks,), np.dtype(computed_in(arrays[0])))
        self._launch_over_tensors("squares", (arrays,), (), squares)
        return self.astype(self.sqrt(self.sum(squares, None, False)), dtype)

    def foreach_mul(self, arrays: list[Array], factor: Array) -> None:
        if not _writes_apart(arrays):
            super().foreach_mul(arrays, factor)
            return
        by = self.astype(self.astype(factor, arrays[0].dtype), np.dtype(computed_in(arrays[0])))
        self._launch_over_tensors("scale", (arrays,), (), by)

    def foreach_unscale(self, arrays: list[Array], factor: Array, found_inf: Array) -> None:
        if not _writes_apart(arrays):
            super().foreach_unscale(arrays, factor, found_inf)
            return
        self._launch_over_tensors("unscale", (arrays,), (), factor, found_inf)

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
            np.float64(growth_factor), np.float64(backoff_factor), np.int64(growth_interval),
        )  # fmt: skip

    def _launch_over_tensors(
        self, kernel: str, lists: tuple[list[Array], ...], numbers: tuple[float, ...], *more: Any
    ) -> None:
        """Queue a kernel that gets addresses, numbers in the type it computes in, and `more`."""
        n = len(lists[0])
        sizes = np.array([x.size for x in lists[0]], np.int64)
        starts = np.zeros(n + 1, np.int64)
        np.cumsum(-(-sizes // CHUNK), out=starts[1:])
        blocks = int(starts[-1])
        if not blocks:
            return
        addresses = np.array([[self.runtime.address(x) for x in each] for each in lists], np.int64)
        table = self._on_device(np.concatenate([addresses.ravel(), starts, sizes]))
        number = computed_in(lists[0][0])
        self.launch(
            "optimizers", kernel, lists[0][0], (blocks,), BLOCK,
            table[: addresses.size], table[addresses.size : -n], table[-n:], np.int64(n),
            *map(number, numbers), *more,
        )  # fmt: skip

    def _on_device(self, table: np.ndarray) -> Array:
        """The table on the device; the last ones are kept, for from step to step tensors mostly
        lie where they were."""
        key = table.tobytes()
        found = self._tables.get(key)
        if found is None:
            while len(self._tables) >= TABLES_KEPT:
                del self._tables[next(iter(self._tables))]
            found = self._tables[key] = self.asarray(table)
        return found


def _blocks(arrays: list[Array]) -> int:
    return sum(-(-x.size // CHUNK) for x in arrays)


def _writes_apart(arrays: list[Array]) -> bool:
    """Whether a kernel may write to all of them at once: none is there twice."""
    return _has_optimizer_kernel((arrays,)) and len({id(x) for x in arrays}) == len(arrays)


def _has_optimizer_kernel(lists: tuple[list[Array], ...]) -> bool:
    """Whether these are arrays of one dtype without gaps, in lists of the same length."""
    if not lists[0]:
        return False
    dtype = lists[0][0].dtype
    return dtype in FLOATS and all(
        len(each) == len(lists[0]) and all(x.dtype == dtype and x.flags.c_contiguous for x in each)
        for each in lists
    )
