"""Vectors of numbers as values in kernels: a numba type that is an LLVM vector, in registers.

LLVM vectorises plain loops well, but does not keep a tile of a matrix in registers across a loop.
Products of small matrices need that, and take these few operations. They are LLVM's general ones,
which it lowers to any processor's instructions.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core.datamodel import PrimitiveModel

from gradient.backends.numpy.kernels import instructions
from gradient.backends.numpy.kernels.building import splat
from gradient.backends.numpy.kernels.cpu import BYTES as BYTES
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import I32, I64

LANES = {types.float32: BYTES // 4, types.float64: BYTES // 8, types.uint16: BYTES // 2}


class Vector(types.Type):
    """As many numbers of type `element` as a register holds."""

    def __init__(self, element: types.Type):
        self.element = element
        super().__init__(name=f"Vector({element})")


@extending.register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector):
        element = manager.lookup(kind.element).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, LANES[kind.element]))


@emitted(types.int64)
def lanes(builder, array):
    """How many elements of the array are a vector."""
    return I64(vector_of(array.type.pointee).count)


@emitted(lambda array, index: Vector(array.dtype))
def load(builder, array, index):
    """The vector that starts at a flat array's element `index`."""
    value = builder.load(_vector_at(builder, array, index))
    value.align = 1
    return value


@emitted()
def store(builder, array, index, vector):
    """Put a vector in the place that starts at a flat array's element `index`."""
    builder.store(vector, _vector_at(builder, array, index)).align = 1


@emitted(lambda array, index, count: Vector(array.dtype))
def load_some(builder, array, index, count):
    """As `load`, of `count` elements; the rest is zeros, and not read."""
    return _loaded(builder, array, index, count, None)


@emitted(lambda array, index, count, others: Vector(array.dtype))
def load_or(builder, array, index, count, others):
    """As `load_some`; the rest is that of the vector `others`."""
    return _loaded(builder, array, index, count, others)


def _loaded(builder: Any, array: Any, index: Any, count: Any, others: Any) -> Any:
    place = _vector_at(builder, array, index)
    kind, flags = place.type.pointee, _flags(place.type.pointee.count)
    masked = builder.module.declare_intrinsic(
        f"llvm.masked.load.{name_of(kind)}.p0",
        fnty=ir.FunctionType(kind, [place.type, I32, flags, kind]),
    )
    inside = first_flags(builder, count, kind.count)
    rest = ir.Constant(kind, None) if others is None else others
    return builder.call(masked, [place, I32(4), inside, rest])


@emitted()
def store_some(builder, array, index, vector, count):
    """As `store`, of the first `count` elements."""
    place = _vector_at(builder, array, index)
    inside = first_flags(builder, count, vector.type.count)
    builder.call(_masked_store(builder, vector, place), [vector, place, I32(4), inside])


@emitted(Vector)
def fill(builder, number):
    """The vector whose elements are all `number`."""
    return splat(builder, number, vector_of(number.type))


@emitted(lambda total, number, vector: total)
def add_product(builder, total, number, vector):
    """total + number * vector, where `number` may be a vector too; in one rounding where the
    processor can."""
    if number.type != total.type:
        number = splat(builder, number, total.type)
    return instructions.fma(builder, number, vector, total)


@emitted(lambda vector, count: vector)
def first_lanes(builder, vector, count):
    """The vector, with zeros after its first `count` elements."""
    inside = first_flags(builder, count, vector.type.count)
    return builder.select(inside, vector, ir.Constant(vector.type, None))


@emitted(lambda a, b: a)
def every_second(builder, a, b):
    """Of the elements of a and then b the first, the third and so on."""
    n = a.type.count
    numbers = ir.Constant(ir.VectorType(I32, n), list(range(0, 2 * n, 2)))
    return builder.shuffle_vector(a, b, numbers)


@emitted(lambda vector: vector)
def backwards(builder, vector):
    """The vector with its elements in the opposite order."""
    n = vector.type.count
    order = ir.Constant(ir.VectorType(I32, n), list(reversed(range(n))))
    return builder.shuffle_vector(vector, vector, order)


@emitted()
def transpose_square(builder, x, at, column, y, to, row):
    """y[to + i row + j] = x[at + j column + i] of flat arrays, for i and j up to a vector's lanes:
    half of the rows are interleaved with the other half, as often as the lanes can be halved."""
    kind = vector_of(x.type.pointee)
    n, half = kind.count, kind.count // 2
    rows = []
    for j in range(n):
        rows.append(builder.load(_vector_at(builder, x, _step(builder, at, column, j))))
        rows[-1].align = 1
    ints = ir.VectorType(I32, n)
    orders = [
        ir.Constant(ints, [k for i in range(first, first + half) for k in (i, n + i)])
        for first in (0, half)
    ]
    for _ in range(half.bit_length()):
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [builder.shuffle_vector(a, b, order) for a, b in pairs for order in orders]
    for i, vector in enumerate(rows):
        builder.store(vector, _vector_at(builder, y, _step(builder, to, row, i))).align = 1


def _step(builder: Any, at: Any, step: Any, count: int) -> Any:
    return builder.add(at, builder.mul(step, I64(count)))


@emitted()
def store_apart(builder, array, index, vector, count):
    """Put the first `count` elements of a vector in every second place of a flat array, from its
    element `index` on. What is between them, and after them, is left as it is."""
    n, ints = vector.type.count, ir.VectorType(I64, vector.type.count)
    place, limit = _vector_at(builder, array, index), splat(builder, count, ints)
    masked = _masked_store(builder, vector, place)
    for half in range(2):
        numbers = [half * n // 2 + i // 2 for i in range(n)]
        order = ir.Constant(ir.VectorType(I32, n), numbers)
        spread = builder.shuffle_vector(vector, vector, order)
        last = [number if i % 2 == 0 else 1 << 62 for i, number in enumerate(numbers)]
        inside = builder.icmp_signed("<", ir.Constant(ints, last), limit)
        to = builder.gep(builder.bitcast(place, array.type), [I32(half * n)])
        to = builder.bitcast(to, place.type)
        builder.call(masked, [spread, to, I32(4), inside])


@emitted(lambda a, b: a)
def larger(builder, a, b):
    """The larger of each pair of elements; of a NaN and a number, one of the two."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _flags(n: int) -> Any:
    return ir.VectorType(ir.IntType(1), n)


def first_flags(builder: Any, count: Any, n: int) -> Any:
    """Of each of n elements, whether it is one of the first `count`."""
    ints = ir.VectorType(I64, n)
    numbers = ir.Constant(ints, list(range(n)))
    return builder.icmp_signed("<", numbers, splat(builder, count, ints))


def _masked_store(builder: Any, vector: Any, place: Any) -> Any:
    """LLVM's function (vector, place, alignment, flags)."""
    kinds = [vector.type, place.type, I32, _flags(vector.type.count)]
    return builder.module.declare_intrinsic(
        f"llvm.masked.store.{name_of(vector.type)}.p0", fnty=ir.FunctionType(ir.VoidType(), kinds)
    )


def name_of(type_: Any) -> str:
    """What LLVM calls a type of vectors in the names of its functions."""
    return f"v{type_.count}{'f32' if isinstance(type_.element, ir.FloatType) else 'f64'}"


def vector_of(element: Any) -> Any:
    """LLVM's type of `Vector`."""
    if isinstance(element, ir.IntType):
        return ir.VectorType(element, BYTES * 8 // element.width)
    return ir.VectorType(element, BYTES // (4 if isinstance(element, ir.FloatType) else 8))


def _vector_at(builder: Any, array: Any, index: Any) -> Any:
    place = builder.gep(array, [index])
    return builder.bitcast(place, vector_of(array.type.pointee).as_pointer())
