"""Sums, products, running sums and the places of the largest, along an axis of arrays seen as
(outer, n, inner), flat."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels import vector_operators as vector_operators
from gradient.backends.numpy.kernels.building import read, write
from gradient.backends.numpy.kernels.compilation import (
    kernel,
    ordered_kernel,
    ordered_subroutine,
    subroutine,
)
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import I32, I64
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.vectors import LANES, fill, lanes, load, store

SHORT = 32
"""Elements of a row up to which several rows are added up side by side."""

ROWS_TOGETHER = {"f": LANES[types.float32], "d": LANES[types.float64]}
"""Their number, by the character of a dtype."""

PART = 4096
"""Elements of a row that are added up together, in vectors whose lanes are chains."""

COLUMNS = 512
"""Columns that are added up together: their sums stay in the first cache."""

ROWS = 128
"""Rows of columns that are added up one after another, each block of them to a sum in float64: of a
million rows, the small ones would be lost beside the sum of all before."""


@subroutine
def total(x):
    result = x.dtype.type(0)
    for i in range(x.size):
        result += x[i]
    return result


@subroutine
def total_of_squares(x):
    result = x.dtype.type(0)
    for i in range(x.size):
        result += x[i] * x[i]
    return result


EIGHT = 8
"""Numbers that a vector adds up side by side, or takes the running sums of."""

TOGETHER = 128
"""Numbers that NumPy adds up in eight chains, before it adds such sums by twos."""


@emitted(lambda x, first, n: x.dtype)
def pairwise_sum(builder, x, first, n):
    """The sum of n numbers from x[first] on, by a function that is made once for a module. (One of
    numba's that calls itself is lost when a kernel is read from the disk.)"""
    function = builder.module.globals.get("pairwise_sum")
    if function is None:
        function = _pairwise_sum(builder.module, x.type)
    return builder.call(function, [x, first, n])


def _pairwise_sum(module: Any, pointer: Any) -> Any:
    numbers = ir.VectorType(pointer.pointee, EIGHT)
    kind = ir.FunctionType(pointer.pointee, [pointer, I64, I64])
    function = ir.Function(module, kind, "pairwise_sum")
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    x, first, n = function.args

    with builder.if_then(builder.icmp_signed(">", n, I64(TOGETHER))):
        half = builder.and_(builder.lshr(n, I64(1)), I64(-EIGHT))
        rest = builder.add(first, half), builder.sub(n, half)
        parts = [builder.call(function, [x, *part]) for part in ((first, half), rest)]
        builder.ret(builder.fadd(*parts))

    chains = cgutils.alloca_once_value(builder, ir.Constant(numbers, None))
    eights = builder.add(first, builder.and_(n, I64(-EIGHT)))
    with cgutils.for_range_slice(builder, first, eights, I64(EIGHT)) as (i, _):
        eight = read(builder, builder.gep(x, [i]), numbers)
        builder.store(builder.fadd(builder.load(chains), eight), chains)
    sums = builder.load(chains)
    while sums.type.count > 1:  # of neighbours
        n_sums = sums.type.count
        order = ir.VectorType(I32, n_sums // 2)
        sums = builder.fadd(
            *[
                builder.shuffle_vector(sums, sums, ir.Constant(order, list(range(i, n_sums, 2))))
                for i in range(2)
            ]
        )
    total = cgutils.alloca_once_value(builder, builder.extract_element(sums, I32(0)))
    end = builder.add(first, n)
    with cgutils.for_range_slice(builder, eights, end, I64(1)) as (i, _):
        number = builder.load(builder.gep(x, [i]))
        builder.store(builder.fadd(builder.load(total), number), total)
    builder.ret(builder.load(total))
    return function


@ordered_subroutine
def numpy_sum(x, first, n):
    """The sum of n numbers from x[first] on in NumPy's order (pairwise: Higham 1993), with its
    bits."""
    return pairwise_sum(x, first, n)


@ordered_kernel
def numpy_sums(start, stop, x, n, out):
    """out[r] = the sum of row r of n numbers of x, in NumPy's order, for the rows start to stop."""
    for r in range(start, stop):
        out[r] = numpy_sum(x, r * n, n)


@kernel
def squares_of_parts(start, stop, x, n, parts, out):
    """As `sum_of_parts`, of the squares."""
    for item in range(start, stop):
        row, part = item // parts, item % parts
        first = row * n + part * PART
        out[item] = total_of_squares(x[first : min(first + PART, (row + 1) * n)])


@kernel
def sum_of_parts(start, stop, x, n, parts, out):
    """out (rows, parts) = the sums of the parts of each row of n, for the parts start to stop."""
    for item in range(start, stop):
        row, part = item // parts, item % parts
        first = row * n + part * PART
        out[item] = total(x[first : min(first + PART, (row + 1) * n)])


@kernel
def root_of_sum(start, stop, x, out):
    """out[0] = the square root of the sum of x, which is short."""
    for i in range(start, stop):
        out[i] = np.sqrt(total(x))


@ordered_kernel
def sum_of_short_rows(start, stop, x, n, rows, out):
    """out (rows,) = the sums of rows of n numbers, each one chain: an item is as many rows as a
    vector has elements, reversed and added up together."""
    width = lanes(x)
    square = np.empty(width * width, x.dtype)
    for item in range(start, stop):
        first, last = item * width, min(rows, (item + 1) * width)
        if last - first < width or (last - 1) * n + (n + width - 1) // width * width > x.size:
            for row in range(first, last):
                result = x.dtype.type(0)
                for i in range(row * n, (row + 1) * n):
                    result += x[i]
                out[row] = result
            continue
        sums = fill(x.dtype.type(0))
        for i in range(0, n, width):
            transpose(x, first * n + i, n, square, 0, width)
            for j in range(min(width, n - i)):
                sums += load(square, j * width)
        store(out, first, sums)


@subroutine
def product(x):
    result = x.dtype.type(1)
    for i in range(x.size):
        result *= x[i]
    return result


@kernel
def product_of_parts(start, stop, x, n, parts, out):
    """As `sum_of_parts`, the products."""
    for item in range(start, stop):
        row, part = item // parts, item % parts
        first = row * n + part * PART
        out[item] = product(x[first : min(first + PART, (row + 1) * n)])


@ordered_subroutine
def add_rows(x, inner, y):
    """y += each of four rows, in their order."""
    a, b, c, d = x, x[inner:], x[2 * inner :], x[3 * inner :]
    for j in range(y.size):
        y[j] = (((y[j] + a[j]) + b[j]) + c[j]) + d[j]


@ordered_subroutine
def add_block(x, at, n, inner, y):
    """y = the sums of n rows of x, of which the first begins at `at`."""
    y[:] = 0
    i = 0
    while i + 4 <= n:
        add_rows(x[at:], inner, y)
        i, at = i + 4, at + 4 * inner
    while i < n:
        row = x[at : at + y.size]
        for j in range(y.size):
            y[j] += row[j]
        i, at = i + 1, at + inner


@ordered_kernel
def sum_of_columns(start, stop, x, n, inner, out):
    """out (outer, inner) = the sums over n, for the blocks of columns start to stop."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    sums = np.empty(COLUMNS if n > ROWS else 0, np.float64)
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        right = min(left + COLUMNS, inner)
        y = out[outer * inner + left : outer * inner + right]
        at = outer * n * inner + left
        if n <= ROWS:
            add_block(x, at, n, inner, y)
            continue
        sums[:] = 0
        for first in range(0, n, ROWS):
            add_block(x, at + first * inner, min(ROWS, n - first), inner, y)
            for j in range(y.size):
                sums[j] += y[j]
        for j in range(y.size):
            y[j] = sums[j]


@ordered_subroutine
def keep_first_largest(x, sign, number, best, places):
    """best = the larger of it and sign * x; places = the number of x's row where that is new."""
    for j in range(best.size):
        value, kept, place = sign * x[j], best[j], places[j]
        replaces = (value > kept) | ((value != value) & (kept == kept))
        best[j] = value if replaces else kept
        places[j] = number if replaces else place


@ordered_kernel
def argmax_of_columns(start, stop, x, n, inner, sign, out):
    """out (outer, inner) = where along n the largest sign * x is, the first of equal ones or of
    NaNs, for the blocks of columns start to stop."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    best, places = np.empty(COLUMNS, x.dtype), np.empty(COLUMNS, np.int32)
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        count = min(COLUMNS, inner - left)
        at, to = outer * n * inner + left, outer * inner + left
        for j in range(count):
            best[j] = sign * x[at + j]
            places[j] = 0
        for i in range(1, n):
            row = x[at + i * inner : at + i * inner + count]
            keep_first_largest(row, sign, np.int32(i), best[:count], places[:count])
        for j in range(count):
            out[to + j] = places[j]


def _sums_of_eight(backward: bool) -> Any:
    """An intrinsic sums(x, at, total, out) -> total: out[at : at + 8] = total + the running sums of
    x[at : at + 8], or both of at, at - 1, ... at - 7; what it gives is the last."""

    @emitted(types.float64)
    def sums(builder, x, at, total, out):
        bits = ir.IntType(32)
        numbers = ir.VectorType(x.type.pointee, EIGHT)
        doubles = ir.VectorType(ir.DoubleType(), EIGHT)
        zeros = ir.Constant(doubles, [0.0] * EIGHT)

        def shuffled(a: Any, b: Any, lanes: Any) -> Any:
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(bits, EIGHT), lanes))

        if backward:
            at = builder.sub(at, ir.Constant(at.type, EIGHT - 1))
        size = 8 if numbers == doubles else 4
        values = read(builder, builder.gep(x, [at]), numbers, size)
        if numbers != doubles:
            values = builder.fpext(values, doubles)
        if backward:
            values = shuffled(values, values, list(range(EIGHT))[::-1])
        for apart in (1, 2, 4):  # each lane adds what the one so far before it has
            behind = shuffled(zeros, values, [EIGHT + i - apart for i in range(EIGHT)])
            values = builder.fadd(values, behind)
        first = builder.insert_element(ir.Constant(doubles, ir.Undefined), total, bits(0))
        y = builder.fadd(values, shuffled(first, first, [0] * EIGHT))
        last = builder.fadd(builder.extract_element(values, bits(EIGHT - 1)), total)
        if numbers != doubles:
            y = builder.fptrunc(y, numbers)
        if backward:
            y = shuffled(y, y, list(range(EIGHT))[::-1])
        write(builder, y, builder.gep(out, [at]), size)
        return last

    return sums


sums_of_eight, sums_of_eight_before = _sums_of_eight(False), _sums_of_eight(True)


@ordered_kernel
def running_sums(start, stop, x, n, first, step, out):
    """Running sums, in float64, of the rows start to stop of n numbers, of which the i-th is
    element `first` + i * `step` of its row of x, and its sum that of out; `step` is 1 or -1.
    Float32 numbers are added up eight at a time: float64 ones one by one, whose sums could be
    infinite in one order alone."""
    row = start
    whole = n - n % EIGHT if x.itemsize == 4 else 0  # what sums of eight are made of
    while row + 4 <= stop:
        a, b, c, d = 0.0, 0.0, 0.0, 0.0
        at = row * n + first
        for _ in range(0, whole, EIGHT):
            if step == 1:
                a = sums_of_eight(x, at, a, out)
                b = sums_of_eight(x, at + n, b, out)
                c = sums_of_eight(x, at + 2 * n, c, out)
                d = sums_of_eight(x, at + 3 * n, d, out)
            else:
                a = sums_of_eight_before(x, at, a, out)
                b = sums_of_eight_before(x, at + n, b, out)
                c = sums_of_eight_before(x, at + 2 * n, c, out)
                d = sums_of_eight_before(x, at + 3 * n, d, out)
            at += EIGHT * step
        for _ in range(whole, n):
            a += x[at]
            b += x[at + n]
            c += x[at + 2 * n]
            d += x[at + 3 * n]
            out[at] = a
            out[at + n] = b
            out[at + 2 * n] = c
            out[at + 3 * n] = d
            at += step
        row += 4
    while row < stop:
        a, at = 0.0, row * n + first
        for _ in range(0, whole, EIGHT):
            a = sums_of_eight(x, at, a, out) if step == 1 else sums_of_eight_before(x, at, a, out)
            at += EIGHT * step
        for _ in range(whole, n):
            a += x[at]
            out[at] = a
            at += step
        row += 1


@ordered_kernel
def running_sums_of_columns(start, stop, x, n, inner, first, step, out):
    """As `running_sums` along the middle axis, for the blocks of columns start to stop."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    sums = np.empty(COLUMNS, np.float64)
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        count = min(COLUMNS, inner - left)
        sums[:] = 0
        for i in range(n):
            at = (outer * n + first + i * step) * inner + left
            for j in range(count):
                sums[j] += x[at + j]
                out[at + j] = sums[j]


@ordered_kernel
def product_of_columns(start, stop, x, n, inner, out):
    """out (outer, inner) = the products over n, for the blocks of columns start to stop."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        right = min(left + COLUMNS, inner)
        y = out[outer * inner + left : outer * inner + right]
        y[:] = 1
        for i in range(n):
            at = (outer * n + i) * inner
            multiply(x[at + left : at + right], y)


@ordered_subroutine
def multiply(x, y):
    for j in range(y.size):
        y[j] *= x[j]


@ordered_subroutine
def pass_on(x, running, y):
    """y = the products so far, and x taken into them."""
    for j in range(y.size):
        y[j] = running[j]
        running[j] *= x[j]


@ordered_kernel
def products_of_others(start, stop, x, n, inner, out):
    """out (outer, n, inner): the product of those before each along n times that of those behind
    it, for the blocks of columns start to stop."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    running = np.empty(COLUMNS, x.dtype)
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        count = min(COLUMNS, inner - left)
        products, first = running[:count], outer * n * inner + left
        products[:] = 1
        for i in range(n):
            at = first + i * inner
            pass_on(x[at : at + count], products, out[at : at + count])
        products[:] = 1
        for i in range(n - 1, -1, -1):
            at = first + i * inner
            multiply(products, out[at : at + count])
            multiply(x[at : at + count], products)


@ordered_kernel
def products_of_others_of_rows(start, stop, x, n, out):
    """As `products_of_others` along the last axis, for the rows start to stop; four at a time, as
    each product waits for the one before it."""
    for row in range(start, stop - 3, 4):
        _of_four_rows(x[row * n :], n, out[row * n :])
    for row in range(start + (stop - start) // 4 * 4, stop):
        a, last = x.dtype.type(1), row * n + n - 1
        for i in range(row * n, last + 1):
            out[i] = a
            a *= x[i]
        a = x.dtype.type(1)
        for i in range(n):
            out[last - i] *= a
            a *= x[last - i]


@ordered_subroutine
def _of_four_rows(x, n, out):
    one = x.dtype.type(1)
    a, b, c, d = one, one, one, one
    for i in range(n):
        out[i], out[n + i], out[2 * n + i], out[3 * n + i] = a, b, c, d
        a, b, c, d = a * x[i], b * x[n + i], c * x[2 * n + i], d * x[3 * n + i]
    a, b, c, d = one, one, one, one
    for i in range(n - 1, -1, -1):
        out[i], out[n + i] = out[i] * a, out[n + i] * b
        out[2 * n + i], out[3 * n + i] = out[2 * n + i] * c, out[3 * n + i] * d
        a, b, c, d = a * x[i], b * x[n + i], c * x[2 * n + i], d * x[3 * n + i]
