"""llama.cpp's names of a model's parts and hyperparameters, and how a family declares them.

A configuration class has an `Architecture` in its attribute `gguf`, whose rows serve both
directions. The conventions are those of llama.cpp's convert_hf_to_gguf.py and of its loader
(src/llama-model.cpp): names of tensors from gguf's `tensor_mapping.py`, names of hyperparameters
from the GGUF specification, and for missing keys the values that llama.cpp assumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

#: Marks a key that every file must have.
REQUIRED = object()
#: The key for layers with a window: the period of layers without one, or a flag for each layer.
WINDOW_PATTERN = "attention.sliding_window_pattern"


@dataclass(frozen=True)
class Key:
    """A hyperparameter: `<architecture>.<gguf>` in a file, `hf` in config.json.

    `default` is the meaning of a missing key: a value, a function from the values read before to a
    value, None for no such field, or `REQUIRED`.
    """

    gguf: str
    hf: str
    default: Any = REQUIRED


class Metadata(Protocol):
    """A file's metadata as one architecture's hyperparameters."""

    def get(self, key: str, default: Any) -> Any:
        """Return the number or string of `<architecture>.<key>`, or the default."""
        ...

    def raw(self, key: str) -> Any:
        """Return the value of `<architecture>.<key>`, of any type; None if there is none."""
        ...


Shapes = Mapping[str, tuple[int, ...]]


def _nothing_to_read(values: dict[str, Any], metadata: Metadata, shapes: Shapes) -> None:
    return None


def _nothing_to_write(values: Mapping[str, Any], keys: dict[str, Any]) -> list[str]:
    return []


@dataclass(frozen=True)
class Experts:
    """A mixture of experts; each layer's matrices of one kind are one tensor of three dimensions.

    `stems` are the experts' matrices: GGUF's name of the stack, and the Hugging Face name of one
    matrix in it, with {} for the expert's number.
    """

    stems: Mapping[str, str]
    router: str


@dataclass(frozen=True)
class Architecture:
    """The description of one architecture in Hugging Face's and in GGUF's terms."""

    #: `general.architecture`.
    name: str
    keys: tuple[Key, ...] = ()
    #: Modules outside of layers, and modules of a layer: names without `.weight` or `.bias`.
    top: Mapping[str, str] = field(default_factory=dict)
    block: Mapping[str, str] = field(default_factory=dict)
    #: The prefix of layers in Hugging Face's names.
    layers: str = "model.layers"
    experts: Experts | None = None
    #: Required values in config.json: one value, or several with the same meaning, of which the
    #: first is written to config.json.
    fixed: Mapping[str, Any] = field(default_factory=dict)
    #: Keys with the same value in every file of the architecture.
    constants: Mapping[str, Any] = field(default_factory=dict)
    #: Modules whose rows GGUF has in LLaMA's original order, in pairs.
    paired: tuple[str, ...] = ()
    #: Modules whose rows Hugging Face has grouped by key-value head: the queries that share it, its
    #: key, its value. GGUF has all queries, then all keys, then all values.
    grouped: tuple[str, ...] = ()
    #: Modules whose matrices Hugging Face stores transposed, as (in, out).
    transposed: tuple[str, ...] = ()
    #: Whether weights of RMSNorms are stored with 1 added.
    norms_plus_one: bool = False
    rope: bool = True
    #: The default of rope.freq_base.
    rope_theta: float = 10_000.0
    #: The last of so many layers has no rotary positions; None: all layers have them.
    no_rope_period: int | None = None
    #: The last of so many layers has no window, if a file does not list layers with a window.
    window_period: int | None = None
    #: Whether llama.cpp gives every layer the window in the metadata.
    one_window: bool = False
    #: Patterns of a checkpoint's tensors that are not written.
    dropped: tuple[str, ...] = ()
    #: Change config.json's content in ways that `keys` cannot express.
    read: Callable[[dict[str, Any], Metadata, Shapes], None] = _nothing_to_read
    #: Change the GGUF keys in such ways; returns values that cannot be expressed.
    write: Callable[[Mapping[str, Any], dict[str, Any]], list[str]] = _nothing_to_write


def read_windows(values: dict[str, Any], metadata: Metadata, period: int | None = None) -> None:
    """Set `layer_types` if the metadata or the architecture's period list layers with a window.

    Args:
        period: see `Architecture.window_period`.
    """
    pattern = metadata.raw(WINDOW_PATTERN)
    pattern = period if pattern is None else pattern
    if isinstance(pattern, int) and not isinstance(pattern, bool) and pattern > 0:
        sliding = [(layer + 1) % pattern != 0 for layer in range(values["num_hidden_layers"])]
    elif isinstance(pattern, list) and all(isinstance(each, bool | int) for each in pattern):
        sliding = [bool(each) for each in pattern]
    else:
        return
    window = values.pop("sliding_window", None) or metadata.get("attention.sliding_window", 0)
    if window:
        values["sliding_window"] = window
    else:
        sliding = [False] * len(sliding)
    kinds = {True: "sliding_attention", False: "full_attention"}
    values["layer_types"] = [kinds[each] for each in sliding]


# ---- rows that many families share --------------------------------------------------------------

CONTEXT = Key("context_length", "max_position_embeddings")


def sizes(inner: str) -> tuple[Key, ...]:
    """Return the keys of a decoder's sizes; `inner` is the field with the width of its MLPs."""
    return (
        Key("embedding_length", "hidden_size"),
        Key("block_count", "num_hidden_layers"),
        Key("feed_forward_length", inner),
        Key("attention.head_count", "num_attention_heads"),
    )


SIZES = sizes("intermediate_size")
KV_HEADS = Key(
    "attention.head_count_kv", "num_key_value_heads", lambda values: values["num_attention_heads"]
)
HEAD_DIM = Key(
    "attention.key_length",
    "head_dim",
    lambda values: values["hidden_size"] // values["num_attention_heads"],
)
LAYER_NORM_EPS = Key("attention.layer_norm_epsilon", "layer_norm_eps")
WINDOW = Key("attention.sliding_window", "sliding_window", None)


def decoder_keys(norm_eps: str, *more: Key) -> tuple[Key, ...]:
    """Return the keys of every decoder like LLaMA, and `more`.

    Args:
        norm_eps: the field with the epsilon of its norms; RMSNorms if it contains "rms".
    """
    kind = "layer_norm_rms_epsilon" if "rms" in norm_eps else "layer_norm_epsilon"
    return CONTEXT, *SIZES, KV_HEADS, Key(f"attention.{kind}", norm_eps), HEAD_DIM, *more


DECODER = decoder_keys("rms_norm_eps")


def top_modules(embedding: str, norm: str, head: str = "lm_head") -> dict[str, str]:
    """Return the modules of a decoder outside of its layers."""
    return {"token_embd": embedding, "output_norm": norm, "output": head}


TOP = top_modules("model.embed_tokens", "model.norm")
QKVO = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
ATTENTION = {"attn_norm": "input_layernorm", **QKVO}
MLP = {
    "ffn_gate": "mlp.gate_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_up": "mlp.up_proj",
}
BLOCK = {**ATTENTION, "ffn_norm": "post_attention_layernorm", **MLP}
QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


def fused_block(attention: str) -> dict[str, str]:
    """Return the modules of a layer of GPT-NeoX and its relatives, without the MLP's norm.

    Args:
        attention: the checkpoint's name of attention.
    """
    return {
        "attn_norm": "input_layernorm",
        "attn_qkv": f"{attention}.query_key_value",
        "attn_output": f"{attention}.dense",
        "ffn_up": "mlp.dense_h_to_4h",
        "ffn_down": "mlp.dense_4h_to_h",
    }


#: Modules that convert_hf_to_gguf.py reorders for `Architecture.paired`.
PAIRED = ("attn_q", "attn_k")

GATE_UP = {"ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"}
SILU = {"hidden_act": ("silu", "swish")}
GELU = ("gelu", "gelu_python")
TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh")
#: The same, written under the name that all versions of transformers read.
PYTORCH_TANH_GELU = ("gelu_pytorch_tanh", *TANH_GELU)

#: A decoder like LLaMA, the base for other families: `replace(LLAMA_LIKE, name=...)`.
LLAMA_LIKE = Architecture("", DECODER, TOP, BLOCK, fixed=SILU)
