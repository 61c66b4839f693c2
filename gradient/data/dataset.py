"""Datasets: map-style (samples by index) and iterable-style (a stream of samples)."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar, cast

from gradient.data.draw import permutation
from gradient.errors import ArgumentError, FailedCheck, IndexOutOfRange, TypeMismatch, sentence
from gradient.tensor import Tensor
from gradient.tensor.generator import Generator

__all__ = [
    "ChainDataset",
    "ConcatDataset",
    "Dataset",
    "IterableDataset",
    "StackDataset",
    "Subset",
    "TensorDataset",
    "random_split",
]

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Samples by index: subclasses define `__getitem__(index)` and, for most samplers, `__len__()`.

    A subclass may also define `__getitems__(indices)`, which returns the list of samples of a whole
    batch at once; `DataLoader` then calls it instead.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """A stream of samples without random access: subclasses define `__iter__`.

    With several workers, each iterates over its own copy, and must select its part by
    `get_worker_info()`. If a subclass has `state_dict` and `load_state_dict`, they save and restore
    the position; otherwise a resumed loader skips samples up to the position.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    # As in PyTorch: the sum of streams is a `ChainDataset`, the base's a `ConcatDataset`.
    def __add__(self, other: Dataset[T_co]) -> ChainDataset[T_co]:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Sample i is the tuple of the i-th rows of the given tensors.

    Args:
        tensors: of shape (N, ...) each, with the same N. Without tensors there is no length:
            `len` raises IndexError, as in PyTorch.
    """

    def __init__(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                raise TypeMismatch(sentence("TensorDataset", "Tensors", type(tensor).__name__))
        lengths = [tensor.shape[0] if tensor.ndim else 0 for tensor in tensors]
        if len(set(lengths)) > 1 or not all(tensor.ndim for tensor in tensors):
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
            raise FailedCheck(
                f"TensorDataset: expected tensors of one first dimension, got {shapes}"
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def collated(self, indices: Sequence[int]) -> list[Tensor]:
        """Return `default_collate`'s result for these samples, without making the samples."""
        return [tensor[list(indices)] for tensor in self.tensors]

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class StackDataset(Dataset[Any]):
    """Combines datasets: sample i is the tuple (or the dict) of their i-th samples."""

    def __init__(self, *args: Dataset[Any], **kwargs: Dataset[Any]) -> None:
        if bool(args) == bool(kwargs):
            raise ArgumentError(
                "StackDataset: give datasets either by position (samples are tuples) or by name "
                "(samples are dicts)"
            )
        self.datasets: Any = args or kwargs
        members: Iterable[Any] = args or kwargs.values()
        lengths = [len(dataset) for dataset in members]
        if len(set(lengths)) > 1:
            raise ArgumentError(f"StackDataset: the datasets' lengths differ: {lengths}")
        self._length = lengths[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[T_co]):
    """Concatenates datasets: the samples of the first, then those of the next."""

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets: list[Any] = list(datasets)
        if not self.datasets:
            raise FailedCheck("ConcatDataset: expected at least one dataset")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise TypeMismatch("ConcatDataset: an IterableDataset has no index; use ChainDataset")
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        if not -len(self) <= index < len(self):
            raise IndexOutOfRange(f"ConcatDataset: index {index} of {len(self)} samples")
        index %= len(self)
        which = bisect.bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][index - before]


class ChainDataset(IterableDataset[T_co]):
    """Iterable datasets one after the other."""

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)

    def __iter__(self) -> Iterator[T_co]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise TypeMismatch(
                    f"ChainDataset: expected IterableDatasets, got a {type(dataset).__name__}"
                )
            yield from dataset

    def __len__(self) -> int:
        return sum(len(cast("Sized", dataset)) for dataset in self.datasets)


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`, in that order."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[T_co]:
        chosen = [self.indices[i] for i in indices]
        at_once = getattr(self.dataset, "__getitems__", None)
        return at_once(chosen) if at_once else [self.dataset[i] for i in chosen]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Dataset[T_co],
    lengths: Sequence[int | float],
    generator: Generator | None = None,
) -> list[Subset[T_co]]:
    """Split a dataset into disjoint random subsets.

        train, val = random_split(dataset, [0.9, 0.1], gradient.Generator().manual_seed(42))

    Args:
        lengths: sizes that add up to the dataset's, or fractions that add up to 1; the remainder
            of rounding goes to the first subsets, one sample each.
        generator: for the shuffle; default: the default generator.

    Raises:
        ArgumentError: the lengths do not add up.
    """
    size = len(cast("Sized", dataset))
    if all(0 <= length <= 1 for length in lengths) and math.isclose(sum(lengths), 1):
        counts = [math.floor(size * fraction) for fraction in lengths]
        for extra in range(size - sum(counts)):
            counts[extra % len(counts)] += 1
    else:
        counts = list(cast("Sequence[int]", lengths))
    if sum(counts) != size or any(count < 0 for count in counts):
        raise ArgumentError(
            f"random_split: lengths {list(lengths)} must add up to {size} (the dataset's length), "
            "or be fractions that add up to 1"
        )
    order = permutation(size, generator)
    ends = itertools.accumulate(counts)
    return [
        Subset(dataset, order[end - count : end]) for end, count in zip(ends, counts, strict=True)
    ]
