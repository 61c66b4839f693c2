"""`utils.data.distributed.DistributedSampler`: the part of a dataset that one process reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized

from gradient.compat.distributed import get_rank, get_world_size
from gradient.data import Sampler, draw
from gradient.errors import ArgumentError, sentence
from gradient.tensor.generator import Generator

__all__ = ["DistributedSampler"]


class DistributedSampler(Sampler[int]):
    """Every `num_replicas`-th sample from `rank` on, in an order that all processes know.

    Args:
        num_replicas, rank: default, those of this process: 1 and 0.
        shuffle: in an order drawn from `seed` and the epoch; `set_epoch` says which it is.
        drop_last: leave out what would make some processes' parts longer; else samples from the
            beginning come again.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.dataset, self.shuffle, self.seed, self.epoch = dataset, shuffle, seed, 0
        self.num_replicas = get_world_size() if num_replicas is None else num_replicas
        self.rank = get_rank() if rank is None else rank
        self.drop_last = drop_last
        if not 0 <= self.rank < self.num_replicas:
            expected = f"a rank from 0 to below num_replicas = {self.num_replicas}"
            raise ArgumentError(sentence("DistributedSampler", expected, self.rank))

    @property
    def num_samples(self) -> int:
        """Samples of one process."""
        parts = len(self.dataset) / self.num_replicas
        return math.floor(parts) if self.drop_last else math.ceil(parts)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle in another order from the next pass on."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        size, total = len(self.dataset), self.num_samples * self.num_replicas
        order = list(range(size))
        if self.shuffle:
            order = draw.permutation(size, Generator().manual_seed(self.seed + self.epoch))
        return iter([order[i % size] for i in range(self.rank, total, self.num_replicas)])

    def __len__(self) -> int:
        return self.num_samples


class _BaseDataLoaderIter:
    """What no iterator over a `DataLoader` is, for `isinstance`."""


class _MultiProcessingDataLoaderIter(_BaseDataLoaderIter):
    """The same, of loaders with workers."""
