"""Every decoder family through every kind of cache: its text is that without a cache."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient.generation import KVCache, PromptCache, generate, prefill
from support.families import FAMILIES, random_model

#: Of each family one, and the one whose angles depend on the length of the text.
CACHED = [name for name in FAMILIES if "," not in name or "rope" in name]
KINDS = {
    "static": {},
    "sliding": {"max_rewind": 4},
    "paged": {"page_size": 4},
}


def prompts(*lengths: int) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(2, 61, length).tolist() for length in lengths]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", CACHED)
def test_the_text_is_that_without_a_cache(family, kind, device):
    model = random_model(family, device)
    texts = prompts(23, 3, 12)
    options = {"max_new_tokens": 16, "ignore_eos": True, "beyond_context": True}
    if "rope" in family:  # keys that a cache holds stay rotated as they were: so it is one of them
        expected = [r.token_ids for r in generate(model, texts, **options)]
    else:
        expected = [r.token_ids for r in generate(model, texts, use_cache=False, **options)]
    for chunk in (5, None):
        found = generate(model, texts, cache=kind, prefill_chunk=chunk, **options)
        assert [r.token_ids for r in found] == expected
    alone = [generate(model, text, cache=kind, **options).token_ids for text in texts]
    assert alone == expected


@pytest.mark.parametrize("family", CACHED)
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


@pytest.mark.parametrize("family", CACHED)
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
