"""Activations of large arrays that are not in row-major order, such as `x.transpose(1, 2)` or parts
of `x.chunk(2, -1)`, by the kernels of those that are. The axes of a result have NumPy's order in
memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradient.backends.composed.activation import ActivationDefaults
from gradient.backends.numpy import kernels, workspace
from gradient.dtypes import HALF_PRECISION

FLOATS = (*kernels.FLOATS, *HALF_PRECISION)


def _in_memory_order(count: int, name: str) -> Callable[..., Any]:
    """A method that takes the axes of its `count` arrays in the order of memory, and calls itself
    with row-major arrays. For others it is the default."""

    def method(self: Any, *given: Any, **options: Any) -> Any:
        x = given[count - 1]
        if (
            x.size < kernels.MIN_SIZE
            or type(x) is not np.ndarray
            or x.flags.c_contiguous
            or x.dtype not in FLOATS
            or any(each.shape != x.shape or each.dtype != x.dtype for each in given[:count])
            or not kernels.computes(x.dtype)
        ):
            return getattr(super(TurnedArrays, self), name)(*given, **options)
        return in_memory_order(
            lambda *arrays: getattr(self, name)(*arrays, *given[count:], **options), *given[:count]
        )

    return functools.wraps(getattr(ActivationDefaults, name))(method)


def in_memory_order(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """function(*arrays) of arrays that broadcast to one shape, of which it gets each as rows of
    memory, or of one element: in the order in which NumPy's result has its axes, of the whole
    shape; those that lie in memory otherwise as copies. Raises ValueError for other shapes."""
    first = arrays[0]
    if all(x.flags.c_contiguous and x.shape == first.shape for x in arrays) or first.size == 0:
        return function(*arrays)
    shape, order, back = joint_orders(tuple((x.shape, x.strides) for x in arrays))
    turned = []
    for x in arrays:
        if x.size > 1:
            x = x if x.shape == shape else np.broadcast_to(x, shape)
            x = workspace.contiguous(x if order is None else x.transpose(order))
        turned.append(x)
    out = function(*turned)
    return out if order is None else out.transpose(back)


Layout = tuple[tuple[int, ...], tuple[int, ...]]
"""A shape and strides."""


@functools.lru_cache(maxsize=1024)
def joint_orders(
    layouts: tuple[Layout, ...],
) -> tuple[tuple[int, ...], tuple[int, ...] | None, tuple[int, ...]]:
    """The shape to which arrays broadcast; the axes of NumPy's result from the outermost in memory
    on, None for row-major order; and the order that reverses this."""
    shape = np.broadcast_shapes(*(own for own, _ in layouts))
    strides = result_strides(shape, layouts, 1)
    order = tuple(sorted(range(len(shape)), key=lambda axis: -strides[axis]))
    back = tuple(sorted(order, key=order.__getitem__))
    return shape, None if order == back == tuple(range(len(shape))) else order, back


def result_strides(
    shape: tuple[int, ...], layouts: Sequence[Layout], itemsize: int
) -> tuple[int, ...]:
    """The strides of NumPy's result for arrays that broadcast to `shape`."""
    element = np.empty(1, f"u{itemsize}")
    dummies = [np.lib.stride_tricks.as_strided(element, *each) for each in layouts]
    made = np.nditer([*dummies, None], ["multi_index"]).operands[-1]  # reads nothing
    return tuple(made.strides)


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
