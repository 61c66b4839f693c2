"""Recorded steps that a cache takes over from one that is gone, and memory that nobody may take."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.generation import KVCache, PromptCache, bound_steps, generate, prefill, recorded_steps
from gradient.generation.replay import DecodingSteps
from gradient.kv_cache.paged import PagePool
from gradient.models import LlamaConfig, LlamaForCausalLM

pytestmark = pytest.mark.cpu_only


@pytest.fixture(autouse=True)
def with_kernels() -> None:
    pytest.importorskip("numba")


def llama(**options: Any) -> LlamaForCausalLM:
    gradient.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, **options)).eval()


def prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(2, 61, length).tolist()


def begun(model: Any, text: list[int], **options: Any) -> tuple[KVCache, DecodingSteps]:
    """A cache with a text in it, and steps that are replayed by now."""
    cache = KVCache.for_model(model, 1, 64, block=64, **options)
    steps = DecodingSteps(model, cache, True)
    prefill(model, cache, [text])
    for token in range(3, 9):
        steps.logits(gradient.tensor([[token]]), 9)
    assert steps.replayed
    return cache, steps


def following(cache: KVCache, steps: DecodingSteps, token: int) -> bytes:
    """The logits after one more token, which is forgotten again."""
    found = steps.logits(gradient.tensor([[token]]), 9).array.tobytes()
    cache.rewind([cache.counts[0] - 1])
    return found


@pytest.mark.parametrize("kind", ["static", "sliding"])
@pytest.mark.parametrize("dtype", ["float32", "int8/int4"])
def test_the_next_text_takes_over_what_the_first_was_bound_to(
    kind: str, dtype: str, bindings: list[Any]
) -> None:
    model = llama()
    options = {"max_new_tokens": 30, "ignore_eos": True, "cache": kind, "cache_dtype": dtype}
    generate(model, prompt(5), compile=True, **options)
    count = len(bindings)
    assert count > 0
    for seed, length in enumerate((5, 9, 2), 1):
        text = prompt(length, seed)
        found = generate(model, text, compile=True, **options)
        assert found.timings.replayed_steps >= 28
        assert found.token_ids == generate(model, text, compile=False, **options).token_ids
    assert len(bindings) == count


def test_caches_that_are_in_use_have_memory_of_their_own(bindings: list[Any]) -> None:
    model = llama()
    pairs = [begun(model, prompt(4 + seed, seed)) for seed in range(3)]
    assert len(bindings) == 3
    expected = [following(c, DecodingSteps(model, c, False), 9) for c, _ in pairs]
    assert [following(c, steps, 9) for c, steps in pairs] == expected
    arrays = [x.array for cache, _ in pairs for x in cache.tensors]
    assert not any(np.may_share_memory(x, y) for x, y in itertools.combinations(arrays, 2))


def test_a_tensor_that_somebody_holds_keeps_what_it_has(bindings: list[Any]) -> None:
    model = llama()
    cache, steps = begun(model, prompt(5))
    held = cache.tensors[1]
    before = held.numpy(force=True).copy()
    del cache, steps
    gc.collect()
    begun(model, prompt(7, 1))
    assert len(bindings) == 2
    assert held.numpy(force=True).tobytes() == before.tobytes()


def test_a_conversation_is_bound_once(bindings: list[Any]) -> None:
    model = llama()
    texts = []
    for compiled in (True, False):
        kept, text = PromptCache(model), prompt(6)
        for turn in range(4):
            found = generate(
                model, text, prompt_cache=kept, compile=compiled, max_new_tokens=10, ignore_eos=True
            )
            text = [*text, *found.token_ids, *prompt(3, turn)]
        texts.append(text)
    assert texts[0] == texts[1]
    assert len(bindings) == len(set(map(id, bindings)))


def test_beams_that_cross_are_replayed(bindings: list[Any]) -> None:
    model = llama()
    options = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 40, "ignore_eos": True}
    found = generate(model, prompt(6), compile=True, **options)
    expected = generate(model, prompt(6), compile=False, **options)
    assert [each.token_ids for each in found] == [each.token_ids for each in expected]
    assert [each.score for each in found] == [each.score for each in expected]
    assert found[0].timings.replayed_steps >= 25, found[0].timings.not_replayed
    assert len(bindings) <= 4


def test_pages_of_a_pool_are_not_taken_over(bindings: list[Any]) -> None:
    model = llama()
    first = KVCache.for_model(model, 1, 64, kind="paged", block=64)
    pool = first.pool
    assert isinstance(pool, PagePool)
    begun(model, prompt(5), kind="paged", pool=pool)
    gc.collect()
    count = len(bindings)
    cache, steps = begun(model, prompt(7, 1), kind="paged", pool=pool)
    assert len(bindings) > count
    plain = DecodingSteps(model, cache, False)
    assert following(cache, steps, 9) == following(cache, plain, 9)


def test_what_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    gone = []
    for limit in (0, 1 << 26):
        monkeypatch.setattr(bound_steps, "KEPT_BYTES", limit)
        cache, steps = begun(model, prompt(5))
        gone.append(weakref.ref(cache.tensors[1].array))
        del cache, steps
        gc.collect()
    assert gone[0]() is None and gone[1]() is not None
    monkeypatch.setattr(bound_steps, "KEPT_BYTES", 0)
    begun(model, prompt(6))
    recorded_steps._recorded[model].bound.trim()
    assert gone[1]() is None


def test_other_weights_leave_nothing_behind() -> None:
    model = llama()
    cache, steps = begun(model, prompt(5))
    gone = weakref.ref(cache.tensors[1].array)
    del cache, steps
    with gradient.no_grad():
        model.model.layers[0].mlp.down_proj.weight.data = gradient.zeros(32, 48)
    cache, steps = begun(model, prompt(5))
    gc.collect()
    assert gone() is None
    plain = DecodingSteps(model, cache, False)
    assert following(cache, steps, 9) == following(cache, plain, 9)
