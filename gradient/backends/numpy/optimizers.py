"""Optimiser steps by kernels: one pass over each parameter, all parameters in one go."""

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
        flat = [tuple(a.reshape(-1) for a in group) for group in fused]
        chunks = [(i, at) for i, group in enumerate(flat)
                  for at in range(0, group[0].size, optimizers.CHUNK)]  # fmt: skip

        for dtype in {group[0].dtype for group in flat}:
            empty = (np.empty(0, dtype) for _ in range(4))
            threads.precompile(optimizers.adamw, *empty, *typed[dtype])

        def update(n: int) -> None:
            i, at = chunks[n]
            p = flat[i][0]
            stop = min(at + optimizers.CHUNK, p.size)
            optimizers.adamw(at, stop, *flat[i], *typed[p.dtype])

        threads.run(len(chunks), update)


def _flat(*group: np.ndarray) -> bool:
    """Whether a parameter, its gradient and moments can be updated as flat arrays in place."""
    p = group[0]
    return p.dtype in kernels.FLOATS and all(
        type(a) is np.ndarray and a.dtype == p.dtype and a.shape == p.shape and a.flags.carray
        for a in group
    )
