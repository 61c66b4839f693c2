"""Kernels whose source is made while the program runs (`fused`), each compiled once for good."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite
import numba

from gradient.backends.numpy.kernels import compilation
from gradient.backends.numpy.kernels.compilation import kernel


@kernel
def _anchor(start, stop):
    """Nothing: it says where compiled kernels are kept."""


def folder() -> Path | None:
    """Where sources are kept: beside the compiled kernels; None where nothing can be kept."""
    kept = getattr(_anchor, "_cache", None)
    path = getattr(kept, "cache_path", None)
    return None if path is None else Path(path) / "generated"


@functools.cache
def kernel_of(source: str) -> Any:
    """The kernel `fused` of this source: loaded, or compiled at its first call.

    numba keeps what it compiled by the path and the time of a source file. So the file is named by
    its contents and by what else decides the machine code, and is written once, in one piece.
    """
    stamp = f"{source}\n{compilation._stamp()}\n{numba.__version__} {llvmlite.__version__}"
    name = f"fused_{hashlib.sha256(stamp.encode()).hexdigest()[:24]}"
    where = folder()
    path = None
    if where is not None:
        path = where / f"{name}.py"
        with contextlib.suppress(OSError):
            if not path.exists():
                where.mkdir(parents=True, exist_ok=True)
                _write(path, source)
    if path is not None and path.exists():
        spec: Any = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where numba looks for it as it loads what it has kept
        spec.loader.exec_module(module)
    else:
        module = ModuleType(name)
        exec(compile(source, f"<{name}>", "exec"), vars(module))
    return module.fused


def _write(path: Path, text: str) -> None:
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
