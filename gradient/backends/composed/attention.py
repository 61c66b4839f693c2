"""Linear layers, embeddings, rotary positions and scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradient.backends.composed.norms import NormDefaults
from gradient.backends.composed.packed import PackedDefaults
from gradient.backends.composed.precision import in_float32
from gradient.backends.options import AttentionOptions
from gradient.backends.packed import PackedArray, is_packed
from gradient.backends.required import Array, RequiredMethods
from gradient.dtypes import HALF_PRECISION, float32, int64

INT64 = int64.numpy


def _rows(be: RequiredMethods[Array], x: Array) -> Array:
    """(..., K) as a matrix of all rows. The number of rows is not inferred (-1), as K may be 0."""
    if len(x.shape) == 2:
        return x
    return be.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


class AttentionDefaults(PackedDefaults[Array], NormDefaults[Array]):
    """Methods of `Backend` for transformers."""

    # Linear and embedding ------------------------------------------------------------------------

    def linear(self, x: Array, weight: Array | PackedArray, bias: Array | None = None) -> Array:
        """x (..., K) @ weight (N, K).T + bias (N,), as one matrix product over all rows."""
        if bias is not None and x.dtype in HALF_PRECISION:  # else the sum would be rounded twice
            wide = float32.numpy
            if not is_packed(weight):
                weight = self.astype(weight, wide)
            y = self.linear(self.astype(x, wide), weight, self.astype(bias, wide))
            return self.astype(y, x.dtype)
        if is_packed(weight):
            y = self.quantized_matmul(x, weight)
            return y if bias is None else y + bias
        rows = _rows(self, x)
        y = self.matmul(rows, self.permute(weight, (1, 0)))
        if bias is not None:
            y = y + bias
        return self.reshape(y, (*x.shape[:-1], weight.shape[0])) if len(x.shape) != 2 else y

    def linear_activation(
        self, x: Array, weight: Array | PackedArray, bias: Array, activation: str
    ) -> Array:
        """`linear`, then an activation: "relu", or "gelu_tanh" for `gelu` by tanh. Only plans make
        this call; kernels round once for both."""
        y = self.linear(x, weight, bias)
        return self.relu(y) if activation == "relu" else self.gelu(y, "tanh")

    def projections(
        self,
        x: Array,
        weights: Sequence[Array | PackedArray],
        norm: Array | None = None,
        eps: float = 0.0,
        round_first: bool = False,
        gated: bool = False,
        residual: Array | None = None,
    ) -> tuple[Array, ...]:
        """`linear` of x with each of the weights; with a weight `norm`, of the `rms_norm` of x.
        Only plans make this call, for kernels that compute it in one launch.

        If `gated`, there are two weights and one result: `silu` of the first product times the
        second. A `residual` is added to the only product. No call of the plan makes or writes the
        weights or `norm`, so kernels may read these before earlier calls have ended.
        """
        if norm is not None:
            x = self.rms_norm(x, norm, eps, round_first)[0]
        products = tuple(self.linear(x, weight) for weight in weights)
        if gated:
            gate, up = products
            products = (self.silu(gate) * up,)
        if residual is not None:
            (product,) = products
            products = (residual + product,)
        return products

    def linear_input_grad(self, g: Array, weight: Array | PackedArray) -> Array:
        """The gradient (..., K) for x from g (..., N) and weight (N, K)."""
        if is_packed(weight):
            return self.quantized_matmul_grad(g, weight)
        return self.linear(g, self.permute(weight, (1, 0)))

    def linear_weight_grad(self, g: Array, x: Array) -> Array:
        """The gradient (N, K) for the weight from g (..., N) and x (..., K)."""
        return self.matmul(self.permute(_rows(self, g), (1, 0)), _rows(self, x))

    def embedding(self, weight: Array | PackedArray, indices: Array) -> Array:
        """Rows of weight (V, D) at int64 indices (...) -> (..., D)."""
        self.check_indices(indices, 0, weight.shape[0])
        if is_packed(weight):
            return self.quantized_embedding(weight, indices)
        return self.getitem(weight, (indices,))

    def embedding_grad(self, g: Array, indices: Array, num_embeddings: int) -> Array:
        """The gradient (V, D) for the weight: rows of g, summed for repeated indices."""
        return self.index_add(self.cleared((num_embeddings, g.shape[-1]), g.dtype), (indices,), g)

    # Rotary positions ----------------------------------------------------------------------------

    @in_float32
    def rope(self, x: Array, cos: Array, sin: Array, interleaved: bool = False) -> Array:
        """Rotate pairs of x's last axis by the angles of its position (Su et al. 2021, section
        3.4).

        x (..., T, D); cos and sin broadcast to (..., T, R/2). Of the D columns, the first R are
        rotated in pairs (i, i + R/2), or (2i, 2i + 1) if `interleaved`; the others are copied. The
        gradient is the rotation by the opposite angle.
        """
        half = cos.shape[-1]
        rotated = 2 * half
        if rotated > x.shape[-1]:
            raise ValueError(f"expected at most {x.shape[-1]} columns' angles, got {rotated}")
        if interleaved:
            first, second = slice(0, rotated, 2), slice(1, rotated, 2)
        else:
            first, second = slice(0, half), slice(half, rotated)
        a, b = self.getitem(x, (..., first)), self.getitem(x, (..., second))
        parts = [a * cos - b * sin, b * cos + a * sin]
        if interleaved:
            parts = [self.reshape(self.stack(parts, -1), (*x.shape[:-1], rotated))]
        if rotated < x.shape[-1]:
            parts.append(self.getitem(x, (..., slice(rotated, None))))
        return self.concatenate(parts, -1) if len(parts) > 1 else parts[0]

    # Attention -----------------------------------------------------------------------------------

    def _scores(self, q: Array, k: Array, options: AttentionOptions) -> Array:
        """scale q k^T with softcap, (B, Hk, G, T, S), for G query heads per key head."""
        b, h, t, d = q.shape
        heads, s = k.shape[1], k.shape[2]
        q = self.reshape(q, (b, heads, h // heads, t, d))
        k = self.reshape(self.permute(k, (0, 1, 3, 2)), (b, heads, 1, d, s))
        scores, softcap = self.matmul(q * options.scale, k), options.softcap
        return scores if softcap is None else softcap * self.tanh(scores / softcap)

    def _masked(self, scores: Array, mask: Array | None, options: AttentionOptions) -> Array:
        """The scores (B, Hk, G, T, S) with the mask added, or -inf where it is False."""
        heads, groups, t, s = scores.shape[1:]
        if options.is_causal:
            row = self.reshape(self.arange(0, t, 1, INT64), (t, 1))
            column = self.arange(0, s, 1, INT64)
            mask = column <= row
            if options.window is not None:
                mask = mask & (column > row - options.window)
        if mask is None:
            return scores
        if len(mask.shape) == 4:
            groups = groups if mask.shape[1] == heads * groups else 1
            mask = self.reshape(
                mask, (mask.shape[0], mask.shape[1] // groups, groups, *mask.shape[2:])
            )
        if str(mask.dtype).endswith("bool"):
            return self.where(mask, scores, self.full((), float("-inf"), scores.dtype))
        return scores + mask

    @in_float32
    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None = None,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> tuple[Array, Array, Array]:
        """softmax(scale q k^T + mask) v, and for each row its largest score and the logarithm of
        the sum of e^(score - largest) (Vaswani et al. 2017, 3.2.1). (These are not added, as a
        large score would absorb the digits of the logarithm.)

        q (B, H, T, D), k (B, Hk, S, D), v (B, Hk, S, E), where Hk divides H (grouped queries).
        `mask` broadcasts to (B, H, T, S): bool (True attends), or added to scores; there is none if
        `is_causal`. A fully masked row gives zeros, and inf for the logarithm. Returns
        (B, H, T, E) and twice (B, H, T, 1).
        """
        if not k.shape[2]:  # no keys: every row is fully masked
            none = self.zeros((*q.shape[:3], 1), q.dtype)
            return self.zeros((*q.shape[:3], v.shape[-1]), q.dtype), none, none + math.inf
        scores = self._masked(self._scores(q, k, options), mask, options)
        high = self.detach(self.max(scores, -1, True))
        high = self.where(self.isfinite(high), high, self.zeros_like(high))
        p = self.exp(scores - high)
        total = self.sum(p, -1, True)
        empty = total == 0
        total = self.where(empty, self.ones_like(total), total)
        out = self.matmul(p / total, self.unsqueeze(v, 2))
        log_sum = self.where(empty, self.full((), float("inf"), total.dtype), self.log(total))
        rows = (*q.shape[:3], 1)
        out = self.reshape(out, (*q.shape[:3], v.shape[-1]))
        return out, self.reshape(high, rows), self.reshape(log_sum, rows)

    @in_float32
    def attention_grad(
        self,
        g: Array,
        q: Array,
        k: Array,
        v: Array,
        out: Array,
        high: Array,
        log_sum: Array,
        mask: Array | None = None,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> tuple[Array, Array, Array]:
        """Gradients for q, k, v. The probabilities are recomputed from the saved maximum and
        logarithm, so that no (T, S) array is kept after the forward pass (Dao et al. 2022,
        algorithm 4). A kernel for 16-bit floats may also round the gradients for k and v, as the
        engine would."""
        b, h, t, d = q.shape
        heads, e = k.shape[1], v.shape[-1]
        grouped = (b, heads, h // heads, t)
        delta = self.reshape(self.sum(g * out, -1, True), (*grouped, 1))
        capped = self._scores(q, k, options)
        scores = self._masked(capped, mask, options)
        high, log_sum = self.reshape(high, (*grouped, 1)), self.reshape(log_sum, (*grouped, 1))
        p = self.exp((scores - high) - log_sum)
        g = self.reshape(g, (*grouped, e))
        gv = self.sum(self.matmul(self.matrix_transpose(p), g), 2)
        gs = (
            p
            * (self.matmul(g, self.unsqueeze(self.matrix_transpose(v), 2)) - delta)
            * options.scale
        )
        if options.softcap is not None:
            gs = gs * (1 - (capped / options.softcap) ** 2)
        gq = self.reshape(self.matmul(gs, self.unsqueeze(k, 2)), q.shape)
        gk = self.sum(self.matmul(self.matrix_transpose(gs), self.reshape(q, (*grouped, d))), 2)
        return gq, gk, gv
