"""Print tensors with exactly the same characters as PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.packed import is_packed
from gradient.dtypes import default_complex_dtype, get_default_dtype
from gradient.errors import ArgumentError, sentence
from gradient.tensor import packed
from gradient.tensor.overriding import is_overriding

__all__ = ["set_printoptions"]


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
    elif (array := np.asarray(tensor.backend.to_numpy(array))).size == 0:
        body = "[]"
        if array.ndim != 1:
            notes.append(f"size={tuple(array.shape)}")
    else:
        body = _body(array, dtype, len(name) + 1)
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


def _body(array: np.ndarray, dtype: Any, indent: int) -> str:
    if dtype.is_floating_point:
        array = array.astype(np.float64)
    abbreviated = array.size > PrintOptions.threshold
    shown = _summarised(array) if abbreviated else array
    text: Callable[[Any], str]
    if dtype.is_complex:
        text, width = _complex_text(shown)
    else:
        text, width = _aligned(shown, dtype.is_floating_point)
    if not array.ndim:
        return text(shown.item())
    return _rows(array, text, width, indent, abbreviated)


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
    array: np.ndarray, text: Callable[[Any], str], width: int, indent: int, abbreviated: bool
) -> str:
    """Format nested lists; break a vector at the end of a line."""
    e = PrintOptions.edgeitems
    cut = abbreviated and len(array) > 2 * e
    if array.ndim == 1:
        values = array.tolist()
        ends = [values[:e], values[-e:] if e else []] if cut else [values]
        words = [text(v) for v in ends[0]]
        if cut:
            words += [" ...", *map(text, ends[1])]
        each = max((PrintOptions.linewidth - indent) // (width + 2), 1)
        lines = [", ".join(words[i : i + each]) for i in range(0, len(words), each)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    last = array[-e:] if e else array[:0]
    parts = [
        _rows(row, text, width, indent + 1, abbreviated) for row in (array[:e] if cut else array)
    ]
    if cut:
        parts += ["...", *(_rows(row, text, width, indent + 1, abbreviated) for row in last)]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _summarised(array: np.ndarray) -> np.ndarray:
    """Return the elements that are shown of an abbreviated array."""
    e = PrintOptions.edgeitems
    for axis in range(array.ndim):
        if array.shape[axis] > 2 * e:
            keep = np.r_[0:e, array.shape[axis] - e : array.shape[axis]]
            array = np.take(array, keep, axis)
    return array


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
