"""Steps that are queued before the host has read those before them: the same texts, and nothing is
left of steps that were in vain. The device is a stand-in whose copies to the host arrive only when
they are waited for."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gradient
from gradient import backends
from gradient.errors import GenerationError
from gradient.generation import PromptCache, generate, replay
from gradient.generation.generate import start
from gradient.generation.options import GenerationOptions
from gradient.generation.queued_steps import QueuedSteps, queue_replays
from gradient.generation.replay import DecodingSteps
from gradient.generation.row import Row
from gradient.models import LlamaConfig, LlamaForCausalLM, MistralConfig
from gradient.plan import record
from support import fake_cupy
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

TEXT = [5, 9, 23, 4]
AT_ONCE = 4
DRAWN: dict[str, Any] = {"temperature": 1.2, "top_k": 20, "seed": 3}

Trace = list[tuple[str, int]]


@pytest.fixture(autouse=True)
def trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trace]:
    """What was queued and read, in order, and how many steps. They are four at once, so that the
    clock has no part in it."""
    pytest.importorskip("numba")
    found: Trace = []
    read = QueuedSteps.read

    def traced_read(self: QueuedSteps) -> Any:
        found.append(("read", self.count))
        return read(self)

    def traced_queue(*args: Any) -> Any:
        queued = queue_replays(*args)
        found.append(("queue", queued.count))
        return queued

    monkeypatch.setattr(QueuedSteps, "read", traced_read)
    monkeypatch.setattr(replay, "queue_replays", traced_queue)
    for name in ("AT_ONCE", "AHEAD"):
        monkeypatch.setattr(replay, name, 1e9)
    monkeypatch.setattr(replay, "MOST_AT_ONCE", AT_ONCE)
    yield found
    fake_cupy.waits.clear()


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """A model whose step is recorded, and bound to memory that the next cache takes over."""
    made = llama()
    for options in ({}, DRAWN):
        for cache in (None, PromptCache(made)):  # which has larger blocks
            text(made, ignore_eos=True, prompt_cache=cache, **options)
    return made


def llama(device: str = DEVICE, **options: Any) -> LlamaForCausalLM:
    gradient.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = MistralConfig if "sliding_window" in options else LlamaConfig
    return LlamaForCausalLM(config(**sizes, **heads, **options)).eval().to(device)


def text(model: Any, ids: Any = TEXT, tokens: int = 24, **options: Any) -> Any:
    return generate(model, ids, **{"max_new_tokens": tokens, "compile": True, **options})


def plain(model: Any, ids: Any = TEXT, tokens: int = 24, **options: Any) -> Any:
    return text(model, ids, tokens, **{**options, "compile": False})


def begun(model: Any, **options: Any) -> tuple[Row, Iterator[tuple[int, str]]]:
    """A text that is generated piece by piece, with a piece for each token."""
    given = {"max_new_tokens": 24, "compile": True, "ignore_eos": True, **options}
    (row,), pieces = start(model, [TEXT], Letters(), GenerationOptions(**given))
    return row, pieces


class Letters:
    """A tokenizer whose tokens are letters."""

    eos_id = bos_id = None
    eos_ids: frozenset[int] = frozenset()

    def stream(self, prompt: Any) -> Letters:
        return self

    def push(self, token: int) -> str:
        return chr(64 + token)

    def flush(self) -> str:
        return ""


def ending_at(model: Any, monkeypatch: pytest.MonkeyPatch, token: int | list[int]) -> None:
    monkeypatch.setattr(model.config, "eos_token_id", token, raising=False)


def is_busy() -> bool:
    """Whether copies to the host are still queued."""
    runtime: Any = backends.get(DEVICE).runtime  # type: ignore[attr-defined]
    return bool(runtime.default.copies)


def first_places(ids: list[int]) -> list[int]:
    """Where a token occurs for the first time, so that a text can end there."""
    return [i for i, token in enumerate(ids) if token not in ids[:i]]


def test_steps_are_queued_before_those_before_them_are_read(model: Any, trace: Trace) -> None:
    fake_cupy.waits.clear()
    found = text(model, ignore_eos=True)
    assert trace == [
        ("queue", 4),
        *[("queue", 4), ("read", 4)] * 4,
        *[("queue", 3), ("read", 4), ("read", 3)],
    ]
    assert fake_cupy.waits == ["asnumpy", *["event"] * 6]  # the prompt's token, and 23
    assert found.timings.replayed_steps == 23
    assert found.token_ids == plain(model, ignore_eos=True).token_ids


@pytest.mark.parametrize("tokens", range(1, 12))
def test_no_step_follows_the_last_token_that_is_wanted(
    model: Any, trace: Trace, tokens: int
) -> None:
    found = text(model, tokens=tokens, ignore_eos=True)
    assert sum(count for what, count in trace if what == "queue") == tokens - 1
    assert found.token_ids == plain(model, tokens=tokens, ignore_eos=True).token_ids


def test_the_context_ends_amid_steps(trace: Trace) -> None:
    small = llama(max_position_embeddings=21)
    for _ in range(2):
        found = text(small, tokens=40, ignore_eos=True)
        assert found.finish_reason == "context"
    assert sum(count for what, count in trace if what == "queue") > 0
    assert found.token_ids == plain(small, tokens=40, ignore_eos=True).token_ids


@pytest.mark.parametrize("seed", [0, 1, 7, None])
@pytest.mark.parametrize("options", [{"temperature": 1.0}, {"temperature": 1.7, "top_p": 0.9}])
def test_the_same_seed_draws_the_same_tokens(model: Any, seed: Any, options: Any) -> None:
    texts, numbers = [], []
    for compiled in (True, False):
        gradient.manual_seed(5)
        given = {"seed": seed, "ignore_eos": True, **options}
        texts.append(text(model, compile=compiled, **given))
        numbers.append(gradient.rand(3).tolist())
    assert texts[0].token_ids == texts[1].token_ids and texts[0].seed == texts[1].seed
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("options", [{}, DRAWN], ids=["greedy", "drawn"])
def test_a_text_may_end_anywhere(
    model: Any, options: Any, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in its steps: what follows is that of a text by the modules."""
    whole = plain(model, ignore_eos=True, **options).token_ids
    for place in first_places(whole)[:9]:
        ending_at(model, monkeypatch, whole[place])
        trace.clear()
        gradient.manual_seed(1)
        cache = PromptCache(model)
        fake_cupy.waits.clear()
        found = text(model, prompt_cache=cache, **options)
        assert found.token_ids == whole[:place] and found.finish_reason == "stop"
        assert len(fake_cupy.waits) <= 2 + -(-place // AT_ONCE) + 1 and not is_busy()
        queued = sum(count for what, count in trace if what == "queue")
        assert queued <= -(-place // AT_ONCE) * AT_ONCE + AT_ONCE  # one batch in vain, at most
        assert found.timings.replayed_steps <= -(-place // AT_ONCE) * AT_ONCE
        # What is held are the tokens that were read, and their keys and values alone.
        held = cache.cache.counts
        assert held == [len(cache.tokens)] == cache.cache.lengths.tolist()
        assert len(TEXT) + place <= held[0] + 1 <= len(TEXT) + place + AT_ONCE
        assert cache.tokens[: len(TEXT) + place] == [*TEXT, *whole[:place]][: held[0]]
        longer = [*TEXT, *found.token_ids, 7, 8]
        again = text(model, longer, 9, prompt_cache=cache, ignore_eos=True, **options)
        assert again.token_ids == plain(model, longer, 9, ignore_eos=True, **options).token_ids
        assert again.timings.cached_tokens >= len(longer) - 3
        state = gradient.rand(2).tolist()
        gradient.manual_seed(1)
        assert gradient.rand(2).tolist() == state


def test_a_stop_string_ends_a_text_amid_steps(model: Any) -> None:
    row, pieces = begun(model)
    list(pieces)
    whole = row.result.text
    for place in range(2, 20, 3):
        row, pieces = begun(model, stop=[whole[place : place + 2]])
        list(pieces)
        assert row.result.text == whole[: whole.index(whole[place : place + 2])]
        assert row.result.finish_reason == "stop"


@pytest.mark.parametrize("options", [{}, DRAWN], ids=["greedy", "drawn"])
def test_rows_end_apart(model: Any, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is queued when one row ends is of use to the others."""
    prompts = [TEXT, TEXT[:2], [7, 8]]
    many = {**options, "seed": [3, 4, 5]} if options else {}
    wholes = plain(model, prompts, ignore_eos=True, **many)
    for row, place in [(0, 5), (1, 6), (2, 11)]:
        ending_at(model, monkeypatch, wholes[row].token_ids[place])
        found, expected = (way(model, prompts, **many) for way in (text, plain))
        for one, other in zip(found, expected, strict=True):
            assert one.token_ids == other.token_ids
            assert one.finish_reason == other.finish_reason
            assert one.timings.generated_tokens == other.timings.generated_tokens


def test_steps_are_not_in_vain_where_other_rows_go_on(
    model: Any, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [TEXT, TEXT[:2]]
    text(model, prompts, ignore_eos=True)
    wholes = plain(model, prompts, ignore_eos=True)
    place = next(
        i for i in first_places(wholes[1].token_ids) if i > 5
        and wholes[1].token_ids[i] not in wholes[0].token_ids
    )  # fmt: skip
    ending_at(model, monkeypatch, wholes[1].token_ids[place])
    trace.clear()
    found = text(model, prompts)
    assert found[0].token_ids == wholes[0].token_ids
    assert found[1].token_ids == wholes[1].token_ids[:place]
    queued, read = (
        sum(count for what, count in trace if what == kind) for kind in ("queue", "read")
    )
    assert queued <= read  # single steps by the modules are read, too


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of steps that were queued before others were read: whether they are replays."""
    found: list[bool] = []
    queue = DecodingSteps.queue

    def traced(self: DecodingSteps, *args: Any) -> Any:
        queued = queue(self, *args)
        if args[-1] and queued is not None:  # how many are unread
            found.append(queued.replayed)
        return queued

    monkeypatch.setattr(DecodingSteps, "queue", traced)
    return found


def test_only_bound_steps_are_queued_ahead(
    ahead: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others take longer, and might be in vain."""
    made = llama()
    wholes = text(made, [TEXT, TEXT[:2]], ignore_eos=True)
    ending_at(made, monkeypatch, wholes[1].token_ids[9])
    lengths = [len(each.token_ids) for each in text(made, [TEXT, TEXT[:2]])]
    assert 0 < lengths[1] < lengths[0]
    assert len(ahead) > 4 and all(ahead)


@pytest.mark.parametrize("kind", ["sliding", "paged", "static"])
@pytest.mark.parametrize("dtype", [None, "int8"])
def test_every_cache_goes_on_after_an_early_end(
    kind: str, dtype: str | None, ahead: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sliding cache is rewound by what it keeps; a paged one has no steps ahead, as they might
    take pages that another cache needs."""
    made = llama(sliding_window=8) if kind == "sliding" else llama()
    options: Any = {"kind": kind, "dtype": dtype} | ({"pages": 8} if kind == "paged" else {})
    text(made, ignore_eos=True, prompt_cache=PromptCache(made, **options))
    whole = plain(made, ignore_eos=True, cache=kind, cache_dtype=dtype).token_ids
    for place in first_places(whole)[5::2]:
        ending_at(made, monkeypatch, whole[place])
        cache = PromptCache(made, **options)
        ahead.clear()
        found = text(made, prompt_cache=cache)
        assert found.token_ids == whole[:place] and found.timings.replayed_steps > 0
        assert any(ahead) == (kind != "paged")
        longer = [*TEXT, *whole[:place], 7]
        again = text(made, longer, 9, prompt_cache=cache, ignore_eos=True)
        assert again.timings.cached_tokens >= len(longer) - 2
        expected = plain(made, longer, 9, cache=kind, cache_dtype=dtype, ignore_eos=True)
        assert again.token_ids == expected.token_ids


def test_a_sliding_cache_is_never_ahead_by_more_than_it_can_rewind(trace: Trace) -> None:
    made = llama(sliding_window=8)
    for _ in range(2):
        trace.clear()
        cache = PromptCache(made, kind="sliding", max_rewind=6)
        found = text(made, prompt_cache=cache, ignore_eos=True)
    unread = most = 0
    for what, count in trace:
        unread += count if what == "queue" else -count
        most = max(most, unread)
    assert most == 6
    assert found.token_ids == plain(made, cache="sliding", ignore_eos=True).token_ids


@pytest.mark.parametrize("when", ["queue", "read"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_ctrl_c_leaves_the_cache_as_it_was(
    model: Any, when: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plain(model, ignore_eos=True).token_ids
    owner, name = {"queue": (replay, "queue_replays"), "read": (QueuedSteps, "read")}[when]
    called, calls = getattr(owner, name), 0

    def interrupted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        result = called(*args)
        if calls == number:
            raise KeyboardInterrupt
        return result

    cache = PromptCache(model)
    options = GenerationOptions(
        max_new_tokens=24, compile=True, ignore_eos=True, prompt_cache=cache
    )
    (row,), pieces = start(model, [TEXT], None, options)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(pieces)
    kept = row.result.token_ids
    assert kept == whole[: len(kept)] and len(kept) >= 1
    assert cache.cache.lengths.tolist() == cache.cache.counts == [len(cache.tokens)]
    assert cache.tokens == [*TEXT, *kept][: len(cache.tokens)]
    assert text(model, prompt_cache=cache, ignore_eos=True).token_ids == whole


def test_a_text_that_is_closed_amid_steps_leaves_nothing(model: Any) -> None:
    whole = plain(model, ignore_eos=True).token_ids
    for taken in (1, 2, 6, 9):
        cache = PromptCache(model)
        _, pieces = begun(model, prompt_cache=cache)
        for _ in range(taken):
            next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert not is_busy()
        held = cache.cache.counts
        assert held == [len(cache.tokens)] == cache.cache.lengths.tolist()
        assert cache.tokens == [*TEXT, *whole][: held[0]]
        assert text(model, prompt_cache=cache, ignore_eos=True).token_ids == whole


def test_a_text_that_is_not_closed_before_the_interpreter_ends() -> None:
    """Its generator is closed then, when modules may be gone."""
    program = (
        "from test_queued_steps import begun, llama, text\n"
        "model = llama()\n"
        "text(model, ignore_eos=True)\n"
        "row, pieces = begun(model, max_new_tokens=99)\n"
        "next(pieces), next(pieces)\n"
        "assert pieces.gi_frame.f_locals['decoder'].queued\n"
        "cycle = [pieces]\n"
        "cycle.append(cycle)\n"
        "del row, pieces\n"
    )
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join(map(str, [tests / "generation", tests, *filter(None, sys.path)]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("kept", "asked"),
    [(False, False), (False, True), (True, False)],
    ids=["own cache", "own cache, asked", "prompt cache"],
)
def test_a_text_that_is_freed_while_another_function_is_recorded(
    model: Any, kept: bool, asked: bool
) -> None:
    """By the garbage collector, as the text is in a reference cycle: no call of the plan is its."""
    cache = PromptCache(model) if kept else None
    gc.disable()  # the text stays in the youngest generation
    _, pieces = begun(model, max_new_tokens=99, prompt_cache=cache)
    for _ in range(3):
        next(pieces)
    decoder = pieces.gi_frame.f_locals["decoder"]  # type: ignore[attr-defined]
    assert decoder.queued
    freed = weakref.ref(decoder)
    cycle: list[Any] = [pieces]
    cycle.append(cycle)
    held = [cycle]
    del decoder, pieces, cycle
    threshold = gc.get_threshold()

    def double(x: gradient.Tensor) -> gradient.Tensor:
        held.clear()
        if asked:
            gc.collect()
        gc.set_threshold(10, 1, 1)
        assert [[] for _ in range(1000)]
        return x * 2

    x = gradient.ones(3, device=DEVICE)
    gc.set_threshold(1_000_000)
    gc.enable()
    try:
        recording = record(double, x, inputs=[x], device=DEVICE)
    finally:
        gc.set_threshold(*threshold)
    assert [call.op for call in recording.plan.calls] == ["mul"]
    gc.collect()
    assert freed() is None and gc.isenabled() and not is_busy()
    assert cache is None or cache.cache.lengths.tolist() == [len(cache.tokens)]


def test_another_text_takes_over_the_cache_of_one_with_steps_ahead(model: Any) -> None:
    cache = PromptCache(model)
    _, pieces = begun(model, prompt_cache=cache)
    for _ in range(6):
        next(pieces)
    other = [*TEXT[:3], 11]
    for _ in range(2):
        found = text(model, other, prompt_cache=cache, ignore_eos=True)
        assert found.token_ids == plain(model, other, ignore_eos=True).token_ids
    held = list(cache.tokens)
    with pytest.raises(GenerationError, match="another generation has used it"):
        list(pieces)
    assert cache.tokens == held and cache.cache.counts == [len(held)]
    assert text(model, other, prompt_cache=cache, ignore_eos=True).token_ids == found.token_ids


def test_a_prompt_cache_is_saved_amid_steps(model: Any, tmp_path: Any) -> None:
    """Which rewinds it to the tokens that were read."""
    whole = plain(model, ignore_eos=True, **DRAWN).token_ids
    cache = PromptCache(model)
    row, pieces = begun(model, prompt_cache=cache, **DRAWN)
    for _ in range(6):
        next(pieces)
    cache.save(tmp_path / "cache")
    list(pieces)
    assert row.result.token_ids == whole
    loaded = PromptCache.load(tmp_path / "cache", model)
    held = list(loaded.tokens)
    assert held == [*TEXT, *whole][: len(held)] and len(held) > 8
    found = text(model, [*held, 7], 8, prompt_cache=loaded, ignore_eos=True)
    assert found.timings.cached_tokens == len(held)
    assert found.token_ids == plain(model, [*held, 7], 8, ignore_eos=True).token_ids


def test_a_change_of_weights_is_noticed_at_the_next_steps() -> None:
    """Those that were queued with the old ones are dropped."""
    made = llama()
    text(made, ignore_eos=True)
    row, pieces = begun(made)
    for _ in range(6):
        next(pieces)
    known = len(row.result.token_ids)
    weight = gradient.nn.Parameter(made.lm_head.weight.detach().flip(0).clone())
    made.lm_head.weight = weight
    before = list(row.result.token_ids)
    rest = -known % AT_ONCE + 1  # of those that were read with the last ones
    list(pieces)
    ids = row.result.token_ids
    assert ids[:known] == before
    start_of_new = known + rest if (known - 1) % AT_ONCE else known
    expected = plain(made, [*TEXT, *ids[:start_of_new]], 24 - start_of_new, ignore_eos=True)
    assert ids[start_of_new:] == expected.token_ids


def test_an_impossible_token_in_steps_that_are_in_vain(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device looks a token of -1 up, but nobody hears of it: the text has ended before."""
    made = llama()
    for _ in range(2):
        whole = text(made, ignore_eos=True).token_ids
    # Steps 5 to 8 are read; in the next ones a token without logits is followed by one of -1, which
    # is looked up.
    end, broken = 6, 8
    assert {end, broken} <= {*first_places(whole)} and whole[broken] not in TEXT
    with gradient.no_grad():
        made.model.embed_tokens.weight[whole[broken]] = float("nan")
    be: Any = backends.get(DEVICE)
    for stop in (whole[end], None):
        ending_at(made, monkeypatch, stop)  # type: ignore[arg-type]
        trace.clear()
        if stop is None:
            with pytest.raises(GenerationError, match="logits are NaN"):
                text(made)
        else:
            assert text(made).token_ids == whole[:end]
            assert trace.count(("queue", 4)) == 3
        assert be._fault.tolist() == [0]
        made.model.embed_tokens(gradient.tensor([1], device=DEVICE)).tolist()


def test_an_index_out_of_range_is_told_once(model: Any) -> None:
    """Of work between two pieces: by the steps that were queued after it."""
    whole = plain(model, ignore_eos=True).token_ids
    be: Any = backends.get(DEVICE)
    cache = PromptCache(model)
    row, pieces = begun(model, prompt_cache=cache)
    for _ in range(3):
        next(pieces)
    be.index_fault()[...] = 1
    with pytest.raises(IndexError, match="an op got earlier was out of range"):
        list(pieces)
    assert row.result.token_ids == whole[: len(row.result.token_ids)]
    assert cache.cache.counts == [len(cache.tokens)] == cache.cache.lengths.tolist()
    assert be._fault.tolist() == [0]
    assert text(model, prompt_cache=cache, ignore_eos=True).token_ids == whole


def test_an_index_out_of_range_is_told_though_steps_are_in_vain(model: Any) -> None:
    """Of work before these: where the program reads its result."""
    be: Any = backends.get(DEVICE)
    _, pieces = begun(model)
    for _ in range(2):
        next(pieces)
    be.index_fault()[...] = 1
    result = gradient.ones(2, device=DEVICE)
    for _ in range(4):
        next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    with pytest.raises(IndexError, match="an op got earlier was out of range"):
        result.tolist()
    assert result.tolist() == [1, 1] and be._fault.tolist() == [0]


def test_work_in_another_queue_waits_for_the_steps(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the program changes the current stream between two pieces of a text."""
    whole = plain(model, ignore_eos=True).token_ids
    be = backends.get(DEVICE)
    cache = PromptCache(model)
    row, pieces = begun(model, prompt_cache=cache)
    for _ in range(6):
        next(pieces)
    waits: list[list[str]] = []
    with monkeypatch.context() as patch:
        patch.setattr(be, "queue", lambda: 8)
        patch.setattr(replay, "queue_replays", lambda *args: waits.append([*fake_cupy.waits])
                      or queue_replays(*args))  # fmt: skip
        fake_cupy.waits.clear()
        for _ in range(4):
            next(pieces)
    assert waits[0] == ["event"]  # before more is queued
    list(pieces)
    assert row.result.token_ids == whole

    _, pieces = begun(model, prompt_cache=cache)
    for _ in range(6):
        next(pieces)
    with monkeypatch.context() as patch:
        patch.setattr(be, "queue", lambda: 8)
        fake_cupy.waits.clear()
        cache.rows([TEXT])
        assert fake_cupy.waits == ["event"]


def test_a_prompt_cache_is_saved_in_another_queue(
    model: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PromptCache(model)
    _, pieces = begun(model, prompt_cache=cache)
    for _ in range(6):
        next(pieces)
    with monkeypatch.context() as patch:
        patch.setattr(backends.get(DEVICE), "queue", lambda: 8)
        fake_cupy.waits.clear()
        cache.save(tmp_path / "cache")
        assert fake_cupy.waits[0] == "event"  # before anything is read


def test_two_threads_at_once(model: Any) -> None:
    prompts = [[3 + i, 9, 23][: 1 + i % 3] for i in range(6)]
    expected = [plain(model, ids, ignore_eos=True).token_ids for ids in prompts]
    found: dict[int, Any] = {}

    def work(numbers: range) -> None:
        for number in numbers:
            found[number] = text(model, prompts[number], ignore_eos=True).token_ids

    threads = [threading.Thread(target=work, args=(range(i, 6, 2),)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(6)] == expected


def test_what_looks_at_the_text_has_no_steps_ahead(model: Any, trace: Trace) -> None:
    for options in (
        {"repetition_penalty": 1.3},
        {"logits_processors": [lambda logits, prefixes: logits]},
        {"logprobs": 1},
        {"draft": "prompt_lookup"},
    ):
        text(model, ignore_eos=True, **options)
        assert trace == []


def test_on_the_cpu_no_step_is_in_vain(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    made = llama("cpu")
    text(made, ignore_eos=True)
    whole = plain(made, ignore_eos=True).token_ids
    for place in first_places(whole)[1:]:
        ending_at(made, monkeypatch, whole[place])
        trace.clear()
        assert text(made).token_ids == whole[:place]
        assert all(a[0] != b[0] for a, b in zip(trace, trace[1:], strict=False))
        queued = sum(count for what, count in trace if what == "queue")
        assert queued == -(-place // AT_ONCE) * AT_ONCE
