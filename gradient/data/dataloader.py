"""DataLoader: batches of a dataset, made in this process or ahead of time by worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sized
from multiprocessing.context import BaseContext
from typing import Any, Generic, Protocol, TypedDict, TypeVar, Unpack, cast, overload

from gradient.checks import (
    Limit,
    Limits,
    Relation,
    boolean,
    check,
    instance_of,
    integer,
    number,
    optional,
)
from gradient.data.collate import default_collate, default_convert
from gradient.data.dataset import IterableDataset
from gradient.data.epoch import Epoch
from gradient.data.fetch import Recipe
from gradient.data.pool import WorkerPool
from gradient.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler
from gradient.errors import CheckpointError, TypeMismatch
from gradient.tensor import Tensor
from gradient.tensor.generator import Generator

__all__ = ["DataLoader"]

T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S")
B = TypeVar("B")


class Samples(Protocol[T_co]):
    """An object with samples by index: a `Dataset`, or a list."""

    def __getitem__(self, index: Any, /) -> T_co: ...


class _Options(TypedDict, total=False):
    """The arguments of a `DataLoader` that do not affect its batches' type."""

    sampler: Sampler[Any] | Iterable[Any] | None
    batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None
    num_workers: int
    pin_memory: bool
    drop_last: bool
    timeout: float
    worker_init_fn: Callable[[int], None] | None
    multiprocessing_context: str | BaseContext | None
    generator: Generator | None
    prefetch_factor: int | None
    persistent_workers: bool
    pin_memory_device: str
    in_order: bool


_LIMITS: Limits = {
    "dataset": Limit(
        "a dataset with __getitem__, or an IterableDataset",
        lambda dataset: hasattr(dataset, "__getitem__") or isinstance(dataset, IterableDataset),
        error=TypeMismatch,
    ),
    "batch_size": optional(integer(1)),
    "num_workers": integer(0),
    "pin_memory": boolean,
    "drop_last": boolean,
    "timeout": number(0),
    "generator": optional(
        instance_of(
            Generator,
            "a gradient.Generator",
            "for a seed give gradient.Generator().manual_seed(seed)",
        )
    ),
    "prefetch_factor": optional(integer(1)),
    "multiprocessing_context": Limit(
        "the name of a start method, or a context",
        lambda context: context is None or isinstance(context, str | BaseContext),
        error=TypeMismatch,
    ),
}
_OF_CONTEXTS = (
    Relation(
        ("multiprocessing_context",),
        lambda context: (
            not isinstance(context, str) or context in multiprocessing.get_all_start_methods()
        ),
        f"multiprocessing_context must be one of "
        f"{', '.join(multiprocessing.get_all_start_methods())}, or a context, "
        "got {multiprocessing_context!r:.80}",
    ),
    Relation(
        ("num_workers", "multiprocessing_context"),
        lambda num_workers, context: num_workers > 0 or context is None,
        "multiprocessing_context needs num_workers > 0",
    ),
)
_RELATIONS = (
    *_OF_CONTEXTS,
    Relation(
        ("num_workers", "prefetch_factor"),
        lambda num_workers, prefetch_factor: num_workers > 0 or prefetch_factor is None,
        "prefetch_factor needs num_workers > 0",
    ),
    Relation(
        ("num_workers", "persistent_workers"),
        lambda num_workers, persistent_workers: num_workers > 0 or not persistent_workers,
        "persistent_workers needs num_workers > 0",
    ),
    Relation(
        ("batch_sampler", "batch_size", "shuffle", "sampler", "drop_last"),
        lambda batch_sampler, batch_size, shuffle, sampler, drop_last: (
            batch_sampler is None
            or (batch_size == 1 and not shuffle and sampler is None and not drop_last)
        ),
        "batch_sampler excludes batch_size, shuffle, sampler and drop_last",
    ),
    Relation(
        ("batch_sampler", "batch_size", "drop_last"),
        lambda batch_sampler, batch_size, drop_last: (
            batch_sampler is not None or batch_size is not None or not drop_last
        ),
        "batch_size=None excludes drop_last: nothing is batched",
    ),
    Relation(
        ("dataset", "shuffle", "sampler", "batch_sampler"),
        lambda dataset, shuffle, sampler, batch_sampler: (
            not isinstance(dataset, IterableDataset)
            or (not shuffle and sampler is None and batch_sampler is None)
        ),
        "an IterableDataset decides its own order: shuffle, sampler and batch_sampler do not apply",
    ),
    Relation(
        ("sampler", "shuffle"),
        lambda sampler, shuffle: sampler is None or not shuffle,
        "sampler excludes shuffle",
    ),
)


class DataLoader(Generic[B]):
    """Iterates over batches of a dataset; each `for` loop over it is one epoch.

    Its type parameter is the type of a batch: the result of `collate_fn`, or of collating samples.

        loader = DataLoader(dataset, batch_size=32, shuffle=True, num_workers=2)
        for inputs, targets in loader:
            ...

    Two features go beyond PyTorch. First, the batches of an epoch, with random augmentation, depend
    only on the seed: not on `num_workers`, and not on other random numbers of the program.
    (Iterable datasets split themselves among the workers, so theirs do depend on `num_workers`.)
    Second, `state_dict` holds the position within an epoch, and `load_state_dict` resumes from it
    exactly.

    Args:
        dataset: with `__getitem__` and `__len__`, or an `IterableDataset`.
        batch_size: samples in a batch; None: single samples, not collated.
        shuffle: use a new random order in every epoch.
        sampler: an iterable of indices, instead of `shuffle`.
        batch_sampler: an iterable of lists of indices, instead of `batch_size`, `shuffle`,
            `sampler` and `drop_last`.
        num_workers: number of processes that make batches; 0: this process makes them.
        collate_fn: a function that makes a batch from a list of samples; default `default_collate`.
        pin_memory: put batches in page-locked memory, from which `to("cuda", non_blocking=True)`
            copies asynchronously. Without a usable GPU it has no effect.
        pin_memory_device: the GPU for pinned memory; default: the first.
        in_order: accepted as in PyTorch; batches always come in order.
        drop_last: leave out the last batch of an epoch if it is smaller.
        timeout: seconds to wait for a worker's batch; 0: no limit while the worker lives.
        worker_init_fn: a function that is called once in each worker, with the worker's number.
        multiprocessing_context: "spawn", "forkserver", "fork" or such a context. The default is
            "spawn", which is safe in a program with threads. On Linux it is "fork", as in PyTorch,
            if workers cannot be spawned: the dataset cannot be pickled, or the script does not
            start its work under `if __name__ == "__main__":`.
        generator: the generator for shuffling and for the seeds of epochs; default: the default
            generator.
        prefetch_factor: number of batches that each worker prepares ahead; default 2.
        persistent_workers: keep the workers for the next epoch.

    Raises:
        ArgumentError: arguments that cannot be combined.
        DataLoaderError: while iterating: a worker died, or did not answer in time.
    """

    @overload
    def __init__(
        self,
        dataset: Samples[S],
        batch_size: int = 1,
        shuffle: bool | None = None,
        *,
        collate_fn: Callable[[list[S]], B],
        **options: Unpack[_Options],
    ) -> None: ...
    @overload
    def __init__(
        self: DataLoader[Tensor],
        dataset: Samples[Tensor | float],
        batch_size: int = 1,
        shuffle: bool | None = None,
        *,
        collate_fn: None = None,
        **options: Unpack[_Options],
    ) -> None: ...
    @overload
    def __init__(
        self: DataLoader[list[Tensor]],
        dataset: Samples[tuple[Tensor | float, ...]],
        batch_size: int = 1,
        shuffle: bool | None = None,
        *,
        collate_fn: None = None,
        **options: Unpack[_Options],
    ) -> None: ...
    @overload
    def __init__(
        self: DataLoader[S],
        dataset: Samples[S],
        batch_size: None,
        shuffle: bool | None = None,
        *,
        collate_fn: None = None,
        **options: Unpack[_Options],
    ) -> None: ...
    @overload
    def __init__(
        self: DataLoader[Any],
        dataset: Samples[Any],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        *,
        collate_fn: Callable[[Any], Any] | None = None,
        **options: Unpack[_Options],
    ) -> None: ...
    def __init__(
        self,
        dataset: Samples[Any],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: str | BaseContext | None = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        check("DataLoader", locals(), _LIMITS, _RELATIONS)
        self.dataset: Any = dataset
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self._context = multiprocessing_context
        self.generator = generator
        self.prefetch_factor = prefetch_factor or (2 if num_workers else None)
        self.in_order = in_order
        self.persistent_workers = persistent_workers
        self.is_iterable = isinstance(dataset, IterableDataset)

        self.drop_last = drop_last
        self.batch_size = None if batch_sampler is not None else batch_size
        self.sampler: Any = sampler
        self.batch_sampler: Any = batch_sampler
        if not self.is_iterable and batch_sampler is None:
            if sampler is None:
                sized = cast(Sized, dataset)
                self.sampler = (
                    RandomSampler(sized, generator=generator)
                    if shuffle
                    else SequentialSampler(sized)
                )
            if batch_size is not None:
                self.batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)
        batched = self.batch_sampler is not None or (self.is_iterable and batch_size is not None)
        self.collate_fn = collate_fn or (default_collate if batched else default_convert)
        self.is_batched = batched
        self._pool: WorkerPool | None = None
        self._epoch: Epoch | None = None
        self._loaded: dict[str, Any] | None = None

    @property
    def multiprocessing_context(self) -> str | BaseContext | None:
        """The start method of workers."""
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: str | BaseContext | None) -> None:
        given = {"multiprocessing_context": context, "num_workers": self.num_workers}
        check("DataLoader", given, {name: _LIMITS[name] for name in given}, _OF_CONTEXTS)
        self._context = context

    def __iter__(self) -> Iterator[B]:
        loaded, self._loaded = self._loaded, None
        self._epoch = Epoch(self, loaded)
        return self._epoch

    def __len__(self) -> int:
        """The number of batches in an epoch (for an iterable dataset: computed from its length)."""
        if not self.is_iterable:
            return len(self.batch_sampler if self.is_batched else self.sampler)
        size = len(self.dataset)
        if self.batch_size is None:
            return size
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the present epoch, or between two epochs.

        If it is saved after a batch was received, `load_state_dict` resumes with the next batch:
        the same samples in the same order, with the same random numbers. It contains only numbers
        and small tensors, for `gradient.save` and `save_checkpoint`.
        """
        epoch = self._epoch
        state: dict[str, Any] = {"version": 1, "epoch": None, "generator": None}
        if self._loaded is not None:
            return dict(self._loaded)
        if self.generator is not None:
            state["generator"] = self.generator.get_state()
        if epoch is not None and not epoch.finished:
            state["epoch"] = epoch.state_dict() | self._extent()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next `for` loop resume from a saved position; later epochs follow as usual.

        Raises:
            CheckpointError: `state` is not a loader's, or within an epoch of one with another batch
                size or number of batches (or, when iterating, other workers).
        """
        if not isinstance(state, dict) or state.get("version") != 1:
            raise CheckpointError("DataLoader.load_state_dict: not the state of a DataLoader")
        if state["epoch"] is not None:
            # A position counts batches, so their size and the data must be the same.
            for name, here in self._extent().items():
                there = state["epoch"].get(name)
                if there != here:
                    raise CheckpointError(
                        f"DataLoader.load_state_dict: the position was saved within an epoch with "
                        f"{name}={there}; this loader has {here}"
                    )
        self._epoch = None
        self._loaded = dict(state)

    def _extent(self) -> dict[str, int | None]:
        """The unit of a position within an epoch, and the total number if it is known."""
        try:
            batches_in_epoch: int | None = len(self)
        except (TypeError, NotImplementedError):  # a sampler or dataset without a length
            batches_in_epoch = None
        return {"batch_size": self.batch_size, "batches_in_epoch": batches_in_epoch}

    def recipe(self) -> Recipe:
        """The settings for making batches, here or in a worker."""
        return Recipe(
            self.dataset, self.collate_fn, self.batch_size, self.drop_last, self.is_batched
        )

    def start_workers(self) -> WorkerPool:
        """Return running workers; persistent ones are kept for later epochs."""
        if self._pool is not None:
            if not self._pool.is_closed:
                self._pool.drain()
                return self._pool
            self._pool = None  # one of them died
        context = self.multiprocessing_context
        if isinstance(context, str):
            context = multiprocessing.get_context(context)
        pool = WorkerPool(context, self.num_workers, self.recipe(), self.worker_init_fn)
        if self.persistent_workers:
            self._pool = pool
        return pool
