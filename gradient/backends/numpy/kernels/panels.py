"""Packed weights in panels of sixteen rows, arranged once for the products that read them often.

A vector register holds four weights of each of sixteen rows: a *word*, 64 bytes, lane r those of
row r. Multiplied with the same four numbers of x in every lane it gives sixteen sums, one a row;
none has to be added up across lanes, and the rows' scales are a vector too.

Kernels take two panels at a time, which lie in memory in the order in which they are read, codes
and scales together: so they are one stream, which a processor fetches ahead by itself.

    pair     the scale of each row, if it has but one; blocks
    block    16-bit floats: field, panel, row;  multiples for all of it: field, panel, row;  steps
    step     of 32 weights: its multiples: field, panel, row;  codes: word, panel, row

Codes of 4 bits lie two to a byte, of 2 bits four, of 1 bit eight; those of 5, 6 and 3 bits are cut
into two such *planes*, 4 + 1, 4 + 2 and 2 + 1. In a plane of w bits, of which a step takes w words,
the weights 4 j to 4 j + 3 of each row lie in word j % w, in field j // w of their bytes. Words of
both planes follow each other as j needs them. The fields of the scales are those of the stored
block: 16-bit floats, and small multiples of them, a byte each.

Weights come back from their stored blocks, never from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from numba import types

from gradient.backends.numpy.kernels import formats, instructions
from gradient.backends.numpy.kernels.formats import FLOATS, FORMATS, INTEGERS, Block, Format, Vector
from gradient.backends.numpy.kernels.llvm_types import I8, I16, I64
from gradient.dtypes.packed import codebook
from gradient.dtypes.packed.codes_apart import TABLE

ROWS = 16
"""Of a panel."""
PANELS = 2
"""That kernels take at a time."""
PAIR = PANELS * ROWS
"""Rows of those; a weight's are filled up with zeros."""
STEP = 32
"""Weights of each row whose products are summed before they are scaled, by x's scale too."""
WORD = 64
"""Bytes: four codes of each row."""
WORDS = STEP // 4
"""Of a step, unpacked."""
MULTIPLES = 16
"""Bytes that a stored block's multiples take in a register."""


class PanelScales:
    """The scales of one of a pair's panels where a kernel stands, as vectors over its rows.

    block, step    where they begin in memory; where a row has one scale, the pair's first block
    """

    def __init__(self, builder: Any, fmt: Panels, block: Any, step: Any, panel: int):
        self.builder, self.fmt, self.block, self.step, self.panel = builder, fmt, block, step, panel

    def _load(self, place: Any, at: int, type_: Any) -> Any:
        place = self.builder.gep(place, [I64(at)])
        value = self.builder.load(self.builder.bitcast(place, type_.as_pointer()))
        value.align = 1
        return value

    def half(self, field: int) -> Vector:
        """A 16-bit float of each row, as float32."""
        at = 2 * (PAIR * field + ROWS * self.panel)
        bits = self._load(self.block, at, ir.VectorType(I16, ROWS))
        return Vector(self.builder, instructions.floats_of_halves(self.builder, bits))

    def number(self) -> Vector:
        """A float32 of each row, its only scale: before the first block."""
        return Vector(self.builder, self._load(self.block, 4 * (ROWS * self.panel - PAIR), FLOATS))

    def multiple(self, field: int, signed: bool = False) -> Vector:
        """A byte of each row, as int32: of the step's multiples, or of its block's."""
        place, at = self.step, PAIR * field + ROWS * self.panel
        if not self.fmt.own_multiples:
            place, at = self.block, 2 * PAIR * len(self.fmt.halves) + at
        bytes_ = self._load(place, at, ir.VectorType(I8, ROWS))
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
    multiples  of a stored block: a vector of sixteen bytes, of which the first `count` are kept,
               those of its first step, of its second one ... or fewer than steps, for all of them
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
        scales: Callable[[PanelScales], Scales],
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
        self.own_multiples = count // self.steps
        needed = [(p, j % width) for j in range(WORDS) for p, width in enumerate(planes)]
        self.words = list(dict.fromkeys(needed))
        self.head_bytes = PAIR * (2 * len(halves) + (0 if self.own_multiples else count))
        self.codes_at = PAIR * self.own_multiples
        self.step_bytes = self.codes_at + PANELS * WORD * len(self.words)
        self.block_bytes = self.head_bytes + self.steps * self.step_bytes
        self.bits = 8 if tables else sum(planes)
        self.parts = max(len(tables), 1)

    def pair_bytes(self, blocks: int) -> int:
        """Bytes of a pair of panels with rows of so many blocks."""
        return PAIR * self.of_row + blocks * self.block_bytes

    def word_at(self, plane: int, number: int, panel: int) -> int:
        """Where in a step a word of its codes lies."""
        return self.codes_at + WORD * (PANELS * self.words.index((plane, number)) + panel)

    def multiple_at(self, number: int) -> int:
        """Where in a block the first panel's multiples of this number lie."""
        if not self.own_multiples:
            return 2 * PAIR * len(self.halves) + PAIR * number
        step, field = divmod(number, self.own_multiples)
        return self.head_bytes + step * self.step_bytes + PAIR * field

    def code(self, builder: Any, step: Any, panel: int, j: int) -> Vector:
        """The word of the codes of the weights 4 j to 4 j + 3 of a panel's step."""
        found, shift = None, 0
        for plane, width in enumerate(self.planes):
            place = builder.gep(step, [I64(self.word_at(plane, j % width, panel))])
            value = builder.load(builder.bitcast(place, INTEGERS.as_pointer()))
            value.align = 1
            field = Vector(builder, value)
            if width < 8:
                right = width * (j // width) - shift  # where the field lies, and belongs
                field = field >> right if right > 0 else field << -right if right else field
                field = field & ((1 << width) - 1 << shift) * 0x01010101
            found = field if found is None else found | field
            shift += width
        assert found is not None
        return found

    def factors(self, builder: Any, step: Any, panel: int, j: int) -> list[Any]:
        """What the word's codes stand for, as words of bytes: one, or of each table."""
        code = self.code(builder, step, panel, j).value
        if not self.tables:
            return [code]
        return [instructions.looked_up(builder, table, code) for table in self.tables]


# The formats --------------------------------------------------------------------------------------


def _scale_alone(step: PanelScales) -> Scales:
    yield step.half(0), None


def _affine(step: PanelScales) -> Scales:
    """scale * code + minimum, as these formats have it."""
    yield step.half(0), Vector(step.builder, step.builder.fneg(step.half(1).value))


def _two_of_six_bits(step: PanelScales) -> Scales:
    d, dmin = step.half(0), step.half(1)
    yield d * step.multiple(0).floats(), dmin * step.multiple(1).floats()


def _q2_k(step: PanelScales) -> Scales:
    d, dmin = step.half(0), step.half(1)
    for half in range(2):
        both = step.multiple(half)
        yield d * (both & 15).floats(), dmin * (both >> 4).floats()


def _q3_k(step: PanelScales) -> Scales:
    for half in range(2):
        yield step.half(0) * (step.multiple(half).floats() - 32), None


def _q6_k(step: PanelScales) -> Scales:
    for half in range(2):
        yield step.half(0) * step.multiple(half, signed=True).floats(), None


BY_NAME: dict[str, Panels] = {}


def format_of(tag: types.Array) -> Panels:
    """The format of a tag, given by the tag's type."""
    return BY_NAME[formats.name_of(tag)]


def _add(name: str, *arguments: Any, **options: Any) -> None:
    BY_NAME[name] = Panels(name, *arguments, **options)


def _stored(name: str) -> tuple[str, int, int]:
    return name, FORMATS[name].weights, FORMATS[name].size


def _by_steps(block: Block) -> Vector:
    """A step's multiple and the one of its minimum together."""
    order = [n for step in range(8) for n in (step, 8 + step)]
    return formats.multiples_and_minimums(block).pick(*order)


_add(
    *_stored("q8_0"), lambda b: formats.eight_bits(b, 2), (8,), _scale_alone, zero=128, halves=(0,)
)
_add(*_stored("q4_0"), lambda b: formats.nibbles(b, 2), (4,), _scale_alone, zero=8, halves=(0,))
_add(*_stored("q4_1"), lambda b: formats.nibbles(b, 4), (4,), _affine, halves=(0, 2))
_add(
    *_stored("q5_0"),
    lambda b: formats.five_bits(b, 6, 2),
    (4, 1),
    _scale_alone,
    zero=16,
    halves=(0,),
)
_add(*_stored("q5_1"), lambda b: formats.five_bits(b, 8, 4), (4, 1), _affine, halves=(0, 2))
_add(*_stored("q2_k"), formats.q2_k_codes, (2,), _q2_k,
     halves=(80, 82), multiples=lambda b: b.codes(0), count=16, units=2)  # fmt: skip
_add(*_stored("q3_k"), formats.q3_k_codes, (2, 1), _q3_k, zero=4,
     halves=(108,), multiples=formats.q3_k_multiples, count=16, units=2)  # fmt: skip
_add(*_stored("q4_k"), formats.q4_k_codes, (4,), _two_of_six_bits,
     halves=(0, 2), multiples=_by_steps, count=16)  # fmt: skip
_add(*_stored("q5_k"), formats.q5_k_codes, (4, 1), _two_of_six_bits,
     halves=(0, 2), multiples=_by_steps, count=16)  # fmt: skip
_add(*_stored("q6_k"), formats.q6_k_codes, (4, 2), _q6_k, zero=32,
     halves=(208,), multiples=lambda b: b.signed(192), count=16, units=2)  # fmt: skip


def _iq4_xs(step: PanelScales) -> Scales:
    yield step.half(0) * (step.multiple(0).floats() - 32), None


def _mxfp4(step: PanelScales) -> Scales:
    yield step.multiple(0).power_of_two(), None


def _number(step: PanelScales) -> Scales:
    yield step.number(), None


def _zero_point(step: PanelScales) -> Scales:
    scale = step.half(0)
    yield scale, scale * step.multiple(0).floats()


def _nf4(step: PanelScales) -> Scales:
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


_add(*_stored("iq4_nl"), lambda b: formats.nibbles(b, 2), (4,), _scale_alone,
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
