"""Gemma 1, 2 and 3 (Gemma Team 2024, arXiv:2403.08295 and 2408.00118; 2025, arXiv:2503.19786).

Modules and config fields have the names of transformers' `GemmaForCausalLM`, `Gemma2ForCausalLM`
and `Gemma3ForCausalLM`. All have norms that multiply by 1 + weight, scaled embeddings and a gated
MLP with GELU. To the first,

    Gemma 2 adds norms behind attention and MLP, bounded scores and logits, and windows in every
            other layer;
    Gemma 3 takes norms of queries and keys in place of the bounds, five layers with a window to
            each without, and for these two kinds rotary positions of their own.

Of a multimodal Gemma 3 the language model is loaded, which reads text; images are refused.

Dimensions:
    B  batch          T  new tokens
    C  hidden_size    V  vocab_size
    H  num_attention_heads, H_kv  num_key_value_heads, each of size D (head_dim)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import gradient
import gradient.functional as F
from gradient import nn
from gradient.errors import FileFormatError
from gradient.models.attention import attend
from gradient.models.causal_lm import Cache, Past
from gradient.models.config import must_be
from gradient.models.llama import LlamaForCausalLM, LlamaMLP
from gradient.models.llama_config import (
    Biases,
    LlamaFamilyConfig,
    layer_type_problems,
    window_problems,
)
from gradient.models.rope import Rotation, rotary_embedding
from gradient.models.rope_parameters import old_dialect, rope_problems
from gradient.nn import init
from gradient.tensor import Tensor

#: The kinds of layers: one sees all tokens before, the other a window of them.
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(kw_only=True)
class GemmaConfig(LlamaFamilyConfig):
    """The shape of a Gemma 1; the defaults are the 7B model's."""

    model_type: ClassVar[str] = "gemma"
    #: Whether what attention and MLP give is normalised before it is added.
    post_norms: ClassVar[bool] = False

    vocab_size: int = 256000
    hidden_size: int = 3072
    intermediate_size: int = 24576
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 16
    head_dim: int | None = 256
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    attention_bias: bool = False
    use_bidirectional_attention: bool | None = None
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1
    pad_token_id: int | None = 0

    @classmethod
    def from_hf(cls, values: dict[str, Any]) -> Self:
        """Build the config from config.json's content."""
        act = cls.activation(values)
        values = {key: value for key, value in values.items() if key != "hidden_activation"}
        return super().from_hf(values | {"hidden_act": "gelu_pytorch_tanh" if act is None else act})

    @classmethod
    def activation(cls, values: dict[str, Any]) -> Any:
        """Return what config.json's content says of the activation; None if nothing.

        The first files said hidden_act "gelu" and meant the tanh formula; with the correction came
        the key hidden_activation.
        """
        stated = [values.get(key) for key in ("hidden_act", "hidden_activation")]
        stated = ["gelu_pytorch_tanh" if act == "gelu" else act for act in stated if act]
        if len(stated) == 2 and stated[0] != stated[1]:
            raise FileFormatError("hidden_act = {!r}, but hidden_activation = {!r}".format(*stated))
        return stated[0] if stated else None

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content, for old readers too."""
        return super().to_hf() | {"hidden_activation": self.hidden_act}

    def problems(self) -> list[str]:
        """Return what is wrong with the values, one sentence each."""
        found = super().problems()
        if self.use_bidirectional_attention:
            found.append(
                "use_bidirectional_attention must be false: causal language models are supported, "
                "encoders such as EmbeddingGemma are not"
            )
        return found

    # What modules ask.

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias)

    @property
    def kinds(self) -> list[str]:
        """Return the kind of each layer, `FULL` or `SLIDING`."""
        return [FULL] * self.num_hidden_layers

    @property
    def ropes(self) -> dict[str, dict[str, Any]]:
        """Return the rope parameters of each kind of layer that there is."""
        return dict.fromkeys(self.kinds, self.rope_parameters)

    @property
    def scale(self) -> float:
        """Return what scores are multiplied by."""
        return self.head_size**-0.5

    @property
    def score_cap(self) -> float | None:
        """Return the bound of the scores."""
        return None

    @property
    def logit_cap(self) -> float | None:
        """Return the bound of the logits."""
        return None


@dataclass(kw_only=True)
class Gemma2Config(GemmaConfig):
    """The shape of a Gemma 2; the defaults are the 2B model's."""

    model_type: ClassVar[str] = "gemma2"
    post_norms: ClassVar[bool] = True

    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int | None = 4
    query_pre_attn_scalar: float = 256
    sliding_window: int | None = 4096
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = 30.0
    attn_logit_softcapping: float | None = 50.0

    @classmethod
    def activation(cls, values: dict[str, Any]) -> Any:
        """Return hidden_activation: many files repeat it as hidden_act, which is not looked at."""
        return values.get("hidden_activation")

    def problems(self) -> list[str]:
        """Return what is wrong with the values, one sentence each."""
        found = super().problems()
        if found:
            return found
        found += must_be(
            "positive", lambda value: value > 0, query_pre_attn_scalar=self.query_pre_attn_scalar
        )
        found += must_be(
            "null or positive",
            lambda value: value is None or value > 0,
            final_logit_softcapping=self.final_logit_softcapping,
            attn_logit_softcapping=self.attn_logit_softcapping,
        )
        found += must_be(
            "at least 1", lambda value: value >= 1, sliding_window_pattern=self.pattern
        )
        found += window_problems(self.sliding_window)
        if self.sliding_window is None and SLIDING in (self.layer_types or [SLIDING]):
            found.append("sliding_window must be an int: some layers have a window")
        return found + layer_type_problems(self.layer_types, self.num_hidden_layers)

    @property
    def pattern(self) -> int:
        """Return of how many layers one has no window, where layer_types does not say which."""
        return 2

    @property
    def kinds(self) -> list[str]:
        if self.layer_types is not None:
            return self.layer_types
        layers = range(1, self.num_hidden_layers + 1)
        return [SLIDING if layer % self.pattern else FULL for layer in layers]

    @property
    def windows(self) -> list[int | None]:
        return [self.sliding_window if kind == SLIDING else None for kind in self.kinds]

    @property
    def scale(self) -> float:
        return self.query_pre_attn_scalar**-0.5

    @property
    def score_cap(self) -> float | None:
        return self.attn_logit_softcapping

    @property
    def logit_cap(self) -> float | None:
        return self.final_logit_softcapping


@dataclass(kw_only=True)
class Gemma3Config(Gemma2Config):
    """The shape of a Gemma 3's language model; the defaults are the 4B model's, where it says none.

    `rope_parameters` holds those of either kind of layer: {"full_attention": {...},
    "sliding_attention": {...}}.
    """

    model_type: ClassVar[str] = "gemma3_text"
    qk_norm: ClassVar[bool] = True
    #: The bases of rotary frequencies where config.json has none.
    default_thetas: ClassVar[dict[str, float]] = {FULL: 1_000_000.0, SLIDING: 10_000.0}

    vocab_size: int = 262208
    max_position_embeddings: int = 131072
    sliding_window_pattern: int = 6
    final_logit_softcapping: float | None = None
    attn_logit_softcapping: float | None = None
    image_token_index: int | None = None  # a multimodal model's: stands for part of an image
    boi_token_index: int | None = None  # and this one announces an image

    @classmethod
    def from_hf(cls, values: dict[str, Any]) -> Self:
        """Build the config from config.json's content: a text model's, or a multimodal one's."""
        if values.get("model_type") == "gemma3":
            values = of_text_model(values)
        return super().from_hf(nested_ropes(values))

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content as that of a text model, for old readers too."""
        local = self.rope_parameters[SLIDING]["rope_theta"]
        old = old_dialect(self.rope_parameters[FULL]) | {"rope_local_base_freq": local}
        return super().to_hf() | old

    def settled_rope(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the rope parameters of both kinds with nothing left to defaults."""
        found = dict(parameters)
        for kind, theta in self.default_thetas.items():
            given = {} if found.get(kind) is None else found[kind]
            if isinstance(given, dict):
                found[kind] = super().settled_rope({"rope_theta": theta, **given})
        return found

    def rotary_problems(self) -> list[str]:
        """Return what is wrong with the settled rope parameters of both kinds."""
        kinds = list(self.default_thetas)
        if sorted(self.rope_parameters) != kinds or not all(
            isinstance(given, dict) for given in self.rope_parameters.values()
        ):
            return [
                f"rope_parameters must hold an object for {' and '.join(kinds)}, and nothing else, "
                f"got {self.rope_parameters}"
            ]
        return [
            f"{kind}: {problem}"
            for kind, given in self.rope_parameters.items()
            for problem in rope_problems(given, self.head_size)
        ]

    @property
    def pattern(self) -> int:
        return self.sliding_window_pattern

    @property
    def ropes(self) -> dict[str, dict[str, Any]]:
        return {kind: self.rope_parameters[kind] for kind in dict.fromkeys(self.kinds)}

    @property
    def score_cap(self) -> None:
        """Return None: transformers, too, passes over attn_logit_softcapping here."""
        return None


def of_text_model(values: dict[str, Any]) -> dict[str, Any]:
    """Return from a multimodal Gemma 3's config.json what concerns its language model."""
    text = values.get("text_config")
    if not isinstance(text, dict):
        raise FileFormatError(
            f"text_config must be an object that describes the language model, got {text!r}"
        )
    shared = ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings",
              "image_token_index", "boi_token_index")  # fmt: skip
    outer = {key: values[key] for key in shared if values.get(key) is not None}
    return {**text, **outer, "model_type": Gemma3Config.model_type}


def nested_ropes(values: dict[str, Any]) -> dict[str, Any]:
    """Return Gemma 3's config.json with all it says of positions in `rope_parameters`, by kind.

    Before transformers 5, `rope_theta` and `rope_scaling` were of the layers without a window, and
    `rope_local_base_freq` of the others.
    """
    keys = ("rope_theta", "rope_local_base_freq", "rope_scaling")
    theta, local, scaling = (values.get(key) for key in keys)
    values = {key: value for key, value in values.items() if key not in keys}
    given = values.get("rope_parameters") or {}
    if not isinstance(given, dict):
        return values  # the config's type check will say so
    given = dict(given)
    for kind, base in ((FULL, theta), (SLIDING, local)):
        before = {} if base is None else {"rope_theta": base}
        if isinstance(given.get(kind), dict | None):
            given[kind] = {**before, **(given.get(kind) or {})}
    if isinstance(scaling, dict) and isinstance(given[FULL], dict):
        given[FULL] |= scaling
    return values | {"rope_parameters": given}


class GemmaRMSNorm(nn.Module):
    """`x / sqrt(mean(x^2) + eps) * (1 + weight)` over the last axis, in float32, then rounded.

    LLaMA's norm rounds before it multiplies.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(gradient.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        weight = 1 + self.weight.float()
        return F.rms_norm(x.float(), x.shape[-1:], weight, self.eps).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class GemmaAttention(nn.Module):
    """Causal self-attention, over all tokens before or in a window of them (Gemma 2, section 2)."""

    def __init__(self, config: GemmaConfig, layer: int) -> None:
        super().__init__()
        C, D, bias = config.hidden_size, config.head_size, config.attention_bias
        self.layer = layer
        self.head_dim = D
        self.window = config.windows[layer]
        self.scale = config.scale
        self.softcap = config.score_cap
        self.dropout = config.attention_dropout or 0.0
        self.q_proj = nn.Linear(C, config.num_attention_heads * D, bias=bias)
        self.k_proj = nn.Linear(C, config.kv_heads * D, bias=bias)
        self.v_proj = nn.Linear(C, config.kv_heads * D, bias=bias)
        self.o_proj = nn.Linear(config.num_attention_heads * D, C, bias=bias)
        self.q_norm = GemmaRMSNorm(D, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = GemmaRMSNorm(D, config.rms_norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, rotate: Rotation, past: Past | None) -> Tensor:
        """Return what each token gathers from those before it: (B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(B, T, -1, self.head_dim)).transpose(
            1, 2
        )  # (B, H, T, D)
        k = self.k_norm(self.k_proj(x).view(B, T, -1, self.head_dim)).transpose(
            1, 2
        )  # (B, Hk, T, D)
        v = self.v_proj(x).view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, Hk, T, D)
        y = attend(
            past, self.layer, rotate(q), rotate(k), v,
            scale=self.scale, window=self.window, softcap=self.softcap,
            dropout=self.dropout if self.training else 0.0,
        )  # (B, H, T, D)  # fmt: skip
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))


class GemmaDecoderLayer(nn.Module):
    """Gemma 1's: attention, then the MLP, each on what is normalised, and added to the stream."""

    def __init__(self, config: GemmaConfig, layer: int) -> None:
        super().__init__()
        C, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = GemmaAttention(config, layer)
        self.mlp = LlamaMLP(C, config.intermediate_size, config.hidden_act)
        self.input_layernorm = GemmaRMSNorm(C, eps)
        self.post_attention_layernorm = GemmaRMSNorm(C, eps)

    def forward(self, x: Tensor, rotate: Rotation, past: Past | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.self_attn(self.input_layernorm(x), rotate, past)
        return x + self.mlp(self.post_attention_layernorm(x))


class Gemma2DecoderLayer(GemmaDecoderLayer):
    """Gemma 2's and 3's: attention and MLP each between two norms (Gemma 2, section 2)."""

    def __init__(self, config: GemmaConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.pre_feedforward_layernorm = GemmaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_feedforward_layernorm = GemmaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, rotate: Rotation, past: Past | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        y = self.self_attn(self.input_layernorm(x), rotate, past)
        x = x + self.post_attention_layernorm(y)
        y = self.mlp(self.pre_feedforward_layernorm(x))
        return x + self.post_feedforward_layernorm(y)


class GemmaModel(nn.Module):
    """The decoder without its head: token ids to hidden states."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        C = config.hidden_size
        self.kinds = config.kinds
        layer_class = Gemma2DecoderLayer if config.post_norms else GemmaDecoderLayer
        self.embed_tokens = nn.Embedding(config.vocab_size, C, padding_idx=config.padding_idx)
        self.layers = nn.ModuleList(
            [layer_class(config, layer) for layer in range(config.num_hidden_layers)]
        )
        self.norm = GemmaRMSNorm(C, config.rms_norm_eps)
        self.rotary_emb = nn.ModuleDict(
            {
                kind: rotary_embedding(rope, config.head_size, config.max_position_embeddings)
                for kind, rope in config.ropes.items()
            }
        )

    def forward(
        self, input_ids: Tensor, cache: Cache | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Token ids (B, T) -> hidden states (B, T, C)."""
        T = input_ids.shape[1]
        past = None if cache is None else cache.begin(T, lengths)
        positions = gradient.arange(T, device=input_ids.device) if past is None else past.positions
        x = self.embed_tokens(input_ids)  # (B, T, C)
        # The factor is rounded like the embeddings: in bfloat16, sqrt(3072) = 55.43 is 55.5.
        x = x * gradient.tensor(x.shape[-1] ** 0.5, dtype=x.dtype, device=x.device)
        rotate = {
            kind: rotary(positions, x.dtype, lengths) for kind, rotary in self.rotary_emb.items()
        }
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            x = layer(x, rotate[kind], past)
        if past is not None:
            past.commit()
        return self.norm(x)


class GemmaForCausalLM(LlamaForCausalLM):
    """Gemma with its language-model head, whose matrix is the token embedding.

    Example:
        >>> config = GemmaConfig(vocab_size=256, hidden_size=64, intermediate_size=96, head_dim=16,
        ...                      num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1)
        >>> GemmaForCausalLM(config)(gradient.tensor([[1, 2, 3]])).shape
        Size([1, 3, 256])
    """

    config_class = GemmaConfig

    def make_model(self, config: Any) -> GemmaModel:
        """Return the decoder: token ids (B, T) to hidden states (B, T, C)."""
        return GemmaModel(config)

    def reset_parameters(self) -> None:
        """Set the initial weights: matrices normal, biases 0, norms 0, which stands for 1."""
        for name, parameter in self.named_parameters():
            if name.endswith(("norm.weight", "bias")):
                init.zeros_(parameter)
            else:
                init.normal_(parameter, 0.0, self.config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        cache: Cache | None = None,
        *,
        lengths: Sequence[int] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Token ids (B, T) -> logits (B, T, V), or (B, 1, V) with `last_only`; see `CausalLM`."""
        logits = super().forward(input_ids, cache, lengths=lengths, last_only=last_only)
        cap = self.config.logit_cap
        return logits if cap is None else cap * (logits / cap).tanh()


class Gemma2ForCausalLM(GemmaForCausalLM):
    """Gemma 2; see its config."""

    config_class = Gemma2Config


class Gemma3ForCausalLM(GemmaForCausalLM):
    """Gemma 3, of a text model's files or a multimodal one's; see its config."""

    config_class = Gemma3Config
    # A multimodal model's files hold the language model under one of two names (transformers up to
    # 4.51, and what 4.52 and 5 have in memory), and beside it what reads images.
    renamed = {
        r"^language_model\.lm_head\.": "lm_head.",
        r"^(language_model\.model|model\.language_model)\.": "model.",
    }
    ignored = (*GemmaForCausalLM.ignored, r"\.(vision_tower|multi_modal_projector)\.")

    @property
    def unreadable_tokens(self) -> dict[int, str]:
        """Return the tokens of images."""
        config = self.config
        tokens = {config.boi_token_index: "an image", config.image_token_index: "part of an image"}
        return {token: what for token, what in tokens.items() if token is not None}
