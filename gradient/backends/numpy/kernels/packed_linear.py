"""Products with a weight in GGUF's blocks, as they lie: each is unpacked in registers, exactly."""

from gradient.backends.numpy.kernels.compilation import ordered_kernel
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.formats import FLOATS, FORMATS, WIDTH, Block, name_of
from gradient.backends.numpy.kernels.linear import row_size, tile
from gradient.backends.numpy.kernels.llvm_types import I64


@emitted()
def unpack_block(builder, w, w_at, form, out, out_at, *, kinds):
    """Write the block's weights that is stored at byte w_at of w, as float32, from out_at on."""
    fmt = FORMATS[name_of(kinds["form"])]
    place = builder.gep(out, [out_at])
    for i, vector in enumerate(fmt.read(Block(builder, builder.gep(w, [w_at])))):
        at = builder.bitcast(builder.gep(place, [I64(i * WIDTH)]), FLOATS.as_pointer())
        builder.store(vector.value, at).align = 1


# Global names, for the cache on disk does not find kernels that refer to anything else.
four_by_two, one_by_four, one_by_one = tile(4, 2), tile(1, 4), tile(1, 1)


@ordered_kernel
def packed_linear(start, stop, x, x_row, rows, weight, form, k, out):
    """out (M, N)[:, start:stop] = x (M, K) @ weight (N, K)[start:stop].T, for few rows of x.

    As `linear.linear`, for formats of blocks: small tiles, which are quick to compile.
    """
    n = out.size // rows
    w_row = row_size(form, k)
    tiled = stop - (stop - start) % 4
    fours = rows - rows % 4
    for j in range(start, tiled, 4):
        for i in range(0, fours, 4):
            for half in (j, j + 2):
                w = half * w_row
                four_by_two(x, i * x_row, x_row, weight, w, w_row, form, k, out, i * n + half, n)
        for i in range(fours, rows):
            w = j * w_row
            one_by_four(x, i * x_row, x_row, weight, w, w_row, form, k, out, i * n + j, n)
    for j in range(tiled, stop):
        for i in range(rows):
            w = j * w_row
            one_by_one(x, i * x_row, x_row, weight, w, w_row, form, k, out, i * n + j, n)


@ordered_kernel
def unpack(start, stop, weight, form, weights, size, out):
    """out = the weights of the blocks start to stop, of `weights` weights in `size` bytes each."""
    for block in range(start, stop):
        unpack_block(weight, block * size, form, out, block * weights)
