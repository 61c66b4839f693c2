"""Functions of several tensors: cat, stack, broadcast_tensors, meshgrid, where."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from gradient.autograd import variable
from gradient.autograd.explain import error_for_any_caller
from gradient.autograd.forwarding import forwarded
from gradient.autograd.modes import mode, switched
from gradient.autograd.node import Node, next_sequence_nr, watch
from gradient.autograd.numbers import placed_apart
from gradient.autograd.out_argument import result_or_out
from gradient.autograd.variable import Variable, wrap
from gradient.backends.packed import is_packed
from gradient.backends.placement import device_contexts
from gradient.dtypes import int64
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch, copied, sentence
from gradient.ops import comparison, shape
from gradient.source_lines import user_frame
from gradient.tensor.arguments import Size, axis_of, fitting, int_of, number_of, tensor_of
from gradient.tensor.arithmetic import condition_of
from gradient.tensor.creation import triangle_places
from gradient.tensor.float8 import where_float8

if TYPE_CHECKING:
    from gradient.autograd.op import Op
    from gradient.autograd.variable import Number
    from gradient.tensor.core import Tensor

FEW = 32
"""Elements of which Python makes all pairs as fast as NumPy."""

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "block_diag",
    "broadcast_shapes",
    "broadcast_tensors",
    "cartesian_prod",
    "cat",
    "column_stack",
    "combinations",
    "concat",
    "concatenate",
    "dstack",
    "hstack",
    "meshgrid",
    "row_stack",
    "stack",
    "vstack",
    "where",
]


shape_of_array = attrgetter("array.shape")


def tensors_of(caller: str, tensors: Any) -> list[Tensor]:
    """Check a sequence of tensors; return it as a list, which is not empty."""
    if not isinstance(tensors, (list, tuple, Iterator)):
        got = "a single Tensor" if isinstance(tensors, Variable) else type(tensors).__name__
        raise TypeMismatch(sentence(caller, "a list of tensors", got))
    result = list(tensors)
    if not result:
        raise ArgumentError(sentence(caller, "a list of tensors", "an empty one"))
    kind = variable.tensor_class
    for value in result:
        if type(value) is not kind and not isinstance(value, Variable):
            i = next(i for i, each in enumerate(result) if each is value)
            expected = f"a list of tensors, at {i} a Tensor"
            raise TypeMismatch(sentence(caller, expected, type(value).__name__))
    return result


@forwarded
def cat(tensors: Sequence[Tensor] | Iterator[Tensor], dim: int = 0) -> Tensor:
    """Join tensors along `dim`. The sizes of all other dimensions must be equal."""
    tensors = tensors_of("cat", tensors)
    shapes = list(map(shape_of_array, tensors))
    if (0,) in shapes and () not in shapes:
        # As in PyTorch, 1-D tensors of size 0 fit all others, and any `dim`; their dtypes count.
        if shapes.count((0,)) == len(shapes):
            return joined(shape.concatenate, tensors, shapes, 0)
        size = list(next(size for size in shapes if size != (0,)))
        size[axis_of(dim, len(size))] = 0
        tensors = [t.reshape(size) if t.array.shape == (0,) else t for t in tensors]
        shapes = list(map(shape_of_array, tensors))
    return joined(shape.concatenate, tensors, shapes, axis_of(dim, len(shapes[0])))


concat = concatenate = cat


@forwarded
def stack(tensors: Sequence[Tensor] | Iterator[Tensor], dim: int = 0) -> Tensor:
    """Join tensors of one shape along a new dimension `dim`."""
    tensors = tensors_of("stack", tensors)
    shapes = list(map(shape_of_array, tensors))
    first = shapes[0]
    axis = axis_of(dim, len(first) + 1)
    if shapes.count(first) < len(shapes):
        i, other = next((i, size) for i, size in enumerate(shapes) if size != first)
        raise ShapeError(
            f"stack: expected tensors of equal size, got {list(first)} at entry 0 and "
            f"{list(other)} at entry {i}"
        )
    return joined(shape.stack, tensors, shapes, axis)


def joined(call: Any, tensors: list[Any], shapes: list[Any], axis: int) -> Tensor:
    """Do `call(*tensors, axis=axis)` of an op whose gradient needs only shapes. If all tensors are
    on one device and of one dtype, the whole call is inlined here, for speed."""
    made: Op = call.op
    backend, dtype = tensors[0].backend, tensors[0].array.dtype
    arrays, nodes, recorded = [], [], False
    for t in tensors:
        array, node = t.array, t.node
        if t.backend is not backend or array.dtype is not dtype:
            return call(*tensors, axis=axis)
        arrays.append(array)
        nodes.append(node)
        if node is not None:
            recorded = True
    if device_contexts or dtype.char in made.checked:
        return call(*tensors, axis=axis)
    try:
        out = wrap(getattr(backend, made.name)(arrays, axis), backend)
    except Exception:
        return call(*tensors, axis=axis)  # raises our error, or joins packed tensors
    if recorded and (not switched or mode.grad):
        out.node = node = Node()  # like `Op.record`
        node.op = made
        node.backend = backend
        node.parents = tuple(nodes)
        node.saved = (shapes,)
        node.options = {"axis": axis}
        node.sequence_nr = next_sequence_nr()
        node.shape = out.array.shape
        node.dtype = dtype
        frame = user_frame(4)
        node.location = (frame.f_code, frame.f_lasti)
        if switched and mode.grad is not True:
            watch(node)
    return out


@forwarded
def hstack(tensors: Sequence[Tensor] | Iterator[Tensor]) -> Tensor:
    """Join tensors along dimension 1, or 0 for 1-D tensors."""
    tensors = [t if t.ndim else t.reshape(1) for t in tensors_of("hstack", tensors)]
    return cat(tensors, 0 if tensors[0].ndim == 1 else 1)


@forwarded
def vstack(tensors: Sequence[Tensor] | Iterator[Tensor]) -> Tensor:
    """Join tensors along dimension 0; 1-D tensors become rows."""
    tensors = tensors_of("vstack", tensors)
    return cat([t.reshape(1, -1) if t.ndim < 2 else t for t in tensors], 0)


def broadcast_shapes(*shapes: int | Sequence[int]) -> Size:
    """Return the shape that all shapes broadcast to. Raises ShapeError if they do not."""
    import numpy as np

    try:
        return Size(np.broadcast_shapes(*shapes))
    except ValueError:
        listed = ", ".join(map(str, shapes))
        problem = f"{listed} do not broadcast together"
        raise error_for_any_caller(ShapeError, "broadcast_shapes", problem) from None


def broadcast_tensors(*tensors: Variable) -> list[Tensor]:
    """Expand all tensors to the shape that they broadcast to."""
    listed = tensors_of("broadcast_tensors", tensors) if tensors else []
    target = broadcast_shapes(*(t.array.shape for t in listed))
    return [t if t.array.shape == target else t.expand(target) for t in listed]


def arguments_of(tensors: Sequence[Any]) -> Sequence[Tensor]:
    """Return the tensors given as `f(a, b)` or `f([a, b])`."""
    one = len(tensors) == 1 and isinstance(tensors[0], (list, tuple))
    return tensors[0] if one else tensors


def meshgrid(*tensors: Tensor | Sequence[Tensor], indexing: str = "ij") -> tuple[Tensor, ...]:
    """Return the coordinates of the grid of 1-D tensors: for N of them, N tensors with N
    dimensions. `indexing` "xy" swaps the first two dimensions."""
    vectors = tensors_of("meshgrid", arguments_of(tensors))
    if not isinstance(indexing, str):
        raise TypeMismatch(sentence("meshgrid", "a str as indexing", repr(indexing)))
    if indexing not in ("ij", "xy"):
        raise ArgumentError(sentence("meshgrid", "indexing 'ij' or 'xy'", repr(indexing)))
    if len({t.dtype for t in vectors}) > 1:
        got = " and ".join(dict.fromkeys(str(t.dtype) for t in vectors))
        raise DTypeError(sentence("meshgrid", "tensors of one dtype", got))
    n = len(vectors)
    for t in vectors:
        if t.ndim > 1:
            raise ShapeError(f"meshgrid: expected vectors or numbers, got {tuple(t.shape)}")
    sizes = [t.array.shape[0] if t.ndim else 1 for t in vectors]
    grids = [
        t.reshape((1,) * i + (-1,) + (1,) * (n - 1 - i)).expand(*sizes)
        for i, t in enumerate(vectors)
    ]
    if indexing == "xy" and n > 1:
        return tuple(g.transpose(0, 1) for g in grids)
    return tuple(grids)


@overload
def where(condition: Tensor) -> tuple[Tensor, ...]: ...
@overload
def where(
    condition: Tensor,
    input: Tensor | Number,
    other: Tensor | Number,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
def where(
    condition: Tensor,
    input: Tensor | Number | None = None,
    other: Tensor | Number | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """Return `input` where `condition` is True, else `other`; all three broadcast. With one
    argument, return the indices of nonzero elements, like `nonzero(as_tuple=True)`."""
    if out is not None:
        branches: Any = (input, other)  # one may be None: the call raises
        return result_or_out(where(condition, *branches), {"out": out}, "where")
    if input is None and other is None:
        return tensor_of("where", condition).nonzero(as_tuple=True)
    array = tensor_of("where", condition).array
    if array.dtype.char != "?":
        if array.dtype.char == "B":
            condition = condition.bool()  # PyTorch still accepts uint8
        array = condition_of("where", condition)
    if isinstance(input, Variable) and isinstance(other, Variable):
        like: Any = input
    else:
        input, other, like = _branches(condition, input, other)
    if (placed := placed_apart("where", condition, input, other)) is not None:
        return where(*placed)
    if is_packed(like.array) or (isinstance(other, Variable) and is_packed(other.array)):
        return where_float8(condition, input, other)
    return comparison.where(input, other, condition=array)


def _branches(
    condition: Tensor, input: Any, other: Any
) -> tuple[Tensor | Number, Tensor | Number, Tensor]:
    """Return the two branches of `where`, at least one of which is a number, and the one that is a
    tensor."""
    if not isinstance(input, Variable):
        input = number_of("where", "input", input, takes_complex=True)
    if not isinstance(other, Variable):
        other = number_of("where", "other", other, takes_complex=True)
        if not isinstance(input, Variable):
            from gradient.tensor.from_data import tensor

            input = tensor(input, device=condition.device)
    like: Any = input if isinstance(input, Variable) else other
    for name, value in (("input", input), ("other", other)):
        if isinstance(value, int) and like.array.dtype.kind in "iu":
            fitting("where", name, value, like.dtype)
    return input, other, like


Tensors = Sequence["Tensor"] | Iterator["Tensor"]

row_stack = forwarded(copied(inspect.unwrap(vstack), "row_stack"))


@overload
def atleast_1d(tensors: Tensor, /) -> Tensor: ...
@overload
def atleast_1d(tensors: Sequence[Tensor], /) -> tuple[Tensor, ...]: ...
@overload
def atleast_1d(first: Tensor, second: Tensor, /, *tensors: Tensor) -> tuple[Tensor, ...]: ...
def atleast_1d(*tensors: Any) -> Tensor | tuple[Tensor, ...]:
    """Return each tensor with at least one dimension."""
    return _each("atleast_1d", tensors, lambda t: t if t.ndim else t.reshape(1))


@overload
def atleast_2d(tensors: Tensor, /) -> Tensor: ...
@overload
def atleast_2d(tensors: Sequence[Tensor], /) -> tuple[Tensor, ...]: ...
@overload
def atleast_2d(first: Tensor, second: Tensor, /, *tensors: Tensor) -> tuple[Tensor, ...]: ...
def atleast_2d(*tensors: Any) -> Tensor | tuple[Tensor, ...]:
    """Return each tensor with at least two dimensions: a vector becomes a row."""
    return _each("atleast_2d", tensors, _two)


@overload
def atleast_3d(tensors: Tensor, /) -> Tensor: ...
@overload
def atleast_3d(tensors: Sequence[Tensor], /) -> tuple[Tensor, ...]: ...
@overload
def atleast_3d(first: Tensor, second: Tensor, /, *tensors: Tensor) -> tuple[Tensor, ...]: ...
def atleast_3d(*tensors: Any) -> Tensor | tuple[Tensor, ...]:
    """Return each tensor with at least three dimensions: a matrix gets a new last one."""
    return _each("atleast_3d", tensors, _three)


def _each(caller: str, tensors: Any, change: Any) -> Tensor | tuple[Tensor, ...]:
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
    """Join tensors along dimension 1; 0-d and 1-D tensors become columns."""
    columns = [t if t.ndim > 1 else t.reshape(-1, 1) for t in tensors_of("column_stack", tensors)]
    return cat(columns, 1)


@forwarded
def dstack(tensors: Tensors) -> Tensor:
    """Join the results of `atleast_3d` along dimension 2."""
    return cat([_three(t) for t in tensors_of("dstack", tensors)], 2)


def block_diag(*tensors: Tensor) -> Tensor:
    """Make a matrix with the given tensors (numbers, vectors as rows, matrices) along its
    diagonal."""
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
    """Return all combinations of one element from each vector, one per row; one vector is returned
    unchanged."""
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
    """Return the combinations of r elements of a vector, one per row, in order."""
    if tensor_of("combinations", input).ndim != 1:
        raise ShapeError(sentence("combinations", "a 1-D tensor", tuple(input.shape)))
    if int_of("combinations", "r", r) < 0:
        raise ArgumentError(sentence("combinations", "r of at least 0", r))
    chosen = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    if r == 0:
        return wrap(input.backend.zeros((0,), input.array.dtype), input.backend)
    n = input.shape[0]
    if r == 2 and n > FEW:
        rows = triangle_places(n, n, 0 if with_replacement else 1, False, int64.numpy).T.copy()
    else:
        numbers = itertools.chain.from_iterable(chosen(range(n), r))
        rows = np.fromiter(numbers, np.int64).reshape(-1, r)
    return input[wrap(input.backend.asarray(rows), input.backend)]
