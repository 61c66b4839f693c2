"""Every decoder family as a small random model: rows for tests that hold for all of them.

A new family adds a row: its model type, what follows a comma tells variants apart, and what differs
from `SHAPE`.
"""

from __future__ import annotations

from typing import Any

import gradient
from gradient.models import CausalLM, config_class, model_class

VOCAB, CONTEXT = 61, 128
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
CAPS = {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 4.0}

FAMILIES: dict[str, dict[str, Any]] = {
    "arcee": {},
    "deepseek_v2": {
        "q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 6,
        "v_head_dim": 10, "n_routed_experts": 4, "moe_intermediate_size": 16,
    },
    "deepseek_v2, dense": {
        "q_lora_rank": 12, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4,
        "v_head_dim": 6, "first_k_dense_replace": 3, "attention_bias": True,
    },
    "ernie4_5": {"use_bias": True, "head_dim": 8},
    "falcon": {},
    "falcon, new": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "gemma": {"head_dim": 8, "attention_bias": True},
    "gemma2": {"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8, **CAPS},
    "gemma3_text": {
        "head_dim": 8, "sliding_window": 5, "layer_types": SLIDING, "rope_local_base_freq": 50.0,
    },
    "glm4": {"head_dim": 8},
    "gpt2": {},
    "gpt_neo": {"attention_types": [[["local"], 2], [["global"], 1]], "window_size": 5},
    "gpt_neox": {},
    "gpt_neox, sequential": {"use_parallel_residual": False, "rotary_pct": 1.0},
    "granite": {"residual_multiplier": 0.5, "attention_multiplier": 0.4},
    "llama": {},
    "llama, biases": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "llama, dynamic rope": {
        "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 16,
    },
    "mistral": {"sliding_window": 7},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "olmo2": {},
    "opt": {"ffn_dim": 32},
    "opt, norms behind": {
        "ffn_dim": 32, "word_embed_proj_dim": 16, "do_layer_norm_before": False,
    },
    "phi": {"partial_rotary_factor": 0.7},
    "phi, normed": {
        "partial_rotary_factor": 0.7, "qk_layernorm": True, "num_key_value_heads": 1,
    },
    "phi3": {"partial_rotary_factor": 0.7, "sliding_window": 9},
    "qwen2": {"use_sliding_window": True, "sliding_window": 9, "layer_types": SLIDING},
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 20},
    "qwen3": {"head_dim": 10},
    "qwen3_moe": {**MOE, "head_dim": 8, "mlp_only_layers": [1], "norm_topk_prob": True},
    "smollm3": {"no_rope_layers": [1, 0, 1]},
    "stablelm": {"qk_layernorm": True, "use_parallel_residual": True},
    "stablelm, sequential": {"use_qkv_bias": True},
    "starcoder2": {"sliding_window": 8},
}  # fmt: skip


def random_model(family: str, device: str = "cpu", **changes: Any) -> CausalLM:
    """Return a family's model, with weights wide enough for every part to matter."""
    model_type = family.partition(",")[0]
    values = {"model_type": model_type, **SHAPE, **FAMILIES[family], **changes}
    gradient.manual_seed(4)
    model: Any = model_class(model_type)(config_class(model_type).from_hf(values))
    with gradient.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * gradient.randn_like(parameter))
    return model.to(device).eval()
