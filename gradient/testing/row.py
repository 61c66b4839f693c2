"""A row of the op table: an op, sample inputs, and the expected result."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Row"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One way to call an op.

    op         its name in `gradient.autograd.op.registry`
    run        the call, on Tensors; returns one Tensor
    reference  the same on NumPy arrays (float64), independent of gradient's own code
    shapes     of the differentiable inputs
    note       distinguishes rows of one op
    low, high  the range of the samples (uniform)
    kind       "float", "double" (rows that are unsuitable for 16-bit floats), "complex", "int" or
               "bool": the dtype of the samples
    empty      shapes with an axis of size 0 to test too; None if the op does not accept them
    scalar     whether 0-d inputs are tested too
    tolerance  allowed relative error in float32, in units of its eps
    """

    op: str
    run: Callable[..., Any]
    reference: Callable[..., Any]
    shapes: Sequence[Shape]
    note: str = ""
    low: float = -2.0
    high: float = 2.0
    kind: str = "float"
    empty: Sequence[Shape] | None = None
    scalar: bool = False
    tolerance: float = 16.0
    differentiable: bool = True

    @property
    def name(self) -> str:
        return f"{self.op}[{self.note}]" if self.note else self.op

    def samples(self, shapes: Sequence[Shape] | None = None) -> list[np.ndarray]:
        """NumPy inputs, the same at every call; distinct, so that there are no ties."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        result: list[np.ndarray] = []
        for shape in self.shapes if shapes is None else shapes:
            n = int(np.prod(shape))
            if self.kind == "bool":
                result.append(rng.random(shape) < 0.5)
            elif self.kind == "int":
                result.append(rng.integers(int(self.low), int(self.high) + 1, shape))
            else:
                # One number from each of n cells, shuffled.
                cells = (np.arange(n) + rng.uniform(0.2, 0.8, n)) / max(n, 1)
                values = self.low + (self.high - self.low) * rng.permutation(cells)
                if self.kind == "complex":
                    values = values + 1j * (self.low + (self.high - self.low) * rng.random(n))
                result.append(values.reshape(shape))
        return result
