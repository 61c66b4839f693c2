"""Rotary frequencies beside transformers': bit by bit, as far into a text each bit counts."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient.models.llama_config import LlamaConfig
from gradient.models.rope import DynamicRotaryEmbedding, LongRotaryEmbedding, rotary_embedding

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CONTEXT = 6000
ORIGINAL = {"original_max_position_embeddings": 4096}
TYPES = {
    "default": {},
    "linear": {"factor": 3.7},
    "dynamic": {"factor": 2.3},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0} | ORIGINAL,
    "yarn": {"factor": 4.3} | ORIGINAL,
    "longrope": ORIGINAL,
}


def both(rope_type: str, head_dim: int, theta: float, tokens: int):
    """Frequencies and cosines (tokens, R/2) of transformers', then ours."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    parameters = {"rope_type": rope_type, "rope_theta": theta, **TYPES[rope_type]}
    if rope_type == "longrope":
        pairs = head_dim // 2
        parameters["short_factor"] = np.linspace(1, 1.7, pairs).tolist()
        parameters["long_factor"] = np.linspace(1, 60, pairs).tolist()
    values = {"hidden_size": 2 * head_dim, "num_attention_heads": 2}
    values |= {"max_position_embeddings": CONTEXT, "rope_parameters": parameters}
    theirs = LlamaRotaryEmbedding(transformers.LlamaConfig(**values))
    cos, _ = theirs(torch.zeros(1), torch.arange(tokens)[None])
    config = LlamaConfig.from_hf({"model_type": "llama", **values})
    ours = rotary_embedding(config.rope_parameters, head_dim, CONTEXT)
    frequencies = ours.inv_freq
    if isinstance(ours, DynamicRotaryEmbedding | LongRotaryEmbedding):
        frequencies = ours.frequencies("cpu", gradient.tensor([tokens])).numpy().reshape(-1)
    own = ours(gradient.arange(tokens), gradient.float32).cos.numpy()[0, 0]
    return theirs.inv_freq.numpy(), cos[0, :, : head_dim // 2].numpy(), frequencies, own


@pytest.mark.parametrize("tokens", [2000, 9000])  # within the context, and beyond
@pytest.mark.parametrize("rope_type", TYPES)
def test_frequencies_are_transformers_but_for_a_few_last_bits(rope_type, tokens):
    different = total = 0
    for head_dim in (64, 80, 96, 128, 256):
        for theta in (1e4, 5e5, 1e6):
            expected, cos, actual, own = both(rope_type, head_dim, theta, tokens)
            assert actual.dtype == np.float32
            np.testing.assert_allclose(actual, expected, rtol=5e-7)
            different += np.count_nonzero(actual != expected)
            total += len(expected)
            assert np.abs(own - cos).max() < 3e-4
    assert different <= 0.03 * total  # with powers of float32 numbers a fifth would differ
