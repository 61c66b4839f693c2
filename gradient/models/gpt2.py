"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

Modules and config fields have the names of transformers' `GPT2LMHeadModel`.

Dimensions:
    B  batch          T  new tokens
    C  n_embd         H  n_head             D  C / H, size of a head
    I  n_inner (4C)   V  vocab_size         L  n_layer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import gradient
from gradient import nn
from gradient.models.activations import ACTIVATIONS
from gradient.models.attention import attend
from gradient.models.causal_lm import (
    Cache,
    CausalLM,
    KVShape,
    PastKeyValues,
    check_input_ids,
    last_tokens,
)
from gradient.models.config import ModelConfig, must_be
from gradient.nn import init
from gradient.tensor import Tensor


@dataclass(kw_only=True)
class GPT2Config(ModelConfig):
    """The shape of a GPT-2; the defaults are the 124M model's."""

    model_type: ClassVar[str] = "gpt2"
    aliases: ClassVar[dict[str, str]] = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None  # None: 4 * n_embd
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    add_cross_attention: bool = False
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256

    def problems(self) -> list[str]:
        """Return what is wrong with the values, one sentence each."""
        found = super().problems()
        found += must_be(
            "at least 1",
            lambda value: value >= 1,
            n_positions=self.n_positions,
            n_embd=self.n_embd,
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_inner=1 if self.n_inner is None else self.n_inner,
        )
        found += must_be(
            "a probability below 1",
            lambda value: 0 <= value < 1,
            resid_pdrop=self.resid_pdrop,
            embd_pdrop=self.embd_pdrop,
            attn_pdrop=self.attn_pdrop,
        )
        found += must_be(
            "positive", lambda value: value > 0, layer_norm_epsilon=self.layer_norm_epsilon
        )
        found += must_be(
            "one of " + ", ".join(ACTIVATIONS),
            lambda value: value in ACTIVATIONS,
            activation_function=self.activation_function,
        )
        if self.n_head >= 1 and self.n_embd % self.n_head:
            found.append(f"n_head = {self.n_head} must divide n_embd = {self.n_embd}")
        if self.add_cross_attention:
            found.append("add_cross_attention must be false: only decoder-only GPT-2 is supported")
        return found


class GPT2Attention(nn.Module):
    """Causal self-attention of H heads (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        C, D = config.n_embd, config.n_embd // config.n_head
        self.layer = layer
        self.n_head = config.n_head
        self.dropout = config.attn_pdrop
        self.upcast = config.reorder_and_upcast_attn
        self.scale = D**-0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer + 1
        self.c_attn = nn.Linear(C, 3 * C)
        self.c_proj = nn.Linear(C, C)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor, past: PastKeyValues | None = None) -> Tensor:
        """Return what each token gathers from those before it: (B, T, C) -> (B, T, C)."""
        B, T, C = x.shape
        H = self.n_head
        q, k, v = self.c_attn(x).split(C, dim=2)  # each (B, T, C)
        q = q.view(B, T, H, C // H).transpose(1, 2)  # (B, H, T, D)
        k = k.view(B, T, H, C // H).transpose(1, 2)  # (B, H, T, D)
        v = v.view(B, T, H, C // H).transpose(1, 2)  # (B, H, T, D)
        if self.upcast:  # mistral-crfm's GPT-2s: float16 overflows in their attention scores
            q, k, v = q.float(), k.float(), v.float()
        dropout = self.dropout if self.training else 0.0
        y = attend(past, self.layer, q, k, v, scale=self.scale, dropout=dropout)  # (B, H, T, D)
        y = y.to(x.dtype).transpose(1, 2).reshape(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class GPT2MLP(nn.Module):
    """Two linear layers with an activation between, for each token on its own."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        C = config.n_embd
        inner = 4 * C if config.n_inner is None else config.n_inner
        self.c_fc = nn.Linear(C, inner)
        self.c_proj = nn.Linear(inner, C)
        self.act = ACTIVATIONS[config.activation_function]
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, I) -> (B, T, C)."""
        return self.dropout(self.c_proj(self.act(self.c_fc(x))))


class GPT2Block(nn.Module):
    """A pre-norm transformer block: attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = GPT2Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config)

    def forward(self, x: Tensor, past: PastKeyValues | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.attn(self.ln_1(x), past)
        return x + self.mlp(self.ln_2(x))


class GPT2Model(nn.Module):
    """Token and position embeddings, the blocks, and a last norm: token ids to hidden states."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(GPT2Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(
        self, input_ids: Tensor, cache: Cache | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Token ids (B, T) -> hidden states (B, T, C)."""
        T = input_ids.shape[1]
        past = None if cache is None else cache.begin(T, lengths)
        positions = gradient.arange(T, device=input_ids.device) if past is None else past.positions
        x = self.drop(self.wte(input_ids) + self.wpe(positions))  # (B, T, C)
        for block in self.h:
            x = block(x, past)
        if past is not None:
            past.commit()
        return self.ln_f(x)


class GPT2LMHeadModel(CausalLM):
    """GPT-2 with its language-model head, whose matrix is the token embedding unless untied.

    Example:
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=64, n_head=4, vocab_size=256))
        >>> model(gradient.tensor([[1, 2, 3]])).shape
        Size([1, 3, 256])
    """

    config_class = GPT2Config
    prefix = "transformer."
    transposed = (r"\.(c_attn|c_fc|c_proj)\.weight$",)  # transformers' Conv1D
    ignored = (r"\.attn\.(bias|masked_bias)$",)  # the causal mask, in files of old transformers
    tied = {"lm_head.weight": "transformer.wte.weight"}

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        with init.skip_init():  # the modules' own initial values would be overwritten below
            self.transformer = GPT2Model(config)
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set GPT-2's initial weights: normal of 0.02, smaller in residual projections (2.3)."""
        std = self.config.initializer_range
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):  # 2 L of them add up in the residual stream
                init.normal_(parameter, 0.0, std / (2 * self.config.n_layer) ** 0.5)
            elif name.endswith("bias"):
                init.zeros_(parameter)
            elif ".ln_" in name:
                init.ones_(parameter)
            else:
                init.normal_(parameter, 0.0, std)

    @property
    def context_length(self) -> int:
        """Return n_positions: beyond it there are no position embeddings."""
        return self.config.n_positions

    @property
    def kv_shapes(self) -> list[KVShape]:
        """Return H heads of size D for each layer."""
        config = self.config
        return [KVShape(config.n_head, config.n_embd // config.n_head)] * config.n_layer

    def forward(
        self,
        input_ids: Tensor,
        cache: Cache | None = None,
        *,
        lengths: Sequence[int] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Token ids (B, T) -> logits (B, T, V), or (B, 1, V) with `last_only`; see `CausalLM`."""
        check_input_ids(input_ids, lengths, self.config.n_positions)
        x = self.transformer(input_ids, cache, lengths)  # (B, T, C)
        if last_only:
            x = last_tokens(x, lengths)  # (B, 1, C)
        return self.lm_head(x)
