"""Optimiser steps, and the scaling of gradients, by kernels: one pass over each array."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gradient.backends.composed.optimizers import OptimizerDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.options import AdamWOptions, LionOptions, RMSpropOptions, SGDOptions


class OptimizerKernels(OptimizerDefaults[np.ndarray]):
    """Overrides of `composed.optimizers`."""

    def adamw_step(
        self,
        params: list[np.ndarray],
        grads: list[np.ndarray],
        exp_avgs: list[np.ndarray],
        exp_avg_sqs: list[np.ndarray],
        options: AdamWOptions,
        steps: list[np.ndarray] | None = None,
        found_inf: np.ndarray | None = None,
        copies: list[np.ndarray] | None = None,
    ) -> None:
        if steps is not None or found_inf is not None or copies is not None:
            super().adamw_step(
                params, grads, exp_avgs, exp_avg_sqs, options, steps, found_inf, copies
            )
            return
        o = options
        fused, rest = _with_kernel(params, grads, exp_avgs, exp_avg_sqs)
        if rest:
            p, g, m, v = map(list, zip(*rest, strict=True))
            super().adamw_step(p, g, m, v, o)
        if fused:
            optimizers = kernels.load("optimizers")
            _run(
                optimizers.adamw,
                fused,
                o.beta1,
                o.beta2,
                o.lr / (1 - o.beta1**o.step),
                1 / math.sqrt(1 - o.beta2**o.step),
                o.eps,
                0.0 if o.decoupled else o.weight_decay,
                1 - o.lr * o.weight_decay if o.decoupled else 1.0,
                -1.0 if o.maximize else 1.0,
            )

    def sgd_step(
        self,
        params: list[np.ndarray],
        grads: list[np.ndarray],
        momentum_buffers: list[np.ndarray] | None,
        options: SGDOptions,
        found_inf: np.ndarray | None = None,
        copies: list[np.ndarray] | None = None,
    ) -> None:
        if found_inf is not None or copies is not None:
            super().sgd_step(params, grads, momentum_buffers, options, found_inf, copies)
            return
        o = options
        buffers = momentum_buffers if o.momentum else None
        fused, rest = _with_kernel(params, grads, *([] if buffers is None else [buffers]))
        if rest:
            p, g, *b = map(list, zip(*rest, strict=True))
            super().sgd_step(p, g, b[0] if b else None, o)
        if not fused:
            return
        optimizers = kernels.load("optimizers")
        numbers = o.lr, o.weight_decay, -1.0 if o.maximize else 1.0
        if buffers is None:
            _run(optimizers.sgd, fused, *numbers)
        else:
            _run(
                optimizers.sgd_momentum, fused, *numbers, o.momentum, 1 - o.dampening,
                flags=(o.nesterov, o.first),
            )  # fmt: skip

    def rmsprop_step(
        self,
        params: list[np.ndarray],
        grads: list[np.ndarray],
        square_avgs: list[np.ndarray],
        momentum_buffers: list[np.ndarray] | None,
        grad_avgs: list[np.ndarray] | None,
        options: RMSpropOptions,
        steps: list[np.ndarray] | None = None,
        found_inf: np.ndarray | None = None,
        copies: list[np.ndarray] | None = None,
    ) -> None:
        o = options
        if any(x is not None for x in (grad_avgs, steps, found_inf, copies)):
            super().rmsprop_step(
                params, grads, square_avgs, momentum_buffers, grad_avgs, o, steps, found_inf, copies
            )
            return
        moving = [] if momentum_buffers is None else [momentum_buffers]
        fused, rest = _with_kernel(params, grads, square_avgs, *moving)
        if rest:
            p, g, v, *b = map(list, zip(*rest, strict=True))
            super().rmsprop_step(p, g, v, b[0] if b else None, None, o)
        if not fused:
            return
        optimizers = kernels.load("optimizers")
        numbers = o.lr, o.alpha, o.eps, o.weight_decay, -1.0 if o.maximize else 1.0
        if momentum_buffers is None:
            _run(optimizers.rmsprop, fused, *numbers)
        else:
            _run(optimizers.rmsprop_momentum, fused, *numbers, o.momentum)

    def lion_step(
        self,
        params: list[np.ndarray],
        grads: list[np.ndarray],
        exp_avgs: list[np.ndarray],
        options: LionOptions,
        found_inf: np.ndarray | None = None,
        copies: list[np.ndarray] | None = None,
    ) -> None:
        if found_inf is not None or copies is not None:
            super().lion_step(params, grads, exp_avgs, options, found_inf, copies)
            return
        o = options
        fused, rest = _with_kernel(params, grads, exp_avgs)
        if rest:
            p, g, m = map(list, zip(*rest, strict=True))
            super().lion_step(p, g, m, o)
        if fused:
            numbers = o.lr, o.beta1, o.beta2, o.kept, -1.0 if o.maximize else 1.0
            _run(kernels.load("optimizers").lion, fused, *numbers)

    def foreach_mul(self, arrays: list[np.ndarray], factor: np.ndarray) -> None:
        fused, rest = _with_kernel(arrays)
        if rest:
            super().foreach_mul([x for (x,) in rest], factor)
        if not fused or factor == 1:  # as of gradients that need no clipping
            return
        family = kernels.load("optimizers")
        for (x,) in fused:
            by = np.asarray(factor, x.dtype).reshape(1)
            threads.parallel_for(family.scale, x.size, family.CHUNK, x.reshape(-1), by)


Group = tuple[np.ndarray, ...]
"""A parameter, its gradient and its state."""


def _with_kernel(*lists: list[np.ndarray]) -> tuple[list[Group], list[Group]]:
    """The parameters whose step a kernel takes, and the others."""
    groups = list(zip(*lists, strict=True))
    if not kernels.available() or sum(p.size for p in lists[0]) < kernels.MIN_SIZE:
        return [], groups
    return [g for g in groups if _flat(*g)], [g for g in groups if not _flat(*g)]


def _flat(*group: np.ndarray) -> bool:
    """Whether a parameter, its gradient and state can be updated as flat arrays in place."""
    p = group[0]
    return p.dtype in kernels.FLOATS and all(
        type(a) is np.ndarray and a.dtype == p.dtype and a.shape == p.shape and a.flags.carray
        for a in group
    )


def _run(
    kernel: Callable[..., None], groups: list[Group], *numbers: float, flags: tuple[bool, ...] = ()
) -> None:
    """A kernel over each parameter, with numbers of its dtype."""
    chunk = kernels.load("optimizers").CHUNK
    typed = {dtype: tuple(map(dtype.type, numbers)) for dtype in kernels.FLOATS}
    for arrays in groups:
        flat = [a.reshape(-1) for a in arrays]
        threads.parallel_for(kernel, flat[0].size, chunk, *flat, *typed[flat[0].dtype], *flags)
