"""The rule for 16-bit floats: compute in float32, and round once at the end."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

from gradient.dtypes import HALF_PRECISION, float32

Method = TypeVar("Method", bound=Callable[..., Any])


FEW = 1 << 12
"""Elements below which a kernel is hardly quicker than the default, which is called directly."""


def in_float32(method: Method) -> Method:
    """Decorator: let a composed default compute 16-bit float arguments in float32.

    The result (of several, the first) is rounded to the dtype of the first 16-bit argument. Other
    results (statistics such as a mean, or further gradients) stay in float32. The backend's own
    method of this name gets the float32 arguments, so a kernel for float32 serves 16 bits, too.
    """

    @functools.wraps(method)
    def run(be: Any, *args: Any, **options: Any) -> Any:
        for a in args:
            half = getattr(a, "dtype", None)
            if half is not None and half in HALF_PRECISION:
                break
        else:
            return method(be, *args, **options)
        converted = [
            be.astype(a, float32.numpy) if getattr(a, "dtype", None) in HALF_PRECISION else a
            for a in args
        ]
        if math.prod(a.shape) < FEW:
            result = method(be, *converted, **options)
        else:
            result = getattr(be, method.__name__)(*converted, **options)
        if isinstance(result, tuple):
            return be.astype(result[0], half), *result[1:]
        return be.astype(result, half)

    return cast(Method, run)
