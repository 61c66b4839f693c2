"""The configurations of LLaMA and of the models that differ from it in few places.

Each class has the fields and defaults of transformers' class for its `model_type`, so that a sparse
config.json means here what it means there. What is no matter of choice in an architecture, but
distinguishes it from its relatives, is a property: modules ask these and never for the model type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

from gradient.models.activations import ACTIVATIONS
from gradient.models.config import ModelConfig, must_be
from gradient.models.rope_parameters import gathered, old_dialect, rope_problems, settled


class Biases(NamedTuple):
    """Which of a layer's projections add a bias."""

    qkv: bool = False
    out: bool = False
    mlp: bool = False


@dataclass(kw_only=True)
class LlamaFamilyConfig(ModelConfig):
    """What every model of the family has."""

    #: The base of rotary frequencies where config.json has none.
    default_rope_theta: ClassVar[float] = 10_000.0
    #: Whether plain rotary positions may turn but a part of each head. Where not, transformers
    #: passes over a `partial_rotary_factor`, and so is done here.
    partial_rotary: ClassVar[bool] = False
    #: Whether rotary pairs are neighbouring columns, turned in float32.
    interleaved_rotary: ClassVar[bool] = False
    #: Whether queries and keys are normalised, head by head.
    qk_norm: ClassVar[bool] = False
    #: Whether q, k, v come from one matrix, and gate and up from another.
    fused_projections: ClassVar[bool] = False
    #: Whether a text is recomputed when it grows so long that its rotary angles change.
    recomputes_when_angles_change: ClassVar[bool] = False

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None  # None: num_attention_heads
    head_dim: int | None = None  # None: hidden_size / num_attention_heads
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_parameters: dict[str, Any] = field(default_factory=dict)
    attention_dropout: float | None = 0.0
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        if isinstance(self.rope_parameters, dict):
            self.rope_parameters = self.settled_rope(self.rope_parameters)
        super().__post_init__()

    def settled_rope(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return rope parameters with nothing left to defaults."""
        parameters = settled(
            parameters,
            theta=self.default_rope_theta,
            max_position_embeddings=self.max_position_embeddings,
            original=self.original_context,
        )
        if parameters["rope_type"] == "default" and not self.partial_rotary:
            parameters.pop("partial_rotary_factor", None)
        return parameters

    @classmethod
    def from_hf(cls, values: dict[str, Any]) -> Self:
        """Build the config from config.json's content, in either dialect of rotary positions."""
        return super().from_hf(gathered(values))

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content: sizes written out, rotary positions in both dialects."""
        sizes = {"head_dim": self.head_size, "num_key_value_heads": self.kv_heads}
        return super().to_hf() | sizes | old_dialect(self.rope_parameters)

    def problems(self) -> list[str]:
        """Return what is wrong with the values, one sentence each."""
        found = super().problems()
        found += must_be(
            "at least 1",
            lambda value: 1 <= value < 2**63,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=1 if self.num_key_value_heads is None else self.num_key_value_heads,
            head_dim=1 if self.head_dim is None else self.head_dim,
            max_position_embeddings=self.max_position_embeddings,
        )
        found += must_be("positive", lambda value: value > 0, rms_norm_eps=self.rms_norm_eps)
        found += must_be(
            "a probability below 1",
            lambda value: 0 <= (value or 0) < 1,
            attention_dropout=self.attention_dropout,
        )
        found += must_be(
            "one of " + ", ".join(ACTIVATIONS),
            lambda value: value in ACTIVATIONS,
            hidden_act=self.hidden_act,
        )
        if found:
            return found
        if self.num_attention_heads % self.kv_heads:
            found.append(
                f"num_key_value_heads = {self.kv_heads} must divide "
                f"num_attention_heads = {self.num_attention_heads}"
            )
        return found + self.rotary_problems()

    def rotary_problems(self) -> list[str]:
        """Return what is wrong with the settled rope parameters."""
        return rope_problems(self.rope_parameters, self.head_size)

    # What modules ask.

    @property
    def kv_heads(self) -> int:
        """Return H_kv; each of these heads serves H / H_kv query heads."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Return D."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def padding_idx(self) -> int | None:
        """Return the token whose row of the embedding learns nothing, as in transformers."""
        pad, V = self.pad_token_id, self.vocab_size
        return None if pad is None or not -V <= pad < V else pad

    @property
    def biases(self) -> Biases:
        """Return which projections add a bias."""
        return Biases()

    @property
    def windows(self) -> list[int | None]:
        """Return how many tokens each layer sees, itself counted; None is all."""
        return [None] * self.num_hidden_layers

    @property
    def scale(self) -> float | None:
        """Return what scores are multiplied by; None is 1 / sqrt(D)."""
        return None

    @property
    def score_cap(self) -> float | None:
        """Return the bound of the scores; None is none."""
        return None

    @property
    def original_context(self) -> int | None:
        """Return the context of the first training, where it stands beside `rope_parameters`."""
        value = self.extra.get("original_max_position_embeddings")
        return value if isinstance(value, int) else None

    @property
    def residual_dropout(self) -> float:
        """Return the probability of dropping what a layer adds, in training."""
        return 0.0


@dataclass(kw_only=True)
class LlamaConfig(LlamaFamilyConfig):
    """LLaMA 1 to 3.3, TinyLlama and all that call themselves so (Touvron et al. 2023).

    The defaults are LLaMA-7B's.
    """

    model_type: ClassVar[str] = "llama"

    attention_bias: bool = False
    mlp_bias: bool = False

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias, self.mlp_bias)


@dataclass(kw_only=True)
class MistralConfig(LlamaFamilyConfig):
    """Mistral: every layer sees a window of tokens (Jiang et al. 2023, "Mistral 7B", section 2)."""

    model_type: ClassVar[str] = "mistral"

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 131072
    sliding_window: int | None = 4096

    @property
    def windows(self) -> list[int | None]:
        return [self.sliding_window] * self.num_hidden_layers

    def problems(self) -> list[str]:
        return super().problems() + window_problems(self.sliding_window)


@dataclass(kw_only=True)
class LayeredWindowConfig(LlamaFamilyConfig):
    """What Qwen2 and Qwen3 share: windows in some layers, if `use_sliding_window`."""

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28  # the first layer that has a window, if layer_types does not say
    layer_types: list[str] | None = None  # "full_attention" or "sliding_attention" for each layer
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    @property
    def windows(self) -> list[int | None]:
        window = self.sliding_window if self.use_sliding_window else None
        if self.layer_types is None:
            layers = range(self.num_hidden_layers)
            return [window if layer >= self.max_window_layers else None for layer in layers]
        return [window if each == "sliding_attention" else None for each in self.layer_types]

    def problems(self) -> list[str]:
        return super().problems() + (
            window_problems(self.sliding_window if self.use_sliding_window else None)
            or layer_type_problems(self.layer_types, self.num_hidden_layers)
        )


@dataclass(kw_only=True)
class Qwen2Config(LayeredWindowConfig):
    """Qwen 1.5, 2 and 2.5: queries, keys and values have a bias (Yang et al. 2024, section 2.2)."""

    model_type: ClassVar[str] = "qwen2"

    @property
    def biases(self) -> Biases:
        return Biases(qkv=True)


@dataclass(kw_only=True)
class Qwen3Config(LayeredWindowConfig):
    """Qwen3: normalised queries and keys instead of the biases (Yang et al. 2025, section 2)."""

    model_type: ClassVar[str] = "qwen3"
    qk_norm: ClassVar[bool] = True

    head_dim: int | None = 128
    attention_bias: bool = False

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias)


@dataclass(kw_only=True)
class Phi3Config(LlamaFamilyConfig):
    """Phi-3 and Phi-4: fused projections, LongRoPE (Abdin et al. 2024, arXiv:2404.14219)."""

    model_type: ClassVar[str] = "phi3"
    partial_rotary: ClassVar[bool] = True
    fused_projections: ClassVar[bool] = True
    recomputes_when_angles_change: ClassVar[bool] = True

    vocab_size: int = 32064
    hidden_size: int = 3072
    intermediate_size: int = 8192
    max_position_embeddings: int = 4096
    original_max_position_embeddings: int = 4096
    rms_norm_eps: float = 1e-5
    resid_pdrop: float = 0.0
    sliding_window: int | None = None
    eos_token_id: int | list[int] | None = 32000
    pad_token_id: int | None = 32000

    def settled_rope(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return rope parameters, in which "yarn" is what the first Phi-3s called LongRoPE."""
        if "yarn" in (parameters.get("rope_type"), parameters.get("type")):
            parameters = parameters | {"rope_type": "longrope"}
        return super().settled_rope(parameters)

    @property
    def windows(self) -> list[int | None]:
        return [self.sliding_window] * self.num_hidden_layers

    @property
    def original_context(self) -> int | None:
        return self.original_max_position_embeddings

    @property
    def residual_dropout(self) -> float:
        return self.resid_pdrop

    def problems(self) -> list[str]:
        found = super().problems() + window_problems(self.sliding_window)
        return found + must_be(
            "a probability below 1", lambda value: 0 <= value < 1, resid_pdrop=self.resid_pdrop
        )


@dataclass(kw_only=True)
class Ernie4_5Config(LlamaFamilyConfig):
    """ERNIE 4.5's dense models: rotary pairs are neighbours, biases everywhere or nowhere."""

    model_type: ClassVar[str] = "ernie4_5"
    default_rope_theta: ClassVar[float] = 500_000.0
    interleaved_rotary: ClassVar[bool] = True

    vocab_size: int = 103424
    hidden_size: int = 1024
    intermediate_size: int = 3072
    num_hidden_layers: int = 18
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 2
    head_dim: int | None = 128
    max_position_embeddings: int = 131072
    rms_norm_eps: float = 1e-5
    use_bias: bool | None = False
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0

    @property
    def biases(self) -> Biases:
        return Biases(*[bool(self.use_bias)] * 3)


def window_problems(window: int | None) -> list[str]:
    """Return what is wrong with a sliding window."""
    return must_be("at least 1", lambda value: value is None or value >= 1, sliding_window=window)


def layer_type_problems(layer_types: list[str] | None, layers: int) -> list[str]:
    """Return what is wrong with the list that says which layers have a window."""
    if layer_types is None:
        return []
    known = ("full_attention", "sliding_attention")
    found = [
        f"layer_types must hold {' or '.join(known)}, got {kind!r}"
        for kind in sorted(set(layer_types) - set(known))
    ]
    if len(layer_types) != layers:
        found.append(f"layer_types must name {layers} layers, got {len(layer_types)}")
    return found
