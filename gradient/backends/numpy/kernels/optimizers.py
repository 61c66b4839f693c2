"""Optimiser steps over flat arrays, for the elements start to stop."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import strict_kernel

CHUNK = 1 << 16
"""Elements that a thread takes at a time."""


@strict_kernel
def adamw(start, stop, p, g, m, v, beta1, beta2, rate, root, eps, decay, kept):
    """One pass over parameter p, gradient g and moments m and v.

    `rate` is lr / (1 - beta1^t), `root` 1 / sqrt(1 - beta2^t), `decay` the L2 term's weight, and
    `kept` 1 - lr * weight_decay.
    """
    p, g, m, v = p[start:stop], g[start:stop], m[start:stop], v[start:stop]
    one = p.dtype.type(1)
    for i in range(p.size):
        grad = g[i] + decay * p[i]
        m[i] = beta1 * m[i] + (one - beta1) * grad
        v[i] = beta2 * v[i] + (one - beta2) * (grad * grad)
        p[i] = kept * p[i] - rate * m[i] / (np.sqrt(v[i]) * root + eps)
