"""PyTorch's layouts and memory formats.

A memory format is the order of a tensor's dimensions in memory. Operations give row-major results
or keep their inputs' order, whatever the format: convolutions, too, compute in row-major order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.backends.memory_order import positions
from gradient.dtypes import DType
from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

__all__ = [
    "channels_last",
    "channels_last_3d",
    "contiguous_format",
    "layout",
    "memory_format",
    "preserve_format",
    "sparse_coo",
    "sparse_csr",
    "strided",
]


class _Word:
    """A constant that prints as `gradient.` and its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"{DType.package}.{self.name}"

    def __reduce__(self) -> str:
        return self.name


class memory_format(_Word):  # noqa: N801 (PyTorch's name)
    """The type of the argument `memory_format=`: the order of dimensions in memory."""


class layout(_Word):  # noqa: N801 (PyTorch's name)
    """The type of `Tensor.layout`."""


contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")
strided = layout("strided")
sparse_coo, sparse_csr = layout("sparse_coo"), layout("sparse_csr")

DIMENSIONS = {channels_last: 4, channels_last_3d: 5}


def check(caller: str, given: Any) -> None:
    """Raise TypeMismatch unless an argument `memory_format` is one."""
    if not isinstance(given, memory_format):
        formats = "contiguous_format, preserve_format, channels_last or channels_last_3d"
        raise TypeMismatch(sentence(caller, f"memory_format, one of {formats}", repr(given)))


def order_in(caller: str, given: Any, shape: Any, preserves: bool = True) -> list[int] | None:
    """Return the order in memory of the dimensions in a memory format, outermost first; None for
    row-major order and for `preserve_format`.

    Args:
        given: the argument `memory_format`.
        preserves: whether it may be `preserve_format`.

    Raises:
        TypeMismatch: `given` is not a memory format.
        ArgumentError: it is `preserve_format`, and not `preserves`.
        ShapeError: `channels_last` without 4 dimensions, or `channels_last_3d` without 5.
    """
    check(caller, given)
    if given is preserve_format and not preserves:
        formats = "contiguous_format, channels_last or channels_last_3d"
        raise ArgumentError(sentence(caller, f"memory_format, one of {formats}", given))
    n = len(shape)
    if DIMENSIONS.get(given, n) != n:
        expected = f"a tensor of {DIMENSIONS[given]} dimensions for {given}"
        raise ShapeError(sentence(caller, expected, f"shape {tuple(shape)}"))
    return [0, *range(2, n), 1] if given in DIMENSIONS else None


def in_format(caller: str, x: Tensor, given: Any) -> Tensor:
    """Return x if it is contiguous in a memory format, else a copy that is."""
    if given is preserve_format and x.is_contiguous():
        return x
    order = order_in(caller, given, x.array.shape, preserves=False)
    if order is None:
        return x.contiguous()
    turned = x.permute(order)
    made = turned.contiguous()
    return x if made is turned else made.permute(positions(order))


def converted(caller: str, x: Tensor, given: Any, is_new: bool) -> Tensor:
    """Return the result of `to(memory_format=...)`: x itself if it has the format, with or without
    gaps, else a copy that is contiguous in it. A new tensor (`is_new`) must be contiguous, too."""
    order_in(caller, given, x.array.shape)
    if given is preserve_format or (suggested(x) is given and not is_new):
        return x
    made = in_format(caller, x, given)
    return made if is_new or made is not x else x.clone()  # the strides fit several formats


def suggested(x: Any) -> memory_format:
    """Return the memory format that a tensor's strides suggest, by the rules of PyTorch's
    `suggest_memory_format` (c10/core/MemoryFormat.h): `contiguous_format` if no other, or more than
    one, fits."""
    sizes, n = x.array.shape, len(x.array.shape)
    if n not in DIMENSIONS.values() or 0 in sizes:
        return contiguous_format
    strides, least = x.stride(), 0
    if strides[1] == 0:
        return contiguous_format
    for d in (1, *range(n - 1, 1, -1), 0):
        if strides[d] < least or (d == 0 and least == strides[1]):
            return contiguous_format
        least = strides[d] * (sizes[d] if sizes[d] > 1 else 1)
    return channels_last if n == 4 else channels_last_3d
