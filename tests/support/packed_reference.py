"""What is known of each packed dtype from elsewhere: a row of the tests' tables.

A GGUF format is read one weight at a time, straight from its description: `read(block, i)` is
weight i of a block, given as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

Read = Callable[[bytes, int], float]


class Reference(NamedTuple):
    bits: float
    """A weight's, of (1, 4096)."""
    error: float
    """Of rounding normal weights: at most this share of their root mean square."""
    float16: tuple[int, ...] = ()
    """The bytes of a block where its 16-bit floats begin."""
    read: Read | None = None
    packed_by_gguf: bool = False
    """Whether the `gguf` package packs it: ours has the same bits then."""
    spread: float = 0.13
    """The error that constants and weights from 0.5 to 1 stay below."""
    kernels: bool = True
    """Whether the CPU has kernels for products with it."""


REFERENCES = {
    "int8_channel": Reference(8.0078, 0.0085),
    "int4_group": Reference(4.375, 0.093),
    "int4_group32": Reference(4.75, 0.083),
    "int4_group128": Reference(4.1875, 0.102),
    "nf4": Reference(4.25, 0.094),
}


def block(
    bits: float, error: float, float16: tuple[int, ...], **more: Any
) -> Callable[[Read], Read]:
    def decorate(read: Read) -> Read:
        REFERENCES[read.__name__] = Reference(bits, error, float16, read, **more)
        return read

    return decorate


def half(block: bytes, at: int) -> float:
    return struct.unpack_from("<e", block, at)[0]


def signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def nibble(byte: int, high: bool) -> int:
    return byte >> 4 if high else byte & 15


@block(8.5, 0.0055, (0,), packed_by_gguf=True)
def q8_0(b: bytes, i: int) -> float:
    return half(b, 0) * signed(b[2 + i])


@block(4.5, 0.088, (0,), packed_by_gguf=True)
def q4_0(b: bytes, i: int) -> float:
    return half(b, 0) * (nibble(b[2 + i % 16], i >= 16) - 8)


@block(5.0, 0.080, (0, 2), packed_by_gguf=True)
def q4_1(b: bytes, i: int) -> float:
    return half(b, 0) * nibble(b[4 + i % 16], i >= 16) + half(b, 2)


def fifth(b: bytes, at: int, i: int) -> int:
    return (int.from_bytes(b[at : at + 4], "little") >> i & 1) << 4


@block(5.5, 0.0437, (0,), packed_by_gguf=True)
def q5_0(b: bytes, i: int) -> float:
    return half(b, 0) * (nibble(b[6 + i % 16], i >= 16) + fifth(b, 2, i) - 16)


@block(6.0, 0.0387, (0, 2), packed_by_gguf=True)
def q5_1(b: bytes, i: int) -> float:
    return half(b, 0) * (nibble(b[8 + i % 16], i >= 16) + fifth(b, 4, i)) + half(b, 2)


def two_bits(b: bytes, at: int, i: int) -> int:
    """Field i of 256 of two bits: 128 in each 32 bytes, 32 to a shift."""
    part, i = divmod(i, 128)
    shift, i = divmod(i, 32)
    return b[at + 32 * part + i] >> 2 * shift & 3


@block(2.625, 0.276, (80, 82))
def q2_k(b: bytes, i: int) -> float:
    ab = b[i // 16]
    return half(b, 80) * (ab & 15) * two_bits(b, 16, i) - half(b, 82) * (ab >> 4)


@block(3.4375, 0.150, (108,))
def q3_k(b: bytes, i: int) -> float:
    code = two_bits(b, 32, i) | (b[i % 32] >> i // 32 & 1) << 2
    j = i // 16
    low = nibble(b[96 + j % 8], j >= 8)
    high = b[104 + j % 4] >> 2 * (j // 4) & 3
    return half(b, 108) * ((low | high << 4) - 32) * (code - 4)


def six_bits(b: bytes, j: int) -> tuple[int, int]:
    """a and b of sub-block j of Q4_K and Q5_K."""
    if j < 4:
        return b[4 + j] & 63, b[8 + j] & 63
    third = b[12 + j - 4]
    return third & 15 | b[j] >> 6 << 4, third >> 4 | b[j + 4] >> 6 << 4


@block(4.5, 0.0725, (0, 2))
def q4_k(b: bytes, i: int) -> float:
    j = i // 32
    scale, minimum = six_bits(b, j)
    code = nibble(b[16 + 32 * (j // 2) + i % 32], j % 2 == 1)
    return half(b, 0) * scale * code - half(b, 2) * minimum


@block(5.5, 0.0360, (0, 2))
def q5_k(b: bytes, i: int) -> float:
    j = i // 32
    scale, minimum = six_bits(b, j)
    code = nibble(b[48 + 32 * (j // 2) + i % 32], j % 2 == 1) | (b[16 + i % 32] >> j & 1) << 4
    return half(b, 0) * scale * code - half(b, 2) * minimum


@block(6.5625, 0.0180, (208,))
def q6_k(b: bytes, i: int) -> float:
    part, within = divmod(i, 128)
    low = nibble(b[64 * part + within % 64], within >= 64)
    code = low | two_bits(b, 128, i) << 4
    return half(b, 208) * signed(b[192 + i // 16]) * (code - 32)


IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@block(4.5, 0.08, (0,))
def iq4_nl(b: bytes, i: int) -> float:
    return half(b, 0) * IQ4[nibble(b[2 + i % 16], i >= 16)]


@block(4.25, 0.08, (0,))
def iq4_xs(b: bytes, i: int) -> float:
    j, within = divmod(i, 32)
    high = int.from_bytes(b[2:4], "little") >> 2 * j & 3
    multiple = nibble(b[4 + j // 2], j % 2 == 1) | high << 4
    return half(b, 0) * (multiple - 32) * IQ4[nibble(b[8 + 16 * j + within % 16], within >= 16)]


@block(4.25, 0.12, (), packed_by_gguf=True, spread=0.25)
def mxfp4(b: bytes, i: int) -> float:
    code = nibble(b[1 + i % 16], i >= 16)
    exponent, mantissa = code >> 1 & 3, code & 1
    number = (1 + mantissa / 2) * 2 ** (exponent - 1) if exponent else mantissa / 2
    return (-number if code & 8 else number) * 2.0 ** (b[0] - 127)


TERNARY = {"packed_by_gguf": True, "spread": 0.51, "kernels": False}


@block(1.6875, 0.85, (52,), **TERNARY)
def tq1_0(b: bytes, i: int) -> float:
    start, size, i = (0, 32, i) if i < 160 else (32, 16, i - 160) if i < 240 else (48, 4, i - 240)
    digit, byte = divmod(i, size)
    fraction = b[start + byte] * 3**digit % 256
    return half(b, 52) * (fraction * 3 // 256 - 1)


@block(2.0625, 0.85, (64,), **TERNARY)
def tq2_0(b: bytes, i: int) -> float:
    return half(b, 64) * (two_bits(b, 0, i) - 1)
