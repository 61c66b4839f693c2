"""The order in which the dimensions of an array lie in memory. Copies keep it, as in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence


def dimension_order(shape: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Dimensions from the outermost in memory to the innermost, each before those of smaller
    strides. A stride of 0 says nothing: such a dimension stays where it is.

    The insertion sort is that of PyTorch's `infer_dense_strides` (aten/src/ATen/ExpandUtils.cpp).
    """
    order = [*range(len(shape))][::-1]  # innermost first
    for i in range(1, len(order)):
        at = i
        for j in range(i - 1, -1, -1):
            inner, outer = order[j], order[at]
            a, b = abs(strides[inner]), abs(strides[outer])
            if 0 in (a, b) or (a == b and shape[inner] <= shape[outer]):
                continue
            if a < b:
                break
            order[j], order[at] = outer, inner
            at = j
    return order[::-1]


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides, in elements, of a contiguous array; sizes of 0 count as 1."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def positions(order: Sequence[int]) -> list[int]:
    """Where each dimension is in an order: what `transpose` takes to undo it."""
    return sorted(range(len(order)), key=order.__getitem__)
