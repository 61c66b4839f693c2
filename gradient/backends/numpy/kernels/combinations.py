"""Functions of several numbers over flat arrays, for the elements start to stop."""

from __future__ import annotations

from gradient.backends.numpy.kernels.compilation import strict_kernel
from gradient.backends.numpy.kernels.functions import sigmoid


@strict_kernel
def lerp(start, stop, x, end, weight, y):
    """x + weight (end - x), from the nearer of x and end; `weight` may be a number, of size 1."""
    x, end, y = x[start:stop], end[start:stop], y[start:stop]
    half, one = x.dtype.type(0.5), x.dtype.type(1)
    if weight.size > 1:
        weight = weight[start:stop]
        for i in range(x.size):
            w, gap = weight[i], end[i] - x[i]
            low, high = x[i] + gap * w, end[i] - gap * (one - w)
            y[i] = low if abs(w) < half else high
    elif abs(weight[0]) < half:
        w = weight[0]
        for i in range(x.size):
            y[i] = x[i] + (end[i] - x[i]) * w
    else:
        w = one - weight[0]
        for i in range(x.size):
            y[i] = end[i] - (end[i] - x[i]) * w


@strict_kernel
def addcmul(start, stop, x, a, b, y, value, divides):
    """x + value a b, or x + value a / b."""
    x, a, b, y = x[start:stop], a[start:stop], b[start:stop], y[start:stop]
    value = x.dtype.type(value)
    if divides:
        for i in range(x.size):
            y[i] = x[i] + value * a[i] / b[i]
    else:
        for i in range(x.size):
            y[i] = x[i] + value * a[i] * b[i]


@strict_kernel
def glu(start, stop, x, y, half):
    """a sigmoid(b) for rows of x that are `half` numbers a and then as many b."""
    at = start
    while at < stop:
        row, left = at // half, at % half
        count, first = min(half - left, stop - at), 2 * half * row + left
        a, b, place = x[first : first + count], x[first + half :][:count], y[at : at + count]
        for i in range(count):
            place[i] = a[i] * sigmoid(b[i])
        at += count


@strict_kernel
def glu_grad(start, stop, g, x, y, half):
    """The gradient in y, of the shape of x; start and stop count elements of g."""
    one = x.dtype.type(1)
    at = start
    while at < stop:
        row, left = at // half, at % half
        count, first = min(half - left, stop - at), 2 * half * row + left
        slope, a, b = g[at : at + count], x[first : first + count], x[first + half :][:count]
        of_a, of_b = y[first : first + count], y[first + half :][:count]
        for i in range(count):
            gate = sigmoid(b[i])
            of_a[i] = slope[i] * gate
            of_b[i] = slope[i] * (gate * (one - gate)) * a[i]
        at += count


@strict_kernel
def prelu(start, stop, x, weight, y, inner):
    """x or, where it is not above 0, weight x: of the weights one for each `inner` elements, again
    and again, so with inner = 1 a row of them."""
    zero, n = x.dtype.type(0), weight.size
    at = start
    while at < stop:
        if n == 1:
            count, first, step = stop - at, 0, 0
        elif inner == 1:
            first, step = at % n, 1
            count = min(n - first, stop - at)
        else:
            count, first, step = min(inner - at % inner, stop - at), at // inner % n, 0
        part, place = x[at : at + count], y[at : at + count]
        if step:
            slopes = weight[first : first + count]
            for i in range(count):
                low = part[i] * slopes[i]
                place[i] = part[i] if part[i] > zero else low
        else:
            slope = weight[first]
            for i in range(count):
                low = part[i] * slope
                place[i] = part[i] if part[i] > zero else low
        at += count


@strict_kernel
def prelu_grad(start, stop, g, x, weight, of_x, of_weight, inner):
    """The gradients for x, and for the weight at each element."""
    zero, n = x.dtype.type(0), weight.size
    at = start
    while at < stop:
        if n == 1:
            count, first, step = stop - at, 0, 0
        elif inner == 1:
            first, step = at % n, 1
            count = min(n - first, stop - at)
        else:
            count, first, step = min(inner - at % inner, stop - at), at // inner % n, 0
        part, slope = x[at : at + count], g[at : at + count]
        to_x, to_weight = of_x[at : at + count], of_weight[at : at + count]
        if step:
            slopes = weight[first : first + count]
            for i in range(count):
                high, low = slope[i], slope[i] * slopes[i]
                to_x[i] = high if part[i] > zero else low
        else:
            factor = weight[first]
            for i in range(count):
                high, low = slope[i], slope[i] * factor
                to_x[i] = high if part[i] > zero else low
        for i in range(count):
            low = slope[i] * part[i]
            to_weight[i] = zero if part[i] > zero else low
        at += count
