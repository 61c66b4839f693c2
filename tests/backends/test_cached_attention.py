"""The kernels of attention over a cache: few query rows and many give a query the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.backends.options import AttentionOptions, SlotMap
from gradient.kv_cache.dtypes import codec_of

LENGTH, QUERIES = 300, 40


def draw(*shape: int) -> np.ndarray:
    return gradient.randn(*shape).numpy()


@pytest.mark.parametrize("window", [None, 150])
@pytest.mark.parametrize("size", [64, 40, 8])
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16", "int8"])
def test_a_query_alone_gives_what_it_gives_among_others(stored, groups, size, window):
    be = backends.get("cpu")
    q = draw(2, 2 * groups, QUERIES, size)
    keys, values = (
        tuple(
            part.array
            for part in codec_of(stored).encode(gradient.tensor(draw(2, 2, LENGTH, size)))
        )
        for _ in range(2)
    )
    positions = np.arange(LENGTH - QUERIES, LENGTH) - np.array([[0], [150]])

    def attend(first: int, stop: int) -> np.ndarray:
        some = np.ascontiguousarray(positions[:, first:stop])
        slots = SlotMap(some, LENGTH, LENGTH, {})
        options = AttentionOptions(0.2, True, window)
        return be.cached_attention(q[:, :, first:stop], keys, values, slots, options)

    together = attend(0, QUERIES)
    before = gradient.get_num_threads()
    try:
        for threads in (1, 2, 3):
            gradient.set_num_threads(threads)
            for first, stop in ((0, 1), (17, 18), (20, 24), (39, 40)):
                few = attend(first, stop)
                np.testing.assert_array_equal(few, together[:, :, first:stop])
    finally:
        gradient.set_num_threads(before)
