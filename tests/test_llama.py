"""The LLaMA family without its reference: caches, batches, configs, rotary positions."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient.generation import KVCache
from gradient.models.registry import model_class

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "eos_token_id": 0,
}
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": 5},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {"head_dim": 12},
    "phi3": {"partial_rotary_factor": 0.5},
    "ernie4_5": {"use_bias": True},
}


def build(model_type: str, device: str = "cpu", **changes):
    cls = model_class(model_type)
    config = cls.config_class.from_hf({"model_type": model_type, **SHAPE, **changes})
    return cls(config).to(device).eval()


@pytest.fixture(params=FAMILIES, ids=str)
def model(request, device):
    gradient.manual_seed(1)
    return build(request.param, device, **FAMILIES[request.param])


def close(actual, expected, tolerance=2e-5):
    """Compare by the largest difference, relative to the largest expected number."""
    actual, expected = (x.detach().cpu().float().numpy() for x in (actual, expected))
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def test_chunks_through_the_cache_give_the_logits_of_the_whole(model, device):
    ids = gradient.randint(0, 61, (2, 20), device=device)
    cache = KVCache.for_model(model, 2)
    with gradient.no_grad():
        whole = model(ids)
        parts = [model(ids[:, start:stop], cache) for start, stop in [(0, 7), (7, 8), (8, 20)]]
    assert whole.shape == (2, 20, 61)
    close(gradient.cat(parts, dim=1), whole)
