"""Functions of several numbers by kernels, each in one pass over memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradient.backends import small_calls
from gradient.backends.composed.activation import ActivationDefaults
from gradient.backends.numpy import kernels, threads, workspace


class CombinationKernels(ActivationDefaults[np.ndarray]):
    """Overrides of `composed.elementwise` and `composed.activation`."""

    def lerp(self, x: np.ndarray, end: np.ndarray, weight: Any) -> np.ndarray:
        if _is_small(x):
            return SMALL_LERP(self, x, end, weight)
        number = isinstance(weight, (int, float))
        if not _are_alike(x, end) or not (
            number
            or (
                isinstance(weight, (np.ndarray, np.generic))
                and weight.dtype == x.dtype
                and weight.shape in ((), x.shape)
            )
        ):
            return super().lerp(x, end, weight)
        weight = np.array([weight], x.dtype) if number else weight
        return _each(kernels.load("combinations").lerp, x, x, end, weight)

    def addcmul(
        self, x: np.ndarray, a: np.ndarray, b: np.ndarray, value: complex = 1
    ) -> np.ndarray:
        if _is_small(x):
            return SMALL_ADDCMUL(self, x, a, b, value)
        if not _are_alike(x, a, b) or isinstance(value, complex):
            return super().addcmul(x, a, b, value)
        return _each(kernels.load("combinations").addcmul, x, x, a, b, scalars=(value, False))

    def addcdiv(
        self, x: np.ndarray, a: np.ndarray, b: np.ndarray, value: complex = 1
    ) -> np.ndarray:
        if _is_small(x):
            return SMALL_ADDCDIV(self, x, a, b, value)
        if not _are_alike(x, a, b) or isinstance(value, complex):
            return super().addcdiv(x, a, b, value)
        return _each(kernels.load("combinations").addcmul, x, x, a, b, scalars=(value, True))

    def glu(self, x: np.ndarray, axis: int) -> np.ndarray:
        x = workspace.in_rows(x)
        if not kernels.supports(x):
            return super().glu(x, axis)
        half, shape = _half(x, axis)
        out = workspace.result(shape, x.dtype)
        threads.parallel_for(
            *(kernels.load("combinations").glu, out.size, CHUNK),
            *(kernels.contiguous(x).ravel(), out.ravel(), half),
        )
        return out

    def glu_grad(self, g: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
        x = workspace.in_rows(x)
        if not kernels.supports(x, g):
            return super().glu_grad(g, x, axis)
        out = workspace.result(x.shape, x.dtype)
        g = workspace.contiguous(g)
        threads.parallel_for(
            *(kernels.load("combinations").glu_grad, g.size, CHUNK),
            *(g.ravel(), kernels.contiguous(x).ravel(), out.ravel(), _half(x, axis)[0]),
        )
        return out

    def prelu(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        inner = _elements_of_a_weight(x, weight)
        if inner is None:
            return super().prelu(x, weight)
        out = workspace.result(x.shape, x.dtype)
        threads.parallel_for(
            *(kernels.load("combinations").prelu, x.size, CHUNK, kernels.contiguous(x).ravel()),
            *(kernels.contiguous(weight).ravel(), out.ravel(), inner),
        )
        return out

    def prelu_grad(
        self, g: np.ndarray, x: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        inner = _elements_of_a_weight(x, weight)
        if inner is None or g.dtype != x.dtype:
            return super().prelu_grad(g, x, weight)
        out = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
        threads.parallel_for(
            *(kernels.load("combinations").prelu_grad, x.size, CHUNK),
            *(workspace.contiguous(g).ravel(), kernels.contiguous(x).ravel()),
            *(kernels.contiguous(weight).ravel(), out[0].ravel(), out[1].ravel(), inner),
        )
        return out


CHUNK = 1 << 15
"""Elements a thread takes at a time."""


_DEFAULTS: Any = ActivationDefaults
SMALL_LERP = _DEFAULTS.lerp.__wrapped__
SMALL_ADDCMUL = _DEFAULTS.addcmul.__wrapped__
SMALL_ADDCDIV = _DEFAULTS.addcdiv.__wrapped__
"""The defaults without their look for 16-bit floats."""


def _is_small(x: Any) -> bool:
    return x.size < kernels.MIN_SIZE and x.dtype.char in "fd" and not small_calls.are_repeated()


def _are_alike(x: Any, *others: Any) -> bool:
    """Whether kernels take these arrays, all of one shape and dtype."""
    return kernels.supports(x, *others) and all(other.shape == x.shape for other in others)


def _half(x: np.ndarray, axis: int) -> tuple[int, tuple[int, ...]]:
    """The adjacent elements of half of an axis, and the shape with this half alone."""
    half = x.shape[axis] // 2
    return half * math.prod(x.shape[axis + 1 :]), (*x.shape[:axis], half, *x.shape[axis + 1 :])


def _elements_of_a_weight(x: np.ndarray, weight: np.ndarray) -> int | None:
    """Adjacent elements of x that have the same of the weights, of which only one axis is longer
    than 1; None if kernels do not take them."""
    if not kernels.supports(x, weight):
        return None
    if weight.size == 1:
        return x.size
    axis = x.ndim - weight.ndim + max(range(weight.ndim), key=weight.shape.__getitem__)
    if axis < 0 or weight.size != x.shape[axis]:
        return None
    return math.prod(x.shape[axis + 1 :])


def _each(kernel: Any, first: np.ndarray, *arrays: np.ndarray, scalars: Any = ()) -> np.ndarray:
    out = workspace.result(first.shape, first.dtype)
    flat = [workspace.contiguous(np.asarray(each)).ravel() for each in arrays]
    numbers = [each if type(each) is bool else float(each) for each in scalars]
    threads.parallel_for(kernel, out.size, CHUNK, *flat, out.ravel(), *numbers)
    return out
