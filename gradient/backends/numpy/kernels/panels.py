"""Packed weights in panels of sixteen rows, arranged once for the products that read them often.

A vector register holds four weights of each of sixteen rows: a *word*, 64 bytes, lane r those of
row r. Multiplied with the same four numbers of x in every lane it gives sixteen sums, one a row;
none has to be added up across lanes, and the rows' scales are a vector too.

    codes    panel, block, step of 32 weights, plane, word
    scales   panel, block, field, row

Codes of 4 bits lie two to a byte, of 2 bits four, of 1 bit eight; those of 5, 6 and 3 bits are cut
into two such *planes*, 4 + 1, 4 + 2 and 2 + 1. In a plane of w bits, of which a step takes w words,
the weights 4 j to 4 j + 3 of each row lie in word j % w, in field j // w of their bytes. The fields
of the scales are those of the stored block: 16-bit floats, then small multiples, a byte each.

Weights come back from their stored blocks, never from here.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels import formats, instructions
from gradient.backends.numpy.kernels.compilation import ordered_kernel
from gradient.backends.numpy.kernels.formats import (
    FLOATS,
    FORMATS,
    I8,
    I16,
    I32,
    I64,
    INTEGERS,
    WIDTH,
    Block,
    Format,
    Vector,
)
from gradient.backends.numpy.kernels.vectors import intrinsic
from gradient.dtypes.packed import codebook
from gradient.dtypes.packed.nf4 import TABLE

ROWS = 16
"""Of a panel."""
PAIR = 2 * ROWS
"""Rows of the two panels that kernels take at a time; a weight's are filled up with zeros."""
STEP = 32
"""Weights of each row whose products are summed before they are scaled, by x's scale too."""
WORD = 64
"""Bytes: four codes of each row."""
WORDS = STEP // 4
"""Of a step, unpacked."""
MULTIPLES = 16
"""Bytes that a stored block's multiples take in a register."""


class Step:
    """A panel's scales where the kernel stands: the fields of a block, as vectors over its rows.

    In a method's arguments, fields are numbered; `index` is the number of the step in its block.
    """

    def __init__(self, builder: Any, pointer: Any, index: Any, halves: int):
        self.builder, self.pointer, self.index, self.halves = builder, pointer, index, halves

    def _load(self, at: Any, type_: Any) -> Any:
        place = self.builder.bitcast(self.builder.gep(self.pointer, [at]), type_.as_pointer())
        value = self.builder.load(place)
        value.align = 1
        return value

    def half(self, field: int) -> Vector:
        """A 16-bit float of each row, as float32."""
        bits = self._load(I64(2 * ROWS * field), ir.VectorType(I16, ROWS))
        return Vector(self.builder, instructions.floats_of_halves(self.builder, bits))

    def number(self) -> Vector:
        """A float32 of each row: the only field."""
        return Vector(self.builder, self._load(I64(0), FLOATS))

    def multiple(self, first: int, each: int = 1, signed: bool = False) -> Vector:
        """The byte of each row, as int32, that is number `first` + `each` * index."""
        number = self.builder.add(self.builder.mul(self.index, I64(each)), I64(first))
        at = self.builder.add(self.builder.mul(number, I64(ROWS)), I64(2 * ROWS * self.halves))
        bytes_ = self._load(at, ir.VectorType(I8, ROWS))
        widen = self.builder.sext if signed else self.builder.zext
        return Vector(self.builder, widen(bytes_, INTEGERS))


Scales = Iterator[tuple[Vector, Vector | None]]


class Panels(Format):
    """A format in panels: what of it is stored where, and what its codes stand for.

    weight = scale * (code - zero), or scale * code - minimum

    name, weights, size, read
               of the stored format; here `read` gives the codes alone, unsigned
    planes     the bits into which codes are cut, lowest first
    scales     of a step: (scale, minimum) or (scale, None), once, or for each half of it
    zero       the code of 0, a power of two (or 0, where there are minimums)
    halves     the bytes of the stored block at which its 16-bit floats lie
    multiples  of a stored block: a vector of sixteen bytes, of which the first `count` are kept
    tables     the numbers that codes stand for, a table of their bytes or of the high ones, raised
               by `zero`, and of those below
    apart      whether the fields are parts of their own, not in the stored blocks
    of_row     bytes of a row's only scale, for all its blocks; then there are no other fields
    """

    def __init__(
        self,
        name: str,
        weights: int,
        size: int,
        read: Callable[[Block], Iterator[Vector]],
        planes: tuple[int, ...],
        scales: Callable[[Step], Scales],
        *,
        zero: int = 0,
        halves: tuple[int, ...] = (),
        multiples: Callable[[Block], Vector] | None = None,
        count: int = 0,
        tables: tuple[list[int], ...] = (),
        apart: bool = False,
        of_row: int = 0,
        units: int = 1,
    ):
        super().__init__(name, weights, size, read)
        self.planes, self.scales, self.zero, self.tables = planes, scales, zero, tables
        self.halves, self.multiples, self.count, self.of_row = halves, multiples, count, of_row
        self.apart, self.units = apart, units
        self.steps = weights // STEP
        self.step_bytes = WORD * sum(planes)
        self.code_bytes = self.steps * self.step_bytes
        self.scale_bytes = ROWS * (2 * len(halves) + count)
        self.bits = 8 if tables else sum(planes)
        self.parts = max(len(tables), 1)

    def layout(self, rows: int, k: int) -> tuple[int, int]:
        """Bytes of the codes and of the scales of so many rows of k weights."""
        panels, blocks = -(-rows // ROWS), -(-k // self.weights)
        scales = ROWS * self.of_row if self.of_row else blocks * self.scale_bytes
        return panels * blocks * self.code_bytes, panels * scales

    def code(self, builder: Any, pointer: Any, j: int) -> Vector:
        """The word of the codes of the weights 4 j to 4 j + 3 of a step."""
        found, shift, at = None, 0, 0
        for width in self.planes:
            place = builder.gep(pointer, [I64(WORD * (at + j % width))])
            value = builder.load(builder.bitcast(place, INTEGERS.as_pointer()))
            value.align = 1
            field = Vector(builder, value)
            if width < 8:
                right = width * (j // width) - shift  # where the field lies, and belongs
                field = field >> right if right > 0 else field << -right if right else field
                field = field & ((1 << width) - 1 << shift) * 0x01010101
            found = field if found is None else found | field
            shift, at = shift + width, at + width
        assert found is not None
        return found

    def factors(self, builder: Any, pointer: Any, j: int) -> list[Any]:
        """What the word's codes stand for, as words of bytes: one, or of each table."""
        code = self.code(builder, pointer, j).value
        if not self.tables:
            return [code]
        return [instructions.looked_up(builder, table, code) for table in self.tables]


# The formats --------------------------------------------------------------------------------------


def _plain(step: Step) -> Scales:
    yield step.half(0), None


def _affine(step: Step) -> Scales:
    """scale * code + minimum, as these formats have it."""
    yield step.half(0), Vector(step.builder, step.builder.fneg(step.half(1).value))


def _two_of_six_bits(step: Step) -> Scales:
    d, dmin = step.half(0), step.half(1)
    yield d * step.multiple(0).floats(), dmin * step.multiple(8).floats()


def _q2_k(step: Step) -> Scales:
    d, dmin = step.half(0), step.half(1)
    for half in range(2):
        both = step.multiple(half, 2)
        yield d * (both & 15).floats(), dmin * (both >> 4).floats()


def _q3_k(step: Step) -> Scales:
    for half in range(2):
        yield step.half(0) * (step.multiple(half, 2).floats() - 32), None


def _q6_k(step: Step) -> Scales:
    for half in range(2):
        yield step.half(0) * step.multiple(half, 2, signed=True).floats(), None


BY_NAME: dict[str, Panels] = {}


def format_of(tag: types.Array) -> Panels:
    """The format of a tag, given by the tag's type."""
    return BY_NAME[formats.name_of(tag)]


def _add(name: str, *arguments: Any, **options: Any) -> None:
    BY_NAME[name] = Panels(name, *arguments, **options)


def _stored(name: str) -> tuple[str, int, int]:
    return name, FORMATS[name].weights, FORMATS[name].size


_add(*_stored("q8_0"), lambda b: formats.eight_bits(b, 2), (8,), _plain, zero=128, halves=(0,))
_add(*_stored("q4_0"), lambda b: formats.nibbles(b, 2), (4,), _plain, zero=8, halves=(0,))
_add(*_stored("q4_1"), lambda b: formats.nibbles(b, 4), (4,), _affine, halves=(0, 2))
_add(*_stored("q5_0"), lambda b: formats.five_bits(b, 6, 2), (4, 1), _plain, zero=16, halves=(0,))
_add(*_stored("q5_1"), lambda b: formats.five_bits(b, 8, 4), (4, 1), _affine, halves=(0, 2))
_add(*_stored("q2_k"), formats.q2_k_codes, (2,), _q2_k,
     halves=(80, 82), multiples=lambda b: b.codes(0), count=16, units=2)  # fmt: skip
_add(*_stored("q3_k"), formats.q3_k_codes, (2, 1), _q3_k, zero=4,
     halves=(108,), multiples=formats.q3_k_multiples, count=16, units=2)  # fmt: skip
_add(*_stored("q4_k"), formats.q4_k_codes, (4,), _two_of_six_bits,
     halves=(0, 2), multiples=formats.multiples_and_minimums, count=16)  # fmt: skip
_add(*_stored("q5_k"), formats.q5_k_codes, (4, 1), _two_of_six_bits,
     halves=(0, 2), multiples=formats.multiples_and_minimums, count=16)  # fmt: skip
_add(*_stored("q6_k"), formats.q6_k_codes, (4, 2), _q6_k, zero=32,
     halves=(208,), multiples=lambda b: b.signed(192), count=16, units=2)  # fmt: skip


def _iq4_xs(step: Step) -> Scales:
    yield step.half(0) * (step.multiple(0).floats() - 32), None


def _mxfp4(step: Step) -> Scales:
    yield step.multiple(0).power_of_two(), None


def _number(step: Step) -> Scales:
    yield step.number(), None


def _zero_point(step: Step) -> Scales:
    scale = step.half(0)
    yield scale, scale * step.multiple(0, 0).floats()


def _nf4(step: Step) -> Scales:
    """Of a table kept to 24 bits, which is as near as float32."""
    yield step.half(0) * (1 / LARGEST), None


IQ4 = [int(number) + 128 for number in codebook.IQ4]
FP4 = [int(number) + 16 for number in codebook.FP4]
LARGEST = 2**23 - 1
NF4 = [round(LARGEST * float(number)) + 2**23 for number in TABLE]


def _pairs_of(count: int) -> Callable[[Block], Iterator[Vector]]:
    def read(block: Block) -> Iterator[Vector]:
        for number in range(count // STEP):
            yield from formats.pairs(block, STEP // 2 * number)

    return read


_add(*_stored("iq4_nl"), lambda b: formats.nibbles(b, 2), (4,), _plain,
     zero=128, halves=(0,), tables=(IQ4,))  # fmt: skip
_add(*_stored("iq4_xs"), formats.iq4_xs_codes, (4,), _iq4_xs, zero=128, tables=(IQ4,),
     halves=(0,), multiples=formats.iq4_xs_multiples, count=8)  # fmt: skip
_add(*_stored("mxfp4"), lambda b: formats.nibbles(b, 1), (4,), _mxfp4, zero=16, tables=(FP4,),
     multiples=lambda b: b.codes(0), count=1)  # fmt: skip
_add("int8_channel", 32, 32, lambda b: formats.eight_bits(b, 0), (8,), _number,
     zero=128, apart=True, of_row=4)  # fmt: skip
for _name, _group in (("int4_group", 64), ("int4_group32", 32), ("int4_group128", 128)):
    _add(_name, _group, _group // 2, _pairs_of(_group), (4,), _zero_point,
         halves=(0,), count=1, apart=True)  # fmt: skip
_add("nf4", 64, 32, _pairs_of(64), (4,), _nf4, zero=128, halves=(0,), apart=True,
     tables=tuple([n >> shift & 255 for n in NF4] for shift in (16, 8, 0)))  # fmt: skip


# Arranging ----------------------------------------------------------------------------------------
#
# A block of each of a panel's rows is unpacked into memory that stays in the cache, and goes from
# there to its place by vectors. Stored blocks are read once and in order, panels written once.


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


@intrinsic
def panel_sizes(context, form):
    """Of a format: (bytes of a stored block, of a block's codes in a panel, of its fields there,
    of the memory that `read_block` and `write_block` share)."""
    fmt = format_of(form)
    sizes = fmt.size, fmt.code_bytes, fmt.scale_bytes, ROWS * (fmt.weights + 2 * MULTIPLES)

    def generate(context, builder, signature, arguments):
        numbers = [context.get_constant(types.int64, size) for size in sizes]
        return context.make_tuple(builder, signature.return_type, numbers)

    return types.UniTuple(types.int64, len(sizes))(form), generate


@intrinsic
def read_block(context, weight, at, row, form, held):
    """Put what is stored in the block at byte `at` of `weight` into `held`, as the row `row`.

    held    codes, a byte each (ROWS, weights); multiples (ROWS, MULTIPLES); halves (halves, ROWS)
    """
    fmt = format_of(form)

    def generate(context, builder, signature, arguments):
        weight_, at_, row_, _, held_ = arguments
        stored = context.make_array(weight)(context, builder, weight_).data
        pointer = builder.gep(stored, [at_])
        place = context.make_array(held)(context, builder, held_).data
        block, codes = Block(builder, pointer), builder.mul(row_, I64(fmt.weights))
        for i, each in enumerate(fmt.read(block)):
            _store_bytes(builder, builder.gep(place, [codes]), WIDTH * i, each)
        place = builder.gep(place, [I64(ROWS * fmt.weights)])
        if fmt.multiples is not None:
            to = builder.gep(place, [builder.mul(row_, I64(MULTIPLES))])
            _store_bytes(builder, to, 0, fmt.multiples(block))
        place = builder.gep(place, [builder.add(builder.mul(row_, I64(2)), I64(ROWS * MULTIPLES))])
        for i, half in enumerate(() if fmt.apart else fmt.halves):
            value = builder.load(
                builder.bitcast(builder.gep(pointer, [I64(half)]), I16.as_pointer())
            )
            value.align = 1
            to = builder.bitcast(builder.gep(place, [I64(2 * ROWS * i)]), I16.as_pointer())
            builder.store(value, to).align = 1
        return context.get_dummy_value()

    return types.void(weight, types.int64, types.int64, form, held), generate


@intrinsic
def write_block(context, held, form, codes, codes_at, scales, scales_at):
    """Put the block of all rows that `held` has into a panel: its codes from byte `codes_at` on,
    its fields from byte `scales_at` on, unless they are stored apart."""
    fmt = format_of(form)

    def generate(context, builder, signature, arguments):
        held_, _, codes_, codes_at_, scales_, scales_at_ = arguments
        source = context.make_array(held)(context, builder, held_).data
        place = context.make_array(codes)(context, builder, codes_).data
        place = builder.gep(place, [codes_at_])
        with cgutils.for_range(builder, I64(fmt.steps), intp=I64) as loop:
            step = builder.gep(source, [builder.mul(loop.index, I64(STEP))])
            words = [
                Vector(builder, word)
                for word in words_of_rows(builder, step, fmt.weights, STEP // 4)
            ]
            to = builder.gep(place, [builder.mul(loop.index, I64(fmt.step_bytes))])
            shift = at = 0
            for width in fmt.planes:
                mask = ((1 << width) - 1 << shift) * 0x01010101
                for j in range(width):
                    fields = []
                    for field in range(8 // width):
                        code, left = words[j + width * field] & mask, width * field - shift
                        fields.append(code << left if left > 0 else code >> -left if left else code)
                    word = functools.reduce(operator.or_, fields)
                    _store(builder, builder.gep(to, [I64(WORD * at)]), word.value)
                    at += 1
                shift += width
        if fmt.apart:
            return context.get_dummy_value()
        place = context.make_array(scales)(context, builder, scales_).data
        place = builder.gep(place, [scales_at_])
        source = builder.gep(source, [I64(ROWS * fmt.weights)])
        numbers = builder.gep(source, [I64(ROWS * MULTIPLES)])
        for i in range(len(fmt.halves)):
            here, to = (builder.gep(p, [I64(2 * ROWS * i)]) for p in (numbers, place))
            value = builder.load(builder.bitcast(here, ir.VectorType(I16, ROWS).as_pointer()))
            value.align = 1
            _store(builder, to, value)
        place = builder.gep(place, [I64(2 * ROWS * len(fmt.halves))])
        if fmt.count:
            of_four = words_of_rows(builder, source, MULTIPLES, 4)
        for first in range(0, fmt.count, 4):
            count = min(4, fmt.count - first)
            bytes_ = builder.bitcast(of_four[first // 4], ir.VectorType(I8, 4 * ROWS))
            order = [4 * row + i for i in range(count) for row in range(ROWS)]
            mask = ir.Constant(ir.VectorType(I32, len(order)), order)
            value = builder.shuffle_vector(bytes_, bytes_, mask)
            _store(builder, builder.gep(place, [I64(ROWS * first)]), value)
        return context.get_dummy_value()

    at = types.int64
    return types.void(held, form, codes, at, scales, at), generate


@intrinsic
def ask_for(context, array, at, count):
    """Ask for `count` bytes of an array from `at` on, which may lie behind its end."""

    def generate(context, builder, signature, arguments):
        pointer = context.make_array(array)(context, builder, arguments[0]).data
        with cgutils.for_range_slice(builder, I64(0), arguments[2], I64(WORD), I64) as (index, _):
            place = builder.gep(pointer, [builder.add(arguments[1], index)])
            instructions.prefetch(builder, place)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


def _store_bytes(builder: Any, place: Any, at: int, codes: Vector) -> None:
    type_ = ir.VectorType(I8, WIDTH)
    _store(builder, builder.gep(place, [I64(at)]), builder.trunc(codes.value, type_))


def _store(builder: Any, place: Any, value: Any) -> None:
    builder.store(value, builder.bitcast(place, value.type.as_pointer())).align = 1


@ordered_kernel
def arrange(start, stop, weight, form, rows, blocks, codes, scales):
    """Write the panels start to stop of a weight (rows, K) to their places in `codes` and `scales`.

    weight    the bytes of its stored blocks, `blocks` a row; missing rows of a panel become zeros
    scales    left alone by formats that store their fields apart
    """
    size, code_bytes, scale_bytes, held_bytes = panel_sizes(form)
    held = np.zeros(held_bytes, np.uint8)
    for panel in range(start, stop):
        first, count = panel * ROWS, max(0, min(ROWS, rows - panel * ROWS))
        if count < ROWS:
            held[:] = 0
        for block in range(blocks):
            ask_for(weight, ((first + ROWS) * blocks + ROWS * block) * size, ROWS * size)
            for row in range(count):
                read_block(weight, ((first + row) * blocks + block) * size, row, form, held)
            number = panel * blocks + block
            write_block(held, form, codes, number * code_bytes, scales, number * scale_bytes)
