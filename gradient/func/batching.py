"""vmap: a function of one sample, for a batch of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.errors import ArgumentError, sentence
from gradient.func.trees import leaves_of, rebuilt
from gradient.tensor import Tensor
from gradient.tensor.joining import stack

__all__ = [
    "vmap",
]


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that calls `func` for each sample and stacks the results.

    The samples are computed one after another, each with its own random numbers: the result is
    PyTorch's, the speed that of a loop. Write the batch dimension out where speed matters.

    Args:
        in_dims: the batch dimension of each argument, None for one that all samples share; one
            number for all, or nested as the arguments are.
        out_dims: where the batch stands in each result.
        randomness: "error", "different" or "same", of which the last is not available.
        chunk_size: PyTorch's; changes nothing.
    """
    if randomness not in ("error", "different"):
        raise ArgumentError(sentence("vmap", "randomness 'error' or 'different'", repr(randomness)))

    def run(*args: Any, **kwargs: Any) -> Any:
        leaves = leaves_of(args)
        dims = _spread(
            in_dims if isinstance(in_dims, (list, tuple)) else (in_dims,) * len(args), args
        )
        sizes = {leaf.shape[dim] for leaf, dim in zip(leaves, dims, strict=True) if dim is not None}
        if kwargs:  # as in PyTorch: batched along dimension 0
            sizes |= {leaf.shape[0] for leaf in leaves_of(kwargs) if isinstance(leaf, Tensor)}
        if len(sizes) != 1:
            expected = "batch dimensions of one size"
            raise ArgumentError(sentence("vmap", expected, sorted(sizes) or "no batch dimension"))
        (size,) = sizes
        if not size:
            raise ArgumentError(sentence("vmap", "a batch of at least 1", 0))
        results = []
        for i in range(size):
            sample = [
                leaf if dim is None else leaf.select(dim, i)
                for leaf, dim in zip(leaves, dims, strict=True)
            ]
            options = [
                leaf.select(0, i) if isinstance(leaf, Tensor) else leaf
                for leaf in leaves_of(kwargs)
            ]
            results.append(func(*rebuilt(args, sample), **rebuilt(kwargs, options)))
        first = results[0]
        columns = zip(*(leaves_of(result) for result in results), strict=True)
        places = _spread(out_dims, first)
        stacked = []
        for column, place in zip(columns, places, strict=True):
            if not all(isinstance(value, Tensor) for value in column):
                got = type(column[0]).__name__
                raise ArgumentError(sentence("vmap", "a function that returns Tensors", got))
            stacked.append(column[0] if place is None else stack(list(column), place))
        return rebuilt(first, stacked)

    return run


def _spread(dims: Any, tree: Any) -> list[Any]:
    """A dimension for each leaf of a tree, from one that is given for a whole branch of it."""
    if dims is None or isinstance(dims, int):
        return [dims] * len(leaves_of(tree))
    branches: Any = tree.values() if isinstance(tree, dict) else tree
    given: Any = [dims[key] for key in tree] if isinstance(dims, dict) else dims
    if not isinstance(tree, (dict, list, tuple)) or len(given) != len(tree):
        got = f"{dims!r} for {len(leaves_of(tree))}"
        raise ArgumentError(sentence("vmap", "in_dims and out_dims that fit the arguments", got))
    return [d for dim, branch in zip(given, branches, strict=True) for d in _spread(dim, branch)]
