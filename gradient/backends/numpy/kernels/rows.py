"""Rows of a table by their numbers: looked up, and written to their places."""

from gradient.backends.numpy.kernels.compilation import ordered_kernel


@ordered_kernel
def gather(start, stop, table, index, out):
    """out[start:stop] = table[index[start:stop]] for table (N, W), index (n,) and out (n, W)."""
    for r in range(start, stop):
        if not 0 <= index[r] < table.shape[0]:
            raise IndexError("index out of range")
    for r in range(start, stop):
        row = table[index[r]]
        for i in range(row.size):
            out[r, i] = row[i]


@ordered_kernel
def put(start, stop, x, first, second, value):
    """x[first[r], :, second[r]] = value[r] for the rows start to stop, in turn.

    x (A, M, N, W), value (n, M, W); first and second (n,) may count from the end.
    """
    for r in range(start, stop):
        a, b = first[r], second[r]
        if not (-x.shape[0] <= a < x.shape[0] and -x.shape[2] <= b < x.shape[2]):
            raise IndexError("index out of range")
    for r in range(start, stop):
        a, b = first[r], second[r]
        if a < 0:
            a += x.shape[0]
        if b < 0:
            b += x.shape[2]
        for m in range(x.shape[1]):
            for i in range(x.shape[3]):
                x[a, m, b, i] = value[r, m, i]
