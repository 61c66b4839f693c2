"""Random numbers from a counter, for the blocks start to stop."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from gradient.backends.numpy.kernels.building import splat
from gradient.backends.numpy.kernels.compilation import kernel, ordered_kernel, subroutine
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.vectors import BYTES

CHUNK = 1 << 13
"""Blocks of four words that a thread takes at a time."""

U4, U8 = np.uint32, np.uint64
M0, M1 = U8(0xD2511F53), U8(0xCD9E8D57)
W0, W1 = U8(0x9E3779B9), U8(0xBB67AE85)
LOW, WORD = U8(0xFFFFFFFF), U8(32)


@subroutine
def philox4x32(counter, key):
    """The four words of a block (Salmon et al. 2011, section 3.3), each in a uint64."""
    c0, c1, c2, c3 = counter & LOW, counter >> WORD, U8(0), U8(0)
    k0, k1 = key & LOW, key >> WORD
    for _ in range(10):
        p0, p1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (p1 >> WORD) ^ c1 ^ k0, p1 & LOW, (p0 >> WORD) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return c0, c1, c2, c3


TOGETHER = BYTES // 8
"""Blocks of a vector: LLVM does not vectorise `philox4x32` by itself."""
IN_CACHE = 128
"""Such vectors of blocks that are made before they are used."""


def _words_of_blocks(builder: Any, counter: Any, key: Any) -> list[Any]:
    """The four words of TOGETHER blocks from a counter on, each a vector of uint64."""
    n, i64 = TOGETHER, ir.IntType(64)
    lanes = ir.VectorType(i64, n)

    def same(number: Any) -> Any:
        return splat(builder, number, lanes)

    def constant(number: Any) -> Any:
        return ir.Constant(lanes, [int(number)] * n)

    def high(vector: Any) -> Any:
        return builder.lshr(vector, constant(32))

    low, zero = constant(LOW), constant(0)
    counters = builder.add(same(counter), ir.Constant(lanes, list(range(n))))
    c0, c1, c2, c3 = builder.and_(counters, low), high(counters), zero, zero
    k0, k1 = builder.and_(same(key), low), high(same(key))
    for _ in range(10):
        p0, p1 = builder.mul(c0, constant(M0)), builder.mul(c2, constant(M1))
        c0, c2 = (
            builder.xor(builder.xor(high(p), c), k) for p, c, k in ((p1, c1, k0), (p0, c3, k1))
        )
        c1, c3 = builder.and_(p1, low), builder.and_(p0, low)
        k0 = builder.and_(builder.add(k0, constant(W0)), low)
        k1 = builder.and_(builder.add(k1, constant(W1)), low)
    return [c0, c1, c2, c3]


def _by_block(builder: Any, parts: list[Any]) -> Any:
    """Four vectors, of a number of each block, as one in which a block's four are adjacent."""

    def picked(a: Any, b: Any, numbers: list[int]) -> Any:
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers)
        return builder.shuffle_vector(a, b, mask)

    n = TOGETHER
    halves = [picked(parts[i], parts[i + 1], list(range(2 * n))) for i in (0, 2)]
    return picked(halves[0], halves[1], [word * n + i for i in range(n) for word in range(4)])


@emitted(None, types.uint64, types.uint64, ..., types.int64)
def uniform_blocks(builder, counter, key, out, at):
    """The numbers of `uniform4` for TOGETHER blocks, to a flat array from its element `at` on."""
    n, i32 = TOGETHER, ir.IntType(32)
    parts = [
        builder.sitofp(
            builder.trunc(builder.lshr(c, ir.Constant(c.type, [8] * n)), ir.VectorType(i32, n)),
            ir.VectorType(ir.FloatType(), n),
        )
        for c in _words_of_blocks(builder, counter, key)
    ]
    together = _by_block(builder, parts)
    together = builder.fmul(together, ir.Constant(together.type, [2.0**-24] * 4 * n))
    place = builder.bitcast(builder.gep(out, [at]), together.type.as_pointer())
    builder.store(together, place).align = 4


@emitted(None, types.uint64, types.uint64, ..., types.int64)
def integer_blocks(builder, counter, key, out, at):
    """The two 64-bit numbers of TOGETHER blocks, to a flat array from its element `at` on."""
    n = TOGETHER
    words = _words_of_blocks(builder, counter, key)
    shift = ir.Constant(words[0].type, [32] * n)
    first, second = (builder.or_(builder.shl(words[i], shift), words[i + 1]) for i in (0, 2))
    order = ir.Constant(
        ir.VectorType(ir.IntType(32), 2 * n), [half * n + i for i in range(n) for half in range(2)]
    )
    together = builder.shuffle_vector(first, second, order)
    place = builder.bitcast(builder.gep(out, [at]), together.type.as_pointer())
    builder.store(together, place).align = 8


@kernel
def words(start, stop, key, offset, out):
    """out uint32 (blocks, 4)."""
    out = out[start:stop]
    for i in range(out.shape[0]):
        c0, c1, c2, c3 = philox4x32(offset + U8(start + i), key)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = U4(c0), U4(c1), U4(c2), U4(c3)


@kernel
def uniform4(start, stop, key, offset, out):
    """out float32 (blocks, 4) in [0, 1): the 24 high bits of each word."""
    out = out[start:stop]
    scale, n = np.float32(2.0**-24), out.shape[0]
    whole, flat = n // TOGETHER * TOGETHER, out.reshape(-1)
    for i in range(0, whole, TOGETHER):
        uniform_blocks(offset + U8(start + i), key, flat, 4 * i)
    for i in range(whole, n):
        c0, c1, c2, c3 = philox4x32(offset + U8(start + i), key)
        out[i, 0] = np.float32(c0 >> U8(8)) * scale
        out[i, 1] = np.float32(c1 >> U8(8)) * scale
        out[i, 2] = np.float32(c2 >> U8(8)) * scale
        out[i, 3] = np.float32(c3 >> U8(8)) * scale


@kernel
def uniform8(start, stop, key, offset, out):
    """out float64 (blocks, 2) in [0, 1): 27 and 26 high bits of two words."""
    out = out[start:stop]
    for i in range(out.shape[0]):
        c0, c1, c2, c3 = philox4x32(offset + U8(start + i), key)
        out[i, 0] = (np.float64(c0 >> U8(5)) * 2.0**26 + np.float64(c1 >> U8(6))) * 2.0**-53
        out[i, 1] = (np.float64(c2 >> U8(5)) * 2.0**26 + np.float64(c3 >> U8(6))) * 2.0**-53


@emitted(types.uint64, types.uint64, types.uint64)
def high_product(builder, a, b):
    """The high 64 of the 128 bits of a * b."""
    wide = ir.IntType(128)
    product = builder.mul(builder.zext(a, wide), builder.zext(b, wide))
    return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))


@kernel
def integers(start, stop, key, offset, span, out):
    """out uint64 (blocks, 2): 64-bit numbers modulo `span`; made as many as stay in the cache."""
    out = out[start:stop]
    is_power, mask = span & (span - U8(1)) == U8(0), span - U8(1)
    factor = U8(2**64 - 1) // span  # of other spans, 2^64 // span
    for first in range(0, out.shape[0], TOGETHER * IN_CACHE):
        some = out[first : first + TOGETHER * IN_CACHE]
        n, flat = some.shape[0], some.reshape(-1)
        at, whole = offset + U8(start + first), some.shape[0] // TOGETHER * TOGETHER
        for i in range(0, whole, TOGETHER):
            integer_blocks(at + U8(i), key, flat, 2 * i)
        for i in range(whole, n):
            c0, c1, c2, c3 = philox4x32(at + U8(i), key)
            some[i, 0], some[i, 1] = (c0 << WORD) | c1, (c2 << WORD) | c3
        if is_power:
            for i in range(flat.size):
                flat[i] &= mask
        else:
            for i in range(flat.size):  # a product, and at most one span too many: no division
                left = flat[i] - high_product(flat[i], factor) * span
                flat[i] = left - span if left >= span else left


@ordered_kernel
def dropout(start, stop, keys, offsets, x, out, p, scale):
    """out = x * scale where the number of `uniform4` is at least p, else x * 0; flat float32. The
    numbers are made in `out` first, as many as stay in the cache. keys and offsets are of size 1.
    """
    key, offset = keys[0], offsets[0]
    n, step, zero = out.shape[0], 4 * TOGETHER * IN_CACHE, np.float32(0)
    last = min(4 * stop, n)
    for first in range(4 * start, last, step):
        end = min(first + step, last)
        whole = first + (end - first) // (4 * TOGETHER) * (4 * TOGETHER)
        for i in range(first, whole, 4 * TOGETHER):
            uniform_blocks(offset + U8(i // 4), key, out, i)
        for i in range(whole, end, 4):
            words = philox4x32(offset + U8(i // 4), key)
            for k in range(min(4, end - i)):
                out[i + k] = np.float32(words[k] >> U8(8)) * np.float32(2.0**-24)
        numbers, given = out[first:end], x[first:end]
        for i in range(end - first):
            numbers[i] = given[i] * (scale if numbers[i] >= p else zero)
