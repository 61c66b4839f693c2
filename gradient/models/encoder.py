"""The contract between an encoder and the code that makes embeddings with it."""

from __future__ import annotations

from collections.abc import Sequence

import gradient
from gradient.errors import ArgumentError
from gradient.models.causal_lm import check_input_ids
from gradient.models.pretrained import PretrainedModel
from gradient.tensor import Tensor


class EncoderModel(PretrainedModel):
    """A model in which every token sees all others: token ids to hidden states.

    `forward(input_ids, *, lengths=None, attention_mask=None, token_type_ids=None)` takes token ids
    (B, T) and returns hidden states (B, T, C). Rows may be shorter than T: `lengths` says how many
    tokens of each row are real, the others being on the right; or `attention_mask` (B, T), 1 where
    a token is real, says which. No real token sees the others, and what is computed for those is to
    be ignored.
    """

    @property
    def context_length(self) -> int | None:
        """Return the most tokens of a row; None if nothing limits them."""
        raise NotImplementedError


def real_tokens(
    input_ids: Tensor,
    lengths: Sequence[int] | None,
    attention_mask: Tensor | None,
    limit: int | None,
) -> Tensor | None:
    """Return which tokens are real, (B, T) bool; None if all are.

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
