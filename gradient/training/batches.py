"""The tokens of each training step: a pure function of the seed and the step."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

import numpy as np

#: The target of a token whose successor is not learned; cross-entropy ignores it.
IGNORED = -100


class Batch(NamedTuple):
    """Inputs and targets, both (B, T) int64; a target is `IGNORED` if it is not learned.

    `positions`, (B, T) int64, counts the tokens of each document from 0, for rows of several
    documents that do not see one another; None if a row is one text.
    """

    inputs: np.ndarray
    targets: np.ndarray
    positions: np.ndarray | None = None

    @property
    def learned(self) -> int:
        """The number of tokens in the mean of the loss."""
        return int(np.count_nonzero(self.targets != IGNORED))


class Batches:
    """Endless batches by number; rows are shuffled again in every epoch.

    Batch `i` depends on the tokens, the seed and `i` only: the data position in a checkpoint is a
    number, and any batch can be looked at again. A subclass sets `rows_per_epoch`.

    Args:
        tokens: 1-D integer array, usually memory-mapped; read, never copied as a whole.
        block_size: tokens in a row (the targets reach one further).
        batch_size: rows in a batch.
        seed: of the shuffle.
    """

    rows_per_epoch: int

    def __init__(self, tokens: np.ndarray, block_size: int, batch_size: int, seed: int) -> None:
        self.tokens = tokens
        self.block_size = block_size
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def __getitem__(self, index: int) -> Batch:
        first = index * self.batch_size
        return self._gather([self._row(first + number) for number in range(self.batch_size)])

    def spread(self, batches: int) -> list[Batch]:
        """At most `batches` batches spread evenly over the tokens, the same at every call."""
        rows, wanted = self._evenly(batches * self.batch_size), self.batch_size
        return [self._gather(rows[i : i + wanted]) for i in range(0, len(rows), wanted)]

    def _row(self, number: int) -> int:
        epoch, position = divmod(number, self.rows_per_epoch)
        if epoch != self._epoch:
            key = np.array([self.seed % 2**64, epoch], np.uint64)
            random = np.random.Generator(np.random.Philox(key=key))
            self._order, self._epoch = self._shuffled(random), epoch
        return int(self._order[position])

    def _shuffled(self, random: np.random.Generator) -> np.ndarray:
        """An epoch's rows in their order."""
        return random.permutation(self.rows_per_epoch)

    def _evenly(self, count: int) -> list[int]:
        """At most `count` rows, spread evenly."""
        raise NotImplementedError

    def _gather(self, rows: list[int]) -> Batch:
        raise NotImplementedError


class TokenBatches(Batches):
    """Batches of windows over one long sequence of tokens; each token once per epoch.

    An epoch splits the tokens into windows of `block_size` (from another offset in each epoch)
    and shuffles the windows; a row is identified by its start.
    """

    def __init__(self, tokens: np.ndarray, block_size: int, batch_size: int, seed: int) -> None:
        super().__init__(tokens, block_size, batch_size, seed)
        # One window fewer than fits, to leave room for every offset.
        self.rows_per_epoch = max(1, (len(tokens) - 1) // block_size - 1)

    def _shuffled(self, random: np.random.Generator) -> np.ndarray:
        slack = len(self.tokens) - 1 - self.rows_per_epoch * self.block_size
        offset = int(random.integers(min(slack, self.block_size - 1) + 1))
        return super()._shuffled(random) * self.block_size + offset

    def _evenly(self, count: int) -> list[int]:
        available = max(1, (len(self.tokens) - 1) // self.block_size)
        count = min(count, available)
        return [i * available // count * self.block_size for i in range(count)]

    def _gather(self, rows: list[int]) -> Batch:
        places = np.asarray(rows, np.int64)[:, None] + np.arange(self.block_size + 1)
        windows = np.asarray(self.tokens[places], np.int64)
        return Batch(windows[:, :-1], windows[:, 1:])


class DocumentBatches(Batches):
    """Batches of rows that hold whole documents, as many as fit, each learned once per epoch.

    Documents are packed into rows once, by best fit, the longest first (as in bin packing; the same
    rows in every epoch), and an epoch shuffles the rows. A document of more than `block_size` + 1
    tokens is split into pieces.

    Args:
        tokens: 1-D integer array of all documents, concatenated.
        lengths: the documents' lengths in tokens.
        learned: 1-D, as long as `tokens`: whether a token is predicted.
        block_size, batch_size, seed: as in `Batches`.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        lengths: np.ndarray,
        learned: np.ndarray,
        block_size: int,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(tokens, block_size, batch_size, seed)
        self.learned = learned
        self.rows = _packed(*_pieces(np.asarray(lengths, np.int64), block_size), block_size)
        self.rows_per_epoch = len(self.rows)

    def _evenly(self, count: int) -> list[int]:
        count = min(count, len(self.rows))
        return [i * len(self.rows) // count for i in range(count)]

    def _gather(self, rows: list[int]) -> Batch:
        # The rest of a row is filled with tokens that see only themselves and are not learned.
        shape = len(rows), self.block_size
        inputs = np.zeros(shape, np.int64)
        targets = np.full(shape, IGNORED, np.int64)
        positions = np.zeros(shape, np.int64)
        for at, row in enumerate(rows):
            begin = 0
            for start, length in self.rows[row]:
                end = begin + length
                inputs[at, begin:end] = self.tokens[start : start + length]
                following = slice(start + 1, start + length + 1)
                targets[at, begin:end] = self.tokens[following]
                targets[at, begin:end][self.learned[following] == 0] = IGNORED
                positions[at, begin:end] = np.arange(length)
                begin = end
        return Batch(inputs, targets, positions)


def _pieces(lengths: np.ndarray, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The starts of pieces of documents, and their numbers of inputs (targets: one further)."""
    ends = np.cumsum(lengths)
    inputs = np.maximum(lengths - 1, 0)
    counts = -(-inputs // block_size)
    first = np.repeat(ends - lengths, counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    left = np.repeat(inputs, counts) - within * block_size
    return first + within * block_size, np.minimum(left, block_size)


def _packed(
    starts: np.ndarray, lengths: np.ndarray, block_size: int
) -> list[list[tuple[int, int]]]:
    """Rows of at most `block_size` tokens, as lists of (start, length), filled by best fit."""
    rows: list[list[tuple[int, int]]] = []
    with_room: dict[int, list[int]] = {}  # rows by their free room
    rooms: list[int] = []  # its keys, in order
    for number in np.argsort(-lengths, kind="stable").tolist():
        start, length = int(starts[number]), int(lengths[number])
        at = bisect_left(rooms, length)
        if at < len(rooms):
            room = rooms[at]
            row = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[at]
        else:
            room, row = block_size, len(rows)
            rows.append([])
        rows[row].append((start, length))
        room -= length
        if room:
            if room not in with_room:
                with_room[room] = []
                insort(rooms, room)
            with_room[room].append(row)
    return rows
