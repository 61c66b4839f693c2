"""Padding the last dimensions of a tensor, and cutting windows out of it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import SupportsIndex

from gradient.autograd.autocast import float32_on_cpu
from gradient.autograd.variable import Number
from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence
from gradient.functional.arguments import composite
from gradient.ops import shape as ops
from gradient.tensor import Tensor
from gradient.tensor.arguments import fitting, number_of, shown

__all__ = ["pad"]

_SURROUNDED = {2: (2, 3), 4: (3, 4), 6: (4, 5)}
"""By the number of widths, the dimensions of inputs that modes other than "constant" take."""


@composite
def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: Number | None = None
) -> Tensor:
    """Pad the last dimensions, or crop them for negative numbers.

    `pad` starts with the last dimension: (left, right), then (top, bottom), and so on. `mode` is
    "constant" (pads with `value`, by default 0), "reflect" (the mirror image without the edge
    element), "replicate" (the edge element) or "circular" (the opposite side).
    """
    if not isinstance(pad, tuple | list) or not all(isinstance(x, SupportsIndex) for x in pad):
        raise TypeMismatch(sentence("pad", "a tuple of ints as pad", repr(pad)))
    pad = [operator.index(width) for width in pad]
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ShapeError(
            f"pad: expected an even number of widths, at most {2 * input.ndim} for an input "
            f"{tuple(input.shape)}, got {tuple(pad)}"
        )
    if not isinstance(mode, str):
        raise TypeMismatch(sentence("pad", "a str as mode", shown(mode)))
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ArgumentError(
            f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}"
        )
    if mode != "constant" and value is not None and value != 0:
        raise ArgumentError(f"pad: value is only used by mode 'constant', got mode {mode!r}")
    if mode != "constant" and input.ndim not in _SURROUNDED.get(len(pad), ()):
        raise ShapeError(
            f"pad: mode {mode!r} takes 2 widths for 2 or 3 dimensions, 4 for 3 or 4, 6 for 4 or 5; "
            f"got {len(pad)} for an input {tuple(input.shape)}"
        )
    if value is not None:
        value = number_of("pad", "value", value, takes_complex=True)
        value = fitting("pad", "value", value, input.dtype)
    if mode == "replicate" or (mode == "reflect" and len(pad) < 6):
        input = float32_on_cpu(input)
    if not any(pad):
        return input.clone()
    around = [(0, 0)] * input.ndim
    for place in range(len(pad) // 2):
        before, after = pad[2 * place], pad[2 * place + 1]
        dim = input.ndim - 1 - place
        if input.shape[dim] + before + after < 0:
            raise ShapeError(
                f"pad: widths {before} and {after} leave dimension {dim} of {tuple(input.shape)} "
                "with a negative size"
            )
        if mode != "constant" and (before or after):
            _check_width(input, dim, before, after, mode)
        if mode in ("constant", "circular") and min(before, after) < 0:
            first = max(-before, 0)
            input = input.narrow(dim, first, input.shape[dim] - first + min(after, 0))
            before, after = max(before, 0), max(after, 0)
        around[dim] = before, after
    if mode != "constant":
        return ops.pad_around(input, widths=tuple(around), mode=mode)
    return ops.pad(input, widths=tuple(around), value=value or 0.0)


def _check_width(input: Tensor, dim: int, before: int, after: int, mode: str) -> None:
    size = input.shape[dim]
    limit = {"reflect": size - 1, "circular": size}.get(mode)
    if limit is not None and max(before, after) > limit:
        raise ShapeError(
            f"pad: mode {mode!r} can widen dimension {dim} of {tuple(input.shape)} by at most "
            f"{limit} on a side, got {before} and {after}"
        )
