"""Numba kernels of the NumPy backend, a module for each family, and the choice of calls for them.

Importing this package does not import numba. Its modules do, and `load` imports them at the first
call that needs a kernel: a program with small arrays never waits for numba or a compilation.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import Any

import numpy as np

from gradient.backends import small_calls
from gradient.backends.numpy import compiler
from gradient.dtypes import HALF_PRECISION, float16

MIN_SIZE = 1 << 12
"""Elements below which NumPy is quick enough not to wake numba for. A kernel of 4096 takes a fifth
(softmax) to a fiftieth (gelu) of the composed functions' time."""

MIN_ROW = 576
"""Elements of a row, such as a token's in a language model, from which kernels of whole rows take
even one, in place of ten calls of NumPy: the width of the smallest models in common use (SmolLM).
Those of a short script have shorter rows."""

FLOATS = np.dtype(np.float32), np.dtype(np.float64)
"""A tuple: hashing a dtype, as a set does, takes longer than all of `supports`."""

INT64 = np.dtype(np.int64)
"""A dtype is compared with another in a third of the time that it takes with a type."""


awake = False
"""Whether a kernel has been loaded: from then on those that have NumPy's bits do what alone is not
worth waking numba for."""


def supports(x: Any, *others: Any) -> bool:
    """Whether kernels take an operation on these arrays: x is large (or `small_calls` are repeated)
    and contiguous, all arrays are float32 or all float64, and there are kernels. None is ignored.
    """
    if not (
        type(x) is np.ndarray
        and (x.size >= MIN_SIZE or (x.size > 0 and small_calls.are_repeated()))
        and x.dtype in FLOATS
        and x.flags.c_contiguous
    ):
        return False
    dtype = x.dtype
    for o in others:
        if o is not None and o.dtype is not dtype and o.dtype != dtype:
            return False
    return available()


def supports_rows(x: Any, *others: Any) -> bool:
    """As `supports`, for kernels that also take 16-bit floats, and few rows if they are long."""
    if not (
        type(x) is np.ndarray
        and (
            x.size >= MIN_SIZE
            or (
                x.ndim > 0
                and (x.shape[-1] >= MIN_ROW or (x.size > 0 and small_calls.are_repeated()))
            )
        )
        and x.flags.c_contiguous
    ):
        return False
    dtype = x.dtype
    for o in others:
        if o is not None and o.dtype is not dtype and o.dtype != dtype:
            return False
    return available() if dtype in FLOATS else computes(dtype)


@functools.cache
def computes(dtype: np.dtype) -> bool:
    """Whether kernels compute in this float dtype, including 16-bit floats."""
    if dtype not in FLOATS and dtype not in HALF_PRECISION:
        return False
    return available() and (dtype != float16.numpy or load("linear").converts_float16())


def contiguous(x: np.ndarray) -> np.ndarray:
    """`x`, or a copy if it is not contiguous, aligned and writable: numba compiles a kernel
    separately for such arrays."""
    return x if type(x) is np.ndarray and x.flags.carray else np.array(x, order="C", subok=False)


@functools.cache
def load(family: str) -> Any:
    """The module of a family of kernels, imported at the first call."""
    global awake
    module = compiler.run(importlib.import_module, f"{__name__}.{family}")
    awake = True
    return module


@functools.cache
def available() -> bool:
    """Whether there are kernels. The first call imports numba, and warns if it cannot be used.

    If numba does not support this version of NumPy or Python, its import fails. With
    NUMBA_DISABLE_JIT, which is for debugging, kernels would run as Python, or not at all.
    """
    try:
        if not compiler.run(importlib.import_module, "numba").config.DISABLE_JIT:
            return True
        fix = "(NUMBA_DISABLE_JIT is set); unset it"
    except ImportError as error:
        fix = f"({error}); pip install --upgrade numba"
    warnings.warn(
        "without numba the CPU runs compositions of NumPy functions in place of kernels, "
        f"several times slower {fix}",
        stacklevel=2,
    )
    return False
