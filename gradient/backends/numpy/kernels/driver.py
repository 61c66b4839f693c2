"""The thread pool's native part: a list of tasks is run without Python in between.

A list is a table of rows, one a task, of COLUMNS numbers each (below). Its work is cut into work
items: an item is one chunk of one task, or a run of tasks that each are one chunk and follow
one another. Items are drawn in order from one counter, by the thread that called and by whatever
workers have come: the caller never waits for a worker to wake up, only for chunks that a worker
holds. So a thread that the system delays costs one chunk. Of a list of one task the workers draw
from the end: a thread of two then has the same half of an array in each call, in its own cache.

What the threads share lies in one block of memory, the control block, each number in a cache line
of its own. Why each needs no lock is written beside it.

=========  =========================================================================================
OWNER      Not 0 while a list runs. A caller takes it by compare-and-swap and gives it back
           (release) after all workers have left; who finds it taken runs its list alone. So whoever
           owns the pool writes TABLE ... ITEMS, ITEM and COMPLETED while no worker is inside.
GATE       Bits 0-15: workers inside the list; OPEN: they may enter; STOP: they shall end; above:
           the number of the list. One word, so that entering (compare-and-swap from open to
           open plus one) and closing (subtracting OPEN) have an order: a worker that entered is
           counted before the owner looks whether all have left. Opening releases what the owner
           wrote before it to the worker whose entry reads it (acquire); leaving (a subtraction)
           releases what the worker wrote to the owner who reads zero.
ITEM       The next item: an atomic addition gives each number to one thread. It orders nothing.
           Of a list of one task it is the caller's, and above 32 bits how many workers have drawn:
           one addition tells both, and so that none is drawn twice.
COMPLETED  Items that are done. A thread adds one after a chunk (release) and waits, before a
           task that needs earlier ones, until it reads their number (acquire): what they wrote is
           then visible, as all additions to one word form one release sequence. It never counts
           an item beyond the wait, for those are not begun before it is over. The thread with
           the earliest item not done waits for nothing: somebody always gets on.
WAKE       32 bits on which workers sleep (futex), changed at each opening.
SLEEPERS   Workers that sleep or are about to. A worker adds itself, then looks at GATE; an owner
           opens GATE, then looks at SLEEPERS; all sequentially consistent, so one of them sees
           the other. A WAKE that changed in between ends the worker's sleep before it begins.
           (The code makes all operations sequentially consistent, which is more than the others
           need and on x86 costs nothing.)
=========  =========================================================================================

Linux may put a worker that wakes up on its caller's own processor, to wait there while another one
is idle: in a virtual machine idle processors look taken. So for its wake-up a worker is barred from
the caller's processor. One that lets others run, and finds that the caller ran more than one list
meanwhile, shares its processor: it sleeps at once, to be woken elsewhere. Each worker has a seat
(SEATS) with

=========  =========================================================================================
ASLEEP     AWAKE, or DOZING: it sleeps or is about to. Who wakes it makes that BARRING, takes a bit
           out of MASK, and when the system knows it BARRED: then the worker, awake again, asks for
           all of MASK. A worker that finds BARRING leaves that to who bars it, whose
           compare-and-swap from BARRING to BARRED fails. So one thread at a time uses MASK.
THREAD     The system's number of the thread.
MASK       The processors that it may use: a bit each.
=========  =========================================================================================
"""

from __future__ import annotations

from gradient.backends.numpy.kernels.atomics import (
    MASK_SIZE,
    add,
    call,
    let_others_run,
    load,
    pause,
    processor,
    read,
    set_affinity,
    sleep,
    store,
    swap,
    wake_up,
    write,
)
from gradient.backends.numpy.kernels.compilation import ordered_kernel
from gradient.backends.numpy.kernels.compilation import ordered_subroutine as subroutine

# The control block, in bytes from its start.
OWNER, GATE, ITEM, COMPLETED, WAKE, SLEEPERS = (64 * i for i in range(6))
TABLE, ROWS, ITEMS, WORKERS, SPINS = (384 + 8 * i for i in range(5))
SEATS = 384 + 8 * 5
CONTROL_SIZE = 448

# A worker's seat, in bytes from its start.
ASLEEP, THREAD, MASK = 0, 8, 16
SEAT = 192  # three cache lines
AWAKE, DOZING, BARRING, BARRED = range(4)

OPEN, STOP, LIST = 1 << 16, 1 << 17, 1 << 18
INSIDE = OPEN - 1
LISTS = -1
"""OWNER while a list runs."""

# A row of the table, in bytes: the entry point and its block (see `entry_points`), the size and
# the length of chunks; the items before this task and up to its end; the items that must be
# done before it begins. A task in the run of the one before has no item of its own.
ENTRY, BLOCK, N, CHUNK, FIRST, END, AFTER = range(0, 56, 8)
COLUMNS = 7
ROW = 8 * COLUMNS

ONE = -1
"""ROWS of a list of one task, whose workers draw items from the end."""
AHEAD, BACK = 1, 1 << 32
"""What a caller and a worker add to ITEM as they draw one of these."""

YIELDS = 500
"""Times that a worker with nothing to do lets others run before it sleeps."""
SPINS_BEFORE_YIELD = 2000
"""Looks at a counter before a waiting thread lets others run."""


@ordered_kernel
def spin(count):
    """Wait as a worker does, for so many looks at a counter. To be timed."""
    for _ in range(count):
        pause()


@ordered_kernel
def worker(control, seat):
    """Take part in every list, until the pool is stopped."""
    seen = 0
    while True:
        gate = _wait_for_list(control, seat, seen)
        if gate & STOP:
            return
        if swap(control + GATE, gate, gate + 1):
            seen = gate // LIST
            _take_part(control, BACK)
            add(control + GATE, -1)


@ordered_kernel
def run(control, table, rows, items):
    """Run a list of tasks on the pool, or alone if there is no other thread or it has a list."""
    workers = min(read(control + WORKERS), items - 1)
    if workers < 1 or not swap(control + OWNER, 0, LISTS):
        _run_alone(table, rows)
        return
    write(control + TABLE, table)
    write(control + ROWS, rows)
    write(control + ITEMS, items)
    _run_on_pool(control, workers)


@ordered_kernel
def run_one(control, entry, code, block, n, chunk):
    """As `run`, for a list of one task, which needs no table: the kernel's `code` on a packed
    block. Whether it raised."""
    write(block, code)
    items = (n + chunk - 1) // chunk
    workers = min(read(control + WORKERS), items - 1)
    if workers < 1 or items >= BACK >> 1 or not swap(control + OWNER, 0, LISTS):
        _run_chunks(entry, block, n, chunk)
        return read(read(block + 8)) != 0
    row = control + CONTROL_SIZE
    write(row + ENTRY, entry)
    write(row + BLOCK, block)
    write(row + N, n)
    write(row + CHUNK, chunk)
    write(row + FIRST, 0)
    write(row + END, items)
    write(row + AFTER, 0)
    write(control + TABLE, row)
    write(control + ROWS, ONE)
    write(control + ITEMS, items)
    _run_on_pool(control, workers)
    return read(read(block + 8)) != 0


@subroutine
def _run_on_pool(control, workers):
    write(control + ITEM, 0)
    write(control + COMPLETED, 0)
    add(control + GATE, LIST + OPEN)
    wake = load(control + WAKE)
    store(control + WAKE, (wake + 1) & 0x7FFFFFFF)
    if load(control + SLEEPERS) > 0:
        _bar_sleepers(control)
        wake_up(control + WAKE, workers)
    _take_part(control, AHEAD)
    add(control + GATE, -OPEN)
    looks = 0
    while load(control + GATE) & INSIDE:
        looks = _wait(looks)
    store(control + OWNER, 0)


@subroutine
def _take_part(control, draw):
    """Draw items until there are no more."""
    if read(control + ROWS) == ONE:
        _take_chunks(control, draw)
        return
    row = read(control + TABLE)
    last = row + ROW * read(control + ROWS)
    items = read(control + ITEMS)
    while True:
        item = add(control + ITEM, 1)
        if item >= items:
            return
        while item >= read(row + END):
            row += ROW
        after = read(row + AFTER)
        looks = 0
        while load(control + COMPLETED) < after:
            looks = _wait(looks)
        n, chunk = read(row + N), read(row + CHUNK)
        start = (item - read(row + FIRST)) * chunk
        call(read(row + ENTRY), start, min(start + chunk, n), read(row + BLOCK))
        follower = row + ROW
        while follower < last and read(follower + FIRST) == read(follower + END):
            call(read(follower + ENTRY), 0, read(follower + N), read(follower + BLOCK))
            follower += ROW
        add(control + COMPLETED, 1)


@subroutine
def _take_chunks(control, draw):
    """As `_take_part`, of a list of one task: the caller from the first chunk on, workers from the
    last one back."""
    row = read(control + TABLE)
    items, n, chunk = read(control + ITEMS), read(row + N), read(row + CHUNK)
    entry, block = read(row + ENTRY), read(row + BLOCK)
    while True:
        drawn = add(control + ITEM, draw)
        front, back = drawn & (BACK - 1), drawn // BACK
        if front + back >= items:
            return
        start = (front if draw == AHEAD else items - 1 - back) * chunk
        call(entry, start, min(start + chunk, n), block)


@subroutine
def _run_alone(table, rows):
    for row in range(table, table + ROW * rows, ROW):
        _run_chunks(read(row + ENTRY), read(row + BLOCK), read(row + N), read(row + CHUNK))


@subroutine
def _run_chunks(entry, block, n, chunk):
    for start in range(0, n, chunk):
        call(entry, start, min(start + chunk, n), block)


@subroutine
def _wait(looks):
    if looks < SPINS_BEFORE_YIELD:
        pause()
    else:
        let_others_run()
    return looks + 1


@subroutine
def _bar_sleepers(control):
    """Have those that sleep wake up on other processors than this thread's."""
    here = processor()
    if here < 0 or here >= 8 * MASK_SIZE:
        return
    seats = read(control + SEATS)
    for seat in range(seats, seats + SEAT * read(control + WORKERS), SEAT):
        word, bit = seat + MASK + here // 64 * 8, 1 << (here % 64)
        mask = read(word)
        state = seat + ASLEEP
        if mask & bit and (swap(state, DOZING, BARRING) or swap(state, BARRED, BARRING)):
            write(word, mask & ~bit)
            set_affinity(read(seat + THREAD), seat + MASK)
            write(word, mask)
            if not swap(state, BARRING, BARRED):
                set_affinity(read(seat + THREAD), seat + MASK)


@subroutine
def _be_awake(seat):
    if swap(seat + ASLEEP, DOZING, AWAKE) or swap(seat + ASLEEP, BARRING, AWAKE):
        return
    store(seat + ASLEEP, AWAKE)
    set_affinity(read(seat + THREAD), seat + MASK)


@subroutine
def _wait_for_list(control, seat, seen):
    """GATE, when it is open for a list that this worker has not seen, or the pool is stopped."""
    spins = read(control + SPINS)
    looks = 0
    while True:
        wake = load(control + WAKE)
        gate = load(control + GATE)
        if gate & STOP or (gate & OPEN and gate // LIST != seen):
            return gate
        if looks < spins:
            pause()
        elif looks < spins + YIELDS:
            let_others_run()
            if load(control + GATE) // LIST - gate // LIST > 1:
                looks = spins + YIELDS  # others ran on this processor: wake up on another one
        else:
            store(seat + ASLEEP, DOZING)
            add(control + SLEEPERS, 1)
            gate = load(control + GATE)
            if not (gate & STOP or (gate & OPEN and gate // LIST != seen)):
                sleep(control + WAKE, wake)
            add(control + SLEEPERS, -1)
            _be_awake(seat)
        looks += 1


@ordered_kernel
def reserve(control, token):
    """Own the pool, if nobody does, until `unreserve` is called with the same number above 0."""
    swap(control + OWNER, 0, token)


@ordered_kernel
def unreserve(control, token):
    swap(control + OWNER, token, 0)


@ordered_kernel
def stop(control):
    """Have all workers end, those that sleep too."""
    add(control + GATE, STOP)
    store(control + WAKE, (load(control + WAKE) + 1) & 0x7FFFFFFF)
    wake_up(control + WAKE, INSIDE)
