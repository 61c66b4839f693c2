"""Adding rows at repeated indices."""

from gradient.backends.numpy.kernels.compilation import kernel

COLUMNS = 128
"""Columns that a thread takes at a time, all rows in their order: so the sums have one order."""


@kernel
def add_rows(start, stop, x, index, value, wrong):
    """x[index[r], start:stop] += value[r, start:stop] for each r in turn; where an index is none,
    nothing but a 1 in `wrong` (1,)."""
    if start == stop:
        return
    for r in range(index.size):
        if not -x.shape[0] <= index[r] < x.shape[0]:
            wrong[0] = 1
            return
    for r in range(index.size):
        i = index[r]
        row = x[i if i >= 0 else i + x.shape[0], start:stop]
        added = value[r, start:stop]
        for j in range(row.size):
            row[j] += added[j]
