"""Products x @ W.T with a weight in blocks that are read as they lie, and unpacked in registers.

One output is the dot product of a row of x and a row of W, kept as a vector of partial sums while
k runs, and added up at the end in a fixed order. A tile of several rows of each shares the loads.
An output's partial sums are the same in a tile of any size, so it does not depend on how many
other rows are computed with it.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels import instructions
from gradient.backends.numpy.kernels.building import read, rows_of
from gradient.backends.numpy.kernels.cpu import CONVERTS_FLOAT16
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.formats import FLOATS, FORMATS, WIDTH, Block, name_of
from gradient.backends.numpy.kernels.llvm_types import I32, I64


def tile(rows: int, columns: int) -> Any:
    """An intrinsic that computes `rows` x `columns` outputs.

    tile(x, x_at, x_row, w, w_at, w_row, form, k, out, out_at, out_row), for flat arrays: x float32,
    w the bytes of a weight stored in the format `form`, out float32; each with the start of its
    first row and the length of its rows. k is a multiple of the format's weights.
    """

    @emitted()
    def dot_products(
        builder, x, x_at, x_row, w, w_at, w_row, form, k, out, out_at, out_row, *, kinds
    ):  # fmt: skip
        fmt = FORMATS[name_of(kinds["form"])]
        x_rows = rows_of(builder, x, x_at, x_row, rows)
        w_rows = rows_of(builder, w, w_at, w_row, columns)
        sums = [[cgutils.alloca_once(builder, FLOATS) for _ in w_rows] for _ in x_rows]
        for total in chain(*sums):
            builder.store(ir.Constant(FLOATS, None), total)

        step, size = I64(fmt.weights), I64(fmt.size)
        with cgutils.for_range_slice(builder, I64(0), k, step, intp=I64) as (p, number):
            at = builder.mul(number, size)
            blocks = [fmt.read(Block(builder, builder.gep(row, [at]))) for row in w_rows]
            for i, vectors in enumerate(zip(*blocks, strict=True)):
                here = builder.add(p, I64(i * WIDTH))
                for x_here, totals in zip(x_rows, sums, strict=True):
                    x_vector = read(builder, builder.gep(x_here, [here]), FLOATS, 1)
                    for w_vector, total in zip(vectors, totals, strict=True):
                        more = builder.load(total)
                        more = instructions.fma(builder, x_vector, w_vector.value, more)
                        builder.store(more, total)

        out_rows = rows_of(builder, out, out_at, out_row, rows)
        for row, totals in zip(out_rows, sums, strict=True):
            for j, total in enumerate(totals):
                builder.store(_total(builder, total), builder.gep(row, [I64(j)]))

    return dot_products


def _total(builder: Any, held: Any) -> Any:
    """The sum of a vector's elements: the halves are added, until one is left."""
    vector, n = builder.load(held), WIDTH
    while n > 1:
        n //= 2
        half = ir.VectorType(I32, n)
        low = builder.shuffle_vector(vector, vector, ir.Constant(half, list(range(n))))
        high = builder.shuffle_vector(vector, vector, ir.Constant(half, list(range(n, 2 * n))))
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, I32(0))


@emitted(types.int64)
def row_size(builder, form, k, *, kinds):
    """The bytes of a row of k weights."""
    fmt = FORMATS[name_of(kinds["form"])]
    bytes_ = builder.mul(k, I64(fmt.size))
    return builder.udiv(bytes_, I64(fmt.weights))


def converts_float16() -> bool:
    """Whether this processor has an instruction from float16 to float32."""
    return CONVERTS_FLOAT16
