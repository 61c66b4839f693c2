"""Optimiser steps over flat arrays, and the scaling of gradients, for elements start to stop.

What an optimiser says beside is an array of `numbers`, of the dtype of the others: a plan changes
them from step to step.
"""

import numpy as np

from gradient.backends.numpy.kernels.compilation import strict_kernel

CHUNK = 1 << 14
"""Elements that a thread takes at a time: few, for threads to be ready together."""


@strict_kernel
def adamw(start, stop, p, g, m, v, numbers):
    """One pass over parameter p, gradient g and moments m and v.

    `rate` is lr / (1 - beta1^t), `root` 1 / sqrt(1 - beta2^t), `decay` the L2 term's weight, `kept`
    1 - lr * weight_decay, and `sign` -1 to maximize.
    """
    p, g, m, v = p[start:stop], g[start:stop], m[start:stop], v[start:stop]
    beta1, beta2, rate, root = numbers[0], numbers[1], numbers[2], numbers[3]
    eps, decay, kept, sign = numbers[4], numbers[5], numbers[6], numbers[7]
    one = p.dtype.type(1)
    for i in range(p.size):
        grad = sign * g[i]
        grad = grad + decay * p[i] if decay != 0 else grad  # 0 times an infinity would be NaN
        m[i] = beta1 * m[i] + (one - beta1) * grad
        v[i] = beta2 * v[i] + (one - beta2) * (grad * grad)
        p[i] = kept * p[i] - rate * m[i] / (np.sqrt(v[i]) * root + eps)


@strict_kernel
def sgd(start, stop, p, g, numbers):
    """Parameter p a step of size `rate` against gradient g, or along it where `sign` is -1; `decay`
    is the L2 term's weight."""
    p, g = p[start:stop], g[start:stop]
    rate, decay, sign = numbers[0], numbers[1], numbers[2]
    for i in range(p.size):
        grad = sign * g[i]
        grad = grad + decay * p[i] if decay != 0 else grad
        p[i] = p[i] - rate * grad


@strict_kernel
def sgd_momentum(start, stop, p, g, b, numbers, nesterov, first):
    """As `sgd`, along the buffer b = momentum * b + rest * gradient; or b = gradient at `first`."""
    p, g, b = p[start:stop], g[start:stop], b[start:stop]
    rate, decay, sign = numbers[0], numbers[1], numbers[2]
    momentum, rest = numbers[3], numbers[4]
    for i in range(p.size):
        grad = sign * g[i]
        grad = grad + decay * p[i] if decay != 0 else grad
        b[i] = grad if first else momentum * b[i] + rest * grad
        p[i] = p[i] - rate * (grad + momentum * b[i] if nesterov else b[i])


@strict_kernel
def rmsprop(start, stop, p, g, v, numbers):
    """As `sgd`, with the gradient divided by the root of v, the average of its squares."""
    p, g, v = p[start:stop], g[start:stop], v[start:stop]
    rate, alpha, eps, decay, sign = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    one = p.dtype.type(1)
    for i in range(p.size):
        grad = sign * g[i]
        grad = grad + decay * p[i] if decay != 0 else grad
        v[i] = alpha * v[i] + (one - alpha) * (grad * grad)
        p[i] = p[i] - rate * (grad / (np.sqrt(v[i]) + eps))


@strict_kernel
def rmsprop_momentum(start, stop, p, g, v, b, numbers):
    """As `rmsprop`, along the buffer b = momentum * b + divided gradient."""
    p, g, v, b = p[start:stop], g[start:stop], v[start:stop], b[start:stop]
    rate, alpha, eps, decay, sign = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    momentum = numbers[5]
    one = p.dtype.type(1)
    for i in range(p.size):
        grad = sign * g[i]
        grad = grad + decay * p[i] if decay != 0 else grad
        v[i] = alpha * v[i] + (one - alpha) * (grad * grad)
        b[i] = momentum * b[i] + grad / (np.sqrt(v[i]) + eps)
        p[i] = p[i] - rate * b[i]


@strict_kernel
def lion(start, stop, p, g, m, numbers):
    """A step of one size, by the sign of an average of the gradients (that of NaN is 0); `kept` is
    1 - lr * weight_decay."""
    p, g, m = p[start:stop], g[start:stop], m[start:stop]
    rate, beta1, beta2, kept, sign = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    one, zero = p.dtype.type(1), p.dtype.type(0)
    for i in range(p.size):
        grad = sign * g[i]
        c = beta1 * m[i] + (one - beta1) * grad
        m[i] = beta2 * m[i] + (one - beta2) * grad
        direction = one if c > zero else (-one if c < zero else zero)
        p[i] = kept * p[i] - rate * direction


@strict_kernel
def scale(start, stop, x, factor):
    """x times the one number of `factor`, in place; nothing where that is 1, as of gradients that
    need no clipping."""
    x, by = x[start:stop], factor[0]
    if by == 1:
        return
    for i in range(x.size):
        x[i] = x[i] * by
