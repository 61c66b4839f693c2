"""Functions that stack tensors by columns, in depth, as blocks or as products of sets."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from gradient.autograd.forwarding import forwarded
from gradient.autograd.variable import Variable, wrap
from gradient.errors import ArgumentError, ShapeError, copied, sentence
from gradient.tensor.arguments import int_of, tensor_of
from gradient.tensor.joining import cat, meshgrid, stack, tensors_of, vstack

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "block_diag",
    "cartesian_prod",
    "column_stack",
    "combinations",
    "dstack",
    "row_stack",
]

Tensors = Sequence["Tensor"] | Iterator["Tensor"]

row_stack = forwarded(copied(inspect.unwrap(vstack), "row_stack"))


@overload
def atleast_1d(tensors: Tensor, /) -> Tensor: ...
@overload
def atleast_1d(tensors: Sequence[Tensor], /) -> tuple[Tensor, ...]: ...
@overload
def atleast_1d(first: Tensor, second: Tensor, /, *tensors: Tensor) -> tuple[Tensor, ...]: ...
def atleast_1d(*tensors: Any) -> Tensor | tuple[Tensor, ...]:
    """Each tensor with at least one dimension."""
    return _each("atleast_1d", tensors, lambda t: t if t.ndim else t.reshape(1))


@overload
def atleast_2d(tensors: Tensor, /) -> Tensor: ...
@overload
def atleast_2d(tensors: Sequence[Tensor], /) -> tuple[Tensor, ...]: ...
@overload
def atleast_2d(first: Tensor, second: Tensor, /, *tensors: Tensor) -> tuple[Tensor, ...]: ...
def atleast_2d(*tensors: Any) -> Tensor | tuple[Tensor, ...]:
    """Each tensor with at least two dimensions: a vector becomes a row."""
    return _each("atleast_2d", tensors, _two)


@overload
def atleast_3d(tensors: Tensor, /) -> Tensor: ...
@overload
def atleast_3d(tensors: Sequence[Tensor], /) -> tuple[Tensor, ...]: ...
@overload
def atleast_3d(first: Tensor, second: Tensor, /, *tensors: Tensor) -> tuple[Tensor, ...]: ...
def atleast_3d(*tensors: Any) -> Tensor | tuple[Tensor, ...]:
    """Each tensor with at least three dimensions; a matrix gets the last one."""
    return _each("atleast_3d", tensors, _three)


def _each(caller: str, tensors: Any, change: Any) -> Any:
    if len(tensors) == 1 and isinstance(tensors[0], Variable):
        return change(tensors[0])
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        (tensors,) = tensors
    return tuple(change(tensor_of(caller, t)) for t in tensors)


def _two(t: Tensor) -> Tensor:
    return t if t.ndim > 1 else t.reshape(1, -1)


def _three(t: Tensor) -> Tensor:
    return t.unsqueeze(2) if t.ndim == 2 else t if t.ndim > 2 else t.reshape(1, -1, 1)


@forwarded
def column_stack(tensors: Tensors) -> Tensor:
    """Joined along dimension 1; numbers and vectors are columns."""
    columns = [t if t.ndim > 1 else t.reshape(-1, 1) for t in tensors_of("column_stack", tensors)]
    return cat(columns, 1)


@forwarded
def dstack(tensors: Tensors) -> Tensor:
    """Joined along dimension 2, as `atleast_3d` makes them."""
    return cat([_three(t) for t in tensors_of("dstack", tensors)], 2)


def block_diag(*tensors: Tensor) -> Tensor:
    """A matrix with the given ones (numbers, vectors as rows, matrices) along its diagonal."""
    blocks = [_two(t) for t in tensors_of("block_diag", tensors)]
    for i, block in enumerate(blocks):
        if block.ndim != 2:
            expected = f"at most 2 dimensions at {i}"
            raise ShapeError(sentence("block_diag", expected, tuple(block.shape)))
    width, rows, left = sum(block.shape[1] for block in blocks), [], 0
    for block in blocks:
        height, own = block.shape
        sides = (left, width - left - own)
        zeros = [
            wrap(block.backend.zeros((height, n), block.array.dtype), block.backend) for n in sides
        ]
        rows.append(cat([zeros[0], block, zeros[1]], 1))
        left += own
    return cat(rows, 0)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of one element of each vector, one a row; of one vector, itself."""
    vectors = tensors_of("cartesian_prod", tensors)
    if any(t.ndim != 1 for t in vectors):
        raise ShapeError(
            sentence("cartesian_prod", "1-D tensors", [tuple(t.shape) for t in vectors])
        )
    if len(vectors) == 1:
        return vectors[0]
    grids = meshgrid(*vectors, indexing="ij")
    return stack([grid.reshape(-1) for grid in grids], 1)


@forwarded
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """The combinations of r elements of a vector, one a row, in order."""
    if tensor_of("combinations", input).ndim != 1:
        raise ShapeError(sentence("combinations", "a 1-D tensor", tuple(input.shape)))
    if int_of("combinations", "r", r) < 0:
        raise ArgumentError(sentence("combinations", "r of at least 0", r))
    chosen = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    if r == 0:
        return wrap(input.backend.zeros((0,), input.array.dtype), input.backend)
    rows = np.array(list(chosen(range(input.shape[0]), r)), np.int64).reshape(-1, r)
    return input[wrap(input.backend.asarray(rows), input.backend)]
