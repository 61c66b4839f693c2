"""Lists of kernel calls that are run repeatedly, without Python in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.numpy import kernels


class Block(NamedTuple):
    """Memory for a call's arguments (`kernels.entry_points`), followed by a flag that becomes 1 if
    the kernel raises an exception."""

    numbers: np.ndarray
    address: int


class _Task(NamedTuple):
    kernel: Callable[..., Any]
    entry: int
    block: Block
    n: int
    chunk: int
    wait: bool


class Tasks:
    """A list of kernel calls for `threads.run_tasks`.

        tasks = Tasks()
        tasks.append(kernels.load("norms").softmax, len(x), 8, x, y)  # as parallel_for's arguments
        threads.run_tasks(tasks)  # as often as one likes

    Arguments are kept alive, and their addresses, shapes, strides and numbers are fixed when a task
    is appended. Values that change between runs must be in arrays that kernels read, or be set by
    `update`. Tasks run in order: each starts when those before it are done, unless it was appended
    with `wait=False`; then it may run beside the previous one. Each is split into chunks for all
    threads. Consecutive tasks of one chunk run on one thread and cost 10 ns each; a barrier between
    threads costs about 0.2 us. A kernel is compiled when it is appended.
    """

    def __init__(self) -> None:
        self._tasks: list[_Task] = []
        self._arguments: list[tuple[Any, ...]] = []
        self._failed = np.zeros(1, np.int64)
        self._table: np.ndarray | None = None
        self._call = (0, 0, 0)

    def __len__(self) -> int:
        return len(self._tasks)

    def append(
        self,
        kernel: Callable[..., Any],
        n: int,
        chunk: int,
        *arguments: Any,
        wait: bool = True,
    ) -> int:
        """Add kernel(start, stop, *arguments) over ranges of at most `chunk` of n rows; the task's
        number in the list. With wait=False it may begin before the task before it is done."""
        block = take_block()
        entry, code = bind(kernel, block.address, arguments)
        own = _new_block(int(block.numbers[0]))
        own.numbers[:] = block.numbers[: own.numbers.size]
        own.numbers[:2] = code, self._failed.ctypes.data
        give_back(block)
        self._tasks.append(_Task(kernel, entry, own, n, chunk, wait))
        self._arguments.append(arguments)
        self._table = None
        return len(self._tasks) - 1

    def update(self, task: int, *arguments: Any) -> None:
        """Replace a task's arguments by others of the same types and numbers of dimensions."""
        kernel, entry, own, *_ = self._tasks[task]
        block = take_block()
        found, _ = bind(kernel, block.address, arguments)
        if found != entry:
            raise TypeError(f"{kernel.__name__}: update: arguments of other types than before")
        own.numbers[2:] = block.numbers[2 : own.numbers.size]
        give_back(block)
        self._arguments[task] = arguments

    def addresses(self, start: int, stop: int) -> list[tuple[np.ndarray, int]]:
        """The places where tasks store addresses of arguments that start in this memory: (array,
        index) pairs. They are valid until a task's arguments are replaced."""
        found = []
        for task, arguments in zip(self._tasks, self._arguments, strict=True):
            arrays = (x for x in arguments if isinstance(x, np.ndarray) and x.size)
            for address in {x.__array_interface__["data"][0] for x in arrays}:
                if start <= address < stop:
                    slots = np.flatnonzero(task.block.numbers == address)
                    found += [(task.block.numbers, int(slot)) for slot in slots]
        return found

    def table(self) -> tuple[int, int, int]:
        """The driver's arguments: the address of the table, and its numbers of rows and items."""
        if self._table is None:
            rows, items = _rows(self._tasks)
            self._table = np.array(rows, np.int64).reshape(-1)
            self._call = self._table.ctypes.data, len(rows), items
        return self._call

    def check(self) -> None:
        """Raise an error if a kernel raised an exception."""
        if self._failed[0]:
            self._failed[0] = 0
            raise RuntimeError("a kernel of the list raised an exception (out of memory?)")


def _rows(tasks: list[_Task]) -> tuple[list[tuple[int, ...]], int]:
    """The driver's table (its columns are described in the driver), and the number of items."""
    rows: list[tuple[int, ...]] = []
    items = begun = 0  # items so far, and before the last task with a barrier
    for task in tasks:
        chunks = -(-task.n // task.chunk)
        if chunks < 1:
            continue
        first = items
        if task.wait and chunks == 1 and items - begun == 1:
            pass  # the thread of the previous task continues with it
        else:
            items += chunks
            begun = first if task.wait else begun
        rows.append((task.entry, task.block.address, task.n, task.chunk, first, items, begun))
    return rows, items


# Arguments ----------------------------------------------------------------------------------------


_codes: dict[tuple[Callable[..., Any], int], int] = {}
_blocks: list[Block] = []


def bind(kernel: Any, block: int, arguments: tuple[Any, ...]) -> tuple[int, int]:
    """Write arguments into the block at this address; return the addresses of the entry point that
    reads them, and of the kernel's machine code."""
    entry = kernels.load("entry_points").pack(block, *arguments)
    code = _codes.get((kernel, entry))
    if code is None:
        code = _codes[kernel, entry] = kernels.load("entry_points").native(kernel, arguments)
    return entry, code


def take_block() -> Block:
    """Take a block for arguments from the pool of free blocks."""
    try:
        return _blocks.pop()
    except IndexError:
        size = kernels.load("entry_points").MAX_SLOTS
        block = _new_block(size + 1)
        block.numbers[1] = block.address + 8 * size
        return block


def give_back(block: Block) -> None:
    _blocks.append(block)


def _new_block(size: int) -> Block:
    numbers = np.zeros(size, np.int64)
    return Block(numbers, numbers.ctypes.data)
