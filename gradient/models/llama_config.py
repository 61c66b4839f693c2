"""The configurations of LLaMA and of the models that differ from it in few places.

Each class has the fields and defaults of transformers' class for its `model_type`, so that a sparse
config.json means here what it means there. What is no matter of choice in an architecture, but
distinguishes it from its relatives, is a property: modules ask these and never for the model type.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from gradient.checks import Relation
from gradient.models.config import activation, constant, positive, probability, size
from gradient.models.gguf import (
    GATE_UP,
    MLP,
    PAIRED,
    QK_NORMS,
    QKVO,
    SILU,
    WINDOW,
    Architecture,
    Key,
    Metadata,
    Shapes,
    decoder_keys,
    read_windows,
    top_modules,
)
from gradient.models.rotary_config import FULL, SLIDING, RotaryConfig


class Biases(NamedTuple):
    """Which of a layer's projections add a bias: those in attention, its output's, the MLP's."""

    qkv: bool
    out: bool
    mlp: bool


class BiasFields(NamedTuple):
    """What says so: a field of the config; True is always, False never."""

    qkv: str | bool = False
    out: str | bool = False
    mlp: str | bool = False


class Norms(NamedTuple):
    """What checkpoints call a layer's norms; "" where there is none."""

    before_attention: str = "input_layernorm"
    behind_attention: str = ""
    before_mlp: str = "post_attention_layernorm"
    behind_mlp: str = ""

    @property
    def gguf(self) -> dict[str, str]:
        """Return them by llama.cpp's names."""
        names = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        return {gguf: name for gguf, name in zip(names, self, strict=True) if name}


def _others(kinds: list[str]) -> str:
    """Return what a list of layers holds beside `FULL` and `SLIDING`, how often, and where."""
    at = [layer for layer, kind in enumerate(kinds) if kind not in (FULL, SLIDING)]
    found = ", ".join(dict.fromkeys(repr(kinds[layer]) for layer in at))
    return f"{found:.80} for {len(at)} of {len(kinds)} layers, the first of them layer {at[0]}"


class LlamaFamilyConfig(RotaryConfig):
    """What every model of the family has.

    A subclass adds the epsilon of its norms: `rms_norm_eps`, or what `layer_norm_eps_field` names.
    Its `gguf`, if that names no modules, has the modules and keys that the class speaks of.
    """

    #: What of queries and keys is normalised: "head", each head by itself, "own", the same with
    #: weights of its own for each, "all" heads together, or "", nothing.
    qk_norm = constant("")
    #: Whether it is; a field, in families that leave it open.
    qk_layernorm = constant(True)
    #: What checkpoints call these norms, attention's projection of its output, and the MLP.
    qk_norm_names: ClassVar[tuple[str, str]] = ("q_norm", "k_norm")
    out_name: ClassVar[str] = "o_proj"
    mlp_name: ClassVar[str] = "mlp"
    #: What checkpoints call the norms around attention and MLP.
    norms = constant(Norms())
    #: Whether the MLP reads what attention reads, by the same norm, and not what it gives.
    parallel = constant(False)
    bias_fields: ClassVar[BiasFields] = BiasFields()
    #: What checkpoints call the two layers of an MLP that has no gate; None: it has one.
    mlp_names: ClassVar[tuple[str, str] | None] = None
    #: Whether one matrix, gate_up_proj, holds an MLP's gate and what it opens.
    stacked_gate: ClassVar[bool] = False
    #: The bounds of scores and logits; None is none.
    softcap = constant(None)
    logit_softcap = constant(None)
    heads_divide_hidden_size = False
    #: What a layer adds is multiplied by, and logits divided.
    residual_multiplier = constant(1.0)
    logits_scaling = constant(1.0)
    #: The probability of dropping a number of what a layer adds, in training.
    residual_dropout = constant(0.0)
    #: How many tokens a layer with a window sees, whether there are any, and config.json's list of
    #: which they are: `SLIDING` or `FULL` for each layer.
    sliding_window = constant(None)
    use_sliding_window = constant(True)
    layer_types = constant(None)
    #: Which layers know no positions (NoPE, Kazemnejad et al. 2023, arXiv:2305.19466): 0 for each
    #: that rotates nothing, 1 for others; or, without a list, the last of so many; None: no layer.
    no_rope_layers = constant(None)
    no_rope_layer_interval = constant(None)

    intermediate_size: int = size(11008)
    num_key_value_heads: int | None = size(None)  # None: num_attention_heads
    head_dim: int | None = size(None)  # None: hidden_size / num_attention_heads
    hidden_act: str = activation("silu")
    attention_dropout: float | None = probability(0.0)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.gguf and not cls.gguf.block:
            cls.gguf = completed(cls.gguf, cls)

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content, sizes written out."""
        return super().to_hf() | {"head_dim": self.head_size, "num_key_value_heads": self.kv_heads}

    relations: ClassVar[tuple[Relation, ...]] = (
        Relation(
            ("num_key_value_heads", "num_attention_heads"),
            lambda shared, heads: heads % (shared or 1) == 0,
            "num_key_value_heads = {num_key_value_heads} must divide "
            "num_attention_heads = {num_attention_heads}",
        ),
        Relation(
            ("layer_types",),
            lambda kinds: {FULL, SLIDING}.issuperset(kinds or ()),
            lambda kinds: f"layer_types must hold {FULL} or {SLIDING}, got {_others(kinds)}",
        ),
        Relation(
            ("layer_types", "num_hidden_layers"),
            lambda kinds, layers: kinds is None or len(kinds) == layers,
            lambda kinds, layers: f"layer_types must name {layers} layers, got {len(kinds)}",
        ),
        Relation(
            ("no_rope_layers", "num_hidden_layers"),
            lambda listed, layers: listed is None or len(listed) >= layers,
            lambda listed, layers: f"no_rope_layers must name {layers} layers, got {len(listed)}",
        ),
    )

    # What modules ask.

    @property
    def rotary_kinds(self) -> list[str | None]:
        layers = range(self.num_hidden_layers)
        every = self.no_rope_layer_interval or len(layers) + 1
        rotated = self.no_rope_layers or [(layer + 1) % every for layer in layers]
        return [FULL if rotated[layer] else None for layer in layers]

    @property
    def layer_kinds(self) -> list[str]:
        """Return `SLIDING` for each layer that has a window if any has, `FULL` for others."""
        return self.usual_layer_kinds if self.layer_types is None else self.layer_types

    @property
    def usual_layer_kinds(self) -> list[str]:
        """Return what `layer_types` would be, where config.json does not say."""
        return [SLIDING] * self.num_hidden_layers

    @property
    def windows(self) -> list[int | None]:
        window = self.sliding_window if self.use_sliding_window else None
        return [window if kind == SLIDING else None for kind in self.layer_kinds]

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def biases(self) -> Biases:
        """Return which projections add a bias."""
        named = (
            getattr(self, each) if isinstance(each, str) else each for each in self.bias_fields
        )
        return Biases(*map(bool, named))

    @property
    def scale(self) -> float | None:
        """Return what scores are multiplied by; None is 1 / sqrt(D)."""
        return None


def completed(gguf: Architecture, config: type[LlamaFamilyConfig]) -> Architecture:
    """Return an architecture with the modules and keys of which a relative's config speaks."""
    embedding, _, norm = config.decoder_names
    block = QKVO | {"attn_output": f"self_attn.{config.out_name}"} | config.norms.gguf
    if config.qk_norm and config.qk_layernorm:
        block |= QK_NORMS
    if config.mlp_names is not None:
        up, down = config.mlp_names
        block |= {"ffn_up": f"mlp.{up}", "ffn_down": f"mlp.{down}"}
    else:
        block |= GATE_UP if config.stacked_gate else MLP
    return replace(
        gguf,
        keys=decoder_keys(config.layer_norm_eps_field or "rms_norm_eps", *gguf.keys),
        top=top_modules(f"model.{embedding}", f"model.{norm}"),
        block=block,
        fixed={**SILU, **gguf.fixed},
    )


def read_gguf(values: dict[str, Any], metadata: Metadata, shapes: Shapes) -> None:
    """Tell LLaMA, Mistral and Mixtral apart, which are one architecture to llama.cpp."""
    experts = {name: values.pop(name, 0) for name in ("num_local_experts", "num_experts_per_tok")}
    if experts["num_local_experts"]:
        values |= {"model_type": "mixtral"} | experts
    elif "sliding_window" in values:
        values["model_type"] = "mistral"
    else:
        values["mlp_bias"] = "blk.0.ffn_up.bias" in shapes


LLAMA_GGUF = Architecture(
    "llama",
    (
        WINDOW,
        Key("expert_count", "num_local_experts", None),
        Key("expert_used_count", "num_experts_per_tok", None),
    ),
    paired=PAIRED,
    one_window=True,
    read=read_gguf,
)


class LlamaConfig(LlamaFamilyConfig):
    """LLaMA 1 to 3.3, TinyLlama and all that call themselves so (Touvron et al. 2023).

    The defaults are LLaMA-7B's.
    """

    model_type = "llama"
    gguf = LLAMA_GGUF
    bias_fields = BiasFields("attention_bias", "attention_bias", "mlp_bias")

    rms_norm_eps: float = positive(1e-6)
    attention_bias: bool = False
    mlp_bias: bool = False


class MistralConfig(LlamaFamilyConfig):
    """Mistral: every layer sees a window of tokens (Jiang et al. 2023, "Mistral 7B", section 2)."""

    model_type = "mistral"
    gguf = LLAMA_GGUF

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 131072
    rms_norm_eps: float = positive(1e-6)
    sliding_window: int | None = size(4096)


class QwenConfig(LlamaFamilyConfig):
    """What Qwen2 and Qwen3 share: windows in the upper layers, if `use_sliding_window`."""

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 32768
    rms_norm_eps: float = positive(1e-6)
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28  # the first layer that has a window, if layer_types does not say
    layer_types: list[str] | None = None  # "full_attention" or "sliding_attention" for each layer
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    relations: ClassVar[tuple[Relation, ...]] = (
        Relation(
            ("sliding_window", "use_sliding_window"),
            lambda window, used: not used or window is None or window >= 1,
            "sliding_window must be at least 1, got {sliding_window}",
        ),
    )

    @property
    def usual_layer_kinds(self) -> list[str]:
        layers = range(self.num_hidden_layers)
        return [SLIDING if layer >= self.max_window_layers else FULL for layer in layers]


def read_qwen_gguf(values: dict[str, Any], metadata: Metadata, shapes: Shapes) -> None:
    """Read which layers have a window, of which llama.cpp knows nothing."""
    read_windows(values, metadata)
    window = values.setdefault("sliding_window", None)
    if "layer_types" in values:
        values["use_sliding_window"] = window is not None


class Qwen2Config(QwenConfig):
    """Qwen 1.5, 2 and 2.5: queries, keys and values have a bias (Yang et al. 2024, section 2.2)."""

    model_type = "qwen2"
    gguf = Architecture("qwen2", read=read_qwen_gguf)
    bias_fields = BiasFields(qkv=True)


class Qwen3Config(QwenConfig):
    """Qwen3: normalised queries and keys instead of the biases (Yang et al. 2025, section 2)."""

    model_type = "qwen3"
    gguf = Architecture("qwen3", read=read_qwen_gguf)
    qk_norm = "head"
    bias_fields = BiasFields("attention_bias", "attention_bias")

    head_dim: int | None = 128
    attention_bias: bool = False


class Ernie4_5Config(LlamaFamilyConfig):
    """ERNIE 4.5's dense models: rotary pairs are neighbours, biases everywhere or nowhere."""

    model_type = "ernie4_5"
    gguf = Architecture("ernie4_5")
    bias_fields = BiasFields("use_bias", "use_bias", "use_bias")
    default_rope_theta = 500_000.0
    interleaved_rotary = True
    float32_rotary = True

    vocab_size: int = 103424
    hidden_size: int = 1024
    intermediate_size: int = 3072
    num_hidden_layers: int = 18
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 2
    head_dim: int | None = 128
    max_position_embeddings: int = 131072
    rms_norm_eps: float = positive(1e-5)
    use_bias: bool | None = False
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
