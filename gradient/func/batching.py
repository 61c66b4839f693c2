"""vmap: apply a function of one sample to a batch, all samples at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradient.autograd.trees import leaves_of, rebuilt
from gradient.autograd.variable import Variable
from gradient.backends.batched.backend import BatchedBackend
from gradient.errors import ArgumentError, sentence
from gradient.func.derivatives import check_chunk_size, check_function
from gradient.func.samples import RANDOMNESS, as_seen, beneath, left, samples_on, shown
from gradient.tensor import Tensor
from gradient.tensor.joining import cat

__all__ = ["vmap"]


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Return a function that computes `func`, a function of one sample, for all samples of a batch.

    `func` is called once, and its ops compute all samples at once. Its tensors have the shapes of
    one sample, but their values cannot be read: there is no `item()` and no `if` on a tensor.
    Keyword arguments are shared by all samples.

    Args:
        in_dims: the batch dimension of each argument, None for arguments that all samples share;
            one number for all, or nested like the arguments.
        out_dims: the batch dimension of each result; None for a result without one.
        randomness: the random numbers of `func`: "different" for each sample, the "same" for all
            samples, or "error" if `func` draws any.
        chunk_size: how many samples are computed at once, to save memory; None: all.

    Raises:
        TypeMismatch: `func` is not a function.
        ArgumentError: arguments and dimensions do not fit, a result is not a Tensor, or `func` drew
            random numbers with `randomness="error"`.
        BackendError: `func` reads the value of a tensor, or writes one that differs between the
            samples to one that they share.
    """
    check_function("vmap", func)
    if randomness not in RANDOMNESS:
        expected = "randomness 'error', 'different' or 'same'"
        raise ArgumentError(sentence("vmap", expected, repr(randomness)))
    check_chunk_size("vmap", chunk_size)

    def run(*args: Any, **kwargs: Any) -> Any:
        leaves = leaves_of(args)
        each = in_dims if isinstance(in_dims, (list, tuple)) else (in_dims,) * len(args)
        dims = _spread("in_dims", each, args)
        size = _batch_size(leaves, dims)

        def compute(part: list[Any], count: int) -> tuple[Any, list[Any], list[Any]]:
            return _computed(func, args, part, kwargs, dims, out_dims, count, randomness)

        if chunk_size is None or chunk_size >= size:
            tree, results, _ = compute(leaves, size)
            return rebuilt(tree, results)
        chunks = []
        for start in range(0, size, chunk_size):
            count = min(chunk_size, size - start)
            part = [
                leaf if dim is None else leaf.narrow(dim, start, count)
                for leaf, dim in zip(leaves, dims, strict=True)
            ]
            chunks.append(compute(part, count))
        tree, _, places = chunks[0]
        columns = zip(*(results for _, results, _ in chunks), strict=True)
        joined = [
            column[0] if place is None else cat(list(column), place)
            for column, place in zip(columns, places, strict=True)
        ]
        return rebuilt(tree, joined)

    return run


def _computed(
    func: Callable[..., Any],
    args: Any,
    leaves: Sequence[Any],
    kwargs: dict[str, Any],
    dims: Sequence[int | None],
    out_dims: Any,
    size: int,
    randomness: str,
) -> tuple[Any, list[Tensor], list[Any]]:
    """Return the results of all samples: a tree, its leaves, and their batch dimensions."""
    first = next(x for x, dim in zip(leaves, dims, strict=True) if dim is not None)
    inner = beneath(first.backend)
    backend = BatchedBackend(inner, size, randomness)
    with samples_on(backend):
        given = [
            shown(x, backend, dim) if isinstance(x, Variable) else x
            for x, dim in zip(leaves, dims, strict=True)
        ]
        tree = func(*rebuilt(args, given), **kwargs)
        results = leaves_of(tree)
        if isinstance(tree, Tensor) and isinstance(out_dims, tuple) and len(out_dims) == 1:
            out_dims = out_dims[0]
        places = _spread("out_dims", out_dims, tree)
        stacked = []
        for value, place in zip(results, places, strict=True):
            if not isinstance(value, Tensor):
                got = type(value).__name__
                raise ArgumentError(sentence("vmap", "a function that returns Tensors", got))
            value = as_seen(value)
            if place is None and backend.is_batched(value.array):
                expected = "out_dims of a number for a result that differs from sample to sample"
                raise ArgumentError(sentence("vmap", expected, None))
            if place is not None and not -value.ndim - 1 <= place <= value.ndim:
                expected = f"out_dims from {-value.ndim - 1} to {value.ndim} for a result of shape "
                raise ArgumentError(sentence("vmap", expected + str(tuple(value.shape)), place))
            stacked.append(left(value, place))
    return tree, stacked, places


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


def _spread(name: str, dims: Any, tree: Any) -> list[Any]:
    """Return a dimension for each leaf of a tree; `dims` may have one for a whole branch."""
    if dims is None or (isinstance(dims, int) and not isinstance(dims, bool)):
        return [dims] * len(leaves_of(tree))
    kinds = (dict,) if isinstance(tree, dict) else (list, tuple)
    inside = isinstance(tree, (dict, list, tuple))
    if not inside or not isinstance(dims, kinds) or set(_places(dims)) != set(_places(tree)):
        of = "arguments" if name == "in_dims" else "results"
        expected = f"{name} of ints or None, nested like the {of}"
        got = f"{dims!r} for a {type(tree).__name__}{f' of {len(tree)}' if inside else ''}"
        raise ArgumentError(sentence("vmap", expected, got))
    return [d for i in _places(tree) for d in _spread(name, dims[i], tree[i])]


def _places(tree: Any) -> list[Any]:
    """Return the keys of a dict, or the indices of a list or tuple."""
    return list(tree) if isinstance(tree, dict) else list(range(len(tree)))
