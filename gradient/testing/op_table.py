"""The op table: at least one row for every op. A new op adds its row to the file of its family, and
nothing else.

The tests run each row forward against its reference, and its gradient and second gradient against
differences, on every backend, dtype and layout; `gradient check` runs the gradients.
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
