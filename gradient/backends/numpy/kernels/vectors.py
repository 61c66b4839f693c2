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

intrinsic: Any = extending.intrinsic  # annotated as if callers passed the typing context


LANES = {types.float32: BYTES // 4, types.float64: BYTES // 8}


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


@intrinsic
def lanes(context, array):
    """How many elements of the array are a vector."""

    def generate(context, builder, signature, arguments):
        return context.get_constant(types.int64, LANES[array.dtype])

    return types.int64(array), generate


@intrinsic
def load(context, array, index):
    """The vector that starts at a flat array's element `index`."""
    kind = Vector(array.dtype)

    def generate(context, builder, signature, arguments):
        value = builder.load(_pointer(context, builder, array, arguments, kind))
        value.align = 1
        return value

    return kind(array, types.int64), generate


@intrinsic
def store(context, array, index, vector):
    """Put a vector in the place that starts at a flat array's element `index`."""

    def generate(context, builder, signature, arguments):
        place = _pointer(context, builder, array, arguments, vector)
        builder.store(arguments[2], place).align = 1
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), generate


@intrinsic
def load_some(context, array, index, count):
    """As `load`, of `count` elements; the rest is zeros, and not read."""
    kind = Vector(array.dtype)

    def generate(context, builder, signature, arguments):
        array_, index_, some = arguments
        type_, bits = context.get_value_type(kind), ir.IntType(32)
        place = _pointer(context, builder, array, (array_, index_), kind)
        flags = ir.VectorType(ir.IntType(1), type_.count)
        masked = builder.module.declare_intrinsic(
            f"llvm.masked.load.{name_of(type_)}.p0",
            fnty=ir.FunctionType(type_, [place.type, bits, flags, type_]),
        )
        inside = _first_flags(builder, some, type_.count)
        return builder.call(masked, [place, bits(4), inside, ir.Constant(type_, None)])

    return kind(array, types.int64, types.int64), generate


@intrinsic
def store_some(context, array, index, vector, count):
    """As `store`, of the first `count` elements."""

    def generate(context, builder, signature, arguments):
        array_, index_, value, some = arguments
        bits = ir.IntType(32)
        place = _pointer(context, builder, array, (array_, index_), vector)
        flags = ir.VectorType(ir.IntType(1), value.type.count)
        masked = builder.module.declare_intrinsic(
            f"llvm.masked.store.{name_of(value.type)}.p0",
            fnty=ir.FunctionType(ir.VoidType(), [value.type, place.type, bits, flags]),
        )
        inside = _first_flags(builder, some, value.type.count)
        builder.call(masked, [value, place, bits(4), inside])
        return context.get_dummy_value()

    return types.void(array, types.int64, vector, types.int64), generate


@intrinsic
def fill(context, number):
    """The vector whose elements are all `number`."""
    kind = Vector(number)

    def generate(context, builder, signature, arguments):
        return splat(builder, arguments[0], context.get_value_type(kind))

    return kind(number), generate


@intrinsic
def add_product(context, total, number, vector):
    """total + number * vector, where `number` may be a vector too; in one rounding where the
    processor can."""

    def generate(context, builder, signature, arguments):
        total_, number_, vector_ = arguments
        if number != total:
            number_ = splat(builder, number_, total_.type)
        return instructions.fma(builder, number_, vector_, total_)

    return total(total, number, vector), generate


@intrinsic
def first_lanes(context, vector, count):
    """The vector, with zeros after its first `count` elements."""

    def generate(context, builder, signature, arguments):
        value, some = arguments
        inside = _first_flags(builder, some, value.type.count)
        return builder.select(inside, value, ir.Constant(value.type, None))

    return vector(vector, types.int64), generate


@intrinsic
def every_second(context, a, b):
    """Of the elements of a and then b the first, the third and so on."""

    def generate(context, builder, signature, arguments):
        n = arguments[0].type.count
        numbers = ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(0, 2 * n, 2)))
        return builder.shuffle_vector(*arguments, numbers)

    return a(a, b), generate


@intrinsic
def store_apart(context, array, index, vector, count):
    """Put the first `count` elements of a vector in every second place of a flat array, from its
    element `index` on. What is between them, and after them, is left as it is."""

    def generate(context, builder, signature, arguments):
        array_, index_, value, some = arguments
        n, element, bits = value.type.count, value.type.element, ir.IntType(32)
        name = f"llvm.masked.store.{name_of(value.type)}.p0"
        place = _pointer(context, builder, array, (array_, index_), vector)
        flags = ir.VectorType(ir.IntType(1), n)
        type_ = ir.FunctionType(ir.VoidType(), [value.type, place.type, bits, flags])
        masked = builder.module.declare_intrinsic(name, fnty=type_)
        limit = splat(builder, some, ir.VectorType(ir.IntType(64), n))
        for half in range(2):
            numbers = [half * n // 2 + i // 2 for i in range(n)]
            spread = builder.shuffle_vector(
                value, value, ir.Constant(ir.VectorType(bits, n), numbers)
            )
            last = [number if i % 2 == 0 else 1 << 62 for i, number in enumerate(numbers)]
            last = ir.Constant(ir.VectorType(ir.IntType(64), n), last)
            inside = builder.icmp_signed("<", last, limit)
            to = builder.gep(builder.bitcast(place, element.as_pointer()), [bits(half * n)])
            to = builder.bitcast(to, place.type)
            builder.call(masked, [spread, to, bits(4), inside])
        return context.get_dummy_value()

    return types.void(array, types.int64, vector, types.int64), generate


@intrinsic
def larger(context, a, b):
    """The larger of each pair of elements; of a NaN and a number, one of the two."""

    def generate(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return a(a, b), generate


def _first_flags(builder: Any, count: Any, n: int) -> Any:
    """Of each of n elements, whether it is one of the first `count`."""
    ints = ir.VectorType(ir.IntType(64), n)
    numbers = ir.Constant(ints, list(range(n)))
    return builder.icmp_signed("<", numbers, splat(builder, count, ints))


def name_of(type_: Any) -> str:
    """What LLVM calls a type of vectors in the names of its functions."""
    return f"v{type_.count}{'f32' if isinstance(type_.element, ir.FloatType) else 'f64'}"


def _pointer(context: Any, builder: Any, array: Any, arguments: Any, kind: Vector) -> Any:
    data = context.make_array(array)(context, builder, arguments[0]).data
    place = builder.gep(data, [arguments[1]])
    return builder.bitcast(place, context.get_value_type(kind).as_pointer())
