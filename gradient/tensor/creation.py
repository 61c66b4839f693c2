"""Functions that make tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient import backends
from gradient.autograd.variable import Variable, wrap
from gradient.dtypes import BY_NUMPY, DType, dtype_of, float64, get_default_dtype, int64
from gradient.errors import ArgumentError, DTypeError, TypeMismatch, sentence
from gradient.tensor.arguments import (
    fitting,
    int_of,
    limits,
    number_of,
    shape_argument,
    size_argument,
    size_of,
    tensor_of,
)
from gradient.tensor.base import TensorBase
from gradient.tensor.packed import refuse, same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradient.autograd.variable import Number
    from gradient.backends import Backend
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor
    from gradient.tensor.device import DeviceLike

__all__ = [
    "allclose",
    "arange",
    "as_tensor",
    "asarray",
    "empty",
    "empty_like",
    "equal",
    "eye",
    "full",
    "full_like",
    "is_floating_point",
    "is_tensor",
    "linspace",
    "logspace",
    "numel",
    "ones",
    "ones_like",
    "tensor",
    "tril_indices",
    "triu_indices",
    "zeros",
    "zeros_like",
]

PYTHON_NUMBERS = {bool, int, float}


def finished(array: Any, backend: Backend, requires_grad: bool) -> Tensor:
    out = wrap(array, backend)
    if requires_grad is not False and requires_grad is not None:
        if requires_grad is not True:
            raise TypeMismatch(sentence("requires_grad", "True or False", repr(requires_grad)))
        out.requires_grad = True
    return out


def _dtype(dtype: DTypeLike | None) -> np.dtype:
    return (get_default_dtype() if dtype is None else dtype_of(dtype)).numpy


def _backend(device: DeviceLike) -> Any:
    return backends.get("cpu" if device is None else str(device))


def tensor(
    data: Any,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor with a copy of `data`: a number, nested sequences, a NumPy array, a tensor.

    Python floats give the default float dtype, ints int64, bools bool; arrays keep their dtype.
    """
    return finished(*_converted(data, dtype, device, copy=True), requires_grad)


def as_tensor(data: Any, dtype: DTypeLike | None = None, device: DeviceLike = None) -> Tensor:
    """As `tensor`, but without a copy where none is needed; a tensor stays in its graph."""
    if isinstance(data, TensorBase):
        return data.to(dtype=dtype, device=device)
    return wrap(*_converted(data, dtype, device, copy=False))


asarray = as_tensor


def _converted(
    data: Any, dtype: DTypeLike | None, device: DeviceLike, copy: bool
) -> tuple[Any, Backend]:
    wanted = None if dtype is None else dtype_of(dtype).numpy
    if isinstance(data, Variable):
        source = data.backend
        backend = source if device is None else _backend(device)
        array = source.copy(data.array) if copy else data.array
        if backend is not source:
            array = backend.asarray(source.to_numpy(array))
        return (array if wanted is None else backend.astype(array, wanted)), backend
    backend = _backend(device)
    if isinstance(data, np.ndarray):
        dtype_of(data.dtype)
        host = data.astype(wanted or data.dtype, copy=copy)
        if copy and host.base is not None:
            host = host.copy()
        return backend.asarray(host), backend
    host = _from_python(data, wanted)
    return backend.asarray(host), backend


def _from_python(data: Any, wanted: np.dtype | None) -> np.ndarray:
    """Numbers in nested sequences (tensors and arrays among them) as an array."""
    own: set[DType] = set()  # of tensors, arrays and NumPy scalars among the numbers
    nested = isinstance(data, (list, tuple))
    if nested:
        data = _without_tensors(data, own)
    elif hasattr(data, "dtype"):
        own.add(dtype_of(data.dtype))
    try:
        host = np.array(data)
    except ValueError:
        raise ArgumentError(
            "tensor: expected a rectangular nesting of sequences, got rows of unequal length"
        ) from None
    if host.dtype == np.uint64 and not own or host.dtype == object and _culprit(data) == "int":
        raise ArgumentError("tensor: expected ints from -2**63 to 2**63 - 1, got a larger one")
    if host.dtype == object or host.dtype.kind in "USOMmc":
        raise TypeMismatch(f"tensor: could not infer dtype of {_culprit(data)}")
    if wanted is not None:
        return held(host, wanted).astype(wanted)
    python_float = host.dtype == np.float64 and float64 not in own
    if python_float or (host.size == 0 and nested and not own):
        return host.astype(_dtype(None))
    dtype_of(host.dtype)
    return host


def held(host: np.ndarray, wanted: np.dtype) -> np.ndarray:
    """`host`, if integers of the dtype `wanted` can hold its numbers."""
    if wanted.kind in "iu" and host.size and not np.can_cast(host.dtype, wanted):
        low, high = limits(dtype_of(wanted))
        low = -high if wanted.kind == "u" and host.dtype.kind == "i" else low
        beyond = host[~((host >= low) & (host <= high))]  # NaN is beyond, too
        if beyond.size:
            fitting("tensor", "data", beyond.flat[0].item(), dtype_of(wanted))
    return host


def _without_tensors(data: Any, own: set[DType]) -> Any:
    """Nested sequences with numbers for one-element tensors; adds to `own` the dtypes met."""
    if set(map(type, data)) <= PYTHON_NUMBERS:
        return data
    result = []
    for value in data:
        if isinstance(value, (list, tuple)):
            value = _without_tensors(value, own)
        elif isinstance(value, TensorBase):
            if value.numel() != 1:
                raise ArgumentError(
                    "tensor: expected tensors of one element in a sequence, got shape "
                    f"{tuple(value.array.shape)}; use stack() to join larger ones"
                )
            own.add(value.dtype)
            number = value.item()
            value = number if value.array.dtype.kind == "V" else value.array.dtype.type(number)
        elif hasattr(value, "dtype"):
            own.add(dtype_of(value.dtype))
        result.append(value)
    return result


def _culprit(data: Any) -> str:
    while isinstance(data, (list, tuple)) and data:
        strange = [v for v in data if type(v) not in PYTHON_NUMBERS]
        data = strange[0] if strange else data[0]
    return type(data).__name__


# Filled ------------------------------------------------------------------------------------------


def empty(
    *sizes: int | Sequence[int],
    size: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor whose values are not defined."""
    backend = _backend(device)
    return finished(backend.empty(size_of(sizes, size), _dtype(dtype)), backend, requires_grad)


def zeros(
    *sizes: int | Sequence[int],
    size: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of the given shape."""
    backend = _backend(device)
    return finished(backend.zeros(size_of(sizes, size), _dtype(dtype)), backend, requires_grad)


def ones(
    *sizes: int | Sequence[int],
    size: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of the given shape."""
    backend = _backend(device)
    return finished(backend.ones(size_of(sizes, size), _dtype(dtype)), backend, requires_grad)


def full(
    size: Sequence[int],
    fill_value: Tensor | Number,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """`fill_value` in the given shape; its type gives the dtype."""
    backend = _backend(device)
    shape = shape_argument("full", "size", size)
    fill_value = number_of("full", "fill_value", fill_value)
    if dtype is None:
        dtype = type(fill_value) if isinstance(fill_value, (bool, int)) else None
    kind = _dtype(dtype)
    fill_value = fitting("full", "fill_value", fill_value, dtype_of(kind))
    return finished(backend.full(shape, fill_value, kind), backend, requires_grad)


def _like(
    op: str, input: Tensor, dtype: DTypeLike | None, device: DeviceLike
) -> tuple[tuple[int, ...], np.dtype, Backend]:
    tensor_of(op, input)
    if dtype is None:
        refuse(op, input)
    backend = input.backend if device is None else _backend(device)
    return input.array.shape, input.array.dtype if dtype is None else _dtype(dtype), backend


def empty_like(
    input: Tensor,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """An uninitialised tensor of the shape, dtype and device of `input`."""
    shape, kind, backend = _like("empty_like", input, dtype, device)
    return finished(backend.empty(shape, kind), backend, requires_grad)


def zeros_like(
    input: Tensor,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of the shape, dtype and device of `input`."""
    shape, kind, backend = _like("zeros_like", input, dtype, device)
    return finished(backend.zeros(shape, kind), backend, requires_grad)


def ones_like(
    input: Tensor,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of the shape, dtype and device of `input`."""
    shape, kind, backend = _like("ones_like", input, dtype, device)
    return finished(backend.ones(shape, kind), backend, requires_grad)


def full_like(
    input: Tensor,
    fill_value: Tensor | Number,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """`fill_value` in the shape, dtype and device of `input`."""
    shape, kind, backend = _like("full_like", input, dtype, device)
    fill_value = number_of("full_like", "fill_value", fill_value)
    fill_value = fitting("full_like", "fill_value", fill_value, dtype_of(kind))
    return finished(backend.full(shape, fill_value, kind), backend, requires_grad)


# Sequences ----------------------------------------------------------------------------------------


def arange(
    start: Number | Tensor,
    end: Number | Tensor | None = None,
    step: Number | Tensor = 1,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... below end; int64 where all three are ints."""
    if end is None:
        start, end = 0, start
    numbers = [number_of("arange", "start, end and step", v) for v in (start, end, step)]
    if dtype is not None and _dtype(dtype) == int64.numpy and all(map(math.isfinite, numbers)):
        numbers = [int(v) for v in numbers]  # as PyTorch, which counts in int64 there
    if numbers[2] == 0:
        raise ArgumentError(sentence("arange", "a step that is not 0", 0))
    if not (math.isfinite(numbers[0]) and math.isfinite(numbers[1])):
        raise ArgumentError(
            sentence("arange", "finite ends", f"start {numbers[0]} and end {numbers[1]}")
        )
    if (numbers[1] - numbers[0]) * numbers[2] < 0:
        got = f"start {numbers[0]}, end {numbers[1]} and step {numbers[2]}"
        raise ArgumentError(sentence("arange", "a step that leads from start to end", got))
    if dtype is None:
        whole = all(isinstance(v, (int, np.integer)) for v in numbers)
        dtype = int64 if whole else get_default_dtype()
    backend = _backend(device)
    kind = _dtype(dtype)
    if kind == int64.numpy:  # counted in whole numbers, those of fewer bits by what is given
        numbers = [int(v) for v in numbers]
        if numbers[2] == 0:
            raise ArgumentError(sentence("arange", "a step that is not 0 as int64", step))
    if all(isinstance(v, (int, np.integer)) for v in numbers) and kind.kind not in "fV":
        array = backend.astype(backend.arange(*map(int, numbers), int64.numpy), kind)  # wraps
    else:  # count steps first, so that rounding cannot add one
        n = max(math.ceil((numbers[1] - numbers[0]) / numbers[2]), 0)
        if kind.kind not in "fV":
            numbers = [int(v) for v in numbers]  # as PyTorch: also a step of less than 1
        steps = backend.arange(0, n, 1, float64.numpy)
        array = backend.astype(steps * numbers[2] + numbers[0], kind)
    return finished(array, backend, requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers from start to end, evenly spaced, both included."""
    backend = _backend(device)
    start, end = (number_of("linspace", "start and end", v) for v in (start, end))
    steps = size_argument("linspace", "steps", steps)
    i = backend.arange(0, steps, 1, float64.numpy)
    kind = _dtype(dtype)
    if kind.kind not in "fV":  # whole ends, as PyTorch takes them
        start, end = int(start), int(end)
    step = (end - start) / (steps - 1) if steps > 1 else 0.0
    # From either end to the middle, so that both ends are exact.
    low, high = i * step + start, (i - (steps - 1)) * step + end
    array = backend.where(i < steps / 2, low, high)
    return finished(backend.astype(array, kind), backend, requires_grad)


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
    if _dtype(dtype).kind not in "fV":  # as linspace
        start, end = int(start), int(end)
    exponents = linspace(start, end, steps, dtype=float64, device=device)
    powers = (base**exponents).to(dtype or get_default_dtype())
    return finished(powers.array, powers.backend, requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones on the diagonal, zeros elsewhere: (n, m)."""
    backend = _backend(device)
    n = size_argument("eye", "n", n)
    m = n if m is None else size_argument("eye", "m", m)
    row = backend.reshape(backend.arange(0, n, 1, int64.numpy), (n, 1))
    column = backend.arange(0, m, 1, int64.numpy)
    return finished(backend.astype(row == column, _dtype(dtype)), backend, requires_grad)


def tril_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: DTypeLike = int64,
    device: DeviceLike = None,
) -> Tensor:
    """The (2, N) indices of a lower triangle."""
    return _triangle_indices("tril_indices", np.tril_indices, row, col, offset, dtype, device)


def triu_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: DTypeLike = int64,
    device: DeviceLike = None,
) -> Tensor:
    """The (2, N) indices of an upper triangle."""
    return _triangle_indices("triu_indices", np.triu_indices, row, col, offset, dtype, device)


def _triangle_indices(
    caller: str,
    indices: Callable[..., Any],
    row: int,
    col: int,
    offset: int,
    dtype: DTypeLike,
    device: DeviceLike,
) -> Any:
    row, col = size_argument(caller, "row", row), size_argument(caller, "col", col)
    dtype = int64 if dtype is None else dtype
    if dtype_of(dtype).kind != "int":
        raise DTypeError(sentence(caller, "an integer dtype", dtype_of(dtype)))
    offset = int_of(caller, "offset", offset)
    return tensor(np.stack(indices(row, offset, col)), dtype=dtype, device=device)


# Questions ----------------------------------------------------------------------------------------


def is_tensor(value: Any) -> bool:
    """Whether `value` is a Tensor."""
    return isinstance(value, Variable)


def numel(input: Tensor) -> int:
    """The number of elements."""
    return tensor_of("numel", input).numel()


def allclose(
    input: Tensor,
    other: Tensor,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> bool:
    """Whether all elements are close (see `Tensor.isclose`)."""
    close = tensor_of("allclose", input).isclose(
        tensor_of("allclose", other), rtol, atol, equal_nan
    )
    return bool(close.all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Same shape and same elements; of packed tensors, the same blocks of the same dtype."""
    packed = [tensor_of("equal", x).dtype.is_packed for x in (input, other)]
    if any(packed):
        return all(packed) and same(input, other)
    return input.array.shape == other.array.shape and bool((input == other).all())


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype of `input` is a floating-point one."""
    return BY_NUMPY[tensor_of("is_floating_point", input).array.dtype].is_floating_point
