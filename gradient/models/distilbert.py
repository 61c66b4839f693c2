"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108): half of BERT's layers, distilled from it.

It has neither token types nor a pooler. Modules and config fields have the names of transformers'
`DistilBertForMaskedLM`.

Dimensions:
    B  batch    T  tokens        C  dim              V  vocab_size
    I  hidden_dim                H  n_heads          D  C / H, size of a head
"""

from __future__ import annotations

from collections.abc import Sequence

import gradient
import gradient.functional as F
from gradient import nn
from gradient.errors import ArgumentError
from gradient.models.activations import ACTIVATIONS, MLP
from gradient.models.bert import BertEncoder
from gradient.models.config import EncoderConfig, activation, probability, size
from gradient.models.encoder import EncoderModel, real_tokens
from gradient.nn import init
from gradient.tensor import Tensor

__all__ = ["DistilBertConfig", "DistilBertForMaskedLM"]

EPS = 1e-12  # the epsilon of every norm; config.json has no key for it


class DistilBertConfig(EncoderConfig):
    """The shape of a DistilBERT; the defaults are distilbert-base-uncased's."""

    model_type = "distilbert"
    aliases = {
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    }

    vocab_size: int = size(30522)
    max_position_embeddings: int = size(512)
    n_layers: int = size(6)
    n_heads: int = size(12)
    dim: int = size(768)
    hidden_dim: int = size(4 * 768)
    dropout: float = probability(0.1)
    attention_dropout: float = probability(0.1)
    activation: str = activation("gelu")


class DistilBertEmbeddings(nn.Module):
    """Embeddings of a token and its position, added and normalised."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        C, pad = config.dim, config.pad_token_id
        self.word_embeddings = nn.Embedding(config.vocab_size, C, padding_idx=pad)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, C)
        self.LayerNorm = nn.LayerNorm(C, eps=EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Token ids (B, T) -> (B, T, C)."""
        positions = gradient.arange(input_ids.shape[1], device=input_ids.device)
        x = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        return self.dropout(self.LayerNorm(x))


class DistilBertAttention(nn.Module):
    """Attention of H heads among all real tokens of a row (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.heads = config.n_heads
        self.dropout = config.attention_dropout
        self.q_lin = nn.Linear(config.dim, config.dim)
        self.k_lin = nn.Linear(config.dim, config.dim)
        self.v_lin = nn.Linear(config.dim, config.dim)
        self.out_lin = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Hidden states (B, T, C), mask (B, 1, 1, T) or None -> (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (
            project(x).view(B, T, self.heads, -1).transpose(1, 2)  # (B, H, T, D)
            for project in (self.q_lin, self.k_lin, self.v_lin)
        )
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_lin(y.transpose(1, 2).reshape(B, T, C))


class DistilBertBlock(nn.Module):
    """A post-norm transformer block: attention, then two linear layers."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.attention = DistilBertAttention(config)
        self.sa_layer_norm = nn.LayerNorm(config.dim, eps=EPS)
        self.ffn = MLP(config.dim, config.hidden_dim, config.activation, ("lin1", "lin2"))
        self.dropout = nn.Dropout(config.dropout)
        self.output_layer_norm = nn.LayerNorm(config.dim, eps=EPS)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = self.sa_layer_norm(self.attention(x, mask) + x)
        return self.output_layer_norm(self.dropout(self.ffn(x)) + x)


class DistilBertModel(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.embeddings = DistilBertEmbeddings(config)
        self.transformer = BertEncoder(config, DistilBertBlock)

    def forward(self, input_ids: Tensor, real: Tensor | None) -> Tensor:
        """Token ids and a mask of real tokens, each (B, T) -> (B, T, C)."""
        mask = None if real is None else real.unsqueeze(1).unsqueeze(1)  # (B, 1, 1, T)
        return self.transformer(self.embeddings(input_ids), mask)


class DistilBertForMaskedLM(EncoderModel):
    """DistilBERT: hidden states, and with the head on top of them the logits of masked tokens."""

    config_class = DistilBertConfig
    base_model_prefix = "distilbert"
    ignored = (
        r"\.embeddings\.position_ids$",
        r"^\.(distilbert\.)?(pre_classifier|classifier|qa_outputs)\.",  # other tasks' heads
    )
    optional = ("vocab_transform", "vocab_layer_norm", "vocab_projector")
    tied = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.act = ACTIVATIONS[config.activation]
        with init.skip_init():  # the modules' own initial values would be overwritten below
            self.distilbert = DistilBertModel(config)
            self.vocab_transform = nn.Linear(config.dim, config.dim)
            self.vocab_layer_norm = nn.LayerNorm(config.dim, eps=EPS)
            self.vocab_projector = nn.Linear(config.dim, config.vocab_size)
        self.post_init()

    @property
    def head(self) -> nn.Module | None:
        return self.vocab_projector

    def forward(
        self,
        input_ids: Tensor,
        *,
        lengths: Sequence[int] | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Token ids (B, T) -> hidden states (B, T, C); see `EncoderModel`.

        Raises:
            ArgumentError: `token_type_ids` are given, which this model does not support.
        """
        if token_type_ids is not None:
            raise ArgumentError("token_type_ids: expected None, as DistilBERT has no token types")
        real = real_tokens(input_ids, lengths, attention_mask, self.context_length)
        return self.base_model(input_ids, real)

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Return logits of the tokens: hidden states (B, T, C) -> (B, T, V)."""
        if self.head is None:
            return super().compute_logits(hidden)
        return self.vocab_projector(self.vocab_layer_norm(self.act(self.vocab_transform(hidden))))
