"""Places at which arrays of integers select in adjacent axes, as kernels add there."""

import numpy as np

from gradient.backends.numpy.indexed_sums import flat_places


def test_places_beyond_int32_do_not_wrap() -> None:
    rows, columns = np.array([60_000], np.int32), np.array([5], np.int32)
    found = flat_places([rows, columns], (70_000, 40_000))
    assert found is not None
    assert found.dtype == np.int64
    assert found.tolist() == [60_000 * 40_000 + 5]


def test_places_out_of_range_are_left_to_numpy() -> None:
    for wrong in (-1, 4):
        assert flat_places([np.array([0, wrong]), np.array([1, 1])], (4, 3)) is None


def test_zero_dimensional_indices_keep_their_shape() -> None:
    found = flat_places([np.array(2), np.array(1)], (4, 3))
    assert found is not None
    assert (found.shape, found.item()) == ((), 7)
