"""Closeness of tensors, with a readable report."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.autograd.variable import Variable
from gradient.dtypes import BY_NUMPY

TOLERANCES = {  # relative, absolute: PyTorch's defaults
    "complex128": (1e-7, 1e-7),
    "complex64": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
    "float32": (1.3e-6, 1e-5),
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
}


def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_dtype: bool = True,
    msg: str | None = None,
) -> None:
    """Raise AssertionError unless shapes, dtypes and values agree: |a - e| <= atol + rtol |e|.

    Tensors, arrays and numbers; the tolerances' defaults depend on the dtype, as PyTorch's.
    """
    a, e = _host(actual), _host(expected)
    prefix = f"{msg}\n" if msg else ""
    if a.shape != e.shape:
        raise AssertionError(f"{prefix}shapes differ: {a.shape} and expected {e.shape}")
    if check_dtype and a.dtype != e.dtype:
        raise AssertionError(f"{prefix}dtypes differ: {a.dtype} and expected {e.dtype}")
    names = [BY_NUMPY[x.dtype].name for x in (a, e) if x.dtype in BY_NUMPY]
    defaults = [TOLERANCES.get(name, (0.0, 0.0)) for name in names] or [(0.0, 0.0)]
    rtol = max(d[0] for d in defaults) if rtol is None else rtol
    atol = max(d[1] for d in defaults) if atol is None else atol
    wide: Any = np.complex128 if "c" in (a.dtype.kind, e.dtype.kind) else np.float64
    a64, e64 = a.astype(wide), e.astype(wide)
    with np.errstate(all="ignore"):
        close = np.abs(a64 - e64) <= atol + rtol * np.abs(e64)
    close |= a64 == e64
    if equal_nan:
        close |= np.isnan(a64) & np.isnan(e64)
    if close.all():
        return
    wrong = np.argwhere(~close)
    with np.errstate(all="ignore"):
        gap = np.where(close, 0.0, np.abs(a64 - e64))
        gap = np.where(np.isnan(gap), np.inf, gap)
    worst = np.unravel_index(int(gap.argmax()), gap.shape)
    raise AssertionError(
        f"{prefix}{len(wrong)} of {a.size} elements differ (rtol {rtol:g}, atol {atol:g}); "
        f"the worst at {tuple(int(i) for i in worst)}: {a64[worst]!r}, expected {e64[worst]!r}"
    )


def _host(value: Any) -> np.ndarray:
    if isinstance(value, Variable):
        return np.asarray(value.backend.to_numpy(value.array))
    return np.asarray(value)
