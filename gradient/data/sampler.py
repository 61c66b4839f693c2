"""Samplers: the order of samples, and their division into batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar, cast

import numpy as np

from gradient.checks import Limit, boolean, check_arguments, integer
from gradient.data import draw
from gradient.errors import ArgumentError, TypeMismatch
from gradient.tensor.generator import Generator

__all__ = [
    "BatchSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]

T_co = TypeVar("T_co", covariant=True)


class Sampler(Generic[T_co]):
    """Indices of a dataset, one by one: subclasses define `__iter__` and, if known, `__len__`.

    A loader's position is saved as the number of batches drawn, and restored by drawing as many
    again. So your own sampler should draw its random numbers from `self.generator`, or from
    gradient's default generator if that is None.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class SequentialSampler(Sampler[int]):
    """All samples, in order."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """All samples in random order, or any number of them drawn with replacement.

    Args:
        replacement: draw each sample independently of the others.
        num_samples: number of samples to draw; default: the dataset's length. Without replacement,
            a larger number goes through the dataset again, in another order.
        generator: default: a new one in each pass, seeded from the default generator.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        check_arguments(
            "RandomSampler",
            replacement=(replacement, boolean._replace(error=TypeMismatch)),
            num_samples=(
                self.num_samples,
                integer(1)._replace(fix="by default the dataset's length"),
            ),
        )

    @property
    def num_samples(self) -> int:
        """The number of samples in a pass; by default the dataset's present length."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        # Not a generator function: the seed is drawn now, not at the first sample.
        generator = self.generator
        if generator is None:
            generator = Generator().manual_seed(draw.seed(None))
        return self._draw(generator)

    def _draw(self, generator: Generator) -> Iterator[int]:
        size, wanted = len(self.data_source), self.num_samples
        if not size:
            if self._num_samples is not None:
                raise ArgumentError(
                    f"RandomSampler: expected samples to draw {wanted} of, got an empty dataset"
                )
            return
        if self.replacement:
            for start in range(0, wanted, 1024):
                yield from draw.integers(size, min(1024, wanted - start), generator)
            return
        for start in range(0, wanted, size):
            yield from itertools.islice(draw.permutation(size, generator), wanted - start)

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices in random order."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        order = draw.permutation(len(self.indices), self.generator)
        return iter([self.indices[i] for i in order])

    def __len__(self) -> int:
        return len(self.indices)


_WEIGHTS = Limit(
    "a 1-D sequence of finite numbers of at least 0, not all of them 0",
    lambda a: (
        isinstance(a, np.ndarray)
        and a.ndim == 1
        and bool(np.isfinite(a).all() and (a >= 0).all() and a.any())
    ),
)


def _numbers(values: Any) -> Any:
    """A sequence or a tensor as an array of float64; unchanged if it is not of numbers."""
    try:
        listed = values.tolist() if hasattr(values, "tolist") else list(values)
        return np.asarray(listed, np.float64)
    except (TypeError, ValueError, OverflowError):
        return values


class WeightedRandomSampler(Sampler[int]):
    """Indices drawn with probability proportional to their weights.

    Args:
        weights: one for each sample, >= 0; they need not add up to 1.
        num_samples: number of indices to draw.
        replacement: whether an index may occur twice. If not, successive draws by the method of
            Efraimidis and Spirakis (2006): the largest of u ** (1 / weight).
    """

    def __init__(
        self,
        weights: Iterable[float],
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        self.weights = _numbers(weights)
        check_arguments(
            "WeightedRandomSampler",
            weights=(self.weights, _WEIGHTS),
            num_samples=(num_samples, integer(1)),
            replacement=(replacement, boolean),
        )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator
        possible = int(np.count_nonzero(self.weights))
        if not replacement and num_samples > possible:
            raise ArgumentError(
                f"WeightedRandomSampler: cannot draw {num_samples} of the {possible} samples with "
                "a weight above zero without replacement"
            )

    def __iter__(self) -> Iterator[int]:
        if self.replacement:
            total = np.cumsum(self.weights)
            points = draw.uniforms(self.num_samples, self.generator) * total[-1]
            # side="right": a sample without weight has no width, and is never drawn.
            chosen = np.searchsorted(total, points, side="right")
            last = int(np.flatnonzero(self.weights)[-1])  # if rounding puts a point at the end
            return iter(np.minimum(chosen, last).tolist())
        uniform = draw.uniforms(len(self.weights), self.generator)
        with np.errstate(divide="ignore"):
            keys = np.log(uniform) / self.weights
        keys[self.weights == 0] = -np.inf
        return iter(np.argsort(-keys, kind="stable")[: self.num_samples].tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices of another sampler.

    Args:
        drop_last: leave out the last batch if it is smaller.
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool) -> None:
        check_arguments(
            "BatchSampler", batch_size=(batch_size, integer(1)), drop_last=(drop_last, boolean)
        )
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        # As in RandomSampler: the inner sampler starts, and draws its seed, now.
        return self._batches(iter(self.sampler))

    def _batches(self, indices: Iterator[int]) -> Iterator[list[int]]:
        while batch := list(itertools.islice(indices, self.batch_size)):
            if self.drop_last and len(batch) < self.batch_size:
                return
            yield batch

    def __len__(self) -> int:
        size = len(cast("Sized", self.sampler))
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)
