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

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from gradient.backends.numpy.kernels import formats, instructions
from gradient.backends.numpy.kernels.compilation import ordered_kernel
from gradient.backends.numpy.kernels.formats import (
    FLOATS,
    FORMATS,
    I8,
    I16,
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
    ):
        super().__init__(name, weights, size, read)
        self.planes, self.scales, self.zero, self.tables = planes, scales, zero, tables
        self.halves, self.multiples, self.count, self.of_row = halves, multiples, count, of_row
        self.apart = apart
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
     halves=(80, 82), multiples=lambda b: b.codes(0), count=16)  # fmt: skip
_add(*_stored("q3_k"), formats.q3_k_codes, (2, 1), _q3_k, zero=4,
     halves=(108,), multiples=formats.q3_k_multiples, count=16)  # fmt: skip
_add(*_stored("q4_k"), formats.q4_k_codes, (4,), _two_of_six_bits,
     halves=(0, 2), multiples=formats.multiples_and_minimums, count=16)  # fmt: skip
_add(*_stored("q5_k"), formats.q5_k_codes, (4, 1), _two_of_six_bits,
     halves=(0, 2), multiples=formats.multiples_and_minimums, count=16)  # fmt: skip
_add(*_stored("q6_k"), formats.q6_k_codes, (4, 2), _q6_k, zero=32,
     halves=(208,), multiples=lambda b: b.signed(192), count=16)  # fmt: skip


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


@intrinsic
def write_codes(context, weight, at, form, out, out_at):
    """Write the codes of the block that is stored at byte `at`, a byte each, from out_at on."""
    fmt = format_of(form)

    def generate(context, builder, signature, arguments):
        block, place = _pointers(context, builder, signature, arguments)
        for i, codes in enumerate(fmt.read(Block(builder, block))):
            _store_bytes(builder, place, WIDTH * i, codes)
        return context.get_dummy_value()

    return types.void(weight, types.int64, form, out, types.int64), generate


@intrinsic
def write_multiples(context, weight, at, form, out, out_at):
    """Write the multiples of the block that is stored at byte `at`: sixteen bytes, or none."""
    fmt = format_of(form)

    def generate(context, builder, signature, arguments):
        block, place = _pointers(context, builder, signature, arguments)
        if fmt.multiples is not None:
            _store_bytes(builder, place, 0, fmt.multiples(Block(builder, block)))
        return context.get_dummy_value()

    return types.void(weight, types.int64, form, out, types.int64), generate


def _pointers(context: Any, builder: Any, signature: Any, arguments: Any) -> tuple[Any, Any]:
    weight, at, _, out, out_at = arguments
    arrays = (signature.args[0], weight, at), (signature.args[3], out, out_at)
    a, b = (
        builder.gep(context.make_array(kind)(context, builder, array).data, [start])
        for kind, array, start in arrays
    )
    return a, b


def _store_bytes(builder: Any, place: Any, at: int, codes: Vector) -> None:
    type_ = ir.VectorType(I8, WIDTH)
    place = builder.bitcast(builder.gep(place, [I64(at)]), type_.as_pointer())
    builder.store(builder.trunc(codes.value, type_), place).align = 1


@ordered_kernel
def unpack(
    start, stop, first, weight, form, weights, size, rows, blocks, halves, count, unpacked, scales
):  # fmt: skip
    """Write the codes of the panels start to stop behind the panel `first`, a byte each, to
    `unpacked` (panels, blocks, ROWS, weights), and their fields to their places in `scales`.

    weight    the bytes of stored blocks
    form, weights, size, halves, count
              of the `Panels`; `halves` an array
    scales    all panels', uint8; without halves or multiples they are left alone
    """
    fields = 2 * halves.size + count
    multiples = np.zeros(ROWS, np.uint8)
    for panel in range(start, stop):
        for block in range(blocks):
            place = ((first + panel) * blocks + block) * ROWS * fields
            for r in range(ROWS):
                row, to = (first + panel) * ROWS + r, place + r
                at = ((panel * blocks + block) * ROWS + r) * weights
                if row >= rows:
                    unpacked[at : at + weights] = 0
                    for i in range(halves.size):
                        scales[place + 2 * (ROWS * i + r)] = 0
                        scales[place + 2 * (ROWS * i + r) + 1] = 0
                    for i in range(count):
                        scales[to + ROWS * (2 * halves.size + i)] = 0
                    continue
                stored = (row * blocks + block) * size
                write_codes(weight, stored, form, unpacked, at)
                write_multiples(weight, stored, form, multiples, 0)
                for i in range(halves.size):
                    scales[place + 2 * (ROWS * i + r)] = weight[stored + halves[i]]
                    scales[place + 2 * (ROWS * i + r) + 1] = weight[stored + halves[i] + 1]
                for i in range(count):
                    scales[to + ROWS * (2 * halves.size + i)] = multiples[i]


@ordered_kernel
def arrange(start, stop, first, unpacked, weights, blocks, planes, codes):
    """Put the codes of the panels start to stop behind the panel `first`, as `unpack` gives them,
    into the planes of `codes`, all panels'."""
    steps = weights // STEP
    row_words, words = unpacked.view(np.uint32), codes.view(np.uint32)
    at = (first + start) * blocks * steps * (WORD // 4) * planes.sum()
    for number in range(start * blocks, stop * blocks):
        for step in range(steps):
            begin = (number * ROWS * weights + step * STEP) // 4
            shift = 0
            for plane in range(planes.size):
                width = planes[plane]
                mask = np.uint32(((1 << width) - 1) * 0x01010101)
                for word in range(width):
                    for r in range(ROWS):
                        value = np.uint32(0)
                        here = begin + r * (weights // 4) + word
                        for field in range(8 // width):
                            code = row_words[here + width * field] >> np.uint32(shift)
                            value |= (code & mask) << np.uint32(width * field)
                        words[at] = value
                        at += 1
                shift += width
