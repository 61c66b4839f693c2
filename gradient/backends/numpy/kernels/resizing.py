"""Resizing along one axis, and its gradient: x is (outer, size, inner), flat."""

from gradient.backends.numpy.kernels.compilation import strict_kernel


@strict_kernel
def resize(start, stop, x, size, inner, low, high, fraction, out):
    """Of `outer`, start to stop: out (outer, new, inner) = (1 - fraction) x[low] + fraction
    x[high], all three of the new size."""
    one, new = x.dtype.type(1), low.size
    for o in range(start, stop):
        if inner == 1:
            row, to = x[o * size : (o + 1) * size], out[o * new : (o + 1) * new]
            for j in range(new):
                f = fraction[j]
                to[j] = (one - f) * row[low[j]] + f * row[high[j]]
            continue
        for j in range(new):
            at, above = (o * size + low[j]) * inner, (o * size + high[j]) * inner
            a, b = x[at : at + inner], x[above : above + inner]
            to = out[(o * new + j) * inner : (o * new + j + 1) * inner]
            f, rest = fraction[j], one - fraction[j]
            for i in range(inner):
                to[i] = rest * a[i] + f * b[i]


@strict_kernel
def resize_grad(start, stop, g, size, inner, low, high, fraction, out):
    """out (outer, size, inner) = the sums of what each number gave to g (outer, new, inner)."""
    one, zero, new = g.dtype.type(1), g.dtype.type(0), low.size
    for o in range(start, stop):
        plane = out[o * size * inner : (o + 1) * size * inner]
        for i in range(plane.size):
            plane[i] = zero
        if inner == 1:
            row = g[o * new : (o + 1) * new]
            for j in range(new):
                plane[low[j]] += (one - fraction[j]) * row[j]
                plane[high[j]] += fraction[j] * row[j]
            continue
        for j in range(new):
            a = plane[low[j] * inner : (low[j] + 1) * inner]
            b = plane[high[j] * inner : (high[j] + 1) * inner]
            from_ = g[(o * new + j) * inner : (o * new + j + 1) * inner]
            f, rest = fraction[j], one - fraction[j]
            for i in range(inner):
                a[i] += rest * from_[i]
            for i in range(inner):
                b[i] += f * from_[i]


@strict_kernel
def weighted_taps(start, stop, x, size, inner, places, weights, out):
    """Of `outer`, start to stop: out (outer, n, inner) = the sums of weights[j, t] x[places[j, t]]
    over t, in its order; both are (n, T)."""
    new, taps, zero = places.shape[0], places.shape[1], x.dtype.type(0)
    for o in range(start, stop):
        if inner == 1:
            row, to = x[o * size : (o + 1) * size], out[o * new : (o + 1) * new]
            for j in range(new):
                total = zero
                for t in range(taps):
                    total += weights[j, t] * row[places[j, t]]
                to[j] = total
            continue
        for j in range(new):
            to = out[(o * new + j) * inner : (o * new + j + 1) * inner]
            for i in range(inner):
                to[i] = zero
            for t in range(taps):
                at = (o * size + places[j, t]) * inner
                line, weight = x[at : at + inner], weights[j, t]
                for i in range(inner):
                    to[i] += weight * line[i]


@strict_kernel
def weighted_taps_grad(start, stop, g, size, inner, places, weights, out):
    """out (outer, size, inner) = the sums of what each number gave to g (outer, n, inner)."""
    new, taps, zero = places.shape[0], places.shape[1], g.dtype.type(0)
    for o in range(start, stop):
        plane = out[o * size * inner : (o + 1) * size * inner]
        for i in range(plane.size):
            plane[i] = zero
        for j in range(new):
            line = g[(o * new + j) * inner : (o * new + j + 1) * inner]
            for t in range(taps):
                weight, at = weights[j, t], places[j, t] * inner
                if inner == 1:
                    plane[at] += weight * line[0]
                    continue
                to = plane[at : at + inner]
                for i in range(inner):
                    to[i] += weight * line[i]
