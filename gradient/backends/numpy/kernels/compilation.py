"""How the kernels are compiled: options, and a cache on disk that notices each change of source."""

from __future__ import annotations

import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core import caching

Function = TypeVar("Function", bound=Callable[..., Any])

STRICT: Any = {"error_model": "numpy", "fastmath": {"contract"}}
"""Arithmetic as written, but that a * b + c may be one rounding. For functions of one number."""

SUMS: Any = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
"""As STRICT, and sums may be taken in any order: without that LLVM does not vectorise them. The
order is settled when the kernel is compiled, so a kernel gives the same result each time."""


def kernel(function: Function) -> Function:
    """Compile an entry point: it lets go of the interpreter lock, and is kept on disk.

    Kernels are global functions of their modules, since numba finds no cached copy of a closure.
    """
    compiled = numba.njit(nogil=True, **SUMS)(function)
    compiled._cache = _KernelCache(compiled.py_func)
    return compiled


def ordered_kernel(function: Function) -> Function:
    """As `kernel`, with the arithmetic exactly as it is written."""
    compiled = numba.njit(nogil=True, error_model="numpy")(function)
    compiled._cache = _KernelCache(compiled.py_func)
    return compiled


def part(function: Function) -> Function:
    """Compile a function that kernels call."""
    return numba.njit(**SUMS)(function)


# Numba's cache compares a kernel's own source file with the one that was compiled. Ours use
# functions of other files, so the stamp is over all of them.


@functools.cache
def _stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _AllSources:
    def get_source_stamp(self) -> str:
        return _stamp()


class _UserProvided(_AllSources, caching.UserProvidedCacheLocator):
    """NUMBA_CACHE_DIR, where it is set."""


class _InTree(_AllSources, caching.InTreeCacheLocator):
    """__pycache__ beside the source."""


class _UserWide(_AllSources, caching.UserWideCacheLocator):
    """The user's cache folder, where the package's own is not writable."""


class _KernelCacheImpl(caching.CompileResultCacheImpl):
    _locator_classes = [_UserProvided, _InTree, _UserWide, *caching.CacheImpl._locator_classes]


class _KernelCache(caching.FunctionCache):
    _impl_class = _KernelCacheImpl
