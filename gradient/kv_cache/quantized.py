"""Keys and values in 8 or 4 bits, with a scale for every few numbers.

A head's vector of a token is split into groups, and each group is rounded to the nearest point of
its own grid: symmetric in 8 bits (code * scale), from the group's minimum in 4 bits (low + code *
scale). Attention converts the vectors back to its dtype; products are not computed in integers.

Each token has its own scales. So its column never changes after it is written, whatever
tokens come later; paging, rewinding and sharing of prefixes need this. KIVI (Liu et al.
2024, "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", section 3) and KVQuant
(Hooper et al. 2024, section 3.1) found that keys have outliers in a few channels. So they round
keys with scales per channel instead of per token, and must keep a block of recent tokens
unquantised. Here groups are small instead. 8 bits would not need this; 4 bits are enough for values
and coarse for keys: on stories260K, whose heads have 8 numbers, a token costs 1.3815 nats, with
int8 1.3847, with int8 keys and int4 values ("int8/int4") 1.3860, with int4 for both 1.7689.
"""

from __future__ import annotations

import gradient
from gradient.errors import ArgumentError
from gradient.kv_cache.codec import Part, Parts
from gradient.ops import fused
from gradient.tensor import Tensor

#: Numbers in a group, if the head size is a multiple of it; else the whole head is a group.
GROUP = 32
#: The dtype of scales and minima, and its largest number.
SCALE = gradient.float16
LARGEST = 65504.0


class Int8Codec:
    """8 bits per number and a scale per group: 68 bytes for 64 numbers; float16 needs 128.

    The error is at most 1/254 of the largest magnitude in the group (half a step), plus the error
    of the scale's rounding to float16, 2^-11 of the number.
    """

    name = "int8"

    def parts(self, head_size: int) -> list[Part]:
        """Return the codes (D), and a scale for each group (D / g)."""
        groups = head_size // group_size(head_size)
        return [Part(head_size, gradient.int8), Part(groups, SCALE)]

    def encode(self, x: Tensor) -> Parts:
        """Round vectors (..., D) to the nearest codes."""
        x = grouped(x)  # (..., G, g)
        scale = (x.abs().amax(dim=-1) / 127).clamp(max=LARGEST).to(SCALE)  # (..., G)
        codes = (x / divisor(scale)).round().clamp(-127, 127).to(gradient.int8)
        return codes.flatten(-2), scale

    def decode(self, parts: Parts, head_size: int, dtype: gradient.DType) -> Tensor:
        """Return code * scale."""
        return decoded(parts, dtype)


class Int4Codec:
    """4 bits per number, a scale and a minimum per group: 40 bytes for 64 numbers.

    The error is at most 1/30 of the group's range (half a step), plus the error of the rounding of
    scale and minimum to float16, 2^-10 of the group's largest magnitude.

    A byte holds number i of the vector's first half and number i of its second half.
    """

    name = "int4"

    def parts(self, head_size: int) -> list[Part]:
        """Return two codes a byte (D / 2), and for each group a scale and a minimum (D / g)."""
        if head_size % 2:
            raise ArgumentError(
                f"cache: int4 packs two numbers a byte, so heads need an even size, got "
                f"{head_size}; use int8"
            )
        groups = head_size // group_size(head_size)
        return [
            Part(head_size // 2, gradient.uint8),
            Part(groups, SCALE),
            Part(groups, SCALE),
        ]

    def encode(self, x: Tensor) -> Parts:
        """Round vectors (..., D) to the nearest codes."""
        D = x.shape[-1]
        x = grouped(x)  # (..., G, g)
        low = x.amin(dim=-1).clamp(-LARGEST, LARGEST).to(SCALE)  # (..., G)
        x = x - low.float().unsqueeze(-1)
        scale = (x.amax(dim=-1) / 15).clamp(0, LARGEST).to(SCALE)  # (..., G)
        codes = (x / divisor(scale)).round().clamp(0, 15).to(gradient.uint8).flatten(-2)
        return codes[..., : D // 2] + codes[..., D // 2 :] * 16, scale, low

    def decode(self, parts: Parts, head_size: int, dtype: gradient.DType) -> Tensor:
        """Return low + code * scale."""
        return decoded(parts, dtype)


def decoded(parts: Parts, dtype: gradient.DType) -> Tensor:
    """Return the vectors from codes, scales and perhaps minima."""
    codes, *scales = parts
    arrays = tuple(scale.array for scale in scales)
    return fused.stored_vectors(codes, scales=arrays, dtype=dtype.numpy)


def group_size(head_size: int) -> int:
    """Return how many numbers of a head share a scale."""
    return head_size if head_size % GROUP else GROUP


def grouped(x: Tensor) -> Tensor:
    """Return vectors (..., D) as float32 groups (..., G, g)."""
    group = group_size(x.shape[-1])
    return x.float().reshape(*x.shape[:-1], x.shape[-1] // group, group)


def divisor(scale: Tensor) -> Tensor:
    """Return scales (..., G) to divide groups by; 1 for a group of equal numbers, which has 0."""
    return gradient.where(scale > 0, scale, 1).float().unsqueeze(-1)
