"""Tensors made by PyTorch's rarer functions: `scalar_tensor`, `frombuffer`, `empty_strided` ..."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradient.autograd.forwarding import forwarded
from gradient.autograd.out_argument import creation_op
from gradient.dtypes import dtype_of, float64, get_default_dtype
from gradient.errors import ArgumentError, DTypeError, ShapeError, sentence
from gradient.source_lines import warn_user
from gradient.tensor import Tensor
from gradient.tensor.arguments import DTypeLike, int_of, number_of, shape_argument, tensor_of
from gradient.tensor.creation import arange, empty, full
from gradient.tensor.device import Device, DeviceLike
from gradient.tensor.interop import from_numpy

__all__ = [
    "empty_permuted",
    "empty_strided",
    "fill",
    "from_file",
    "frombuffer",
    "range",
    "scalar_tensor",
]


@creation_op
def scalar_tensor(
    s: Any,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of shape () with one number, of the default dtype unless told, bools too."""
    number = number_of("scalar_tensor", "s", s, takes_complex=True)
    kind = get_default_dtype() if dtype is None else dtype_of(dtype)
    if isinstance(number, complex) and not kind.is_complex:
        raise DTypeError(sentence("scalar_tensor", f"a number that {kind} has", number))
    return full((), number, dtype=kind, device=device, requires_grad=requires_grad)


@creation_op
def range(
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers from `start` to `end`, which is one of them: write `arange`, where it is none.

    Raises:
        ArgumentError: a step of 0, or away from the end.
    """
    warn_user("range is deprecated: use arange, which leaves out the end")
    start, end, step = (
        number_of("range", name, value)
        for name, value in (("start", start), ("end", end), ("step", step))
    )
    kind = get_default_dtype() if dtype is None else dtype_of(dtype)
    if not math.isfinite(end - start):
        raise ArgumentError(sentence("range", "finite ends", f"start {start} and end {end}"))
    if not kind.is_floating_point:  # as PyTorch, which counts in whole numbers there
        start, end, step = int(start), int(end), int(step)
    if step == 0 or (end - start) / step < 0:
        expected = f"a step from {start} towards {end}"
        raise ArgumentError(sentence("range", expected, step))
    count = math.floor((end - start) / step) + 1
    numbers = (arange(count, dtype=float64, device=device) * step + start).to(kind)
    return numbers.requires_grad_() if requires_grad else numbers


@forwarded
def fill(input: Tensor, value: Tensor | float) -> Tensor:
    """A tensor like `input`, all of whose elements are `value`: a number or a tensor of shape (),
    whose gradient is the sum of theirs. The gradient of `input` is 0."""
    return tensor_of("fill", input).clone().fill_(value)


def frombuffer(
    buffer: Any,
    *,
    dtype: DTypeLike,
    count: int = -1,
    offset: int = 0,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers in the memory of a `bytearray`, an `array.array` or another buffer, as a vector
    that shares it.

    Args:
        count: how many of them; all, where it is negative.
        offset: how many bytes come before the first.

    Raises:
        ArgumentError: the buffer has not so many, or is cut within one.
    """
    count, offset = int_of("frombuffer", "count", count), int_of("frombuffer", "offset", offset)
    try:
        memory = np.frombuffer(memoryview(buffer).cast("B"), np.uint8)
    except (TypeError, BufferError) as error:
        got = type(buffer).__name__
        raise ArgumentError(sentence("frombuffer", "an object with a buffer", got)) from error
    kind = dtype_of(dtype)
    size = kind.itemsize
    rest = memory.size - offset
    if memory.size == 0 or not 0 <= offset < memory.size or count == 0:
        expected = "elements to take of the buffer"
        got = f"{memory.size} bytes, offset {offset} and count {count}"
        raise ArgumentError(sentence("frombuffer", expected, got))
    if (count < 0 and rest % size) or count * size > rest:
        expected = f"{'whole elements' if count < 0 else f'{count} elements'} of {size} bytes"
        got = f"{rest} bytes after offset {offset}"
        raise ArgumentError(sentence("frombuffer", expected, got))
    used = rest if count < 0 else count * size
    if not memory.flags.writeable:
        warn_user("frombuffer: the buffer is read-only, and its tensor cannot be written to")
    out = from_numpy(memory[offset : offset + used].view(kind.numpy))
    return out.requires_grad_() if requires_grad else out


@creation_op
def empty_strided(
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of that size and stride whose values are not defined."""
    sizes = shape_argument("empty_strided", "size", size)
    steps = shape_argument("empty_strided", "stride", stride)
    if len(sizes) != len(steps):
        expected = f"a stride of {len(sizes)} dimensions"
        raise ShapeError(sentence("empty_strided", expected, tuple(steps)))
    last = sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    memory = empty(0 if 0 in sizes else last + 1, dtype=dtype, device=device)
    out = memory.as_strided(sizes, steps).detach()
    return out.requires_grad_() if requires_grad else out


@creation_op
def empty_permuted(
    size: Sequence[int],
    physical_layout: Sequence[int],
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor whose dimensions lie in memory in the order of `physical_layout`, outermost first;
    its values are not defined."""
    sizes = shape_argument("empty_permuted", "size", size)
    order = [int_of("empty_permuted", "physical_layout", d) for d in physical_layout]
    if sorted(order) != sorted(i for i, _ in enumerate(sizes)):
        expected = f"a permutation of {len(sizes)} dimensions"
        raise ShapeError(sentence("empty_permuted", expected, tuple(order)))
    memory = empty([sizes[d] for d in order], dtype=dtype, device=device)
    out = memory.permute([order.index(d) for d, _ in enumerate(sizes)]).detach()
    return out.requires_grad_() if requires_grad else out


@creation_op
def from_file(
    filename: str | os.PathLike[str],
    shared: bool | None = None,
    size: int = 0,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """The first `size` numbers of a file, mapped into memory.

    Args:
        shared: write changes to the file, which is made, or made longer, if need be.

    Raises:
        ArgumentError: the file holds fewer numbers, `size` is negative, or a device or pinned
            memory is asked for.
    """
    kind = get_default_dtype() if dtype is None else dtype_of(dtype)
    count = int_of("from_file", "size", size)
    if count < 0:
        raise ArgumentError(sentence("from_file", "a size of at least 0", count))
    if pin_memory or (device is not None and Device(device).type != "cpu"):
        got = "pinned memory" if pin_memory else str(device)
        raise ArgumentError(sentence("from_file", "the CPU's own memory", got))
    length = count * kind.itemsize
    if shared:
        with open(filename, "ab") as file:
            if file.tell() < length:
                file.truncate(length)
    elif os.path.getsize(filename) < length:
        got = f"{filename} of {os.path.getsize(filename)}"
        raise ArgumentError(sentence("from_file", f"a file of at least {length} bytes", got))
    if not count:
        return empty(0, dtype=kind, requires_grad=requires_grad)
    numbers = np.memmap(filename, kind.numpy, "r+" if shared else "c", shape=(count,))
    return from_numpy(np.asarray(numbers)).requires_grad_(requires_grad)
