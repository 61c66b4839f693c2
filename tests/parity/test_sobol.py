"""`quasirandom.SobolEngine`: PyTorch's points, if they are not scrambled."""

from __future__ import annotations

import numpy as np
import pytest

import gradient

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.parity, pytest.mark.cpu_only]


def test_points() -> None:
    ours, theirs = (package.quasirandom.SobolEngine(7) for package in (gradient, torch))
    for draw in (
        lambda engine: engine.draw(3),
        lambda engine: engine.draw(0),
        lambda engine: engine.fast_forward(5).draw(2),
        lambda engine: engine.draw(6),
        lambda engine: engine.draw_base2(4),
    ):
        mine, other = draw(ours), draw(theirs)
        assert mine.shape == other.shape and str(mine.dtype)[9:] == str(other.dtype)[6:]
        np.testing.assert_array_equal(mine.numpy(), other.numpy())
        assert ours.num_generated == theirs.num_generated
    for engine in (ours, theirs):
        with pytest.raises(ValueError):
            engine.draw_base2(1)
    np.testing.assert_array_equal(ours.reset().draw(4).numpy(), theirs.reset().draw(4).numpy())
    assert repr(ours) == repr(theirs)


def test_scrambled_points() -> None:
    drawn = [gradient.quasirandom.SobolEngine(2, True, seed).draw(64) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0].numpy(), drawn[1].numpy())
    assert not np.array_equal(drawn[0].numpy(), drawn[2].numpy())
    counts = np.histogramdd(drawn[0].numpy(), bins=8, range=[(0, 1)] * 2)[0]
    assert (counts == 1).all()
