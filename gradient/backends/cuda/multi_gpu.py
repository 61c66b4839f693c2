"""The CUDA backend on a machine with several GPUs, of which CuPy uses the thread's current one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from gradient.backends import placement
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.runtime import ALREADY_THERE, CupyRuntime


def open_backend(index: int) -> CudaBackend:
    """The backend of a GPU, whichever is current in a thread."""
    runtime = CupyRuntime(index)
    if runtime.count == 1:
        return CudaBackend(index, runtime)
    if context_of not in placement.device_contexts:
        placement.device_contexts.append(context_of)
    return MultiGpuBackend(index, runtime)


def context_of(backend: Any) -> contextlib.AbstractContextManager[Any]:
    """A context in which the GPU of a backend is the current one; nothing changes for others."""
    if isinstance(backend, CudaBackend):
        on_device: contextlib.AbstractContextManager[Any] = backend.runtime.on_device()
        return on_device
    return ALREADY_THERE


class MultiGpuBackend(CudaBackend):
    """A backend whose methods all run with its GPU as the current one, which it is no more after
    them if it was not before."""


def _on_device(name: str) -> Callable[..., Any]:
    def method(self: MultiGpuBackend, *args: Any, **options: Any) -> Any:
        with self.runtime.on_device():
            return getattr(super(MultiGpuBackend, self), name)(*args, **options)

    method.__name__ = name
    method.__doc__ = getattr(CudaBackend, name).__doc__
    return method


for _name in dir(CudaBackend):
    if not _name.startswith("_") and callable(getattr(CudaBackend, _name)):
        setattr(MultiGpuBackend, _name, _on_device(_name))
