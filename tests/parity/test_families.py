"""Every decoder family side by side with transformers: random tiny models, saved by it, read here.

`TABLE` has one row for each family and each dialect of its config.json. A new row is one line: the
name of transformers' config class, and what differs from `SHAPE`. Each row is held to the same
logits, the same greedy tokens (cached and not, alone and in a ragged batch), the same loss and
gradients in training, from float32 and from sharded bfloat16, and back again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.checkpoints import load_model, save_model
from gradient.generation import generate
from gradient.models.moe import Router
from support.transformers_models import (
    LLAMA3,
    LONGROPE,
    NEW_TOKENS,
    TOKENS,
    YARN,
    Row,
    assert_close,
    compare_training,
    greedy,
    logits_of,
    random_model,
    row,
    save,
    texts,
    theirs,
    torch,
    transformers,
)

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("one_thread")]

LINEAR = {"rope_type": "linear", "factor": 3.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.5}
SU = {k: v for k, v in LONGROPE.items() if k in ("short_factor", "long_factor")} | {"type": "su"}
MIXED = ["full_attention", "sliding_attention"]
CAPS = {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0}
NO_CAPS = dict.fromkeys(CAPS)
THREE = {"num_hidden_layers": 3, "sliding_window_pattern": 3}  # the third without a window
SMALL_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

MULTIPLIERS = {
    "embedding_multiplier": 3.0,
    "logits_scaling": 2.5,
    "residual_multiplier": 0.4,
    "attention_multiplier": 0.2,
}

OPT = {"ffn_dim": 44, "init_std": 0.1, "dropout": 0.0}
MLA = {
    "q_lora_rank": None,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "num_key_value_heads": 4,
}

TABLE = [
    # LLaMA: sizes, biases, tying
    row("Llama"),
    row("Llama", tie_word_embeddings=True),
    row("Llama", num_key_value_heads=4),
    row("Llama", num_key_value_heads=1),
    row("Llama", num_key_value_heads=None),
    row("Llama", attention_bias=True),
    row("Llama", mlp_bias=True, attention_bias=True),
    row("Llama", head_dim=14),
    row("Llama", head_dim=2, num_attention_heads=8, num_key_value_heads=8),
    row("Llama", hidden_size=36, num_attention_heads=6, num_key_value_heads=3, head_dim=10),
    row("Llama", num_hidden_layers=1, intermediate_size=7, vocab_size=131),
    row("Llama", rms_norm_eps=1e-2, hidden_act="gelu"),
    row("Llama", hidden_act="gelu_pytorch_tanh", pretraining_tp=2),
    row("Llama", hidden_act="relu", pad_token_id=None, eos_token_id=[2, 5]),
    row("Llama", pad_token_id=-1, old=True),
    # Rotary positions, past the original context too
    row("Llama", rope_theta=500.0),
    row("Llama", rope_theta=1e6, old=True),
    row("Llama", rope_scaling=LINEAR),
    row("Llama", rope_scaling=LINEAR, rope_theta=700.0, old=True),
    row("Llama", rope_scaling=DYNAMIC, max_position_embeddings=64),
    row("Llama", rope_scaling=DYNAMIC, max_position_embeddings=48),
    row("Llama", rope_scaling=DYNAMIC, max_position_embeddings=16, old=True),
    row("Llama", rope_scaling=LLAMA3),
    row("Llama", rope_scaling=LLAMA3, rope_theta=5e5, old=True),
    row("Llama", rope_scaling=YARN),
    row("Llama", rope_scaling=YARN | {"attention_factor": 0.7, "truncate": False}, head_dim=20),
    row("Llama", rope_scaling=YARN | {"mscale": 0.8, "mscale_all_dim": 0.5}, rope_theta=800.0),
    row("Llama", rope_scaling=YARN | {"beta_fast": 20.0, "beta_slow": 2}, old=True),
    row("Llama", rope_scaling={"rope_type": "yarn", "factor": 2.0}, max_position_embeddings=24),
    row("Llama", rope_scaling=LONGROPE, max_position_embeddings=128),
    row("Llama", rope_scaling=LONGROPE | {"factor": 3.0, "attention_factor": 1.2}),
    row("Llama", rope_parameters={"rope_type": "default", "rope_theta": 300.0}),
    # Mistral: a window in every layer
    row("Mistral", sliding_window=None),
    row("Mistral", sliding_window=6, head_dim=12),
    row("Mistral", sliding_window=2, num_key_value_heads=4, old=True),
    row("Mistral", sliding_window=39, rope_theta=1e6, tie_word_embeddings=True),
    row("Mistral", sliding_window=100, rope_scaling=YARN),
    # Qwen2: biases, windows in the upper layers
    row("Qwen2"),
    row("Qwen2", tie_word_embeddings=True, old=True),
    row("Qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=1),
    row("Qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=0),
    row("Qwen2", use_sliding_window=False, sliding_window=5, max_window_layers=0, old=True),
    row("Qwen2", use_sliding_window=True, sliding_window=7, layer_types=MIXED[::-1]),
    row("Qwen2", rope_scaling=YARN, head_dim=16, rope_theta=1e6, old=True),
    # Qwen3: normalised queries and keys
    row("Qwen3", head_dim=8),
    row("Qwen3", head_dim=20, tie_word_embeddings=True, attention_bias=True, old=True),
    row("Qwen3", head_dim=6, num_key_value_heads=1, rope_scaling=DYNAMIC),
    row("Qwen3", head_dim=16, use_sliding_window=True, sliding_window=9, layer_types=MIXED),
    row("Qwen3", rope_scaling=LLAMA3, num_attention_heads=2, num_key_value_heads=2),
    # Phi-3: fused projections, part of each head turned, two sets of frequencies
    row("Phi3"),
    row("Phi3", sliding_window=8, tie_word_embeddings=True, num_key_value_heads=4),
    row("Phi3", partial_rotary_factor=0.75, hidden_act="gelu"),
    row("Phi3", partial_rotary_factor=0.7, head_dim=16, old=True),
    row("Phi3", rope_scaling=LONGROPE, original_max_position_embeddings=32),
    row("Phi3", rope_scaling=LONGROPE, original_max_position_embeddings=48, sliding_window=9),
    row(
        "Phi3",
        rope_scaling=LONGROPE,
        hidden_size=64,
        partial_rotary_factor=0.5,
        original_max_position_embeddings=16,
    ),
    # ERNIE 4.5: neighbouring pairs, biases
    row("Ernie4_5", head_dim=8),
    row("Ernie4_5", use_bias=True, tie_word_embeddings=False, head_dim=18),
    row("Ernie4_5", head_dim=None, rope_theta=1e4, num_key_value_heads=1, old=True),
    row("Ernie4_5", head_dim=8, rope_scaling=LLAMA3, rope_theta=1e4),
    # Gemma: norms by 1 + weight, scaled embeddings
    row("Gemma", head_dim=8),
    row("Gemma", head_dim=16, num_key_value_heads=1, attention_bias=True, old=True),
    row("Gemma", head_dim=6, hidden_act="gelu", rope_scaling=LINEAR, pad_token_id=0),
    row("Gemma", head_dim=10, hidden_act="silu", tie_word_embeddings=False, rms_norm_eps=1e-2),
    # Gemma 2: every other layer with a window, bounded scores and logits
    row("Gemma2", head_dim=8, sliding_window=5),
    row("Gemma2", head_dim=8, sliding_window=39, layer_types=MIXED[::-1], hidden_activation="gelu"),
    row("Gemma2", **CAPS, head_dim=8, sliding_window=7, query_pre_attn_scalar=11, old=True),
    row("Gemma2", **NO_CAPS, head_dim=14, sliding_window=2, num_hidden_layers=3),
    row("Gemma2", **CAPS, head_dim=12, rope_scaling=YARN, attention_bias=True, rope_theta=600.0),
    # Gemma 3: normalised queries and keys, other rotary positions where there is a window
    row("Gemma3Text", **THREE, head_dim=8, sliding_window=6, query_pre_attn_scalar=8),
    row("Gemma3Text", **THREE, head_dim=8, sliding_window=9, query_pre_attn_scalar=12, old=True),
    row("Gemma3Text", head_dim=8, num_hidden_layers=7, sliding_window=4, old=True),
    row("Gemma3Text", head_dim=12, layer_types=MIXED[:1] * 2, attention_bias=True),
    row(
        "Gemma3Text", **THREE, **CAPS, head_dim=6, sliding_window=11, rope_scaling=LINEAR, old=True
    ),
    row(
        "Gemma3Text",
        head_dim=10,
        layer_types=MIXED,
        sliding_window=5,
        rope_parameters={MIXED[0]: YARN | {"rope_theta": 900.0}, MIXED[1]: {"rope_theta": 20.0}},
    ),
    row("Gemma3Text", head_dim=14, layer_types=MIXED, rope_scaling=YARN | {"truncate": False}),
    row(
        "Gemma3Text",
        head_dim=8,
        layer_types=MIXED,
        rope_scaling={"rope_type": "yarn", "factor": 3.0},
        original_max_position_embeddings=9,
    ),
    # Phi: attention and MLP side by side, part of each head turned
    row("Phi"),
    row("Phi", num_attention_heads=2, num_key_value_heads=None, partial_rotary_factor=0.4),
    row("Phi", qk_layernorm=True, tie_word_embeddings=True, num_key_value_heads=1),
    row("Phi", num_attention_heads=2, partial_rotary_factor=0.25, hidden_act="gelu", old=True),
    row(
        "Phi", num_attention_heads=1, num_key_value_heads=1, rope_scaling=DYNAMIC, rope_theta=300.0
    ),
    row("Phi", head_dim=12, num_key_value_heads=4, layer_norm_eps=1e-2, old=True),
    # Mixtures of experts (of sizes that PyTorch's bfloat16 kernel takes)
    row("Mixtral", num_local_experts=4, intermediate_size=24),
    row(
        "Mixtral",
        num_local_experts=3,
        num_experts_per_tok=1,
        intermediate_size=24,
        sliding_window=7,
        old=True,
    ),
    row("Mixtral", num_local_experts=2, intermediate_size=8, head_dim=12, hidden_act="gelu"),
    row("Qwen3Moe", num_experts=5, num_experts_per_tok=2, moe_intermediate_size=16, head_dim=8),
    row(
        "Qwen3Moe",
        num_experts=4,
        num_experts_per_tok=3,
        moe_intermediate_size=24,
        norm_topk_prob=True,
        head_dim=12,
        tie_word_embeddings=True,
        attention_bias=True,
        old=True,
    ),
    row("Qwen3Moe", **SMALL_MOE, decoder_sparse_step=2, use_sliding_window=True, sliding_window=9),
    row("Qwen3Moe", **SMALL_MOE, mlp_only_layers=[1]),
    row("Qwen2Moe", **SMALL_MOE, shared_expert_intermediate_size=20),
    row(
        "Qwen2Moe",
        **SMALL_MOE,
        norm_topk_prob=True,
        qkv_bias=False,
        mlp_only_layers=[0],
        use_sliding_window=True,
        sliding_window=6,
        max_window_layers=2,
    ),
    # GPT-NeoX: queries, keys and values head by head, attention and MLP side by side
    row("GPTNeoX", num_key_value_heads=4),
    row("GPTNeoX", use_parallel_residual=False, rotary_pct=0.5, hidden_act="gelu_new"),
    row("GPTNeoX", attention_bias=False, rope_scaling=LINEAR | {"rope_theta": 900.0}),
    row("GPTNeoX", tie_word_embeddings=True, rotary_pct=1.0, layer_norm_eps=1e-2),
    # OLMo 2: norms behind, queries and keys normalised over all heads
    row("Olmo2"),
    row("Olmo2", attention_bias=True, tie_word_embeddings=True, num_key_value_heads=1, old=True),
    row("Olmo2", rope_scaling=YARN, rope_theta=5e5, num_key_value_heads=4),
    # Arcee: no gate
    row("Arcee"),
    row("Arcee", attention_bias=True, mlp_bias=True, tie_word_embeddings=True, old=True),
    # Granite: multipliers
    row("Granite"),
    row("Granite", **MULTIPLIERS, tie_word_embeddings=True),
    row("Granite", **MULTIPLIERS, attention_bias=True, mlp_bias=True, old=True),
    # StarCoder2: LayerNorm, an MLP without a gate
    row("Starcoder2"),
    row("Starcoder2", use_bias=False, sliding_window=7, tie_word_embeddings=False, old=True),
    row("Starcoder2", num_key_value_heads=1, norm_epsilon=1e-2, hidden_act="relu"),
    # StableLM: LayerNorm, a part of each head rotated, attention and MLP side by side
    row("StableLm"),
    row("StableLm", use_qkv_bias=True, use_parallel_residual=True, tie_word_embeddings=True),
    row("StableLm", qk_layernorm=True, use_parallel_residual=True, partial_rotary_factor=0.5),
    row("StableLm", qk_layernorm=True, rope_scaling=LINEAR, old=True),
    # SmolLM3: layers without positions
    row("SmolLM3", num_hidden_layers=4),
    row("SmolLM3", no_rope_layers=[0, 1], rope_theta=500.0, old=True),
    row("SmolLM3", no_rope_layer_interval=2, use_sliding_window=True, sliding_window=6),
    # GLM-4: norms on both sides, neighbouring pairs, fused MLP
    row("Glm4", head_dim=8),
    row("Glm4", head_dim=16, attention_bias=False, partial_rotary_factor=0.25, old=True),
    row("Glm4", head_dim=8, num_key_value_heads=1, rope_theta=900.0, tie_word_embeddings=True),
    # OPT: learned positions from 2 on, norms before or behind
    row("OPT", **OPT),
    row("OPT", **OPT, do_layer_norm_before=False, word_embed_proj_dim=20),
    row("OPT", **OPT, enable_bias=False, tie_word_embeddings=False, activation_function="gelu"),
    row("OPT", **OPT, layer_norm_elementwise_affine=False, _remove_final_layer_norm=True),
    # Falcon: groups of heads in one matrix, attention and MLP side by side
    row("Falcon"),
    row("Falcon", bias=True, parallel_attn=False, multi_query=False, tie_word_embeddings=False),
    row("Falcon", new_decoder_architecture=True, num_kv_heads=2, ffn_hidden_size=44),
    row(
        "Falcon",
        new_decoder_architecture=True,
        num_kv_heads=1,
        num_ln_in_parallel_attn=1,
        rope_theta=700.0,
    ),
    # GPT-Neo: windows in every other layer, scores not scaled
    row("GPTNeo", attention_types=[[["global", "local"], 1]], window_size=9),
    row(
        "GPTNeo",
        num_hidden_layers=3,
        num_attention_heads=2,
        attention_types=[[["local"], 2], [["global"], 1]],
        window_size=6,
        tie_word_embeddings=False,
    ),
    # DeepSeek-V2: latent attention, shared experts
    row("DeepseekV2", **MLA),
    row("DeepseekV2", **MLA | {"q_lora_rank": 12}, first_k_dense_replace=1, attention_bias=True),
    row("DeepseekV2", **MLA, rope_scaling=YARN | {"mscale": 0.7, "mscale_all_dim": 0.6}),
    row("DeepseekV2", **MLA, routed_scaling_factor=2.5, mlp_bias=False, rope_theta=900.0),
]


@pytest.fixture(scope="module", params=TABLE, ids=str)
def case(request) -> Row:
    return request.param


@pytest.fixture(scope="module")
def folder(case, tmp_path_factory) -> Path:
    """The row's model, in float32."""
    return save(random_model(case), case, tmp_path_factory.mktemp("float32"))


def test_logits(folder):
    ours = load_model(folder)
    for tokens in (1, 13, TOKENS):
        ids = texts(2, tokens, ours.config.vocab_size, seed=tokens)
        assert_close(logits_of(ours, ids), logits_of(theirs(folder), ids), what=f"{tokens} tokens")


def test_greedy_tokens(folder):
    ours = load_model(folder)
    prompts = [texts(1, n, ours.config.vocab_size, seed=n)[0].tolist() for n in (3, 17, 36)]
    expected = [greedy(theirs(folder), prompt) for prompt in prompts]
    options = {"max_new_tokens": NEW_TOKENS, "ignore_eos": True, "beyond_context": True}
    assert [generate(ours, prompt, **options).token_ids for prompt in prompts] == expected
    assert [each.token_ids for each in generate(ours, prompts, **options)] == expected


def test_a_training_step(folder):
    compare_training(load_model(folder), theirs(folder))


def test_a_window_of_one_token(tmp_path):
    """Each token sees itself alone. transformers' own cache then forgets to forget."""
    case = row("Mistral", sliding_window=1)
    folder = save(random_model(case), case, tmp_path)
    ours = load_model(folder)
    prompt = texts(1, 9, ours.config.vocab_size)[0].tolist()
    expected = greedy(theirs(folder), prompt, use_cache=False)
    for past in ("static", "sliding", "paged"):
        options = {
            "max_new_tokens": NEW_TOKENS,
            "ignore_eos": True,
            "beyond_context": True,
            "cache": past,
        }
        assert generate(ours, prompt, **options).token_ids == expected


def test_bfloat16_in_shards(case, tmp_path):
    model = random_model(case).to(torch.bfloat16)
    save(model, case, tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ids = texts(2, TOKENS, model.config.vocab_size)
    wide = load_model(tmp_path, dtype=gradient.float32)
    exact = logits_of(theirs(tmp_path), ids)
    assert_close(logits_of(wide, ids), exact)
    ours = load_model(tmp_path)
    assert ours.dtype == gradient.bfloat16
    # Both are off the exact result by 1 %, and transformers' attention kernels off each other.
    narrow, expected = logits_of(ours, ids), logits_of(theirs(tmp_path, torch.bfloat16), ids)
    if has_experts(ours):
        # Where two experts are nearly tied, the last bit sends a token to the other one.
        errors = np.abs(narrow - expected).max(-1).ravel()  # of each token
        ties = np.argsort(errors)[len(errors) * 98 // 100 :]
        narrow.reshape(-1, narrow.shape[-1])[ties] = expected.reshape(-1, narrow.shape[-1])[ties]
    assert_close(narrow, expected, 3e-2)


def has_experts(model: Any) -> bool:
    return any(isinstance(module, Router) for module in model.modules())


def test_transformers_reads_what_we_save(folder, tmp_path):
    ours = load_model(folder)
    save_model(ours, tmp_path, max_shard_bytes=30_000)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ids = texts(1, TOKENS, ours.config.vocab_size)
    assert_close(logits_of(ours, ids), logits_of(model.eval(), ids))
    again = load_model(tmp_path)
    assert np.array_equal(logits_of(again, ids), logits_of(ours, ids))
