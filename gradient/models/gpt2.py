"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

Modules and config fields have the names of transformers' `GPT2LMHeadModel`.

Dimensions:
    B  batch          T  new tokens
    C  n_embd         H  n_head             D  C / H, size of a head
    I  n_inner (4C)   V  vocab_size         L  n_layer
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from gradient import nn
from gradient.models.activations import MLP
from gradient.models.attention import CausalAttention
from gradient.models.causal_lm import CausalLM, PastKeyValues
from gradient.models.config import DecoderConfig, activation, false, positive, probability, size
from gradient.models.gguf import TANH_GELU, Architecture, Key, Metadata, Shapes
from gradient.nn import init
from gradient.tensor import Tensor

__all__ = ["GPT2Config", "GPT2LMHeadModel"]


def read_gguf(values: dict[str, Any], metadata: Metadata, shapes: Shapes) -> None:
    """Remove the MLP's width if it is the default, as in config.json."""
    if values["n_inner"] == 4 * values["n_embd"]:
        values["n_inner"] = None


def write_gguf(values: Mapping[str, Any], keys: dict[str, Any]) -> list[str]:
    """Add the MLP's width if config.json does not give it."""
    keys["feed_forward_length"] = values.get("n_inner") or 4 * values["n_embd"]
    return []


class GPT2Config(DecoderConfig):
    """The shape of a GPT-2; the defaults are the 124M model's."""

    model_type = "gpt2"
    gguf = Architecture(
        "gpt2",
        (
            Key("context_length", "n_positions"),
            Key("embedding_length", "n_embd"),
            Key("block_count", "n_layer"),
            Key("feed_forward_length", "n_inner"),
            Key("attention.head_count", "n_head"),
            Key("attention.layer_norm_epsilon", "layer_norm_epsilon"),
        ),
        {
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
        },
        {
            "attn_norm": "ln_1",
            "attn_qkv": "attn.c_attn",
            "attn_output": "attn.c_proj",
            "ffn_norm": "ln_2",
            "ffn_up": "mlp.c_fc",
            "ffn_down": "mlp.c_proj",
        },
        layers="transformer.h",
        fixed={
            "activation_function": TANH_GELU,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
        },
        transposed=("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
        rope=False,
        read=read_gguf,
        write=write_gguf,
    )
    aliases = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = size(50257)
    n_positions: int = size(1024)
    n_embd: int = size(768)
    n_layer: int = size(12)
    n_head: int = size(12)
    n_inner: int | None = size(None)  # None: 4 * n_embd
    activation_function: str = activation("gelu_new")
    resid_pdrop: float = probability(0.1)
    embd_pdrop: float = probability(0.1)
    attn_pdrop: float = probability(0.1)
    layer_norm_epsilon: float = positive(1e-5)
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    add_cross_attention: bool = false("only decoder-only GPT-2 is supported")
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256


class GPT2Attention(CausalAttention):
    """Causal self-attention of H heads (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        C, D = config.n_embd, config.n_embd // config.n_head
        scale = D**-0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            scale /= layer + 1
        super().__init__(layer, scale=scale, dropout=config.attn_pdrop)
        self.head_dim = D
        self.upcast = config.reorder_and_upcast_attn
        self.c_attn = nn.Linear(C, 3 * C)
        self.c_proj = nn.Linear(C, C)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor, past: PastKeyValues | None = None) -> Tensor:
        """Return the attention output: (B, T, C) -> (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (
            y.view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, H, T, D)
            for y in self.c_attn(x).split(C, dim=2)
        )
        if self.upcast:  # mistral-crfm's GPT-2s: float16 overflows in their attention scores
            q, k, v = q.float(), k.float(), v.float()
        y = self.attend(past, q, k, v).to(x.dtype)
        return self.resid_dropout(self.c_proj(y))


class GPT2Block(nn.Module):
    """A pre-norm transformer block: attention, then the MLP, each added to the residual stream."""

    def __init__(
        self, config: Any, layer: int, attention: Callable[[Any, int], nn.Module] = GPT2Attention
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        inner = config.n_inner or 4 * config.n_embd
        self.mlp = MLP(config.n_embd, inner, config.activation_function, ("c_fc", "c_proj"))
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor, past: PastKeyValues | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.attn(self.ln_1(x), past)
        return x + self.dropout(self.mlp(self.ln_2(x)))


class GPT2Model(nn.Module):
    """Token and position embeddings, the blocks, and a last norm: token ids to hidden states."""

    def __init__(
        self, config: Any, attention: Callable[[Any, int], nn.Module] = GPT2Attention
    ) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        layers = range(config.n_layer)
        self.h = nn.ModuleList(GPT2Block(config, layer, attention) for layer in layers)
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        past: PastKeyValues | None,
        lengths: Sequence[int] | None,
    ) -> Tensor:
        """Token ids (B, T) and their positions -> hidden states (B, T, C); see `CausalLM`."""
        x = self.drop(self.wte(input_ids) + self.wpe(positions))  # (B, T, C)
        for block in self.h:
            x = block(x, past)
        return self.ln_f(x)


class GPT2LMHeadModel(CausalLM):
    """GPT-2 with its language-model head, whose matrix is the token embedding unless untied.

    Example:
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=64, n_head=4, vocab_size=256))
        >>> model(gradient.tensor([[1, 2, 3]])).shape
        Size([1, 3, 256])
    """

    config_class: ClassVar[type[DecoderConfig]] = GPT2Config
    base_model_prefix = "transformer"
    transposed: ClassVar[tuple[str, ...]] = (
        r"\.(c_attn|c_fc|c_proj)\.weight$",
    )  # transformers' Conv1D
    ignored: ClassVar[tuple[str, ...]] = (
        r"\.attn\.(bias|masked_bias)$",
    )  # the causal mask, in files of old transformers
    tied = {"lm_head.weight": "transformer.wte.weight"}

    def __init__(self, config: Any, decoder: Callable[[Any], nn.Module] = GPT2Model) -> None:
        super().__init__(config, decoder)

    def reset_parameters(self) -> None:
        """Set GPT-2's initial weights: normal of 0.02, smaller in residual projections (2.3)."""
        super().reset_parameters()
        std = self.config.initializer_range / (2 * self.config.n_layer) ** 0.5
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):  # 2 L of them add up in the residual stream
                init.normal_(parameter, 0.0, std)

    @property
    def context_length(self) -> int:
        """Return n_positions: beyond it there are no position embeddings."""
        return self.config.n_positions
