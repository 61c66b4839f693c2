"""Tokens chosen in recorded steps, several steps at once: the same texts, wherever one ends."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends import small_calls
from gradient.errors import GenerationError
from gradient.generation import Generation, PromptCache, generate
from gradient.generation.generate import start
from gradient.generation.logits import Prefixes
from gradient.generation.options import GenerationOptions
from gradient.generation.queued_steps import QueuedSteps
from gradient.generation.replay import DecodingSteps
from gradient.generation.sampling import Sampler
from gradient.kv_cache import KVCache
from gradient.models import LlamaConfig, LlamaForCausalLM, MistralConfig
from support.fake_device import DEVICE

pytestmark = pytest.mark.cpu_only

TEXT = [5, 9, 23, 4]


@pytest.fixture(autouse=True)
def with_kernels() -> None:
    pytest.importorskip("numba")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps were read at once, of at most 8: so the clock has no part in it."""
    made: list[int] = []
    read = DecodingSteps.read

    def counted(self: DecodingSteps, queued: QueuedSteps) -> list[list[int]]:
        found = read(self, queued)
        made.append(len(found))
        return found

    monkeypatch.setattr(DecodingSteps, "read", counted)
    monkeypatch.setattr("gradient.generation.replay.AT_ONCE", 1e9)
    monkeypatch.setattr("gradient.generation.replay.AHEAD", 1e9)
    monkeypatch.setattr("gradient.generation.replay.MOST_AT_ONCE", 8)
    return made


def llama(**options: Any) -> LlamaForCausalLM:
    gradient.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = MistralConfig if options else LlamaConfig
    return LlamaForCausalLM(config(**sizes, **heads, **options)).eval()


def texts(model: Any, prompts: Sequence[Sequence[int]], **options: Any) -> list[Generation]:
    found = generate(model, list(prompts), **{"max_new_tokens": 40, **options})
    assert isinstance(found, list)
    return found


CHOICES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"temperature": 1.0},
    "top_k": {"temperature": 1.3, "top_k": 7},
    "top_p": {"temperature": 0.7, "top_p": 0.8},
    "min_p": {"temperature": 1.5, "min_p": 0.3},
    "typical_p": {"temperature": 1.0, "typical_p": 0.6},
    "eta": {"temperature": 1.0, "eta_cutoff": 0.02, "epsilon_cutoff": 0.01},
    "n sigma": {"temperature": 2.0, "top_n_sigma": 1.0},
}


@pytest.mark.parametrize("kind", ["static", "sliding", "paged"])
@pytest.mark.parametrize("choice", CHOICES)
def test_the_tokens_are_those_of_single_steps(choice: str, kind: str, at_once: list[int]) -> None:
    model = llama(sliding_window=16) if kind == "sliding" else llama()
    options = {"ignore_eos": True, "cache": kind, "seed": 3, **CHOICES[choice]}
    found = texts(model, [TEXT, TEXT[:2]], compile=True, **options)
    assert max(at_once) == 8
    plain = texts(model, [TEXT, TEXT[:2]], compile=False, **options)
    assert [r.token_ids for r in found] == [r.token_ids for r in plain]
    assert all(len(r.token_ids) == 40 for r in found)
    assert [r.timings.generated_tokens for r in found] == [40, 40]


def test_another_choice_is_another_step(at_once: list[int]) -> None:
    """The options of a text say what its steps compute."""
    model = llama()
    for options in (*CHOICES.values(), {"temperature": 0.5}, {"temperature": 1.3, "top_k": 2}):
        given = {"ignore_eos": True, "seed": 1, **options}
        (found,) = texts(model, [TEXT], compile=True, **given)
        (plain,) = texts(model, [TEXT], compile=False, **given)
        assert found.token_ids == plain.token_ids


@pytest.mark.parametrize("place", range(3, 28, 5))
def test_a_row_ends_amid_steps(place: int, at_once: list[int]) -> None:
    """What was computed after a row's end is no part of it, and the others go on."""
    model, prompts = llama(), [TEXT, TEXT[:2], TEXT[1:]]
    whole = texts(model, prompts, ignore_eos=True, compile=False)
    model.config.eos_token_id = whole[1].token_ids[place]
    found, plain = (texts(model, prompts, compile=way) for way in (True, False))
    assert [r.token_ids for r in found] == [r.token_ids for r in plain]
    assert [r.finish_reason for r in found] == [r.finish_reason for r in plain]
    assert found[1].finish_reason == "stop"
    assert [r.timings.generated_tokens for r in found] == [
        r.timings.generated_tokens for r in plain
    ]


@pytest.mark.parametrize("kind", ["static", "sliding", "paged"])
def test_a_prompt_cache_goes_on_after_a_text_that_ended_amid_steps(
    kind: str, at_once: list[int]
) -> None:
    model = llama(sliding_window=16) if kind == "sliding" else llama()
    (whole,) = texts(model, [TEXT], ignore_eos=True, compile=False)
    model.config.eos_token_id = whole.token_ids[21]
    cache = PromptCache(model, kind=kind)
    first = generate(model, TEXT, prompt_cache=cache, compile=True, max_new_tokens=40)
    assert len(first.token_ids) <= 21 and first.finish_reason == "stop"
    longer = [*TEXT, *first.token_ids, 7, 8, 9]
    found = generate(model, longer, prompt_cache=cache, compile=True, max_new_tokens=10)
    plain = generate(model, longer, compile=False, max_new_tokens=10)
    assert found.token_ids == plain.token_ids
    assert found.timings.cached_tokens >= len(longer) - 4


def test_steps_at_once_end_at_the_border_of_a_block_and_at_the_budget(at_once: list[int]) -> None:
    model = llama()
    (found,) = texts(model, [TEXT], ignore_eos=True, compile=True, max_new_tokens=131)
    (plain,) = texts(model, [TEXT], ignore_eos=True, compile=False, max_new_tokens=131)
    assert found.token_ids == plain.token_ids
    assert len(found.token_ids) == 131 and sum(at_once) == 130  # the first is the prompt's


@pytest.mark.parametrize("device", ["cpu", DEVICE])
def test_what_was_chosen_before_an_impossible_token_is_kept(
    device: str, at_once: list[int]
) -> None:
    """A weight that is NaN for one token alone: the text ends where that is read."""
    if device == DEVICE and shutil.which("g++") is None:
        pytest.skip("g++ compiles the kernels")
    model = llama().to(device)
    (whole,) = texts(model, [TEXT], ignore_eos=True, compile=False)
    ids = whole.token_ids
    place = next(i for i in range(12, 40) if ids[i] not in [*TEXT, *ids[:i]])
    weight = model.model.embed_tokens.weight
    with gradient.no_grad():
        weight[ids[place]] = float("nan")
    for way in (True, False):
        options = GenerationOptions(max_new_tokens=40, compile=way, ignore_eos=True)
        (row,), pieces = start(model, [TEXT], None, options)
        with pytest.raises(GenerationError, match="logits are NaN"):
            list(pieces)
        assert row.result.token_ids == ids[: place + 1]


def test_what_looks_at_the_text_chooses_by_single_steps(at_once: list[int]) -> None:
    model = llama()
    for options in (
        {"repetition_penalty": 1.3},
        {"temperature": 1.0, "xtc_probability": 0.5},
        {"logits_processors": [lambda logits, prefixes: logits]},
        {"logprobs": 2},
        {"draft": "prompt_lookup"},
    ):
        texts(model, [TEXT], ignore_eos=True, compile=True, seed=1, **options)
        assert not at_once


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (True, False)),
        ({"top_k": 5}, (True, False)),  # means nothing without a temperature
        ({"temperature": 0.5, "top_k": 5}, (False, True, ("top_k", 5))),
        ({"temperature": 1.5, "top_k": 5}, (False, True, ("top_k", 5))),
        ({"temperature": 1, "top_k": 5}, (False, False, ("top_k", 5))),
        ({"frequency_penalty": 0.5}, None),
        ({"min_new_tokens": 3}, None),
    ],
)
def test_the_key_of_a_choice(options: dict[str, Any], expected: Any) -> None:
    assert Sampler(GenerationOptions(**options), 1).key == expected


def test_how_many_steps_are_equal() -> None:
    cache = KVCache([(1, 4)], 2, block=64)
    cache.set_counts([3, 50])
    assert [cache.equal_steps(most) for most in (1, 5, 14, 15, 40)] == [1, 5, 14, 7, 10]
    ring = KVCache([(1, 4, 8)], 1, kind="sliding", block=64, max_rewind=4)
    ring.set_counts([3])
    assert ring.equal_steps(9) == 4


def test_an_interrupted_run_of_steps_leaves_the_cache_as_it_was(
    at_once: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = llama()
    (whole,) = texts(model, [TEXT], ignore_eos=True, compile=False)
    cache = PromptCache(model)
    given: dict[str, Any] = {"ignore_eos": True, "max_new_tokens": 40, "compile": True}
    assert generate(model, TEXT, prompt_cache=cache, **given).token_ids == whole.token_ids
    calls = 0
    set_counts = KVCache.set_counts

    def interrupted(self: KVCache, counts: Sequence[int], on_device: bool = True) -> None:
        nonlocal calls
        calls += not on_device
        if calls == 2 and not on_device:
            raise KeyboardInterrupt
        set_counts(self, counts, on_device)

    monkeypatch.setattr(KVCache, "set_counts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(model, TEXT, prompt_cache=cache, **given)
    monkeypatch.setattr(KVCache, "set_counts", set_counts)
    held = cache.cache.counts[0]
    assert np.array_equal(cache.cache.lengths.numpy(), [held])
    assert generate(model, TEXT, prompt_cache=cache, **given).token_ids == whole.token_ids


@pytest.mark.parametrize("vocabulary", [5, 33, 64])
def test_a_number_at_the_edge_of_a_token_draws_the_same_as_in_a_recorded_step(vocabulary: int):
    """Small rows have other sums in NumPy's calls than in the kernels that a recorded step has."""
    rng = np.random.default_rng(vocabulary)
    logits = gradient.tensor(rng.normal(size=(40, vocabulary)).astype(np.float32) * 3)
    options = GenerationOptions(temperature=0.8, top_p=0.95)
    sampler = Sampler(options, 1, seed=0)
    prefixes = Prefixes([[1]], [1], [0])
    for row in logits.unbind(0):
        with small_calls.repeated():
            scores = sampler.scores(row.unsqueeze(0), prefixes)
            sums = gradient.softmax(scores, dim=-1).cumsum(-1)[0]
        for at in rng.integers(0, vocabulary, 3).tolist():
            edge = 1 - (sums[at] / sums[-1]).unsqueeze(0)
            sampler.uniform = lambda *_, edge=edge: edge  # type: ignore[method-assign]
            with small_calls.repeated():
                numbers = gradient.cat([edge, gradient.tensor([0.8])])
                expected = sampler.choose(row.unsqueeze(0), numbers)
            assert sampler(row.unsqueeze(0), prefixes).item() == expected.item()
