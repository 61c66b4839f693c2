"""Print tensors with exactly the same characters as PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from gradient.backends.operators import ArrayOperators
from gradient.backends.packed import is_packed
from gradient.dtypes import default_complex_dtype, get_default_dtype
from gradient.errors import ArgumentError, sentence
from gradient.tensor import packed
from gradient.tensor.overriding import is_overriding

__all__ = ["set_printoptions"]

A = TypeVar("A", bound=ArrayOperators)


class PrintOptions:
    """The settings of `set_printoptions`."""

    precision = 4
    threshold = 1000
    edgeitems = 3
    linewidth = 80
    sci_mode: bool | None = None


PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}
"""The settings of each `profile` of `set_printoptions`."""


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed, in this process.

    Args:
        precision: digits after the decimal point.
        threshold: tensors with more elements are abbreviated.
        edgeitems: elements shown at each end of an abbreviated dimension.
        linewidth: characters per line.
        profile: "default", "short" or "full" sets all four.
        sci_mode: True turns scientific notation on, False off; None decides by the numbers.

    Raises:
        ArgumentError: there is no profile of this name.
    """
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems,
             "linewidth": linewidth}  # fmt: skip
    if profile is not None:
        if profile not in PROFILES:
            expected = f"profile one of {', '.join(PROFILES)}"
            raise ArgumentError(sentence("set_printoptions", expected, repr(profile)))
        for name, value in PROFILES[profile].items():
            setattr(PrintOptions, name, value)
    for name, value in given.items():
        if value is not None:
            setattr(PrintOptions, name, value)
    PrintOptions.sci_mode = sci_mode


def represent(tensor: Any, name: str = "tensor") -> str:
    """`tensor([1., 2.], requires_grad=True)`; a class with `__torch_function__` says its name."""
    if is_overriding(type(tensor)):
        name = type(tensor).__name__
    dtype, array = tensor.dtype, tensor.array
    if is_packed(array):
        if not dtype.elementwise:
            return packed.represent(tensor)
        array = tensor.backend.unpack(array)
    notes = []
    if not tensor.backend.reads_values:  # one of each sample of `vmap`
        body = "..."
        notes += [f"size={tuple(array.shape)}"]
    elif tensor.is_meta:
        body = "..."
        notes += [f"device='{tensor.backend.device}'", f"size={tuple(array.shape)}"]
    elif 0 in array.shape:
        body = "[]"
        if len(array.shape) != 1:
            notes.append(f"size={tuple(array.shape)}")
    else:
        body = _body(array, tensor.backend, dtype, len(name) + 1)
        if not PrintOptions.edgeitems:
            notes.append(f"size={tuple(array.shape)}")
    if tensor.backend.device not in ("cpu", "meta"):
        notes.append(f"device='{tensor.backend.device}'")
    is_default = dtype in (get_default_dtype(), default_complex_dtype())
    is_default = is_default or (dtype.name in ("int64", "bool") and body != "...")
    if not is_default or (body == "[]" and dtype is not get_default_dtype()):
        notes.append(f"dtype={dtype}")
    if tensor.node is not None:
        leaf = tensor.node.op is None
        notes.append("requires_grad=True" if leaf else f"grad_fn={tensor.node!r}")
    return f"{name}({_wrapped([body, *notes], len(name) + 1)})"


def _wrapped(parts: list[str], indent: int) -> str:
    """Join the numbers and the suffixes; a suffix that does not fit starts a new line."""
    text, last = parts[0], len(parts[0].rpartition("\n")[2])
    last += indent if "\n" not in text else 0
    for note in parts[1:]:
        if last + 2 + len(note) + 1 > PrintOptions.linewidth:
            text += ",\n" + " " * indent + note
            last = indent + len(note)
        else:
            text += ", " + note
            last += 2 + len(note)
    return text


def _body(array: Any, backend: Any, dtype: Any, indent: int) -> str:
    abbreviated = len(array.shape) > 0 and math.prod(array.shape) > PrintOptions.threshold
    if abbreviated and not PrintOptions.edgeitems:
        return "[...]"
    cuts = [abbreviated and n > 2 * PrintOptions.edgeitems for n in array.shape]
    shown = np.asarray(backend.to_numpy(_ends(array, cuts, backend)))
    if dtype.is_floating_point:
        shown = shown.astype(np.float64)
    text: Callable[[Any], str]
    if dtype.is_complex:
        text, width = _complex_text(shown)
    else:
        text, width = _aligned(shown, dtype.is_floating_point)
    return _rows(shown, cuts, text, width, indent) if cuts else text(shown.item())


def _ends(array: A, cuts: Sequence[bool], backend: Any) -> A:
    """The first and last elements of the axes that are cut: alone they are copied to the host."""
    e = PrintOptions.edgeitems
    for axis, (n, cut) in enumerate(zip(array.shape, cuts, strict=True)):
        if cut:
            before = (slice(None),) * axis
            ends = (slice(0, e), slice(n - e, n))
            parts = [backend.getitem(array, (*before, end, Ellipsis)) for end in ends]
            array = backend.concatenate(parts, axis)
    return array


def _aligned(shown: np.ndarray, floats: bool) -> tuple[Callable[[float], str], int]:
    """Return a function that formats these numbers in one width, and the width."""
    text = _float_text(shown) if floats else str
    words = [text(v) for v in shown.ravel().tolist()]
    width = max(map(len, words))
    if floats:  # nan, inf and zero do not decide the format
        counted = [w for w, v in zip(words, shown.ravel(), strict=True) if np.isfinite(v) and v]
        width = max(map(len, counted), default=1)
    return lambda value: text(value).rjust(width), width


def _complex_text(shown: np.ndarray) -> tuple[Callable[[complex], str], int]:
    """Like `_aligned`, with one width for real parts and another for imaginary parts."""
    parts = shown.real.astype(np.float64), shown.imag.astype(np.float64)
    (real, wide), (imag, more) = (_aligned(part, True) for part in parts)

    def text(value: complex) -> str:
        second = imag(value.imag).lstrip()
        return real(value.real) + ("" if second[0] in "+-" else "+") + second + "j"

    return text, wide + more + 1


def _rows(
    shown: np.ndarray, cuts: Sequence[bool], text: Callable[[Any], str], width: int, indent: int
) -> str:
    """Format nested lists; break a vector at the end of a line."""
    e = PrintOptions.edgeitems
    ends = [shown[:e], shown[e:]] if cuts[0] else [shown]
    if shown.ndim == 1:
        words = [text(v) for v in ends[0].tolist()]
        if cuts[0]:
            words += [" ...", *map(text, ends[1].tolist())]
        each = max((PrintOptions.linewidth - indent) // (width + 2), 1)
        lines = [", ".join(words[i : i + each]) for i in range(0, len(words), each)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    formatted = [[_rows(row, cuts[1:], text, width, indent + 1) for row in rows] for rows in ends]
    parts = [*formatted[0], "...", *formatted[1]] if cuts[0] else formatted[0]
    return "[" + ("," + "\n" * (shown.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _float_text(values: np.ndarray) -> Callable[[float], str]:
    """Return the format function of these floats: `1.` if all are integers, scientific notation if
    their range is wide."""
    digits = PrintOptions.precision
    finite = np.abs(values[np.isfinite(values) & (values != 0)])
    whole = bool(np.all(finite == np.ceil(finite)))
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (1.0, 1.0)
    wide = high / low > 1000.0 or high > 1.0e8 or (not whole and low < 1.0e-4)
    wide = wide if PrintOptions.sci_mode is None else PrintOptions.sci_mode and bool(finite.size)
    if wide:
        return lambda v: f"{v:.{digits}e}"
    if whole:
        return lambda v: f"{v:.0f}." if math.isfinite(v) else f"{v:.0f}"
    return lambda v: f"{v:.{digits}f}"
