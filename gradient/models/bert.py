"""BERT (Devlin et al. 2018, arXiv:1810.04805), and MiniLM, which is a small one.

Modules and config fields have the names of transformers' `BertForMaskedLM`. If a checkpoint lacks
the pooler or the masked-language-model head, the model has none either.

Dimensions:
    B  batch           T  tokens
    C  hidden_size     H  num_attention_heads     D  C / H, size of a head
    I  intermediate_size                          V  vocab_size
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import gradient
import gradient.functional as F
from gradient import nn
from gradient.models.activations import ACTIVATIONS
from gradient.models.config import (
    EncoderConfig,
    activation,
    false,
    limited,
    positive,
    probability,
    size,
)
from gradient.models.encoder import EncoderModel, real_tokens
from gradient.models.gguf import CONTEXT, LAYER_NORM_EPS, SIZES, Architecture, Metadata, Shapes
from gradient.nn import init
from gradient.tensor import Tensor

__all__ = ["BertConfig", "BertForMaskedLM"]


def read_gguf(values: dict[str, Any], metadata: Metadata, shapes: Shapes) -> None:
    """Set the number of token types from a weight's shape, as GGUF has no key for it."""
    values["type_vocab_size"] = shapes.get("token_types.weight", (2,))[0]


class BertConfig(EncoderConfig):
    """The shape of a BERT; the defaults are bert-base-uncased's."""

    model_type = "bert"
    gguf: ClassVar[Architecture | None] = Architecture(
        "bert",
        (CONTEXT, *SIZES, LAYER_NORM_EPS),
        {
            "token_embd": "bert.embeddings.word_embeddings",
            "token_types": "bert.embeddings.token_type_embeddings",
            "position_embd": "bert.embeddings.position_embeddings",
            "token_embd_norm": "bert.embeddings.LayerNorm",
        },
        {
            "attn_q": "attention.self.query",
            "attn_k": "attention.self.key",
            "attn_v": "attention.self.value",
            "attn_output": "attention.output.dense",
            "attn_output_norm": "attention.output.LayerNorm",
            "ffn_up": "intermediate.dense",
            "ffn_down": "output.dense",
            "layer_output_norm": "output.LayerNorm",
        },
        layers="bert.encoder.layer",
        fixed={"hidden_act": ("gelu", "gelu_python"), "position_embedding_type": "absolute"},
        rope=False,
        dropped=(r"^bert\.pooler\.", r"^cls\."),
        read=read_gguf,
        constants={"attention.causal": False},  # every token sees all others
    )

    vocab_size: int = size(30522)
    hidden_size: int = size(768)
    num_hidden_layers: int = size(12)
    num_attention_heads: int = size(12)
    intermediate_size: int = size(3072)
    hidden_act: str = activation("gelu")
    hidden_dropout_prob: float = probability(0.1)
    attention_probs_dropout_prob: float = probability(0.1)
    max_position_embeddings: int = size(512)
    type_vocab_size: int = size(2)
    layer_norm_eps: float = positive(1e-12)
    is_decoder: bool = false("only encoders are supported")
    add_cross_attention: bool = false("only encoders are supported")
    position_embedding_type: str = limited(
        "absolute", "'absolute'", lambda value: value == "absolute"
    )

    @property
    def first_position(self) -> int:
        """Return the position of a row's first token."""
        return 0


class BertEmbeddings(nn.Module):
    """Embeddings of a token, its position and its text (first or second), added and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        C = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, C, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, C)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, C)
        self.LayerNorm = nn.LayerNorm(C, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def positions(self, input_ids: Tensor) -> Tensor:
        """Return the positions of the tokens (B, T): (T,), or (B, T) if rows differ."""
        return gradient.arange(input_ids.shape[1], device=input_ids.device)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Token ids and types (B, T) -> (B, T, C)."""
        positions = self.positions(input_ids)
        if token_type_ids is None:
            token_type_ids = gradient.zeros_like(positions)
        x = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        x = x + self.position_embeddings(positions)
        return self.dropout(self.LayerNorm(x))


class BertSelfAttention(nn.Module):
    """Attention of H heads among all real tokens of a row (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        C = config.hidden_size
        self.heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.query = nn.Linear(C, C)
        self.key = nn.Linear(C, C)
        self.value = nn.Linear(C, C)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Hidden states (B, T, C), mask (B, 1, 1, T) or None -> (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (
            project(x).view(B, T, self.heads, -1).transpose(1, 2)  # (B, H, T, D)
            for project in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return y.transpose(1, 2).reshape(B, T, C)


class BertResidual(nn.Module):
    """A linear layer; its result is added to the residual stream, and the sum is normalised."""

    def __init__(self, config: BertConfig, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Input (B, T, size) of the layer and residual stream (B, T, C) -> (B, T, C)."""
        return self.LayerNorm(self.dropout(self.dense(y)) + x)


class BertAttention(nn.Module):
    """Attention with its output projection."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertResidual(config, config.hidden_size)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.output(self.self(x, mask), x)


class BertTransform(nn.Module):
    """A linear layer and an activation."""

    def __init__(self, config: BertConfig, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, size)
        self.act = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., size)."""
        return self.act(self.dense(x))


class BertLayer(nn.Module):
    """A post-norm transformer block: attention, then two linear layers."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertTransform(config, config.intermediate_size)
        self.output = BertResidual(config, config.intermediate_size)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class BertEncoder(nn.Module):
    """The blocks, one after the other."""

    def __init__(self, config: Any, block: Callable[[Any], nn.Module] = BertLayer) -> None:
        super().__init__()
        self.layer = nn.ModuleList([block(config) for _ in range(config.num_hidden_layers)])

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        for layer in self.layer:
            x = layer(x, mask)
        return x


class BertPooler(nn.Module):
    """One vector for a text: the first token's hidden state, through a linear layer and tanh."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, C)."""
        return F.tanh(self.dense(x[:, 0]))


class BertModel(nn.Module):
    """Token ids to hidden states."""

    def __init__(
        self, config: BertConfig, embeddings_class: type[BertEmbeddings] = BertEmbeddings
    ) -> None:
        super().__init__()
        self.embeddings = embeddings_class(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config)

    def forward(
        self, input_ids: Tensor, real: Tensor | None, token_type_ids: Tensor | None
    ) -> Tensor:
        """Token ids, a mask of real tokens and token types, each (B, T) -> (B, T, C)."""
        mask = None if real is None else real.unsqueeze(1).unsqueeze(1)  # (B, 1, 1, T)
        return self.encoder(self.embeddings(input_ids, token_type_ids), mask)


class BertPredictionTransform(BertTransform):
    """The hidden layer of the masked-language-model head."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.LayerNorm(super().forward(x))


class BertPredictions(nn.Module):
    """The masked-language-model head: predicts each token (Devlin et al. 2018, 3.1)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = BertPredictionTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(gradient.zeros(config.vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        return self.decoder(self.transform(x))


class BertHeads(nn.Module):
    """The heads of pretraining; only the masked-language-model head is used here."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.predictions = BertPredictions(config)


class BertPreTrainedModel(EncoderModel):
    """The methods that BERT and RoBERTa share."""

    @property
    def context_length(self) -> int:
        """Return the maximum number of tokens in a row: the number of position embeddings."""
        return self.config.max_position_embeddings - self.config.first_position

    def forward(
        self,
        input_ids: Tensor,
        *,
        lengths: Sequence[int] | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Token ids (B, T) -> hidden states (B, T, C); see `EncoderModel`.

        Args:
            token_type_ids: (B, T), 1 for the tokens of the second of two texts; None: 0 for all.
        """
        real = real_tokens(input_ids, lengths, attention_mask, self.context_length)
        return self.base_model(input_ids, real, token_type_ids)

    def pool(self, hidden: Tensor) -> Tensor:
        """Return a vector for each text, from its first token: (B, T, C) -> (B, C)."""
        pooler = self.base_model.pooler
        return super().pool(hidden) if pooler is None else pooler(hidden)

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Return logits of the tokens: hidden states (B, T, C) -> (B, T, V)."""
        return super().compute_logits(hidden) if self.head is None else self.head(hidden)


class BertForMaskedLM(BertPreTrainedModel):
    """BERT: hidden states, and with the head on top of them the logits of masked tokens.

    Example:
        >>> model = BertForMaskedLM(BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2,
        ...                                    num_attention_heads=2, intermediate_size=64))
        >>> hidden = model(gradient.tensor([[1, 2, 3], [4, 5, 0]]), lengths=[3, 2])
        >>> hidden.shape, model.pool(hidden).shape, model.compute_logits(hidden).shape
        (Size([2, 3, 32]), Size([2, 32]), Size([2, 3, 50]))
    """

    config_class = BertConfig
    base_model_prefix = "bert"
    renamed = {r"\.gamma$": ".weight", r"\.beta$": ".bias"}  # old TensorFlow names
    ignored = (
        r"\.embeddings\.position_ids$",
        r"^\.(bert\.)?(cls\.seq_relationship|classifier|qa_outputs)\.",  # other tasks' heads
    )
    optional = ("bert.pooler", "cls")
    tied = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        with init.skip_init():  # the modules' own initial values would be overwritten below
            self.bert = BertModel(config)
            self.cls = BertHeads(config)
        self.post_init()

    @property
    def head(self) -> BertPredictions | None:
        return None if self.cls is None else self.cls.predictions
