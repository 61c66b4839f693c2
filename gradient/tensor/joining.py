"""Functions of several tensors: cat, stack, broadcast_tensors, meshgrid, where, einsum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast, overload

from gradient.autograd.autocast import autocasts
from gradient.autograd.explain import error_for_any_caller
from gradient.autograd.forwarding import forwarded
from gradient.autograd.out_argument import result_or_out
from gradient.autograd.variable import TensorType, Variable
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch, sentence
from gradient.ops import elementwise, shape
from gradient.tensor.arguments import Size, axis_of, fitting, int_of, number_of, tensor_of
from gradient.tensor.arithmetic import condition_of
from gradient.tensor.views import without_base

if TYPE_CHECKING:
    from gradient.autograd.variable import Number
    from gradient.tensor.core import Tensor

__all__ = [
    "broadcast_shapes",
    "broadcast_tensors",
    "cat",
    "concat",
    "concatenate",
    "einsum",
    "hstack",
    "meshgrid",
    "stack",
    "vstack",
    "where",
]


def tensors_of(caller: str, tensors: Any) -> list[Tensor]:
    """A sequence of tensors, as a list that is not empty."""
    if not isinstance(tensors, (list, tuple, Iterator)):
        got = "a single Tensor" if isinstance(tensors, Variable) else type(tensors).__name__
        raise TypeMismatch(sentence(caller, "a list of tensors", got))
    result = list(tensors)
    if not result:
        raise ArgumentError(sentence(caller, "a list of tensors", "an empty one"))
    kind = TensorType.cls
    for value in result:
        if type(value) is not kind and not isinstance(value, Variable):
            i = next(i for i, each in enumerate(result) if each is value)
            expected = f"a list of tensors, at {i} a Tensor"
            raise TypeMismatch(sentence(caller, expected, type(value).__name__))
    return result


@forwarded
def cat(tensors: Sequence[Tensor] | Iterator[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after the other along `dim`."""
    tensors = tensors_of("cat", tensors)
    shapes = [t.array.shape for t in tensors]
    if (0,) in shapes and any(len(size) != 1 for size in shapes):
        # PyTorch lets empty 1-D tensors pass, whatever the shape of the others.
        tensors = [t for t in tensors if t.array.shape != (0,)]
        shapes = [size for size in shapes if size != (0,)]
    return shape.concatenate(*tensors, axis=axis_of(dim, len(shapes[0])))


concat = concatenate = cat


@forwarded
def stack(tensors: Sequence[Tensor] | Iterator[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension `dim`."""
    tensors = tensors_of("stack", tensors)
    shapes = [t.array.shape for t in tensors]
    first = shapes[0]
    axis = axis_of(dim, len(first) + 1)
    if shapes.count(first) < len(shapes):
        i, other = next((i, size) for i, size in enumerate(shapes) if size != first)
        raise ShapeError(
            f"stack: expected tensors of equal size, got {list(first)} at entry 0 and "
            f"{list(other)} at entry {i}"
        )
    return shape.stack(*tensors, axis=axis)


@forwarded
def hstack(tensors: Sequence[Tensor] | Iterator[Tensor]) -> Tensor:
    """Joined side by side: along dimension 1, or 0 for one-dimensional tensors."""
    tensors = [t if t.ndim else t.reshape(1) for t in tensors_of("hstack", tensors)]
    return cat(tensors, 0 if tensors[0].ndim == 1 else 1)


@forwarded
def vstack(tensors: Sequence[Tensor] | Iterator[Tensor]) -> Tensor:
    """Joined one below the other: along dimension 0, one-dimensional tensors being rows."""
    tensors = tensors_of("vstack", tensors)
    return cat([t.reshape(1, -1) if t.ndim < 2 else t for t in tensors], 0)


def broadcast_shapes(*shapes: int | Sequence[int]) -> Size:
    """The shape that all of these broadcast to."""
    import numpy as np

    try:
        return Size(np.broadcast_shapes(*shapes))
    except ValueError:
        listed = ", ".join(map(str, shapes))
        problem = f"{listed} do not broadcast together"
        raise error_for_any_caller(ShapeError, "broadcast_shapes", problem) from None


def broadcast_tensors(*tensors: Variable) -> list[Tensor]:
    """All tensors expanded to one shape."""
    listed = tensors_of("broadcast_tensors", tensors) if tensors else []
    target = broadcast_shapes(*(t.array.shape for t in listed))
    return [t if t.array.shape == target else t.expand(target) for t in listed]


def _listed(tensors: Sequence[Any]) -> Sequence[Any]:
    """The tensors meant by `f(a, b)` or `f([a, b])`."""
    one = len(tensors) == 1 and isinstance(tensors[0], (list, tuple))
    return tensors[0] if one else tensors


def meshgrid(*tensors: Tensor | Sequence[Tensor], indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates of the grid spanned by 1-D tensors."""
    vectors = tensors_of("meshgrid", _listed(tensors))
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
    """`input` where `condition` holds, else `other`; with one argument, the indices of nonzeros."""
    if out is not None:
        branches: Any = (input, other)  # either may be None, which the call refuses
        return result_or_out(where(condition, *branches), {"out": out}, "where")
    if input is None and other is None:
        return tensor_of("where", condition).nonzero(as_tuple=True)
    if not isinstance(input, Variable):
        input = number_of("where", "input", input, takes_complex=True)
    if not isinstance(other, Variable):
        other = number_of("where", "other", other, takes_complex=True)
    if isinstance(condition, Variable) and condition.array.dtype.name == "uint8":
        condition = condition.bool()  # PyTorch still takes it
    array = condition_of("where", condition)
    if not isinstance(input, Variable) and not isinstance(other, Variable):
        from gradient.tensor.from_data import tensor

        input = tensor(input, device=condition.device)
    like: Any = input if isinstance(input, Variable) else other
    for name, value in (("input", input), ("other", other)):
        if isinstance(value, int) and like.array.dtype.kind in "iu":
            fitting("where", name, value, like.dtype)
    return elementwise.where(cast("Tensor", input), cast("Tensor", other), condition=array)


@autocasts("lower_precision_on_gpu")
def einsum(equation: str | Tensor, *operands: Tensor | Sequence[Tensor] | Sequence[int]) -> Tensor:
    """Sum of products by Einstein's notation, as matrix products two operands at a time.

    Letters name dimensions; those not in the output are summed; "..." stands for any others. In
    place of letters, each operand may be followed by a list of numbers from 0 to 51, and the last
    of these by the output's: `einsum(a, [0, 1], b, [1, 2], [0, 2])`.
    """
    if isinstance(equation, Variable):
        equation, operands = _spelled((equation, *operands))
    if not isinstance(equation, str):
        raise TypeMismatch(
            f"einsum: expected an equation such as 'ij,jk->ik', got {type(equation).__name__}"
        )
    tensors = tensors_of("einsum", _listed(operands))
    terms, output = _parsed(equation.replace(" ", ""), tensors)
    work = [_diagonals(t, labels) for t, labels in zip(tensors, terms, strict=True)]
    while len(work) > 1:
        (a, la), (b, lb), *rest = work
        later = set(output).union(*(labels for _, labels in rest))
        work = [_contract(a, la, b, lb, later), *rest]
    (result, labels) = work[0]
    summed = [i for i, c in enumerate(labels) if c not in output]
    if summed:
        result = result.sum(summed)
        labels = [c for c in labels if c in output]
    if output:
        result = result.permute([labels.index(c) for c in output])
    return without_base(result) if summed or len(operands) > 1 else result


def _spelled(arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """The equation that stands in lists of numbers after the operands, and the operands."""
    lists = [*arguments[1::2], *(arguments[-1:] if len(arguments) % 2 else [])]
    if len(arguments) < 2 or not all(isinstance(each, (list, tuple)) for each in lists):
        expected = (
            "a list of numbers after each operand, as in einsum(a, [0, 1], b, [1, 2], [0, 2])"
        )
        raise ArgumentError(sentence("einsum", expected, ", ".join(map(_kind, arguments))))
    terms = ["".join(map(_letter, each)) for each in lists]
    count = len(arguments) // 2
    return ",".join(terms[:count]) + "".join(f"->{t}" for t in terms[count:]), arguments[
        : 2 * count : 2
    ]


def _kind(argument: Any) -> str:
    return "a Tensor" if isinstance(argument, Variable) else repr(argument)


def _letter(number: Any) -> str:
    """The letter for a dimension's number: they sort alike, as the output of none is sorted."""
    if number is Ellipsis:
        return "..."
    number = int_of("einsum", "dimensions", number)
    if not 0 <= number < 52:
        raise ArgumentError(sentence("einsum", "numbers of dimensions from 0 to 51", number))
    return chr(ord("A") + number if number < 26 else ord("a") + number - 26)


def _parsed(equation: str, operands: Sequence[Tensor]) -> tuple[list[list[str]], list[str]]:
    left, arrow, right = equation.partition("->")
    strange = [
        c
        for c in (left + right).replace("...", "")
        if not (c.isascii() and c.isalpha() or c == ",")
    ]
    if strange:
        raise ArgumentError(sentence("einsum", "letters, commas, '...' and '->'", repr(strange[0])))
    parts = left.split(",")
    if len(parts) != len(operands):
        raise ArgumentError(
            f"einsum: {equation!r} names {len(parts)} operands but {len(operands)} were given"
        )
    dots = max(
        (t.ndim - len(p.replace("...", "")) for p, t in zip(parts, operands, strict=True)
         if "..." in p),
        default=0,
    )  # fmt: skip
    hidden = [f"#{i}" for i in range(dots)]
    terms = []
    for part, tensor in zip(parts, operands, strict=True):
        before, ellipsis, after = part.partition("...")
        own = tensor.ndim - len(before) - len(after)
        labels = [*before, *(hidden[dots - own :] if ellipsis and own else []), *after]
        if len(labels) != tensor.ndim:
            raise ShapeError(
                f"einsum: {part!r} names {len(labels)} dimensions of a tensor of shape "
                f"{tuple(tensor.array.shape)}"
            )
        terms.append(labels)
    if arrow:
        before, ellipsis, after = right.partition("...")
        output = [*before, *(hidden if ellipsis else []), *after]
    else:
        every = [c for labels in terms for c in labels]
        output = hidden + sorted(c for c in set(every) if every.count(c) == 1 and c[0] != "#")
    unknown = [c for c in output if not any(c in labels for labels in terms)]
    if unknown:
        raise ArgumentError(f"einsum: output {unknown[0]!r} of {equation!r} is in no operand")
    return terms, output


def _diagonals(tensor: Tensor, labels: list[str]) -> tuple[Tensor, list[str]]:
    """Dimensions with the same label made one, their diagonal."""
    labels = list(labels)
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            tensor = tensor.diagonal(0, i, j)
            labels = [c for k, c in enumerate(labels) if k not in (i, j)] + [label]
    return tensor, labels


def _contract(
    a: Tensor, la: list[str], b: Tensor, lb: list[str], later: set[str]
) -> tuple[Tensor, list[str]]:
    """Two operands as one matrix product: (batch, rows, summed) @ (batch, summed, columns)."""
    for labels, other in ((la, lb), (lb, la)):  # sum what only one has and nobody wants
        lone = [c for c in labels if c not in other and c not in later]
        if lone and labels is la:
            a, la = a.sum([la.index(c) for c in lone]), [c for c in la if c not in lone]
        elif lone:
            b, lb = b.sum([lb.index(c) for c in lone]), [c for c in lb if c not in lone]
    size: dict[str, int] = {}
    for tensor, labels in ((a, la), (b, lb)):
        for c, n in zip(labels, tensor.array.shape, strict=True):
            if size.setdefault(c, n) != n and 1 not in (n, size[c]):
                raise ShapeError(f"einsum: dimension {c!r} has sizes {size[c]} and {n}")
            size[c] = n if size[c] == 1 else size[c]
    a = a.expand([size[c] for c in la])
    b = b.expand([size[c] for c in lb])
    batch = [c for c in la if c in lb and c in later]
    summed = [c for c in la if c in lb and c not in later]
    rows = [c for c in la if c not in lb]
    columns = [c for c in lb if c not in la]
    if not summed:  # as PyTorch, which then promotes dtypes, too
        left = a.permute([la.index(c) for c in batch + rows])
        right = b.permute([lb.index(c) for c in batch + columns])
        shape = [size[c] for c in batch] + [1] * len(rows) + [size[c] for c in columns]
        spread = left.reshape([size[c] for c in batch + rows] + [1] * len(columns))
        return spread * right.reshape(shape), batch + rows + columns

    def count(labels: list[str]) -> int:
        n = 1
        for c in labels:
            n *= size[c]
        return n

    left = a.permute([la.index(c) for c in batch + rows + summed])
    right = b.permute([lb.index(c) for c in batch + summed + columns])
    left = left.reshape(count(batch), count(rows), count(summed))
    right = right.reshape(count(batch), count(summed), count(columns))
    out = left.bmm(right).reshape([size[c] for c in batch + rows + columns])
    return out, batch + rows + columns
