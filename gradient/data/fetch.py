"""Makes one batch after another from a dataset, in this process or in a worker."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradient.data import draw
from gradient.data.collate import default_collate
from gradient.data.dataset import IterableDataset

#: The end of an iterable dataset's batches.
END = object()


@dataclass
class Recipe:
    """How a loader turns samples into batches.

    Attributes:
        batch_size: samples in a batch of an iterable dataset; None: single samples.
        batched: whether a request is a list of indices, or one index.
    """

    dataset: Any
    collate_fn: Callable[[Any], Any]
    batch_size: int | None
    drop_last: bool
    batched: bool


class Fetcher:
    """Serves one epoch's requests, each with its own random numbers.

    For batch k of an epoch the generators always have the same state, in any process and
    after any other batches. So augmented data do not depend on the number of workers, and a
    resumed epoch continues as if it had never stopped.

    Args:
        seed: the seed of the epoch (and, for an iterable dataset, of this worker's part).
        state: the iterable dataset's `state_dict` to resume from.
        restore: restore the process's own generators afterwards; workers do not need it.
    """

    def __init__(self, recipe: Recipe, seed: int, state: Any = None, *, restore: bool) -> None:
        self.recipe = recipe
        self.seed = seed
        self.restore = restore
        self.count = 0  # batches of an iterable dataset so far
        self._iterator: Any = None
        self._collated = _collated(recipe)
        if isinstance(recipe.dataset, IterableDataset):
            dataset: Any = recipe.dataset
            if state is not None:
                self.count = state["batches"]
                dataset.load_state_dict(state["dataset"])
            self._iterator = iter(dataset)

    def indexed(self, number: int, request: Any) -> Any:
        """Batch `number` of a dataset with an index; `request` is its list of indices."""
        return self._seeded(number, lambda: self._by_index(request))

    def following(self) -> Any:
        """The next batch of an iterable dataset, or END."""
        self.count += 1
        return self._seeded(self.count - 1, self._next)

    def skip(self, batches: int) -> None:
        """Skip batches of an iterable dataset."""
        for _ in range(batches):
            if self.following() is END:
                return

    def position(self) -> dict[str, Any] | None:
        """The `state` to resume from, for an iterable dataset with `state_dict`."""
        if not is_stateful(self.recipe.dataset):
            return None
        return {"batches": self.count, "dataset": self.recipe.dataset.state_dict()}

    def _seeded(self, number: int, make: Callable[[], Any]) -> Any:
        seed = (self.seed + number) % (2**63 - 1)
        if self.restore:
            with draw.numbers_from(seed):
                return make()
        draw.seed_all(seed)
        return make()

    def _by_index(self, request: Any) -> Any:
        dataset, collate = self.recipe.dataset, self.recipe.collate_fn
        if not self.recipe.batched:
            return collate(dataset[request])
        if self._collated is not None:
            return self._collated(request)
        at_once = getattr(dataset, "__getitems__", None)
        return collate(at_once(request) if at_once else [dataset[index] for index in request])

    def _next(self) -> Any:
        recipe, iterator = self.recipe, self._iterator
        if recipe.batch_size is None:
            sample = next(iterator, END)
            return END if sample is END else recipe.collate_fn(sample)
        samples = list(itertools.islice(iterator, recipe.batch_size))
        if not samples or (recipe.drop_last and len(samples) < recipe.batch_size):
            return END
        return recipe.collate_fn(samples)


def _collated(recipe: Recipe) -> Callable[[Any], Any] | None:
    """The dataset's own method to make a batch of a list of indices, equal to `default_collate`'s,
    if it has one for exactly its own samples: a subclass with other samples has none."""
    kind = type(recipe.dataset)
    if recipe.collate_fn is not default_collate or hasattr(kind, "__getitems__"):
        return None
    owner = next((each for each in kind.__mro__ if "__getitem__" in vars(each)), object)
    return recipe.dataset.collated if "collated" in vars(owner) else None


def is_stateful(dataset: Any) -> bool:
    """Whether an iterable dataset can save and restore its position."""
    return hasattr(dataset, "state_dict") and hasattr(dataset, "load_state_dict")
