"""Small models and calls of libraries that are written for PyTorch.

A case is a function. It returns another one, whose tensors are compared, or a module and a function
of it.
"""

from __future__ import annotations

import numpy as np
import torch


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.RandomState(seed).randn(*shape).astype(np.float32))


def integers(high: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.RandomState(seed).randint(0, high, shape))


def image(size: int = 32, batch: int = 2) -> torch.Tensor:
    return normal(batch, 3, size, size)


def fill(module: torch.nn.Module, factor: float) -> torch.nn.Module:
    """Give a module the same parameters in both packages."""
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=seed) * factor)
    return module
