"""Closeness of tensors, with a readable report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from gradient.autograd.variable import Variable
from gradient.dtypes import BY_NUMPY
from gradient.errors import TypeMismatch, sentence

__all__ = ["assert_allclose", "assert_close"]

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
    msg: str | Callable[[str], str] | None = None,
    allow_subclasses: bool = True,
    check_device: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
) -> None:
    """Raise AssertionError unless shapes, dtypes and values agree: |a - e| <= atol + rtol |e|.

    Accepts tensors, arrays, numbers and None, also in lists, tuples and dicts of the same
    structure. The default tolerances depend on the dtype, as in PyTorch.

    Args:
        check_device: two tensors must also have the same device.
        check_stride: two tensors must also have the same strides.
        msg: the beginning of the error message; or a function from our message to the whole one.
        allow_subclasses, check_layout: as in PyTorch; there is only one class and one layout.
    """
    try:
        for place, a, e in _pairs(actual, expected, ""):
            checks = (rtol, atol, equal_nan, check_dtype, check_device, check_stride)
            _compare(f"item {place}: " if place else "", a, e, *checks)
    except AssertionError as error:
        if msg is None:
            raise
        said = msg(str(error)) if callable(msg) else f"{msg}\n{error}"
        raise AssertionError(said) from None


def _pairs(actual: Any, expected: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the values to compare in two structures, with their places."""
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if actual.keys() != expected.keys():
            missing = sorted(map(repr, expected.keys() - actual.keys()))
            more = sorted(map(repr, actual.keys() - expected.keys()))
            raise AssertionError(f"keys differ: missing {missing}, additional {more}")
        for key in expected:
            yield from _pairs(actual[key], expected[key], f"{place}[{key!r}]")
    elif isinstance(actual, (list, tuple)) and isinstance(expected, (list, tuple)):
        if len(actual) != len(expected):
            raise AssertionError(f"lengths differ: {len(actual)} and expected {len(expected)}")
        for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
            yield from _pairs(a, e, f"{place}[{i}]")
    elif actual is None or expected is None:
        if actual is not expected:
            at = f"item {place}: " if place else ""
            raise AssertionError(f"{at}{actual!r}, expected {expected!r}")
    else:
        yield place, actual, expected


def _compare(
    prefix: str,
    actual: Any,
    expected: Any,
    rtol: float | None,
    atol: float | None,
    equal_nan: bool,
    check_dtype: bool,
    check_device: bool,
    check_stride: bool,
) -> None:
    a, e = _host(actual), _host(expected)
    if isinstance(actual, Variable) and isinstance(expected, Variable):
        for wanted, what, each in (
            (check_device, "devices", lambda x: x.device),
            (check_stride, "strides", lambda x: x.stride()),
        ):
            if wanted and each(actual) != each(expected):
                got = f"{each(actual)} and expected {each(expected)}"
                raise AssertionError(f"{prefix}{what} differ: {got}")
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
    whole = a.dtype.kind in "biu" and e.dtype.kind in "biu"
    shown = (a, e) if whole else (a64, e64)  # float64 cannot represent every int64
    close = np.asarray(shown[0] == shown[1])
    if rtol or atol:
        with np.errstate(all="ignore"):
            close |= np.abs(a64 - e64) <= atol + rtol * np.abs(e64)
    if equal_nan:
        close |= np.isnan(a64) & np.isnan(e64)
    if close.all():
        return
    wrong = np.argwhere(~close)
    with np.errstate(all="ignore"):
        gap = np.where(close, -1.0, np.abs(a64 - e64))
        gap = np.where(np.isnan(gap), np.inf, gap)
    worst = np.unravel_index(int(gap.argmax()), gap.shape)
    raise AssertionError(
        f"{prefix}{len(wrong)} of {a.size} elements differ (rtol {rtol:g}, atol {atol:g}); "
        f"the worst at {tuple(int(i) for i in worst)}: {shown[0][worst]!r}, "
        f"expected {shown[1][worst]!r}"
    )


def _host(value: Any) -> np.ndarray:
    if isinstance(value, Variable):
        return np.asarray(value.backend.to_numpy(value.array))
    array = np.asarray(value)
    if array.dtype.kind not in "biufcV":
        expected = "tensors, arrays and numbers, in lists, tuples and dicts"
        raise TypeMismatch(sentence("assert_close", expected, type(value).__name__))
    return array


def assert_allclose(
    actual: Any,
    expected: Any,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = True,
    msg: str = "",
) -> None:
    """The older `assert_close`: dtypes may differ, and NaN equals NaN."""
    assert_close(
        actual, expected, rtol=rtol, atol=atol, equal_nan=equal_nan,
        check_dtype=False, check_device=False, msg=msg or None,
    )  # fmt: skip
