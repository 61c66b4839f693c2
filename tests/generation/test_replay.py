"""Decoding steps that are recorded and replayed: the same texts, and what a replay must notice."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.generation import KVCache, generate, prefill, replay
from gradient.generation.cache_config import CacheConfig
from gradient.generation.recorded_steps import _recorded
from gradient.generation.replay import DecodingSteps, RecordedStep
from gradient.models import LlamaConfig, LlamaForCausalLM
from support.families import FAMILIES, random_model

pytestmark = pytest.mark.cpu_only

NAMES = [name for name in FAMILIES if "," not in name or "rope" in name]
KINDS = ("static", "sliding", "paged")


def prompts(*lengths: int) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(2, 61, length).tolist() for length in lengths]


def llama(**options: Any) -> LlamaForCausalLM:
    gradient.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, **options)).eval()


def both_ways(model: Any, text: Any, **options: Any) -> tuple[Any, Any]:
    """The results with steps recorded, and without."""
    given = {"max_new_tokens": 12, "ignore_eos": True, "beyond_context": True, **options}
    return generate(model, text, compile=True, **given), generate(
        model, text, compile=False, **given
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", NAMES)
def test_the_text_is_that_of_the_modules(family: str, kind: str) -> None:
    model = random_model(family, "cpu")
    replayed, plain = both_ways(model, prompts(23, 3, 12), cache=kind)
    assert [r.token_ids for r in replayed] == [r.token_ids for r in plain]
    steps = replayed[0].timings.replayed_steps
    # Pages are bound anew where there are more of them.
    assert steps >= (4 if kind == "paged" else 7), replayed[0].timings.not_replayed


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("family", ["deepseek_v2", "mixtral", "qwen2_moe", "qwen3_moe"])
def test_experts_are_chosen_anew_in_every_replay(family: str, rows: int) -> None:
    model = random_model(family, "cpu")
    draw = np.random.default_rng(rows)
    caches = [KVCache.for_model(model, rows, 64, block=64) for _ in range(2)]
    for cache in caches:
        prefill(model, cache, prompts(*range(5, 5 + rows)))
    replayed, plain = (DecodingSteps(model, each, i == 0) for i, each in enumerate(caches))
    for _ in range(16):
        tokens = gradient.tensor(draw.integers(2, 61, (rows, 1)))
        found = [steps.logits(tokens, 9).array.tobytes() for steps in (replayed, plain)]
        assert found[0] == found[1]
    assert replayed.replayed > 8, replayed.reason


OPTIONS: dict[str, dict[str, Any]] = {
    "int8": {"cache_dtype": "int8"},
    "int8/int4": {"cache_dtype": "int8/int4"},
    "bfloat16": {"cache_dtype": "bfloat16"},
    "sampled": {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "seed": 7},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "logprobs": {"logprobs": 3},
    "several": {"temperature": 1.0, "num_return_sequences": 3, "seed": 1},
    "beams": {"num_beams": 3},
    "prompt_lookup": {"draft": "prompt_lookup"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_way_of_choosing_and_storing(name: str) -> None:
    replayed, plain = both_ways(llama(), prompts(9)[0], max_new_tokens=20, **OPTIONS[name])
    pairs = (
        [(replayed, plain)] if not isinstance(plain, list) else zip(replayed, plain, strict=True)
    )
    for one, other in pairs:
        assert one.token_ids == other.token_ids and one.logprobs == other.logprobs


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_models_of_16_bits(dtype: str) -> None:
    model = llama().to(getattr(gradient, dtype))
    replayed, plain = both_ways(model, prompts(9, 4))
    assert [r.token_ids for r in replayed] == [r.token_ids for r in plain]
    assert replayed[0].timings.replayed_steps == 7, replayed[0].timings.not_replayed


@pytest.mark.parametrize("packing", ["q8_0", "q4_0", "q4_k", "q6_k", "nf4", "int8_channel"])
def test_packed_weights(packing: str) -> None:
    gradient.manual_seed(0)
    sizes = {"vocab_size": 256, "hidden_size": 256, "intermediate_size": 512}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=4))
    gradient.quantization.quantize_(model.eval(), packing)
    replayed, plain = both_ways(model, prompts(9)[0])
    assert replayed.token_ids == plain.token_ids
    assert replayed.timings.replayed_steps == 7, replayed.timings.not_replayed


@pytest.mark.parametrize("draft", ["prompt_lookup", "model"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.02, "seed": 3}], ids=["greedy", "drawn"])
def test_drafts_are_made_and_checked_in_replays(draft: str, options: Any) -> None:
    """Passes over several tokens of a row, each number of which is recorded apart."""
    model, small = llama(), llama(rms_norm_eps=0.5)
    text = prompts(6)[0] * 3
    drafted = {"draft": small if draft == "model" else draft, "max_draft_tokens": 4}
    given = {"max_new_tokens": 90, **drafted, **options}
    replayed, plain = both_ways(model, text, **given)
    assert replayed.token_ids == plain.token_ids
    assert replayed.timings.accepted_tokens == plain.timings.accepted_tokens > 3
    recorded = {key[0][0] for key in _recorded[model].steps}
    assert len(recorded - {1}) >= 1, _recorded[model].refused
    assert replayed.timings.replayed_steps > 8 and plain.timings.replayed_steps == 0
    if draft == "model":
        assert {key[0][0] for key in _recorded[small].steps} == {1, 2}, _recorded[small].refused


@pytest.mark.slow
@pytest.mark.parametrize("draft", ["prompt_lookup", "model"])
@pytest.mark.parametrize("kind", KINDS)
def test_drafts_of_rows_that_differ_in_length_are_checked_in_replays(draft: str, kind: str) -> None:
    model, small = llama(), llama(rms_norm_eps=0.5)
    texts = [text * 3 for text in prompts(6, 4, 9)]
    drafted = {"draft": small if draft == "model" else draft, "max_draft_tokens": 4}
    given = {"max_new_tokens": 90, "cache": kind, "ignore_eos": True, **drafted}
    passes: list[Any] = []  # by the modules, with rows of several lengths

    def note(module: Any, args: Any, options: Any) -> None:
        passes.append(options.get("lengths"))

    replayed, plain = both_ways(model, texts, **given)
    lengths = {each.timings.drafted_tokens for each in plain}
    assert len(lengths) > 1  # so rows were of several lengths in most passes
    assert [r.token_ids for r in replayed] == [r.token_ids for r in plain]
    without = generate(model, texts, compile=False, **(given | {"draft": None}))
    assert [r.token_ids for r in replayed] == [r.token_ids for r in without]
    timings = replayed[0].timings
    assert timings.replayed_steps > 8, timings.not_replayed
    assert f"{timings.replayed_steps} steps replayed" in str(timings)
    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    generate(model, texts, compile=False, **given)
    handle.remove()
    assert passes[1:] and not any(passes[1:])


def test_lengths_that_drafts_often_have_are_recorded_before_each_came_a_dozen_times() -> None:
    model = llama()
    cache = KVCache.for_model(model, 1, 256, block=64)
    steps = DecodingSteps(model, cache)
    prefill(model, cache, prompts(5))

    def check(length: int) -> None:
        steps.logits(gradient.tensor([[3] * length]), 200, every=True)
        cache.rewind([5])

    for length in [2, 3, 4] * 5 + [2, 3, 4] * 5:
        check(length)
    assert {key[0][0] for key in _recorded[model].steps} == {2, 3, 4}
    assert steps.replayed >= 9, steps.reason
    for _ in range(3):
        check(5)  # one pass in eleven
    assert 5 not in {key[0][0] for key in _recorded[model].steps}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 3])
def test_logits_after_every_token_of_a_pass(kind: str, rows: int) -> None:
    """With refused tokens forgotten after each, as drafts are checked."""
    model = llama()
    caches = [KVCache.for_model(model, rows, 256, kind=kind, block=64) for _ in range(2)]
    for cache in caches:
        prefill(model, cache, prompts(*range(5, 5 + rows)))
    replayed, plain = (DecodingSteps(model, each, i == 0) for i, each in enumerate(caches))
    draw = np.random.default_rng(0)
    for number in range(24):
        tokens = gradient.tensor(draw.integers(2, 61, (rows, 1 + number % 3)))
        each = [steps.logits(tokens, 9, every=number % 4 > 0) for steps in (replayed, plain)]
        assert each[0].shape == ((rows, tokens.shape[1], 64) if number % 4 else (rows, 64))
        assert each[0].array.tobytes() == each[1].array.tobytes()
        refused = tokens.shape[1] - (number % 6 == 0)
        for cache in caches:
            cache.rewind([count - refused for count in cache.counts])
    assert replayed.replayed >= 6, replayed.reason


def test_a_second_text_begins_with_what_the_first_recorded(monkeypatch: Any) -> None:
    model = llama()
    first = generate(model, prompts(5)[0], compile=True, max_new_tokens=12, ignore_eos=True)
    from gradient.generation import replay

    monkeypatch.setattr(replay, "RecordedStep", None)  # nothing is recorded any more
    second = generate(model, prompts(7)[0], compile=True, max_new_tokens=12, ignore_eos=True)
    assert first.timings.replayed_steps < second.timings.replayed_steps == 11


def test_large_memory_is_dropped_with_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradient.generation.bound_steps.KEPT_BYTES", 0)
    model = llama()
    cache = KVCache.for_model(model, 1, 64, block=64)
    steps = DecodingSteps(model, cache, True)
    prefill(model, cache, prompts(5))
    for _ in range(6):
        steps.logits(gradient.tensor([[3]]), 9)
    assert steps.replayed
    (replay,) = steps.bound.replays.values()
    gone = weakref.ref(replay), weakref.ref(cache.tensors[1].array)
    del cache, steps, replay
    gc.collect()
    assert [each() for each in gone] == [None, None]


def test_short_texts_of_any_length_share_a_recorded_step(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = []

    def step(*given: Any) -> Any:
        recorded.append(given)
        return RecordedStep(*given)

    monkeypatch.setattr(replay, "RecordedStep", step)
    model, text = llama(), prompts(9)[0]
    given = {"ignore_eos": True, "compile": True}
    plain = generate(model, text, max_new_tokens=200, ignore_eos=True, compile=False)
    for tokens in (40, 20, 70, 130, 200, 41):
        found = generate(model, text, max_new_tokens=tokens, **given)
        assert found.token_ids == plain.token_ids[:tokens]
        assert found.timings.replayed_steps > tokens / 2
    assert len(recorded) == len(_recorded[model].steps) == 1
    generate(model, text, max_new_tokens=300, **given)
    generate(model, text, max_new_tokens=400, **given)
    assert len(recorded) == 2
    batch = prompts(*[5] * 40)  # memory counts
    assert CacheConfig().open(model, batch, [20] * 40).layouts[0].room == (64,)
    assert CacheConfig().open(model, batch[:4], [20] * 4).layouts[0].room == (256,)


# What may change between two steps ---------------------------------------------------------------


def copied_weights(model: Any) -> None:
    state = {name: value * 1.5 for name, value in model.state_dict().items()}
    model.load_state_dict(state)


def in_place(model: Any) -> None:
    with gradient.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(-1.0)


def replaced(model: Any) -> None:
    layer = model.model.layers[1].mlp
    layer.up_proj.weight = gradient.nn.Parameter(layer.up_proj.weight.detach() * -2)


def data(model: Any) -> None:
    weight = model.lm_head.weight
    weight.data = -weight.data


def narrowed(model: Any) -> None:
    model.to(gradient.bfloat16).to(gradient.float32)


def wrapped(model: Any) -> None:
    class WithAdapter(gradient.nn.Module):
        def __init__(self, base: Any) -> None:
            super().__init__()
            self.base = base
            self.low = gradient.nn.Linear(base.in_features, 2, bias=False)
            self.high = gradient.nn.Linear(2, base.out_features, bias=False)

        def forward(self, x: Any) -> Any:
            return self.base(x) + self.high(self.low(x))

    gradient.manual_seed(3)
    attention = model.model.layers[0].self_attn
    attention.q_proj = WithAdapter(attention.q_proj)


def option(model: Any) -> None:
    model.model.norm.eps = 0.5


def hook(model: Any) -> None:
    model.model.layers[0].register_forward_hook(lambda module, args, output: output * 0.5)


def patched(model: Any) -> None:
    mlp = model.model.layers[0].mlp
    forward = mlp.forward
    mlp.forward = lambda x: forward(x) * 2


def packed(model: Any) -> None:
    gradient.quantization.quantize_(model, "q8_0")


def threads(model: Any) -> None:
    gradient.set_num_threads(1 if gradient.get_num_threads() > 1 else 2)


CHANGES = [copied_weights, in_place, replaced, data, narrowed, wrapped, option, hook, patched,
           packed, threads]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_changes_between_steps_is_noticed(change: Any) -> None:
    def texts(allowed: bool) -> tuple[list[bytes], int]:
        model = llama(rms_norm_eps=1e-5)
        cache = KVCache.for_model(model, 1, 64, block=64)
        steps = DecodingSteps(model, cache, allowed)
        prefill(model, cache, prompts(5))
        found = []
        for number in range(12):
            if number == 6:
                change(model)
            found.append(steps.logits(gradient.tensor([[3 + number]]), 9).array.tobytes())
        return found, steps.replayed

    before = gradient.get_num_threads()
    try:
        replayed, count = texts(True)
        plain, none = texts(False)
    finally:
        gradient.set_num_threads(before)
    assert replayed == plain and none == 0 and count >= 2


def test_every_text_on_a_model_notices_what_changes() -> None:
    model = llama(rms_norm_eps=1e-5)
    pairs = []
    for lengths in [(5,), (5, 9)]:  # whose steps are not the same ones
        caches = [KVCache.for_model(model, len(lengths), 64, block=64) for _ in range(2)]
        for cache in caches:
            prefill(model, cache, prompts(*lengths))
        pairs.append([DecodingSteps(model, each, i == 0) for i, each in enumerate(caches)])
    for number in range(16):
        if number == 8:
            option(model)
        for rows, (replayed, plain) in enumerate(pairs, 1):
            tokens = gradient.tensor([[3 + number]] * rows)
            found = [steps.logits(tokens, 9).array.tobytes() for steps in (replayed, plain)]
            assert found[0] == found[1]
    assert all(replayed.replayed > 8 for replayed, _ in pairs)


def test_a_mode_that_changes_is_noticed() -> None:
    model = llama()
    cache, other = (KVCache.for_model(model, 1, 64, block=64) for _ in range(2))
    steps, plain = DecodingSteps(model, cache, True), DecodingSteps(model, other, False)
    for each in (cache, other):
        prefill(model, each, prompts(5))
    for number in range(12):
        token = gradient.tensor([[number]])
        with gradient.autocast("cpu", enabled=number % 6 > 3):
            found = [each.logits(token, 9).array.tobytes() for each in (steps, plain)]
        assert found[0] == found[1]


# What goes wrong in the middle -------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_broken_off_replay_leaves_the_cache_as_it_was(error: Any) -> None:
    model = llama()
    cache = KVCache.for_model(model, 1, 64, block=64)
    steps = DecodingSteps(model, cache, True)
    prefill(model, cache, prompts(5))
    for _ in range(6):
        steps.logits(gradient.tensor([[3]]), 9)
    (replay,) = steps.bound.replays.values()
    expected = steps.logits(gradient.tensor([[4]]), 9).array
    cache.rewind([cache.counts[0] - 1])
    held = list(cache.counts)
    program = replay.executor.program

    def fail() -> None:
        raise error

    for place in range(len(program) + 1):
        replay.executor.program = [*program[:place], (fail, ()), *program[place:]]
        with pytest.raises(error):
            steps.logits(gradient.tensor([[4]]), 9)
        assert cache.counts == cache.lengths.tolist() == held
    replay.executor.program = program
    assert steps.logits(gradient.tensor([[4]]), 9).array.tobytes() == expected.tobytes()


def test_a_replay_reads_no_old_memory() -> None:
    model = llama()
    cache = KVCache.for_model(model, 2, 64, block=64)
    steps = DecodingSteps(model, cache, True)
    prefill(model, cache, prompts(5, 9))
    for _ in range(6):
        steps.logits(gradient.tensor([[3], [4]]), 9)
    (replay,) = steps.bound.replays.values()
    replay.executor.poison = True
    found = steps.logits(gradient.tensor([[5], [6]]), 9)
    cache.rewind([count - 1 for count in cache.counts])
    plain = DecodingSteps(model, cache, False)
    again = plain.logits(gradient.tensor([[5], [6]]), 9)
    assert np.isfinite(found.array).all() and found.array.tobytes() == again.array.tobytes()


def test_a_model_that_reads_values_runs_as_modules() -> None:
    class Curious(gradient.nn.Module):
        def forward(self, x: Any) -> Any:
            return x if float(x.sum()) < 1e9 else x * 0

    model = llama()
    model.model.layers[0].mlp = gradient.nn.Sequential(model.model.layers[0].mlp, Curious())
    replayed, plain = both_ways(model, prompts(5)[0])
    assert replayed.token_ids == plain.token_ids
    assert replayed.timings.replayed_steps == 0
    assert "reads the value" in str(replayed.timings.not_replayed)
    assert "by modules: " in str(replayed.timings)


def test_a_model_that_counts_on_the_host_runs_as_modules() -> None:
    class Counting(gradient.nn.Module):
        numbers = itertools.count()

        def forward(self, x: Any) -> Any:
            return x * (1 + next(self.numbers) % 3)

    model = llama()
    model.model.layers[0].mlp = gradient.nn.Sequential(model.model.layers[0].mlp, Counting())
    result = generate(model, prompts(5)[0], compile=True, max_new_tokens=12, ignore_eos=True)
    assert result.timings.replayed_steps == 0
    assert "changes from step to step" in str(result.timings.not_replayed)


def test_numbers_in_a_dict_of_a_module_are_noticed_at_the_next_text() -> None:
    class Scaled(nn.Module):
        def __init__(self, base: nn.Module) -> None:
            super().__init__()
            self.base, self.scaling = base, {"default": 1.0}

        def forward(self, x: gradient.Tensor) -> gradient.Tensor:
            return self.base(x) * self.scaling["default"]

    model = llama()
    scaled = model.model.layers[0].mlp.down_proj = Scaled(model.model.layers[0].mlp.down_proj)
    before, _ = both_ways(model, prompts(5))
    assert before[0].timings.replayed_steps
    scaled.scaling["default"] = -3.0
    replayed, plain = both_ways(model, prompts(5), logprobs=3)
    assert replayed[0].token_ids == plain[0].token_ids
    assert replayed[0].logprobs == plain[0].logprobs
