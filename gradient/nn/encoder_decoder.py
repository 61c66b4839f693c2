"""Transformer: an encoder and a decoder that attends to its output."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gradient import functional as F
from gradient.dtypes import DType
from gradient.errors import ShapeError, sentence
from gradient.nn import init
from gradient.nn.module import Module
from gradient.nn.normalization import LayerNorm
from gradient.nn.transformer import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from gradient.tensor import Tensor
from gradient.tensor.creation import full
from gradient.tensor.device import DeviceLike

__all__ = ["Transformer"]


class Transformer(Module):
    """An encoder for `src` (S, N, E) and a decoder for `tgt` (T, N, E), whose result is (T, N, E);
    each has a norm after its last layer (Vaswani et al. 2017).

    With `batch_first` the shapes are (N, S, E) and (N, T, E); inputs without a batch have no N.
    `custom_encoder` and `custom_decoder` replace the encoder and the decoder.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        made: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        layer = (
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
            norm_first,
        )  # fmt: skip
        self.encoder: Module
        self.decoder: Module
        if custom_encoder is not None:
            self.encoder = custom_encoder
        else:
            self.encoder = TransformerEncoder(
                TransformerEncoderLayer(*layer, **made),
                num_encoder_layers,
                LayerNorm(d_model, layer_norm_eps, **made),
            )
        if custom_decoder is not None:
            self.decoder = custom_decoder
        else:
            self.decoder = TransformerDecoder(
                TransformerDecoderLayer(*layer, **made),
                num_decoder_layers,
                LayerNorm(d_model, layer_norm_eps, **made),
            )
        self._reset_parameters()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def _reset_parameters(self) -> None:
        """Draw all matrices from the Xavier uniform distribution."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The decoder's result, of tgt's shape; masks as in `MultiheadAttention`."""
        batch = 0 if self.batch_first else 1
        if src.ndim == 3 and tgt.ndim == 3 and src.shape[batch] != tgt.shape[batch]:
            got = f"{src.shape[batch]} and {tgt.shape[batch]}"
            raise ShapeError(sentence("Transformer", "src and tgt of one batch size", got))
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            expected = f"src and tgt of {self.d_model} features"
            got = f"{src.shape[-1]} and {tgt.shape[-1]}"
            raise ShapeError(sentence("Transformer", expected, got))
        memory = self.encoder(
            src,
            mask=src_mask,
            src_key_padding_mask=src_key_padding_mask,
            is_causal=src_is_causal,
        )
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=bool(tgt_is_causal),
            memory_is_causal=memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(
        sz: int, device: DeviceLike = None, dtype: DType | None = None
    ) -> Tensor:
        """Return the causal mask (sz, sz): -inf above the diagonal, else 0."""
        return full((sz, sz), -math.inf, device=device, dtype=dtype).triu(1)
