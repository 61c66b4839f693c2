"""The configuration of a decoder with rotary positions, from either dialect of config.json."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar, Self

from gradient.models.config import DecoderConfig, constant, size
from gradient.models.rope_parameters import gathered, old_dialect, rope_problems, settled

#: The kinds of layers: one sees all earlier tokens, the other a window of them.
FULL, SLIDING = "full_attention", "sliding_attention"


class RotaryConfig(DecoderConfig):
    """Sizes, and config.json's rotary parameters; the defaults are LLaMA-7B's."""

    #: The default base of rotary frequencies.
    default_rope_theta: ClassVar[float] = 10_000.0
    #: The default part of each head that is rotated; None: whole heads, and a
    #: `partial_rotary_factor` is ignored where transformers ignores it.
    default_partial_rotary_factor: ClassVar[float | None] = None
    #: Whether rotary pairs are neighbouring columns.
    interleaved_rotary: ClassVar[bool] = False
    #: Whether cos and sin stay in float32 if the model computes in 16 bits.
    float32_rotary: ClassVar[bool] = False
    #: Whether a text is recomputed if it grows so long that its rotary angles change.
    recomputes_when_angles_change: ClassVar[bool] = False

    #: The checkpoint's names of the embedding, the layers and the last norm.
    decoder_names: ClassVar[tuple[str, str, str]] = ("embed_tokens", "layers", "norm")
    #: The field with the epsilon of the LayerNorms; "": norms are RMSNorms, of `rms_norm_eps`.
    layer_norm_eps_field: ClassVar[str] = ""
    #: Whether an RMSNorm multiplies before it rounds to 16 bits; LLaMA's multiplies after it.
    rms_norm_rounds_once: ClassVar[bool] = False
    #: The factor of embeddings, and the probability of dropping a number of one, in
    #: training.
    embedding_multiplier = constant(1.0)
    embedding_dropout = constant(0.0)

    vocab_size: int = size(32000)
    hidden_size: int = size(4096)
    num_hidden_layers: int = size(32)
    num_attention_heads: int = size(32)
    max_position_embeddings: int = size(2048)
    rope_parameters: dict[str, Any] = field(default_factory=dict)
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        if isinstance(self.rope_parameters, dict):
            self.rope_parameters = self.settled_rope(self.rope_parameters)
        super().__post_init__()

    def settled_rope(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return rope parameters with defaults filled in."""
        parameters = settled(
            parameters,
            theta=self.default_rope_theta,
            max_position_embeddings=self.max_position_embeddings,
            original=self.original_context,
        )
        part = self.default_partial_rotary_factor
        if part is None and parameters["rope_type"] == "default":
            parameters.pop("partial_rotary_factor", None)
        return parameters if part in (None, 1.0) else {"partial_rotary_factor": part, **parameters}

    @classmethod
    def from_hf(cls, values: dict[str, Any]) -> Self:
        """Build the config from config.json's content, in either dialect of rotary parameters."""
        return super().from_hf(gathered(values))

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content, with rotary parameters in both dialects."""
        return super().to_hf() | old_dialect(self.rope_parameters)

    def problems(self) -> list[str]:
        return super().problems() or self.rotary_problems()

    def rotary_problems(self) -> list[str]:
        """Return the errors in the settled rope parameters."""
        return rope_problems(self.rope_parameters, self.rotary_size)

    # Read by modules.

    @property
    def original_context(self) -> int | None:
        """Return the context of the first training, if it is given beside `rope_parameters`."""
        value = self.extra.get("original_max_position_embeddings")
        return value if isinstance(value, int) else None

    @property
    def norm_eps(self) -> float:
        """Return the epsilon of norms, added to the mean square or the variance."""
        return getattr(self, self.layer_norm_eps_field or "rms_norm_eps")

    @property
    def rotary_size(self) -> int:
        """Return the number of columns of a head, or of its part with positions."""
        return self.head_size

    @property
    def ropes(self) -> dict[str, dict[str, Any]]:
        """Return the rope parameters of each kind in `rotary_kinds`."""
        return {FULL: self.rope_parameters}

    @property
    def rotary_kinds(self) -> list[str | None]:
        """Return each layer's key in `ropes` for queries and keys; None: no rotation."""
        return [FULL] * self.num_hidden_layers
