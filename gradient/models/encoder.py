"""The contract between an encoder and the code that makes embeddings with it."""

from __future__ import annotations

from collections.abc import Sequence

import gradient
from gradient import nn
from gradient.errors import ArgumentError
from gradient.models.causal_lm import check_input_ids
from gradient.models.pretrained import PretrainedModel
from gradient.nn import init
from gradient.tensor import Tensor

__all__ = ["EncoderModel"]


class EncoderModel(PretrainedModel):
    """A model in which every token sees all others: token ids to hidden states.

    `forward(input_ids, *, lengths=None, attention_mask=None, token_type_ids=None)` takes token ids
    (B, T) and returns hidden states (B, T, C). Rows may be shorter than T: `lengths` gives the
    number of real tokens in each row, with padding on the right; or `attention_mask` (B, T) is 1
    for real tokens. Real tokens do not attend to padding; ignore its hidden states.
    """

    @property
    def head(self) -> nn.Module | None:
        """Return the masked-language-model head; None if there is none."""
        raise NotImplementedError

    @property
    def architecture(self) -> str:
        """Return transformers' class for this model, with or without the head."""
        name = super().architecture
        return name if self.head is not None else name.replace("ForMaskedLM", "Model")

    @property
    def context_length(self) -> int | None:
        """Return the maximum number of tokens in a row: the number of position embeddings."""
        return self.config.max_position_embeddings

    @property
    def hidden_size(self) -> int:
        """Return C."""
        return self.config.hidden_size

    def pool(self, hidden: Tensor) -> Tensor:
        """Return the model's own vector for each text: hidden states (B, T, C) -> (B, C).

        Raises:
            ArgumentError: the model has no pooler.
        """
        raise without(self, "pooler")

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Return logits of the tokens (B, T, V) from hidden states (B, T, C).

        Raises:
            ArgumentError: the model has no masked-language-model head.
        """
        raise without(self, "masked-language-model head")

    def reset_parameters(self) -> None:
        """Set the initial weights: matrices normal, biases 0, norms 1, the padding token 0."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                init.zeros_(parameter)
            elif "norm" in name.lower():
                init.ones_(parameter)
            else:
                init.normal_(parameter, 0.0, self.config.initializer_range)
        for module in self.modules():
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                with gradient.no_grad():
                    module.weight[module.padding_idx] = 0.0


def without(model: EncoderModel, part: str) -> ArgumentError:
    """Return the error for a part that a model does not have."""
    return ArgumentError(
        f"{type(model).__name__} has no {part}: its checkpoint has no weights for one"
    )


def real_tokens(
    input_ids: Tensor,
    lengths: Sequence[int] | None,
    attention_mask: Tensor | None,
    limit: int | None,
) -> Tensor | None:
    """Return a mask of real tokens, (B, T) bool; None if all are real.

    Raises:
        ArgumentError: the ids are no batch within the context length `limit`, or the lengths or the
            mask do not fit it.
    """
    check_input_ids(input_ids, lengths, limit)
    B, T = input_ids.shape
    if attention_mask is not None:
        if lengths is not None:
            raise ArgumentError("attention_mask: give it or lengths, not both")
        if tuple(attention_mask.shape) != (B, T):
            raise ArgumentError(
                f"attention_mask: expected the shape of input_ids, {(B, T)}, got "
                f"{tuple(attention_mask.shape)}"
            )
        return attention_mask != 0
    if lengths is None or min(lengths, default=T) == T:
        return None
    ends = gradient.tensor(list(lengths), device=input_ids.device).unsqueeze(1)  # (B, 1)
    return gradient.arange(T, device=input_ids.device) < ends
