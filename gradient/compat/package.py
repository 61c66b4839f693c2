"""Names of the package itself: numbers, the types of old, and switches that change nothing here."""

from __future__ import annotations

import math
from typing import Any

from gradient.backends.matmul_precision import (
    get_float32_matmul_precision,
    set_float32_matmul_precision,
)
from gradient.compat.types import *  # noqa: F403
from gradient.compat.types import TensorOf
from gradient.compat.types import __all__ as _types
from gradient.dtypes import DType as dtype
from gradient.dtypes import dtype_of, set_default_dtype
from gradient.errors import TypeMismatch, sentence

__all__ = [
    *_types,
    "are_deterministic_algorithms_enabled",
    "dtype",
    "e",
    "get_float32_matmul_precision",
    "inf",
    "nan",
    "newaxis",
    "pi",
    "set_default_tensor_type",
    "set_float32_matmul_precision",
    "set_num_interop_threads",
    "use_deterministic_algorithms",
]

inf, nan, pi, e, newaxis = math.inf, math.nan, math.pi, math.e, None


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Nothing to switch: on the CPU results are the same to the bit, for any number of threads."""


def are_deterministic_algorithms_enabled() -> bool:
    return True


def set_num_interop_threads(num: int) -> None:
    """Nothing to switch: ops run one after another."""


def set_default_tensor_type(t: Any) -> None:
    """`set_default_dtype` by one of the old types, or its name."""
    if isinstance(t, str):
        t = globals().get(t.rpartition(".")[2])
    if not isinstance(t, TensorOf):
        raise TypeMismatch(sentence("set_default_tensor_type", "a type such as FloatTensor", t))
    set_default_dtype(dtype_of(t.dtype))
