"""The CUDA backend on a machine with several GPUs, of which CuPy uses the thread's current one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from gradient.backends import placement
from gradient.backends.array_api import Array
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.runtime import ALREADY_THERE, CupyRuntime


def open_backend(index: int) -> CudaBackend:
    """The backend of a GPU, whichever is current in a thread."""
    runtime = CupyRuntime(index)
    if runtime.count == 1:
        return CudaBackend(index, runtime)
    if context_of not in placement.device_contexts:
        placement.device_contexts.append(context_of)
    if peer_carrier not in placement.direct_carriers:
        placement.direct_carriers.append(peer_carrier)
    return MultiGpuBackend(index, runtime)


def context_of(backend: Any) -> contextlib.AbstractContextManager[Any]:
    """A context in which the GPU of a backend is the current one; nothing changes for others."""
    if isinstance(backend, CudaBackend):
        on_device: contextlib.AbstractContextManager[Any] = backend.runtime.on_device()
        return on_device
    return ALREADY_THERE


def peer_carrier(source: Any, target: Any) -> Callable[[Array], Array] | None:
    """What copies an array of one GPU to another; None unless both backends are of GPUs."""
    if isinstance(source, MultiGpuBackend) and isinstance(target, MultiGpuBackend):
        return lambda x: target.copy_from(source, x)
    return None


class MultiGpuBackend(CudaBackend):
    """A backend whose methods all run with its GPU as the current one, which it is no more after
    them if it was not before."""

    def copy_from(self, source: MultiGpuBackend, x: Array) -> Array:
        """A copy of another GPU's array on this one, which is not waited for."""
        if not isinstance(x, self.xp.ndarray):  # one that is recorded, which ends there
            return self.asarray(source.to_numpy(x))
        self.transfers += 1  # the streams of two GPUs are in no graph
        source.transfers += 1
        x = x if x.flags.c_contiguous else source.contiguous(x)
        return self.runtime.copy_from(source.runtime, x)


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
