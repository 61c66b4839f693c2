"""Activations of large arrays that are not in row-major order, such as `x.transpose(1, 2)` or parts
of `x.chunk(2, -1)`, by the kernels of those that are. The axes of a result have NumPy's order in
memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.composed.activation import ActivationDefaults
from gradient.backends.numpy import kernels, workspace


def _in_memory_order(count: int, name: str) -> Callable[..., Any]:
    """A method that takes the axes of its `count` arrays in the order of memory, and calls itself
    with row-major arrays. For others it is the default."""

    def method(self: Any, *given: Any, **options: Any) -> Any:
        x = given[count - 1]
        if (
            x.size < kernels.MIN_SIZE
            or type(x) is not np.ndarray
            or x.flags.c_contiguous
            or x.dtype not in kernels.FLOATS
            or any(each.shape != x.shape or each.dtype != x.dtype for each in given[:count])
            or not kernels.available()
        ):
            return getattr(super(TurnedArrays, self), name)(*given, **options)
        order, back = _orders(x.shape, x.strides)
        arrays = [workspace.contiguous(each.transpose(order)) for each in given[:count]]
        return getattr(self, name)(*arrays, *given[count:], **options).transpose(back)

    return functools.wraps(getattr(ActivationDefaults, name))(method)


def in_memory_order(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """function(*arrays) of arrays of one shape or one element each, in rows of memory: arrays of
    one order of axes are turned before and back after; others are copied by the function."""
    whole = [x for x in arrays if x.size > 1]
    first = whole[0]
    if first.flags.c_contiguous or any(x.strides != first.strides for x in whole):
        return function(*arrays)
    order, back = _orders(first.shape, first.strides)
    return function(*(x.transpose(order) if x.size > 1 else x for x in arrays)).transpose(back)


@functools.lru_cache(maxsize=1024)
def _orders(
    shape: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of an array from the outermost in memory on, and the order that reverses this."""
    order = tuple(range(len(shape)))
    if all(step > 0 for n, step in zip(shape, strides, strict=True) if n > 1):
        order = tuple(sorted(order, key=lambda axis: -strides[axis]))
    return order, tuple(sorted(order, key=order.__getitem__))


class TurnedArrays(ActivationDefaults[np.ndarray]):
    """Overrides that `ElementwiseKernels` falls back to."""

    relu, relu_grad = _in_memory_order(1, "relu"), _in_memory_order(2, "relu_grad")
    sigmoid, sigmoid_grad = _in_memory_order(1, "sigmoid"), _in_memory_order(2, "sigmoid_grad")
    logsigmoid = _in_memory_order(1, "logsigmoid")
    logsigmoid_grad = _in_memory_order(2, "logsigmoid_grad")
    hardtanh, hardtanh_grad = _in_memory_order(1, "hardtanh"), _in_memory_order(2, "hardtanh_grad")
    clamp, clamp_grad = _in_memory_order(1, "clamp"), _in_memory_order(2, "clamp_grad")
    hardshrink = _in_memory_order(1, "hardshrink")
    hardshrink_grad = _in_memory_order(2, "hardshrink_grad")
    softshrink = _in_memory_order(1, "softshrink")
    leaky_relu = _in_memory_order(1, "leaky_relu")
    leaky_relu_grad = _in_memory_order(2, "leaky_relu_grad")
    hardsigmoid = _in_memory_order(1, "hardsigmoid")
    hardsigmoid_grad = _in_memory_order(2, "hardsigmoid_grad")
    hardswish = _in_memory_order(1, "hardswish")
    hardswish_grad = _in_memory_order(2, "hardswish_grad")
    elu, elu_grad = _in_memory_order(1, "elu"), _in_memory_order(2, "elu_grad")
    softplus, softplus_grad = _in_memory_order(1, "softplus"), _in_memory_order(2, "softplus_grad")
    silu, silu_grad = _in_memory_order(1, "silu"), _in_memory_order(2, "silu_grad")
    gelu, gelu_grad = _in_memory_order(1, "gelu"), _in_memory_order(2, "gelu_grad")
