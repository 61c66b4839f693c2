"""Matrix products with packed weights.

MLX's `quantized_matmul` takes sub-blocks of 32 or more codes with a scale and an offset (for mxfp4:
codes and exponents), in its own layout. A weight is converted to this layout at its first product,
and the result is kept as long as the weight.

q6_k has sub-blocks of 16, which MLX does not support. On a Metal GPU our own kernels read blocks of
q6_k and q4_k in place. Elsewhere a q6_k weight is unpacked for each product, in the same op.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from gradient import dtypes
from gradient.backends.metal import kernels
from gradient.backends.metal.fused import FUSED, single
from gradient.backends.metal.ops import DTYPES
from gradient.dtypes.packed import k_quants
from gradient.dtypes.packed.blocks import bytes_at, fields, float16_at, nibbles
from gradient.dtypes.packed.blocks_of_32 import five_bits

GROUP = 32
Affine = tuple[Any, Any, Any]
"""(codes (N, K), slopes (N, K / 32), offsets (N, K / 32)) of weights slope * code + offset."""


class Layout(NamedTuple):
    """A weight for `mx.quantized_matmul`: codes in 32-bit words, scales, offsets."""

    words: Any
    scales: Any
    offsets: Any  # None for mxfp4
    group: int
    bits: int
    mode: str = "affine"


class Unpacking:
    """The backend methods that the definitions of packed dtypes call."""

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


def q5_0(blocks: Any) -> Affine:
    d = float16_at(BE, blocks, 0)
    return five_bits(BE, blocks, 2), d, -16 * d


def q5_1(blocks: Any) -> Affine:
    return five_bits(BE, blocks, 4), float16_at(BE, blocks, 0), float16_at(BE, blocks, 2)


def _blocks(bits: int, take: Callable[[Any], Affine]) -> Callable[..., Layout]:
    """The layout of a block format, from `take`, which splits blocks into codes and scales."""

    def layout(blocks: Any) -> Layout:
        rows = blocks.shape[0]
        codes, slopes, offsets = (_rows(x, rows) for x in take(blocks))
        return Layout(words(codes, bits), slopes, offsets, GROUP, bits)

    return layout


def mxfp4(blocks: Any) -> Layout:
    rows = blocks.shape[0]
    codes = _rows(nibbles(BE, bytes_at(BE, blocks, 1, 16)), rows)
    exponents = mx.contiguous(_rows(bytes_at(BE, blocks, 0, 1), rows))
    return Layout(words(codes, 4), exponents, None, GROUP, 4, "mxfp4")


def int4_group(codes: Any, scales: Any, zeros: Any) -> Layout:
    scales = scales.astype(mx.float32)
    group = 2 * codes.shape[1] // scales.shape[1]
    offsets = -scales * zeros.astype(mx.float32)
    return Layout(mx.contiguous(codes).view(mx.uint32), scales, offsets, group, 4)


def int8_channel(codes: Any, scales: Any) -> Layout | None:
    """One scale per row, repeated for MLX's groups; None if no group size divides a row."""
    rows, k = codes.shape
    group = next((size for size in (128, 64, 32) if k % size == 0), None)
    if group is None:
        return None
    slopes = mx.repeat(scales[:, None], k // group, axis=1)
    shifted = mx.contiguous(codes).view(mx.uint8) ^ mx.array(128, dtype=mx.uint8)
    return Layout(words(shifted, 8), slopes, -128 * slopes, group, 8)


LAYOUTS: dict[str, Callable[..., Layout | None]] = {
    "q4_0": _blocks(4, q4_0), "q4_1": _blocks(4, q4_1), "q5_0": _blocks(5, q5_0),
    "q5_1": _blocks(5, q5_1), "q8_0": _blocks(8, q8_0), "q4_k": _blocks(4, q4_k),
    "q5_k": _blocks(5, q5_k), "mxfp4": mxfp4, "int8_channel": int8_channel,
    **dict.fromkeys(("int4_group", "int4_group32", "int4_group128"), int4_group),
}  # fmt: skip
"""By format: a function of a weight's parts."""

_prepared: dict[int, tuple[weakref.ref[Any], Layout | None]] = {}


def prepared(name: str, parts: tuple[Any, ...]) -> Layout | None:
    """A weight's layout, cached until the weight is freed."""
    key = id(parts[0])
    known = _prepared.get(key)
    if known is not None and known[0]() is parts[0]:
        return known[1]
    made = LAYOUTS[name](*parts)
    if made is not None:
        mx.eval([x for x in made[:3] if x is not None])
    _prepared[key] = weakref.ref(parts[0], lambda _: _prepared.pop(key, None)), made
    return made


def words(codes: Any, bits: int) -> Any:
    """Pack codes (N, K) to uint32 (N, K bits / 32): a bit stream, lowest bits first."""
    n, k = codes.shape
    if bits == 8:
        return mx.contiguous(codes).view(mx.uint32)
    if bits == 4:
        pairs = codes.reshape(n, k // 2, 2)
        return mx.contiguous(pairs[..., 0] | pairs[..., 1] << 4).view(mx.uint32)
    places = mx.arange(bits).astype(mx.uint8)
    stream = (codes[..., None] >> places & 1).reshape(n, k * bits // 32, 32).astype(mx.uint32)
    return mx.sum(stream << mx.arange(32).astype(mx.uint32), axis=-1).astype(mx.uint32)


def _product(name: str, transpose: bool) -> Callable[..., list[Any]]:
    """The product by MLX's function, or unpacked if the weight has no layout for it."""
    otherwise = _unpacked_product(name, transpose)

    def run(x: Any, *parts: Any) -> list[Any]:
        found = prepared(name, parts)
        if found is None:
            return otherwise(x, *parts)
        codes, scales, offsets, group, bits, mode = found
        return [
            mx.quantized_matmul(
                single(x), codes, scales, offsets, transpose,
                group_size=group, bits=bits, mode=mode,
            )
        ]  # fmt: skip

    return run


def _unpacked_product(name: str, transpose: bool) -> Callable[..., list[Any]]:
    """The product with the unpacked weight: the composed definition of the kernels."""
    dtype: Any = getattr(dtypes, name)

    def run(x: Any, *parts: Any) -> list[Any]:
        weight = dtype.unpack(BE, parts).reshape(parts[0].shape[0], -1)
        return [single(x) @ (weight.T if transpose else weight)]

    return run


def _with_kernel(name: str, otherwise: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """The product by our kernel for a few rows on a Metal GPU, else by `otherwise`."""

    def run(x: Any, blocks: Any) -> list[Any]:
        rows = x.size // x.shape[-1]
        if rows <= kernels.MOST_ROWS and kernels.available():
            y = kernels.product(name, single(x).reshape(rows, -1), blocks)
            return [y.reshape(*x.shape[:-1], blocks.shape[0])]
        return otherwise(x, blocks)

    return run


PRODUCTS: dict[str, Callable[..., list[Any]]] = {}
for _name in LAYOUTS:
    PRODUCTS[f"quantized_matmul:{_name}"] = _product(_name, True)
    PRODUCTS[f"quantized_matmul_grad:{_name}"] = _product(_name, False)
PRODUCTS["quantized_matmul:q6_k"] = _unpacked_product("q6_k", True)
PRODUCTS["quantized_matmul_grad:q6_k"] = _unpacked_product("q6_k", False)
for _name in kernels.SOURCES:
    _asked = f"quantized_matmul:{_name}"
    PRODUCTS[_asked] = _with_kernel(_name, PRODUCTS[_asked])
FUSED.update(PRODUCTS)
