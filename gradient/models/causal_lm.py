"""The contract between a decoder-only language model and the code that generates with it.

`forward` takes a cache and calls its `begin` once; the layers get the `PastKeyValues` that it
returns. The cache computes attention, not the model: no model file depends on where and in which
dtype keys are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import gradient
from gradient import nn
from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence
from gradient.models.pretrained import PretrainedModel
from gradient.models.rope import RotaryEmbedding
from gradient.models.rope_parameters import scaled_context_length
from gradient.nn import init
from gradient.tensor import Tensor

__all__ = ["CausalLM"]


class PastKeyValues(Protocol):
    """The keys and values of earlier tokens, during one forward pass; made by `Cache.begin`."""

    @property
    def positions(self) -> Tensor:
        """Return each new token's position in its own row: (B, T) int64, on the device."""
        ...

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float | None = None,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Store a layer's new keys and values; let each query attend to its row up to itself.

        Args:
            query: (B, H, T, D).
            key, value: (B, H_kv, T, D), with H a multiple of H_kv.
            scale, window, softcap: as of `gradient.models.attention.CausalAttention`; `window` is
                the one that the model's `kv_shapes` announced for the layer.

        Returns:
            (B, H, T, D), in the query's dtype.
        """
        ...

    def commit(self) -> None:
        """Count the new tokens as held, once every layer has stored its part."""
        ...


class Cache(Protocol):
    """The interface of a KV cache for a model: static, sliding, paged or quantised."""

    def begin(self, tokens: int, lengths: Sequence[int] | None = None) -> PastKeyValues:
        """Make room for `tokens` more columns, of which row i fills the first lengths[i]."""
        ...


class KVShape(NamedTuple):
    """The shape of a layer's keys and values in a cache."""

    heads: int  # key-value heads
    head_size: int
    window: int | None = None  # the number of tokens that a query sees, including itself; None: all


class CausalLM(PretrainedModel):
    """A language model that predicts each token from the tokens before it.

    A family sets `base_model_prefix` to the attribute name of its decoder: a module that takes
    token ids (B, T), their positions, the keys and values before them and `lengths`, and returns
    hidden states (B, T, C).

    Args:
        decoder: a function that makes the decoder from the config; None: the subclass makes decoder
            and head itself.

    Attributes:
        generation_config: the content of generation_config.json, if the model has one.
    """

    config: Any
    lm_head: nn.Module
    #: What checkpoints call the language-model head.
    head_name: ClassVar[str] = "lm_head"

    def __init__(self, config: Any, decoder: Callable[[Any], nn.Module] | None = None) -> None:
        super().__init__(config)
        self.generation_config: dict[str, Any] = {}
        if decoder is None:
            return
        with init.skip_init():  # the modules' own initial values would be overwritten below
            self.add_module(self.base_model_prefix, decoder(config))
            head = nn.Linear(config.embedding_size, config.vocab_size, bias=config.head_bias)
            self.add_module(self.head_name, head)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        cache: Cache | None = None,
        *,
        lengths: Sequence[int] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Token ids (B, T) -> logits (B, T, V).

        Args:
            cache: the KV cache of the earlier tokens; None: there are no earlier tokens.
            lengths: the number of real tokens in each row, which may be 0; None: all. A shorter row
                is padded on the right with any valid token. Real tokens do not attend to padding;
                ignore its logits.
            last_only: compute the logits of each row's last real token only: (B, 1, V).
        """
        check_input_ids(input_ids, lengths, self.context_length)
        T = input_ids.shape[1]
        past = None if cache is None else cache.begin(T, lengths)
        positions = gradient.arange(T, device=input_ids.device) if past is None else past.positions
        x = self.base_model(input_ids, positions, past, lengths)  # (B, T, C)
        if last_only:
            x = last_tokens(x, lengths)  # (B, 1, C)
        logits = self.compute_logits(x)
        if past is not None:
            past.commit()
        return logits

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, T, C) -> logits (B, T, V)."""
        return getattr(self, self.head_name)(hidden)

    def reset_parameters(self) -> None:
        """Set the initial weights: matrices normal, biases 0, norms 1."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                init.zeros_(parameter)
            elif parameter.ndim == 1:
                init.ones_(parameter)
            else:
                init.normal_(parameter, 0.0, self.config.initializer_range)

    @property
    def context_length(self) -> int | None:
        """Return the maximum number of tokens that the model can process; None: no limit.

        Rotary positions have no limit, but beyond the trained length they work less well.
        """
        return None

    @property
    def trained_length(self) -> int | None:
        """Return the length in tokens that the model was trained for, including RoPE scaling.

        A model with rotary positions can go beyond it, but predicts badly there.
        """
        if self.context_length is not None:
            return self.context_length
        length = getattr(self.config, "max_position_embeddings", None)
        if length is None:
            return None
        return scaled_context_length(length, getattr(self.config, "rope_parameters", None))

    @property
    def kv_shapes(self) -> list[KVShape]:
        """Return the shape of each layer's keys and values in a cache."""
        heads, size = self.config.kv_heads, self.config.head_size
        return [KVShape(heads, size, window) for window in self.config.windows]

    @property
    def unreadable_tokens(self) -> dict[int, str]:
        """Return {token id: what it stands for} of tokens that are not text (such as an image)."""
        return {}

    def same_rope_frequencies(self, length: int, longer: int) -> bool:
        """Return whether rotary positions have the same frequencies in texts of both lengths.

        If so, a token's keys and values do not depend on how long the text becomes.
        """
        rotations = (module for module in self.modules() if isinstance(module, RotaryEmbedding))
        return all(rotation.same_rope_frequencies(length, longer) for rotation in rotations)

    def supports_chunked_prefill(self, tokens: int) -> bool:
        """Return whether a text of this many tokens may be processed in several cached passes.

        If not, it needs a single pass, as without a cache.
        """
        return self.same_rope_frequencies(1, tokens)

    def must_recompute(self, held: int, tokens: int) -> bool:
        """Return whether a cache of `held` tokens must be emptied before it holds `tokens`.

        This is so if a token's keys depend on the length of the text.
        """
        return False


def last_tokens(x: Tensor, lengths: Sequence[int] | None) -> Tensor:
    """Return each row's last real token: hidden states (B, T, C) -> (B, 1, C).

    The result of a row without real tokens is unspecified.
    """
    B, T, _ = x.shape
    if lengths is None or all(length == T for length in lengths):
        return x[:, -1:]
    rows = gradient.arange(B, device=x.device)
    last = gradient.tensor([max(length, 1) - 1 for length in lengths], device=x.device)
    return x[rows, last].unsqueeze(1)


def check_input_ids(input_ids: Tensor, lengths: Sequence[int] | None, limit: int | None) -> None:
    """Raise unless `input_ids` is a batch of token ids, each row within the context length `limit`.

    A cache checks for itself that they fit together with the tokens it holds.
    """
    if not isinstance(input_ids, Tensor):
        got = type(input_ids).__name__
        fix = "encode a text by the tokenizer, and give gradient.tensor([ids])"
        raise TypeMismatch(sentence("input_ids", "a Tensor of token ids (B, T)", got, fix))
    if input_ids.ndim != 2 or input_ids.dtype.is_floating_point:
        raise ArgumentError(
            f"input_ids: expected integer token ids of shape (B, T), got {input_ids.dtype} of "
            f"shape {tuple(input_ids.shape)}"
        )
    rows, tokens = input_ids.shape
    if rows and not tokens:
        raise ShapeError(f"input_ids: expected at least one token in a row, got shape ({rows}, 0)")
    if lengths is not None and (
        len(lengths) != rows or not all(0 <= length <= tokens for length in lengths)
    ):
        raise ArgumentError(
            f"lengths: expected {rows} counts from 0 to {tokens}, one per row of input_ids, "
            f"got {list(lengths)}"
        )
    if limit is not None and tokens > limit:
        raise ArgumentError(
            f"input_ids: {tokens} tokens do not fit the model's context of {limit}: shorten the "
            f"text, or drop its beginning"
        )
