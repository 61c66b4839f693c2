"""`_higher_order_ops.associative_scan`: running results of an associative function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.compat.pytree import tree_flatten, tree_unflatten
from gradient.tensor import Tensor
from gradient.tensor.joining import cat

__all__ = ["associative_scan"]


def associative_scan(
    combine_fn: Callable[[Any, Any], Any],
    xs: Any,
    dim: int,
    reverse: bool = False,
    combine_mode: str = "pointwise",
) -> Any:
    """Combine all elements along `dim` up to each one, or with `reverse` from each one on.

    `combine_fn(earlier, later)` of trees like `xs` must be associative. It is called log2(n) times,
    each time with all elements and those 1, 2, 4 ... places before them (Hillis & Steele 1986,
    "Data Parallel Algorithms").
    """
    leaves, form = tree_flatten(xs)
    leaves = [x.flip(dim) if reverse else x for x in leaves]
    size, distance = leaves[0].shape[dim], 1
    while distance < size:
        earlier: list[Tensor] = [x.narrow(dim, 0, size - distance) for x in leaves]
        later: list[Tensor] = [x.narrow(dim, distance, size - distance) for x in leaves]
        found = combine_fn(tree_unflatten(earlier, form), tree_unflatten(later, form))
        combined = tree_flatten(found)[0]
        leaves = [
            cat([x.narrow(dim, 0, distance), y], dim) for x, y in zip(leaves, combined, strict=True)
        ]
        distance *= 2
    return tree_unflatten([x.flip(dim) if reverse else x for x in leaves], form)
