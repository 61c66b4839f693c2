"""Compile kernels: options, a thread without signals, and a cache on disk.

The disk cache is numba's, extended so that it notices every change of source and never fails.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import numba
from llvmlite.binding import Linkage, ffi
from numba.core import caching, lowering
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.sigutils import normalize_signature
from numba.core.typed_passes import BaseNativeLowering, NativeLowering
from numba.extending import register_jitable

from gradient.backends.numpy import ahead, claims, compiler
from gradient.backends.numpy.kernels.cpu import BYTES

Kernel = Callable[..., Any]
"""A compiled function: numba infers the types of its arguments, which are not annotated."""

STRICT: Any = {"error_model": "numpy", "fastmath": {"contract"}}
"""Arithmetic as written, but that a * b + c may be one rounding. For functions of one number."""

SUMS: Any = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
"""As STRICT, and sums may be taken in any order: without that LLVM does not vectorise them. The
order is settled when the kernel is compiled, but not in a loop that also writes to an array: it is
compiled twice, and runs unvectorised where what is written lies just behind what is read. So sums
have loops of their own, and a kernel gives the same result wherever its arrays lie."""

ORDERED: Any = {"error_model": "numpy"}
"""Arithmetic as written."""

ffi.register_lock_callback(compiler.llvm_lock.acquire, compiler.llvm_lock.release)


class _WideFunction(lowering.Lower):
    """A function whose loops LLVM vectorises with whole registers. For Intel's processors, LLVM's
    default is half registers, so that they do not lower their clock. Those with our AVX-512 paths
    hardly lower it, and polynomials take up to 1.4 times as long with half registers."""

    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        if BYTES == 64:  # not by the set's own `add`, which does not know names with values
            set.add(self.function.attributes, '"prefer-vector-width"="512"')


@register_pass(mutates_CFG=True, analysis_only=False)
class _WideLowering(BaseNativeLowering):
    """Lowers functions as `_WideFunction`, and makes kernels independent of each other.

    Numba copies a subroutine into each kernel that calls it, optimises it there, and exports it as
    a weak symbol: of all copies the process uses the one that is loaded first. These copies can add
    in different orders, so a kernel's bits would depend on which kernels were used before it, and
    on whether it was just compiled or read from the cache. A copy that is internal is its kernel's.
    """

    _name = "gradient_wide_lowering"
    lowering_class = _WideFunction

    def run_pass(self, state: Any) -> bool:
        if not state.flags.no_cpython_wrapper:  # a kernel, no subroutine
            library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
            library.enable_object_caching()
            library._optimize_final_module = functools.partial(_optimize_and_close, library)
            state.library = library
        done: bool = super().run_pass(state)
        return done


def _optimize_and_close(library: Any) -> None:
    """Optimise a kernel's module as numba does, then make the copies of subroutines internal."""
    type(library)._optimize_final_module(library)
    for function in library._final_module.functions:
        if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
            function.linkage = Linkage.internal


class _Compiler(CompilerBase):
    """Numba's compiler, with `_WideFunction`."""

    def define_pipelines(self) -> list[Any]:
        passes = PassManager("nopython")
        for each, why in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            passes.add_pass(_WideLowering if each is NativeLowering else each, why)
        passes.finalize()
        return [passes]


def kernel(function: Callable[..., Any]) -> Kernel:
    """Compile an entry point, which releases the GIL and is cached on disk.

    Kernels are global functions of their modules, since numba finds no cached copy of a closure.
    """
    return _entry_point(function, SUMS)


def strict_kernel(function: Callable[..., Any]) -> Kernel:
    """As `kernel`, but without reassociation, for kernels without sums, or with sums in a
    `subroutine`. Otherwise LLVM could turn (x - high) - log of a log-softmax into x - (high + log),
    where a large `high` absorbs the digits of `log`."""
    return _entry_point(function, STRICT)


def ordered_kernel(function: Callable[..., Any]) -> Kernel:
    """As `kernel`, with the arithmetic exactly as it is written."""
    return _entry_point(function, ORDERED)


def subroutine(function: Callable[..., Any]) -> Kernel:
    """Compile a function that kernels call."""
    return _subroutine(function, SUMS)


def ordered_subroutine(function: Callable[..., Any]) -> Kernel:
    """As `subroutine`, with the arithmetic exactly as it is written, so that it gives the same bits
    in each kernel that calls it."""
    return _subroutine(function, ORDERED)


def inlined(function: Callable[..., Any]) -> Kernel:
    """Compile a function as part of each kernel that calls it, with that kernel's options. This is
    for large functions: LLVM compiles a subroutine first alone, then again in the kernel."""
    return numba.njit(inline="always", _nrt=_makes_arrays(function))(function)


def of_numbers(function: Callable[..., Any]) -> Kernel:
    """Compile a function of numbers into the loops of kernels, however long it is: LLVM turns a
    loop over it into vectors only if it has no call."""
    made: Kernel = register_jitable(forceinline=True, **STRICT)(function)
    return made


def _subroutine(function: Callable[..., Any], options: Any) -> Kernel:
    return numba.njit(
        no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=_Compiler,
        _nrt=_makes_arrays(function), **options,
    )(function)  # fmt: skip


def _entry_point(function: Callable[..., Any], options: Any) -> Kernel:
    compiled: Any = numba.njit(
        nogil=True, no_cfunc_wrapper=True, pipeline_class=_Compiler,
        _nrt=_makes_arrays(function), **options,
    )(function)  # fmt: skip
    # Called by numba's dispatcher for new types.
    compiled._compile_for_args = functools.partial(compiler.run, compiled._compile_for_args)
    compiled._cache = _cache_of(function)
    return compiled


def compiled_for(kernel: Any, arguments: tuple[Any, ...]) -> Callable[..., None]:
    """The compiled function of a kernel for arguments of these types. It does not check types, so
    it must only be called with arrays of these."""
    kinds = tuple(map(numba.typeof, arguments))
    if kinds not in kernel.overloads:
        compiler.run(kernel.compile, kinds)
    found: Callable[..., None] = kernel.overloads[kinds].entry_point
    return found


def compile_for(kernel: Any, kinds: str) -> None:
    """Compile a kernel for arguments of these types, in numba's words: "int64, float32[::1]"."""
    compiler.run(kernel.compile, normalize_signature(f"({kinds},)")[0])


MAKERS = {"empty", "zeros", "full"}
"""NumPy's functions by which kernels make arrays."""


def _makes_arrays(function: Callable[..., Any]) -> bool:
    """Whether a function makes arrays, by MAKERS or by calling a function above it that does.

    Only then it is compiled with numba's runtime (`_nrt`), which counts references to arrays: 20 ns
    for each array argument, and 25 for each row slice. Without the runtime, a function cannot
    return an array either.
    """
    names = function.__code__.co_names
    known = (function.__globals__.get(name) for name in names)
    return not MAKERS.isdisjoint(names) or any(
        getattr(each, "targetoptions", {}).get("_nrt") is True for each in known
    )


# The cache ----------------------------------------------------------------------------------------
#
# Numba's own compares a kernel's source file with the one that was compiled. Ours use functions of
# other files, so the stamp is over all of them. It also goes into the file of each compiled kernel:
# a process that was killed between writing the index and that file leaves them at odds. So do two
# that compile a kernel for different types at a time: numba numbers the files by an index that each
# has read before the other wrote it, and would then load one's code for the other's types. Ours are
# named after what they were compiled for, and say it.


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

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        if os.environ.get("XDG_CACHE_HOME") == "":  # counts as unset; numba would go by it
            del os.environ["XDG_CACHE_HOME"]
        if not os.path.isabs(os.path.expanduser("~")) and "XDG_CACHE_HOME" not in os.environ:
            return None  # a user without a home, for whom numba would make a folder named ~
        return super().from_function(py_func, py_file)


class _KernelCacheImpl(caching.CompileResultCacheImpl):
    _locator_classes = [_UserProvided, _InTree, _UserWide]

    def reduce(self, data: Any) -> Any:
        return _stamp(), super().reduce(data)

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        stamp, rest = payload
        return super().rebuild(target_context, rest) if stamp == _stamp() else None


class _KernelFiles(caching.IndexDataCacheFile):
    def save(self, key: Any, data: Any) -> None:
        name = self._name_of(key)
        with claims.alone(self._index_path):
            self._save_data(name, (key, data))
            overloads = self._load_index()
            if not overloads:  # of other sources, if there were any
                self._remove_all_but(name)
            if overloads.get(key) != name:
                self._save_index({**overloads, key: name})

    def flush(self) -> None:
        with claims.alone(self._index_path):
            super().flush()

    def path_of(self, key: Any) -> str:
        """The file of the kernel that was compiled for `key`."""
        return os.path.join(self._cache_path, self._name_of(key))

    def _name_of(self, key: Any) -> str:
        # Not of its pickle, which has numbers that numba gives types in the order of their making.
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return f"{self._index_name.removesuffix('.nbi')}.{digest}.nbc"

    def load(self, key: Any) -> Any:
        found = super().load(key)
        return found[1] if found is not None and found[0] == key else None

    def _remove_all_but(self, name: str) -> None:
        """Remove the kernels that no index will name any more."""
        base = self._index_name.removesuffix("nbi")
        for path in pathlib.Path(self._cache_path).glob(f"{glob.escape(base)}*.nbc"):
            if path.name != name:
                with contextlib.suppress(OSError):
                    path.unlink()


class _KernelCache(caching.FunctionCache):
    _impl_class = _KernelCacheImpl

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _KernelFiles(self._cache_path, self._impl.filename_base, _stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = self._found(sig, target_context)
        if found is None:
            compiler.progress.begin(self._py_func.__name__)
            ahead.begin()
            key = self._index_key(sig, target_context.codegen())
            if claims.claim(self._cache_file.path_of(key)):
                found = self._found(sig, target_context)
        if found is not None:
            _forget_copy(found.library)
        return found

    def _found(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged file: this kernel's begin anew
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_once(str(error))
        _forget_copy(data.library)


def _forget_copy(library: Any) -> None:
    """Free the kernel's intermediate code, up to some MiB, which numba keeps for what would be
    compiled to call it: nothing does, a kernel is an entry point."""
    if getattr(library, "_shared_module", None) is not None:
        library._shared_module.close()
        library._shared_module = None


class _NoCache(caching.NullCache):
    def __init__(self, name: str) -> None:
        self._name = name

    def load_overload(self, sig: Any, target_context: Any) -> None:
        compiler.progress.begin(self._name, kept=False)


def _cache_of(function: Callable[..., Any]) -> Any:
    try:
        return _KernelCache(function)
    except RuntimeError:  # numba's, where no locator has a folder
        folder = os.path.join(os.path.dirname(__file__), "__pycache__")
        _warn_once(f"{folder} cannot be written, nor can the user's cache folder")
        return _NoCache(function.__name__)


_warned = False


def _warn_once(reason: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            "kernels are compiled anew by each process, which takes up to a minute, as they cannot "
            f"be kept: {reason}. Set NUMBA_CACHE_DIR to a folder that can be written",
            stacklevel=2,
        )
