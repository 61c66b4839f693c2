"""The configurations of Gemma 1, 2 and 3, with the defaults of transformers' classes.

As in `gradient.models.llama_config`, modules read their differences from properties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from gradient.checks import Relation
from gradient.errors import FileFormatError
from gradient.models.config import constant, limited, positive, same_as, size
from gradient.models.gguf import (
    DECODER,
    KV_HEADS,
    LLAMA_LIKE,
    MLP,
    PYTORCH_TANH_GELU,
    QK_NORMS,
    QKVO,
    SIZES,
    WINDOW,
    Key,
    Metadata,
    Shapes,
    read_windows,
)
from gradient.models.llama_config import BiasFields, LlamaFamilyConfig, Norms
from gradient.models.rope_parameters import old_dialect, rope_problems
from gradient.models.rotary_config import FULL, SLIDING


def cap(default: float | None) -> Any:
    """Return a field for the soft cap of scores or logits; None: no cap."""
    return limited(default, "null or positive", lambda value: value > 0)


# ---- GGUF ---------------------------------------------------------------------------------------

_NORMS = Norms(
    after_attention="post_attention_layernorm",
    before_mlp="pre_feedforward_layernorm",
    after_mlp="post_feedforward_layernorm",
)
_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
#: llama.cpp recognises the 27B models by their depth; the width determines their scale of scores.
_DEPTH_OF_27B = {"gemma2": 46, "gemma3_text": 62}


def usual_scalar(values: Mapping[str, Any]) -> int:
    """Return the query_pre_attn_scalar that llama.cpp assumes."""
    if values["num_hidden_layers"] == _DEPTH_OF_27B[values["model_type"]]:
        return values["hidden_size"] // values["num_attention_heads"]
    return values["head_dim"]


def read_gguf(values: dict[str, Any], metadata: Metadata, shapes: Shapes) -> None:
    """Read windows, soft caps and the scale of Gemma 2 and 3, and the local layers' rotary base."""
    gguf = GEMMA2_GGUF if values["model_type"] == "gemma2" else GEMMA3_GGUF
    read_windows(values, metadata, gguf.window_period)
    if scale := metadata.get("attention.scale", None):
        divisor = scale**-2  # an integer with float32's rounding error, or the exact number
        whole = round(divisor)
        values["query_pre_attn_scalar"] = (
            whole if abs(divisor - whole) < 1e-4 * divisor else divisor
        )
    else:
        values["query_pre_attn_scalar"] = usual_scalar(values)
    values |= {name: values.get(name) or None for name in _CAPS}  # 0 means no cap
    if values["model_type"] == "gemma3_text":
        values["rope_local_base_freq"] = metadata.get("rope.freq_base_swa", 10_000.0)


def write_gemma2(values: Mapping[str, Any], keys: dict[str, Any]) -> list[str]:
    """Add the scale of the scores, and 0 for missing soft caps."""
    if values["query_pre_attn_scalar"] != usual_scalar(values):
        keys["attention.scale"] = float(values["query_pre_attn_scalar"]) ** -0.5
    keys |= {name: 0.0 for name in _CAPS if not values.get(name)}
    return []


def write_gemma3(values: Mapping[str, Any], keys: dict[str, Any]) -> list[str]:
    """Add the scale of the scores, and the local layers' rotary base."""
    if values["query_pre_attn_scalar"] != usual_scalar(values):
        keys["attention.scale"] = float(values["query_pre_attn_scalar"]) ** -0.5
    local = (values.get("rope_parameters") or {}).get(SLIDING, {})
    base = local.get("rope_theta") or values.get("rope_local_base_freq") or 10_000.0
    keys["rope.freq_base_swa"] = float(base)
    kind = local.get("rope_type", "default")
    return [] if kind == "default" else [f"rope_type {kind!r} in local layers"]


GEMMA_GGUF = replace(
    LLAMA_LIKE,
    name="gemma",
    fixed={"hidden_activation": PYTORCH_TANH_GELU},
    norms_plus_one=True,
)
GEMMA2_GGUF = replace(
    GEMMA_GGUF,
    name="gemma2",
    keys=(
        *DECODER,
        Key("attention.sliding_window", "sliding_window", 4096),
        Key("attn_logit_softcapping", "attn_logit_softcapping", 50.0),
        Key("final_logit_softcapping", "final_logit_softcapping", 30.0),
    ),
    block=QKVO | _NORMS.gguf | MLP,
    window_period=2,
    read=read_gguf,
    write=write_gemma2,
)
GEMMA3_GGUF = replace(
    GEMMA2_GGUF,
    name="gemma3",
    keys=(
        Key("context_length", "max_position_embeddings", 131_072),
        *SIZES,
        KV_HEADS,
        Key("attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6),
        Key("attention.key_length", "head_dim", 256),
        WINDOW,
        *(Key(name, name, None) for name in _CAPS),
    ),
    block=QKVO | QK_NORMS | _NORMS.gguf | MLP,
    rope_theta=1_000_000.0,
    window_period=6,
    write=write_gemma3,
)


# ---- configurations -----------------------------------------------------------------------------


class GemmaConfig(LlamaFamilyConfig):
    """The shape of a Gemma 1; the defaults are the 7B model's."""

    model_type = "gemma"
    gguf = GEMMA_GGUF
    bias_fields = BiasFields("attention_bias", "attention_bias")

    vocab_size: int = 256000
    hidden_size: int = 3072
    intermediate_size: int = 24576
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 16
    head_dim: int | None = 256
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    rms_norm_eps: float = positive(1e-6)
    attention_bias: bool = False
    use_bidirectional_attention: bool | None = limited(
        None,
        "false: causal language models are supported, encoders such as EmbeddingGemma are not",
        lambda value: not value,
    )
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1
    pad_token_id: int | None = 0

    @classmethod
    def from_hf(cls, values: dict[str, Any]) -> Self:
        act = cls.activation(values)
        values = {key: value for key, value in values.items() if key != "hidden_activation"}
        return super().from_hf(values | {"hidden_act": "gelu_pytorch_tanh" if act is None else act})

    @classmethod
    def activation(cls, values: dict[str, Any]) -> Any:
        """Return the activation in config.json's content; None if it has none.

        The first files had hidden_act "gelu" but meant the tanh formula; the correction introduced
        the key hidden_activation.
        """
        stated = [values.get(key) for key in ("hidden_act", "hidden_activation")]
        stated = ["gelu_pytorch_tanh" if act == "gelu" else act for act in stated if act]
        if len(stated) == 2 and stated[0] != stated[1]:
            raise FileFormatError("hidden_act = {!r}, but hidden_activation = {!r}".format(*stated))
        return stated[0] if stated else None

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content, with the keys for old readers."""
        return super().to_hf() | {"hidden_activation": self.hidden_act}


class Gemma2Config(GemmaConfig):
    """The shape of a Gemma 2; the defaults are the 2B model's."""

    model_type = "gemma2"
    gguf = GEMMA2_GGUF
    norms = _NORMS

    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int | None = 4
    query_pre_attn_scalar: float = positive(256)
    sliding_window: int | None = size(4096)
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = cap(30.0)
    attn_logit_softcapping: float | None = cap(50.0)

    @classmethod
    def activation(cls, values: dict[str, Any]) -> Any:
        """Return hidden_activation; hidden_act, which often repeats it, is ignored."""
        return values.get("hidden_activation")

    relations: ClassVar[tuple[Relation, ...]] = (
        Relation(
            ("sliding_window", "layer_types"),
            lambda window, kinds: window is not None or SLIDING not in (kinds or [SLIDING]),
            "sliding_window must be an int: some layers have a window",
        ),
    )

    #: If layer_types is not given, the last of so many layers has no window.
    pattern = constant(2)

    @property
    def usual_layer_kinds(self) -> list[str]:
        layers = range(1, self.num_hidden_layers + 1)
        return [SLIDING if layer % self.pattern else FULL for layer in layers]

    @property
    def scale(self) -> float:
        return self.query_pre_attn_scalar**-0.5

    softcap = same_as("attn_logit_softcapping")
    logit_softcap = same_as("final_logit_softcapping")


class Gemma3Config(Gemma2Config):
    """The shape of a Gemma 3's language model; the defaults are the 4B model's, if it gives one.

    `rope_parameters` has those of both kinds of layers: {"full_attention": {...},
    "sliding_attention": {...}}.
    """

    model_type = "gemma3_text"
    gguf = GEMMA3_GGUF
    qk_norm = "head"
    #: The default bases of rotary frequencies.
    default_thetas: ClassVar[dict[str, float]] = {FULL: 1_000_000.0, SLIDING: 10_000.0}

    vocab_size: int = 262208
    max_position_embeddings: int = 131072
    sliding_window_pattern: int = size(6)
    final_logit_softcapping: float | None = None
    attn_logit_softcapping: float | None = None
    image_token_index: int | None = None  # of a multimodal model: the token for a part of an image
    boi_token_index: int | None = None  # the token before an image

    @classmethod
    def from_hf(cls, values: dict[str, Any]) -> Self:
        """Build the config from config.json's content, of a text model or a multimodal one."""
        if values.get("model_type") == "gemma3":
            values = of_text_model(values)
        return super().from_hf(nested_ropes(values))

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content as that of a text model, with the keys for old readers."""
        local = self.rope_parameters[SLIDING]["rope_theta"]
        old = old_dialect(self.rope_parameters[FULL]) | {"rope_local_base_freq": local}
        return super().to_hf() | old

    def settled_rope(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the rope parameters of both kinds with defaults filled in."""
        found = dict(parameters)
        for kind, theta in self.default_thetas.items():
            given = {} if found.get(kind) is None else found[kind]
            if isinstance(given, dict):
                settled = super().settled_rope({"rope_theta": theta, **given})
                settled.pop("truncate", None)  # of yarn; transformers ignores it here too
                found[kind] = settled
        return found

    def rotary_problems(self) -> list[str]:
        """Return the errors in the settled rope parameters of both kinds."""
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
    def original_context(self) -> None:
        """Return None: a value beside parameters by kind would belong to neither kind."""
        return None

    pattern = same_as("sliding_window_pattern")

    @property
    def rotary_kinds(self) -> list[str | None]:
        return list(self.layer_kinds)

    @property
    def ropes(self) -> dict[str, dict[str, Any]]:
        return {kind: self.rope_parameters[kind] for kind in dict.fromkeys(self.layer_kinds)}

    softcap = constant(None)  # transformers ignores attn_logit_softcapping here too


def of_text_model(values: dict[str, Any]) -> dict[str, Any]:
    """Return the language model's part of a multimodal Gemma 3's config.json."""
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
    """Return Gemma 3's config.json with all keys for positions in `rope_parameters`, by kind.

    Before transformers 5, `rope_theta` and `rope_scaling` were for layers without a window, and
    `rope_local_base_freq` for the others.
    """
    keys = ("rope_theta", "rope_local_base_freq", "rope_scaling")
    theta, local, scaling = (values.get(key) for key in keys)
    values = {key: value for key, value in values.items() if key not in keys}
    given = values.get("rope_parameters") or {}
    if not isinstance(given, dict):
        return values  # the config's type check reports it
    given = dict(given)
    for kind, base in ((FULL, theta), (SLIDING, local)):
        before = {} if base is None else {"rope_theta": base}
        if isinstance(given.get(kind), dict | None):
            given[kind] = {**before, **(given.get(kind) or {})}
    if isinstance(scaling, dict) and isinstance(given[FULL], dict):
        given[FULL] |= scaling
    return values | {"rope_parameters": given}
