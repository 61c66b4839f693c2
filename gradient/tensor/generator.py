"""Random number generators, and arrays drawn from them.

A generator is a Philox key and the number of blocks drawn so far. The same seed gives the same
numbers on every backend, with any number of threads (see `gradient.backends.composed.rng`).
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
"""All generators, by their ids."""


class Generator:
    """A stream of random numbers, set by `manual_seed`; its whole state is two numbers.

    A new one starts with a fixed seed, as in PyTorch. The default generator, for functions without
    `generator=`, starts with a seed that the operating system chooses for each process.
    """

    device: str
    key: int
    offset: int

    def __init__(self, device: DeviceLike = "cpu") -> None:
        self.device = str(Device(device))
        self.key, self.offset = 67280421310721, 0
        generators[id(self)] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, for copies and pickle."""
        self.__dict__.update(state)
        generators[id(self)] = self

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of this seed, an int from -2**63 to 2**64 - 1; return the generator."""
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
        """Start the stream of a seed that the operating system chooses; return the seed."""
        seed = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        """Return the seed of the stream."""
        seeded.asked += 1
        return self.key

    def get_state(self) -> Tensor:
        """Return key and offset as a uint8 tensor (16,)."""
        seeded.asked += 1
        state = np.array([self.key, self.offset], np.uint64).view(np.uint8)
        return wrap(state, backends.get("cpu"))

    def set_state(self, state: Tensor) -> Generator:
        """Restore the state that `get_state` returned; return the generator."""
        array = np.asarray(tensor_of("set_state", state).numpy())
        if array.dtype != np.uint8 or array.size != 16:
            kind = ArgumentError if array.dtype == np.uint8 else TypeMismatch
            got = f"{array.dtype} of {array.size}"
            raise kind(sentence("set_state", "a uint8 tensor of 16 elements", got))
        self.go_to(array.copy().view(np.uint64).tolist())
        return self

    def place(self) -> tuple[int, int]:
        """Return key and offset, for a later `go_to`."""
        return self.key, self.offset

    def go_to(self, place: Sequence[int]) -> None:
        """Restore the position that `place()` returned."""
        before, (self.key, self.offset) = self.key, place
        seeded.times += self.key != before

    def clone_state(self) -> Generator:
        """Return a new generator with the same state."""
        return Generator(self.device).set_state(self.get_state())

    def reserve(self, blocks: int) -> tuple[int, int]:
        """Advance by `blocks`; return the key and the number of the first of these blocks."""
        global drawing
        if drawing_for_samples:
            blocks *= drawing_for_samples[0][1]()
        with draw_lock:
            drawing, offset = self, self.offset
            self.offset += blocks
        return self.key, offset

    def draw(self, method: Callable[..., tuple[A, int]], n: int, of: Any) -> A:
        """Return the array of a backend's `method(key, offset, n, of)`: n numbers of a dtype or
        below a span, `of`. Advance past the blocks that it used."""
        global drawing
        if drawing_for_samples:
            drawing_for_samples[0][1]()
        with draw_lock:  # so that two threads do not get the same numbers
            drawing = self
            array, blocks = method(self.key, self.offset, n, of)
            self.offset += blocks
        return array


drawing_for_samples: list[tuple[Callable[[Backend], Backend], Callable[[], int]]] = []
"""Empty until `vmap` is imported; then two functions (`gradient.func.samples`): which backend draws
new tensors of a backend, and how many samples draw numbers of their own."""


def drawing_backend(backend: Backend) -> Backend:
    """Return the backend that draws new tensors of `backend`: another one in `vmap`."""
    return drawing_for_samples[0][0](backend) if drawing_for_samples else backend


draw_lock = new_lock()
"""Locked while numbers are drawn (one for all generators: one in each could not be copied)."""


class _Seeded(threading.local):
    times = asked = 0


seeded = _Seeded()
"""How often this thread has set a generator's key, after which its numbers do not continue the
stream, or has read a generator's state or seed. A replayed function would do neither."""

drawing: Generator | None = None
"""The generator whose `draw` or `reserve` was called last."""

default_generator = Generator()
default_generator.seed()


WIDE = float32.numpy, float64.numpy
"""The dtypes of drawn numbers; others are cast from these."""


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
    """Draw an array of `kind` "uniform" or "normal"; 16-bit floats are cast from float32."""
    global drawing
    source = default_generator if generator is None else generator_of(generator)
    wide = dtype if dtype in WIDE else float32.numpy
    method, n = getattr(backend, kind), math.prod(shape)
    if drawing_for_samples:  # like `Generator.draw`
        drawing_for_samples[0][1]()
    with draw_lock:
        drawing = source
        array, blocks = method(source.key, source.offset, n, wide)
        source.offset += blocks
    if dtype is wide:
        return backend.reshape(array, shape)
    if kind == "uniform" and dtype != wide:  # truncate: rounding could give 1
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
    """Draw an array of integers from [low, high)."""
    source = generator_of(generator)
    array = source.draw(backend.integers, math.prod(shape), high - low)
    array = backend.bitcast(array, int64.numpy)  # below 2**63
    array = array + low if low else array
    return backend.reshape(backend.astype(array, dtype), shape)
