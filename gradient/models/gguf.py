"""What llama.cpp calls the parts of a model and its hyperparameters: how a family says so.

A configuration class has an `Architecture` in its attribute `gguf`, whose rows serve both
directions. The conventions are those of llama.cpp's convert_hf_to_gguf.py and of its loader
(src/llama-model.cpp): names of tensors from gguf's `tensor_mapping.py`, names of hyperparameters
from the GGUF specification, and for a key that a file lacks the value that llama.cpp assumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

#: Marks a key without which a file describes no model.
REQUIRED = object()
#: The key that says which layers have a window: every how manieth has none, or a flag for each.
WINDOW_PATTERN = "attention.sliding_window_pattern"


@dataclass(frozen=True)
class Key:
    """A hyperparameter: `<architecture>.<gguf>` in a file, `hf` in config.json.

    `default` is what an absent key means: a value, a function of the values before it that returns
    one, None for no such field, or `REQUIRED`.
    """

    gguf: str
    hf: str
    default: Any = REQUIRED


class Metadata(Protocol):
    """A file's metadata as one architecture's hyperparameters."""

    def get(self, key: str, default: Any) -> Any:
        """Return the number or string under `<architecture>.<key>`."""
        ...

    def raw(self, key: str) -> Any:
        """Return what lies under `<architecture>.<key>`, of any type; None if nothing does."""
        ...


Shapes = Mapping[str, tuple[int, ...]]


def _nothing_to_read(values: dict[str, Any], metadata: Metadata, shapes: Shapes) -> None:
    return None


def _nothing_to_write(values: Mapping[str, Any], keys: dict[str, Any]) -> list[str]:
    return []


@dataclass(frozen=True)
class Experts:
    """A mixture of experts, whose matrices lie in one tensor of three dimensions for each layer.

    `stems` are the experts' matrices: what GGUF calls the stack, and the Hugging Face name of one
    of it, with {} for the expert's number.
    """

    stems: Mapping[str, str]
    router: str


@dataclass(frozen=True)
class Architecture:
    """How one architecture looks in both worlds."""

    #: `general.architecture`.
    name: str
    keys: tuple[Key, ...] = ()
    #: Tensors outside of layers, and modules in one: names without `.weight` or `.bias`.
    top: Mapping[str, str] = field(default_factory=dict)
    block: Mapping[str, str] = field(default_factory=dict)
    #: What a layer's modules begin with in Hugging Face's names.
    layers: str = "model.layers"
    experts: Experts | None = None
    #: What config.json must say for the model to be this architecture: the value, or several that
    #: mean the same, of which the first is written into config.json.
    fixed: Mapping[str, Any] = field(default_factory=dict)
    #: Keys that every file of the architecture has, and their values.
    constants: Mapping[str, Any] = field(default_factory=dict)
    #: Modules whose rows are in LLaMA's own order, in pairs.
    paired: tuple[str, ...] = ()
    #: Modules whose rows Hugging Face has by key-value heads: the queries that share one, its key,
    #: its value; GGUF has all queries, all keys, all values.
    grouped: tuple[str, ...] = ()
    #: Modules whose matrices Hugging Face stores transposed, as (in, out).
    transposed: tuple[str, ...] = ()
    #: RMSNorm's weights are stored with 1 added.
    norms_plus_one: bool = False
    rope: bool = True
    #: rope.freq_base where a file has none.
    rope_theta: float = 10_000.0
    #: Of so many layers the last has no rotary positions; None: all layers have them.
    no_rope_period: int | None = None
    #: Of so many layers the last has no window, where a file does not say which have one.
    window_period: int | None = None
    #: Whether llama.cpp gives every layer the window that the metadata name.
    one_window: bool = False
    #: Tensors of a checkpoint that the architecture has no place for, and no use: patterns.
    dropped: tuple[str, ...] = ()
    #: Settle in config.json's content what takes more than a key.
    read: Callable[[dict[str, Any], Metadata, Shapes], None] = _nothing_to_read
    #: Add to the keys what takes more than one of them; returns what cannot be said.
    write: Callable[[Mapping[str, Any], dict[str, Any]], list[str]] = _nothing_to_write


def read_windows(values: dict[str, Any], metadata: Metadata, period: int | None = None) -> None:
    """Set `layer_types`, where the metadata or the architecture's period say which have a window.

    Args:
        period: as of `Architecture.window_period`.
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
        norm_eps: the field with the epsilon of its norms, RMSNorms if its name says so.
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
    """Return the modules of a GPT-NeoX's layer and of its relatives', but for a norm of its MLP.

    Args:
        attention: what checkpoints call its attention.
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
#: The same, to be written in words that all versions of transformers read.
PYTORCH_TANH_GELU = ("gelu_pytorch_tanh", *TANH_GELU)

#: A decoder like LLaMA, for families to begin from: `replace(LLAMA_LIKE, name=...)`.
LLAMA_LIKE = Architecture("", DECODER, TOP, BLOCK, fixed=SILU)
