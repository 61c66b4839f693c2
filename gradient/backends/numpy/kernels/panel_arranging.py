"""Packed weights are arranged in panels (`panels.py`): read as they are stored, written in order.

A block of each of a panel's rows is unpacked into memory that stays in the cache, and goes from
there to its place by vectors. Stored blocks are read once and in order, panels written once.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels import instructions
from gradient.backends.numpy.kernels.compilation import ordered_kernel
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.formats import INTEGERS, WIDTH, Block, Vector
from gradient.backends.numpy.kernels.llvm_types import I8, I16, I32, I64
from gradient.backends.numpy.kernels.panels import (
    MULTIPLES,
    PAIR,
    PANELS,
    ROWS,
    STEP,
    WORD,
    format_of,
)


def transposed(builder: Any, vectors: list[Any]) -> list[Any]:
    """Of V vectors of sixteen 32-bit words, V a power of two, vector i those of the rows i, i + V,
    ... one behind the other: vector j of word j of the rows 0 to 15."""
    found, distance = list(vectors), 1
    while distance < len(found):
        lanes = range(ROWS)
        low = [n ^ distance | ROWS if n & distance else n for n in lanes]
        high = [n | ROWS if n & distance else n | distance for n in lanes]
        for i in range(len(found)):
            if not i & distance:
                both = found[i], found[i + distance]
                for at, numbers in ((i, low), (i + distance, high)):
                    mask = ir.Constant(INTEGERS, numbers)
                    found[at] = builder.shuffle_vector(*both, mask)
        distance *= 2
    return found


def words_of_rows(builder: Any, pointer: Any, stride: int, count: int) -> list[Any]:
    """The `count` first 32-bit words of sixteen rows `stride` bytes apart, a vector of each."""
    vectors = []
    for i in range(count):
        rows = []
        for row in range(i, ROWS, count):
            place = builder.gep(pointer, [I64(stride * row)])
            type_ = ir.VectorType(I32, count)
            rows.append(builder.load(builder.bitcast(place, type_.as_pointer())))
            rows[-1].align = 1
        while len(rows) > 1:
            mask = ir.Constant(
                ir.VectorType(I32, 2 * rows[0].type.count), list(range(2 * rows[0].type.count))
            )
            rows = [
                builder.shuffle_vector(a, b, mask)
                for a, b in zip(rows[::2], rows[1::2], strict=True)
            ]
        vectors.append(rows[0])
    return transposed(builder, vectors)


@emitted(types.UniTuple(types.int64, 4))
def panel_sizes(builder, form, *, kinds):
    """Of a format: (bytes of a stored block, of the scales before a pair's blocks, of a pair's
    block, of the memory that `read_block` and `write_block` share)."""
    fmt = format_of(kinds["form"])
    held = ROWS * (fmt.weights + 2 * MULTIPLES)
    sizes = fmt.size, PAIR * fmt.of_row, fmt.block_bytes, held
    return ir.Constant(ir.ArrayType(I64, len(sizes)), sizes)


@emitted()
def read_block(builder, weight, at, row, form, held, *, kinds):
    """Put what is stored in the block at byte `at` of `weight` into `held`, as the row `row`.

    held    codes, a byte each (ROWS, weights); multiples (ROWS, MULTIPLES); halves (halves, ROWS)
    """
    fmt = format_of(kinds["form"])
    pointer = builder.gep(weight, [at])
    block, codes = Block(builder, pointer), builder.mul(row, I64(fmt.weights))
    for i, each in enumerate(fmt.read(block)):
        _store_bytes(builder, builder.gep(held, [codes]), WIDTH * i, each)
    place = builder.gep(held, [I64(ROWS * fmt.weights)])
    if fmt.multiples is not None:
        to = builder.gep(place, [builder.mul(row, I64(MULTIPLES))])
        _store_bytes(builder, to, 0, fmt.multiples(block))
    place = builder.gep(place, [builder.add(builder.mul(row, I64(2)), I64(ROWS * MULTIPLES))])
    for i, half in enumerate(() if fmt.apart else fmt.halves):
        value = builder.load(builder.bitcast(builder.gep(pointer, [I64(half)]), I16.as_pointer()))
        value.align = 1
        to = builder.bitcast(builder.gep(place, [I64(2 * ROWS * i)]), I16.as_pointer())
        builder.store(value, to).align = 1


@emitted()
def write_block(builder, held, form, panel, panels, at, *, kinds):
    """Put the block of all rows that `held` has into the one at byte `at` of `panels`, as those of
    its first panel or of its second one; its fields too, unless they are stored apart."""
    fmt = format_of(kinds["form"])
    block = builder.gep(panels, [at])
    with cgutils.for_range(builder, I64(fmt.steps), intp=I64) as loop:
        from_ = builder.gep(held, [builder.mul(loop.index, I64(STEP))])
        words = [
            Vector(builder, word) for word in words_of_rows(builder, from_, fmt.weights, STEP // 4)
        ]
        step = builder.add(I64(fmt.head_bytes), builder.mul(loop.index, I64(fmt.step_bytes)))
        to = builder.gep(block, [builder.add(step, builder.mul(panel, I64(WORD)))])
        shift = 0
        for plane, width in enumerate(fmt.planes):
            mask = ((1 << width) - 1 << shift) * 0x01010101
            for j in range(width):
                fields = []
                for field in range(8 // width):
                    code, left = words[j + width * field] & mask, width * field - shift
                    fields.append(code << left if left > 0 else code >> -left if left else code)
                word = functools.reduce(operator.or_, fields)
                _store(builder, builder.gep(to, [I64(fmt.word_at(plane, j, 0))]), word.value)
            shift += width
    if fmt.apart:
        return
    source = builder.gep(held, [I64(ROWS * fmt.weights)])
    numbers = builder.gep(source, [I64(ROWS * MULTIPLES)])
    to = builder.gep(block, [builder.mul(panel, I64(2 * ROWS))])
    for i in range(len(fmt.halves)):
        here = builder.gep(numbers, [I64(2 * ROWS * i)])
        value = builder.load(builder.bitcast(here, ir.VectorType(I16, ROWS).as_pointer()))
        value.align = 1
        _store(builder, builder.gep(to, [I64(2 * PAIR * i)]), value)
    to = builder.gep(block, [builder.mul(panel, I64(ROWS))])
    if fmt.count:
        of_four = words_of_rows(builder, source, MULTIPLES, 4)
    for number in range(fmt.count):
        bytes_ = builder.bitcast(of_four[number // 4], ir.VectorType(I8, 4 * ROWS))
        order = [4 * row + number % 4 for row in range(ROWS)]
        mask = ir.Constant(ir.VectorType(I32, ROWS), order)
        value = builder.shuffle_vector(bytes_, bytes_, mask)
        _store(builder, builder.gep(to, [I64(fmt.multiple_at(number))]), value)


@emitted()
def prefetch(builder, array, at, count):
    """Ask for `count` bytes of an array from `at` on, which may lie behind its end."""
    with cgutils.for_range_slice(builder, I64(0), count, I64(WORD), I64) as (index, _):
        place = builder.gep(array, [builder.add(at, index)])
        instructions.prefetch(builder, place)


def _store_bytes(builder: Any, place: Any, at: int, codes: Vector) -> None:
    type_ = ir.VectorType(I8, WIDTH)
    _store(builder, builder.gep(place, [I64(at)]), builder.trunc(codes.value, type_))


def _store(builder: Any, place: Any, value: Any) -> None:
    builder.store(value, builder.bitcast(place, value.type.as_pointer())).align = 1


@ordered_kernel
def arrange(start, stop, weight, form, rows, blocks, panels):
    """Write the pairs of panels start to stop of a weight (rows, K) to their places in `panels`.

    weight    the bytes of its stored blocks, `blocks` a row; missing rows of a panel become zeros

    Fields that a format stores apart are left alone.
    """
    size, first_bytes, block_bytes, held_bytes = panel_sizes(form)
    held = np.zeros(held_bytes, np.uint8)
    for panel in range(PANELS * start, PANELS * stop):
        pair, which = panel // PANELS, panel % PANELS
        first, count = panel * ROWS, max(0, min(ROWS, rows - panel * ROWS))
        if count < ROWS:
            held[:] = 0
        at = pair * (first_bytes + blocks * block_bytes) + first_bytes
        for block in range(blocks):
            prefetch(weight, ((first + ROWS) * blocks + ROWS * block) * size, ROWS * size)
            for row in range(count):
                read_block(weight, ((first + row) * blocks + block) * size, row, form, held)
            write_block(held, form, which, panels, at)
            at += block_bytes
