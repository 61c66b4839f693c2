"""What a decoding step does, by counting: its work, its waits for the device, and what it repeats.

On the backend of opaque handles every task passes through a method, which the counter sees.
"""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

import gradient
from gradient.generation import Decoder, GenerationOptions, KVCache, Sampler, prefill
from gradient.generation.cache_config import CacheConfig
from gradient.models import GPT2Config, GPT2LMHeadModel
from support.array_backends import REQUIRED, Handle, HandleBackend
from support.cache_model import make_model, texts

NUMBERS = 4  # bytes of a float32


class Counting:
    """Counts bytes that tasks read and write, apart in attention; views take none."""

    def __init__(self, monkeypatch) -> None:
        self.within = False
        self.clear()
        operators = [name for name in vars(Handle) if callable(vars(Handle)[name])]
        for owner, names in ((HandleBackend, REQUIRED), (Handle, operators)):
            for name in set(names) - {"__init__", "__array__", "__bool__", "synchronize"}:
                monkeypatch.setattr(owner, name, self._counted(name, getattr(owner, name)))
        attention = HandleBackend.attention

        def attend(*args, **kwargs):
            self.within = True
            try:
                return attention(*args, **kwargs)
            finally:
                self.within = False

        monkeypatch.setattr(HandleBackend, "attention", attend)

    def clear(self) -> None:
        self.attention = 0
        self.other: Counter[str] = Counter()
        self.reads: list[int] = []  # elements that came to the host, at each wait
        self.uploads: list[int] = []
        self.tasks: list[str] = []
        self.largest = 0  # bytes of the largest array made

    def _counted(self, name, method):
        def counted(*args, **kwargs):
            result = method(*args, **kwargs)
            if name in ("storage", "is_view", "is_view_of", "detach", "writable"):
                return result
            if name == "to_numpy":
                self.reads.append(result.size)
                return result
            if name == "asarray" and result._inner.ndim:
                self.uploads.append(result._inner.size)
            if result._inner.base is None:
                self.largest = max(self.largest, result._inner.nbytes)
            self.tasks.append(f"{name} {self._shown(args[1:])}")
            moved = self._bytes(name, args, result)
            if self.within:
                self.attention += moved
            else:
                self.other[name] += moved
            return result

        return counted

    def _bytes(self, name, args, result) -> int:
        handles = [arg._inner for arg in _flat(args) if isinstance(arg, Handle)]
        if name in ("assign", "index_add", "put_along"):  # of what is written to, only that part
            index, value = args[2], args[3]
            part = handles[0][_plain(index)]
            return 2 * part.nbytes + (value._inner.nbytes if isinstance(value, Handle) else 0)
        made = result._inner
        if name == "getitem":
            # A slice is a view; an index array reads what it takes.
            return (
                0
                if made.base is not None and np.shares_memory(made, handles[0])
                else 2 * made.nbytes
            )
        if name in ("reshape", "permute", "broadcast_to", "astype"):
            return 0 if any(np.shares_memory(made, each) for each in handles) else 2 * made.nbytes
        return made.nbytes + sum(each.nbytes for each in handles)

    def _shown(self, value):
        if isinstance(value, Handle):
            return f"{value.dtype}{value.shape}"
        if isinstance(value, tuple | list):
            return [self._shown(each) for each in value]
        return repr(value)


def _flat(values):
    for value in values:
        if isinstance(value, tuple | list):
            yield from _flat(value)
        else:
            yield value


def _plain(index):
    if isinstance(index, tuple):
        return tuple(_plain(each) for each in index)
    return index._inner if isinstance(index, Handle) else index


def long_model() -> GPT2LMHeadModel:
    gradient.manual_seed(1)
    config = GPT2Config(
        vocab_size=50, n_positions=1200, n_embd=16, n_layer=2, n_head=2, bos_token_id=0
    )
    return GPT2LMHeadModel(config).to("handle").eval()


def decoder_at(model, contexts, **cache_options) -> Decoder:
    options = GenerationOptions(ignore_eos=True)
    prompts = [texts(1, seed)[0, :1].tolist() * context for seed, context in enumerate(contexts)]
    limits = [context + 64 for context in contexts]
    sampler = Sampler(options, len(prompts))
    decoder = Decoder(
        model, prompts, sampler, limits=limits, cache_config=CacheConfig(**cache_options)
    )
    decoder.step()  # the prompt
    return decoder


@pytest.mark.parametrize("kind", ["static", "paged"])
def test_a_tokens_work_is_flat_in_the_context_but_for_attention(kind, monkeypatch):
    model = long_model()
    decoders = {context: decoder_at(model, [context], kind=kind) for context in (100, 996)}
    counting = Counting(monkeypatch)
    attention, other = {}, {}
    for context, decoder in decoders.items():
        counting.clear()
        decoder.step()
        attention[context], other[context] = counting.attention, counting.other
    grown = 896 * 2 * 16 * NUMBERS  # of the columns more: keys or values of two layers
    if kind == "paged":  # its reads are copies of the pages: read, written
        gathered = {context: each.pop("getitem") for context, each in other.items()}
        assert gathered[996] - gathered[100] <= 2 * 2 * grown * 1.01
        moved = {context: each.pop("reshape") for context, each in other.items()}
        assert moved[996] == moved[100]
    assert other[996] == other[100]
    assert sum(other[100].values()) > 10 * 16 * 16 * NUMBERS  # it does count
    # Keys and values are read once each, and scores of two heads pass through a few operations.
    assert 2 * grown <= attention[996] - attention[100] <= 5 * grown


@pytest.mark.parametrize("kind", ["static", "paged"])
def test_a_long_prompt_in_chunks_takes_the_memory_of_a_chunk(kind, monkeypatch):
    model, largest = long_model(), {}
    prompt = [texts(1)[0, :1].tolist() * 768]
    counting = Counting(monkeypatch)
    for chunk in (32, 96, None):
        cache = KVCache.for_model(model, 1, 768, kind=kind)
        counting.clear()
        prefill(model, cache, prompt, chunk)
        largest[chunk] = counting.largest
    scores = 2 * 768 * NUMBERS  # of one token: two heads, all columns
    assert largest == {32: 32 * scores, 96: 96 * scores, None: 768 * scores}


def test_a_sliding_layers_work_is_flat_altogether(monkeypatch):
    model = make_model(windows=(6, 11)).to("handle")
    cache = KVCache.for_model(model, 1, kind="sliding", max_rewind=3)
    ids = gradient.tensor(texts(1)).to("handle")
    counting, work = Counting(monkeypatch), {}
    with gradient.no_grad():
        model(ids[:, :20], cache)
        for at in range(20, 80):
            counting.clear()
            model(ids[:, at : at + 1], cache)
            work[at] = counting.attention + sum(counting.other.values())
    assert len(set(work.values())) == 1


def test_a_growing_cache_is_copied_less_than_once_per_token(monkeypatch):
    """Amortised: 500 single tokens into a cache that reserved nothing."""
    model = long_model()
    cache = KVCache.for_model(model, 1)
    token = gradient.tensor([[3]]).to("handle")
    counting = Counting(monkeypatch)
    with gradient.no_grad():
        for _ in range(500):
            model(token, cache)
    written = counting.other["assign"]
    column = 2 * 2 * 16 * NUMBERS  # keys and values of two layers
    # A new column is counted three times (part, old content, value), and so is each one that moves
    # when the buffers double, which adds up to the columns there are.
    assert 3 * 500 * column <= written <= 3 * (500 + 512) * column + 500 * 64


@pytest.mark.parametrize("kind", ["static", "sliding", "paged"])
@pytest.mark.parametrize("contexts", [[40], [40, 23]], ids=["one", "ragged"])
def test_a_step_waits_once_for_the_tokens_and_for_nothing_else(kind, contexts, monkeypatch):
    model = make_model().to("handle")
    decoder = decoder_at(model, contexts, kind=kind)
    counting = Counting(monkeypatch)
    for _ in range(7):
        counting.clear()
        decoder.step()
        assert counting.reads == [len(contexts)]
        assert sum(counting.uploads) <= (0 if kind != "paged" else 6)  # a page's number and place


KINDS = {
    "static": {"kind": "static"},
    "sliding": {"kind": "sliding", "max_rewind": 5},
    "paged": {"kind": "paged", "page_size": 8},
}


@pytest.mark.parametrize("dtype", [None, "int8", "int4"])
@pytest.mark.parametrize("held", [[5, 5], [3, 6]], ids=["even", "ragged"])
@pytest.mark.parametrize("kind", KINDS)
def test_within_a_block_every_step_is_the_same_list_of_tasks(kind, held, dtype, monkeypatch):
    """So a step can be recorded once and replayed: nothing in it depends on a Python number."""
    model = make_model(windows=(None, 12)).to("handle")
    ids = gradient.tensor(texts(2)[:, :6]).to("handle")
    token = gradient.tensor([[7], [8]]).to("handle")
    cache = KVCache.for_model(model, 2, 16, block=8, dtype=dtype, **KINDS[kind])
    steps, ends = [], []
    with gradient.no_grad():
        model(ids, cache, lengths=held)
        counting = Counting(monkeypatch)
        for _ in range(24):
            ends.append(max(cache.counts))
            counting.clear()
            model(token, cache)
            steps.append([task for task in counting.tasks])
    assert len(steps[0]) > 50
    same = [before == after for before, after in itertools.pairwise(steps)]
    # A step differs from the one before where a new block, or a row's new page, begins.
    for number, (end, equal) in enumerate(zip(ends[1:], same, strict=True)):
        rows_begin = [(count + number + 1) % 8 <= 1 for count in held] if kind == "paged" else []
        assert equal or end % 8 in (0, 1) or any(rows_begin)
    assert sum(same) >= 11


def test_a_step_leaves_its_tensors_where_they_were():
    """So that a recorded step finds them."""
    model = make_model()
    prompts = [text[:n].tolist() for text, n in zip(texts(2), (5, 3), strict=True)]
    sampler = Sampler(GenerationOptions(temperature=0), 2)
    decoder = Decoder(model, prompts, sampler, limits=[30, 30])
    decoder.step()
    held = decoder.newest, decoder.ends, decoder.tokens, decoder.cache.lengths
    for _ in range(3):
        decoder.step()
    after = decoder.newest, decoder.ends, decoder.tokens, decoder.cache.lengths
    assert all(now is before for now, before in zip(after, held, strict=True))
    assert decoder.ends.tolist() == [9, 7]
    assert decoder.newest.tolist() == [ids[-1] for ids in decoder.ids]
