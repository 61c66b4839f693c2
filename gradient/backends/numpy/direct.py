"""Kernels called at once on the small arrays of common calls.

By `threads.parallel_for` a kernel begins in 0.5 us: it looks who listens and how many chunks there
are, numba at the type of each argument. Where an op has found out what its arrays are, so that one
letter tells all types, that is half of the time of many a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.numpy import kernels, threads

MANY = 1 << 14
"""Elements from which a kernel may have several chunks."""


class Direct(dict[str, "Callable[..., None] | None"]):
    """A kernel `(start, stop, *arguments)`, by the letter of its arrays' dtype, which it does not
    look at: all must be contiguous, aligned, writable, and have these numbers of dimensions.

        SOFTMAX = Direct("norms", "softmax", lambda x: (x.reshape(1, 1), x.reshape(1, 1)))
        if (kernel := SOFTMAX.of(x)) is not None:
            kernel(0, len(x), x, out)  # both (rows, columns)

    `arguments` gives some of these types, for an array of one number.
    """

    def __init__(
        self, family: str, name: str, arguments: Callable[[np.ndarray], tuple[Any, ...]]
    ) -> None:
        super().__init__()
        self._family, self._name, self._arguments = family, name, arguments

    def of(self, x: np.ndarray) -> Callable[..., None] | None:
        """The kernel, if `x` is an array of float32 or float64, neither too small to be worth it
        nor of several chunks, contiguous, aligned and writable. None until some kernel has been
        loaded, and while a plan listens to what `parallel_for` is asked."""
        if kernels.MIN_SIZE <= x.size < MANY and x.flags.carray and not threads.listeners:
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
