"""vmap: apply a function of one sample to a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.autograd.trees import leaves_of, rebuilt
from gradient.errors import ArgumentError, sentence
from gradient.func.derivatives import check_function
from gradient.random import default_generator
from gradient.tensor import Tensor
from gradient.tensor.joining import stack
from gradient.tensor.predicates import equal

__all__ = ["vmap"]


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Return a function that calls `func` for each sample of a batch and stacks the results.

    The samples are computed one after another: the results are PyTorch's, the speed is that of a
    loop. If speed matters, write `func` with a batch dimension. Keyword arguments are shared by all
    samples.

    Args:
        in_dims: the batch dimension of each argument, None for arguments that all samples share;
            one number for all, or nested like the arguments.
        out_dims: the batch dimension of each result; None for a result without one.
        randomness: the random numbers of `func`: "different" for each sample, the "same" for all
            samples, or "error" if `func` draws any.
        chunk_size: PyTorch's, without effect.

    Raises:
        TypeMismatch: `func` is not a function.
        ArgumentError: arguments and dimensions do not fit, a result is not a Tensor, or `func` drew
            random numbers with `randomness="error"`.
    """
    check_function("vmap", func)
    if randomness not in ("error", "different", "same"):
        expected = "randomness 'error', 'different' or 'same'"
        raise ArgumentError(sentence("vmap", expected, repr(randomness)))
    if chunk_size is not None and chunk_size < 1:
        raise ArgumentError(sentence("vmap", "chunk_size None or at least 1", chunk_size))

    def run(*args: Any, **kwargs: Any) -> Any:
        leaves = leaves_of(args)
        dims = _spread(
            in_dims if isinstance(in_dims, (list, tuple)) else (in_dims,) * len(args), args
        )
        size = _batch_size(leaves, dims)
        results = []
        start = default_generator.place()
        for i in range(max(size, 1)):
            sample = [
                leaf if dim is None else leaf.select(dim, i) if size else _blank(leaf, dim)
                for leaf, dim in zip(leaves, dims, strict=True)
            ]
            if randomness == "same":
                default_generator.go_to(start)
            results.append(func(*rebuilt(args, sample), **kwargs))
        if randomness == "error" and start != default_generator.place():
            expected = "a function without random numbers, or randomness 'different' or 'same'"
            raise ArgumentError(sentence("vmap", expected, "randomness 'error'"))
        first = results[0]
        columns = zip(*(leaves_of(result) for result in results), strict=True)
        places = _spread(out_dims, first)
        stacked = []
        for column, place in zip(columns, places, strict=True):
            if not all(isinstance(value, Tensor) for value in column):
                got = type(column[0]).__name__
                raise ArgumentError(sentence("vmap", "a function that returns Tensors", got))
            if place is None:
                if not all(equal(value, column[0]) for value in column[1:]):
                    expected = (
                        "out_dims of a number for a result that differs from sample to sample"
                    )
                    raise ArgumentError(sentence("vmap", expected, None))
                stacked.append(column[0])
            else:
                whole = stack(list(column), place)
                stacked.append(whole if size else whole.narrow(place, 0, 0))
        return rebuilt(first, stacked)

    return run


def _batch_size(leaves: list[Any], dims: list[Any]) -> int:
    """Return the number of samples: the size of all batch dimensions."""
    sizes = set()
    for leaf, dim in zip(leaves, dims, strict=True):
        if dim is None:
            continue
        if not isinstance(leaf, Tensor) or not -leaf.ndim <= dim < leaf.ndim:
            got = tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__
            expected = f"a Tensor with a dimension {dim} (in_dims: None shares an argument)"
            raise ArgumentError(sentence("vmap", expected, got))
        sizes.add(leaf.shape[dim])
    if len(sizes) != 1:
        expected = "batch dimensions of one size"
        raise ArgumentError(sentence("vmap", expected, sorted(sizes) or "no batch dimension"))
    return sizes.pop()


def _blank(leaf: Tensor, dim: int) -> Tensor:
    """Make a sample of zeros, to find the shapes of the results of an empty batch."""
    shape = list(leaf.shape)
    del shape[dim]
    return leaf.new_zeros(shape)


def _spread(dims: Any, tree: Any) -> list[Any]:
    """Return a dimension for each leaf of a tree; `dims` may have one for a whole branch."""
    if dims is None or isinstance(dims, int):
        return [dims] * len(leaves_of(tree))
    branches: Any = tree.values() if isinstance(tree, dict) else tree
    given: Any = [dims[key] for key in tree] if isinstance(dims, dict) else dims
    if not isinstance(tree, (dict, list, tuple)) or len(given) != len(tree):
        got = f"{dims!r} for {len(leaves_of(tree))}"
        raise ArgumentError(sentence("vmap", "in_dims and out_dims that fit the arguments", got))
    return [d for dim, branch in zip(given, branches, strict=True) for d in _spread(dim, branch)]
