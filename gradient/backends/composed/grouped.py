"""Products of groups of rows with a weight for each group: the experts of a mixture."""

from __future__ import annotations

from collections.abc import Sequence

from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.packed import PackedArray
from gradient.backends.required import Array, RequiredMethods


class GroupedDefaults(AttentionDefaults[Array]):
    """Methods of `Backend` that work on rows sorted by group.

    Group e has `counts[e]` rows (`counts` is int64 (E,)), and the groups are consecutive. Empty
    groups are allowed and cost nothing. These definitions read `counts` on the host once per call,
    which waits for the device; a kernel need not.
    """

    def grouped_linear(
        self, x: Array, weights: Sequence[Array | PackedArray], counts: Array
    ) -> Array:
        """x (M, K), E weights (N, K) -> (M, N): each group of rows times the transpose of its
        weight.

        Each group is computed by `linear`, so weights may be of any kind that `linear` takes.
        """
        parts = [
            self.linear(self.getitem(x, (rows,)), weight)
            for rows, weight in zip(groups(self, x, weights, counts), weights, strict=True)
            if rows.start < rows.stop
        ]
        if not parts:
            return self.zeros((0, weights[0].shape[0]), x.dtype)
        return self.concatenate(parts, 0) if len(parts) > 1 else parts[0]

    def grouped_linear_input_grad(
        self, g: Array, weights: Sequence[Array | PackedArray], counts: Array
    ) -> Array:
        """The gradient (M, K) for x from g (M, N) and the E weights (N, K)."""
        parts = [
            self.linear_input_grad(self.getitem(g, (rows,)), weight)
            for rows, weight in zip(groups(self, g, weights, counts), weights, strict=True)
            if rows.start < rows.stop
        ]
        if not parts:
            return self.zeros((0, weights[0].shape[1]), g.dtype)
        return self.concatenate(parts, 0) if len(parts) > 1 else parts[0]

    def grouped_linear_weight_grad(self, g: Array, x: Array, counts: Array) -> list[Array]:
        """The gradients (N, K) for the E weights from g (M, N) and x (M, K); zeros for empty
        groups."""
        return [
            self.linear_weight_grad(self.getitem(g, (rows,)), self.getitem(x, (rows,)))
            if rows.start < rows.stop
            else self.zeros((g.shape[1], x.shape[1]), g.dtype)
            for rows in groups(self, x, None, counts)
        ]


def groups(
    be: RequiredMethods[Array],
    x: Array,
    weights: Sequence[Array | PackedArray] | None,
    counts: Array,
) -> list[slice]:
    """The slice of the rows of x of each group. (All are the first's on the device "meta".)"""
    if len(x.shape) != 2:
        raise ValueError(f"expected rows in a matrix, got shape {tuple(x.shape)}")
    if be.has_values:
        sizes = [int(n) for n in be.to_numpy(counts)]
    else:
        sizes = [x.shape[0], *(0 for _ in range(counts.shape[0] - 1))]
    if weights is not None and len({tuple(weight.shape) for weight in weights}) > 1:
        shapes = sorted({tuple(weight.shape) for weight in weights})
        raise ValueError(f"expected weights of one shape, got {', '.join(map(str, shapes))}")
    if weights is not None and len(sizes) != len(weights):
        raise ValueError(f"expected as many counts as weights, got {len(sizes)}, {len(weights)}")
    if sum(sizes) != x.shape[0] or min(sizes, default=0) < 0:
        raise ValueError(f"expected counts that add up to {x.shape[0]} rows, got {sizes}")
    found, start = [], 0
    for n in sizes:
        found.append(slice(start, start + n))
        start += n
    return found
