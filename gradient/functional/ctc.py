"""The loss of connectionist temporal classification: of all alignments of a text together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradient.autograd.autocast import autocasts
from gradient.dtypes import int64
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.functional.arguments import composite, floats
from gradient.functional.reduction import reduced
from gradient.ops.loss import ctc
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of
from gradient.tensor.creation import arange, zeros
from gradient.tensor.joining import where

__all__ = ["ctc_loss"]


@autocasts("float32_on_cpu")
@composite
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """`-log p(target)`, summed over alignments (Graves et al. 2006, section 4.1): (N,) or ().

    log_probs (T, N, C), or (T, C), are logarithms of probabilities, such as `log_softmax` gives.
    targets (N, S), or all one after the other (sum of target_lengths,), are classes other than
    `blank`. Lengths are (N,), or one number for (T, C). "mean" divides each loss by its target's
    length first. `zero_infinity` takes 0 for a target that no alignment of the input has, where the
    loss is else infinite, its gradient NaN. Targets of floats lose their fractions.

    As PyTorch's, the gradient is that of normalised probabilities: `exp(log_probs)` less each
    class's share in the alignments. Behind a `log_softmax` the first part makes no difference.
    """
    op = "ctc_loss"
    floats(op, log_probs)
    if log_probs.ndim not in (2, 3):
        expected = "log_probs (T, N, C) or (T, C)"
        raise ShapeError(sentence(op, expected, tuple(log_probs.shape)))
    batched = log_probs.ndim == 3
    if not batched:
        log_probs = log_probs.unsqueeze(1)
        targets = targets.unsqueeze(0) if targets.ndim == 1 else targets
    steps, batch, classes = log_probs.shape
    blank = int_of(op, "blank", blank)
    if not 0 <= blank < classes:
        raise ArgumentError(sentence(op, f"a blank below {classes}, the classes", blank))
    lengths = _lengths(op, "input_lengths", input_lengths, log_probs, steps)
    most = targets.shape[1] if targets.ndim == 2 else None
    sizes = _lengths(op, "target_lengths", target_lengths, log_probs, most)
    rows = _padded(op, targets, sizes, blank)
    losses = _losses(log_probs, rows, lengths, sizes, blank, zero_infinity)
    if reduction == "mean":
        counts = sizes.clamp(min=1).to(losses.dtype)
        return (losses / counts).mean()
    if not batched:
        losses = losses.squeeze(0)
    return reduced(op, losses, reduction)


def _lengths(
    op: str, name: str, given: Tensor | Sequence[int] | int, log_probs: Tensor, most: int | None
) -> Tensor:
    """A length for each row of the batch, int64, from 0 to `most`."""
    batch = log_probs.shape[1]
    if isinstance(given, Tensor):
        is_whole = not (given.dtype.is_floating_point or given.dtype.is_complex)
        is_one = batch == 1 and not given.ndim
        if not is_whole or not (is_one or given.shape == (batch,)):
            got = f"{given.dtype.name} of shape {tuple(given.shape)}"
            raise ArgumentError(sentence(op, f"{batch} whole numbers as {name}", got))
        lengths = given.reshape(batch).long().to(log_probs.device)
        highest = float(most) if most is not None else math.inf
        lengths.backend.check_range(lengths.array, 0, highest, op, name)
        return lengths
    values = [given] if isinstance(given, int) else list(given)
    if len(values) != batch or not all(isinstance(value, int) for value in values):
        raise ArgumentError(sentence(op, f"{batch} whole numbers as {name}", repr(values)))
    if any(value < 0 or (most is not None and value > most) for value in values):
        expected = f"{name} from 0" + ("" if most is None else f" to {most}")
        raise ArgumentError(sentence(op, expected, repr(values)))
    return log_probs.new_tensor(values, dtype=int64)


def _padded(op: str, targets: Tensor, sizes: Tensor, blank: int) -> Tensor:
    """Targets as (N, S), blanks behind the shorter ones."""
    batch = sizes.shape[0]
    if targets.ndim == 2:
        if targets.shape[0] != batch:
            raise ShapeError(sentence(op, f"targets of {batch} rows", tuple(targets.shape)))
        rows = targets.long()
    elif targets.ndim == 1:
        counts = sizes.tolist()
        if targets.shape[0] != sum(counts):
            expected = f"targets (N, S), or ({sum(counts)},), the sum of target_lengths"
            raise ShapeError(sentence(op, expected, tuple(targets.shape)))
        longest = max(counts, default=0)
        rows = zeros(batch, longest, dtype=int64, device=targets.device)
        first = 0
        for row, size in enumerate(counts):
            rows[row, :size] = targets[first : first + size].long()
            first += size
    else:
        raise ShapeError(sentence(op, "targets (N, S) or (S,)", tuple(targets.shape)))
    places = arange(rows.shape[1], device=targets.device)
    return where(places < sizes.reshape(-1, 1), rows, blank)


def _losses(
    log_probs: Tensor,
    rows: Tensor,
    lengths: Tensor,
    sizes: Tensor,
    blank: int,
    zero_infinity: bool,
) -> Tensor:
    """-log p of each row's target, (N,). log_probs are (T, N, C), the rows of labels (N, S), of
    which `sizes` count; inf, with a gradient of NaN, or 0 (`zero_infinity`) where a row's target
    has no alignment with its `lengths` steps.
    """
    steps, batch, _ = log_probs.shape
    # Blanks before, between and after the labels: (N, 2 S + 1).
    labels = rows.new_full((batch, 2 * rows.shape[1] + 1), blank)
    labels[:, 1::2] = rows
    losses = ctc(log_probs, labels=labels.array, steps=lengths.array, sizes=sizes.array)
    # A zero whose gradient is exp(log_probs): the first part of PyTorch's gradient.
    used = arange(steps, device=log_probs.device).reshape(-1, 1) < lengths
    total = log_probs.exp().sum(-1).masked_fill(~used, 0).sum(0)
    zero, impossible = total - total.detach(), losses.detach() == math.inf
    if zero_infinity:
        return (losses + zero).masked_fill(impossible, 0)
    infinite = -(zero * 0).masked_fill(~impossible, 1).log()  # inf or 0
    return losses + zero.masked_fill(impossible, 0) + infinite
