"""Dropout: sets random elements to zero during training."""

from __future__ import annotations

import math

from gradient.autograd.variable import wrap
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.functional.arguments import composite, floats
from gradient.ops import activation
from gradient.random import rand
from gradient.tensor import Tensor
from gradient.tensor.arguments import flag_of
from gradient.tensor.creation import zeros
from gradient.tensor.creation_like import full_like
from gradient.tensor.generator import Generator, drawing_backend, generator_of
from gradient.tensor.joining import where
from gradient.tensor.overwrite import overwrite

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
]


@composite
def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Set each element to 0 with probability `p`, and multiply the others by `1 / (1 - p)`.

    If not `training`, the input is returned unchanged (Srivastava et al. 2014).
    """
    return _drop("dropout", input, input.shape, p, training, inplace, generator)


@composite
def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Set whole channels of (N, C, L) or (C, L) to 0, as `dropout` does with elements."""
    return _drop_channels("dropout1d", input, 1, p, training, inplace, generator)


@composite
def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Set whole channels of (N, C, H, W) or (C, H, W) to 0, as `dropout` does with elements
    (Tompson et al. 2014)."""
    return _drop_channels("dropout2d", input, 2, p, training, inplace, generator)


@composite
def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Set whole channels of (N, C, D, H, W) or (C, D, H, W) to 0, as `dropout` does with
    elements."""
    return _drop_channels("dropout3d", input, 3, p, training, inplace, generator)


@composite
def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Dropout for `selu`, which keeps mean 0 and variance 1 (Klambauer et al. 2017).

    Dropped elements are set to the limit of selu at minus infinity; then all are rescaled.
    """
    return _alpha_drop("alpha_dropout", input, input.shape, p, training, inplace, generator)


@composite
def feature_alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`alpha_dropout` of whole channels of (N, C, ...)."""
    if training and input.ndim < 2:
        got = tuple(input.shape)
        raise ShapeError(sentence("feature_alpha_dropout", "at least 2 dimensions", got))
    shape = (*input.shape[:2], *(1,) * (input.ndim - 2))
    return _alpha_drop("feature_alpha_dropout", input, shape, p, training, inplace, generator)


def _alpha_drop(
    op: str,
    input: Tensor,
    shape: tuple[int, ...],
    p: float,
    training: bool,
    inplace: bool,
    generator: Generator | None,
) -> Tensor:
    """Put selu's limit where a random mask of `shape` says so, and rescale."""
    _check(op, p, training)
    if not training or p == 0.0 or not input.numel():
        return input
    if p == 1.0:
        output = input * zeros((), dtype=input.dtype, device=input.device)
    else:
        floats(op, input)
        limit = -1.0507009873554805 * 1.6732632423543772
        scale = 1 / math.sqrt((1 - p) * (1 + p * limit**2))
        kept = rand(shape, device=input.device, generator=generator) >= p
        output = where(kept, input, full_like(input.detach(), limit))
        output = output * scale - scale * p * limit
    return overwrite(input, output, f"{op}_") if inplace else output


def _drop_channels(
    op: str,
    input: Tensor,
    spatial: int,
    p: float,
    training: bool,
    inplace: bool,
    generator: Generator | None,
) -> Tensor:
    if spatial != 2 and input.ndim != spatial + 2 and (spatial == 3 or input.ndim == 2):
        batch = input.unsqueeze(0)  # of one, as PyTorch does it
        shape = (*batch.shape[:2], *(1,) * (batch.ndim - 2))
        return _drop(op, batch, shape, p, training, inplace, generator).squeeze(0)
    if input.ndim in (spatial + 1, spatial + 2):
        shape = (*input.shape[: input.ndim - spatial], *(1,) * spatial)
    elif spatial == 1 or (input.ndim < 2 and training and 0 < p < 1):
        raise ArgumentError(
            f"{op}: expected {spatial + 1} or {spatial + 2} dimensions, got {tuple(input.shape)}"
        )
    else:  # (N, C, ...), as PyTorch takes what has fewer or more dimensions
        shape = (*input.shape[:2], *(1,) * (input.ndim - 2))
    return _drop(op, input, shape, p, training, inplace, generator)


def _drop(
    op: str,
    input: Tensor,
    shape: tuple[int, ...],
    p: float,
    training: bool,
    inplace: bool,
    generator: Generator | None,
) -> Tensor:
    """Multiply by a random mask of `shape`, which broadcasts to the input."""
    _check(op, p, training)
    if not training or p == 0.0 or not input.numel():
        return input
    if p == 1.0:
        output = input * zeros((), dtype=input.dtype, device=input.device)
    else:
        floats(op, input)
        if shape == input.shape:
            drawn = drawing_backend(input.backend)
            if drawn is not input.backend:  # a tensor that all samples of `vmap` share
                input = input * wrap(drawn.ones((), input.array.dtype), drawn)
            key, offset = generator_of(generator).reserve(-(-input.numel() // 4))
            output = activation.dropout(input, key=key, offset=offset, p=p)
            return overwrite(input, output, f"{op}_") if inplace else output
        kept = rand(shape, device=input.device, generator=generator) >= p
        output = input * (kept.to(input.dtype) * (1 / (1 - p)))
    return overwrite(input, output, f"{op}_") if inplace else output


def _check(op: str, p: float, training: bool) -> None:
    if not 0.0 <= p <= 1.0:
        raise ArgumentError(f"{op}: p is a probability, expected 0 <= p <= 1, got {p}")
    if training is not True:
        flag_of(op, "training", training)
