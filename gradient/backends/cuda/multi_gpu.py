"""The CUDA backend on a machine with several GPUs, where CuPy uses the thread's current one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from gradient.backends import placement
from gradient.backends.array_api import Array
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.runtime import ALREADY_THERE, CupyRuntime


def open_backend(index: int) -> CudaBackend:
    """Return the backend of a GPU; it works whichever GPU is current in a thread."""
    runtime = CupyRuntime(index)
    if runtime.count == 1:
        return CudaBackend(index, runtime)
    if context_of not in placement.device_contexts:
        placement.device_contexts.append(context_of)
    if peer_carrier not in placement.direct_carriers:
        placement.direct_carriers.append(peer_carrier)
    return MultiGpuBackend(index, runtime)


def context_of(backend: Any) -> contextlib.AbstractContextManager[Any]:
    """A context in which a backend's GPU is the current one; no effect for other backends."""
    while not backend.reads_values:  # that of `vmap`
        backend = backend.inner
    if isinstance(backend, CudaBackend):
        on_device: contextlib.AbstractContextManager[Any] = backend.runtime.on_device()
        return on_device
    return ALREADY_THERE


def peer_carrier(source: Any, target: Any) -> Callable[[Array], Array] | None:
    """A function that copies arrays of one GPU to another; None unless both backends are GPUs."""
    if isinstance(source, MultiGpuBackend) and isinstance(target, MultiGpuBackend):
        return lambda x: target.copy_from(source, x)
    return None


class MultiGpuBackend(CudaBackend):
    """A backend whose methods make its GPU the current one while they run, then restore the
    previous one."""

    def copy_from(self, source: MultiGpuBackend, x: Array) -> Array:
        """Copy another GPU's array to this one, asynchronously."""
        if not isinstance(x, self.xp.ndarray):  # a recorded array: the recording ends here
            return self.asarray(source.to_numpy(x))
        self.transfers += 1  # work on streams of two GPUs cannot be captured
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
