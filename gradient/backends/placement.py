"""Work on the device where its arrays lie, for libraries that have one current in each thread.

CuPy computes, and makes results, on the thread's current GPU, wherever the operands lie. On a
machine with several GPUs, each method of a backend therefore makes its own current while it runs;
what is said in operators on arrays alone, an op's function or a gradient rule, runs by
`on_device_of`. Such a machine may also copy from one GPU to another: `carrier` says how.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

Result = TypeVar("Result")

device_contexts: list[Callable[[Any], AbstractContextManager[Any]]] = []
"""Empty where nothing is to be done; else gives a context in which a backend's device is the
current one."""

direct_carriers: list[Callable[[Any, Any], Callable[[Any], Any] | None]] = []
"""Each gives, for two backends, what copies an array of the first to the second without the host,
or None."""


def carrier(source: Any, target: Any) -> Callable[[Any], Any]:
    """What copies an array of one backend to another: directly where it can, which is not waited
    for, else through the host's memory."""
    for direct in direct_carriers:
        carry = direct(source, target)
        if carry is not None:
            return carry
    return lambda x: target.asarray(source.to_numpy(x))


def on_device_of(
    backend: Any, function: Callable[..., Result], /, *args: Any, **options: Any
) -> Result:
    """function(backend, ...) with the device of the backend as the current one."""
    if not device_contexts:
        return function(backend, *args, **options)
    with device_contexts[0](backend):
        return function(backend, *args, **options)
