"""Connectionist temporal classification, row by row: formulas as in `composed.alignments`.

log_probs are (T, N, C), labels (N, L), alpha (T, N, L), all flat; the kernels give the same losses
on any number of threads, since a row is computed by one."""

import numpy as np

from gradient.backends.numpy.kernels.compilation import strict_kernel, subroutine
from gradient.backends.numpy.kernels.functions import exp


@subroutine
def log_sum(a, b, c):
    """log(e^a + e^b + e^c); -inf if all are that."""
    most = max(a, max(b, c))
    if most == -np.inf:
        return most
    return np.log(exp(a - most) + exp(b - most) + exp(c - most)) + most


@strict_kernel
def ctc(start, stop, log_probs, times, rows, classes, labels, steps, sizes, losses, alpha):
    """losses (N,) and alpha, for the rows start to stop."""
    length, least = labels.size // rows, log_probs.dtype.type(-np.inf)
    zero = log_probs.dtype.type(0)
    for n in range(start, stop):
        text = labels[n * length : (n + 1) * length]
        for t in range(times):
            line = log_probs[(t * rows + n) * classes : (t * rows + n + 1) * classes]
            now = alpha[(t * rows + n) * length : (t * rows + n + 1) * length]
            if t == 0:
                for i in range(length):
                    now[i] = line[text[i]] if i <= 1 else least
                continue
            before = alpha[((t - 1) * rows + n) * length : ((t - 1) * rows + n + 1) * length]
            if t >= steps[n]:
                for i in range(length):
                    now[i] = before[i]
                continue
            for i in range(length):
                left = before[i - 1] if i >= 1 else least
                skipped = before[i - 2] if i >= 2 and text[i] != text[i - 2] else least
                now[i] = log_sum(before[i], left, skipped) + line[text[i]]
        last = 2 * sizes[n]
        if steps[n] == 0:
            losses[n] = np.inf if last > 0 else zero
            continue
        end = alpha[((times - 1) * rows + n) * length : ((times - 1) * rows + n + 1) * length]
        losses[n] = -log_sum(end[last], end[last - 1] if last > 0 else least, least)


@strict_kernel
def ctc_grad(
    start, stop, g, log_probs, times, rows, classes, labels, steps, sizes, alpha, losses, out
):
    """out (T, N, C) = the gradient for log_probs, for the rows start to stop."""
    length, least, zero = labels.size // rows, g.dtype.type(-np.inf), g.dtype.type(0)
    beta, after = np.empty(length, g.dtype), np.empty(length, g.dtype)
    for n in range(start, stop):
        text = labels[n * length : (n + 1) * length]
        last, impossible = 2 * sizes[n], losses[n] == np.inf
        for i in range(length):
            beta[i] = zero if i == last or i == last - 1 else least
        for t in range(times - 1, -1, -1):
            to = out[(t * rows + n) * classes : (t * rows + n + 1) * classes]
            for c in range(classes):
                to[c] = zero
            if t >= steps[n] or impossible:
                continue
            if t + 1 < steps[n]:
                first = ((t + 1) * rows + n) * classes
                line = log_probs[first : first + classes]
                for i in range(length):
                    after[i] = beta[i] + line[text[i]]
                for i in range(length):
                    right = after[i + 1] if i + 1 < length else least
                    skipped = after[i + 2] if i + 2 < length and text[i] != text[i + 2] else least
                    beta[i] = log_sum(after[i], right, skipped)
            now = alpha[(t * rows + n) * length : (t * rows + n + 1) * length]
            for i in range(length):
                to[text[i]] += exp(now[i] + beta[i] + losses[n]) * -g[n]
