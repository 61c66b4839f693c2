"""How a tensor prints: as PyTorch prints it, with NumPy's formatting of the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes import BY_NUMPY, get_default_dtype


class PrintOptions:
    """What `set_printoptions` sets."""

    precision = 4
    threshold = 1000
    edgeitems = 3
    linewidth = 80


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
) -> None:
    """Digits after the point, from how many elements to abbreviate, how many of each end to show,
    characters a line."""
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems,
             "linewidth": linewidth}  # fmt: skip
    for name, value in given.items():
        if value is not None:
            setattr(PrintOptions, name, value)


def represent(tensor: Any, name: str = "tensor") -> str:
    """`tensor([1., 2.], requires_grad=True)`"""
    array = tensor.backend.to_numpy(tensor.array)
    dtype = BY_NUMPY[array.dtype]
    notes = []
    if array.size == 0:
        body = "[]"
        if array.ndim != 1:
            notes.append(f"size={tuple(array.shape)}")
    else:
        body = _body(array, dtype, len(name) + 1)
    if tensor.backend.device != "cpu":
        notes.append(f"device='{tensor.backend.device}'")
    plain = dtype is get_default_dtype() or dtype.name in ("int64", "bool")
    if not plain or (array.size == 0 and dtype is not get_default_dtype()):
        notes.append(f"dtype={dtype}")
    if tensor.node is not None:
        leaf = tensor.node.op is None
        notes.append("requires_grad=True" if leaf else f"grad_fn={tensor.node!r}")
    return f"{name}({', '.join([body, *notes])})"


def _body(array: np.ndarray, dtype: Any, indent: int) -> str:
    options = PrintOptions
    shown = array.astype(np.float64) if dtype.is_floating_point else array
    if dtype.is_floating_point:
        sample = _summarised(shown)
        formatter: Any = _float_formatter(sample)
    elif dtype.kind == "bool":
        width = max(len(str(v)) for v in _summarised(shown).ravel().tolist()) if array.ndim else 0
        formatter = lambda v: str(bool(v)).rjust(width)  # noqa: E731
    else:
        width = max(len(str(v)) for v in _summarised(shown).ravel().tolist()) if array.ndim else 0
        formatter = lambda v: str(int(v)).rjust(width)  # noqa: E731
    return np.array2string(
        shown,
        max_line_width=options.linewidth,
        threshold=options.threshold,
        edgeitems=options.edgeitems,
        separator=", ",
        prefix=" " * indent,
        formatter={"all": formatter},
    )


def _summarised(array: np.ndarray) -> np.ndarray:
    """The elements that will be shown."""
    if array.size <= PrintOptions.threshold:
        return array
    e = PrintOptions.edgeitems
    for axis in range(array.ndim):
        if array.shape[axis] > 2 * e:
            keep = np.r_[0:e, array.shape[axis] - e : array.shape[axis]]
            array = np.take(array, keep, axis)
    return array


def _float_formatter(values: np.ndarray) -> Any:
    """PyTorch's choice: `1.` where all are whole, scientific where the range is wide."""
    digits = PrintOptions.precision
    finite = np.abs(values[np.isfinite(values) & (values != 0)])
    whole = bool(np.all(finite == np.ceil(finite)))
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if whole:
        scientific = bool(finite.size) and (high / low > 1000.0 or high > 1.0e8)
        plain = "{:.0f}."
    else:
        scientific = high / low > 1000.0 or high > 1.0e8 or low < 1.0e-4
        plain = f"{{:.{digits}f}}"
    template = f"{{:.{digits}e}}" if scientific else plain

    def text(v: float) -> str:
        if not np.isfinite(v):
            return str(float(v))
        return template.format(v)

    width = max((len(text(v)) for v in values.ravel().tolist()), default=0) if values.ndim else 0
    return lambda v: text(v).rjust(width)
