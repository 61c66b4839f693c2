"""How weights are stored, and read in a kernel: as vectors of sixteen float32, in registers.

A format is a function of a block's bytes that gives its weights in order, written in operators as
the composed definitions are (`gradient/dtypes/packed/`, which draw the layouts). The code that it
emits is that of the kernel in which it stands: weights are never written to memory.

Kernels take a format's tag, an empty array, as an argument: its type alone says what is compiled.
The tag of format n of NAMES is of strings of n + 1 bytes, a type that numba writes into the names
of compiled functions. Of other types, as of records with a field, it writes a number that each
process gives anew: kernels of two formats, compiled by two processes, could then bear one name, and
a third process call one of them for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from gradient.backends.numpy.kernels.building import splat as _splat
from gradient.backends.numpy.kernels.llvm_types import F16, F32, I8, I16, I32, I64, vector_of
from gradient.dtypes.packed import codebook

WIDTH = 16
"""The numbers in a vector, on every processor: LLVM cuts them up where registers hold fewer."""

IQ4, FP4 = codebook.IQ4.tolist(), codebook.FP4.tolist()
FLOATS, INTEGERS = vector_of(F32, WIDTH), vector_of(I32, WIDTH)


class Vector:
    """Sixteen numbers in a register, int32 or float32. The other operand may be a number, which
    stands for sixteen of it, or a list of sixteen.

    Right shifts fill with zeros.
    """

    def __init__(self, builder: Any, value: Any):
        self.builder, self.value = builder, value

    def _other(self, other: Vector | float | list[int]) -> Any:
        if isinstance(other, Vector):
            return other.value
        numbers = other if isinstance(other, list) else [other] * WIDTH
        return ir.Constant(self.value.type, numbers)

    def _new(self, value: Any) -> Vector:
        return Vector(self.builder, value)

    def __and__(self, other: Vector | int | list[int]) -> Vector:
        return self._new(self.builder.and_(self.value, self._other(other)))

    def __or__(self, other: Vector | int) -> Vector:
        return self._new(self.builder.or_(self.value, self._other(other)))

    def __xor__(self, other: Vector | int) -> Vector:
        return self._new(self.builder.xor(self.value, self._other(other)))

    def __lshift__(self, other: Vector | int) -> Vector:
        return self._new(self.builder.shl(self.value, self._other(other)))

    def __rshift__(self, other: Vector | int | list[int]) -> Vector:
        return self._new(self.builder.lshr(self.value, self._other(other)))

    def __mul__(self, other: Vector | float) -> Vector:
        return self._new(self.builder.fmul(self.value, self._other(other)))

    def __add__(self, other: Vector) -> Vector:
        return self._new(self.builder.fadd(self.value, other.value))

    def __sub__(self, other: Vector | float) -> Vector:
        return self._new(self.builder.fsub(self.value, self._other(other)))

    def floats(self) -> Vector:
        return self._new(self.builder.sitofp(self.value, FLOATS))

    def looked_up(self, table: list[float]) -> Vector:
        """The floats that these codes, 0 to 15, stand for in a table of sixteen."""
        numbers = [ir.Constant(FLOATS, [number] * WIDTH) for number in table]
        for bit in (1, 2, 4, 8):
            mask = self.builder.icmp_signed("!=", (self & bit).value, (self & 0).value)
            pairs = zip(numbers[::2], numbers[1::2], strict=True)
            numbers = [self.builder.select(mask, one, zero) for zero, one in pairs]
        return self._new(numbers[0])

    def power_of_two(self) -> Vector:
        """2^(e - 128) for the bytes e, as float32; the two smallest are subnormal."""
        one, builder = self._other(1), self.builder
        small = self._new(builder.add(self.value, one)) << 21
        large = self._new(builder.sub(self.value, one)) << 23
        is_small = builder.icmp_unsigned("<", self.value, self._other(2))
        bits = builder.select(is_small, small.value, large.value)
        return self._new(builder.bitcast(bits, FLOATS))

    def zipped(self, other: Vector, first: int) -> Vector:
        """Eight elements in turn with eight of another vector, from number `first` on."""
        numbers = [n for i in range(first, first + WIDTH // 2) for n in (i, WIDTH + i)]
        mask = ir.Constant(INTEGERS, numbers)
        return self._new(self.builder.shuffle_vector(self.value, other.value, mask))

    def pick(self, *elements: int) -> Vector:
        """The elements with these numbers; a single one sixteen times."""
        numbers = list(elements) if len(elements) == WIDTH else [elements[0]] * WIDTH
        mask = ir.Constant(INTEGERS, numbers)
        return self._new(self.builder.shuffle_vector(self.value, self.value, mask))


class Block:
    """The bytes of a block. What it reads from is said in bytes."""

    def __init__(self, builder: Any, pointer: Any):
        self.builder, self.pointer = builder, pointer

    def _load(self, at: int, type_: Any) -> Any:
        place = self.builder.gep(self.pointer, [I64(at)]) if at else self.pointer
        value = self.builder.load(self.builder.bitcast(place, type_.as_pointer()))
        value.align = 1
        return value

    def _vector(self, value: Any) -> Vector:
        return Vector(self.builder, value)

    def codes(self, at: int) -> Vector:
        """Sixteen unsigned bytes, as int32."""
        return self._vector(self.builder.zext(self._load(at, ir.VectorType(I8, WIDTH)), INTEGERS))

    def signed(self, at: int) -> Vector:
        """Sixteen signed bytes, as int32."""
        return self._vector(self.builder.sext(self._load(at, ir.VectorType(I8, WIDTH)), INTEGERS))

    def half(self, at: int) -> Vector:
        """One 16-bit float, sixteen times."""
        return self._all(self.builder.fpext(self._load(at, F16), F32))

    def power_of_two(self, at: int) -> Vector:
        """`Vector.power_of_two` of one byte, sixteen times."""
        return self._all(self.builder.zext(self._load(at, I8), I32)).power_of_two()

    def two_halves(self, at: int) -> Vector:
        """Two 16-bit floats, as float32, each eight times."""
        two = self.builder.fpext(self._load(at, ir.VectorType(F16, 2)), ir.VectorType(F32, 2))
        mask = ir.Constant(INTEGERS, [0] * 8 + [1] * 8)
        return self._vector(self.builder.shuffle_vector(two, two, mask))

    def bits(self, at: int) -> Vector:
        """The sixteen bits of two bytes, lowest first, each as the int32 0 or 1."""
        both = self._all(self.builder.zext(self._load(at, I16), I32))
        return both >> self._vector(ir.Constant(INTEGERS, list(range(WIDTH)))) & 1

    def _all(self, number: Any) -> Vector:
        return self._vector(splat(self.builder, number))


def splat(builder: Any, number: Any) -> Any:
    """The vector whose elements are all the scalar `number`."""
    return _splat(builder, number, ir.VectorType(number.type, WIDTH))


NAMES = (
    *("float32", "bfloat16", "float16"),
    *("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"),
    *("iq4_nl", "iq4_xs", "mxfp4"),
    *("int8_channel", "int4_group", "int4_group32", "int4_group128", "nf4"),
)
"""Of everything that has a tag."""


def tag_of(name: str) -> np.ndarray:
    """The empty array that stands for a format, or for a dtype, in a kernel's arguments."""
    return np.empty(0, f"S{1 + NAMES.index(name)}")


def name_of(tag: types.Array) -> str:
    """What the tag of this type stands for."""
    return NAMES[tag.dtype.count - 1]


class Format:
    """A way to store weights: `weights` of them in `size` bytes, which `read` gives in vectors.

    tag        an empty array that kernels take in place of the format
    """

    def __init__(
        self, name: str, weights: int, size: int, read: Callable[[Block], Iterator[Vector]]
    ):
        self.name, self.weights, self.size, self.read = name, weights, size, read
        self.tag = tag_of(name)


FORMATS: dict[str, Format] = {}
"""Every format, by the name of its dtype."""


def block_format(
    weights: int, size: int
) -> Callable[[Callable[[Block], Iterator[Vector]]], Format]:
    """Make a format of the function that reads a block of `weights` weights in `size` bytes."""

    def decorate(read: Callable[[Block], Iterator[Vector]]) -> Format:
        made = FORMATS[read.__name__] = Format(read.__name__, weights, size, read)
        return made

    return decorate


# Blocks of 32 ------------------------------------------------------------------------------------
#
# A format's codes stand by themselves, as unsigned numbers: kernels on panels read nothing else.


def eight_bits(block: Block, at: int) -> Iterator[Vector]:
    """The signed bytes from byte `at` on, raised by 128."""
    for half in range(2):
        yield block.codes(at + 16 * half) ^ 128


def nibbles(block: Block, at: int) -> Iterator[Vector]:
    """32 codes of 4 bits: the low halves of sixteen bytes, then the high halves."""
    codes = block.codes(at)
    yield codes & 15
    yield codes >> 4


def pairs(block: Block, at: int) -> Iterator[Vector]:
    """32 codes of 4 bits: of sixteen bytes each its low half and then its high half."""
    codes = block.codes(at)
    for first in (0, 8):
        yield (codes & 15).zipped(codes >> 4, first)


def five_bits(block: Block, at: int, high: int) -> Iterator[Vector]:
    """32 codes of 5 bits, whose high ones are the bits of the four bytes from byte `high` on."""
    for half, codes in enumerate(nibbles(block, at)):
        yield codes | block.bits(high + 2 * half) << 4


@block_format(32, 34)
def q8_0(block: Block) -> Iterator[Vector]:
    scale = block.half(0)
    for half in range(2):
        yield block.signed(2 + 16 * half).floats() * scale


@block_format(32, 18)
def q4_0(block: Block) -> Iterator[Vector]:
    scale = block.half(0)
    for codes in nibbles(block, 2):
        yield scale * (codes.floats() - 8)


@block_format(32, 20)
def q4_1(block: Block) -> Iterator[Vector]:
    scale, minimum = block.half(0), block.half(2)
    for codes in nibbles(block, 4):
        yield scale * codes.floats() + minimum


@block_format(32, 22)
def q5_0(block: Block) -> Iterator[Vector]:
    scale = block.half(0)
    for codes in five_bits(block, 6, 2):
        yield scale * (codes.floats() - 16)


@block_format(32, 24)
def q5_1(block: Block) -> Iterator[Vector]:
    scale, minimum = block.half(0), block.half(2)
    for codes in five_bits(block, 8, 4):
        yield scale * codes.floats() + minimum


# Blocks of 256, in eight parts of 32 or sixteen of 16 --------------------------------------------


def two_bits(block: Block, at: int, part: int, half: int) -> Vector:
    """The 2-bit codes of 16 weights, half `half` of the part `part` of 32, from byte `at`."""
    return block.codes(at + 32 * (part // 4) + 16 * half) >> 2 * (part % 4) & 3


def four_bits(block: Block, at: int, part: int, half: int) -> Vector:
    """As `two_bits`, of the 4-bit codes of Q4_K and Q5_K."""
    codes = block.codes(at + 32 * (part // 2) + 16 * half)
    return codes >> 4 if part % 2 else codes & 15


def halves(
    codes_of: Callable[[Block, int, int], Vector],
) -> Callable[[Block], Iterator[Vector]]:
    """The codes of a block of 256: `codes_of(block, part, half)` of its sixteen halves of parts."""

    def codes(block: Block) -> Iterator[Vector]:
        for part in range(8):
            for half in range(2):
                yield codes_of(block, part, half)

    return codes


@halves
def q2_k_codes(block: Block, part: int, half: int) -> Vector:
    """Of 2 bits."""
    return two_bits(block, 16, part, half)


@halves
def q3_k_codes(block: Block, part: int, half: int) -> Vector:
    """Of 3 bits."""
    third = block.codes(16 * half) >> part & 1
    return two_bits(block, 32, part, half) | third << 2


@halves
def q4_k_codes(block: Block, part: int, half: int) -> Vector:
    """Of 4 bits."""
    return four_bits(block, 16, part, half)


@halves
def q5_k_codes(block: Block, part: int, half: int) -> Vector:
    """Of 5 bits."""
    fifth = block.codes(16 + 16 * half) >> part & 1
    return four_bits(block, 48, part, half) | fifth << 4


@halves
def q6_k_codes(block: Block, part: int, half: int) -> Vector:
    """Of 6 bits."""
    low = block.codes(64 * (part // 4) + 32 * (part % 2) + 16 * half)
    low = low >> 4 if part % 4 > 1 else low & 15
    return low | two_bits(block, 128, part, half) << 4


def multiples_and_minimums(block: Block) -> Vector:
    """Of Q4_K and Q5_K: the eight scales, then the eight minimums, of 6 bits.

    `dtypes.packed.k_quants.unpack_scales_mins` explains the 12 bytes.
    """
    packed = block.codes(4)  # and four bytes of no use
    first = packed.pick(0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7)
    third = packed.pick(*[8, 9, 10, 11] * 4) >> [0] * 8 + [4] * 8
    in_first = [63] * 4 + [0] * 4 + [63] * 4 + [0] * 4
    in_two = [0] * 4 + [48] * 4 + [0] * 4 + [48] * 4
    low_bits = [0] * 4 + [15] * 4 + [0] * 4 + [15] * 4
    return first & in_first | first >> 2 & in_two | third & low_bits


def q3_k_multiples(block: Block) -> Vector:
    """Of Q3_K: the sixteen scales + 32, of 6 bits."""
    packed = block.codes(94)  # the twelve bytes begin at the third
    low = packed.pick(*[2, 3, 4, 5, 6, 7, 8, 9] * 2) >> [0] * 8 + [4] * 8 & 15
    high = packed.pick(*[10, 11, 12, 13] * 4) >> [0] * 4 + [2] * 4 + [4] * 4 + [6] * 4 & 3
    return low | high << 4


@block_format(256, 84)
def q2_k(block: Block) -> Iterator[Vector]:
    ab = block.codes(0)
    scales, minimums = block.half(80) * (ab & 15).floats(), block.half(82) * (ab >> 4).floats()
    for i, codes in enumerate(q2_k_codes(block)):
        yield scales.pick(i) * codes.floats() - minimums.pick(i)


@block_format(256, 110)
def q3_k(block: Block) -> Iterator[Vector]:
    scales = block.half(108) * (q3_k_multiples(block).floats() - 32)
    for i, codes in enumerate(q3_k_codes(block)):
        yield scales.pick(i) * (codes.floats() - 4)


@block_format(256, 144)
def q4_k(block: Block) -> Iterator[Vector]:
    scales = multiples_and_minimums(block).floats() * block.two_halves(0)
    for i, codes in enumerate(q4_k_codes(block)):
        yield scales.pick(i // 2) * codes.floats() - scales.pick(8 + i // 2)


@block_format(256, 176)
def q5_k(block: Block) -> Iterator[Vector]:
    scales = multiples_and_minimums(block).floats() * block.two_halves(0)
    for i, codes in enumerate(q5_k_codes(block)):
        yield scales.pick(i // 2) * codes.floats() - scales.pick(8 + i // 2)


@block_format(256, 210)
def q6_k(block: Block) -> Iterator[Vector]:
    scales = block.half(208) * block.signed(192).floats()
    for i, codes in enumerate(q6_k_codes(block)):
        yield scales.pick(i) * (codes.floats() - 32)


# Codes for a table -------------------------------------------------------------------------------


@block_format(32, 18)
def iq4_nl(block: Block) -> Iterator[Vector]:
    scale, codes = block.half(0), block.codes(2)
    yield scale * (codes & 15).looked_up(IQ4)
    yield scale * (codes >> 4).looked_up(IQ4)


def iq4_xs_multiples(block: Block) -> Vector:
    """The eight multiples + 32, twice, of 6 bits."""
    packed = block.codes(2)  # the six bytes of multiples, and ten of no use
    low = packed.pick(*[2, 2, 3, 3, 4, 4, 5, 5] * 2) >> [0, 4] * 8 & 15
    high = packed.pick(*[0, 0, 0, 0, 1, 1, 1, 1] * 2) >> [0, 2, 4, 6] * 4 & 3
    return low | high << 4


def iq4_xs_codes(block: Block) -> Iterator[Vector]:
    """The codes of a block of 256: of each eighth the low halves, then the high ones."""
    for i in range(8):
        yield from nibbles(block, 8 + 16 * i)


@block_format(256, 136)
def iq4_xs(block: Block) -> Iterator[Vector]:
    scales = block.half(0) * (iq4_xs_multiples(block).floats() - 32)
    for i, codes in enumerate(iq4_xs_codes(block)):
        yield scales.pick(i // 2) * codes.looked_up(IQ4)


@block_format(32, 17)
def mxfp4(block: Block) -> Iterator[Vector]:
    scale, codes = block.power_of_two(0), block.codes(1)
    yield scale * (codes & 15).looked_up(FP4)
    yield scale * (codes >> 4).looked_up(FP4)
