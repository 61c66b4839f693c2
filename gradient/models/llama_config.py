"""The configurations of LLaMA and of models that differ from it in few places.

Each class has the fields and defaults of transformers' class for its `model_type`, so that a sparse
config.json has the same meaning. A fixed property of an architecture, which
distinguishes it from its relatives, is a property here: modules read these, never the model type.
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
    """Which projections of a layer have a bias: attention's inputs, its output, and the MLP's."""

    qkv: bool
    out: bool
    mlp: bool


class BiasFields(NamedTuple):
    """The sources of `Biases`: a field of the config; True: always; False: never."""

    qkv: str | bool = False
    out: str | bool = False
    mlp: str | bool = False


class Norms(NamedTuple):
    """The checkpoint's names of a layer's norms; "": no such norm."""

    before_attention: str = "input_layernorm"
    after_attention: str = ""
    before_mlp: str = "post_attention_layernorm"
    after_mlp: str = ""

    @property
    def gguf(self) -> dict[str, str]:
        """Return {llama.cpp's name: the checkpoint's name} of the norms."""
        names = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        return {gguf: name for gguf, name in zip(names, self, strict=True) if name}


def _others(kinds: list[str]) -> str:
    """Return the layer kinds other than `FULL` and `SLIDING`, how often they occur, and where."""
    at = [layer for layer, kind in enumerate(kinds) if kind not in (FULL, SLIDING)]
    found = ", ".join(dict.fromkeys(repr(kinds[layer]) for layer in at))
    return f"{found:.80} for {len(at)} of {len(kinds)} layers, the first of them layer {at[0]}"


class LlamaFamilyConfig(RotaryConfig):
    """The fields and properties that all models of the family have.

    A subclass adds the epsilon of its norms: `rms_norm_eps`, or the field named by
    `layer_norm_eps_field`. If its `gguf` has no modules, the class's modules and keys are added.
    """

    #: How queries and keys are normalised: "head": each head; "own": each head with its own
    #: weights; "all": all heads together; "": not at all.
    qk_norm = constant("")
    #: Whether they are normalised; a field in families with a choice.
    qk_layernorm = constant(True)
    #: The checkpoint's names of these norms, of attention's output projection, and of the MLP.
    qk_norm_names: ClassVar[tuple[str, str]] = ("q_norm", "k_norm")
    out_name: ClassVar[str] = "o_proj"
    mlp_name: ClassVar[str] = "mlp"
    #: The checkpoint's names of the norms around attention and MLP.
    norms = constant(Norms())
    #: Whether the MLP has the same normalised input as attention, instead of attention's output.
    parallel = constant(False)
    bias_fields: ClassVar[BiasFields] = BiasFields()
    #: The checkpoint's names of the two layers of an MLP without a gate; None: it has a gate.
    mlp_names: ClassVar[tuple[str, str] | None] = None
    #: Whether the MLP's gate and up projection are one matrix, gate_up_proj.
    stacked_gate: ClassVar[bool] = False
    #: The soft caps of scores and of logits; None: no cap.
    softcap = constant(None)
    logit_softcap = constant(None)
    heads_divide_hidden_size = False
    #: The factor of each layer's addition to the residual stream, and the divisor of logits.
    residual_multiplier = constant(1.0)
    logits_scaling = constant(1.0)
    #: The probability of dropping a number that a layer adds, in training.
    residual_dropout = constant(0.0)
    #: The number of tokens that a layer with a window sees; whether there are any such layers; and
    #: config.json's list of `SLIDING` or `FULL` for each layer.
    sliding_window = constant(None)
    use_sliding_window = constant(True)
    layer_types = constant(None)
    #: The layers without positions (NoPE, Kazemnejad et al. 2023, arXiv:2305.19466): a list with 0
    #: for each of them and 1 for others; or, without a list, the last of so many; None: no layer.
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
        """Return config.json's content, with explicit sizes."""
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

    # Read by modules.

    @property
    def rotary_kinds(self) -> list[str | None]:
        layers = range(self.num_hidden_layers)
        every = self.no_rope_layer_interval or len(layers) + 1
        rotated = self.no_rope_layers or [(layer + 1) % every for layer in layers]
        return [FULL if rotated[layer] else None for layer in layers]

    @property
    def layer_kinds(self) -> list[str]:
        """Return `SLIDING` for each layer with a window, `FULL` for the others."""
        return self.usual_layer_kinds if self.layer_types is None else self.layer_types

    @property
    def usual_layer_kinds(self) -> list[str]:
        """Return the default of `layer_types`."""
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
        """Return which projections have a bias."""
        named = (
            getattr(self, each) if isinstance(each, str) else each for each in self.bias_fields
        )
        return Biases(*map(bool, named))

    @property
    def scale(self) -> float | None:
        """Return the factor of the scores; None: 1 / sqrt(D)."""
        return None


def completed(gguf: Architecture, config: type[LlamaFamilyConfig]) -> Architecture:
    """Return an architecture with the modules and keys that a config class declares."""
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
    """Set the model type: LLaMA, Mistral and Mixtral are one architecture in llama.cpp."""
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
    """LLaMA 1 to 3.3, TinyLlama and other models of this type (Touvron et al. 2023).

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
    """The base of Qwen2 and Qwen3: windows in the upper layers, if `use_sliding_window`."""

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 32768
    rms_norm_eps: float = positive(1e-6)
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28  # the first layer with a window, if layer_types is None
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
    """Set which layers have a window, as llama.cpp has no keys for it."""
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
