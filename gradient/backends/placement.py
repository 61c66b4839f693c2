"""Run work on the device of its arrays, for libraries with a current device in each thread.

CuPy computes and allocates on the thread's current GPU, wherever the operands are. So on a machine
with several GPUs, each method of a backend makes its GPU the current one while it runs. Code that
only uses operators on arrays, an op's function or a gradient rule, runs by `on_device_of`.
`carrier` copies from one GPU to another.
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
    """A function that copies arrays of one backend to another: directly and asynchronously if
    possible, else through the host's memory."""
    for direct in direct_carriers:
        carry = direct(source, target)
        if carry is not None:
            return carry
    return lambda x: target.asarray(source.to_numpy(x))


def on_device_of(
    backend: Any, function: Callable[..., Result], /, *args: Any, **options: Any
) -> Result:
    """Return function(backend, ...), run with the backend's device as the current one."""
    if not device_contexts:
        return function(backend, *args, **options)
    with device_contexts[0](backend):
        return function(backend, *args, **options)
