"""Pooling and its gradients, a plane at a time, the windows of one row together."""

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine


@ordered_subroutine
def keep_larger(x, at, step, number, advance, first, last, best, places):
    """For windows first to last of a row: best = the larger of it and of x at `at`, `step` apart;
    places = the number of what is kept, `advance` apart from `number` on."""
    # Cut first: LLVM then knows that no index is negative, and vectorises.
    row, best, places = x[at:], best[first:last], places[first:last]
    for i in range(best.size):
        value, kept = row[i * step], best[i]
        replaces = (value > kept) | (value != value)
        best[i] = value if replaces else kept
        place, place_kept = np.int32(number + i * advance), places[i]
        places[i] = place if replaces else place_kept


@ordered_subroutine
def _larger_of_four(x, at, width, line, best, places):
    """best = the largest numbers of the windows of 2 x 2 in the row of x at `at`, which is number
    `line` of its plane, and the next row; places = where in the plane."""
    top, low = x[at : at + width], x[at + width : at + 2 * width]
    for i in range(best.size):
        a, b, c, d = top[2 * i], top[2 * i + 1], low[2 * i], low[2 * i + 1]
        right = (b > a) | (b != b)
        right_low = (d > c) | (d != d)
        high, high_low = b if right else a, d if right_low else c
        lower = (high_low > high) | (high_low != high_low)
        best[i] = high_low if lower else high
        place, place_low = np.int64(right), width + np.int64(right_low)
        places[i] = line + 2 * i + (place_low if lower else place)


@ordered_kernel
def max_of_planes(start, stop, x, size, y, indices):
    """The largest of each plane start to stop of x (planes, size), and where it is: as `max_pool`
    with one window."""
    for p in range(start, stop):
        plane = x[p * size : (p + 1) * size]
        best, place = plane[0], 0
        for i in range(1, size):
            value = plane[i]
            if (value > best) | (value != value):
                best, place = value, i
        y[p], indices[p] = best, place


@ordered_kernel
def max_pool(start, stop, x, sizes, windows, kernel, stride, before, dilation, y, indices):
    """Planes start to stop of y (planes, *windows), the largest of each window of x (planes,
    *sizes), and where it is in its plane. All of three dimensions; a window's first number is at
    window * stride - before."""
    size, row = sizes[0] * sizes[1] * sizes[2], windows[2]
    step, n = stride[2], sizes[2]
    best, places = np.empty(row, x.dtype), np.empty(row, np.int32)
    firsts = np.empty(row, np.int32)
    for i in range(row):
        first = i * step - before[2]
        firsts[i] = (
            first if first >= 0 else first + (dilation[2] - 1 - first) // dilation[2] * dilation[2]
        )
    for p in range(start, stop):
        for d in range(windows[0]):
            for h in range(windows[1]):
                begun = False
                for k in range(kernel[0]):
                    z = d * stride[0] - before[0] + k * dilation[0]
                    if z < 0 or z >= sizes[0]:
                        continue
                    for j in range(kernel[1]):
                        v = h * stride[1] - before[1] + j * dilation[1]
                        if v < 0 or v >= sizes[1]:
                            continue
                        line = (z * sizes[1] + v) * n
                        if not begun:  # of numbers that are all -inf, the first
                            begun = True
                            for i in range(row):
                                best[i] = -np.inf
                                places[i] = line + firsts[i]
                        for i in range(kernel[2]):
                            shift = i * dilation[2] - before[2]
                            # The windows whose number is inside.
                            first = max(0, (step - 1 - shift) // step)
                            last = min(row, (n - 1 - shift) // step + 1)
                            number = line + first * step + shift
                            at = p * size + number
                            if step == 1:
                                keep_larger(x, at, 1, number, 1, first, last, best, places)
                            elif step == 2:
                                keep_larger(x, at, 2, number, 2, first, last, best, places)
                            else:
                                keep_larger(x, at, step, number, step, first, last, best, places)
                to = ((p * windows[0] + d) * windows[1] + h) * row
                for i in range(row):
                    y[to + i] = best[i]
                for i in range(row):
                    indices[to + i] = places[i]


@ordered_kernel
def max_pool_of_rows(start, stop, x, n, windows, size, stride, before, dilation, y, indices):
    """As `max_pool`, for planes of one row of n numbers."""
    reach = (size - 1) * dilation
    first = (before + stride - 1) // stride  # of the windows that are all inside
    last = max(first, min(windows, (n - 1 - reach + before) // stride + 1))
    numbers, kept = np.empty(windows, x.dtype), np.empty(windows, np.int32)
    for p in range(start, stop):
        row = x[p * n : (p + 1) * n]
        best, places = y[p * windows : (p + 1) * windows], indices[p * windows : (p + 1) * windows]
        if first < windows:
            inner, inner_places = best[first:last], places[first:last]
            begin = first * stride - before
            if size == 2 and stride == 2 and dilation == 1:
                _larger_of_two(row, begin, inner, inner_places)
            elif size == 3 and stride == 2 and dilation == 1:
                _largest_of_three(row, begin, inner, inner_places)
            else:  # a pass for each number of the windows, which follow each other in `line`
                count = last - first
                for j in range(size):
                    at = begin + j * dilation
                    if stride == 1:
                        line = row[at : at + count]
                    else:
                        line = numbers[:count]
                        _spread(row, at, stride, line)
                    if j == 0:
                        _begin(line, at, stride, inner, kept[:count])
                    else:
                        _keep(line, at, stride, inner, kept[:count])
                _put(kept[:count], inner_places)
        for i in range(windows):
            if first <= i < last:
                continue
            at = i * stride - before
            end = min(at + reach + 1, n)
            if at < 0:
                at += (dilation - 1 - at) // dilation * dilation
            value, place = x.dtype.type(-np.inf), at
            while at < end:
                other = row[at]
                if (other > value) | (other != other):
                    value, place = other, at
                at += dilation
            best[i], places[i] = value, place


@ordered_subroutine
def _larger_of_two(x, begin, best, places):
    x = x[begin : begin + 2 * best.size]
    for i in range(best.size):
        a, b = x[2 * i], x[2 * i + 1]
        right = (b > a) | (b != b)
        best[i] = b if right else a
        places[i] = begin + 2 * i + np.int64(right)


@ordered_subroutine
def _largest_of_three(x, begin, best, places):
    a, b, c = x[begin:], x[begin + 1 :], x[begin + 2 :]
    for i in range(best.size):
        value, second, third = a[2 * i], b[2 * i], c[2 * i]
        right = (second > value) | (second != second)
        value = second if right else value
        farther = (third > value) | (third != third)
        best[i] = third if farther else value
        places[i] = begin + 2 * i + (2 if farther else np.int64(right))


@ordered_subroutine
def _spread(x, begin, stride, line):
    x = x[begin:]
    for i in range(line.size):
        line[i] = x[i * stride]


@ordered_subroutine
def _begin(line, number, stride, best, places):
    for i in range(best.size):
        best[i] = line[i]
        places[i] = np.int32(number + i * stride)


@ordered_subroutine
def _keep(line, number, stride, best, places):
    """best = the larger of it and `line`; places = where in the row what is kept is: the numbers of
    `line` are `stride` apart from `number` on."""
    for i in range(best.size):
        value, kept, place = line[i], best[i], places[i]
        other = np.int32(number + i * stride)
        replaces = (value > kept) | (value != value)
        best[i] = value if replaces else kept
        places[i] = other if replaces else place


@ordered_subroutine
def _put(places, indices):
    for i in range(indices.size):
        indices[i] = places[i]


@ordered_kernel
def max_pool_of_four(start, stop, x, height, width, y, indices):
    """As `max_pool`, for windows of 2 x 2, none of which overlap, in planes height x width."""
    rows, n = height // 2, width // 2
    for p in range(start, stop):
        for h in range(rows):
            line = 2 * h * width
            at, to = p * height * width + line, (p * rows + h) * n
            _larger_of_four(x, at, width, line, y[to : to + n], indices[to : to + n])


@ordered_kernel
def max_pool_of_eight(start, stop, x, depth, height, width, deep, y, indices):
    """As `max_pool`, for windows of `deep` x 2 x 2, none of which overlap, where `deep` is 1 or 2,
    in planes depth x height x width."""
    layers, rows, n = depth // deep, height // 2, width // 2
    others, other_places = np.empty(n, x.dtype), np.empty(n, np.int64)
    for p in range(start, stop):
        for d in range(layers):
            for h in range(rows):
                line = (d * deep * height + 2 * h) * width
                at, to = p * depth * height * width + line, ((p * layers + d) * rows + h) * n
                best, places = y[to : to + n], indices[to : to + n]
                _larger_of_four(x, at, width, line, best, places)
                if deep == 1:
                    continue
                line, at = line + height * width, at + height * width
                _larger_of_four(x, at, width, line, others, other_places)
                for i in range(n):
                    value, kept = others[i], best[i]
                    place, place_kept = other_places[i], places[i]
                    replaces = (value > kept) | (value != value)
                    best[i] = value if replaces else kept
                    places[i] = place if replaces else place_kept


@ordered_kernel
def max_pool_of_four_grad(start, stop, g, indices, height, width, out):
    """As `max_pool_grad`, for what `max_pool_of_four` gave."""
    rows, n = height // 2, width // 2
    for p in range(start, stop):
        for h in range(rows):
            line = 2 * h * width
            at, to = (p * rows + h) * n, p * height * width + line
            slopes, places = g[at : at + n], indices[at : at + n]
            top, low = out[to : to + width], out[to + width : to + 2 * width]
            zero = g.dtype.type(0)
            for i in range(n):
                slope, place = slopes[i], np.int32(places[i] - line - 2 * i)
                top[2 * i] = slope if place == 0 else zero
                top[2 * i + 1] = slope if place == 1 else zero
                low[2 * i] = slope if place == width else zero
                low[2 * i + 1] = slope if place == width + 1 else zero
            for i in range(2 * n, width):
                top[i] = low[i] = zero
        rest = out[(p * height + 2 * rows) * width : (p + 1) * height * width]
        for i in range(rest.size):
            rest[i] = 0


@ordered_kernel
def max_pool_grad(start, stop, g, indices, count, size, out):
    """Planes start to stop of out (planes, size): the sums of g (planes, count) at the indices."""
    for p in range(start, stop):
        plane = out[p * size : (p + 1) * size]
        slopes, places = g[p * count : (p + 1) * count], indices[p * count : (p + 1) * count]
        for i in range(plane.size):
            plane[i] = 0
        for i in range(slopes.size):
            if places[i] >= 0:
                plane[places[i]] += slopes[i]


@ordered_kernel
def adaptive_max_pool(start, stop, x, sizes, windows, first, last, y, indices):
    """As `max_pool`, for windows that begin and end at these places: first and last hold those of
    depth, height and width, one behind the other."""
    size, width, n = sizes[0] * sizes[1] * sizes[2], sizes[2], windows[2]
    behind = windows[0] + windows[1]
    best, places = np.empty(width, x.dtype), np.empty(width, np.int32)
    for p in range(start, stop):
        for d in range(windows[0]):
            for h in range(windows[0], behind):
                begun = False
                for z in range(first[d], last[d]):
                    for v in range(first[h], last[h]):
                        line = (z * sizes[1] + v) * width
                        at = p * size + line
                        if begun:
                            keep_larger(x, at, 1, line, 1, 0, width, best, places)
                            continue
                        begun = True
                        for i in range(width):
                            best[i] = x[at + i]
                            places[i] = line + i
                to = ((p * windows[0] + d) * windows[1] + h - windows[0]) * n
                for i in range(n):
                    at = first[behind + i]
                    value, place = best[at], places[at]
                    for j in range(at + 1, last[behind + i]):
                        # As in keep_larger, but columns are not in the order of places.
                        if best[j] != best[j]:
                            replaces = value == value or places[j] > place
                        else:
                            replaces = best[j] > value or (best[j] == value and places[j] < place)
                        if replaces:
                            value, place = best[j], places[j]
                    y[to + i] = value
                    indices[to + i] = place


@ordered_subroutine
def add(x, y):
    for i in range(y.size):
        y[i] += x[i]


@ordered_subroutine
def add_picked(x, places, y):
    """y += the numbers of x at each row of places, (n, y.size)."""
    for j in range(places.shape[0]):
        at = places[j]
        for i in range(y.size):
            y[i] += x[at[i]]


@ordered_kernel
def avg_pool(start, stop, x, sizes, windows, first, last, columns, counts, y):
    """Planes start to stop of y (planes, *windows), the mean of each window of x (planes, *sizes).

    All of three dimensions. first, last: where windows begin and end in depth, then in height.
    columns (n, windows[2]): the n places of each in width, or `sizes[2]`, where there is a zero.
    counts: what is divided by, in depth, height and width.
    """
    height, width, n = sizes[1], sizes[2], windows[2]
    behind = windows[0] + windows[1]
    row = np.zeros(width + 1, x.dtype)
    for p in range(start, stop):
        for d in range(windows[0]):
            for h in range(windows[0], behind):
                row[:] = 0
                for z in range(first[d], last[d]):
                    at = ((p * sizes[0] + z) * height + first[h]) * width
                    for _ in range(first[h], last[h]):
                        add(x[at : at + width], row[:width])
                        at += width
                to = ((p * windows[0] + d) * windows[1] + h - windows[0]) * n
                out = y[to : to + n]
                out[:] = 0
                add_picked(row, columns, out)
                count = counts[d] * counts[h]
                for i in range(n):
                    out[i] /= count * counts[behind + i]


@ordered_kernel
def avg_pool_grad(start, stop, g, sizes, windows, first, last, columns, counts, out):
    """Planes start to stop of out (planes, *sizes), the gradient of `avg_pool` for x.

    first, last: which windows hold a place in depth, then in height. columns (n, sizes[2]): the n
    windows that hold one in width, or `windows[2]`, where there is a zero. counts: as there.
    """
    depth, height, width, n = sizes[0], sizes[1], sizes[2], windows[2]
    lines = windows[0] * windows[1]
    behind = windows[0] + windows[1]
    slopes, spread = np.zeros(n + 1, g.dtype), np.empty(lines * width, g.dtype)
    for p in range(start, stop):
        spread[:] = 0
        for line in range(lines):
            count = counts[line // windows[1]] * counts[windows[0] + line % windows[1]]
            at = (p * lines + line) * n
            for i in range(n):
                slopes[i] = g[at + i] / (count * counts[behind + i])
            add_picked(slopes, columns, spread[line * width : (line + 1) * width])
        for z in range(depth):
            for v in range(depth, depth + height):
                to = ((p * depth + z) * height + v - depth) * width
                y = out[to : to + width]
                y[:] = 0
                for d in range(first[z], last[z]):
                    for h in range(first[v], last[v]):
                        at = (d * windows[1] + h) * width
                        add(spread[at : at + width], y)
