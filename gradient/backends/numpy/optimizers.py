"""Optimiser steps, and the norm and scaling of gradients, by kernels: one pass over each array.

Kernels read the hyperparameters from an array of the parameters' dtype (`adamw_numbers` and its
like), so that a plan can repeat a launch with other values.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradient.backends.composed.optimizers import OptimizerDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.reductions import CHUNK
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
        groups, rest = with_kernel(params, grads, exp_avgs, exp_avg_sqs)
        rest = _adamw_in_place(rest, options)
        if rest:
            p, g, m, v = map(list, zip(*rest, strict=True))
            super().adamw_step(p, g, m, v, options)
        if groups:
            _run("adamw", groups, adamw_numbers(options))

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
        groups, rest = with_kernel(params, grads, *([] if buffers is None else [buffers]))
        if buffers is None and not o.weight_decay and not o.maximize:
            rest = _descend(rest, o.lr)
        if rest:
            p, g, *b = map(list, zip(*rest, strict=True))
            super().sgd_step(p, g, b[0] if b else None, o)
        if not groups:
            return
        if buffers is None:
            _run("sgd", groups, sgd_numbers(o))
        else:
            _run("sgd_momentum", groups, sgd_numbers(o), (o.nesterov, o.first))

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
        groups, rest = with_kernel(params, grads, square_avgs, *moving)
        if rest:
            p, g, v, *b = map(list, zip(*rest, strict=True))
            super().rmsprop_step(p, g, v, b[0] if b else None, None, o)
        if groups:
            _run("rmsprop_momentum" if moving else "rmsprop", groups, rmsprop_numbers(o))

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
        groups, rest = with_kernel(params, grads, exp_avgs)
        if rest:
            p, g, m = map(list, zip(*rest, strict=True))
            super().lion_step(p, g, m, options)
        if groups:
            _run("lion", groups, lion_numbers(options))

    def total_norm(self, arrays: list[np.ndarray]) -> np.ndarray:
        if not takes_norm(arrays):
            return super().total_norm(arrays)
        out = np.empty((), arrays[0].dtype)
        for launch in norm_launches(arrays, out):
            threads.parallel_for(*launch)
        return out

    def foreach_mul(self, arrays: list[np.ndarray], factor: np.ndarray) -> None:
        groups, rest = with_kernel(arrays)
        if rest:
            super().foreach_mul([x for (x,) in rest], factor)
        if factor == 1:  # for example, gradients that need no clipping
            return
        by = {x.dtype: np.asarray(factor, x.dtype).reshape(1) for (x,) in groups}
        for launch in launches("scale", groups, by):
            threads.parallel_for(*launch)


size_of = operator.attrgetter("size")
ndarray = np.ndarray  # a faster look-up

Group = tuple[np.ndarray, ...]
"""A parameter, its gradient and its state."""


def with_kernel(*lists: list[np.ndarray]) -> tuple[list[Group], list[Group]]:
    """Split parameters into those whose step a kernel computes, and the others."""
    groups = list(zip(*lists, strict=True))
    if not kernels.available() or sum(map(size_of, lists[0])) < kernels.MIN_SIZE:
        return [], groups
    taken: list[Group] = []
    left: list[Group] = []
    for group in groups:
        (taken if _flat(*group) else left).append(group)
    return taken, left


def _descend(groups: list[Group], lr: float) -> list[Group]:
    """p = p - lr g, in two calls of NumPy, for parameters that need no cast; return the others."""
    left: list[Group] = []
    for p, g in groups:
        if p.dtype in kernels.FLOATS and g.dtype is p.dtype:
            np.subtract(p, lr * g, p)
        else:
            left.append((p, g))
    return left


def _adamw_in_place(groups: list[Group], options: AdamWOptions) -> list[Group]:
    """The default without copies of results, if parameters need no cast; return the others."""
    lr, beta1, beta2, eps, weight_decay, step, decoupled, maximize = options
    step_size, root = lr / (1 - beta1**step), (1 - beta2**step) ** 0.5
    left: list[Group] = []
    for group in groups:
        p, g, m, v = group
        if p.dtype not in kernels.FLOATS or any(a.dtype is not p.dtype for a in (g, m, v)):
            left.append(group)
            continue
        if maximize:
            g = -g
        if weight_decay and not decoupled:
            g = g + weight_decay * p
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * (g * g)
        update = step_size * m / (np.sqrt(v) / root + eps)
        if weight_decay and decoupled:
            p *= 1 - lr * weight_decay
        p -= update
    return left


def _flat(p: np.ndarray, *others: np.ndarray) -> bool:
    """Whether a parameter, its gradient and its state can be updated in place as flat arrays."""
    dtype, shape = p.dtype, p.shape
    if dtype not in kernels.FLOATS or type(p) is not ndarray or not p.flags.carray:
        return False
    for a in others:
        if type(a) is not ndarray or a.dtype != dtype or a.shape != shape or not a.flags.carray:
            return False
    return True


def takes_norm(arrays: Sequence[np.ndarray]) -> bool:
    """Whether kernels compute the norm of these: large in total, contiguous, of one dtype."""
    if not kernels.available() or sum(map(size_of, arrays)) < kernels.MIN_SIZE:
        return False
    dtype = arrays[0].dtype
    return all([x.dtype == dtype and _flat(x) for x in arrays])


def norm_launches(arrays: Sequence[np.ndarray], out: np.ndarray) -> list[tuple[Any, ...]]:
    """The arguments of `parallel_for`, one launch after another, for a norm (`takes_norm`)."""
    family = kernels.load("reductions")
    kernel, part = family.squares_of_parts, family.PART
    counts = [-(-x.size // part) for x in arrays]
    squares, chunk, at = np.empty(sum(counts), out.dtype), max(1, CHUNK // part), 0
    found: list[tuple[Any, ...]] = []
    for x, count in zip(arrays, counts, strict=True):
        if count:
            place = squares[at : at + count]
            found.append((kernel, count, chunk, x.reshape(-1), x.size, count, place))
            at += count
    return [*found, (family.root_of_sum, 1, 1, squares, out.reshape(1))]


def adamw_numbers(o: AdamWOptions) -> tuple[float, ...]:
    """The hyperparameters for the kernel `adamw`."""
    return (
        *(o.beta1, o.beta2),
        o.lr / (1 - o.beta1**o.step),
        1 / math.sqrt(1 - o.beta2**o.step),
        o.eps,
        0.0 if o.decoupled else o.weight_decay,
        1 - o.lr * o.weight_decay if o.decoupled else 1.0,
        _sign(o.maximize),
    )


def sgd_numbers(o: SGDOptions) -> tuple[float, ...]:
    """The hyperparameters for the kernels `sgd` and `sgd_momentum`."""
    return o.lr, o.weight_decay, _sign(o.maximize), o.momentum, 1 - o.dampening


def rmsprop_numbers(o: RMSpropOptions) -> tuple[float, ...]:
    """The hyperparameters for the kernels `rmsprop` and `rmsprop_momentum`."""
    return o.lr, o.alpha, o.eps, o.weight_decay, _sign(o.maximize), o.momentum


def lion_numbers(o: LionOptions) -> tuple[float, ...]:
    return o.lr, o.beta1, o.beta2, o.kept, _sign(o.maximize)


def _sign(maximize: bool) -> float:
    return -1.0 if maximize else 1.0


def launches(
    name: str,
    groups: Sequence[Group],
    numbers: Mapping[np.dtype, np.ndarray],
    flags: tuple[bool, ...] = (),
) -> list[tuple[Any, ...]]:
    """The arguments of `parallel_for` for each parameter, with hyperparameters of its dtype."""
    family = kernels.load("optimizers")
    kernel, chunk = getattr(family, name), family.CHUNK
    return [
        (
            *(kernel, arrays[0].size, chunk),
            *[a.reshape(-1) for a in arrays],
            *(numbers[arrays[0].dtype], *flags),
        )
        for arrays in groups
        if arrays[0].size
    ]


def _run(
    name: str, groups: list[Group], numbers: tuple[float, ...], flags: tuple[bool, ...] = ()
) -> None:
    """Launch a kernel for each parameter."""
    typed = {p.dtype: np.array(numbers, p.dtype) for p, *_ in groups}
    for launch in launches(name, groups, typed, flags):
        threads.parallel_for(*launch)
