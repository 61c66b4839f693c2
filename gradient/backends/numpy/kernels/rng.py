"""Random numbers from a counter, for the blocks start to stop."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import kernel, subroutine

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
    scale = np.float32(2.0**-24)
    for i in range(out.shape[0]):
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
