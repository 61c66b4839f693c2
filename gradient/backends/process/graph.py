"""Graphs: lists of ops that a plugin stores, and runs by one message.

To make one, a backend runs with a `Tracer` instead of its client. The tracer collects the messages,
also for views and writes, and they become the graph's ops.
"""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from gradient.backends.process.backend import ProcessBackend
from gradient.backends.process.client import Client, Out
from gradient.backends.process.handle import Handle, made, put
from gradient.backends.process.protocol import PluginError
from gradient.backends.process.run_numbers import Number, Numbers

Compute = Callable[..., Sequence[Handle]]


class Tracer:
    """Replaces a client while a graph is made."""

    def __init__(self, client: Client):
        self.client = client
        self.ops, self.dtypes = client.ops, client.dtypes
        self.new_id = itertools.count(1).__next__
        self.lock = client.lock
        self.freed: deque[int] = deque()
        self.messages: list[Any] = []
        self.numbers: list[Number] = []
        self.fixed: list[tuple[int, Handle]] = []
        """Arrays that are given to each run, with their ids in the graph."""
        self._lifted: dict[int, tuple[Handle, Handle]] = {}

    def op(
        self, name: str, outs: Sequence[Out], inputs: Sequence[Any], options: dict[str, Any] | None
    ) -> None:
        freed = []
        while self.freed:
            freed.append(self.freed.popleft())
        if freed:
            self.messages.append(("free", freed))
        self.messages.append(("op", name, outs, self._encoded(inputs), self._encoded(options)))

    def _encoded(self, x: Any) -> Any:
        if isinstance(x, Number):
            at = next((i for i, known in enumerate(self.numbers) if known is x), None)
            if at is None:
                at = len(self.numbers)
                self.numbers.append(x)
            return {"number": at}
        if isinstance(x, (list, tuple)):
            return [self._encoded(each) for each in x]
        if isinstance(x, dict):
            return {key: self._encoded(each) for key, each in x.items()}
        return x

    def put(self, array: np.ndarray) -> int:
        """Add a constant array, used by every run; return its id."""
        number = self.new_id()
        self.fixed.append((number, put(self.client, array)))
        return number

    def lift(self, real: Handle) -> Handle:
        """The graph's handle of an array of the client."""
        found = self._lifted.get(id(real))
        if found is None:
            if real.base is None:
                handle = self.input(real)
                self.fixed.append((handle._id, real))
            else:
                handle = self.lift(real.parent).view(real.shape, real.steps, *real.how, real.dtype)
            found = self._lifted[id(real)] = real, handle
        return found[1]

    def lower(self, x: Handle) -> Handle | None:
        """The client's array of the same memory; None if the graph makes it."""
        for real, handle in self._lifted.values():
            if handle is x:
                return real
        if x.base is None:
            return None
        parent = self.lower(x.parent)
        return None if parent is None else parent.view(x.shape, x.steps, *x.how, x.dtype)

    def written(self) -> list[tuple[int, Handle]]:
        """The client's arrays that the graph writes to, with their ids in the graph."""
        pairs = self._lifted.values()
        return [(x._id, real) for real, x in pairs if real.base is None and x.version]

    def input(self, like: Handle) -> Handle:
        tracer: Any = self
        return made(tracer, self.new_id(), like.shape, like.dtype)

    def _refuse(self, *_: Any) -> NoReturn:
        raise PluginError("a graph cannot read values")

    get = request = synchronize = flush = _refuse


class Graph:
    """A function of arrays, stored by a plugin.

    Args:
        inputs: example inputs, with the shapes and dtypes of each run's inputs.
        compute: is called once, as compute(backend, lift, *inputs), to make the graph; it returns
            the results. It must pass other existing arrays through `lift`; a run reads their
            current values, and writes to them as `compute` does.
    """

    def __init__(self, backend: ProcessBackend, inputs: Sequence[Handle], compute: Compute):
        self.client = client = backend.client
        tracer = Tracer(client)
        tracing = copy.copy(backend)
        vars(tracing)["client"] = tracer
        given = [tracer.input(x) for x in inputs]
        ids = [x._id for x in given]
        results = list(compute(tracing, tracer.lift, *given))
        outs = [x.id for x in results]
        self.results = [tracer.lower(x) for x in results]
        """Those that show memory from before; None for each that a run makes."""
        self.likes = [(x.shape, x.dtype) for x in results]
        written = tracer.written()
        self.fixed = [real for _, real in tracer.fixed]
        self.written = [real for _, real in written]
        self.numbers, self.length = tracer.numbers, len(tracer.messages)
        ids = [*(number for number, _ in tracer.fixed), *ids]
        made_here = [out for out, real in zip(outs, self.results, strict=True) if real is None]
        outs = [*(number for number, _ in written), *made_here]
        self.number = client.new_id()
        client.message("graph", self.number, ids, tracer.messages, outs)

    def __del__(self) -> None:
        if "number" in vars(self):
            self.client.forgotten.append(self.number)

    def run(self, inputs: Sequence[Handle], numbers: Numbers) -> list[Handle]:
        """Run the graph by one message; return the results."""
        client = self.client
        given = [x.id for x in (*self.fixed, *inputs)]
        results = [
            made(client, client.new_id(), *like) if known is None else known
            for known, like in zip(self.results, self.likes, strict=True)
        ]
        outs = [x._id for x in self.written]
        outs += [x._id for x, known in zip(results, self.results, strict=True) if known is None]
        values = [number.compute(numbers) for number in self.numbers]
        client.message("run", self.number, given, outs, values)
        for x in self.written:
            x.version += 1
        return results
