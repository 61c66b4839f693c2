"""Decoders side by side with transformers on configurations that nobody wrote down.

Each seed draws a family, sizes, options and rotary positions, and is held to transformers' logits,
tokens, loss and gradients as the rows of `test_families` are. A failure names its seed and prints
what was drawn.
"""

from __future__ import annotations

import numpy as np
import pytest

from gradient.checkpoints import load_model
from gradient.generation import generate
from support.transformers_models import (
    Row,
    assert_close,
    compare_training,
    greedy,
    logits_of,
    random_model,
    save,
    texts,
    theirs,
)

pytestmark = [pytest.mark.parity, pytest.mark.slow]

SEEDS = range(60)


class Draw:
    """Random choices for one configuration."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def of(self, *values):
        return values[self.random.integers(len(values))]

    def between(self, low: float, high: float) -> float:
        return round(float(self.random.uniform(low, high)), 3)

    def maybe(self, **values):
        """Each of these or not: what is left out gets the class's default."""
        return {key: value for key, value in values.items() if self.random.random() < 0.5}


def draw_rope(draw: Draw, pairs: int, context: int) -> dict:
    original = draw.of(8, 17, 24, 33)
    kinds = {
        "linear": {"factor": draw.between(1, 9)},
        "dynamic": {"factor": draw.between(1, 9)},
        "llama3": {
            "factor": draw.between(1, 33),
            "low_freq_factor": draw.between(0.5, 2),
            "high_freq_factor": draw.between(2.1, 8),
            "original_max_position_embeddings": original,
        },
        "yarn": {"factor": draw.between(1, 40)}
        | draw.maybe(original_max_position_embeddings=original)
        | draw.maybe(attention_factor=draw.between(0.5, 1.5), truncate=draw.of(True, False))
        | draw.maybe(beta_fast=draw.between(8, 64), beta_slow=draw.between(0.5, 4))
        | draw.maybe(mscale=draw.between(0.5, 1.5), mscale_all_dim=draw.between(0.5, 1.5)),
        "longrope": {
            "short_factor": [draw.between(1, 2) for _ in range(pairs)],
            "long_factor": [draw.between(1, 9) for _ in range(pairs)],
            "original_max_position_embeddings": original,
        }
        | draw.maybe(factor=draw.between(1, 9))
        | draw.maybe(attention_factor=draw.between(0.5, 1.5)),
    }
    kind = draw.of("default", "default", *kinds)
    return {} if kind == "default" else {"rope_scaling": {"rope_type": kind} | kinds[kind]}


def draw_sizes(draw: Draw) -> dict:
    kv_heads, groups, layers = draw.of(1, 2, 3), draw.of(1, 1, 2, 3), draw.of(1, 2, 3)
    heads, head_dim = kv_heads * groups, 2 * draw.of(2, 3, 4, 5, 8)
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": layers,
        "hidden_size": heads * head_dim,
        "intermediate_size": draw.of(5, 16, 33, 64),
        "vocab_size": draw.of(50, 101, 128),
        "max_position_embeddings": draw.of(9, 24, 40, 64, 128),
        "rms_norm_eps": draw.of(1e-6, 1e-5, 1e-3),
        "hidden_act": draw.of("silu", "silu", "gelu", "gelu_new", "relu", "tanh", "relu2"),
        "tie_word_embeddings": draw.of(True, False),
        "pad_token_id": draw.of(None, 0, 7),
    }


def draw_llama(seed: int) -> Row:
    """Return a configuration of LLaMA's family that transformers accepts."""
    draw = Draw(seed)
    family = draw.of("Llama", "Mistral", "Qwen2", "Qwen3", "Phi3", "Ernie4_5")
    sizes = draw_sizes(draw)
    layers = sizes["num_hidden_layers"]
    head_dim = sizes["hidden_size"] // sizes["num_attention_heads"]
    pairs, turned, partial = head_dim // 2, head_dim, {}
    if family == "Phi3":
        partial = draw.maybe(partial_rotary_factor=draw.of(0.5, 0.6, 0.75))
        turned = int(head_dim * partial.get("partial_rotary_factor", 1.0))
        pairs = turned // 2
    elif draw.of(True, False):  # a head size of its own
        head_dim = 2 * draw.of(2, 3, 4, 7)
        pairs = head_dim // 2
    if family != "Phi3":
        sizes["head_dim"] = head_dim
    window = draw.of(None, 2, 3, 11, 20, 21, 22, 30, 44, 45, 46)
    windows = {"use_sliding_window": window is not None, "sliding_window": window} | draw.maybe(
        max_window_layers=draw.of(0, 1, 2)
    )
    if window is not None and draw.of(True, False):
        kinds = "full_attention", "sliding_attention"
        windows["layer_types"] = [draw.of(*kinds) for _ in range(layers)]
    flags = {
        "Llama": draw.maybe(attention_bias=True) | draw.maybe(mlp_bias=True),
        "Mistral": {"sliding_window": window},
        "Qwen2": windows,
        "Qwen3": windows | draw.maybe(attention_bias=True),
        "Phi3": {"sliding_window": window, **partial},
        "Ernie4_5": draw.maybe(use_bias=True),
    }[family]
    rope = draw_rope(draw, pairs, sizes["max_position_embeddings"])
    if family == "Phi3" and rope:  # which has but one kind, and no list for an odd column
        rope = draw_rope_of_phi3(draw, pairs) if turned % 2 == 0 else {}
    rope |= draw.maybe(rope_theta=draw.of(100.0, 5e3, 1e6))
    return Row(f"{family}Config", sizes | flags | rope, old=draw.of(True, False))


def draw_rope_of_phi3(draw: Draw, pairs: int) -> dict:
    factors = {
        "short_factor": [draw.between(1, 2) for _ in range(pairs)],
        "long_factor": [draw.between(1, 9) for _ in range(pairs)],
    }
    original = draw.of(8, 17, 24, 33)
    return {
        "rope_scaling": {"rope_type": "longrope"} | factors,
        "original_max_position_embeddings": original,
    }


def draw_gemma(seed: int) -> Row:
    """Return a configuration of Gemma, or of Phi-2, that transformers accepts."""
    draw = Draw(seed)
    family = draw.of("Gemma", "Gemma2", "Gemma3Text", "Phi")
    sizes = draw_sizes(draw)
    rope = draw.maybe(rope_theta=draw.of(100.0, 5e3, 1e6))
    head_dim = sizes["hidden_size"] // sizes["num_attention_heads"]
    if family == "Phi":
        eps, normed = sizes.pop("rms_norm_eps"), draw.of(True, False)
        dim = 2 * draw.of(*range(1, head_dim // 2 + 1))
        rope |= draw_rope(draw, dim // 2, sizes["max_position_embeddings"]) if dim > 2 else {}
        flags = {"qk_layernorm": normed, "layer_norm_eps": eps}
        flags |= {"partial_rotary_factor": (dim + 0.5) / head_dim if dim < head_dim else 1.0}
    else:
        sizes["head_dim"] = head_dim = 2 * draw.of(2, 3, 4, 7)
        rope |= draw_rope(draw, head_dim // 2, sizes["max_position_embeddings"])
        flags = draw.maybe(attention_bias=True)
    if family == "Gemma2" or family == "Gemma3Text":
        sizes["hidden_activation"] = sizes.pop("hidden_act")
        flags |= {"sliding_window": draw.of(2, 3, 11, 21, 22, 45, 46)}
        flags |= draw.maybe(
            attn_logit_softcapping=draw.of(None, draw.between(0.5, 30)),
            final_logit_softcapping=draw.of(None, draw.between(0.5, 30)),
            query_pre_attn_scalar=draw.of(1, 7, 24, 256),
        )
        kinds = "full_attention", "sliding_attention"
        flags |= draw.maybe(
            layer_types=[draw.of(*kinds) for _ in range(sizes["num_hidden_layers"])]
        )
    if family == "Gemma3Text":
        rope |= draw.maybe(rope_local_base_freq=draw.of(30.0, 2e4))
        flags |= draw.maybe(sliding_window_pattern=draw.of(1, 2, 3))
    old = draw.of(True, False) and "layer_types" not in flags
    return Row(f"{family}Config", sizes | flags | rope, old=old)


def draw_moe(seed: int) -> Row:
    """Return a configuration of a mixture of experts that transformers accepts."""
    draw = Draw(seed)
    family = draw.of("Mixtral", "Qwen2Moe", "Qwen3Moe")
    sizes = draw_sizes(draw)
    layers = sizes["num_hidden_layers"]
    # PyTorch's product of groups, with which transformers computes, wants sizes divisible by 4.
    sizes |= {"hidden_size": draw.of(4, 12, 20, 32), "intermediate_size": draw.of(4, 16, 36)}
    sizes["head_dim"] = head_dim = 2 * draw.of(2, 3, 4, 7)
    experts = draw.of(1, 2, 3, 8)
    flags = {"num_experts_per_tok": draw.of(*range(1, experts + 1))}
    window = draw.of(None, 2, 11, 21, 22, 45)
    if family == "Mixtral":
        flags |= {"num_local_experts": experts, "sliding_window": window}
    else:
        flags |= {"num_experts": experts, "moe_intermediate_size": draw.of(4, 8, 20)}
        flags |= {"use_sliding_window": window is not None, "sliding_window": window}
        flags |= draw.maybe(
            norm_topk_prob=True,
            decoder_sparse_step=draw.of(1, 2, 3),
            mlp_only_layers=[layer for layer in range(layers) if draw.of(True, False)],
        )
    if family == "Qwen2Moe":
        flags |= {"shared_expert_intermediate_size": draw.of(2, 9, 16)}
        flags |= draw.maybe(qkv_bias=False, max_window_layers=draw.of(0, 1, 2))
    elif family == "Qwen3Moe":
        flags |= draw.maybe(attention_bias=True)
    rope = draw_rope(draw, head_dim // 2, sizes["max_position_embeddings"])
    rope |= draw.maybe(rope_theta=draw.of(100.0, 5e3, 1e6))
    return Row(f"{family}Config", sizes | flags | rope, old=draw.of(True, False))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("draw", [draw_llama, draw_gemma, draw_moe])
def test_a_random_configuration(draw, seed, tmp_path):
    row = draw(seed)
    print(row.config, row.changes, "old" if row.old else "new")
    folder = save(random_model(row, seed), row, tmp_path)
    ours = load_model(folder)
    vocabulary = ours.config.vocab_size
    for tokens in (2, 21, 45):
        ids = texts(2, tokens, vocabulary, seed)
        assert_close(logits_of(ours, ids), logits_of(theirs(folder), ids), what=f"{tokens} tokens")
    prompts = [texts(1, tokens, vocabulary, seed)[0].tolist() for tokens in (5, 19)]
    expected = [greedy(theirs(folder), prompt) for prompt in prompts]
    options = {"ignore_eos": True, "beyond_context": True}
    written = generate(ours, prompts, max_new_tokens=len(expected[0]), **options)
    assert [each.token_ids for each in written] == expected
    compare_training(ours, theirs(folder))
