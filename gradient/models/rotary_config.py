"""The configuration of a decoder with rotary positions, in either dialect of config.json."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar, Self

from gradient.models.config import DecoderConfig, constant, size
from gradient.models.rope_parameters import gathered, old_dialect, rope_problems, settled

#: The kinds of layers: one sees all tokens before, the other a window of them.
FULL, SLIDING = "full_attention", "sliding_attention"


class RotaryConfig(DecoderConfig):
    """Sizes, and what config.json says of rotary positions; the defaults are LLaMA-7B's."""

    #: The base of rotary frequencies where config.json has none.
    default_rope_theta: ClassVar[float] = 10_000.0
    #: The part of each head that is rotated where config.json does not say; None: whole heads are,
    #: and a `partial_rotary_factor` is passed over where transformers passes over it.
    default_partial_rotary_factor: ClassVar[float | None] = None
    #: Whether rotary pairs are neighbouring columns.
    interleaved_rotary: ClassVar[bool] = False
    #: Whether cos and sin stay in float32 where the model computes in 16 bits.
    float32_rotary: ClassVar[bool] = False
    #: Whether a text is recomputed when it grows so long that its rotary angles change.
    recomputes_when_angles_change: ClassVar[bool] = False

    #: What checkpoints call the embedding, the layers and the last norm.
    decoder_names: ClassVar[tuple[str, str, str]] = ("embed_tokens", "layers", "norm")
    #: The field with the epsilon of the LayerNorms; "": norms are RMSNorms, of `rms_norm_eps`.
    layer_norm_eps_field: ClassVar[str] = ""
    #: Whether an RMSNorm multiplies before it rounds to 16 bits, and not after as LLaMA's.
    rms_norm_rounds_once: ClassVar[bool] = False
    #: What embeddings are multiplied by, and the probability of dropping a number of one, in
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
        """Return rope parameters with nothing left to defaults."""
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
        """Build the config from config.json's content, in either dialect of rotary positions."""
        return super().from_hf(gathered(values))

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content, rotary positions in both dialects."""
        return super().to_hf() | old_dialect(self.rope_parameters)

    def problems(self) -> list[str]:
        return super().problems() or self.rotary_problems()

    def rotary_problems(self) -> list[str]:
        """Return what is wrong with the settled rope parameters."""
        return rope_problems(self.rope_parameters, self.rotary_size)

    # What modules ask.

    @property
    def original_context(self) -> int | None:
        """Return the context of the first training, where it stands beside `rope_parameters`."""
        value = self.extra.get("original_max_position_embeddings")
        return value if isinstance(value, int) else None

    @property
    def norm_eps(self) -> float:
        """Return what norms add to the mean square, or to the variance."""
        return getattr(self, self.layer_norm_eps_field or "rms_norm_eps")

    @property
    def rotary_size(self) -> int:
        """Return the columns of a head, or of its part for positions."""
        return self.head_size

    @property
    def ropes(self) -> dict[str, dict[str, Any]]:
        """Return the rope parameters of each kind in `rotary_kinds`."""
        return {FULL: self.rope_parameters}

    @property
    def rotary_kinds(self) -> list[str | None]:
        """Return by which of `ropes` each layer rotates queries and keys; None: by none."""
        return [FULL] * self.num_hidden_layers
