"""Instructions that LLVM has no general operation for, each with a version for every processor.

A vector has sixteen lanes of 32 bits whatever the registers hold: LLVM cuts general operations up,
and the functions here cut up their own. Each takes an llvmlite builder, and gives the value.
`cpu.py` says which path is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir

from gradient.backends.numpy.kernels import cpu
from gradient.backends.numpy.kernels.llvm_types import F16, F32, I8, I16, I32, vector_of

LANES = 16
INTEGERS, FLOATS = vector_of(I32, LANES), vector_of(F32, LANES)

Value = Any


def fma(builder: Any, a: Value, b: Value, c: Value) -> Value:
    """a * b + c for vectors of floats, in one rounding where the processor has it."""
    bits = 32 if isinstance(c.type.element, ir.FloatType) else 64
    return _call(builder, f"llvm.fmuladd.v{c.type.count}f{bits}", c.type, a, b, c)


def prefetch(builder: Any, place: Value, cache: int = 1) -> None:
    """Ask for the cache line at an address, which need not be in an array, to be read soon, into
    this cache (1 to 3) and those behind it."""
    name = "llvm.prefetch.p0"
    type_ = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    function = builder.module.globals.get(name) or ir.Function(builder.module, type_, name)
    place = builder.bitcast(place, I8.as_pointer())
    builder.call(function, [place, I32(0), I32(4 - cache), I32(1)])  # to read, data


def dot(builder: Any, total: Value, codes: Value, x: Value, bits: int) -> Value:
    """In each lane: total + the sum of four products of bytes.

    A lane of `codes` holds four unsigned numbers of at most `bits` bits, one of `x` four signed
    ones from -127 to 127.
    """
    return _DOTS[cpu.PATH](builder, total, codes, x, bits)


def bfloat16_dot(builder: Any, total: Value, a: Value, b: Value) -> Value:
    """In each lane of 32 bits: total + the sum of the products of two pairs of bfloat16.

    The processor's instruction takes numbers below 2^-126 for zeros.
    """
    lanes = total.type.count
    if cpu.MULTIPLIES_BFLOAT16:
        pairs = ir.VectorType(_BF16, 2 * lanes)
        a, b = builder.bitcast(a, pairs), builder.bitcast(b, pairs)
        name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * lanes}"
        return _call(builder, name, total.type, total, a, b)
    for x, y in zip(bfloat16_floats(builder, a), bfloat16_floats(builder, b), strict=True):
        total = _call(builder, f"llvm.fmuladd.v{lanes}f32", total.type, x, y, total)
    return total


def bfloat16_floats(builder: Any, pairs: Value) -> list[Value]:
    """The second and the first of two bfloat16 numbers in each lane of 32 bits, as float32."""
    second = builder.and_(pairs, _all(pairs.type, 0xFFFF0000))
    first = builder.shl(pairs, _all(pairs.type, 16))
    floats = ir.VectorType(F32, pairs.type.count)
    return [builder.bitcast(bits, floats) for bits in (second, first)]


def looked_up(builder: Any, table: list[int], codes: Value) -> Value:
    """For each byte of `codes`, a number below 16, that byte of a table of sixteen."""
    return _LOOK_UPS[cpu.PATH](builder, table, codes)


def floats_of_halves(builder: Any, bits: Value) -> Value:
    """Sixteen 16-bit floats, given as their bits, as float32."""
    if cpu.CONVERTS_FLOAT16:
        return builder.fpext(builder.bitcast(bits, ir.VectorType(F16, LANES)), FLOATS)
    # The exponent has another bias: multiplying mends that, and makes subnormals right.
    wide = builder.zext(bits, INTEGERS)
    size = builder.shl(builder.and_(wide, _all(INTEGERS, 0x7FFF)), _all(INTEGERS, 13))
    value = builder.fmul(builder.bitcast(size, FLOATS), _all(FLOATS, 2.0**112))
    infinite = builder.icmp_unsigned(">=", size, _all(INTEGERS, 0x7C00 << 13))
    special = builder.or_(size, _all(INTEGERS, 0x7F800000))
    number = builder.select(infinite, special, builder.bitcast(value, INTEGERS))
    sign = builder.shl(builder.and_(wide, _all(INTEGERS, 0x8000)), _all(INTEGERS, 16))
    return builder.bitcast(builder.or_(number, sign), FLOATS)


# The dot product of bytes -------------------------------------------------------------------------


def _dot_avx512(builder: Any, total: Value, codes: Value, x: Value, bits: int) -> Value:
    return _vnni(builder, "llvm.x86.avx512.vpdpbusd.512", total, codes, x)


def _dot_avxvnni(builder: Any, total: Value, codes: Value, x: Value, bits: int) -> Value:
    def half(total: Value, codes: Value, x: Value) -> Value:
        return _vnni(builder, "llvm.x86.avx512.vpdpbusd.256", total, codes, x)

    return _in_parts(builder, 8, half, total, codes, x)


def _vnni(builder: Any, name: str, total: Value, codes: Value, x: Value) -> Value:
    """`vpdpbusd`. From LLVM 22 on its operands are bytes, before they were lanes of 32 bits."""
    if llvmlite.binding.llvm_version_info[0] >= 22:
        codes, x = _bytes(builder, codes), _bytes(builder, x)
    return _call(builder, name, total.type, total, codes, x)


def _dot_avx2(builder: Any, total: Value, codes: Value, x: Value, bits: int) -> Value:
    """`pmaddubsw` adds two products in 16 bits, which saturate if codes have eight bits: those are
    widened first, even and odd bytes apart."""
    words = ir.VectorType(I16, 16)

    def half(total: Value, codes: Value, x: Value) -> Value:
        def pairs(a: Value, b: Value) -> Value:
            return _call(builder, "llvm.x86.avx2.pmadd.wd", total.type, a, b)

        if bits < 8:
            name = "llvm.x86.avx2.pmadd.ub.sw"
            both = _call(builder, name, words, _bytes(builder, codes), _bytes(builder, x))
            return builder.add(total, pairs(both, _all(words, 1)))
        codes, x = builder.bitcast(codes, words), builder.bitcast(x, words)
        eight = _all(words, 8)
        even = pairs(
            builder.and_(codes, _all(words, 255)), builder.ashr(builder.shl(x, eight), eight)
        )
        odd = pairs(builder.lshr(codes, eight), builder.ashr(x, eight))
        return builder.add(total, builder.add(even, odd))

    return _in_parts(builder, 8, half, total, codes, x)


def _dot_neon(builder: Any, total: Value, codes: Value, x: Value, bits: int) -> Value:
    """`sdot` takes signed bytes. Codes of eight bits are 128 less then, which is added again."""

    def quarter(total: Value, codes: Value, x: Value) -> Value:
        def sdot(total: Value, codes: Value) -> Value:
            name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
            return _call(builder, name, total.type, total, codes, _bytes(builder, x))

        codes = _bytes(builder, codes)
        if bits < 8:
            return sdot(total, codes)
        half = sdot(sdot(total, _all(codes.type, 64)), _all(codes.type, 64))
        return sdot(half, builder.xor(codes, _all(codes.type, 128)))

    return _in_parts(builder, 4, quarter, total, codes, x)


def _dot_generic(builder: Any, total: Value, codes: Value, x: Value, bits: int) -> Value:
    for byte in range(4):
        code = builder.lshr(codes, _all(INTEGERS, 8 * byte))
        code = builder.and_(code, _all(INTEGERS, 255))
        number = builder.shl(x, _all(INTEGERS, 24 - 8 * byte))
        number = builder.ashr(number, _all(INTEGERS, 24))
        total = builder.add(total, builder.mul(code, number))
    return total


_DOTS: dict[str, Callable[[Any, Value, Value, Value, int], Value]] = {
    "amx": _dot_avx512,
    "avx512bf16": _dot_avx512,
    "avx512vnni": _dot_avx512,
    "avxvnni": _dot_avxvnni,
    "avx2": _dot_avx2,
    "neon": _dot_neon,
    "generic": _dot_generic,
}


# Tables -------------------------------------------------------------------------------------------


def _look_up_avx512(builder: Any, table: list[int], codes: Value) -> Value:
    type_ = ir.VectorType(I8, 64)
    numbers = ir.Constant(type_, 4 * table)
    name = "llvm.x86.avx512.pshuf.b.512"
    found = _call(builder, name, type_, numbers, _bytes(builder, codes))
    return builder.bitcast(found, codes.type)


def _look_up_avx2(builder: Any, table: list[int], codes: Value) -> Value:
    def half(codes: Value) -> Value:
        type_ = ir.VectorType(I8, 32)
        numbers = ir.Constant(type_, 2 * table)
        found = _call(builder, "llvm.x86.avx2.pshuf.b", type_, numbers, _bytes(builder, codes))
        return builder.bitcast(found, codes.type)

    return _in_parts(builder, 8, half, codes)


def _look_up_neon(builder: Any, table: list[int], codes: Value) -> Value:
    def quarter(codes: Value) -> Value:
        type_ = ir.VectorType(I8, 16)
        numbers = ir.Constant(type_, table)
        name = "llvm.aarch64.neon.tbl1.v16i8"
        found = _call(builder, name, type_, numbers, _bytes(builder, codes))
        return builder.bitcast(found, codes.type)

    return _in_parts(builder, 4, quarter, codes)


def _look_up_generic(builder: Any, table: list[int], codes: Value) -> Value:
    """Of each two neighbours in the table one is chosen, by one bit of the code after another."""
    bytes_ = _bytes(builder, codes)
    type_ = bytes_.type
    numbers = [_all(type_, number) for number in table]
    for bit in (1, 2, 4, 8):
        clear = builder.icmp_unsigned("==", builder.and_(bytes_, _all(type_, bit)), _all(type_, 0))
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        numbers = [builder.select(clear, zero, one) for zero, one in pairs]
    return builder.bitcast(numbers[0], codes.type)


_LOOK_UPS: dict[str, Callable[[Any, list[int], Value], Value]] = {
    "amx": _look_up_avx512,
    "avx512bf16": _look_up_avx512,
    "avx512vnni": _look_up_avx512,
    "avxvnni": _look_up_avx2,
    "avx2": _look_up_avx2,
    "neon": _look_up_neon,
    "generic": _look_up_generic,
}


# bfloat16 -----------------------------------------------------------------------------------------


class _BFloat16(ir.Type):
    """LLVM's type, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"


_BF16 = _BFloat16()


# What they are made of ----------------------------------------------------------------------------


def _call(builder: Any, name: str, result: Any, *arguments: Value) -> Value:
    type_ = ir.FunctionType(result, [argument.type for argument in arguments])
    function = builder.module.globals.get(name)
    return builder.call(function or ir.Function(builder.module, type_, name), arguments)


def _all(type_: Any, number: float) -> Value:
    return ir.Constant(type_, [number] * type_.count)


def _bytes(builder: Any, vector: Value) -> Value:
    return builder.bitcast(vector, ir.VectorType(I8, 4 * vector.type.count))


def _in_parts(builder: Any, lanes: int, work: Callable[..., Value], *vectors: Value) -> Value:
    """`work` of each `lanes` lanes of the vectors, and the results as one vector again."""

    def picked(a: Value, b: Value, numbers: range) -> Value:
        mask = ir.Constant(ir.VectorType(I32, len(numbers)), list(numbers))
        return builder.shuffle_vector(a, b, mask)

    parts = [
        work(*(picked(v, v, range(start, start + lanes)) for v in vectors))
        for start in range(0, LANES, lanes)
    ]
    while len(parts) > 1:
        width = 2 * parts[0].type.count
        parts = [picked(a, b, range(width)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]
