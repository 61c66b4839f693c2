"""Distances and similarities between vectors."""

from __future__ import annotations

import numpy as np

from gradient.autograd.autocast import autocasts
from gradient.dtypes import HALF_PRECISION, result_type
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.functional.arguments import composite, floats, rounded_once
from gradient.functional.stability import at_least
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of
from gradient.tensor.distances import at_once, cdist, distances
from gradient.tensor.interop import from_numpy
from gradient.tensor.joining import broadcast_tensors, cat

__all__ = ["cdist", "cosine_similarity", "pairwise_distance", "pdist"]


@autocasts("float32_on_gpu")
@composite
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """`x1 . x2 / (max(|x1|, eps) * max(|x2|, eps))` along `dim`."""
    if x1.dtype is not x2.dtype:
        dtype = result_type(x1, x2)
        x1, x2 = x1.to(dtype), x2.to(dtype)
    floats("cosine_similarity", x1)
    if x1.shape != x2.shape:
        x1, x2 = broadcast_tensors(x1, x2)  # before the norms: `dim` counts in the common shape
    if x1.dtype in HALF_PRECISION:  # the product of the norms, or of two numbers, may be infinite
        return rounded_once(lambda a, b: cosine_similarity(a, b, dim, eps), x1, x2)
    norm1 = at_least(_norm(x1, dim), eps)
    norm2 = at_least(_norm(x2, dim), eps)
    return (x1 * x2).sum(dim) / (norm1 * norm2)


def _norm(input: Tensor, dim: int) -> Tensor:
    return input.norm(2, dim)


@composite
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """`|x1 - x2 + eps|_p` along the last dimension."""
    return (tensor_of("pairwise_distance", x1) - tensor_of("pairwise_distance", x2) + eps).norm(
        p, -1, keepdim=keepdim
    )


@autocasts("float32_on_gpu")
@composite
def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The distances between each row of input (N, M) and those behind it: (N (N - 1) / 2,)."""
    if input.ndim != 2:
        raise ShapeError(sentence("pdist", "a matrix (N, M)", tuple(input.shape)))
    if not p >= 0:
        raise ArgumentError(sentence("pdist", "p of at least 0", p))
    floats("pdist", input)
    rows, others = np.triu_indices(input.shape[0], 1)

    def of_pairs(pairs: slice) -> Tensor:
        first, second = (
            input.index_select(0, from_numpy(at[pairs]).to(input.device)) for at in (rows, others)
        )
        return distances(first - second, p)

    count = at_once(input) / max(input.shape[1], 1)
    if rows.size <= count:
        return of_pairs(slice(None))
    step = max(int(count), 1)
    return cat([of_pairs(slice(i, i + step)) for i in range(0, rows.size, step)])
