"""`linear` with packed weights, by kernels on weights in panels, with x rounded to int8.

At its first product, a weight is copied to panels (see `kernels/panels.py`), by all threads. The
stored blocks remain the weight itself; if they are in a mapped file, their memory is released, as
the file can be read again. Work is split by shapes only, and an output's sum does not depend on the
other rows of the product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradient.backends import matmul_precision
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.composed.packed import matrix_sizes
from gradient.backends.numpy import kernels, memory, threads
from gradient.backends.numpy.linear import as_bytes, float32_bias
from gradient.backends.packed import PackedArray, write_count
from gradient.dtypes import HALF_PRECISION, float32

CHUNK = 1 << 18
"""Weights, in whole panels, that a thread takes at a time."""
ROWS_CHUNK = 1 << 16
"""Numbers of x, in whole groups of rows, that a thread rounds at a time."""

TILE_ROWS = 32
"""Rows of x from which unpacking codes for the processor's tiles pays."""

FLOATS = frozenset({float32.numpy, *HALF_PRECISION})
"""The dtypes of x that are computed in float32."""


class Panels(NamedTuple):
    """A weight in panels: arguments of the kernels."""

    form: Any
    panels: np.ndarray
    blocks: int


class PanelKernels(AttentionDefaults[np.ndarray]):
    """Overrides of products with packed weights."""

    def linear(
        self, x: np.ndarray, weight: np.ndarray | PackedArray, bias: np.ndarray | None = None
    ) -> np.ndarray:
        if not (
            isinstance(weight, PackedArray)
            and matmul_precision.rounds_inputs()
            and supported(x, weight)
            and (bias is None or bias.shape == weight.shape[:1])
        ):
            return super().linear(x, weight, bias)
        return self._product(x, weight, bias)

    def int8_matmul(self, x: np.ndarray, weight: PackedArray) -> np.ndarray:
        matrix_sizes("linear", x, weight, -1)
        if not supported(x, weight):
            return super().int8_matmul(x, weight)
        return self._product(x, weight, None)

    def _product(self, x: np.ndarray, weight: PackedArray, bias: np.ndarray | None) -> np.ndarray:
        if not kernels.computes(x.dtype):  # float16 on a processor without instructions for it
            return self._product(x.astype(np.float32), weight, bias).astype(x.dtype)
        family = kernels.load("panel_linear")
        form, panels, blocks = weight.prepared(arranged)
        n, k = weight.shape
        m, steps, pairs = x.size // k, -(-k // family.STEP), -(-n // family.COLUMNS)
        kind, size = kernels.load("stored").KINDS[x.dtype.name], x.itemsize
        rounded, rounding = rounded_rows(kernels.contiguous(x))
        threads.parallel_for(*rounding)
        out = np.empty((m, n), x.dtype)
        added = float32_bias(bias)
        chunk = max(1, CHUNK // (family.COLUMNS * k))
        arguments = panels, form.tag, blocks, steps, n, added, kind, size, as_bytes(out)
        if m == 1:
            threads.parallel_for(family.single, pairs, chunk, rounded, *arguments)
        else:
            tiles = m >= TILE_ROWS and kernels.load("cpu").PATH == "amx"
            several = kernels.load("panel_tiles" if tiles else "panel_linear").several
            threads.parallel_for(several, pairs, chunk, rounded, m, *arguments)
        return out.reshape(*x.shape[:-1], n)


def rounded_rows(x: np.ndarray) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Memory for the rows of a contiguous x (..., K) in int8, and the arguments of `parallel_for`
    to fill it."""
    family, k = kernels.load("panel_linear"), x.shape[-1]
    m, kind = x.size // k, kernels.load("stored").KINDS[x.dtype.name]
    rounded = np.empty(m * -(-k // family.STEP) * 4 * family.X_WORDS, np.int8)
    chunk = max(1, ROWS_CHUNK // (family.GROUP * k)) * family.GROUP
    return rounded, (family.int8_rows, m, chunk, kind, x.itemsize, as_bytes(x), k, m, rounded)


def arranged(weight: PackedArray) -> Panels:
    family = kernels.load("panels")
    form = family.BY_NAME[weight.dtype.name]
    n, k = weight.shape
    pairs, blocks = -(-n // family.PAIR), -(-k // form.weights)
    panels = _aligned(pairs * form.pair_bytes(blocks))
    stored = weight.parts[0].view(np.uint8)
    if k % form.weights:  # of the codes that are bytes
        stored = np.pad(stored, ((0, 0), (0, -k % form.weights)))
    threads.parallel_for(
        kernels.load("panel_arranging").arrange, pairs, max(1, CHUNK // (family.PAIR * k)),
        as_bytes(stored), form.tag, n, blocks, panels,
    )  # fmt: skip
    if form.apart:
        of_pairs = panels.reshape(pairs, -1)
        heads = of_pairs if form.of_row else of_pairs.reshape(pairs, blocks, -1)
        _arrange_fields(weight.parts[1:], heads, family.PAIR)
    if not write_count(weight.parts):
        for part in weight.parts:
            memory.release(part)
    return Panels(form, panels, blocks)


def _arrange_fields(parts: tuple[np.ndarray, ...], heads: np.ndarray, rows: int) -> None:
    """Copy scales and zero points (N, groups), or (N,), to their places in panels: for each block
    of `rows` rows, field after field in the first bytes of `heads`."""
    at = 0
    for part in parts:
        padded = np.zeros((len(heads) * rows, part.size // max(len(part), 1)), part.dtype)
        padded[: len(part)] = part.reshape(len(part), -1)
        fields = padded.reshape(len(heads), rows, -1).transpose(0, 2, 1)
        size = rows * part.itemsize
        found = np.ascontiguousarray(fields).view(np.uint8)
        heads[..., at : at + size] = found.reshape(*heads.shape[:-1], size)
        at += size


def _aligned(size: int) -> np.ndarray:
    """Bytes aligned to 64; NumPy puts large arrays on huge pages."""
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


def supported(x: np.ndarray, weight: PackedArray) -> bool:
    """Whether the kernels take a product."""
    return (
        type(x) is np.ndarray
        and x.dtype in FLOATS
        and x.ndim > 0
        and len(weight.shape) == 2
        and x.shape[-1] == weight.shape[1]
        and x.size > 0
        and weight.size >= kernels.MIN_SIZE
        and all(type(part) is np.ndarray and part.flags.c_contiguous for part in weight.parts)
        and kernels.available()
        and weight.dtype.name in kernels.load("panels").BY_NAME
    )
