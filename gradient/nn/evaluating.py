"""A context manager for evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradient.nn.module import Module


@contextmanager
def evaluating(module: Module) -> Iterator[None]:
    """Put a module in evaluation mode inside the context, and restore the mode of each submodule
    afterwards. A module that is in evaluation mode itself is left as it is, with its submodules."""
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
