"""`quasirandom`: points that fill a cube more evenly than random ones, by SciPy."""

from __future__ import annotations

import warnings
from typing import Any

from gradient.dtypes import get_default_dtype
from gradient.errors import ArgumentError, MissingDependency, sentence
from gradient.random import randint
from gradient.tensor import Tensor
from gradient.tensor.from_data import tensor

__all__ = ["SobolEngine"]


class SobolEngine:
    """A Sobol sequence in up to 21,201 dimensions, scrambled or not.

    Without `scramble` the points are PyTorch's. Scrambled ones are those of scipy.stats.qmc.Sobol
    (Owen's method) for `seed`, or for a number that the default generator draws.
    """

    MAXDIM = 21201

    def __init__(self, dimension: int, scramble: bool = False, seed: int | None = None) -> None:
        if not 1 <= dimension <= self.MAXDIM:
            expected = f"a dimension from 1 to {self.MAXDIM}"
            raise ArgumentError(sentence("SobolEngine", expected, dimension))
        self.dimension, self.scramble, self.seed = dimension, scramble, seed
        # Kept for `reset`, which repeats the points. Each engine has points of its own.
        drawn = scramble and seed is None
        self._seed = int(randint(0, 2**31, (1,)).item()) if drawn else (seed or 0)
        self.reset()

    def reset(self) -> SobolEngine:
        """Go back to the first point."""
        try:
            from scipy.stats import qmc
        except ImportError:
            raise MissingDependency("SobolEngine: needs SciPy; pip install scipy") from None
        self._sequence: Any = qmc.Sobol(self.dimension, scramble=self.scramble, rng=self._seed)
        self.num_generated = 0
        return self

    def draw(self, n: int = 1, out: Tensor | None = None, dtype: Any = None) -> Tensor:
        """Return the next n points, (n, dimension), of the default dtype or `dtype`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a number of points that is no power of two
            points = self._sequence.random(n)
        self.num_generated += n
        found = tensor(points, dtype=dtype or get_default_dtype())
        return found if out is None else out.resize_(found.shape).copy_(found)

    def draw_base2(self, m: int, out: Tensor | None = None, dtype: Any = None) -> Tensor:
        """Return the next 2^m points."""
        n = 2**m
        total = self.num_generated + n
        if total & (total - 1):
            expected = "a power of two as the number of all points so far"
            raise ArgumentError(sentence("SobolEngine.draw_base2", expected, total))
        return self.draw(n, out, dtype)

    def fast_forward(self, n: int) -> SobolEngine:
        """Leave out the next n points."""
        self._sequence.fast_forward(n)
        self.num_generated += n
        return self

    def __repr__(self) -> str:
        options = [f"dimension={self.dimension}"]
        options += ["scramble=True"] * self.scramble
        options += [] if self.seed is None else [f"seed={self.seed}"]
        return f"SobolEngine({', '.join(options)})"
