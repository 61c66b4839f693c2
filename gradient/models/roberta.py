"""RoBERTa (Liu et al. 2019, arXiv:1907.11692) and XLM-RoBERTa: BERT, trained otherwise.

Dimensions:
    B  batch    T  tokens    C  hidden_size    V  vocab_size
"""

from __future__ import annotations

from typing import ClassVar

import gradient
import gradient.functional as F
from gradient import nn
from gradient.checks import Relation
from gradient.models.bert import BertConfig, BertEmbeddings, BertModel, BertPreTrainedModel
from gradient.nn import init
from gradient.tensor import Tensor

__all__ = ["RobertaConfig", "RobertaForMaskedLM", "XLMRobertaConfig"]


class RobertaConfig(BertConfig):
    """The shape of a RoBERTa.

    The defaults are those of transformers' class. Positions are counted from the padding token's
    id + 1, as in the code of its training.
    """

    model_type = "roberta"
    gguf = None

    vocab_size: int = 50265
    bos_token_id: int | None = 0
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    @property
    def first_position(self) -> int:
        return 0 if self.pad_token_id is None else self.pad_token_id + 1

    relations: ClassVar[tuple[Relation, ...]] = (
        Relation(
            ("max_position_embeddings", "first_position"),
            lambda positions, first: positions > first,
            "max_position_embeddings must be more than {first_position}, where positions begin, "
            "got {max_position_embeddings}",
        ),
    )


class XLMRobertaConfig(RobertaConfig):
    """XLM-RoBERTa: RoBERTa for many languages (Conneau et al. 2019, arXiv:1911.02116)."""

    model_type = "xlm-roberta"

    vocab_size: int = 30522


class RobertaEmbeddings(BertEmbeddings):
    """BERT's embeddings, with positions that count only real tokens.

    All padding tokens have one position, which is not trained, wherever they are: a text gives
    the same result with padding on its left.
    """

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        pad = config.pad_token_id
        if pad is not None:
            sizes = config.max_position_embeddings, config.hidden_size
            self.position_embeddings = nn.Embedding(*sizes, padding_idx=pad)

    def positions(self, input_ids: Tensor) -> Tensor:
        pad = self.position_embeddings.padding_idx
        if pad is None:
            return super().positions(input_ids)
        real = (input_ids != pad).long()
        return real.cumsum(1) * real + pad  # (B, T)


class RobertaHead(nn.Module):
    """BERT's masked-language-model head under RoBERTa's names."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        C = config.hidden_size
        self.dense = nn.Linear(C, C)
        self.layer_norm = nn.LayerNorm(C, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(C, config.vocab_size)
        self.bias = nn.Parameter(gradient.zeros(config.vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        return self.decoder(self.layer_norm(F.gelu(self.dense(x))))


class RobertaForMaskedLM(BertPreTrainedModel):
    """RoBERTa or XLM-RoBERTa; see their configs."""

    config_class = RobertaConfig
    base_model_prefix = "roberta"
    ignored = (r"\.embeddings\.position_ids$", r"^\.(roberta\.)?(classifier|qa_outputs)\.")
    optional = ("roberta.pooler", "lm_head")
    tied = {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        with init.skip_init():  # the modules' own initial values would be overwritten below
            self.roberta = BertModel(config, RobertaEmbeddings)
            self.lm_head = RobertaHead(config)
        self.post_init()

    @property
    def head(self) -> RobertaHead | None:
        return self.lm_head
