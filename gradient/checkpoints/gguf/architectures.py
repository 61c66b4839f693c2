"""What llama.cpp and Hugging Face call the parts of each architecture: tables, and nothing else.

Each row of the tables serves both directions. The conventions are those of llama.cpp's
convert_hf_to_gguf.py and of its loader (src/llama-model.cpp): names of tensors from gguf's
`tensor_mapping.py`, names of hyperparameters from the GGUF specification, and for a key that a file
lacks the value that llama.cpp assumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Marks a key without which a file describes no model.
REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """A hyperparameter: `<architecture>.<gguf>` in a file, `hf` in config.json.

    `default` is what an absent key means: a value, a function of the values before it that returns
    one, None for no such field, or `REQUIRED`.
    """

    gguf: str
    hf: str
    default: Any = REQUIRED


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
    #: config.json's model types that are written as it; the first is what it is read as.
    model_types: tuple[str, ...]
    keys: tuple[Key, ...]
    #: Tensors outside of layers, and modules in one: names without `.weight` or `.bias`.
    top: Mapping[str, str]
    block: Mapping[str, str]
    #: What a layer's modules begin with in Hugging Face's names.
    layers: str = "model.layers"
    experts: Mapping[str, Experts] = field(default_factory=dict)  # by model type
    #: What config.json must say for the model to be this architecture: the value, or several that
    #: mean the same, of which the first is written into config.json.
    fixed: Mapping[str, Any] = field(default_factory=dict)
    #: Modules whose rows are in LLaMA's own order, in pairs.
    paired: tuple[str, ...] = ()
    #: Modules whose matrices Hugging Face stores transposed, as (in, out).
    transposed: tuple[str, ...] = ()
    #: RMSNorm's weights are stored with 1 added.
    norms_plus_one: bool = False
    rope: bool = True
    #: rope.freq_base where a file has none.
    rope_theta: float = 10_000.0
    #: Tensors of a checkpoint that the architecture has no place for, and no use: patterns.
    dropped: tuple[str, ...] = ()


_SIZES = (
    Key("embedding_length", "hidden_size"),
    Key("block_count", "num_hidden_layers"),
    Key("feed_forward_length", "intermediate_size"),
    Key("attention.head_count", "num_attention_heads"),
    Key(
        "attention.head_count_kv",
        "num_key_value_heads",
        lambda values: values["num_attention_heads"],
    ),
)
_CONTEXT = Key("context_length", "max_position_embeddings")
_RMS = Key("attention.layer_norm_rms_epsilon", "rms_norm_eps")
_LAYER_NORM = Key("attention.layer_norm_epsilon", "layer_norm_eps")
_HEAD = Key(
    "attention.key_length",
    "head_dim",
    lambda values: values["hidden_size"] // values["num_attention_heads"],
)
_DECODER = (_CONTEXT, *_SIZES, _RMS, _HEAD)

_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_MLP = {
    "ffn_gate": "mlp.gate_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_up": "mlp.up_proj",
}
_LLAMA = {**_ATTENTION, "ffn_norm": "post_attention_layernorm", **_MLP}
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_GEMMA_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_MIXTRAL_EXPERTS = Experts(
    {
        "ffn_gate_exps": "block_sparse_moe.experts.{}.w1",
        "ffn_down_exps": "block_sparse_moe.experts.{}.w2",
        "ffn_up_exps": "block_sparse_moe.experts.{}.w3",
    },
    router="block_sparse_moe.gate",
)
_QWEN_EXPERTS = Experts(
    {
        "ffn_gate_exps": "mlp.experts.{}.gate_proj",
        "ffn_down_exps": "mlp.experts.{}.down_proj",
        "ffn_up_exps": "mlp.experts.{}.up_proj",
    },
    router="mlp.gate",
)
_SHARED_EXPERT = {
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
}
_QWEN_MOE = (
    Key("expert_count", "num_experts"),
    Key("expert_used_count", "num_experts_per_tok"),
    # Files of early 2024 lack this, and the size of shared experts.
    Key(
        "expert_feed_forward_length",
        "moe_intermediate_size",
        lambda values: values["intermediate_size"] // max(values["num_experts_per_tok"], 1),
    ),
)
_SILU = {"hidden_act": ("silu", "swish")}
_TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh")
_GEMMA_GELU = ("gelu_pytorch_tanh", *(name for name in _TANH_GELU if name != "gelu_pytorch_tanh"))

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        "llama",
        ("llama", "mistral", "mixtral"),
        (
            *_DECODER,
            Key("attention.sliding_window", "sliding_window", None),
            Key("expert_count", "num_local_experts", None),
            Key("expert_used_count", "num_experts_per_tok", None),
        ),
        _TOP,
        _LLAMA,
        experts={"mixtral": _MIXTRAL_EXPERTS},
        fixed=_SILU,
        paired=("attn_q", "attn_k"),
    ),
    Architecture("qwen2", ("qwen2",), _DECODER, _TOP, _LLAMA, fixed=_SILU),
    Architecture("qwen3", ("qwen3",), _DECODER, _TOP, _LLAMA | _QK_NORMS, fixed=_SILU),
    Architecture(
        "qwen2moe",
        ("qwen2_moe",),
        (
            *_DECODER,
            *_QWEN_MOE,
            Key(
                "expert_shared_feed_forward_length",
                "shared_expert_intermediate_size",
                lambda values: values["intermediate_size"],
            ),
            Key("expert_weights_norm", "norm_topk_prob", False),
        ),
        _TOP,
        _LLAMA | _SHARED_EXPERT,
        experts={"qwen2_moe": _QWEN_EXPERTS},
        fixed=_SILU,
    ),
    Architecture(
        "qwen3moe",
        ("qwen3_moe",),
        (*_DECODER, *_QWEN_MOE, Key("expert_weights_norm", "norm_topk_prob", True)),
        _TOP,
        _LLAMA | _QK_NORMS,
        experts={"qwen3_moe": _QWEN_EXPERTS},
        fixed=_SILU,
    ),
    Architecture(
        "phi2",
        ("phi",),
        (_CONTEXT, *_SIZES, _LAYER_NORM, _HEAD),
        {
            "token_embd": "model.embed_tokens",
            "output_norm": "model.final_layernorm",
            "output": "lm_head",
        },
        {
            **_ATTENTION,
            "attn_output": "self_attn.dense",
            "ffn_up": "mlp.fc1",
            "ffn_down": "mlp.fc2",
        },
        fixed={"hidden_act": _TANH_GELU, "qk_layernorm": False},
    ),
    Architecture(
        "phi3",
        ("phi3",),
        (
            _CONTEXT,
            *_SIZES,
            _RMS,
            _HEAD,
            Key("attention.sliding_window", "sliding_window", None),
            Key(
                "rope.scaling.original_context_length",
                "original_max_position_embeddings",
                lambda values: values["max_position_embeddings"],
            ),
        ),
        _TOP,
        {
            "attn_norm": "input_layernorm",
            "attn_qkv": "self_attn.qkv_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm",
            "ffn_up": "mlp.gate_up_proj",
            "ffn_down": "mlp.down_proj",
        },
        fixed=_SILU,
    ),
    Architecture(
        "gemma",
        ("gemma",),
        _DECODER,
        _TOP,
        _LLAMA,
        fixed={"hidden_activation": _GEMMA_GELU},
        norms_plus_one=True,
    ),
    Architecture(
        "gemma2",
        ("gemma2",),
        (
            *_DECODER,
            Key("attention.sliding_window", "sliding_window", 4096),
            Key("attn_logit_softcapping", "attn_logit_softcapping", 50.0),
            Key("final_logit_softcapping", "final_logit_softcapping", 30.0),
        ),
        _TOP,
        _ATTENTION | _GEMMA_NORMS | _MLP,
        fixed={"hidden_activation": _GEMMA_GELU},
        norms_plus_one=True,
    ),
    Architecture(
        "gemma3",
        ("gemma3_text", "gemma3"),
        (
            Key("context_length", "max_position_embeddings", 131_072),
            *_SIZES,
            Key("attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6),
            Key("attention.key_length", "head_dim", 256),
            Key("attention.sliding_window", "sliding_window", None),
            Key("attn_logit_softcapping", "attn_logit_softcapping", None),
            Key("final_logit_softcapping", "final_logit_softcapping", None),
        ),
        _TOP,
        _ATTENTION | _QK_NORMS | _GEMMA_NORMS | _MLP,
        fixed={"hidden_activation": _GEMMA_GELU},
        norms_plus_one=True,
        rope_theta=1_000_000.0,
    ),
    Architecture(
        "ernie4_5",
        ("ernie4_5",),
        _DECODER,
        _TOP,
        _LLAMA,
        fixed=_SILU,
    ),
    Architecture(
        "gpt2",
        ("gpt2",),
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
            "activation_function": _TANH_GELU,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
        },
        transposed=("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
        rope=False,
    ),
    Architecture(
        "bert",
        ("bert",),
        (
            _CONTEXT,
            *(key for key in _SIZES if key.gguf != "attention.head_count_kv"),
            Key("attention.layer_norm_epsilon", "layer_norm_eps"),
        ),
        {
            "token_embd": "bert.embeddings.word_embeddings",
            "token_types": "bert.embeddings.token_type_embeddings",
            "position_embd": "bert.embeddings.position_embeddings",
            "token_embd_norm": "bert.embeddings.LayerNorm",
        },
        {
            "attn_q": "attention.self.query",
            "attn_k": "attention.self.key",
            "attn_v": "attention.self.value",
            "attn_output": "attention.output.dense",
            "attn_output_norm": "attention.output.LayerNorm",
            "ffn_up": "intermediate.dense",
            "ffn_down": "output.dense",
            "layer_output_norm": "output.LayerNorm",
        },
        layers="bert.encoder.layer",
        fixed={"hidden_act": ("gelu", "gelu_python"), "position_embedding_type": "absolute"},
        rope=False,
        dropped=(r"^bert\.pooler\.", r"^cls\."),
    ),
)

BY_NAME = {each.name: each for each in ARCHITECTURES}
BY_MODEL_TYPE = {kind: each for each in ARCHITECTURES for kind in each.model_types}


def supported_architectures() -> list[str]:
    """Return the names of the architectures that are read and written, sorted."""
    return sorted(each.name for each in ARCHITECTURES)
