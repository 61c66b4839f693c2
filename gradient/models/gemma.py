"""Gemma 1, 2 and 3 (Gemma Team 2024, arXiv:2403.08295 and 2408.00118; 2025, arXiv:2503.19786).

Modules have the names of transformers' `GemmaForCausalLM`, `Gemma2ForCausalLM` and
`Gemma3ForCausalLM`; `gradient.models.gemma_config` holds their options. All have norms that
multiply by 1 + weight, scaled embeddings, and a gated MLP with GELU. Compared with Gemma 1,

    Gemma 2 adds norms after attention and MLP, soft caps of scores and logits, and windows in every
            second layer;
    Gemma 3 has norms of queries and keys instead of the soft caps, five layers with a window for
            each without one, and separate rotary positions for these two kinds.

Of a multimodal Gemma 3 only the language model is loaded, which reads text; images are refused.

Dimensions:
    B  batch          T  new tokens
    C  hidden_size    V  vocab_size
    H  num_attention_heads, H_kv  num_key_value_heads, each of size D (head_dim)
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np

import gradient.functional as F
from gradient import nn
from gradient.models.gemma_config import Gemma2Config, Gemma3Config, GemmaConfig
from gradient.models.llama import LlamaAttention, LlamaForCausalLM, LlamaRMSNorm
from gradient.models.llama_config import LlamaFamilyConfig
from gradient.nn import init
from gradient.tensor import Tensor

__all__ = ["Gemma2Config", "Gemma3Config", "Gemma3ForCausalLM", "GemmaConfig", "GemmaForCausalLM"]


class GemmaRMSNorm(LlamaRMSNorm):
    """`x / sqrt(mean(x^2) + eps) * (1 + weight)` over the last axis, in float32, then rounded.

    LLaMA's norm rounds before it multiplies.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__(size, eps)
        init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        weight = 1 + self.weight.float()
        return F.rms_norm(x.float(), x.shape[-1:], weight, self.eps).to(x.dtype)


class ScaledEmbedding(nn.Embedding):
    """Rows of the embedding, times sqrt(C): token ids (...) -> (..., C)."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = super().forward(input_ids)
        # The factor is rounded like the embeddings: in bfloat16, sqrt(3072) = 55.43 is 55.5.
        return x * float(np.asarray(x.shape[-1] ** 0.5, x.dtype.numpy))


class GemmaForCausalLM(LlamaForCausalLM):
    """Gemma 1 or 2 with its language-model head, whose matrix is the token embedding.

    Example:
        >>> config = GemmaConfig(vocab_size=256, hidden_size=64, intermediate_size=96, head_dim=16,
        ...                      num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1)
        >>> GemmaForCausalLM(config)(gradient.tensor([[1, 2, 3]])).shape
        Size([1, 3, 256])
    """

    config_class: ClassVar[type[LlamaFamilyConfig]] = GemmaConfig

    def __init__(self, config: Any) -> None:
        attention = partial(LlamaAttention, norm=GemmaRMSNorm)
        super().__init__(config, attention=attention, norm=GemmaRMSNorm, embedding=ScaledEmbedding)

    def reset_parameters(self) -> None:
        """Set the initial weights: matrices normal, biases 0, norms 0 (a factor of 1)."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, GemmaRMSNorm):
                init.zeros_(module.weight)


class Gemma3ForCausalLM(GemmaForCausalLM):
    """Gemma 3, from the files of a text model or a multimodal one; see its config."""

    config_class = Gemma3Config
    # In files of a multimodal model the language model has one of two prefixes (of transformers up
    # to 4.51, and of 4.52 and 5 in memory); beside it are the modules for images.
    renamed = {
        r"^language_model\.lm_head\.": "lm_head.",
        r"^(language_model\.model|model\.language_model)\.": "model.",
    }
    ignored = (*GemmaForCausalLM.ignored, r"\.(vision_tower|multi_modal_projector)\.")

    @property
    def unreadable_tokens(self) -> dict[int, str]:
        """Return the tokens that stand for images."""
        config = self.config
        tokens = {config.boi_token_index: "an image", config.image_token_index: "part of an image"}
        return {token: what for token, what in tokens.items() if token is not None}
