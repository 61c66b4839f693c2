"""Products with packed weights: few rows by kernels that read the codes (16-bit ones by tensor
cores), many rows by cuBLAS, with weights that a kernel unpacks."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.cuda.launching import FLOATS, LOAD, KernelLauncher, computed_in
from gradient.backends.cuda.planes import LAYOUTS
from gradient.backends.packed import PackedArray
from gradient.dtypes import HALF_PRECISION, float32
from gradient.dtypes.packed.codebook import FP4, IQ4
from gradient.dtypes.packed.codes_apart import TABLE

FAMILIES = {
    **{
        name: name
        for name in (
            *("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"),
            *("iq4_nl", "iq4_xs", "mxfp4", "int8_channel", "nf4"),
        )
    },
    **dict.fromkeys(("int4_group", "int4_group32", "int4_group128"), "int4_group"),
}
"""Formats that have kernels, and what those are called (`quantized.cu`)."""
TABLES = {"nf4": TABLE, "iq4_nl": IQ4, "iq4_xs": IQ4, "mxfp4": FP4}
"""What the codes of formats stand for that look them up."""
CODEBOOK = np.dtype([("of", np.float32, 16), ("used", np.int64)])
"""`Codebook` of `packed.cuh`."""
BATCH, ROWS = (1, 8), (4, 2)
"""Rows of the input for a block of the kernels, and of the matrix."""
WARPS, STEP = 4, 256
"""A block's warps, and weights of a warp's step."""
FEW_ROWS, MOST_ROWS = 16, 64
"""Up to so many rows reading the codes is quicker than unpacking the matrix and multiplying it; by
tensor cores up to the second."""
OUTPUTS, PITCH = 64, 288
"""Of `small_batch.cu`: rows of the matrix for a block, and numbers of a row in shared memory."""
FILLING = 512
"""Blocks that keep a GPU busy."""
COUNTED, MOST_COLUMNS = 1 << 37, 1 << 31
"""Weights of a matrix, and columns, that kernels can count."""
UNPACKED = 1 << 26
"""Weights that are unpacked at a time, for a product of many rows."""


class QuantizedKernels(KernelLauncher, AttentionDefaults[Array]):
    """Overrides of `composed.packed`, and of `linear` for packed weights."""

    def linear(self, x: Array, weight: Array | PackedArray, bias: Array | None = None) -> Array:
        if (
            not isinstance(weight, PackedArray)
            or bias is None
            or not self._has_few_rows(x, weight)
            or bias.dtype != x.dtype
            or bias.shape != weight.shape[:1]
        ):
            return super().linear(x, weight, bias)
        return self._few_rows(x, weight, bias)

    def quantized_matmul(self, x: Array, weight: PackedArray) -> Array:
        """For many rows of 16-bit floats, the weights are also rounded to 16 bits."""
        if self._has_few_rows(x, weight):
            return self._few_rows(x, weight, None)
        if not self._has_kernel_of(x, weight, -1):
            return super().quantized_matmul(x, weight)
        weight = self.readable(weight)
        n, k = weight.shape
        if n * k <= UNPACKED:
            return self.matmul(x, self.unpack(weight, x.dtype).T)
        out = self.empty((x.size // k, n), x.dtype)
        for some in _rows_at_a_time(n, k):
            unpacked = self.unpack(weight.rows(self, (some,)), x.dtype)
            out[:, some] = self.matmul(x.reshape((-1, k)), unpacked.T)
        return out.reshape((*x.shape[:-1], n))

    def quantized_matmul_grad(self, g: Array, weight: PackedArray) -> Array:
        if not self._has_kernel_of(g, weight, -2):
            return super().quantized_matmul_grad(g, weight)
        weight = self.readable(weight)
        n, k = weight.shape
        if n * k <= UNPACKED:
            return self.matmul(g, self.unpack(weight, g.dtype))
        rows, wide, total = g.reshape((-1, n)), np.dtype(computed_in(g)), None
        for some in _rows_at_a_time(n, k):
            unpacked = self.unpack(weight.rows(self, (some,)), g.dtype)
            part = self.astype(self.matmul(rows[:, some], unpacked), wide)
            total = part if total is None else total + part
        assert total is not None
        return self.astype(total, g.dtype).reshape((*g.shape[:-1], k))

    def unpack(self, x: PackedArray, dtype: np.dtype = float32.numpy) -> Array:
        if not has_format(x) or dtype not in FLOATS or not x.size:
            return super().unpack(x, dtype)
        out = self.empty(x.shape, dtype)
        self._unpack(x, None, out)
        return out

    def quantized_embedding(self, weight: PackedArray, indices: Array) -> Array:
        dtype = weight.float_dtype
        if not (
            has_format(weight)
            and len(weight.shape) == 2
            and dtype in FLOATS
            and indices.size * weight.size
            and self._lies_for_kernels(weight)
        ):
            return super().quantized_embedding(weight, indices)
        out = self.empty((*indices.shape, weight.shape[1]), dtype)
        self._unpack(weight, self.contiguous(self.astype(indices, np.dtype(np.int64))), out)
        return out

    def _unpack(self, x: PackedArray, index: Array | None, out: Array) -> None:
        """Unpack all rows, or those of an index."""
        k = x.shape[-1]
        family, parts, group = self._given(x)
        self.launch(
            "quantized", f"{family}_unpack", out, (out.size // k, -(-k // (STEP * WARPS))),
            32 * WARPS, *parts, index, np.int64(x.shape[0]),
            None if index is None else self.index_fault(), out, np.int64(k), np.int64(group),
            early=index is not None,
        )  # fmt: skip

    def _lies_for_kernels(self, weight: PackedArray) -> bool:
        """Whether kernels read the parts as they are; else rearranging them all would take longer
        than taking a few rows."""
        return (weight.layout is not None or weight.dtype.name not in LAYOUTS) and all(
            part.flags.c_contiguous and self.runtime.address(part) % LOAD == 0
            for part in weight.parts
        )

    def _few_rows(self, x: Array, weight: PackedArray, bias: Array | None) -> Array:
        n, k = weight.shape
        batch = x.size // k
        out = self.empty((*x.shape[:-1], n), x.dtype)
        if batch > 1 and self._by_tensor_cores(x):
            self._small_batch(x, weight, bias, out)
            return out
        family, parts, group = self._given(weight)
        several = int(batch > 1)
        blocks = -(-n // ROWS[several]), -(-batch // BATCH[several])
        self.launch(
            "quantized", f"{family}_product_{BATCH[several]}", x, blocks,
            32 * min(WARPS, -(-k // STEP)), self.contiguous(x), *parts, self.optional(bias), out,
            *map(np.int64, (batch, n, k, group)),
        )  # fmt: skip
        return out

    def _small_batch(self, x: Array, weight: PackedArray, bias: Array | None, out: Array) -> None:
        """Multiply by tensor cores; the weights are rounded to x's 16-bit dtype."""
        n, k = weight.shape
        batch, blocks, steps = x.size // k, -(-n // OUTPUTS), -(-k // STEP)
        of_part = -(-steps // min(steps, max(1, FILLING // blocks)))
        count = -(-steps // of_part)
        family, parts, group = self._given(weight)
        added = self.optional(bias)
        sums = self.empty((count, batch, n), float32.numpy) if count > 1 else None
        self.launch(
            "small_batch", f"{family}_batch", x, (blocks, count), 32 * WARPS, self.contiguous(x),
            *parts, added, out if sums is None else None, sums,
            *map(np.int64, (batch, n, k, group, of_part)),
            shared=(-(-batch // 8) * 8 + OUTPUTS) * PITCH * x.itemsize,
        )  # fmt: skip
        if sums is not None:
            given = sums, added, out, *map(np.int64, (count, n, out.size))
            self.launch_numbers("small_batch", "batch_join", out, *given)

    def _given(self, weight: PackedArray) -> tuple[str, tuple[Any, ...], int]:
        """The kernels' family for a packed array, their arguments (codes, scales, zeros, the
        codebook), and the size of a group."""
        family = FAMILIES[weight.dtype.name]
        parts = [self.aligned(part) for part in self.readable(weight).parts]
        table = codebook(family)
        return family, (*parts, *[None] * (3 - len(parts)), table), weight.dtype.block_size

    def arranged(self, weight: PackedArray) -> PackedArray:
        """The weight in the layout for kernels, if its format has one."""
        layout = LAYOUTS.get(weight.dtype.name)
        if layout is None or weight.layout is not None:
            return weight
        return layout.arranged(self, weight)

    def readable(self, weight: PackedArray) -> PackedArray:
        """The same for a weight that may have been made on this device from blocks; the result is
        cached with it."""
        if weight.layout is not None or weight.dtype.name not in LAYOUTS:
            return weight
        made: PackedArray = weight.prepared(self.arranged)
        return made

    def aligned(self, part: Array) -> Array:
        """The part, contiguous and aligned to 16 bytes."""
        part = self.contiguous(part)
        return self.runtime.xp.array(part) if self.runtime.address(part) % 16 else part

    def _has_few_rows(self, x: Array, weight: PackedArray) -> bool:
        most = MOST_ROWS if self._by_tensor_cores(x) else FEW_ROWS
        return self._has_kernel_of(x, weight, -1) and x.size <= most * weight.shape[-1]

    def _by_tensor_cores(self, x: Array) -> bool:
        return x.dtype in HALF_PRECISION and self.runtime.has_tensor_cores

    def _has_kernel_of(self, x: Array, weight: PackedArray, axis: int) -> bool:
        """Whether there are kernels to multiply x with this axis of the weight."""
        return (
            has_format(weight)
            and len(weight.shape) == 2
            and weight.size > 0
            and self.has_kernel(x)
            and x.ndim > 0
            and x.shape[-1] == weight.shape[axis]
        )


@functools.cache
def codebook(family: str) -> np.ndarray:
    """The codebook of a family, as a struct argument by value."""
    told = np.zeros(1, CODEBOOK)
    if family in TABLES:
        told["of"], told["used"] = TABLES[family], 1
    return told


def has_format(weight: PackedArray) -> bool:
    """Whether kernels can read the weight; they count blocks and columns in 32 bits."""
    return (
        weight.dtype.name in FAMILIES and weight.size < COUNTED and weight.shape[-1] < MOST_COLUMNS
    )


def _rows_at_a_time(n: int, k: int) -> list[slice]:
    step = max(1, UNPACKED // k)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]
