"""Products with packed weights.

q4_0, q4_1, q8_0, q4_k and q5_k are sub-blocks of 32 codes with a scale and an offset: what MLX's
own `quantized_matmul` takes, once the codes lie as it wants them. That is done when a weight is
first multiplied, and kept as long as the weight.

q6_k has sub-blocks of 16, which MLX does not know. On a Metal GPU a kernel of our own reads its
blocks as they lie, and those of q4_k; elsewhere the weight is unpacked, in one op with the product:
the kernels' composed twin.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from gradient import dtypes
from gradient.backends.metal import kernels
from gradient.backends.metal.fused import FUSED, single
from gradient.backends.metal.ops import DTYPES
from gradient.dtypes.packed import k_quants
from gradient.dtypes.packed.blocks import bytes_at, fields, float16_at, nibbles

GROUP = 32
Affine = tuple[Any, Any, Any]
"""(codes (N, K), slopes (N, K / 32), offsets (N, K / 32)) of weights slope * code + offset."""


class Unpacking:
    """The methods of a backend that definitions of packed dtypes use."""

    def getitem(self, x: Any, index: Any) -> Any:
        return x[index]

    def reshape(self, x: Any, shape: Any) -> Any:
        return x.reshape(shape)

    def concatenate(self, arrays: list[Any], axis: int) -> Any:
        return mx.concatenate(arrays, axis=axis)

    def arange(self, start: int, stop: int, step: int, dtype: np.dtype) -> Any:
        return mx.arange(start, stop, step).astype(DTYPES[dtype.name])

    def astype(self, x: Any, dtype: np.dtype) -> Any:
        return x.astype(DTYPES[dtype.name])

    def bitcast(self, x: Any, dtype: np.dtype) -> Any:
        return mx.contiguous(x).view(DTYPES[dtype.name])


BE: Any = Unpacking()


def _rows(x: Any, rows: int) -> Any:
    return x.reshape(rows, -1)


def q4_0(blocks: Any) -> Affine:
    d = float16_at(BE, blocks, 0)
    return nibbles(BE, bytes_at(BE, blocks, 2, 16)), d, -8 * d


def q4_1(blocks: Any) -> Affine:
    codes = nibbles(BE, bytes_at(BE, blocks, 4, 16))
    return codes, float16_at(BE, blocks, 0), float16_at(BE, blocks, 2)


def q8_0(blocks: Any) -> Affine:
    d = float16_at(BE, blocks, 0)
    return bytes_at(BE, blocks, 2, 32) ^ mx.array(128, dtype=mx.uint8), d, -128 * d


def _k(blocks: Any, codes: Any) -> Affine:
    scales, mins = k_quants.unpack_scales_mins(BE, bytes_at(BE, blocks, 4, 12))
    d, dmin = float16_at(BE, blocks, 0), float16_at(BE, blocks, 2)
    return codes, d * scales.astype(mx.float32), -dmin * mins.astype(mx.float32)


def _k_nibbles(blocks: Any, start: int) -> Any:
    codes = bytes_at(BE, blocks, start, 128).reshape(*blocks.shape[:-1], 4, 32)
    return nibbles(BE, codes).reshape(*blocks.shape[:-1], 8, 32)


def q4_k(blocks: Any) -> Affine:
    return _k(blocks, _k_nibbles(blocks, 16))


def q5_k(blocks: Any) -> Affine:
    high = fields(BE, bytes_at(BE, blocks, 16, 32), 1)
    return _k(blocks, _k_nibbles(blocks, 48) | high << 4)


AFFINE: dict[str, tuple[int, Callable[[Any], Affine]]] = {
    "q4_0": (4, q4_0), "q4_1": (4, q4_1), "q8_0": (8, q8_0), "q4_k": (4, q4_k), "q5_k": (5, q5_k),
}  # fmt: skip
"""Bits of a code, and how a format's blocks are taken apart."""

_prepared: dict[int, tuple[weakref.ref[Any], Affine]] = {}


def affine(name: str, blocks: Any) -> Affine:
    """(codes in words of 32 bits, slopes, offsets), as `mx.quantized_matmul` takes them."""
    key = id(blocks)
    known = _prepared.get(key)
    if known is not None and known[0]() is blocks:
        return known[1]
    bits, take = AFFINE[name]
    codes, slopes, offsets = take(blocks)
    rows = blocks.shape[0]
    made = (
        words(_rows(codes, rows), bits),
        _rows(slopes, rows),
        _rows(offsets, rows),
    )
    mx.eval(*made)
    _prepared[key] = weakref.ref(blocks, lambda _: _prepared.pop(key, None)), made
    return made


def words(codes: Any, bits: int) -> Any:
    """Codes (N, K) as uint32 (N, K bits / 32): a stream of bits, lowest first."""
    n, k = codes.shape
    if bits == 8:
        return mx.contiguous(codes).view(mx.uint32)
    if bits == 4:
        pairs = codes.reshape(n, k // 2, 2)
        return mx.contiguous(pairs[..., 0] | pairs[..., 1] << 4).view(mx.uint32)
    places = mx.arange(bits).astype(mx.uint8)
    stream = (codes[..., None] >> places & 1).reshape(n, k * bits // 32, 32).astype(mx.uint32)
    return mx.sum(stream << mx.arange(32).astype(mx.uint32), axis=-1).astype(mx.uint32)


def _affine_product(name: str, transpose: bool) -> Callable[..., list[Any]]:
    bits = AFFINE[name][0]

    def run(x: Any, blocks: Any) -> list[Any]:
        codes, slopes, offsets = affine(name, blocks)
        return [
            mx.quantized_matmul(
                single(x), codes, slopes, offsets, transpose, group_size=GROUP, bits=bits
            )
        ]

    return run


def _unpacked_product(name: str, transpose: bool) -> Callable[..., list[Any]]:
    """The composed twin of the kernels: unpack, and multiply."""
    dtype: Any = getattr(dtypes, name)

    def run(x: Any, blocks: Any) -> list[Any]:
        weight = dtype.unpack(BE, (blocks,)).reshape(blocks.shape[0], -1)
        return [single(x) @ (weight.T if transpose else weight)]

    return run


def _with_kernel(name: str, otherwise: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """A few rows by the kernel that reads the blocks; more of them by matrix products."""

    def run(x: Any, blocks: Any) -> list[Any]:
        rows = x.size // x.shape[-1]
        if rows <= kernels.MOST_ROWS and kernels.available():
            y = kernels.product(name, single(x).reshape(rows, -1), blocks)
            return [y.reshape(*x.shape[:-1], blocks.shape[0])]
        return otherwise(x, blocks)

    return run


PRODUCTS: dict[str, Callable[..., list[Any]]] = {}
for _name in AFFINE:
    PRODUCTS[f"quantized_matmul:{_name}"] = _affine_product(_name, True)
    PRODUCTS[f"quantized_matmul_grad:{_name}"] = _affine_product(_name, False)
PRODUCTS["quantized_matmul:q6_k"] = _unpacked_product("q6_k", True)
PRODUCTS["quantized_matmul_grad:q6_k"] = _unpacked_product("q6_k", False)
for _name in kernels.SOURCES:
    _asked = f"quantized_matmul:{_name}"
    PRODUCTS[_asked] = _with_kernel(_name, PRODUCTS[_asked])
FUSED.update(PRODUCTS)
