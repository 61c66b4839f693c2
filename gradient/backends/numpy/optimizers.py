"""Optimiser steps, and the scaling of gradients, by kernels: one pass over each array."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gradient.backends.composed.optimizers import OptimizerDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.options import AdamWOptions


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
        copies: list[np.ndarray] | None = None,
        *,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        first: bool = False,
        found_inf: np.ndarray | None = None,
    ) -> None:
        if copies is not None:
            super().sgd_step(
                params, grads, momentum_buffers, copies, lr=lr, momentum=momentum,
                dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
                maximize=maximize, first=first, found_inf=found_inf,
            )  # fmt: skip
            return
        buffers = momentum_buffers if momentum else None
        fused, rest = _with_kernel(params, grads, *([] if buffers is None else [buffers]))
        if found_inf is not None:
            fused, rest = [], fused + rest
        if rest:
            p, g, *b = map(list, zip(*rest, strict=True))
            super().sgd_step(
                p, g, b[0] if b else None, lr=lr, momentum=momentum, dampening=dampening,
                weight_decay=weight_decay, nesterov=nesterov, maximize=maximize, first=first,
                found_inf=found_inf,
            )  # fmt: skip
        if not fused:
            return
        optimizers, sign = kernels.load("optimizers"), -1.0 if maximize else 1.0
        if buffers is None:
            _run(optimizers.sgd, fused, lr, weight_decay, sign)
        else:
            _run(
                optimizers.sgd_momentum, fused, lr, weight_decay, sign, momentum, 1 - dampening,
                flags=(nesterov, first),
            )  # fmt: skip

    def rmsprop_step(
        self,
        params: list[np.ndarray],
        grads: list[np.ndarray],
        square_avgs: list[np.ndarray],
        momentum_buffers: list[np.ndarray] | None,
        grad_avgs: list[np.ndarray] | None,
        steps: list[np.ndarray] | None = None,
        found_inf: np.ndarray | None = None,
        copies: list[np.ndarray] | None = None,
        *,
        lr: float,
        alpha: float,
        eps: float,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        maximize: bool = False,
    ) -> None:
        if steps is not None or found_inf is not None or copies is not None:
            super().rmsprop_step(
                params, grads, square_avgs, momentum_buffers, grad_avgs, steps, found_inf, copies,
                lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                maximize=maximize,
            )  # fmt: skip
            return
        lists = [params, grads, square_avgs]
        lists += [] if momentum_buffers is None else [momentum_buffers]
        lists += [] if grad_avgs is None else [grad_avgs]
        fused, rest = _with_kernel(*lists)
        if grad_avgs is not None:
            fused, rest = [], fused + rest
        if rest:
            p, g, v, *others = map(list, zip(*rest, strict=True))
            super().rmsprop_step(
                p, g, v,
                None if momentum_buffers is None else others[0],
                None if grad_avgs is None else others[-1],
                lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                maximize=maximize,
            )  # fmt: skip
        if not fused:
            return
        optimizers = kernels.load("optimizers")
        numbers = lr, alpha, eps, weight_decay, -1.0 if maximize else 1.0
        if momentum_buffers is None:
            _run(optimizers.rmsprop, fused, *numbers)
        else:
            _run(optimizers.rmsprop_momentum, fused, *numbers, momentum)

    def lion_step(
        self,
        params: list[np.ndarray],
        grads: list[np.ndarray],
        exp_avgs: list[np.ndarray],
        found_inf: np.ndarray | None = None,
        copies: list[np.ndarray] | None = None,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        kept: float = 1.0,
        maximize: bool = False,
    ) -> None:
        if found_inf is not None or copies is not None:
            super().lion_step(
                params, grads, exp_avgs, found_inf, copies, lr=lr, beta1=beta1, beta2=beta2,
                kept=kept, maximize=maximize,
            )  # fmt: skip
            return
        fused, rest = _with_kernel(params, grads, exp_avgs)
        if rest:
            p, g, m = map(list, zip(*rest, strict=True))
            super().lion_step(
                p, g, m, lr=lr, beta1=beta1, beta2=beta2, kept=kept, maximize=maximize
            )
        if fused:
            sign = -1.0 if maximize else 1.0
            _run(kernels.load("optimizers").lion, fused, lr, beta1, beta2, kept, sign)

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
