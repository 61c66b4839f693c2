"""Rules for matrix products and convolutions: one product of all samples where possible."""

from __future__ import annotations

import math
from typing import Any

from gradient.backends.batched.array import BatchedArray
from gradient.backends.batched.base import Batching, rows_of
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape
from gradient.dtypes import HALF_PRECISION


class ProductRules(Batching):
    """matmul, linear, convolution and their gradients."""

    def matmul(self, a: Any, b: Any) -> Any:
        (x, of_a), (y, of_b) = self.split(a), self.split(b)
        inner, n, m = self.inner, len(a.shape), len(b.shape)
        if not of_a and not of_b:
            return self.shared(inner.matmul(x, y))
        if n < 2 or m < 2:
            return self._of_vectors(a, b)
        if of_b:
            if not of_a and n == 2 and b.shape[-1] == 1:  # vectors: rows of one product
                rows = inner.reshape(y, (*y.shape[:-2], y.shape[-2]))
                out = inner.matmul(rows, inner.permute(x, (1, 0))) if m == 2 else None
                if out is not None:
                    return self.batch(inner.reshape(out, (*out.shape, 1)))
            (x, y), _ = self.aligned(a, b)
            return self.batch(inner.matmul(x, y))
        if m == 2:
            rows = inner.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
            out = inner.matmul(rows, y)
            return self.batch(inner.reshape(out, (*x.shape[:-1], out.shape[-1])))
        (x, y), _ = self.aligned(a, b)
        return self.batch(inner.matmul(x, y))

    def _of_vectors(self, a: Any, b: Any) -> Any:
        """A product with vectors, by matrices of one row or column."""
        one, other = len(a.shape) == 1, len(b.shape) == 1
        a = self.reshape(a, (1, *a.shape)) if one else a
        b = self.reshape(b, (*b.shape, 1)) if other else b
        out = self.matmul(a, b)
        shape = list(out.shape)
        if other:
            del shape[-1]
        if one:
            del shape[len(shape) - (1 if other else 2)]
        return self.reshape(out, tuple(shape))

    # Linear layers -------------------------------------------------------------------------------

    def linear(self, x: Any, weight: Any, bias: Any = None) -> Any:
        (rows, of_x), (w, of_weight) = self.split(x), self.split(weight)
        b, of_bias = self.split(bias)
        if not of_weight:
            if not of_bias:
                return BatchedArray(self, self.inner.linear(rows, w, b), of_x)
            if x.dtype in HALF_PRECISION:  # the sum is rounded once
                return super().linear(x, weight, bias)
            return BatchedArray(self, self.inner.linear(rows, w), of_x) + bias
        if bias is not None and x.dtype in HALF_PRECISION:
            return super().linear(x, weight, bias)
        out = self._rows_times(rows, of_x, rows_of(x), self.inner.permute(w, (0, 2, 1)))
        y = self.batch(self.inner.reshape(out, (out.shape[0], *x.shape[:-1], out.shape[-1])))
        return y if bias is None else y + bias

    def _rows_times(self, rows: Any, batched: bool, count: int, matrices: Any) -> Any:
        """(B, count, N): the rows (..., K) of each sample times its matrix (K, N)."""
        lead = rows.shape[:1] if batched else ()
        rows = self.inner.reshape(rows, (*lead, count, rows.shape[-1]))
        return self.inner.matmul(rows, matrices)

    def linear_input_grad(self, g: Any, weight: Any) -> Any:
        (rows, of_g), (w, of_weight) = self.split(g), self.split(weight)
        if not of_weight:
            return BatchedArray(self, self.inner.linear_input_grad(rows, w), of_g)
        out = self._rows_times(rows, of_g, rows_of(g), w)
        return self.batch(self.inner.reshape(out, (out.shape[0], *g.shape[:-1], out.shape[-1])))

    def linear_weight_grad(self, g: Any, x: Any) -> Any:
        (given, of_g), (rows, of_x) = self.split(g), self.split(x)
        inner, count = self.inner, rows_of(x)
        if not of_g and not of_x:
            return self.shared(inner.linear_weight_grad(given, rows))
        n, k = g.shape[-1], x.shape[-1]
        lead_g, lead_x = given.shape[:1] if of_g else (), rows.shape[:1] if of_x else ()
        given = inner.matrix_transpose(inner.reshape(given, (*lead_g, count, n)))
        return self.batch(inner.matmul(given, inner.reshape(rows, (*lead_x, count, k))))

    def quantized_matmul(self, x: Any, weight: Any) -> Any:
        (value, batched), (packed, _) = self.split(x), self.split(weight)
        return BatchedArray(self, self.inner.quantized_matmul(value, packed), batched)

    def quantized_matmul_grad(self, g: Any, weight: Any) -> Any:
        (value, batched), (packed, _) = self.split(g), self.split(weight)
        return BatchedArray(self, self.inner.quantized_matmul_grad(value, packed), batched)

    # Convolutions --------------------------------------------------------------------------------

    def convolution(self, x: Any, weight: Any, bias: Any, options: ConvolutionOptions) -> Any:
        if not self.is_batched(x, weight, bias):
            return self.shared(self.inner.convolution(*self.values(x, weight, bias), options))
        if self.is_batched(weight, bias):
            return self.each("convolution", (x, weight, bias), options)
        out = self.inner.convolution(self.merged(x), *self.values(weight, bias), options)
        return self.unmerged(out, x.shape[0])

    def convolution_input_grad(
        self, g: Any, weight: Any, shape: Shape, options: ConvolutionOptions
    ) -> Any:
        if not self.is_batched(g, weight):
            return self.shared(
                self.inner.convolution_input_grad(*self.values(g, weight), shape, options)
            )
        if self.is_batched(weight):
            return self.each("convolution_input_grad", (g, weight), shape, options)
        rows = self.merged(g)
        out = self.inner.convolution_input_grad(
            rows, self.values(weight)[0], (rows.shape[0], *shape[1:]), options
        )
        return self.unmerged(out, shape[0])

    def convolution_weight_grad(
        self, g: Any, x: Any, shape: Shape, options: ConvolutionOptions
    ) -> Any:
        if not self.is_batched(g, x):
            return self.shared(
                self.inner.convolution_weight_grad(*self.values(g, x), shape, options)
            )
        return self.each("convolution_weight_grad", (g, x), shape, options)
