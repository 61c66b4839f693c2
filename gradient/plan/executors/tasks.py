"""CPU kernels as tasks, for calls that only kernels compute, without Python between them.

Each method of the backend runs once, on the plan's places for its arguments, and its kernel
launches are noted with their arguments. They become tasks that write to the places of the results,
if the method does nothing else: only kernels read its operands and write its results. Arrays passed
from one kernel to the next are kept for the tasks. Large float arrays among them that are written
before they are read become scratch memory, which all calls share. All this is tested: on other
operands, the tasks must give the same bytes as the method.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.numpy import threads
from gradient.plan.arena import ALIGNMENT
from gradient.plan.calls import leaves
from gradient.plan.executors.program import Scratch, Step, task, with_scratch

SMALL = 1 << 20
"""The maximum bytes of an array that is compared with the operands, to find copies of them."""

SHARED = 1 << 16
"""The minimum bytes of an array between two kernels whose memory calls share."""

PIECE = 1 << 12
"""Elements that are filled or compared at a time, so that a trial needs little memory."""

REMEMBERED = 1 << 12
"""The maximum number of calls, of all plans, whose trial is remembered."""

TRIALS = (0.25, 1.0), (1.125, 0.375)
"""The first and the last number of an operand in each of two trials. Neighbouring operands get
different numbers: remainders of equal ones would all be 0."""


class _Tried(NamedTuple):
    """The kernels that a call launches, and which arrays, by launch and argument, are scratch."""

    started: tuple[Any, ...]
    scratch: frozenset[tuple[int, int]]


_tried: dict[Any, _Tried] = {}
"""{key of a call, without values: the kernels that compute it}, if these compute all of it."""


def lower(
    function: Callable[[], Any], operands: list[np.ndarray], own: Callable[[np.ndarray], bool],
    out: Any, kind: Any, kept: frozenset[tuple[int, int]] = frozenset(),
) -> list[Step] | None:  # fmt: skip
    """The tasks that compute `function` on these operands and places of results; None if tasks
    alone cannot. `own` says which operands may be filled for a trial. Calls of one `kind`, such as
    those of a model's layers, are tried once. `kept` arguments, by launch and number, are known not
    to be scratch."""
    places = list(leaves(out, np.ndarray))
    key = (kind, *map(_layout, (*operands, *places)), *map(own, operands))
    filled = list(filter(own, operands))
    for i, x in enumerate(filled):
        _fill(x, *TRIALS[i % 2])
    seen = _watched(function, operands)
    started = tuple(kernel for kernel, *_ in seen.launches)
    steps = _steps(seen, operands, places)
    if steps is None:
        return None
    known = (*operands, *places, *leaves(seen.result, np.ndarray))
    tried = _tried.get(key)
    if tried is not None and tried.started == started:
        return _with_shared(steps, seen, tried.scratch, known)
    scratch = _scratch(seen, known) - kept
    owners = {at: weakref.ref(_owner(_argument(seen, at))) for at in scratch}
    steps = _with_shared(steps, seen, scratch, ())
    del seen, known  # holding them beside others would raise a plan's peak of memory
    alive = {at for at, owner in owners.items() if owner() is not None}
    if alive:  # the method keeps them
        return lower(function, operands, own, out, kind, kept | alive)
    for i, x in enumerate(filled):
        _fill(x, *TRIALS[1 - i % 2])
    again = _watched(function, operands)
    if [kernel for kernel, *_ in again.launches] != list(started):  # the first run prepared a cache
        return lower(function, operands, own, out, kind, kept)
    expected = list(leaves(again.result, np.ndarray))
    del again
    if _write(steps, places, expected):
        if len(_tried) >= REMEMBERED:
            _tried.clear()
        _tried[key] = _Tried(started, scratch)
        return steps
    if scratch:  # a kernel reads what Python has written there
        return lower(function, operands, own, out, kind, kept | scratch)
    return None


def _steps(seen: _Seen, operands: list[np.ndarray], places: list[np.ndarray]) -> list[Step] | None:
    """The kernels as tasks that write to the places of the results; None if the method also does
    something else."""
    results = list(leaves(seen.result, np.ndarray))
    used = [x for given in seen.launches for x in given if _is_array(x)]
    if seen.copies or not used or len(results) != len(places):
        return None
    if not all(any(np.may_share_memory(x, y) for y in used) for x in (*results, *operands)
               if x.size):  # fmt: skip
        return None
    steps: list[Step] = []
    for kernel, n, chunk, *arguments in seen.launches:
        arguments = [_placed(x, results, places) for x in arguments]
        if any(x is None for x in arguments):
            return None
        steps.append((task, (kernel, n, chunk, *arguments)))
    return steps


def _write(steps: list[Step], places: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    """Whether the tasks write the expected bytes to the places, whatever the places and the scratch
    memory held before."""
    steps, scratch = with_scratch(steps)
    for x in (*places, scratch):
        _poison(x)
    tasks = threads.Tasks()
    for _, given in steps:
        tasks.append(*given)
    threads.run_tasks(tasks)
    return all(map(_same_bytes, places, expected))


def _same_bytes(x: np.ndarray, y: np.ndarray) -> bool:
    if x.size <= PIECE:
        return x.tobytes() == y.tobytes()
    rows = max(1, len(x) * PIECE // x.size)  # at a time, as they are copied
    return all(
        x[i : i + rows].tobytes() == y[i : i + rows].tobytes() for i in range(0, len(x), rows)
    )


def _poison(x: np.ndarray) -> None:
    x.reshape(-1).view(np.uint8).fill(0xFF) if x.flags.c_contiguous else x.fill(0)


def _owner(x: np.ndarray) -> np.ndarray:
    """The array that owns the memory of a view."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def _argument(seen: _Seen, at: tuple[int, int]) -> np.ndarray:
    launch, number = at
    found: np.ndarray = seen.launches[launch][number]
    return found


def _scratch(seen: _Seen, known: Sequence[np.ndarray]) -> frozenset[tuple[int, int]]:
    """The arguments that are large float arrays and share no memory with the `known` arrays."""
    found = set()
    for launch, arguments in enumerate(seen.launches):
        for number, x in enumerate(arguments):
            if not _is_array(x):
                continue
            owner = _owner(x)
            if (  # of the owner, so that all views of its memory are found
                owner.nbytes >= SHARED
                and owner.dtype.kind == "f"
                and owner.flags.carray
                and owner.base is None
                and not any(np.may_share_memory(owner, each) for each in known)
            ):
                found.add((launch, number))
    return frozenset(found)


def _with_shared(
    steps: list[Step],
    seen: _Seen,
    scratch: frozenset[tuple[int, int]],
    known: Sequence[np.ndarray],
) -> list[Step]:
    """The tasks with scratch memory instead of these arguments. They are unchanged if an argument
    is one of the `known` arrays this time, as may be with another number of threads."""
    for each in scratch:
        x = _argument(seen, each)
        if not _is_array(x) or any(np.may_share_memory(x, y) for y in known):
            return steps
    offsets: dict[int, int] = {}
    end = 0
    shared = list(steps)
    arguments_of: dict[int, list[np.ndarray]] = {}
    for each in scratch:
        x = _argument(seen, each)
        arguments_of.setdefault(id(_owner(x)), []).append(x)
    for launch, number in sorted(scratch):
        x = _argument(seen, (launch, number))
        owner = _owner(x)
        if id(owner) not in offsets:
            offsets[id(owner)] = end
            end += -(-owner.nbytes // ALIGNMENT) * ALIGNMENT
        at = offsets[id(owner)] + x.ctypes.data - owner.ctypes.data
        at += _room_before(owner, arguments_of[id(owner)])
        function, arguments = shared[launch]
        place = Scratch(at, x.shape, x.dtype, x.strides, offsets[id(owner)] + owner.nbytes)
        shared[launch] = function, (*arguments[:number], place, *arguments[number + 1 :])
    return shared


def _room_before(owner: np.ndarray, arguments: list[np.ndarray]) -> int:
    """The offset from a cache line at which an owner's scratch memory must start, so that its
    arguments keep their positions in cache lines; 0 if they leave no room for that."""
    room = owner.ctypes.data % ALIGNMENT
    ends = (x.ctypes.data - owner.ctypes.data + x.nbytes for x in arguments if x.flags.forc)
    stays = all(x.flags.forc for x in arguments) and room + max(ends) <= owner.nbytes
    return room if stays else 0


class _Seen(NamedTuple):
    """The result of a function, the kernels it launched with their arguments, and whether one of
    these arguments was a copy of an operand."""

    result: Any
    launches: list[tuple[Any, ...]]
    copies: bool


def _watched(function: Callable[[], Any], operands: list[np.ndarray]) -> _Seen:
    launches: list[tuple[Any, ...]] = []
    copies: list[np.ndarray] = []

    def launch(*given: Any) -> None:
        launches.append(given)
        copies.extend(x for x in given if _is_array(x) and _is_copy(x, operands))

    with threads.listening(launch):
        result = function()
    # A result may get memory that still holds such values.
    made = list(leaves(result, np.ndarray))
    copied = any(not any(np.may_share_memory(x, y) for y in made) for x in copies)
    return _Seen(result, launches, copied)


def _layout(x: np.ndarray) -> tuple[Any, ...]:
    return x.shape, x.dtype.str, x.strides


def _is_copy(x: np.ndarray, operands: list[np.ndarray]) -> bool:
    """Whether an array is a copy of an operand: it would be out of date in the next replay."""
    if not 0 < x.nbytes <= SMALL or any(np.may_share_memory(x, operand) for operand in operands):
        return False
    pieces = [slice(i, i + PIECE) for i in range(0, x.size, PIECE)]
    return any(
        x.size == operand.size
        and all(
            operand.flat[piece].astype(x.dtype).tobytes() == x.flat[piece].tobytes()
            for piece in pieces
        )
        for operand in operands
    )


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def _placed(x: Any, results: list[np.ndarray], places: list[np.ndarray]) -> Any:
    """An argument of a kernel, with a result replaced by its place; None if it has no place."""
    if not _is_array(x) or x.size == 0:
        return x
    for result, place in zip(results, places, strict=True):
        if not np.may_share_memory(x, result):
            continue
        if result.strides == place.strides and (back := _reversed_axes(result)):
            result, place = np.flip(result, back), np.flip(place, back)  # from the first byte on
        if x.ctypes.data != result.ctypes.data or x.nbytes != result.nbytes:
            return None
        if x.shape == place.shape and x.strides == place.strides and x.dtype == place.dtype:
            return place
        if x.flags.c_contiguous and result.flags.c_contiguous and place.flags.c_contiguous:
            return place.reshape(-1).view(x.dtype).reshape(x.shape)
        return None
    return x


def _reversed_axes(x: np.ndarray) -> tuple[int, ...]:
    return tuple(axis for axis, step in enumerate(x.strides) if step < 0)


def _fill(x: np.ndarray, first: float, last: float) -> None:
    """Fill x with numbers to try a kernel on: all different, and within its range."""
    if x.dtype.kind in "fV" and x.dtype.itemsize > 1:
        flat = x.ravel("K")
        if not np.may_share_memory(flat, x):  # it has gaps
            flat = np.empty_like(flat)
        step = (last - first) / max(1, x.size - 1)
        for i in range(0, x.size, PIECE):  # in pieces, as temporaries take 8 bytes a number
            flat[i : i + PIECE] = first + step * np.arange(i, min(i + PIECE, x.size))
        if not np.may_share_memory(flat, x):
            x[...] = flat.reshape(x.shape)
    elif x.dtype == bool:
        x[...] = (np.arange(x.size) % 3 > (first > last)).reshape(x.shape)
    else:
        x[...] = 0
