"""Products of a few rows: what a decoder's step is made of, in few launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.cuda.launching import FLOATS, LOAD, KernelLauncher, block_of
from gradient.backends.cuda.planes import LAYOUTS
from gradient.backends.packed import PackedArray
from gradient.dtypes import HALF_PRECISION

WARPS = 8
"""Of a block (`row_products.cu`)."""
BATCH, MATRICES = 4, 3
"""The most rows and matrices of a launch."""
SHARED = 46 << 10
"""Bytes of shared memory that a block is given at most."""
PACKED = {"q4_0": 32}
"""Formats that have kernels, by the numbers that share a scale."""
OF_SLICE, MOST_HELD, MOST_OF_GROUPS = 1024, 12288, 32
"""Numbers of x that a warp's lanes hold, where they do (`held_product`); of a row, so that a block
has warps enough; and results of a group of warps."""
MOST = 1 << 30
"""Numbers of a row, and rows of all matrices, that kernels count."""
RESIDENT = 3 * 132
"""Blocks of products with packed rows, which are soon done with, at most: as many as an H100 has
room for, so that each goes on to other rows while these are on their way."""


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
        """The products, or None where the kernel does not take them. It may be launched `early` if
        nothing queued shortly before it writes the weights."""
        family = self._row_family(x, weights)
        if family is None:
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
        count, name = str(1 if batch == 1 else BATCH), "gated_product" if gated else "row_product"
        threads = self.threads_that_hold(x, norm) or block_of(k)  # of `rms_norm`
        if family:
            count, last, shared = "held", -(-k // OF_SLICE), 0
            groups = max(WARPS // last, 1)
            block = 32 * last * groups
            each = min(-(-rows // (groups * RESIDENT)), MOST_OF_GROUPS)
            blocks = -(-rows // (groups * each))
        else:
            last, block, shared = batch, 32 * WARPS, x.itemsize * x.size
            blocks = -(-rows // WARPS)
        self.launch(
            "row_products", f"{name}{family}_{count}", x, (blocks,), block,
            x, norm, np.float64(eps), np.int64(round_first), np.int64(threads),
            *_three([codes for codes, _ in parts]), *_three([scales for _, scales in parts]),
            *_three(outs), *map(np.int64, (*sizes, *[0] * (MATRICES - len(sizes)))),
            residual, self.optional(bias), np.int64(k), np.int64(last), shared=shared, early=early,
        )  # fmt: skip
        return tuple(outs)

    def _row_family(self, x: Array, weights: Sequence[Array | PackedArray]) -> str | None:
        """What the names of kernels for these weights have: "" of numbers as they are; None where
        there are no kernels."""
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
        [name] = names if len(names) == 1 else {None}
        if name not in PACKED or k % PACKED[name] or batch > 1 or k > MOST_HELD:
            return None
        wide = x.dtype in HALF_PRECISION and self.runtime.has_tensor_cores
        return f"_{name}" if wide else None

    def _parts_of(self, weight: Array | PackedArray) -> tuple[Array, Array | None]:
        """The numbers of a matrix; or its codes and scales, taken apart."""
        if not isinstance(weight, PackedArray):
            return weight, None
        assert weight.dtype.name in LAYOUTS
        codes, scales = (self.aligned(part) for part in self.readable(weight).parts[:2])
        return codes, scales

    def _is_moved(self, weight: Array | PackedArray) -> bool:
        """Whether its parts have to be moved for a product, by work that is queued before it."""
        return isinstance(weight, PackedArray) and not all(
            self._in_loads(part) for part in self.readable(weight).parts[:2]
        )

    def _in_loads(self, x: Any) -> bool:
        """Whether it has no gaps and can be loaded 16 bytes at a time."""
        return bool(x.flags.c_contiguous) and self.runtime.address(x) % LOAD == 0


def _three(arrays: Sequence[Array | None]) -> tuple[Array | None, ...]:
    return (*arrays, *[None] * (MATRICES - len(arrays)))
