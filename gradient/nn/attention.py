"""MultiheadAttention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradient import absent
from gradient.dtypes import DType
from gradient.errors import FailedCheck
from gradient.functional.multi_head_attention import multi_head_attention
from gradient.nn import init
from gradient.nn.linear import Linear
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of, size_argument, tensor_of
from gradient.tensor.creation import empty
from gradient.tensor.device import DeviceLike

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """`concat(head_1, ...) W_o`, `head_i = softmax(q_i k_i^T / sqrt(d)) v_i` (Vaswani et al. 2017).

    q, k and v are projections of query (L, N, E), key (S, N, kdim) and value (S, N, vdim), split
    into `num_heads` heads. E is `embed_dim`, N the batch size, L and S are the numbers of queries
    and keys. With `batch_first` the shapes are (N, L, E) and so on; inputs without a batch have no
    N.
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
        name = "MultiheadAttention"
        int_of(name, "embed_dim", embed_dim)
        int_of(name, "num_heads", num_heads)
        for label, size in {"kdim": kdim, "vdim": vdim}.items():
            if size is not None:
                size_argument(name, label, size)
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise FailedCheck(
                f"{name}: embed_dim {embed_dim} must be a positive multiple of "
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
        """Draw projections (Xavier uniform), bias_k and bias_v (Xavier normal); biases are zero."""
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
        """Return the result, of the query's shape, and the attention weights, or None.

        A True in a mask *forbids* attention, unlike in `scaled_dot_product_attention`; numbers are
        added to the scores.

        Args:
            key_padding_mask: (N, S), masks keys.
            need_weights: return the attention weights (N, L, S), with one more column for
                `add_bias_kv` and one for `add_zero_attn`.
            attn_mask: (L, S) or (N * num_heads, L, S), masks pairs of query and key.
            average_attn_weights: average the weights over heads; otherwise (N, num_heads, L, S).
            is_causal: a hint that `attn_mask`, which must be given, is causal.
        """
        for label, tensor in {"query": query, "key": key, "value": value}.items():
            tensor_of("MultiheadAttention", tensor, label)
        if self.batch_first and query.ndim == 3:
            query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
        weights = self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        heads, shares = multi_head_attention(
            query, key, value, self.embed_dim, self.num_heads, weights, self.in_proj_bias,
            self.bias_k, self.bias_v, self.add_zero_attn, self.dropout if self.training else 0.0,
            key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal,
            name="MultiheadAttention",
        )  # fmt: skip
        output = self.out_proj(heads)  # (L, N, E) or (L, E)
        return output.transpose(0, 1) if self.batch_first and query.ndim == 3 else output, shares


__path__: list[str] = []  # `nn.attention.flex_attention` is found as a module of this one

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
