"""The language model of a multimodal Gemma 3 side by side with transformers' whole one, on text."""

from __future__ import annotations

import pytest

from gradient.checkpoints import load_model
from gradient.generation import generate
from gradient.models.gemma_config import FULL, SLIDING
from support.transformers_models import (
    NEW_TOKENS,
    TOKENS,
    assert_close,
    greedy,
    logits_of,
    texts,
    theirs,
    torch,
    transformers,
)

pytestmark = pytest.mark.parity

VOCABULARY = 97
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 6,
    "query_pre_attn_scalar": 8,
    "max_position_embeddings": 64,
    "layer_types": [SLIDING, FULL, SLIDING],
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
IMAGES = {"image_token_index": 96, "boi_token_index": 95, "eoi_token_index": 94}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_text_through_a_multimodal_model(dtype, tmp_path):
    torch.manual_seed(0)
    config = transformers.Gemma3Config(
        text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4, eos_token_id=[1, 7], **IMAGES
    )
    model = transformers.Gemma3ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.to(getattr(torch, dtype)).save_pretrained(tmp_path, max_shard_size="20KB")

    ours, reference = load_model(tmp_path), theirs(tmp_path)
    assert ours.config.eos_token_ids == {1, 7}
    ids = texts(2, TOKENS, VOCABULARY - 3)
    if dtype == "bfloat16":
        assert_close(logits_of(ours.float(), ids), logits_of(reference, ids))
        return
    assert_close(logits_of(ours, ids), logits_of(reference, ids))
    prompt = ids[0].tolist()
    written = generate(ours, prompt, max_new_tokens=NEW_TOKENS, ignore_eos=True)
    assert written.token_ids == greedy(reference, prompt)
