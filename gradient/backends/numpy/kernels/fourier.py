"""Discrete Fourier transforms of many rows, one to a lane: Stockham's method of mixed radix.

A group of as many rows as a vector has lanes is transposed to terms of two vectors each, the real
parts and the imaginary ones. So all arithmetic is on whole vectors, whatever the length, with one
twiddle factor for all lanes. A pass of radix r takes terms that are n / r apart and writes r
neighbours, so the last pass leaves the terms in order, without bit reversal. (Van Loan 1992,
"Computational Frameworks for the Fast Fourier Transform", section 1.7.)

An even number of real numbers is transformed as half as many complex ones, which are taken apart
after it (section 4.3 there). A row's bits do not depend on other rows.
"""

from __future__ import annotations

from gradient.backends.numpy.kernels import vector_operators as vector_operators
from gradient.backends.numpy.kernels.cache_lines import cache_lines
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.vectors import (
    add_product,
    fill,
    lanes,
    load,
    store,
    transpose_square,
)

COMPLEX_ROWS, COMPLEX_COLUMNS, REAL_ROWS, REAL_TERMS = range(4)
"""Complex numbers along the last axis, or another; real numbers along the last axis; terms of a
transform of real numbers, back to these."""


@ordered_subroutine
def _turned(y, at, re, im, a, b, cos, sin):
    """The term of y at `at` = (a + ib) (cos + i sin)."""
    store(y, at + re, add_product(fill(cos) * a, -sin, b))
    store(y, at + im, add_product(fill(cos) * b, sin, a))


@ordered_subroutine
def _pass_of_two(x, y, m, s, turns, t, re, im):
    width = 2 * lanes(x)
    apart = s * m * width
    for p in range(m):
        cos, sin = turns[t + 2 * p], turns[t + 2 * p + 1]
        for q in range(s):
            i, o = (s * p + q) * width, (2 * s * p + q) * width
            a, b = load(x, i + re), load(x, i + im)
            c, d = load(x, i + apart + re), load(x, i + apart + im)
            store(y, o + re, a + c)
            store(y, o + im, b + d)
            if p == 0:
                store(y, o + s * width + re, a - c)
                store(y, o + s * width + im, b - d)
            else:
                _turned(y, o + s * width, re, im, a - c, b - d, cos, sin)


@ordered_subroutine
def _pass_of_four(x, y, m, s, turns, t, re, im):
    width = 2 * lanes(x)
    apart, step = s * m * width, s * width
    for p in range(m):
        at = t + 6 * p
        cos1, sin1, cos2, sin2, cos3, sin3 = (
            turns[at], turns[at + 1], turns[at + 2], turns[at + 3], turns[at + 4], turns[at + 5]
        )  # fmt: skip
        for q in range(s):
            i, o = (s * p + q) * width, (4 * s * p + q) * width
            a0, b0 = load(x, i + re), load(x, i + im)
            a1, b1 = load(x, i + apart + re), load(x, i + apart + im)
            a2, b2 = load(x, i + 2 * apart + re), load(x, i + 2 * apart + im)
            a3, b3 = load(x, i + 3 * apart + re), load(x, i + 3 * apart + im)
            even_a, even_b, odd_a, odd_b = a0 + a2, b0 + b2, a1 + a3, b1 + b3
            apart_a, apart_b, turned_a, turned_b = a0 - a2, b0 - b2, b1 - b3, a3 - a1
            store(y, o + re, even_a + odd_a)
            store(y, o + im, even_b + odd_b)
            if p == 0:
                store(y, o + step + re, apart_a + turned_a)
                store(y, o + step + im, apart_b + turned_b)
                store(y, o + 2 * step + re, even_a - odd_a)
                store(y, o + 2 * step + im, even_b - odd_b)
                store(y, o + 3 * step + re, apart_a - turned_a)
                store(y, o + 3 * step + im, apart_b - turned_b)
            else:
                _turned(y, o + step, re, im, apart_a + turned_a, apart_b + turned_b, cos1, sin1)
                _turned(y, o + 2 * step, re, im, even_a - odd_a, even_b - odd_b, cos2, sin2)
                _turned(y, o + 3 * step, re, im, apart_a - turned_a, apart_b - turned_b, cos3,
                        sin3)  # fmt: skip


@ordered_subroutine
def _pass_of_any(x, y, radix, m, s, turns, t, re, im):
    """A pass whose factors of the radix's own transform are after those of its terms."""
    width = 2 * lanes(x)
    apart, roots = s * m * width, t + 2 * m * (radix - 1)
    for p in range(m):
        for q in range(s):
            i, o = (s * p + q) * width, (radix * s * p + q) * width
            for k in range(radix):
                a, b, root = load(x, i + re), load(x, i + im), 0
                for j in range(1, radix):
                    root += k
                    if root >= radix:
                        root -= radix
                    cos, sin = turns[roots + 2 * root], turns[roots + 2 * root + 1]
                    c, d = load(x, i + j * apart + re), load(x, i + j * apart + im)
                    a = add_product(add_product(a, cos, c), -sin, d)
                    b = add_product(add_product(b, cos, d), sin, c)
                to = o + k * s * width
                if k == 0 or p == 0:
                    store(y, to + re, a)
                    store(y, to + im, b)
                else:
                    at = t + 2 * (p * (radix - 1) + k - 1)
                    _turned(y, to, re, im, a, b, turns[at], turns[at + 1])


@ordered_subroutine
def _passes(x, y, n, radices, turns, re, im):
    """The transform of the n terms of x, by turns in y and x; whether it is in x at last."""
    s, t, in_x = 1, 0, True
    for radix in radices:
        m = n // s // radix
        source, target = (x, y) if in_x else (y, x)
        if radix == 4:
            _pass_of_four(source, target, m, s, turns, t, re, im)
        elif radix == 2:
            _pass_of_two(source, target, m, s, turns, t, re, im)
        else:
            _pass_of_any(source, target, radix, m, s, turns, t, re, im)
            t += 2 * radix
        t += 2 * m * (radix - 1)
        s *= radix
        in_x = not in_x
    return in_x


@ordered_subroutine
def _read_rows(x, first, rows, row, terms, near, apart):
    """near[apart i, j] = the number i of row first + j of x; of rows that are not there, 0."""
    width, done = lanes(x), 0
    if rows == width:
        done = terms // width * width
        for i in range(0, done, width):
            transpose_square(x, first * row + i, row, near, i * apart * width, apart * width)
    for i in range(done, terms):
        for j in range(width):
            number = x[(first + j) * row + i] if j < rows else x.dtype.type(0)
            near[i * apart * width + j] = number


@ordered_subroutine
def _write_rows(near, apart, terms, out, first, rows, row):
    """The inverse of `_read_rows`."""
    width, done = lanes(out), 0
    if rows == width:
        done = terms // width * width
        for i in range(0, done, width):
            transpose_square(near, i * apart * width, apart * width, out, first * row + i, row)
    for i in range(done, terms):
        for j in range(rows):
            out[(first + j) * row + i] = near[i * apart * width + j]


@ordered_subroutine
def _start_of(column, n, inner):
    """The place of a column's first term in an array (outer, n, inner) of complex numbers."""
    return (column // inner * n * inner + column % inner) * 2


@ordered_subroutine
def _read_columns(x, first, count, n, inner, near):
    """The terms of `count` columns of x (outer, n, inner), complex, from number `first` on."""
    width = lanes(x)
    for j in range(width):
        at = _start_of(first + j, n, inner)
        for i in range(n):
            inside = j < count
            near[2 * i * width + j] = x[at + 2 * i * inner] if inside else x.dtype.type(0)
            near[(2 * i + 1) * width + j] = x[at + 2 * i * inner + 1] if inside else x.dtype.type(0)


@ordered_subroutine
def _read_neighbours(x, at, n, inner, near):
    """The same of columns side by side, from the element `at` of x on."""
    width = lanes(x)
    for i in range(n):
        source, to = at + 2 * i * inner, 2 * i * width
        for j in range(width):
            near[to + j] = x[source + 2 * j]
        for j in range(width):
            near[to + width + j] = x[source + 2 * j + 1]


@ordered_subroutine
def _write_columns(near, out, first, count, n, inner):
    width = lanes(out)
    for j in range(count):
        at = _start_of(first + j, n, inner)
        for i in range(n):
            out[at + 2 * i * inner] = near[2 * i * width + j]
            out[at + 2 * i * inner + 1] = near[(2 * i + 1) * width + j]


@ordered_subroutine
def _write_neighbours(near, out, at, n, inner):
    width = lanes(out)
    for i in range(n):
        source, to = 2 * i * width, at + 2 * i * inner
        for j in range(width):
            out[to + 2 * j] = near[source + j]
            out[to + 2 * j + 1] = near[source + width + j]


@ordered_subroutine
def _take_apart(z, m, waves, scale, out):
    """The m + 1 terms of 2 m real numbers, times `scale`, of the m terms of them in pairs."""
    width = lanes(z)
    half, whole = fill(z.dtype.type(scale / 2)), fill(z.dtype.type(scale))
    a, b, zero = load(z, 0), load(z, width), fill(z.dtype.type(0))
    store(out, 0, (a + b) * whole)
    store(out, width, zero)
    store(out, 2 * m * width, (a - b) * whole)
    store(out, (2 * m + 1) * width, zero)
    for k in range(1, m // 2 + 1):
        at, to = 2 * k * width, 2 * (m - k) * width
        a, b, c, d = load(z, at), load(z, at + width), load(z, to), load(z, to + width)
        even_a, even_b, odd_a, odd_b = a + c, b - d, b + d, c - a
        cos, sin = waves[2 * k], waves[2 * k + 1]
        a = add_product(fill(cos) * odd_a, -sin, odd_b)
        b = add_product(fill(cos) * odd_b, sin, odd_a)
        if at != to:
            store(out, to, (even_a - a) * half)
            store(out, to + width, (b - even_b) * half)
        store(out, at, (even_a + a) * half)
        store(out, at + width, (even_b + b) * half)


@ordered_subroutine
def _put_together(x, m, waves, z):
    """The inverse of `_take_apart`, times 2: of the first and last term the real part counts."""
    width = lanes(x)
    first, last = load(x, 0), load(x, 2 * m * width)
    store(z, 0, first + last)
    store(z, width, first - last)
    for k in range(1, m // 2 + 1):
        at, to = 2 * k * width, 2 * (m - k) * width
        a, b, c, d = load(x, at), load(x, at + width), load(x, to), load(x, to + width)
        even_a, even_b, odd_a, odd_b = a + c, b - d, a - c, b + d
        cos, sin = waves[2 * k], waves[2 * k + 1]
        a = add_product(fill(cos) * odd_a, sin, odd_b)
        b = add_product(fill(cos) * odd_b, -sin, odd_a)
        if at != to:
            store(z, to, even_a + b)
            store(z, to + width, a - even_b)
        store(z, at, even_a - b)
        store(z, at + width, even_b + a)


@ordered_subroutine
def _scale(x, count, scale):
    width, factor = lanes(x), fill(x.dtype.type(scale))
    if scale != 1:
        for i in range(0, count * width, width):
            store(x, i, load(x, i) * factor)


@ordered_subroutine
def _clear(x, at, apart, count):
    width, zero = lanes(x), fill(x.dtype.type(0))
    for i in range(count):
        store(x, (at + i * apart) * width, zero)


@ordered_kernel
def transform(
    start, stop, kind, x, columns, n, inner, x_terms, radices, turns, waves, inverse, scale, out
):  # fmt: skip
    """Groups start to stop of the transforms of x, times `scale`, in `out`: both flat, complex
    numbers as pairs of real ones. A group is as many rows, or columns, as a vector has lanes.

    COMPLEX_ROWS: x and out (columns, n). COMPLEX_COLUMNS: (columns / inner, n, inner), transformed
    along n. REAL_ROWS: x (columns, n), real, and out (columns, n // 2 + 1). REAL_TERMS: x (columns,
    x_terms) and out (columns, n), real; terms that are not there are 0, those after n // 2 + 1 not
    used.

    radices, turns: of the complex transform, of n terms, or of n / 2 if n real numbers are even;
    waves: for these, cos and -sin of 2 pi k / n.
    """
    width, terms = lanes(x), n // 2 + 1
    near, far = cache_lines(x, 2 * (n + 1) * width), cache_lines(x, 2 * (n + 1) * width)
    re, im = (width, 0) if inverse else (0, width)
    halved = n % 2 == 0 and kind >= REAL_ROWS
    m = n // 2 if halved else n
    for group in range(start, stop):
        first = group * width
        count = min(width, columns - first)
        side_by_side = kind == COMPLEX_COLUMNS and count == width and (
            first // inner == (first + width - 1) // inner
        )  # fmt: skip
        at = _start_of(first, n, inner)
        if kind == COMPLEX_ROWS:
            _read_rows(x, first, count, 2 * n, 2 * n, near, 1)
        elif side_by_side:
            _read_neighbours(x, at, n, inner, near)
        elif kind == COMPLEX_COLUMNS:
            _read_columns(x, first, count, n, inner, near)
        elif kind == REAL_ROWS and halved:
            _read_rows(x, first, count, n, n, near, 1)
        elif kind == REAL_ROWS:
            _read_rows(x, first, count, n, n, near, 2)
            _clear(near, 1, 2, n)
        else:
            given = min(terms, x_terms)
            _read_rows(x, first, count, 2 * x_terms, 2 * given, near, 1)
            _clear(near, 2 * given, 1, 2 * (terms - given))
            if halved:
                _put_together(near, m, waves, far)
                near, far = far, near
            else:
                _clear(near, 1, 1, 1)
                for k in range(1, terms):
                    to = 2 * (n - k) * width
                    store(near, to, load(near, 2 * k * width))
                    negative = fill(x.dtype.type(-1)) * load(near, (2 * k + 1) * width)
                    store(near, to + width, negative)
        if not _passes(near, far, m, radices, turns, re, im):
            near, far = far, near
        if kind == REAL_ROWS and halved:
            _take_apart(near, m, waves, scale, far)
            near, far = far, near
        else:
            _scale(near, 2 * m, scale)
        if kind == COMPLEX_ROWS:
            _write_rows(near, 1, 2 * n, out, first, count, 2 * n)
        elif side_by_side:
            _write_neighbours(near, out, at, n, inner)
        elif kind == COMPLEX_COLUMNS:
            _write_columns(near, out, first, count, n, inner)
        elif kind == REAL_ROWS:
            if not halved:
                _clear(near, 1, 1, 1)
            _write_rows(near, 1, 2 * terms, out, first, count, 2 * terms)
        else:
            _write_rows(near, 1 if halved else 2, n, out, first, count, n)
