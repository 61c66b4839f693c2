"""Every decoder family through every kind of cache: its text is that without a cache."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient.generation import KVCache, PromptCache, generate, prefill
from gradient.models.registry import config_class, model_class

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]

FAMILIES = {
    "gpt2": {
        "vocab_size": 61, "n_positions": 128, "n_embd": 24, "n_layer": 3, "n_head": 4,
        "initializer_range": 0.3,
    },
    "llama": {},
    "llama, dynamic rope": {
        "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 16,
    },
    "mistral": {"sliding_window": 7},
    "qwen2": {"use_sliding_window": True, "sliding_window": 9, "layer_types": SLIDING},
    "qwen3": {"head_dim": 10},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 5, "layer_types": SLIDING},
    "phi": {"partial_rotary_factor": 0.7},
    "deepseek_v2": {
        "q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 6,
        "v_head_dim": 10, "n_routed_experts": 4, "moe_intermediate_size": 16,
    },
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "glm4": {"head_dim": 8},
    "gpt_neo": {"attention_types": [[["local"], 2], [["global"], 1]], "window_size": 5},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "gpt_neox": {},
    "granite": {"residual_multiplier": 0.5, "attention_multiplier": 0.4},
    "olmo2": {},
    "smollm3": {"no_rope_layers": [1, 0, 1]},
    "stablelm": {"qk_layernorm": True},
    "starcoder2": {"sliding_window": 8},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
}  # fmt: skip

KINDS = {
    "static": {},
    "sliding": {"slack": 4},
    "paged": {"page_size": 4},
}


def random_model(family: str, device="cpu"):
    model_type = family.split(",")[0]
    values = FAMILIES[family] if model_type == "gpt2" else SHAPE | FAMILIES[family]
    cls = model_class(model_type)
    config = config_class(model_type).from_hf(
        {"model_type": model_type, "eos_token_id": 1, **values}
    )
    gradient.manual_seed(4)
    return cls(config).to(device).eval()


def prompts(*lengths: int) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(2, 61, length).tolist() for length in lengths]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_is_that_without_a_cache(family, kind, device):
    model = random_model(family, device)
    texts = prompts(23, 3, 12)
    options = {"max_new_tokens": 16, "ignore_eos": True, "beyond_context": True}
    if "rope" in family:  # keys that a cache holds stay turned as they were: so it is one of them
        expected = [r.token_ids for r in generate(model, texts, **options)]
    else:
        expected = [r.token_ids for r in generate(model, texts, use_cache=False, **options)]
    for chunk in (5, None):
        found = generate(model, texts, cache=kind, prefill_chunk=chunk, **options)
        assert [r.token_ids for r in found] == expected
    alone = [generate(model, text, cache=kind, **options).token_ids for text in texts]
    assert alone == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_kinds_and_chunks_differ_by_rounding_alone(family, device):
    model = random_model(family, device)
    texts, results = prompts(40, 9), {}
    for kind, options in KINDS.items():
        for dtype in (None, "int8"):
            for chunk in (7, 16, None):
                cache = KVCache.for_model(model, 2, kind=kind, dtype=dtype, **options)
                logits = prefill(model, cache, texts, chunk)
                token = gradient.tensor([[5], [6]], device=device)
                with gradient.no_grad():
                    after = [model(token, cache)[:, -1] for _ in range(3)]
                numbers = gradient.cat([logits, *after]).cpu().numpy()
                results.setdefault(dtype, []).append(numbers)
    for dtype, numbers in results.items():
        scale = np.abs(numbers[0]).max()
        worst = max(np.abs(other - numbers[0]).max() for other in numbers) / scale
        # Codes may flip where a key lies between two: then it is a step of one code in one number.
        assert worst < (5e-6 if dtype is None else 5e-3)
    assert np.abs(results["int8"][0] - results[None][0]).max() / scale < 5e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_conversation_costs_its_new_tokens(family, monkeypatch):
    model = random_model(family)
    passes = []
    forward = model.forward

    def counted(input_ids, *args, **kwargs):
        passes.append(input_ids.shape[1])
        return forward(input_ids, *args, **kwargs)

    monkeypatch.setattr(model, "forward", counted)
    cache = PromptCache(model)
    text = prompts(30)[0]
    for turn in prompts(4, 6):
        text = [*text, *turn]
        options = {"max_new_tokens": 6, "ignore_eos": True, "beyond_context": True}
        expected = generate(model, text, **options)
        passes.clear()
        result = generate(model, text, prompt_cache=cache, **options)
        assert result.token_ids == expected.token_ids
        known = result.timings.cached_tokens
        assert passes == [len(text) - known, 1, 1, 1, 1, 1]
        assert known == (0 if "rope" in family or len(text) == 34 else 39)
        text += result.token_ids
