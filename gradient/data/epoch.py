"""One pass over a loader's batches, from the beginning or from a saved position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gradient.data import draw
from gradient.data.fetch import END, Fetcher, is_stateful
from gradient.data.pinning import can_pin, pinned
from gradient.errors import CheckpointError, DataLoaderError, TypeMismatch
from gradient.tensor.generator import Generator, default_generator

if TYPE_CHECKING:
    from gradient.data.dataloader import DataLoader


class Epoch:
    """One pass over a loader's batches.

    A position is stored as the generators' states at the beginning of the epoch and the number of
    batches since. To restore it, that many requests are drawn again (only indices, no samples).
    """

    def __init__(self, loader: DataLoader[Any], loaded: dict[str, Any] | None) -> None:
        # No reference to the loader, which refers to the epoch: a cycle would keep workers alive.
        self.finished = False
        self.batches = 0
        self._num_workers = loader.num_workers
        self._pin_device = loader.pin_memory_device
        self._pins = loader.pin_memory and can_pin(self._pin_device)
        state = (loaded or {}).get("epoch")
        generators = _generators(loader)
        current = default_generator.get_state()
        if state is not None:
            for name, generator in generators.items():
                generator.set_state(_generator_state(state["generators"], name))
        elif loaded is not None and loader.generator is not None:
            loader.generator.set_state(_generator_state(loaded, "generator"))
        self._began = {name: generator.get_state() for name, generator in generators.items()}
        seed = draw.seed(loader.generator)
        requests = _requests(loader)
        if state is not None:
            self.batches = state["batches"]
            for _ in range(self.batches):
                next(requests, None)
            # The default generator is the program's: it continues as if nothing had been replayed.
            default_generator.set_state(current)
        make = Parallel if loader.num_workers else Local
        self._source: Parallel | Local = make(loader, requests, seed, state)

    def __iter__(self) -> Epoch:
        return self

    def __next__(self) -> Any:
        if self.finished:
            raise StopIteration
        try:
            batch = self._source.next()
        except StopIteration as error:
            self._finish()
            # If passed on, it would end the loop as if there were no more data.
            raise DataLoaderError(
                f"the dataset or collate_fn raised StopIteration {error}"
            ) from error
        except BaseException:
            self._finish()
            raise
        if batch is END:
            self._finish()
            raise StopIteration
        self.batches += 1
        return pinned(batch, self._pin_device) if self._pins else batch

    def state_dict(self) -> dict[str, Any]:
        return {
            "generators": dict(self._began),
            "batches": self.batches,
            "workers": self._num_workers,
            "streams": self._source.positions(),
        }

    def _finish(self) -> None:
        self.finished = True
        self._source.close()


def _requests(loader: DataLoader[Any]) -> Iterator[tuple[int, Any]]:
    """(number, indices) of each batch of an epoch."""
    if loader.is_iterable:
        return iter(())
    return enumerate(iter(loader.batch_sampler if loader.is_batched else loader.sampler))


def _generators(loader: DataLoader[Any]) -> dict[str, Generator]:
    """All generators that an epoch's order may depend on, by name, each once."""
    inner = getattr(loader.batch_sampler, "sampler", None)
    candidates = {
        "default": default_generator,
        "loader": loader.generator,
        "sampler": getattr(loader.sampler, "generator", None),
        "batch_sampler": getattr(loader.batch_sampler, "generator", None),
        "inner_sampler": getattr(inner, "generator", None),
    }
    found: dict[str, Generator] = {}
    for name, generator in candidates.items():
        if isinstance(generator, Generator) and all(generator is not g for g in found.values()):
            found[name] = generator
    return found


class Local:
    """Batches made in this process, on request."""

    def __init__(
        self,
        loader: DataLoader[Any],
        requests: Iterator[tuple[int, Any]],
        seed: int,
        state: dict[str, Any] | None,
    ) -> None:
        self._requests = requests
        self._iterable = loader.is_iterable
        stream = _stream_of(loader, state, 0)
        position = stream.get("state")
        self._fetcher = Fetcher(loader.recipe(), seed, position, restore=True)
        if position is None:
            self._fetcher.skip(stream.get("batches", 0))

    def next(self) -> Any:
        if self._iterable:
            return self._fetcher.following()
        request = next(self._requests, None)
        return END if request is None else self._fetcher.indexed(*request)

    def positions(self) -> list[dict[str, Any]]:
        if not self._iterable:
            return []
        return [{"batches": self._fetcher.count, "state": self._fetcher.position()}]

    def close(self) -> None:
        pass


class Parallel:
    """Batches made ahead by workers, which take turns in a fixed order."""

    def __init__(
        self,
        loader: DataLoader[Any],
        requests: Iterator[tuple[int, Any]],
        seed: int,
        state: dict[str, Any] | None,
    ) -> None:
        self._requests = requests
        self._iterable = loader.is_iterable
        self._timeout = loader.timeout
        self._persistent = loader.persistent_workers
        workers = range(loader.num_workers)
        self._streams = [_stream_of(loader, state, worker) for worker in workers]
        self._pool = loader.start_workers()
        for worker, stream in enumerate(self._streams):
            # Indexed batches are numbered over the epoch; a stream's, within its worker.
            own_seed = seed + (worker << 40 if self._iterable else 0)
            skip = stream.get("batches", 0) if stream.get("state") is None else 0
            self._pool.send(worker, ("epoch", own_seed, stream.get("state"), skip))
        #: Workers with more batches; the first is next.
        self._order = sorted(workers, key=lambda worker: self._streams[worker].get("turn", worker))
        for _ in range(loader.prefetch_factor or 0):
            for worker in self._order:
                self._request(worker)

    def next(self) -> Any:
        while self._order:
            worker = self._order[0]
            if not self._pool.outstanding[worker]:  # it has no more requests
                return END
            answer = self._pool.receive(worker, self._timeout)
            if answer[0] == "end":
                self._order.remove(worker)
                continue
            _, batch, position = answer
            stream = self._streams[worker]
            stream["batches"] = stream.get("batches", 0) + 1
            stream["state"] = position
            self._order.append(self._order.pop(0))
            self._request(worker)
            return batch
        return END

    def positions(self) -> list[dict[str, Any]]:
        if not self._iterable:
            return []
        turns = {worker: turn for turn, worker in enumerate(self._order)}
        return [
            {
                "batches": stream.get("batches", 0),
                "state": stream.get("state"),
                "turn": turns.get(worker, len(turns)),
            }
            for worker, stream in enumerate(self._streams)
        ]

    def close(self) -> None:
        if not self._persistent:
            self._pool.close()

    def _request(self, worker: int) -> None:
        if self._iterable:
            self._pool.send(worker, ("next",))
            return
        request = next(self._requests, None)
        if request is not None:
            self._pool.send(worker, ("index", *request))


def _stream_of(
    loader: DataLoader[Any], state: dict[str, Any] | None, worker: int
) -> dict[str, Any]:
    """Where an iterable dataset's worker stood."""
    if state is None or not loader.is_iterable:
        return {}
    if state["workers"] != loader.num_workers:
        raise CheckpointError(
            f"DataLoader.load_state_dict: the position was saved with num_workers="
            f"{state['workers']}, between which an iterable dataset divides itself; this loader "
            f"has {loader.num_workers}"
        )
    stream = dict(state["streams"][worker])
    if stream.get("state") is not None and not is_stateful(loader.dataset):
        raise TypeMismatch(
            "DataLoader.load_state_dict: the position holds a state of the dataset, which has no "
            "load_state_dict"
        )
    return stream


def _generator_state(state: dict[str, Any], name: str) -> Any:
    if state.get(name) is None:
        raise CheckpointError(
            f"DataLoader.load_state_dict: the position lacks the state of the {name} generator: it "
            "was saved by a loader with other samplers or generators"
        )
    return state[name]
