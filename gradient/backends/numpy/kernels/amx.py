"""Intel's Advanced Matrix Extensions: registers that are tiles of a matrix, and their products.

There are eight tiles, of up to 16 rows of 64 bytes. A thread first sets the rows of each tile, and
the bytes of a row (`configure`), and at the end releases the tiles (`release`): from then on the
system need not save them at a thread switch. `cpu.py` asks the system for permission to use them.

A product adds to a tile of 32-bit sums (M, N) the product of tiles (M, K) and (K, N). In the
latter, four bytes, or two bfloat16 numbers, that are consecutive in k in a column are adjacent.
"Intel Architecture Instruction Set Extensions Programming Reference", chapter on AMX.

Tiles are numbered in the instruction itself, so there is a function for each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from gradient.backends.numpy.kernels import instructions
from gradient.backends.numpy.kernels.compilation import ordered_subroutine
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import I8, I64

ROWS = 16
"""The most rows of a tile."""
CONFIGURATION = 64
"""Bytes that say what the tiles are."""


def _call(builder: Any, name: str, *arguments: Any) -> None:
    type_ = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    name = f"llvm.x86.{name}"
    function = builder.module.globals.get(name) or ir.Function(builder.module, type_, name)
    builder.call(function, arguments)


@emitted()
def _configure(builder, configuration):
    _call(builder, "ldtilecfg", configuration)


@emitted()
def release(builder):
    """Release this thread's tiles."""
    _call(builder, "tilerelease")


@ordered_subroutine
def describe(configuration, tile, rows, row_bytes):
    """Set a tile's number of rows, and bytes of a row, in a configuration."""
    configuration[0] = 1  # the only palette
    configuration[16 + 2 * tile] = row_bytes
    configuration[48 + tile] = rows


@ordered_subroutine
def configure(configuration):
    """Set the sizes of tiles from CONFIGURATION bytes, uint8; fill the tiles with zeros."""
    _configure(configuration)


@ordered_subroutine
def configure_whole():
    """Set all eight tiles to the largest size: ROWS rows of 4 * ROWS bytes."""
    configuration = np.zeros(CONFIGURATION, np.uint8)
    for tile in range(8):
        describe(configuration, tile, ROWS, 4 * ROWS)
    configure(configuration)


# In a builder -------------------------------------------------------------------------------------


def load(builder: Any, tile: int, place: Any, row: Any) -> None:
    """Load a tile from an address, with rows `row` bytes apart."""
    _call(builder, "tileloadd64", I8(tile), place, row)


def store(builder: Any, tile: int, place: Any, row: Any) -> None:
    """Store a tile to an address, with rows `row` bytes apart."""
    _call(builder, "tilestored64", I8(tile), place, row)


def zero(builder: Any, tile: int) -> None:
    """Fill a tile with zeros."""
    _call(builder, "tilezero", I8(tile))


def add_bytes(builder: Any, out: int, a: int, b: int, signed: bool) -> None:
    """Add the product of a tile of signed bytes with one of bytes, signed or not, to int32 sums."""
    _call(builder, "tdpbssd" if signed else "tdpbsud", I8(out), I8(a), I8(b))


def add_bfloat16(builder: Any, out: int, a: int, b: int) -> None:
    """Add the product of two tiles of bfloat16 numbers to float32 sums. Denormal numbers, below
    2^-126, count as zeros."""
    _call(builder, "tdpbf16ps", I8(out), I8(a), I8(b))


# In a kernel --------------------------------------------------------------------------------------


def _moving(move: Any, tile: int) -> Any:
    """An intrinsic move(array, at, row): a tile from or to a flat array's element `at` on, its
    rows `row` elements apart."""

    @emitted()
    def moved(builder, array, at, row):
        element = array.type.pointee
        size = 4 if isinstance(element, ir.FloatType) else element.width // 8
        place = builder.bitcast(builder.gep(array, [at]), I8.as_pointer())
        move(builder, tile, place, builder.mul(row, I64(size)))

    return moved


def _working(work: Any, *tiles: int) -> Any:
    """An intrinsic work() on tiles."""

    @emitted()
    def worked(builder):
        work(builder, *tiles)

    return worked


@emitted()
def prefetch_tile(builder, array, at, row):
    """Prefetch a tile's rows, from a flat array's element `at` on, `row` elements apart: processors
    prefetch by themselves only for few streams. The address may be beyond the array's end."""
    for i in range(ROWS):
        here = builder.add(at, builder.mul(row, I64(i)))
        instructions.prefetch(builder, builder.gep(array, [here]))


# Global names, for the cache on disk does not find kernels that refer to anything else.
load_0, load_1, load_2, load_3 = (_moving(load, tile) for tile in range(4))
load_4, load_5, load_6, load_7 = (_moving(load, tile) for tile in range(4, 8))
store_0, store_1, store_2, store_3 = (_moving(store, tile) for tile in range(4))
zero_0, zero_1, zero_2, zero_3 = (_working(zero, tile) for tile in range(4))
bfloat16_46, bfloat16_47 = _working(add_bfloat16, 0, 4, 6), _working(add_bfloat16, 1, 4, 7)
bfloat16_56, bfloat16_57 = _working(add_bfloat16, 2, 5, 6), _working(add_bfloat16, 3, 5, 7)


# Two tiles of `a` by two of `b`: their products are added to tiles 0 and 1, 2 and 3 ---------------


@ordered_subroutine
def zero_sums():
    """Fill the four tiles of sums with zeros."""
    zero_0()
    zero_1()
    zero_2()
    zero_3()


@ordered_subroutine
def load_sums(sums, at, right, down, row):
    """Load the four tiles of sums from `at` on: horizontal neighbours are `right`, vertical ones
    `down` elements apart."""
    load_0(sums, at, row)
    load_1(sums, at + right, row)
    load_2(sums, at + down, row)
    load_3(sums, at + down + right, row)


@ordered_subroutine
def store_sums(sums, at, right, down, row):
    """Store the four tiles of sums to the places of `load_sums`."""
    store_0(sums, at, row)
    store_1(sums, at + right, row)
    store_2(sums, at + down, row)
    store_3(sums, at + down + right, row)


@ordered_subroutine
def add_bfloat16_products(a, a_at, a_other, a_row, b, b_at, b_row, b_other, b_other_row):
    """Add the products of two tiles of bfloat16 numbers of `a`, at `a_at` and `a_other`, with two
    of `b`."""
    load_4(a, a_at, a_row)
    load_6(b, b_at, b_row)
    bfloat16_46()
    load_7(b, b_other, b_other_row)
    bfloat16_47()
    load_5(a, a_other, a_row)
    bfloat16_56()
    bfloat16_57()
