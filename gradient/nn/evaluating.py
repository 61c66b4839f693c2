"""Evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradient.nn.module import Module


@contextmanager
def evaluating(module: Module) -> Iterator[None]:
    """Have a module in evaluation mode within (dropout off), and each part as it was afterwards."""
    if not module.training:
        yield
        return
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
