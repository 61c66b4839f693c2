"""What NumPy does elsewhere with small arrays: as kernels they are tasks among others of a list.

Each gives NumPy's bits. Indices must be within bounds, from 0 on: nothing is checked.
"""

from gradient.backends.numpy.kernels.compilation import ordered_kernel


@ordered_kernel
def sorting(start, stop, x, out):
    """out[r] = the indices that sort x[r], stable, for the rows start to stop of few integers."""
    for r in range(start, stop):
        for i in range(x.shape[1]):
            at = i
            while at > 0 and x[r, out[r, at - 1]] > x[r, i]:
                out[r, at] = out[r, at - 1]
                at -= 1
            out[r, at] = i


@ordered_kernel
def copy(start, stop, x, out):
    for i in range(start, stop):
        out[i] = x[i]


@ordered_kernel
def floor_divide(start, stop, x, by, out):
    """out = x // by, for integers and a positive one."""
    for i in range(start, stop):
        out[i] = x[i] // by


@ordered_kernel
def take_along(start, stop, x, index, out):
    """out[r, i] = x[r, index[r, i]] for the rows start to stop."""
    for r in range(start, stop):
        for i in range(index.shape[1]):
            out[r, i] = x[r, index[r, i]]


@ordered_kernel
def add_at(start, stop, x, index, value):
    """x[index[i]] += value[i], one after the other."""
    for i in range(start, stop):
        x[index[i]] += value[i]


@ordered_kernel
def sums(start, stop, x, out):
    """out[a, b] = the sum of x[a, :, b], one number after the other."""
    for a in range(start, stop):
        for b in range(x.shape[2]):
            total = x[a, 0, b]
            for k in range(1, x.shape[1]):
                total += x[a, k, b]
            out[a, b] = total


ADD, SUB, MUL, TRUEDIV, MAXIMUM, MINIMUM = range(6)


@ordered_kernel
def arithmetic(start, stop, code, x, y, out):
    """out = x and y by the operation of this code, for floats; either may be one number."""
    for i in range(start, stop):
        a, b = x[min(i, x.size - 1)], y[min(i, y.size - 1)]
        if code == ADD:
            out[i] = a + b
        elif code == SUB:
            out[i] = a - b
        elif code == MUL:
            out[i] = a * b
        elif code == TRUEDIV:
            out[i] = a / b
        elif code == MAXIMUM:
            out[i] = a if a > b or a != a else b
        else:
            out[i] = a if a < b or a != a else b


@ordered_kernel
def differ(start, stop, x, other, out):
    """out = x != other, for integers."""
    for i in range(start, stop):
        out[i] = x[i] != other


@ordered_kernel
def count(start, stop, x, out):
    """out[0] = how many of the bools x are true."""
    for i in range(start, stop):
        found = 0
        for each in x:
            found += each
        out[i] = found


@ordered_kernel
def mean_of_counted(start, stop, total, target, ignored, mean, counted):
    """mean[0] = total[0] over how many targets are not `ignored`, and counted[0] that number."""
    for i in range(start, stop):
        found = 0
        for each in target:
            found += each != ignored
        counted[i] = found
        mean[i] = total[i] / counted[i]


@ordered_kernel
def fill(start, stop, x, out):
    """out = the one number of x."""
    for i in range(start, stop):
        out[i] = x[0]
