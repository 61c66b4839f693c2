"""Optimiser steps by kernels: one pass over each parameter."""

from __future__ import annotations

import math

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
    ) -> None:
        o = options
        fused: list[tuple[np.ndarray, ...]] = []
        rest: list[tuple[np.ndarray, ...]] = []
        many = sum(p.size for p in params) >= kernels.MIN_SIZE and kernels.available()
        for group in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
            (fused if many and not o.maximize and _flat(*group) else rest).append(group)
        if rest:
            p, g, m, v = map(list, zip(*rest, strict=True))
            super().adamw_step(p, g, m, v, options)
        if not fused:
            return
        optimizers = kernels.load("optimizers")

        numbers = (
            o.beta1,
            o.beta2,
            o.lr / (1 - o.beta1**o.step),
            1 / math.sqrt(1 - o.beta2**o.step),
            o.eps,
            0.0 if o.decoupled else o.weight_decay,
            1 - o.lr * o.weight_decay if o.decoupled else 1.0,
        )
        typed = {dtype: tuple(map(dtype.type, numbers)) for dtype in kernels.FLOATS}
        for arrays in fused:
            flat = [a.reshape(-1) for a in arrays]
            threads.parallel_for(
                optimizers.adamw, flat[0].size, optimizers.CHUNK, *flat, *typed[flat[0].dtype]
            )


def _flat(*group: np.ndarray) -> bool:
    """Whether a parameter, its gradient and moments can be updated as flat arrays in place."""
    p = group[0]
    return p.dtype in kernels.FLOATS and all(
        type(a) is np.ndarray and a.dtype == p.dtype and a.shape == p.shape and a.flags.carray
        for a in group
    )
