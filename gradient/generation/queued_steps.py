"""Decoding steps whose tokens the host has not read yet.

A GPU works through a queue. If the host reads the chosen tokens first and then queues the next
steps, the GPU is idle meanwhile. So the host queues the next steps first:

    host   queue A, queue B, read A, queue C, read B, queue D, read C ...
    GPU             A......A B......B C......C ...

B reads A's last tokens on the device, so it does not matter that the host does not know them. If
the text turns out to end in A, then B was in vain: its tokens are dropped, and the cache is rewound
to the text (`Decoder.close`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from gradient.plan.step import Replay
from gradient.tensor import Tensor


class QueuedSteps:
    """Steps that follow each other, each of which reads the previous one's tokens.

    Attributes:
        count: their number.
        newest: the tokens that the last one chose, (B,) on the device.
        logits: those of the first one, (B, V).
        begun: the time at which they began to be queued.
        replayed: whether they are replays of a recorded step.
    """

    def __init__(
        self,
        newest: Tensor,
        logits: Tensor,
        begun: float,
        *,
        replayed: bool = True,
        chosen: Tensor | None = None,
        known: list[list[int]] | None = None,
    ) -> None:
        """Args:
        chosen: the tokens of all steps, (steps, B) on the device, if they are read later.
        known: the same on the host, if they were read already: none after a token of -1.
        """
        self.newest, self.logits = newest, logits
        self.begun, self.replayed = begun, replayed
        self._rows: Sequence[int] | None = None
        self._backend = newest.backend
        self._queue = self._backend.queue()
        self._read: Callable[..., Any] | None = None
        if chosen is not None:
            self.count = len(chosen)
            self._read = self._backend.read_later(chosen.array)
        elif known is not None:
            self.count, self._tokens = len(known), known

    @functools.cached_property
    def _tokens(self) -> list[list[int]]:
        """The tokens of each step up to the first with a token of -1."""
        assert self._read is not None
        fault: IndexError | None = None
        try:
            values = self._read()
        except IndexError as error:
            fault, values = error, self._read()
        tokens: list[list[int]] = values.tolist()
        impossible = (number for number, each in enumerate(tokens, 1) if min(each) < 0)
        end = next(impossible, len(tokens))
        if fault is not None and end == len(tokens):
            raise fault  # not as the device went on past a token of -1, and looked it up
        return tokens[:end]

    def read(self) -> list[list[int]]:
        """Wait for the steps; return the tokens of each, but none after a step with a token of -1,
        which means that no token is possible."""
        if self._rows is None:
            return self._tokens
        return [[each[row] for row in self._rows] for each in self._tokens]

    def select(self, kept: Sequence[int], index: Tensor) -> None:
        """Keep the rows at these indices, on the host and on the device, in this order."""
        rows = range(len(self.newest)) if self._rows is None else self._rows
        self._rows = [rows[at] for at in kept]
        self.newest = self.newest[index]

    def join(self) -> None:
        """Let what is queued from now on follow the steps: wait for them if they are in another
        queue."""
        if self._queue != self._backend.queue():
            self.read()

    def discard(self) -> None:
        """Wait for the steps, but raise no error: one of the program's own work before them is
        raised where it next reads a value."""
        if self._read is not None:
            self._read(check=False)


def queue_replays(
    replay: Replay, newest: Tensor, numbers: Tensor | None, steps: int, begun: float
) -> QueuedSteps:
    """Queue up to `steps` replays, each of the previous one's tokens (B,) and a row of `numbers`.

    Where the step does not prepare the next one itself (`Replay.follows`), each is read at once,
    and none follows a token of -1.
    """
    # Only the first step's logits are needed: a step without a possible token is made again.
    if replay.follows:
        rows = None if numbers is None else numbers.array
        chosen, logits = replay.follow(newest.array, rows, steps)
        return QueuedSteps(chosen[-1], logits, begun, chosen=chosen)
    each = None if numbers is None else numbers.unbind(0)
    made: list[Tensor] = []
    known: list[list[int]] = []
    for step in range(steps):
        given = () if each is None else (each[step].array,)
        newest, *others = replay(newest.array, *given, outputs=1 if step else None)
        made += others
        known.append(newest.tolist())
        if min(known[-1]) < 0:
            break
    return QueuedSteps(newest, made[0], begun, known=known)
