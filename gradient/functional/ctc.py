"""The loss of connectionist temporal classification: of all alignments of a text together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradient.autograd.autocast import autocasts
from gradient.dtypes import bool_, int64
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.functional.arguments import composite, floats
from gradient.functional.padding import pad
from gradient.functional.reduction import reduced
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of
from gradient.tensor.creation import arange, zeros
from gradient.tensor.from_data import tensor
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
    lengths = _lengths(op, "input_lengths", input_lengths, batch, steps, log_probs)
    most = targets.shape[1] if targets.ndim == 2 else None
    sizes = _lengths(op, "target_lengths", target_lengths, batch, most, log_probs)
    rows = _padded(op, targets, sizes, blank)
    losses = _losses(log_probs, rows, lengths, sizes, blank, zero_infinity)
    if reduction == "mean":
        return (losses / sizes.to(losses.dtype).clamp(min=1)).mean()
    if not batched:
        losses = losses.squeeze(0)
    return reduced(op, losses, reduction)


def _lengths(
    op: str,
    name: str,
    given: Tensor | Sequence[int] | int,
    batch: int,
    most: int | None,
    like: Tensor,
) -> Tensor:
    """A length for each row of the batch, (N,), from 0 to `most`."""
    if isinstance(given, Tensor):
        lengths = given.reshape(-1)
        whole = not (lengths.dtype.is_floating_point or lengths.dtype is bool_)
    else:
        values = [given] if isinstance(given, int) else list(given)
        whole = all(isinstance(value, int) for value in values)
        lengths = tensor(values, dtype=int64) if whole else zeros(len(values))
    if lengths.shape[0] != batch or not whole:
        got = repr(given.tolist() if isinstance(given, Tensor) else given)
        raise ArgumentError(sentence(op, f"{batch} whole numbers as {name}", got))
    lengths.backend.check_range(lengths.array, 0, math.inf if most is None else most, op, name)
    return lengths.to(device=like.device, dtype=int64)


def _padded(op: str, targets: Tensor, sizes: Tensor, blank: int) -> Tensor:
    """Targets as (N, S), blanks behind the shorter ones."""
    batch = sizes.shape[0]
    if targets.ndim == 2 and targets.shape[0] == batch:
        rows = targets.long()
    elif targets.ndim == 1:
        counts = sizes.tolist()
        if targets.shape[0] != sum(counts):
            expected = f"targets (N, S), or ({sum(counts)},), the sum of target_lengths"
            raise ShapeError(sentence(op, expected, tuple(targets.shape)))
        rows = zeros(batch, max(counts, default=0), dtype=int64, device=targets.device)
        first = 0
        for row, size in enumerate(counts):
            rows[row, :size] = targets[first : first + size].long()
            first += size
    else:
        expected = f"targets ({batch}, S), or (sum of target_lengths,)"
        raise ShapeError(sentence(op, expected, tuple(targets.shape)))
    inside = arange(rows.shape[1], device=targets.device) < sizes.unsqueeze(1)
    return where(inside, rows, blank)


def _losses(
    log_probs: Tensor,
    rows: Tensor,
    lengths: Tensor,
    sizes: Tensor,
    blank: int,
    zero_infinity: bool,
) -> Tensor:
    """-log p of each row's target, (N,), by the forward variables alpha of section 4.1.

    log_probs are (T, N, C), the rows of labels (N, S), of which `sizes` count; inf, with a
    gradient of NaN, or 0 (`zero_infinity`) where a row's target has no alignment with its `lengths`
    steps.
    """
    steps, batch, _ = log_probs.shape
    device, least = log_probs.device, -math.inf
    # Blanks before, between and after the labels: (N, 2 S + 1).
    labels = rows.new_full((batch, 2 * rows.shape[1] + 1), blank)
    labels[:, 1::2] = rows
    emitted = log_probs.gather(2, labels.expand(steps, *labels.shape))  # (T, N, 2 S + 1)
    # A blank between two labels may be left out if they differ.
    skips = labels[:, 2:] != labels[:, :-2]
    skips = pad(skips, (min(2, labels.shape[1]), 0), value=False)
    # alpha (N, 2 S + 1): log p of all alignments of the steps so far that end at each place.
    here = arange(labels.shape[1], device=device)
    alpha = emitted[0].masked_fill(here > 1, least) if steps else emitted.new_zeros(labels.shape)
    ends = lengths.unsqueeze(1)
    for step in range(1, steps):
        one = pad(alpha, (1, 0), value=least)[:, :-1]
        two = pad(alpha, (2, 0), value=least)[:, :-2].masked_fill(
            ~skips[:, : alpha.shape[1]], least
        )
        after = _logsumexp(alpha, one, two) + emitted[step]
        alpha = where(ends > step, after, alpha)
    last = sizes.unsqueeze(1) * 2
    at_blank = alpha.gather(1, last).squeeze(1)
    at_label = alpha.gather(1, (last - 1).clamp(min=0)).squeeze(1)
    at_label = at_label.masked_fill(last.squeeze(1) == 0, least)
    losses = -_logsumexp(at_blank, at_label)
    nothing = ends.squeeze(1) == 0  # no step: of an empty target certain, of others impossible
    losses = where(nothing, where(last.squeeze(1) == 0, 0.0, math.inf).to(losses.dtype), losses)
    # A zero whose gradient is exp(log_probs): the first part of PyTorch's gradient.
    used = arange(steps, device=device).reshape(-1, 1) < ends.reshape(1, -1)
    total = log_probs.exp().sum(-1).masked_fill(~used, 0).sum(0)
    zero, impossible = total - total.detach(), losses.detach() == math.inf
    if zero_infinity:
        return (losses + zero).masked_fill(impossible, 0)
    infinite = -(zero * 0).masked_fill(~impossible, 1).log()  # inf or 0
    return losses + zero.masked_fill(impossible, 0) + infinite


def _logsumexp(*parts: Tensor) -> Tensor:
    """log(sum of exp(part)) of tensors, element by element; -inf, without a NaN in the gradient,
    where all are that."""
    most = parts[0].detach()
    for part in parts[1:]:
        most = most.maximum(part.detach())
    none = most == -math.inf
    most = most.masked_fill(none, 0)
    total = sum((part - most).exp() for part in parts)
    assert isinstance(total, Tensor)
    return total.masked_fill(none, 1).log().masked_fill(none, -math.inf) + most
