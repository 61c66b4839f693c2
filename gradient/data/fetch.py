"""Making one batch after another from a dataset: the same code in this process and in a worker."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradient.data import draw
from gradient.data.collate import default_collate
from gradient.data.dataset import IterableDataset

#: The batches of an iterable dataset have come to their end.
END = object()


@dataclass
class Recipe:
    """How a loader turns samples into batches.

    Attributes:
        batch_size: samples in a batch of an iterable dataset; None passes samples on singly.
        batched: whether a request is a list of indices, or one index.
    """

    dataset: Any
    collate_fn: Callable[[Any], Any]
    batch_size: int | None
    drop_last: bool
    batched: bool


class Fetcher:
    """Serves one epoch's requests, each with random numbers of its own.

    Batch k of an epoch always meets generators in the same state, whichever process makes it and
    whatever was made before. So augmented data do not depend on the number of workers, and a
    resumed epoch goes on as if it had never stopped.

    Args:
        seed: of the epoch (and, for an iterable dataset, of this worker's part).
        state: the iterable dataset's `state_dict` to go on from.
        restore: leave the process's own generators as they are; a worker need not.
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
        """Run an iterable dataset forward."""
        for _ in range(batches):
            if self.following() is END:
                return

    def position(self) -> dict[str, Any] | None:
        """What `state` takes, for an iterable dataset that knows its position."""
        if not is_stateful(self.recipe.dataset):
            return None
        return {"batches": self.count, "dataset": self.recipe.dataset.state_dict()}

    def _seeded(self, number: int, make: Callable[[], Any]) -> Any:
        seed = (self.seed + number) % (2**63 - 1)
        if self.restore:
            with draw.numbers_from(seed):
                return make()
        draw.start_all(seed)
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
    """The dataset's own way to what `default_collate` makes of a list of indices, where it has one
    for just the samples that it gives singly: a subclass with other samples has not."""
    kind = type(recipe.dataset)
    if recipe.collate_fn is not default_collate or hasattr(kind, "__getitems__"):
        return None
    owner = next((each for each in kind.__mro__ if "__getitem__" in vars(each)), object)
    return recipe.dataset.collated if "collated" in vars(owner) else None


def is_stateful(dataset: Any) -> bool:
    """Whether an iterable dataset can say and restore its position."""
    return hasattr(dataset, "state_dict") and hasattr(dataset, "load_state_dict")
