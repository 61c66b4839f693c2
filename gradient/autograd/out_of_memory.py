"""Errors for sizes larger than a device's memory, or than any memory, with the largest tensors."""

from __future__ import annotations

import gc
import inspect
import math
import re
from collections.abc import Mapping
from typing import Any

from gradient import backends
from gradient.autograd import variable
from gradient.autograd.variable import Variable
from gradient.backends.packed import parts_of
from gradient.backends.registry import free_kept_memory
from gradient.errors import TOO_LARGE, ArgumentError, GradientError, OutOfMemoryError, sentence
from gradient.source_lines import source_line

LISTED = 6
UNITS = ("bytes", "KiB", "MiB", "GiB")
LARGEST = 2**63 - 1
"""The largest size of an array, and the largest number of its bytes."""


def beyond_memory(
    caller: str, function: Any, args: tuple[Any, ...], named: Mapping[str, Any], error: Exception
) -> GradientError | None:
    """Return the error for a call that needed more memory than there is, or than an array can have.
    None if `error` has another reason.

    Args:
        function: the called function; `args` and `named` are its arguments.
    """
    if isinstance(error, GradientError):
        return None
    if isinstance(error, MemoryError):
        tensors = [v for v in (*args, *named.values()) if isinstance(v, Variable)]
        device = named.get("device") or (
            tensors[0].backend.device if tensors else variable.default_device()
        )
        return out_of_memory(caller, backends.get(str(device)), error)
    if not re.search(TOO_LARGE, str(error)):
        return None
    given = inspect.signature(function).bind_partial(*args, **named).arguments
    for name, value in given.items():
        if any(number > LARGEST for number in _numbers(value)):
            argument = "size" if name == "sizes" else name
            return ArgumentError(sentence(caller, f"{argument} below 2**63", value))
    return OutOfMemoryError(f"{caller}: the shape has 2**63 bytes or more, which no memory holds")


def _numbers(value: Any) -> list[float]:
    """Return the numbers in an argument, such as the sizes of a shape."""
    if isinstance(value, (tuple, list)):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, (int, float)) else []


def out_of_memory(name: str, backend: Any, error: Exception) -> OutOfMemoryError:
    """Return an error with the requested size and the largest tensors on the device, with the op
    and the source line that made each. (CuPy has already emptied its cache and tried again.) What
    is kept for later use is freed, so that a smaller attempt has its memory, too."""
    free_kept_memory(backend)
    found = _largest(backend)
    held = sum(size for size, _ in found)
    lines = [f"{name}: no memory left on {backend.device}: {_asked(error)}"]
    if found:
        lines.append(f"{len(found)} tensors are alive there, with {_bytes(held)}; the largest:")
        lines += [f"  {_bytes(size):>10}  {_described(tensor)}" for size, tensor in found[:LISTED]]
    return OutOfMemoryError("\n".join(lines))


def _asked(error: Exception) -> str:
    """Say how much memory was requested: in GiB for NumPy's error, which has shape and dtype."""
    shape, dtype = getattr(error, "shape", None), getattr(error, "dtype", None)
    if not isinstance(shape, tuple) or dtype is None:
        return str(error) or "it was asked for more than there is"
    return f"{_bytes(math.prod(shape) * dtype.itemsize)} are needed for {shape} {dtype}"


def _largest(on: Any) -> list[tuple[int, Variable]]:
    """Return the tensors on a device with their sizes in bytes, the largest first. Of tensors that
    share memory only one is listed: the owner if it is alive."""
    of_memory: dict[int, tuple[int, bool, Variable]] = {}
    for tensor in gc.get_objects():
        # Not isinstance: for a weak proxy it raises an error if the object was freed.
        if not issubclass(type(tensor), Variable) or id(getattr(tensor, "backend", None)) != id(on):
            continue
        parts = parts_of(tensor.array)
        size: int = sum(_size(part, on.storage(part)) for part in parts)
        key, owns = id(on.storage(parts[0])), not on.is_view(parts[0])
        if key not in of_memory or of_memory[key][:2] < (size, owns):
            of_memory[key] = size, owns, tensor
    found = sorted(of_memory.values(), key=lambda each: -each[0])
    return [(size, tensor) for size, _, tensor in found]


def _size(part: Any, storage: Any) -> int:
    """Return the bytes of an array; for an expanded one at most those of its memory."""
    size: int = part.dtype.itemsize * math.prod(part.shape)
    return min(size, getattr(storage, "nbytes", size))


def _described(tensor: Variable) -> str:
    array, node = tensor.array, tensor.node
    text = f"{tuple(array.shape)} {getattr(array.dtype, 'name', array.dtype)}"
    if node is not None and node.op is not None:
        name = node.op.public_name
        while not hasattr(node, "location") and node.parents and node.parents[0] is not None:
            node = node.parents[0]  # views and one of several results: the call made the memory
        if node.op is None or not hasattr(node, "location"):
            return f"{text}, made by {name}"
        return f"{text}, made by {node.op.public_name} at {source_line(node.location)}"
    wanted = getattr(tensor, "requires_grad", False)
    return f"{text}, {'a leaf with requires_grad' if wanted else 'outside the graph'}"


def _bytes(size: float) -> str:
    unit = 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if unit == 0 else f"{size:,.1f} {UNITS[unit]}"
