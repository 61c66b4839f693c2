"""Kernels called directly for the small arrays of common calls.

`threads.parallel_for` takes 0.5 us to start a kernel: it checks for listeners and the number of
chunks, and numba checks the type of each argument. For small arrays, this is half of the time of
many kernels. If an op knows its arrays, so that one dtype letter determines all types, it can skip
these checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.numpy import kernels
from gradient.backends.numpy.threads import listeners

ndarray = np.ndarray  # a faster look-up

MANY = 1 << 14
"""Elements from which a kernel may have several chunks."""


class Direct(dict[str, "Callable[..., None] | None"]):
    """Compiled kernels `(start, stop, *arguments)` by the letter of their arrays' dtype. They do
    not check arguments: arrays must be contiguous, aligned, writable, and of the right dimensions.

        SOFTMAX = Direct("norms", "softmax", lambda x: (x.reshape(1, 1), x.reshape(1, 1)))
        if (kernel := SOFTMAX.of(x)) is not None:
            kernel(0, len(x), x, out)  # both (rows, columns)

    `arguments` returns example arguments of the right types, from an array of one number.
    """

    def __init__(
        self, family: str, name: str, arguments: Callable[[np.ndarray], tuple[Any, ...]]
    ) -> None:
        super().__init__()
        self._family, self._name, self._arguments = family, name, arguments

    def of(self, x: np.ndarray) -> Callable[..., None] | None:
        """The kernel for x, a contiguous, aligned, writable array of float32 or float64 that is
        large enough and fits in one chunk; else None. Also None until a kernel has been loaded, and
        while a plan listens to `parallel_for`. (A subclass may be of two dimensions when flat.)"""
        if (
            kernels.MIN_SIZE <= x.size < MANY
            and type(x) is ndarray
            and x.flags.carray
            and not listeners
        ):
            return self[x.dtype.char]
        return None

    def __missing__(self, char: str) -> Callable[..., None] | None:
        if not kernels.awake:
            return None
        found = None
        if char in "fd":
            kernel = getattr(kernels.load(self._family), self._name)
            compiled = kernels.load("compilation").compiled_for
            found = compiled(kernel, (0, 0, *self._arguments(np.ones(1, char))))
        self[char] = found
        return found
