"""Generators of random numbers, and arrays drawn from them.

A generator is a Philox key and the number of blocks drawn so far: the same seed gives the same
numbers on every backend and for every number of threads (see `gradient.backends.composed.rng`).
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gradient import backends
from gradient.autograd.variable import wrap
from gradient.dtypes import dtype_of, finfo, float32, float64, int64
from gradient.errors import ArgumentError, TypeMismatch, sentence
from gradient.locks import new_lock
from gradient.tensor.arguments import tensor_of
from gradient.tensor.device import Device

if TYPE_CHECKING:
    from gradient.backends import Backend
    from gradient.backends.operators import ArrayOperators
    from gradient.tensor.core import Tensor
    from gradient.tensor.device import DeviceLike

A = TypeVar("A")

generators: weakref.WeakValueDictionary[int, Generator] = weakref.WeakValueDictionary()
"""All of them, by their ids."""


class Generator:
    """A stream of random numbers, set by `manual_seed`; its whole state is two numbers.

    A new one starts from a fixed seed, as PyTorch's do. The default generator, from which all draw
    that are given none, starts from one that the operating system chooses for each process.
    """

    device: str
    key: int
    offset: int

    def __init__(self, device: DeviceLike = "cpu") -> None:
        self.device = str(Device(device))
        self.key, self.offset = 67280421310721, 0
        generators[id(self)] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy."""
        self.__dict__.update(state)
        generators[id(self)] = self

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of that seed."""
        try:
            seed = int(seed)
        except (TypeError, ValueError) as error:
            kind = ArgumentError if isinstance(error, ValueError) else TypeMismatch
            raise kind(sentence("manual_seed", "an int", repr(seed))) from None
        if not -(2**63) <= seed < 2**64:
            raise ArgumentError(sentence("manual_seed", "a seed from -2**63 to 2**64 - 1", seed))
        self.key, self.offset = seed % 2**64, 0
        seeded.times += 1
        return self

    def seed(self) -> int:
        """Start a stream that the operating system chooses; returns its seed."""
        seed = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        """The seed that the stream started from."""
        seeded.asked += 1
        return self.key

    def get_state(self) -> Tensor:
        """Key and offset, as a uint8 tensor (16,)."""
        seeded.asked += 1
        state = np.array([self.key, self.offset], np.uint64).view(np.uint8)
        return wrap(state, backends.get("cpu"))

    def set_state(self, state: Tensor) -> Generator:
        """Go to where `get_state` was called."""
        array = np.asarray(tensor_of("set_state", state).numpy())
        if array.dtype != np.uint8 or array.size != 16:
            kind = ArgumentError if array.dtype == np.uint8 else TypeMismatch
            got = f"{array.dtype} of {array.size}"
            raise kind(sentence("set_state", "a uint8 tensor of 16 elements", got))
        self.go_to(array.copy().view(np.uint64).tolist())
        return self

    def place(self) -> tuple[int, int]:
        """Key and offset, for what comes back with `go_to`."""
        return self.key, self.offset

    def go_to(self, place: Sequence[int]) -> None:
        """Go where `place()` was called."""
        before, (self.key, self.offset) = self.key, place
        seeded.times += self.key != before

    def clone_state(self) -> Generator:
        """Another generator at the same place."""
        return Generator(self.device).set_state(self.get_state())

    def reserve(self, blocks: int) -> tuple[int, int]:
        """The key, and the first of so many blocks of the stream, past which this steps."""
        global drawing
        with draw_lock:
            drawing, offset = self, self.offset
            self.offset += blocks
        return self.key, offset

    def draw(self, method: Callable[..., tuple[A, int]], n: int, of: Any) -> A:
        """The array of a backend's `method(key, offset, n, of)`: n numbers of a dtype or below a
        span. Steps past the blocks it used."""
        global drawing
        with draw_lock:  # or two threads would get the same numbers
            drawing = self
            array, blocks = method(self.key, self.offset, n, of)
            self.offset += blocks
        return array


draw_lock = new_lock()
"""Held while numbers are drawn (by all generators alike: a lock of each could not be copied)."""


class _Seeded(threading.local):
    times = asked = 0


seeded = _Seeded()
"""How often this thread has set a generator's key, so that what that draws does not follow on, and
asked for a generator's state or seed, which a replayed function does not do."""

drawing: Generator | None = None
"""The one that `draw` or `reserve` was called of last."""

default_generator = Generator()
default_generator.seed()


WIDE = float32.numpy, float64.numpy
"""The dtypes in which numbers are drawn."""


def generator_of(generator: Generator | None) -> Generator:
    if generator is None:
        return default_generator
    if not isinstance(generator, Generator):
        raise TypeMismatch(sentence("generator", "a Generator or None", repr(generator)))
    return generator


def draw(
    generator: Generator | None,
    backend: Backend,
    kind: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> ArrayOperators:
    """An array of `kind` "uniform" or "normal"; 16-bit floats are cast from float32."""
    source = default_generator if generator is None else generator_of(generator)
    wide = dtype if dtype in WIDE else float32.numpy
    array = source.draw(getattr(backend, kind), math.prod(shape), wide)
    if dtype is wide:
        return backend.reshape(array, shape)
    if kind == "uniform" and dtype != wide:  # cut, not rounded: rounding up would give 1
        step = finfo(dtype_of(dtype)).eps / 2
        array = backend.floor(array * (1 / step)) * step
    return backend.reshape(backend.astype(array, dtype), shape)


def draw_integers(
    generator: Generator | None,
    backend: Backend,
    shape: tuple[int, ...],
    low: int,
    high: int,
    dtype: np.dtype,
) -> ArrayOperators:
    """An array of whole numbers from [low, high)."""
    source = generator_of(generator)
    array = source.draw(backend.integers, math.prod(shape), high - low)
    array = backend.astype(array, int64.numpy)
    array = array + low if low else array
    return backend.reshape(backend.astype(array, dtype), shape)
