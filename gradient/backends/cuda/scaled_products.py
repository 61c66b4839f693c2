"""Products of 8-bit floats by cuBLASLt, which multiplies them as they are."""

from __future__ import annotations

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda.cublas import NUMBERS, Operand, Sizes
from gradient.backends.cuda.cublas_lt import EPILOGUE_BIAS, EPILOGUE_NONE, Float8Operands
from gradient.backends.cuda.products import Products
from gradient.backends.packed import PackedArray
from gradient.dtypes import HALF_PRECISION, DType, float8_e4m3fn, float8_e5m2, float32, float64

KINDS: dict[DType, int] = {float8_e4m3fn: 28, float8_e5m2: 29}
"""`cudaDataType` of the 8-bit floats."""
ALIGNED = 16
"""What the lengths of rows are multiples of."""


class ScaledProducts(Products):
    """Override of `scaled_matmul`."""

    def scaled_matmul(
        self,
        a: PackedArray,
        b: PackedArray,
        scale_a: Array,
        scale_b: Array,
        bias: Array | None,
        dtype: np.dtype,
        fast: bool = False,
    ) -> Array:
        if not self._has_float8_product(a, b, dtype):
            return super().scaled_matmul(a, b, scale_a, scale_b, bias, dtype, fast)
        (m, k), n = a.shape, b.shape[1]
        by_rows = scale_a.size > 1 or scale_b.size > 1
        # cuBLASLt adds a bias of the result's dtype, of 16 bits, to a product with its scales.
        added = bias if dtype in HALF_PRECISION and not by_rows else None
        whole = not by_rows and (bias is None or added is not None)
        added = None if added is None else self.contiguous(self.astype(added, dtype))
        out = self.empty((m, n), dtype if whole else float32.numpy)
        left, right = self.contiguous(a.parts[0]), self.contiguous(b.parts[0].T)
        at = self.runtime.address
        scales = [self.contiguous(each) for each in (scale_b, scale_a)]
        done = self.runtime.blas_lt.multiply(
            out.dtype, Sizes(n, m, k),
            Operand(at(right), True, k), Operand(at(left), False, k), Operand(at(out), False, n),
            0 if added is None else at(added),
            EPILOGUE_NONE if added is None else EPILOGUE_BIAS,
            Float8Operands(
                (KINDS[b.dtype], KINDS[a.dtype]),
                (0, 0) if by_rows else (at(scales[0]), at(scales[1])),
                fast,
            ),
        )  # fmt: skip
        if not done:
            return super().scaled_matmul(a, b, scale_a, scale_b, bias, dtype, fast)
        if whole:
            return out
        y = out * scale_a * scale_b if by_rows else out
        y = y if bias is None else y + self.astype(bias, float32.numpy)
        return self.astype(y, dtype)

    def _has_float8_product(self, a: PackedArray, b: PackedArray, dtype: np.dtype) -> bool:
        """Whether cuBLASLt has it: on the GPU's tensor cores, where rows are aligned."""
        (m, k), n = a.shape, b.shape[1]
        return (
            self.runtime.has_float8_products
            and dtype in NUMBERS
            and dtype != float64.numpy
            and not (a.dtype is b.dtype is float8_e5m2)
            and m > 0
            and k > 0
            and n > 0
            and k % ALIGNED == n % ALIGNED == 0
        )
