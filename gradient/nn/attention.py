"""MultiheadAttention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradient import absent, dtypes
from gradient import functional as F
from gradient.dtypes import DType
from gradient.errors import ArgumentError, DTypeError, ShapeError, sentence
from gradient.functional.attention import attention_weights
from gradient.nn import init
from gradient.nn.linear import Linear
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.tensor import Tensor
from gradient.tensor.creation import empty, zeros
from gradient.tensor.device import DeviceLike
from gradient.tensor.joining import cat

__all__ = [
    "MultiheadAttention",
]


class MultiheadAttention(Module):
    """`concat(head_1, ...) W_o`, `head_i = softmax(q_i k_i^T / sqrt(d)) v_i` (Vaswani et al. 2017).

    q, k and v are projections of query (L, N, E), key (S, N, kdim) and value (S, N, vdim), cut into
    `num_heads` heads; with `batch_first` the batch N stands first; unbatched inputs have no N.
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: embed_dim {embed_dim} must be a positive multiple of "
                f"num_heads {num_heads}"
            )
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.batch_first = dropout, batch_first
        # As in PyTorch's checkpoints: one matrix for all three if their sizes agree, else three.
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        shapes: dict[str, tuple[int, ...] | None] = {
            "in_proj_weight": (3 * embed_dim, embed_dim),
            "q_proj_weight": None,
            "k_proj_weight": None,
            "v_proj_weight": None,
        }
        if not self._qkv_same_embed_dim:
            shapes = {
                "q_proj_weight": (embed_dim, embed_dim),
                "k_proj_weight": (embed_dim, self.kdim),
                "v_proj_weight": (embed_dim, self.vdim),
                "in_proj_weight": None,
            }
        shapes["in_proj_bias"] = (3 * embed_dim,) if bias else None
        for name, shape in shapes.items():
            value = None
            if shape is not None:
                value = Parameter(empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, value)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        self.bias_k: Parameter | None = None
        self.bias_v: Parameter | None = None
        if add_bias_kv:
            self.bias_k = Parameter(empty(1, 1, embed_dim, device=device, dtype=dtype))
            self.bias_v = Parameter(empty(1, 1, embed_dim, device=device, dtype=dtype))
        self.add_zero_attn = add_zero_attn
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Input projections Xavier uniform, biases zero, bias_k and bias_v Xavier normal."""
        for weight in (
            self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        ):  # fmt: skip
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The result, of query's shape, and the attention weights (N, L, S) if `need_weights`.

        In both masks True *forbids*, unlike in `scaled_dot_product_attention`; numbers are added.
        `key_padding_mask` (N, S) hides keys, `attn_mask` (L, S) or (N * num_heads, L, S) hides
        pairs. Weights are averaged over the heads, or (N, num_heads, L, S); with `add_bias_kv` and
        `add_zero_attn` they have a column more for each. `is_causal` is a hint
        that `attn_mask` is causal, and needs it.
        """
        batched = query.ndim == 3
        self._check(query, key, value, key_padding_mask, attn_mask, is_causal)
        if not batched:
            query, key, value = (tensor.unsqueeze(0) for tensor in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))

        q, k, v = self._project(query, key, value)  # each (N, H, L or S, D)
        mask = self._mask(q, k, attn_mask, key_padding_mask)
        k, v, mask = self._extended(k, v, mask)
        dropout_p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = attention_weights(q, k, mask, scale=1 / math.sqrt(self.head_dim))
            weights = F.dropout(weights, dropout_p)
            heads = weights @ v
        else:
            heads = F.scaled_dot_product_attention(q, k, v, mask, dropout_p)
        output = self.out_proj(heads.transpose(1, 2).flatten(2))  # (N, L, E)

        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _project(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value, each cut into heads: (N, H, T, D)."""
        if self.in_proj_weight is not None:
            weights: tuple[Any, ...] = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        projected = (
            F.linear(input, weight, bias)
            for input, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        return tuple(
            tensor.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for tensor in projected
        )

    def _extended(
        self, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values with a learned one (`bias_k`, `bias_v`) and one of zeros behind them, if
        there are such; every query may look there."""
        length = k.shape[2]
        if self.bias_k is not None and self.bias_v is not None:
            one = (k.shape[0], self.num_heads, 1, self.head_dim)
            k, v = (
                cat([tensor, bias.reshape(1, self.num_heads, 1, self.head_dim).expand(one)], 2)
                for tensor, bias in ((k, self.bias_k), (v, self.bias_v))
            )
        if self.add_zero_attn:
            zero = k.new_zeros((*k.shape[:2], 1, self.head_dim))
            k, v = cat([k, zero], 2), cat([v, zero], 2)
        added = k.shape[2] - length
        if mask is not None and added:
            seen = mask.dtype == dtypes.bool_
            fill = mask.new_full((*mask.shape[:-1], added), 1 if seen else 0)
            mask = cat([mask, fill], -1)
        return k, v, mask

    def _mask(
        self, q: Tensor, k: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None
    ) -> Tensor | None:
        """Both masks as one that broadcasts to (N, H, L, S): bool (True attends), or added."""
        batch, heads, length, _ = q.shape
        masks = []
        for name, mask in (("attn_mask", attn_mask), ("key_padding_mask", key_padding_mask)):
            if mask is not None and not (mask.dtype is dtypes.bool_ or mask.is_floating_point()):
                expected = f"{name} of bools or floats"
                raise DTypeError(sentence("MultiheadAttention", expected, mask.dtype))
        if attn_mask is not None:
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.reshape(batch, heads, length, k.shape[2])
            masks.append(attn_mask)
        if key_padding_mask is not None:
            masks.append(key_padding_mask.reshape(batch, 1, 1, k.shape[2]))
        if not masks:
            return None
        if all(mask.dtype == dtypes.bool_ for mask in masks):
            forbidden = masks[0] if len(masks) == 1 else masks[0] | masks[1]
            return ~forbidden
        zero = zeros((), dtype=q.dtype, device=q.device)
        numbers = [
            zero.masked_fill(mask, -math.inf) if mask.dtype == dtypes.bool_ else mask.to(q.dtype)
            for mask in masks
        ]
        return numbers[0] if len(numbers) == 1 else numbers[0] + numbers[1]

    def _check(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        is_causal: bool,
    ) -> None:
        name = "MultiheadAttention"
        if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
            raise ShapeError(
                f"{name}: query, key and value must all be batched (3 dimensions) or not (2), got "
                f"{query.ndim}, {key.ndim} and {value.ndim}"
            )
        for label, tensor, size in (
            ("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim)
        ):  # fmt: skip
            if tensor.shape[-1] != size:
                raise ShapeError(
                    f"{name}: expected {label} of size {size} in its last dimension, got "
                    f"{tuple(tensor.shape)}"
                )
        if is_causal and attn_mask is None:
            raise ShapeError(f"{name}: is_causal=True needs attn_mask as well")
        time, batch = (1, 0) if self.batch_first else (0, 1)
        batches = query.shape[batch] if query.ndim == 3 else 1
        if query.ndim == 3 and not batches == key.shape[batch] == value.shape[batch]:
            got = f"{batches}, {key.shape[batch]} and {value.shape[batch]}"
            raise ShapeError(
                sentence(name, "query, key and value of one batch size", f"{got} in dim {batch}")
            )
        length, keys = (
            (query.shape[time], key.shape[time])
            if query.ndim == 3
            else (query.shape[0], key.shape[0])
        )
        allowed = ((length, keys), (batches * self.num_heads, length, keys))
        if attn_mask is not None and tuple(attn_mask.shape) not in allowed:
            raise ShapeError(
                f"{name}: expected attn_mask {allowed[0]} or {allowed[1]}, "
                f"got {tuple(attn_mask.shape)}"
            )
        wanted = (batches, keys) if query.ndim == 3 else (keys,)
        if key_padding_mask is not None and tuple(key_padding_mask.shape) != wanted:
            raise ShapeError(
                f"{name}: expected key_padding_mask {wanted}, got {tuple(key_padding_mask.shape)}"
            )


__path__: list[str] = []  # `nn.attention.flex_attention` is found as a module of this one

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
