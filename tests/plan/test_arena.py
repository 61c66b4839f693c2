"""Where buffers lie: apart while they live, in about as many bytes as are needed at a time."""

from __future__ import annotations

import random

import numpy as np
import pytest

from gradient.plan.arena import ALIGNMENT, MANY, Layout, array_at, block, packed, place_during
from gradient.plan.calls import Buffer, Ref

Lives = dict[Ref, tuple[int, int]]


def of_bytes(*sizes: int) -> list[Buffer]:
    return [Buffer((n,), np.dtype(np.uint8), (1,), "internal", Ref(i)) for i, n in enumerate(sizes)]


def most(lives: Lives, buffers: list[Buffer]) -> int:
    """The bytes that are needed at a time."""
    sizes = {root: -(-buffers[root].nbytes // ALIGNMENT) * ALIGNMENT for root in lives}
    return max(
        sum(size for root, size in sizes.items() if lives[root][0] <= call <= lives[root][1])
        for call, _ in lives.values()
    )


def check(layout: Layout, lives: Lives, buffers: list[Buffer]) -> None:
    """Nothing lies where something else does that is alive, or beyond the layout's end."""
    assert layout.offsets.keys() == lives.keys()
    for a, (born, dies) in lives.items():
        at, end = layout.offsets[a], layout.offsets[a] + buffers[a].nbytes
        assert at % ALIGNMENT == 0 and end <= layout.nbytes
        for b, (first, last) in lives.items():
            if a < b and first <= dies and born <= last:
                other = layout.offsets[b]
                assert end <= other or other + buffers[b].nbytes <= at


@pytest.mark.parametrize("count", [1, 2, 7, 60, MANY + 1])
def test_buffers_lie_apart_while_they_live(count: int) -> None:
    draws = random.Random(count)
    buffers = of_bytes(*(draws.choice((0, 1, 64, 1000, 1 << 16, 1 << 20)) for _ in range(count)))
    born = [draws.randrange(count) for _ in range(count)]
    lives = {Ref(i): (first, first + draws.randrange(9)) for i, first in enumerate(born)}
    layout = packed(lives, buffers)
    check(layout, lives, buffers)
    assert layout.nbytes >= most(lives, buffers)


def test_no_buffers_take_no_memory() -> None:
    assert packed({}, []) == Layout({}, 0)
    assert packed({Ref(0): (0, 3)}, of_bytes(0)).nbytes == 0


def test_buffers_take_about_as_much_as_is_alive() -> None:
    """As in a backward pass: some live long, each call has scratch memory, sizes differ."""
    draws, sizes, lives = random.Random(0), list[int](), Lives()
    for layer in range(30):
        size = draws.choice((1 << 20, 3 << 19, 5 << 18))
        calls = (layer, 61 - layer), (60 - layer, 62 - layer), (60 - layer, 60 - layer)
        for call, n in zip(calls, (size, size // 2, draws.randrange(1 << 21)), strict=True):
            lives[Ref(len(sizes))] = call
            sizes.append(n)
    buffers = of_bytes(*sizes)
    layout = packed(lives, buffers)
    check(layout, lives, buffers)
    assert layout.nbytes <= 1.01 * most(lives, buffers)


def test_what_ends_last_goes_before_the_larger() -> None:
    """Largest first, the one of 2 finds no room below the one of 3, which lies above the largest;
    by the number of bytes that are alive, the largest comes last."""
    unit = 1 << 20
    buffers = of_bytes(5 * unit, 3 * unit, 2 * unit, 6 * unit)
    lives = {Ref(0): (2, 3), Ref(1): (2, 4), Ref(2): (2, 3), Ref(3): (4, 6)}
    layout = packed(lives, buffers)
    check(layout, lives, buffers)
    assert layout.nbytes == most(lives, buffers) == 10 * unit


def test_scratch_memory_lies_where_no_buffer_is_needed() -> None:
    kib = 1 << 10
    x = np.zeros(kib, np.uint8)
    buffers = [Buffer(x.shape, x.dtype, x.strides, "internal", Ref(i)) for i in range(3)]
    lives = {Ref(0): (0, 1), Ref(1): (1, 4), Ref(2): (3, 4)}
    layout = Layout({Ref(0): 0, Ref(1): kib, Ref(2): 2 * kib}, 3 * kib)

    def place(call: int, nbytes: int) -> int:
        return place_during(call, nbytes, layout, lives, buffers)

    assert place(0, 2 * kib) == kib
    assert place(2, kib) == 0  # the first has died
    assert place(2, kib + 1) == 2 * kib
    assert place(4, kib) == 0 and place(4, kib + 1) == 3 * kib  # beyond the end


def test_an_axis_in_reverse_lies_in_reverse() -> None:
    """As the running sums of the gradient of cumsum, of which a view is in order."""
    strides = (512, -128, 4)
    buffer = Buffer((3, 4, 32), np.dtype(np.float32), strides, "internal", Ref(0))
    memory = block(buffer.nbytes)
    x = array_at(memory, buffer)
    assert x.strides == strides and np.flip(x, 1).flags.c_contiguous
    x[...] = np.arange(x.size).reshape(x.shape)
    assert memory.view(np.float32).sum() == x.sum()
