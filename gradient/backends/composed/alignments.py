"""Connectionist temporal classification (Graves et al. 2006, section 4.1).

Dimensions:
    T  steps    N  rows    C  classes    L  labels, with a blank before, between and after them
"""

from __future__ import annotations

import math

from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.required import Array
from gradient.dtypes import int64


class AlignmentDefaults(ShapeDefaults[Array]):
    """Methods of `Backend` for all alignments of a text with the steps of an input."""

    @in_float32
    def ctc(
        self, log_probs: Array, labels: Array, steps: Array, sizes: Array
    ) -> tuple[Array, Array]:
        """-log p (N,) of labels (N, L), and the forward variables alpha (T, N, L).

        log_probs are (T, N, C). Of a row, the first `steps` steps count, and of its labels
        `2 sizes + 1`; all three are int64. alpha is the logarithm of the probability of all
        alignments of the steps so far that end at each label. Without steps an empty text is
        certain, and others are impossible: inf.
        """
        times, rows, _ = log_probs.shape
        least = self.full((), -math.inf, log_probs.dtype)
        here = self.arange(0, labels.shape[1], 1, int64.numpy)
        emitted, skips = self._emitted(log_probs, labels), self._skips(labels)
        column, found = self.reshape(steps, (-1, 1)), []
        alpha = self.full(tuple(labels.shape), -math.inf, log_probs.dtype)
        for t in range(times):
            now = self.getitem(emitted, (t,))
            if t == 0:
                alpha = self.where(here <= 1, now, least)
            else:
                before = self._columns_moved(alpha, 1)
                skipped = self.where(skips, self._columns_moved(alpha, 2), least)
                alpha = self.where(column > t, self._log_sum(alpha, before, skipped) + now, alpha)
            found.append(alpha)
        last = self.reshape(sizes, (-1, 1)) * 2
        at_blank = self.take_along(alpha, last, 1)
        at_label = self.take_along(alpha, self.where(last > 0, last - 1, last), 1)
        total = self._log_sum(at_blank, self.where(last > 0, at_label, least))
        certain = self.where(last > 0, least, self.full((), 0, log_probs.dtype))
        losses = -self.reshape(self.where(column > 0, total, certain), (-1,))
        if not found:
            return losses, self.zeros((0, rows, labels.shape[1]), log_probs.dtype)
        return losses, self.stack(found, 0)

    @in_float32
    def ctc_grad(
        self,
        g: Array,
        log_probs: Array,
        labels: Array,
        steps: Array,
        sizes: Array,
        alpha: Array,
        losses: Array,
    ) -> Array:
        """The gradient of `ctc` for log_probs, from g (N,): of each class, its share in the
        alignments, times -g. It is 0 for what is impossible."""
        times = log_probs.shape[0]
        nothing = self.full((), 0, g.dtype)
        least = self.full((), -math.inf, g.dtype)
        here = self.arange(0, labels.shape[1], 1, int64.numpy)
        emitted, skips = self._emitted(log_probs, labels), self._skips(labels)
        column, last = self.reshape(steps, (-1, 1)), self.reshape(sizes, (-1, 1)) * 2
        ends = self.where((here == last) | (here == last - 1), nothing, least)
        shift = self.reshape(self.where(losses == math.inf, nothing, losses), (-1, 1))
        scale = self.reshape(self.where(losses == math.inf, nothing, -g), (-1, 1))
        beta, shares = ends, []
        for t in reversed(range(times)):
            # beta is the logarithm of the probability of all ways to go on after step t.
            if t + 1 < times:
                after = beta + self.getitem(emitted, (t + 1,))
                skipping = self._columns_moved(self.where(skips, after, least), -2)
                ways = self._log_sum(after, self._columns_moved(after, -1), skipping)
                beta = self.where(column > t + 1, ways, ends)
            share = self.exp(self.getitem(alpha, (t,)) + beta + shift) * scale
            shares.append(self.where(column > t, share, nothing))
        out = self.zeros(tuple(log_probs.shape), g.dtype)
        if not shares:
            return out
        places = self.broadcast_to(labels, (times, *labels.shape))
        return self.put_along(out, places, self.stack(shares[::-1], 0), 2, True)

    def _emitted(self, log_probs: Array, labels: Array) -> Array:
        """log p of each label at each step: (T, N, L)."""
        return self.take_along(
            log_probs, self.broadcast_to(labels, (log_probs.shape[0], *labels.shape)), 2
        )

    def _skips(self, labels: Array) -> Array:
        """Whether the blank before a label may be left out: the label before it is another one."""
        labels = self.reshape(labels, tuple(labels.shape))  # an array beside an array
        return labels != self._columns_moved(labels, 2, labels)

    def _columns_moved(self, x: Array, by: int, beyond: Array | None = None) -> Array:
        """x (N, L) with its columns `by` to the right; there, those of `beyond`, else -inf."""
        count = min(abs(by), x.shape[1])
        kept = slice(0, x.shape[1] - count) if by > 0 else slice(count, x.shape[1])
        if beyond is None:
            edge = self.full((x.shape[0], count), -math.inf, x.dtype)
        else:
            edge = self.getitem(beyond, (slice(None), slice(0, count)))
        parts = [edge, self.getitem(x, (slice(None), kept))]
        return self.concatenate(parts if by > 0 else parts[::-1], 1)

    def _log_sum(self, *parts: Array) -> Array:
        """log(sum of exp(part)), element by element; -inf, without a NaN in the gradient, where all
        are that."""
        most = self.detach(parts[0])
        for part in parts[1:]:
            most = self.maximum(most, self.detach(part))
        none = most == -math.inf
        most = self.where(none, self.zeros_like(most), most)
        total = self.exp(parts[0] - most)
        for part in parts[1:]:
            total = total + self.exp(part - most)
        total = self.where(none, self.ones_like(total), total)
        return self.where(none, self.full((), -math.inf, most.dtype), self.log(total) + most)
