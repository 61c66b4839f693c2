"""The random numbers of the data pipeline, as Python integers."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.random import mtrand

from gradient.random import rand, randint, randperm
from gradient.tensor.generator import Generator, default_generator


def permutation(count: int, generator: Generator | None) -> list[int]:
    """0 to count - 1 in random order."""
    return randperm(count, generator=generator).tolist()


def integers(bound: int, count: int, generator: Generator | None) -> list[int]:
    """`count` integers from 0 to bound - 1, with equal probability."""
    return randint(0, bound, (count,), generator=generator).tolist()


def uniforms(count: int, generator: Generator | None) -> np.ndarray:
    """`count` numbers in [0, 1), float64."""
    return rand(count, generator=generator, dtype="float64").numpy()


def seed(generator: Generator | None) -> int:
    """A seed for another generator."""
    return int(randint(0, 2**63 - 1, (1,), generator=generator).item())


def seed_all(number: int) -> None:
    """Seed all generators that a dataset may use: Python's, NumPy's and gradient's."""
    random.seed(number)
    np.random.seed(number % 2**32)
    default_generator.manual_seed(number)


@contextmanager
def numbers_from(number: int) -> Iterator[None]:
    """Within the block these generators start from seed `number`; then they continue as before."""
    python, ours = random.getstate(), default_generator.get_state()
    with _numpy.lent():
        seed_all(number)
        try:
            yield
        finally:
            random.setstate(python)
            default_generator.set_state(ours)


class _GlobalNumPy:
    """The generator of `np.random.rand` and similar functions, replaced without a copy of its
    state. (A copy takes longer than the rest of the work for a small batch.)

    The replacement drops the second of a pair of normal numbers, if only the first was drawn. So
    the state is still copied if anything was drawn since it was last known that there is none.
    """

    def __init__(self) -> None:
        self._instead = np.random.MT19937(0)
        self._without_second: bytes | None = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Within the block, `np.random` uses a replaced generator, which must be seeded first."""
        theirs, state = mtrand.get_bit_generator(), None
        lent = theirs is self._instead  # already, by a loader in a dataset or in another thread
        if lent or self._without_second is None or _words(theirs) != self._without_second:
            state = np.random.get_state(legacy=False)
        if not lent:
            mtrand.set_bit_generator(self._instead)
        try:
            yield
        finally:
            if not lent:
                mtrand.set_bit_generator(theirs)
                self._without_second = _words(theirs)
            if state is not None and (lent or state["has_gauss"]):
                np.random.set_state(state)
                self._without_second = None


def _words(generator: np.random.BitGenerator) -> bytes | None:
    """The state of a Mersenne Twister: 624 words of 32 bits, and how many of them are used."""
    if type(generator) is not np.random.MT19937:
        return None
    return ctypes.string_at(generator.ctypes.state_address, 4 * 625)


_numpy = _GlobalNumPy()
