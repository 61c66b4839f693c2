"""Texts of a few tokens use recorded steps too: bound ones are taken over, on any device."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.errors import OutOfMemoryError
from gradient.generation import (
    KVCache,
    PromptCache,
    bound_steps,
    generate,
    prefill,
    recorded_steps,
    replay,
)
from gradient.generation.bound_steps import BoundSteps
from gradient.generation.recorded_steps import _recorded
from gradient.generation.replay import WORTH_BINDING, DecodingSteps
from gradient.models import LlamaConfig, LlamaForCausalLM
from support import fake_cupy
from support.cuda_emulation import FakeRecorder
from support.fake_device import DEVICE

pytestmark = [pytest.mark.slow, pytest.mark.cpu_only]


@pytest.fixture(autouse=True)
def with_kernels() -> None:
    pytest.importorskip("numba")


@pytest.fixture(params=["cpu", DEVICE])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == DEVICE and shutil.which("g++") is None:
        pytest.skip("g++ compiles the kernels")
    return str(request.param)


def llama(device: str = "cpu", **options: Any) -> LlamaForCausalLM:
    gradient.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, **options)).eval().to(device)


def prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(2, 61, length).tolist()


def text(model: Any, ids: Any, tokens: int, **options: Any) -> Any:
    return generate(model, ids, max_new_tokens=tokens, ignore_eos=True, **options)


def same(model: Any, ids: Any, tokens: int, **options: Any) -> int:
    """How many steps of a text were replayed, which is that of the modules."""
    found = text(model, ids, tokens, **options)
    plain = text(model, ids, tokens, compile=False, **options)
    several = found if isinstance(found, list) else [found]
    for one, other in zip(several, plain if isinstance(plain, list) else [plain], strict=True):
        assert one.token_ids == other.token_ids
    return int(several[0].timings.replayed_steps)


@pytest.mark.parametrize("kind", ["static", "sliding"])
@pytest.mark.parametrize("choice", [{}, {"temperature": 1.0, "seed": 3}], ids=["greedy", "drawn"])
def test_after_a_long_text_every_step_of_short_ones_is_replayed(
    kind: str, choice: Any, device: str, bindings: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    captures = []
    capture = FakeRecorder.capture

    def counted(self: FakeRecorder, program: Any) -> Any:
        captures.append(program)
        return capture(self, program)

    monkeypatch.setattr(FakeRecorder, "capture", counted)
    model = llama(device)
    text(model, prompt(5), 60, cache=kind, **choice)
    count, captured = len(bindings), len(captures)
    assert count == 1 and captured == (device != "cpu")
    for seed, (length, tokens) in enumerate([(5, 16), (9, 8), (3, 2), (30, 32)], 1):
        ids = prompt(length, seed)
        assert same(model, ids, tokens, cache=kind, **choice) == tokens - 1
    assert len(bindings) == count and len(captures) == captured


def test_a_short_text_waits_once_for_the_tokens_that_it_replays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ compiles the kernels")
    monkeypatch.setattr(replay, "AHEAD", 1e9)  # so that the clock has no part in it
    model = llama(DEVICE)
    text(model, prompt(5), 60)
    fake_cupy.waits.clear()
    text(model, prompt(7, 1), 16)
    assert len(fake_cupy.waits) == 2  # for the prompt's token, and for 15


def test_caches_that_are_in_use_are_not_taken_over(device: str, bindings: list[Any]) -> None:
    model = llama(device)
    cache = KVCache.for_model(model, 1, 64, block=256)
    steps = DecodingSteps(model, cache, True)
    prefill(model, cache, [prompt(5)])
    for token in range(3, 9):
        steps.logits(gradient.tensor([[token]], device=device), 9)
    assert steps.replayed and len(bindings) == 1
    before = [t.numpy(force=True).tobytes() for t in cache.tensors]
    options = {"logits_processors": [lambda logits, prefixes: logits]}  # the same step, `logits`
    short = WORTH_BINDING - 5  # as some passes were by the modules
    assert same(model, prompt(7, 1), short, **options) == 0 and len(bindings) == 1
    assert same(model, prompt(7, 1), short + 9, **options) == short + 8 and len(bindings) == 2
    assert [t.numpy(force=True).tobytes() for t in cache.tensors] == before
    assert same(model, prompt(7, 2), 4, **options) == 3 and len(bindings) == 2
    del cache, steps
    gc.collect()


def test_two_threads_at_once() -> None:
    model = llama()
    texts = [prompt(3 + seed, seed) for seed in range(8)]
    expected = [text(model, ids, 24, compile=False).token_ids for ids in texts]
    text(model, prompt(5), 60)
    found: dict[int, list[list[int]]] = {0: [], 1: []}

    def run(number: int) -> None:
        for _ in range(3):
            found[number] += [text(model, ids, 24).token_ids for ids in texts[number::2]]

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in (0, 1)] == [expected[number::2] * 3 for number in (0, 1)]


class Negated(gradient.nn.Module):
    def forward(self, x: Any) -> Any:
        return -x


def weights(model: Any) -> None:
    model.lm_head.weight = gradient.nn.Parameter(-model.lm_head.weight.detach())


def in_place(model: Any) -> None:
    with gradient.no_grad():
        model.lm_head.weight.mul_(-1.0)


def hook(model: Any) -> None:
    model.lm_head.register_forward_hook(lambda module, args, output: -output)


def module(model: Any) -> None:
    model.lm_head = gradient.nn.Sequential(model.lm_head, Negated())


@pytest.mark.parametrize("change", [weights, in_place, hook, module], ids=lambda f: f.__name__)
def test_what_changed_between_two_texts_is_noticed(change: Any, device: str) -> None:
    model = llama(device)
    text(model, prompt(5), 60)
    before = text(model, prompt(7, 1), 16)
    change(model)
    same(model, prompt(7, 1), 16)
    assert text(model, prompt(7, 1), 16).token_ids != before.token_ids
    text(model, prompt(5), 60)
    assert same(model, prompt(7, 1), 16) == (0 if change is hook else 15)


def test_batches_have_steps_of_their_own(device: str, bindings: list[Any]) -> None:
    model = llama(device)
    batches = [[prompt(4 + i, i) for i in range(rows)] for rows in (1, 2, 3)]
    for batch in batches:
        text(model, batch, 60)
    count = len(bindings)
    assert count == 3
    for batch in (*batches, *batches):
        assert same(model, batch, 10) == 9
    assert len(bindings) == count


@pytest.mark.parametrize("kind", ["static", "paged"])
@pytest.mark.parametrize("draft", ["prompt_lookup", "model"])
def test_drafts_of_short_texts_are_checked_in_replays(
    draft: str, kind: str, bindings: list[Any]
) -> None:
    model, small = llama(), llama(rms_norm_eps=0.5)
    options = {"draft": small if draft == "model" else draft, "max_draft_tokens": 4, "cache": kind}
    ids = prompt(6) * 3
    for _ in range(2):
        text(model, ids, 120, **options)
    count = len(bindings)
    assert same(model, ids, 16, **options) >= (kind == "static")
    if kind == "static":
        assert len(bindings) == count


def test_steps_of_several_lengths_stay_bound_to_pages(bindings: list[Any]) -> None:
    """Which no cache takes over: another step's binding must not drop theirs."""
    model = llama()
    cache = KVCache.for_model(model, 1, 256, kind="paged", block=64, pages=40)
    steps, plain = DecodingSteps(model, cache, True), DecodingSteps(model, cache, False)
    prefill(model, cache, [prompt(5)])
    for _ in range(8):
        for length in (1, 2, 3):
            tokens = gradient.tensor([prompt(length, length)])
            found = steps.logits(tokens, 9, every=True)
            cache.rewind([5])
            assert found.array.tobytes() == plain.logits(tokens, 9, every=True).array.tobytes()
            cache.rewind([5])
    assert len(bindings) == 3


@pytest.mark.parametrize("tokens", [8, 16])
def test_many_short_texts_are_worth_a_recording(tokens: int, bindings: list[Any]) -> None:
    model = llama()
    replayed = [same(model, prompt(5, seed), tokens) for seed in range(9)]
    assert replayed[0] == 0
    assert replayed[-3:] == [tokens - 1] * 3
    assert len(_recorded[model].steps) == len(bindings) == 1
    other = llama()
    for seed in range(9):  # never the same model twice
        with gradient.no_grad():
            other.lm_head.weight.data = other.lm_head.weight + 0.0
        assert text(other, prompt(5, seed), tokens).timings.replayed_steps == 0


def test_memory_on_which_another_stream_works_is_not_taken_over(
    bindings: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ compiles the kernels")
    model = llama(DEVICE)
    runtime: Any = backends.get(DEVICE).runtime  # type: ignore[attr-defined]
    text(model, prompt(5), 60)
    for stream, bound in ((8, 2), (8, 2), (7, 2), (2, 3), (2, 3)):  # 2: the thread's own
        monkeypatch.setattr(runtime, "stream", lambda stream=stream: stream)
        assert same(model, prompt(7, 1), 16) == 15
        assert len(bindings) == bound
    thread = threading.Thread(target=same, args=(model, prompt(7, 1), 16))
    thread.start()
    thread.join()
    assert len(bindings) == 4
    # A text that goes on in another stream leaves its memory there.
    monkeypatch.setattr(runtime, "stream", lambda: 7)
    bound_steps._free(backends.get(DEVICE))
    cache = KVCache.for_model(model, 1, 64, block=256)
    steps = DecodingSteps(model, cache, True)
    prefill(model, cache, [prompt(5)])
    for token in range(3, 9):
        steps.logits(gradient.tensor([[token]], device=DEVICE), 9)
    monkeypatch.setattr(runtime, "stream", lambda: 8)
    steps.logits(gradient.tensor([[9]], device=DEVICE), 9)
    del cache, steps
    gc.collect()
    pool = _recorded[model].bound
    monkeypatch.setattr(runtime, "stream", lambda: 7)
    assert not any(each.match(KVCache.for_model(model, 1, 64, block=256)) for each in pool._kept)


def kept_arrays(model: Any) -> list[weakref.ref[Any]]:
    text(model, prompt(5), 60)
    gc.collect()
    kept = _recorded[model].bound._kept
    assert len(kept) == 1 and kept[0].unused
    return [weakref.ref(x) for x in kept[0]._arrays]


def test_what_is_kept_is_freed_when_memory_is_short(device: str) -> None:
    model, other = llama(device), llama()
    arrays, others = kept_arrays(model), kept_arrays(other)
    with pytest.raises(OutOfMemoryError):
        gradient.zeros(1, device="cpu").expand(1 << 48).clone()
    gc.collect()
    assert all(each() is None for each in others)
    assert all((each() is None) == (device == "cpu") for each in arrays)
    assert same(other, prompt(7, 1), 16) == 15


def test_empty_cache_frees_what_is_kept() -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ compiles the kernels")
    from support.fake_device import as_cuda

    with as_cuda():
        model = llama("cuda")
        arrays = kept_arrays(model)
        gradient.cuda.empty_cache()
        gc.collect()
        assert all(each() is None for each in arrays)
        assert same(model, prompt(7, 1), 16) == 15


def test_beams_whose_caches_are_too_large_to_keep_are_not_bound_at_every_crossing(
    bindings: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound_steps, "KEPT_BYTES", 0)
    model = llama()
    text(model, prompt(6), 60, num_beams=4, compile=True)
    assert len(bindings) < 20


def test_passes_of_ever_other_options_are_counted_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorded_steps, "MOST_COUNTED", 3)
    model = llama()
    for number in range(7):
        text(model, prompt(5), 3, temperature=1.0, top_k=3 + number, seed=1)
        assert 1 <= len(_recorded[model].passes) <= 3


def test_refusals_are_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_steps, "MOST_COUNTED", 3)
    recorded = recorded_steps.RecordedSteps(llama())
    for key in range(7):
        recorded.refuse(key, "it changes from step to step")
        assert key in recorded.refused and len(recorded.refused) <= 3


def test_steps_of_ever_other_options_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sees ever other options would else keep a step, and its memory, for each."""
    monkeypatch.setattr(recorded_steps, "MOST_RECORDED", 3)
    model = llama()
    kept = PromptCache(model)  # whose bound steps are never those of a cache that is gone
    for number in range(6):
        options: dict[str, Any] = {"temperature": 1.0, "top_k": 3 + number, "seed": 1}
        expected = text(model, prompt(5), 20, compile=False, **options)
        for cache in (None, kept):
            assert (
                text(model, prompt(5), 20, compile=True, prompt_cache=cache, **options) == expected
            )
            recorded = _recorded[model]
            bound = [each.replays.keys() for each in recorded.bound._kept]
            assert 1 <= len(recorded.steps) <= 3 and all(
                keys <= recorded.steps.keys() for keys in bound
            )


def test_the_step_used_last_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_steps, "MOST_RECORDED", 2)
    model = llama()
    for k in (3, 4, 3, 5):
        text(model, prompt(5), 20, compile=True, temperature=1.0, top_k=k, seed=1)
    kinds = [kind for _, kind, _, _ in _recorded[model].steps]
    assert [dict(kind[2:])["top_k"] for kind in kinds] == [3, 5]


def test_a_step_may_be_bound_while_another_thread_counts_bytes() -> None:
    class Bound:
        nbytes = property(lambda self: len(steps.replays.setdefault(object(), "bytes")))

    steps = BoundSteps(KVCache.for_model(llama(), 1))
    steps.replays["first"] = Bound()  # type: ignore[assignment]
    assert steps.nbytes >= len("bytes")


def test_texts_of_all_temperatures_share_a_step(device: str) -> None:
    """On the CPU, a kernel was compiled for each, and kept for good."""
    model = llama(device)
    replayed = [
        same(model, prompt(5), 20, temperature=0.3 + 0.1237 * number, seed=number)
        for number in range(8)
    ]
    assert replayed[-5:] == [19] * 5
    assert len(_recorded[model].steps) == 1
