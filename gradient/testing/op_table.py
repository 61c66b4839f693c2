"""The op table, with at least one row for every op. A new op needs only its row in the file of its
family.

The tests compare each row's values with its reference, and its gradient and second gradient with
finite differences, on every backend, dtype and layout; `gradient check` checks the gradients.
"""

from gradient.testing import (
    complex_rows,
    elementwise_rows,
    fused_rows,
    index_rows,
    layer_rows,
    matrix_rows,
    reduction_rows,
    shape_rows,
    special_rows,
)

__all__ = ["TABLE"]

TABLE = [
    *elementwise_rows.ROWS,
    *reduction_rows.ROWS,
    *shape_rows.ROWS,
    *index_rows.ROWS,
    *matrix_rows.ROWS,
    *fused_rows.ROWS,
    *layer_rows.ROWS,
    *special_rows.ROWS,
    *complex_rows.ROWS,
]
