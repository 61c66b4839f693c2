"""Numbers as weights and caches store them, read from bytes as vectors of float32.

A `kind` says how they are stored; it is an argument like any other, so that one compiled kernel
reads them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from gradient.backends.numpy.kernels.building import read, splat, write
from gradient.backends.numpy.kernels.compilation import ordered_subroutine
from gradient.backends.numpy.kernels.cpu import CONVERTS_FLOAT16
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import F16, F32, I8, I16, I32
from gradient.backends.numpy.kernels.vectors import (
    LANES,
    Vector,
    add_product,
    fill,
    lanes,
    load,
    store,
    vector_of,
)

FLOAT32, BFLOAT16, FLOAT16, INT8, INT4 = range(5)
KINDS = {"float32": FLOAT32, "bfloat16": BFLOAT16, "float16": FLOAT16}
"""How a dtype's numbers are stored, for the dtypes that are read as they are."""


def _reader(stored: Any, count: int, convert: Callable[[Any, Any, Any, Any], Any]) -> Any:
    """An intrinsic read(data, at): `count` numbers from byte `at` of a flat array of bytes, as a
    vector, or a single one as a number."""
    kind = Vector(types.float32) if count > 1 else types.float32

    @emitted(kind)
    def read(builder, data, at):
        held = ir.VectorType(stored, count)
        value = builder.load(builder.bitcast(builder.gep(data, [at]), held.as_pointer()))
        value.align = 1
        floats, ints = ir.VectorType(F32, count), ir.VectorType(I32, count)
        vector = convert(builder, value, floats, ints)
        return vector if count > 1 else builder.extract_element(vector, I32(0))

    return read


def _start_reader(stored: Any, convert: Callable[[Any, Any, Any, Any], Any]) -> Any:
    """An intrinsic read(data, at, count): as `_reader` of a vector, of which only the first `count`
    numbers are read, and the others are 0."""
    count = LANES[types.float32]

    @emitted(Vector(types.float32))
    def read(builder, data, at, wanted):
        held = ir.VectorType(stored, count)
        place = builder.bitcast(builder.gep(data, [at]), held.as_pointer())
        floats, ints = ir.VectorType(F32, count), ir.VectorType(I32, count)
        last = splat(builder, builder.trunc(wanted, I32), ints)
        mask = builder.icmp_signed("<", ir.Constant(ints, list(range(count))), last)
        name = f"llvm.masked.load.v{count}{stored.intrinsic_name}.p0"
        kind = ir.FunctionType(held, [place.type, I32, mask.type, held])
        masked = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        value = builder.call(masked, [place, I32(1), mask, ir.Constant(held, None)])
        return convert(builder, value, floats, ints)

    return read


def _all(ints: Any, number: int) -> Any:
    return ir.Constant(ints, [number] * ints.count)


def _of_float32(builder: Any, value: Any, floats: Any, ints: Any) -> Any:
    return value


def _of_bfloat16(builder: Any, value: Any, floats: Any, ints: Any) -> Any:
    high = builder.shl(builder.zext(value, ints), _all(ints, 16))  # the upper half of a float32
    return builder.bitcast(high, floats)


def _of_float16(builder: Any, value: Any, floats: Any, ints: Any) -> Any:
    return builder.fpext(value, floats) if CONVERTS_FLOAT16 else _never(builder, floats)


def _never(builder: Any, kind: Any) -> Any:
    """Instead of a conversion for which there is no instruction: LLVM would call a function that
    is not there. Such numbers are not given to kernels (`kernels.computes`)."""
    trap = builder.module.declare_intrinsic("llvm.trap", (), ir.FunctionType(ir.VoidType(), ()))
    builder.call(trap, ())
    return ir.Constant(kind, ir.Undefined)


def _of_int8(builder: Any, value: Any, floats: Any, ints: Any) -> Any:
    return builder.sitofp(builder.sext(value, ints), floats)


def _of_low_bits(builder: Any, value: Any, floats: Any, ints: Any) -> Any:
    return builder.uitofp(builder.and_(builder.zext(value, ints), _all(ints, 15)), floats)


def _of_high_bits(builder: Any, value: Any, floats: Any, ints: Any) -> Any:
    return builder.uitofp(builder.lshr(builder.zext(value, ints), _all(ints, 4)), floats)


CONVERSIONS: dict[str, tuple[int, Any, Any]] = {
    "float32": (4, F32, _of_float32),
    "bfloat16": (2, I16, _of_bfloat16),
    "float16": (2, F16, _of_float16),
}
"""Of a dtype: the bytes of a number, what they are loaded as, and how that becomes float32."""

# Global names, for the cache on disk does not find kernels that refer to anything else.
SOME = LANES[types.float32]
float32_vector, float32_number = (_reader(F32, n, _of_float32) for n in (SOME, 1))
bfloat16_vector, bfloat16_number = (_reader(I16, n, _of_bfloat16) for n in (SOME, 1))
float16_vector, float16_number = (_reader(F16, n, _of_float16) for n in (SOME, 1))
float32_start, bfloat16_start, float16_start = (
    _start_reader(*each) for each in ((F32, _of_float32), (I16, _of_bfloat16), (F16, _of_float16))
)
int8_vector, int8_number = (_reader(I8, n, _of_int8) for n in (SOME, 1))
low_bits_vector, low_bits_number = (_reader(I8, n, _of_low_bits) for n in (SOME, 1))
high_bits_vector, high_bits_number = (_reader(I8, n, _of_high_bits) for n in (SOME, 1))


def _writer(count: int, convert: Callable[[Any, Any, Any, Any], Any]) -> Any:
    """An intrinsic write(data, at, value): a vector, or a single number, to byte `at` on of a flat
    array of bytes."""
    kind = Vector(types.float32) if count > 1 else types.float32

    @emitted(None, ..., types.int64, kind)
    def write(builder, data, at, value):
        place = builder.gep(data, [at])
        floats, ints = ir.VectorType(F32, count), ir.VectorType(I32, count)
        if count == 1:
            value = builder.insert_element(ir.Constant(floats, ir.Undefined), value, I32(0))
        stored = convert(builder, value, floats, ints)
        builder.store(stored, builder.bitcast(place, stored.type.as_pointer())).align = 1

    return write


def _to_bfloat16(builder: Any, value: Any, floats: Any, ints: Any) -> Any:
    bits = builder.bitcast(value, ints)
    high = builder.lshr(bits, _all(ints, 16))
    half = builder.add(_all(ints, 0x7FFF), builder.and_(high, _all(ints, 1)))  # ties to even
    rounded = builder.lshr(builder.add(bits, half), _all(ints, 16))
    nan = builder.fcmp_unordered("uno", value, value)
    rounded = builder.select(nan, builder.or_(high, _all(ints, 0x40)), rounded)
    return builder.trunc(rounded, ir.VectorType(I16, ints.count))


def _to_float16(builder: Any, value: Any, floats: Any, ints: Any) -> Any:
    halves = ir.VectorType(F16, floats.count)
    return builder.fptrunc(value, halves) if CONVERTS_FLOAT16 else _never(builder, halves)


write_float32, write_float32_number = (_writer(n, _of_float32) for n in (SOME, 1))
write_bfloat16, write_bfloat16_number = (_writer(n, _to_bfloat16) for n in (SOME, 1))
write_float16, write_float16_number = (_writer(n, _to_float16) for n in (SOME, 1))


@ordered_subroutine
def write_vector(kind, data, at, vector):
    """Write a vector to byte `at` of data."""
    if kind == FLOAT32:
        write_float32(data, at, vector)
    elif kind == BFLOAT16:
        write_bfloat16(data, at, vector)
    else:
        write_float16(data, at, vector)


@ordered_subroutine
def write_number(kind, data, at, number):
    """Write a float32 to byte `at` of data."""
    if kind == FLOAT32:
        write_float32_number(data, at, number)
    elif kind == BFLOAT16:
        write_bfloat16_number(data, at, number)
    else:
        write_float16_number(data, at, number)


@ordered_subroutine
def write_columns(part, part_row, rows, columns, bias, first, kind, size, out, at, n):
    """The sums `part` (rows, columns) and the bias, from byte `at` of out on, whose rows are n
    numbers."""
    width, one = lanes(part), part.dtype.type(1)
    whole = columns - columns % width
    for i in range(rows):
        row = at + i * n * size
        for j in range(0, whole, width):
            y = load(part, i * part_row + j)
            if bias.size:
                y = add_product(y, one, load(bias, first + j))
            write_vector(kind, out, row + j * size, y)
        for j in range(whole, columns):
            number = part[i * part_row + j]
            if bias.size:
                number += bias[first + j]
            write_number(kind, out, row + j * size, number)


@ordered_subroutine
def read_floats(kind, data, at, n, out, out_at):
    """out[out_at : out_at + n] = the floats from byte `at` of data."""
    width = lanes(out)
    if n < width:
        for i in range(n):
            if kind == FLOAT32:
                out[out_at + i] = float32_number(data, at + 4 * i)
            elif kind == BFLOAT16:
                out[out_at + i] = bfloat16_number(data, at + 2 * i)
            else:
                out[out_at + i] = float16_number(data, at + 2 * i)
        return
    for number in range(0, n, width):
        i = min(number, n - width)  # the last vector may begin before the end of what is there
        if kind == FLOAT32:
            store(out, out_at + i, float32_vector(data, at + 4 * i))
        elif kind == BFLOAT16:
            store(out, out_at + i, bfloat16_vector(data, at + 2 * i))
        else:
            store(out, out_at + i, float16_vector(data, at + 2 * i))


@ordered_subroutine
def read_float_rows(kind, data, at, step, n, rows, out, out_at, out_row):
    """out[out_at + i * out_row:][:n] = the n floats from byte at + i * step of data, for `rows`
    rows i. Zeros follow up to a whole vector."""
    width = lanes(out)
    for row in range(rows):
        begin, to = at + row * step, out_at + row * out_row
        for i in range(0, n, width):
            if kind == FLOAT32:
                store(out, to + i, float32_start(data, begin + 4 * i, n - i))
            elif kind == BFLOAT16:
                store(out, to + i, bfloat16_start(data, begin + 2 * i, n - i))
            else:
                store(out, to + i, float16_start(data, begin + 2 * i, n - i))


@ordered_subroutine
def read_int8(codes, at, scales, scales_at, group, n, out, out_at):
    """As `read_floats`, code * scale: `group` codes share one of the float16 scales."""
    width = lanes(out)
    zero = fill(out.dtype.type(0))
    if n < width:
        for i in range(n):
            scale = float16_number(scales, scales_at + 2 * (i // group))
            out[out_at + i] = int8_number(codes, at + i) * scale
        return
    for number in range(0, n, width):
        i = min(number, n - width)
        scale = float16_number(scales, scales_at + 2 * (i // group))
        store(out, out_at + i, add_product(zero, scale, int8_vector(codes, at + i)))


@ordered_subroutine
def read_int4(codes, at, scales, lows, scales_at, group, n, out, out_at):
    """As `read_int8`, low + code * scale: a byte holds number i of the first half of the n, and
    number i of the second."""
    width = lanes(out)
    half = n // 2
    for part in range(2):
        first = part * half
        if half < width:
            for i in range(half):
                here = scales_at + 2 * ((first + i) // group)
                scale, low = float16_number(scales, here), float16_number(lows, here)
                code = high_bits_number(codes, at + i) if part else low_bits_number(codes, at + i)
                out[out_at + first + i] = code * scale + low
            continue
        for number in range(0, half, width):
            i = min(number, half - width)
            here = scales_at + 2 * ((first + i) // group)
            scale, low = float16_number(scales, here), fill(float16_number(lows, here))
            code = high_bits_vector(codes, at + i) if part else low_bits_vector(codes, at + i)
            store(out, out_at + first + i, add_product(low, scale, code))


def exchange(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of a square of vectors."""
    n = len(rows)
    # Blocks of `size` change places across the diagonal, for pairs of rows `size` apart.
    size = 1
    while size < n:
        low = [j if not j & size else n + j - size for j in range(n)]
        high = [j + size if not j & size else n + j for j in range(n)]
        masks = [ir.Constant(ir.VectorType(I32, n), mask) for mask in (low, high)]
        for i in (i for i in range(n) if not i & size):
            pair = rows[i], rows[i + size]
            rows[i], rows[i + size] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        size *= 2
    return rows


@emitted()
def transpose(builder, array, at, row, out, out_at, out_row):
    """A square of as many rows as a vector has elements: row i, from at + i * row on, becomes
    column i, of rows from out_at on, out_row apart."""
    kind = vector_of(array.type.pointee)

    def places(of: Any, first: Any, step: Any) -> list[Any]:
        numbers = map(ir.IntType(64), range(kind.count))
        return [builder.gep(of, [builder.add(first, builder.mul(step, i))]) for i in numbers]

    rows = [read(builder, place, kind, 1) for place in places(array, at, row)]
    for vector, place in zip(exchange(builder, rows), places(out, out_at, out_row), strict=True):
        write(builder, vector, place, 1)
