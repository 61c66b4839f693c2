"""What models of few features are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def normal(draws: np.random.Generator, *shape: int) -> np.ndarray:
    return draws.standard_normal(shape, dtype=np.float32)


def perceptron(package: Any, widths: Iterable[int], activation: Callable[[], Any]) -> Any:
    """Linear layers with an activation between each two."""
    widths, layers = list(widths), []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        layers += [package.nn.Linear(inputs, outputs), activation()]
    return package.nn.Sequential(*layers[:-1])
