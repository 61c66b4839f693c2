"""Functions that make tensors."""

from __future__ import annotations

import math
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient import backends
from gradient.autograd import variable
from gradient.autograd.modes import inference_used, mode
from gradient.autograd.out_argument import creation_op, creation_op_like
from gradient.dtypes import default_complex_dtype, dtype_of, float64, get_default_dtype, int64
from gradient.dtypes.float8 import Float8
from gradient.errors import ArgumentError, DTypeError, TypeMismatch, sentence
from gradient.tensor.arguments import (
    LARGEST,
    fitting,
    int_of,
    number_of,
    shape_argument,
    size_argument,
    size_of,
)
from gradient.tensor.device import default_changed, default_device
from gradient.tensor.float8 import Codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradient.autograd.variable import Number
    from gradient.backends import Backend
    from gradient.dtypes import DType
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor
    from gradient.tensor.device import DeviceLike
    from gradient.tensor.float8 import Maker

__all__ = [
    "arange",
    "empty",
    "eye",
    "full",
    "linspace",
    "logspace",
    "ones",
    "tril_indices",
    "triu_indices",
    "zeros",
]


def finished(array: Any, backend: Backend, requires_grad: bool) -> Tensor:
    """Make a new leaf tensor of an array."""
    out: Any = variable.new_tensor()  # like `wrap`
    out.array = array
    out.backend = backend
    out.node = out._grad = out.view_info = out.views = None
    if inference_used and mode.inference:
        out.inference = True
    if requires_grad is not False and requires_grad is not None:
        if requires_grad is not True:
            raise TypeMismatch(sentence("requires_grad", "True or False", repr(requires_grad)))
        out.requires_grad = True
    made: Tensor = out
    return made


def maker(backend: Backend, dtype: DTypeLike | None) -> tuple[Maker, np.dtype | DType]:
    """Return the maker of arrays of a dtype, the backend or `Codes`, and the dtype to pass to
    it."""
    if dtype is None:
        return backend, get_default_dtype().numpy
    found = dtype_of(dtype)
    return (Codes(backend), found) if isinstance(found, Float8) else (backend, found.numpy)


def _dtype(dtype: DTypeLike | None) -> np.dtype:
    return (get_default_dtype() if dtype is None else dtype_of(dtype)).numpy


def backend_of(device: DeviceLike) -> Backend:
    """Return the backend for an argument `device`; None means the default device."""
    if device is None:
        return backends.get(default_device() if default_changed else "cpu")
    return backends.get(str(device))


def turned_back(array: object, backend: Backend, order: list[int] | None) -> object:
    """Undo a permutation: return a view of `array`, whose dimensions are in `order`, with each back
    in its place. None: `array` itself."""
    if order is None:
        return array
    from gradient.backends.memory_order import positions  # rarely needed

    return backend.permute(array, tuple(positions(order)))


# Filled ------------------------------------------------------------------------------------------


@creation_op
def empty(
    *sizes: int | Sequence[int],
    size: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    memory_format: object = None,
) -> Tensor:
    """Make an uninitialised tensor."""
    backend = backend_of(device)
    make, kind = maker(backend, dtype)
    shape = size_of(sizes, size)
    if memory_format is not None:
        from gradient.tensor.layout import order_in  # few programs name one

        order = order_in("empty", memory_format, shape, preserves=False)
        if order is not None and isinstance(kind, np.dtype):
            array = turned_back(backend.empty(tuple(shape[d] for d in order), kind), backend, order)
            return finished(array, backend, requires_grad)
    return finished(make.empty(shape, kind), backend, requires_grad)


@creation_op
def zeros(
    *sizes: int | Sequence[int],
    size: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of the given shape."""
    backend = backend_of(device)
    make, kind = maker(backend, dtype)
    return finished(make.zeros(size_of(sizes, size), kind), backend, requires_grad)


@creation_op
def ones(
    *sizes: int | Sequence[int],
    size: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of the given shape."""
    backend = backend_of(device)
    make, kind = maker(backend, dtype)
    return finished(make.ones(size_of(sizes, size), kind), backend, requires_grad)


@creation_op
def full(
    size: Sequence[int],
    fill_value: Tensor | Number,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor filled with `fill_value`; the default dtype is that of its type."""
    backend = backend_of(device)
    shape = shape_argument("full", "size", size)
    fill_value = number_of("full", "fill_value", fill_value, takes_complex=True)
    if dtype is None:
        if isinstance(fill_value, complex):
            dtype = default_complex_dtype()
        elif isinstance(fill_value, (bool, int)):
            dtype = type(fill_value)
    make, kind = maker(backend, dtype)
    fill_value = fitting("full", "fill_value", fill_value, dtype_of(kind))
    return finished(make.full(shape, fill_value, kind), backend, requires_grad)


# Sequences ----------------------------------------------------------------------------------------


@creation_op
def arange(
    start: Number | Tensor | None = None,
    end: Number | Tensor | None = None,
    step: Number | Tensor = 1,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return start, start + step, ... below end; int64 if all three are ints."""
    if start is None or end is None:
        start, end = 0, start if end is None else end
    if (
        (dtype is None and type(start) is type(end) is type(step) is int)
        and -LARGEST <= start < end <= LARGEST
        and 0 < step <= LARGEST
    ):
        backend = backend_of(device)
        array = backend.arange(start, end, step, int64.numpy)
        return finished(array, backend, requires_grad)
    numbers = [number_of("arange", "start, end and step", v) for v in (start, end, step)]
    if dtype is not None and _dtype(dtype) == int64.numpy and all(map(math.isfinite, numbers)):
        numbers = [int(v) for v in numbers]  # as in PyTorch, which counts in int64 here
    if numbers[2] == 0:
        raise ArgumentError(sentence("arange", "a step that is not 0", 0))
    if not (math.isfinite(numbers[0]) and math.isfinite(numbers[1])):
        raise ArgumentError(
            sentence("arange", "finite ends", f"start {numbers[0]} and end {numbers[1]}")
        )
    if (numbers[1] - numbers[0]) * numbers[2] < 0:
        got = f"start {numbers[0]}, end {numbers[1]} and step {numbers[2]}"
        raise ArgumentError(sentence("arange", "a step that leads from start to end", got))
    if any(isinstance(v, int) and not -LARGEST - 1 <= v <= LARGEST for v in numbers):
        got = f"start {numbers[0]}, end {numbers[1]} and step {numbers[2]}"
        raise ArgumentError(sentence("arange", "ints from -2**63 to 2**63 - 1", got))
    if dtype is None:
        whole = all(isinstance(v, (int, Integral)) for v in numbers)
        dtype = int64 if whole else get_default_dtype()
    backend = backend_of(device)
    kind = _dtype(dtype)
    if kind == int64.numpy:  # count in ints; for fewer bits, with the numbers as given
        numbers = [int(v) for v in numbers]
        if numbers[2] == 0:
            raise ArgumentError(sentence("arange", "a step that is not 0 as int64", step))
    if all(isinstance(v, (int, Integral)) for v in numbers) and kind.kind not in "fVc":
        first, end, by = map(int, numbers)
        array = backend.astype(backend.arange(first, end, by, int64.numpy), kind)  # wraps
    else:  # count steps first, so that rounding cannot add one
        n = max(math.ceil((numbers[1] - numbers[0]) / numbers[2]), 0)
        if n > LARGEST:
            got = f"start {numbers[0]}, end {numbers[1]} and step {numbers[2]}"
            raise ArgumentError(sentence("arange", "less than 2**63 numbers", got))
        if kind.kind not in "fVc":
            numbers = [int(v) for v in numbers]  # as in PyTorch, even a step below 1
        steps = backend.arange(0, n, 1, float64.numpy)
        array = backend.astype(steps * numbers[2] + numbers[0], kind)
    return finished(array, backend, requires_grad)


@creation_op
def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `steps` evenly spaced numbers from start to end, both included."""
    backend = backend_of(device)
    start, end = (number_of("linspace", "start and end", v) for v in (start, end))
    steps = size_argument("linspace", "steps", steps)
    i = backend.arange(0, steps, 1, float64.numpy)
    kind = _dtype(dtype)
    if kind.kind not in "fVc":  # integer ends, as in PyTorch
        start, end = int(start), int(end)
    # In float32 as in PyTorch: the step is rounded, its multiples are added with one rounding.
    own = np.float32 if kind == np.float32 else np.float64
    step = float(own(own(end) - own(start)) / own(steps - 1)) if steps > 1 else 0.0
    start, end = float(own(start)), float(own(end))
    # From either end to the middle, so that both ends are exact.
    low, high = i * step + start, (i - (steps - 1)) * step + end
    array = backend.where(i < max(steps // 2, 1), low, high)
    return finished(backend.astype(array, kind), backend, requires_grad)


@creation_op
def logspace(
    start: float,
    end: float,
    steps: int,
    base: float = 10.0,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """base ** linspace(start, end, steps)"""
    start, end = (number_of("logspace", "start and end", v) for v in (start, end))
    steps = size_argument("logspace", "steps", steps)
    if _dtype(dtype).kind not in "fVc":  # as linspace
        start, end = int(start), int(end)
    exponents = linspace(start, end, steps, dtype=float64, device=device)
    powers = (base**exponents).to(dtype or get_default_dtype())
    return finished(powers.array, powers.backend, requires_grad)


@creation_op
def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make a matrix (n, m) with ones on the diagonal and zeros elsewhere; m is n by default."""
    backend = backend_of(device)
    n = size_argument("eye", "n", n)
    m = n if m is None else size_argument("eye", "m", m)
    row = backend.reshape(backend.arange(0, n, 1, int64.numpy), (n, 1))
    column = backend.arange(0, m, 1, int64.numpy)
    return finished(backend.astype(row == column, _dtype(dtype)), backend, requires_grad)


@creation_op_like
def tril_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: DTypeLike = int64,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return the indices (2, N), rows and columns, of a matrix's lower triangle."""
    found = _triangle_indices("tril_indices", True, row, col, offset, dtype)
    return finished(backend_of(device).asarray(found), backend_of(device), requires_grad)


@creation_op_like
def triu_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: DTypeLike = int64,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return the indices (2, N), rows and columns, of a matrix's upper triangle."""
    found = _triangle_indices("triu_indices", False, row, col, offset, dtype)
    return finished(backend_of(device).asarray(found), backend_of(device), requires_grad)


def _triangle_indices(
    caller: str,
    lower: bool,
    row: int,
    col: int,
    offset: int,
    dtype: DTypeLike,
) -> np.ndarray:
    row, col = size_argument(caller, "row", row), size_argument(caller, "col", col)
    dtype = int64 if dtype is None else dtype
    if dtype_of(dtype).kind != "int":
        raise DTypeError(sentence(caller, "an integer dtype", dtype_of(dtype)))
    offset = int_of(caller, "offset", offset)
    return triangle_places(row, col, offset, lower, _dtype(dtype))


def triangle_places(row: int, col: int, offset: int, lower: bool, dtype: np.dtype) -> np.ndarray:
    """Rows and columns (2, N) of the elements of a triangle."""
    # How many columns of each row are below its part of the triangle, or in it if it is the lower.
    row_numbers = np.arange(row)
    counts = np.minimum(np.maximum(row_numbers + (offset + lower), 0), col)
    first = 0 if lower else counts
    counts = counts if lower else col - counts
    ends = counts.cumsum()
    out = np.empty((2, int(ends[-1]) if row else 0), dtype)
    out[0] = row_numbers.repeat(counts)
    shift = (ends - counts - first).repeat(counts)
    np.subtract(np.arange(shift.size), shift, out=out[1], casting="unsafe")
    return out
