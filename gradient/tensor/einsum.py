"""einsum: sums of products in Einstein notation, two operands at a time, as matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradient.autograd.autocast import autocasts
from gradient.autograd.variable import Variable
from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence
from gradient.tensor.arguments import int_of
from gradient.tensor.joining import arguments_of, tensors_of
from gradient.tensor.views import without_base

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

__all__ = ["einsum"]


@autocasts("lower_precision_on_gpu")
def einsum(equation: str | Tensor, *operands: Tensor | Sequence[Tensor] | Sequence[int]) -> Tensor:
    """Compute a sum of products in Einstein notation, as matrix products of two operands at a time.

    Letters name dimensions; those not in the output are summed; "..." stands for all others.
    Instead of letters, each operand may be followed by a list of numbers from 0 to 51, and the last
    list by that of the output: `einsum(a, [0, 1], b, [1, 2], [0, 2])`.
    """
    if isinstance(equation, Variable):
        equation, operands = _spelled((equation, *operands))
    if not isinstance(equation, str):
        raise TypeMismatch(
            f"einsum: expected an equation such as 'ij,jk->ik', got {type(equation).__name__}"
        )
    tensors = tensors_of("einsum", arguments_of(operands))
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


def _spelled(arguments: tuple[Any, ...]) -> tuple[str, tuple[Tensor, ...]]:
    """Convert operands with lists of numbers to an equation and operands."""
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
    """Return the letter for a dimension's number. Letters sort like the numbers, because an output
    that is not given has its dimensions in sorted order."""
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
    """Replace dimensions with the same label by their diagonal."""
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
    """Multiply two operands as matrices: (batch, rows, summed) @ (batch, summed, columns)."""
    for labels, other in ((la, lb), (lb, la)):  # sum over labels that occur nowhere else
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
    if not summed:  # as in PyTorch, which then promotes dtypes too
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
