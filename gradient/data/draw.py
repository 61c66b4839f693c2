"""The random numbers of the data pipeline, as Python integers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from gradient.random import rand, randint, randperm
from gradient.tensor.generator import Generator, default_generator


def permutation(count: int, generator: Generator | None) -> list[int]:
    """0 to count - 1 in random order."""
    return randperm(count, generator=generator).tolist()


def integers(bound: int, count: int, generator: Generator | None) -> list[int]:
    """`count` integers from 0 to bound - 1, each as likely."""
    return randint(0, bound, (count,), generator=generator).tolist()


def uniforms(count: int, generator: Generator | None) -> np.ndarray:
    """`count` numbers in [0, 1), float64."""
    return rand(count, generator=generator, dtype="float64").numpy()


def seed(generator: Generator | None) -> int:
    """A seed for another generator."""
    return int(randint(0, 2**63 - 1, (1,), generator=generator).item())


def start_all(number: int) -> None:
    """Seed all that a dataset may draw from: Python's, NumPy's and gradient's generators."""
    random.seed(number)
    np.random.seed(number % 2**32)
    default_generator.manual_seed(number)


@contextmanager
def numbers_from(number: int) -> Iterator[None]:
    """Within the block these generators start from seed `number`; after it they go on as before."""
    python, ours = random.getstate(), default_generator.get_state()
    numpy = np.random.get_state(legacy=False)  # as a dict, which is twice as fast
    start_all(number)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        default_generator.set_state(ours)
