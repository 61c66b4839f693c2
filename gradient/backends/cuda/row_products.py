"""Products of a few rows, as in a decoding step, in few launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.cuda.launching import FLOATS, LOAD, KernelLauncher, block_of, computed_in
from gradient.backends.cuda.quantized import FAMILIES
from gradient.backends.packed import PackedArray
from gradient.dtypes import HALF_PRECISION

WARPS = 8
"""Of a block (`row_products.cu`)."""
BATCH, MATRICES = 4, 3
"""The most rows and matrices of a launch. A packed matrix has as many parts, too, at most."""
SHARED = 46 << 10
"""Bytes of shared memory that a block is given at most."""
PACKED = {
    "q4_0": (64, 2 * 2304, 16),
    "q8_0": (64, 4352, 16),
    "q4_k": (256, 2 * 2304, 16),
    "q5_k": (256, 2816, 16),
    "q6_k": (256, 3072, 14),
    "int8_channel": (32, 4352, 16),
    "int4_group": (32, 2048, 14),
}
"""Families of formats that have kernels (`packed_row_products.cu`): what their rows are multiples
of, the bytes of shared memory of a warp for tiles, and the most warps of a block. A multiprocessor
has registers for two such blocks, so that all blocks of a product begin at once."""
STEP, TILE, MOST_TILES = 256, 16, 32
"""There: columns that a warp multiplies at a time, rows of a tile, and tiles of a block."""
OF_STEP, REST = 4 * 144, 4 * 100
"""Bytes of shared memory for the digits of a warp's step, and for zeros."""
RESERVED, OF_NORM = 1 << 10, 4 * 32
"""Bytes of shared memory that CUDA takes for each block, beyond `max_shared`, and those in which a
block adds up the squares for its norm (`decoding.cuh`)."""
MOST_PACKED = 1 << 14
"""Numbers of a row there, which lie in shared memory."""
MOST_WEIGHTS = 1 << 34
"""Numbers of a matrix there: twice its blocks of 32 are counted by 32 bits."""
MOST = 1 << 30
"""Numbers of a row, and rows of all matrices, that kernels count."""


class RowProducts(KernelLauncher, AttentionDefaults[Array]):
    """Overrides of `linear` and `projections` for up to `BATCH` rows."""

    runtime: Any
    readable: Any
    aligned: Any

    def linear(self, x: Array, weight: Array | PackedArray, bias: Array | None = None) -> Array:
        if bias is None or (bias.dtype == x.dtype and bias.shape == weight.shape[:1]):
            made = self._row_products(x, (weight,), bias=bias)
            if made is not None:
                return made[0]
        return super().linear(x, weight, bias)

    def projections(
        self,
        x: Array,
        weights: Sequence[Array | PackedArray],
        norm: Array | None = None,
        eps: float = 0.0,
        round_first: bool = False,
        gated: bool = False,
        residual: Array | None = None,
    ) -> tuple[Array, ...]:
        options = norm, eps, round_first, gated, residual
        if gated and len(weights) != 2 or residual is not None and (gated or len(weights) != 1):
            return super().projections(x, weights, *options)
        made = self._row_products(x, weights, *options, early=True)
        return super().projections(x, weights, *options) if made is None else made

    def _row_products(
        self,
        x: Array,
        weights: Sequence[Array | PackedArray],
        norm: Array | None = None,
        eps: float = 0.0,
        round_first: bool = False,
        gated: bool = False,
        residual: Array | None = None,
        bias: Array | None = None,
        early: bool = False,
    ) -> tuple[Array, ...] | None:
        """The products, or None if the kernel does not take them. With `early`, it may start before
        its predecessor ends; earlier kernels then must not write the weights."""
        packed = self._packed_as(x, weights)
        if packed is None:
            return None
        x = self.contiguous(x)
        k, lead = x.shape[-1], x.shape[:-1]
        sizes = [w.shape[0] for w in weights]
        if residual is not None and residual.shape != (*lead, sizes[0]):
            return None
        if (gated and sizes[0] != sizes[1]) or (norm is not None and norm.shape != (k,)):
            return None
        beside = [x, *(a for a in (norm, residual) if a is not None)]
        if any(a.dtype != x.dtype or not self._in_loads(a) for a in beside):
            return None
        parts = [self._parts_of(w) for w in weights]
        early = early and not any(self._is_moved(w) for w in weights)
        outs = [self.empty((*lead, n), x.dtype) for n in (sizes[:1] if gated else sizes)]
        batch, rows = x.size // k, sizes[0] if gated else sum(sizes)
        name = "gated_product" if gated else "row_product"
        threads = self.threads_that_hold(x, norm) or block_of(k)  # as in `rms_norm`
        computed = computed_in(x)
        if packed:
            name = name if norm is None else f"normed_{name}"
            module, kernel = "packed_row_products", f"{name}_{packed}"
            tiles = -(-rows // (TILE // 2)) if gated else sum(-(-n // TILE) for n in sizes)
            warps, last, each, shared = self._division(packed, tiles, -(-k // STEP))
            blocks, block = -(-tiles // each), 32 * warps
        else:
            module, kernel = "row_products", f"{name}_{1 if batch == 1 else BATCH}"
            last, blocks, block = batch, -(-rows // WARPS), 32 * WARPS
            shared = x.itemsize * x.size
        # Only for packed weights.
        zeros = _three([zeros for _, _, zeros in parts]) if packed else ()
        more = (np.int64(tiles), np.int64(_group_of(weights[0]))) if packed else ()
        self.launch(
            module, kernel, x, (blocks,), block,
            x, norm, computed(1) / computed(k), computed(eps),
            np.int64(round_first), np.int64(threads),
            *_three([codes for codes, _, _ in parts]), *_three([scales for _, scales, _ in parts]),
            *zeros, *_three(outs), *map(np.int64, (*sizes, *[0] * (MATRICES - len(sizes)))),
            residual, None if bias is None else self.aligned(bias), np.int64(k), np.int64(last),
            *more, shared=shared, early=early,
        )  # fmt: skip
        return tuple(outs)

    def _division(self, family: str, tiles: int, steps: int) -> tuple[int, int, int, int]:
        """A block's warps, the steps of a warp, a block's tiles, and its bytes of shared memory.

        Warps and steps, and with them the order of sums, do not depend on the number of tiles. All
        blocks are resident together; if they would need too many tiles each, they come in as few
        waves as possible, of as many tiles."""
        _, of_tiles, most_warps = PACKED[family]
        whole, last = self.runtime.max_shared + RESERVED, -(-steps // most_warps)
        while True:
            warps = -(-steps // last)
            of_warps = warps * (of_tiles + last * OF_STEP + REST)
            of_tile = TILE * 4 * (-(-warps // 4) * 4)
            resident = min(
                2 * most_warps // warps, whole // (RESERVED + OF_NORM + of_warps + of_tile)
            )
            if resident:  # at the latest with one warp, for rows of up to `MOST_PACKED`
                break
            last += 1
        room = whole // resident - RESERVED - OF_NORM - of_warps
        most = min(room // of_tile, MOST_TILES)
        at_once = self.runtime.multiprocessors * resident
        waves = -(-tiles // (at_once * most))
        each = -(-tiles // (at_once * waves))
        return warps, last, each, of_warps + each * of_tile

    def _packed_as(self, x: Array, weights: Sequence[Array | PackedArray]) -> str | None:
        """The kernels' family for the weights' format, "" for unpacked ones; None if there are no
        kernels."""
        if x.dtype not in FLOATS or not x.size or not 0 < len(weights) <= MATRICES:
            return None
        k = x.shape[-1]
        batch = x.size // k
        if batch > BATCH or k >= MOST or any(
            len(w.shape) != 2 or w.shape[1] != k or not w.shape[0] for w in weights
        ) or sum(w.shape[0] for w in weights) >= MOST:  # fmt: skip
            return None
        names = {w.dtype.name if isinstance(w, PackedArray) else "" for w in weights}
        if names == {""}:
            fits = x.itemsize * x.size <= SHARED and k * x.itemsize % LOAD == 0
            same = all(w.dtype == x.dtype and self._in_loads(w) for w in weights)
            return "" if fits and same else None
        [name] = {FAMILIES.get(name) for name in names} if len(names) == 1 else {None}
        if name not in PACKED or k % PACKED[name][0] or batch > 1 or k > MOST_PACKED:
            return None
        if any(w.size >= MOST_WEIGHTS for w in weights):
            return None
        return name if x.dtype in HALF_PRECISION and self.runtime.has_tensor_cores else None

    def _parts_of(self, weight: Array | PackedArray) -> tuple[Array | None, ...]:
        """The array of a matrix; or its codes, scales and zeros, as for `packed.cuh`."""
        if not isinstance(weight, PackedArray):
            return _three([weight])
        return _three([self.aligned(part) for part in self.readable(weight).parts])

    def _is_moved(self, weight: Array | PackedArray) -> bool:
        """Whether its parts may have to be rearranged by work queued before the product; also
        blocks, which are split into planes again after a write to them."""
        return isinstance(weight, PackedArray) and (
            self.readable(weight) is not weight
            or not all(self._in_loads(part) for part in weight.parts)
        )

    def _in_loads(self, x: Any) -> bool:
        """Whether it is contiguous and can be loaded 16 bytes at a time."""
        return bool(x.flags.c_contiguous) and self.runtime.address(x) % LOAD == 0


def _group_of(weight: Array | PackedArray) -> int:
    """log2 of the number of blocks of 32 that share a scale, if the family does not fix it."""
    size = weight.dtype.block_size if isinstance(weight, PackedArray) else 0
    return max(size // 32, 1).bit_length() - 1


def _three(arrays: Sequence[Any]) -> tuple[Any, ...]:
    return (*arrays, *[None] * (MATRICES - len(arrays)))
