"""The key-value caches: every layout with every storage, held to computing without one."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.errors import ArgumentError, CacheFull, TypeMismatch
from gradient.generation import KVCache
from gradient.models import CausalLM, GPT2Config
from gradient.models.attention import attend
from gradient.models.causal_lm import KVShape, check_input_ids, last_tokens

VOCAB, CONTEXT = 50, 80
WINDOWS = (None, 6, 11)  # of the layers: one sees all, two slide


class Windowed(CausalLM):
    """A decoder of attention only: grouped heads, capped scores, a window of its own per layer."""

    H, H_kv, D = 4, 2, 8

    def __init__(self, windows=WINDOWS, head_size: int = 8) -> None:
        super().__init__(GPT2Config(vocab_size=VOCAB, n_positions=CONTEXT))
        self.D, self.windows = head_size, windows
        C = self.H * self.D
        self.tokens = nn.Embedding(VOCAB, C)
        self.places = nn.Embedding(CONTEXT, C)
        self.qkv = nn.ModuleList(nn.Linear(C, C + 2 * self.H_kv * self.D) for _ in windows)
        self.head = nn.Linear(C, VOCAB)

    context_length = property(lambda self: CONTEXT)
    kv_shapes = property(lambda self: [KVShape(self.H_kv, self.D, w) for w in self.windows])

    def forward(self, input_ids, cache=None, *, lengths=None, last_only=False):
        check_input_ids(input_ids, lengths, CONTEXT)
        B, T = input_ids.shape
        past = None if cache is None else cache.begin(T, lengths)
        positions = gradient.arange(T, device=input_ids.device) if past is None else past.positions
        x = self.tokens(input_ids) + self.places(positions)
        for layer, window in enumerate(self.windows):
            sizes = [self.H * self.D] + [self.H_kv * self.D] * 2
            q, k, v = (
                part.view(B, T, -1, self.D).transpose(1, 2)
                for part in self.qkv[layer](x).split(sizes, dim=2)
            )
            y = attend(past, layer, q, k, v, window=window, softcap=4.0)
            x = x + y.transpose(1, 2).reshape(B, T, -1)
        if past is not None:
            past.commit()
        return self.head(last_tokens(x, lengths) if last_only else x)


@pytest.fixture(scope="module")
def make_model():
    def make(device="cpu", windows=WINDOWS, head_size=8):
        gradient.manual_seed(0)
        return Windowed(windows, head_size).to(device).eval()

    return make


LAYOUTS = {
    "static": {"kind": "static"},
    "static in blocks": {"kind": "static", "block": 8},
    "sliding": {"kind": "sliding", "slack": 3},
    "sliding in blocks": {"kind": "sliding", "slack": 3, "block": 4},
    "sliding, no slack": {"kind": "sliding", "slack": 0},
    "paged": {"kind": "paged", "page_size": 4},
    "paged in blocks": {"kind": "paged", "page_size": 4, "block": 8},
    "paged, bound": {"kind": "paged", "page_size": 5, "pages": 64},
}

#: How far logits may lie from those without a cache, as a share of the largest.
TOLERANCE = {None: 1e-6, "bfloat16": 5e-3, "int8": 1e-2, "int4": 0.1}

#: What is fed, pass by pass: how many tokens of each row.
SCENARIOS = {
    "one prompt and steps": [[7]] + [[1]] * 20,
    "tokens one by one": [[1]] * 30,
    "prompt beyond the windows": [[40]] + [[1]] * 5,
    "even rows": [[9, 9, 9]] + [[1, 1, 1]] * 6,
    "ragged rows": [[9, 2, 30]] + [[1, 1, 1]] * 8,
    "chunks": [[16], [16], [9]] + [[1]] * 3,
    "ragged chunks": [[5, 12], [7, 3], [1, 20], [4, 4], [2, 3], [1, 1]],
    "chunks that some rows do not need": [[8, 8, 3], [8, 2, 0], [5, 0, 0], [1, 1, 1], [1, 1, 1]],
    "short passes, as when drafts are checked": [[14, 3]] + [[4, 4], [3, 1]] * 5,
}


def texts(rows: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB, (rows, CONTEXT))


def feed(model, cache, text, new, starts):
    """Give each row its next new[row] tokens; return their logits, row by row."""
    T = max(new)
    ids = np.zeros((len(new), T), dtype=np.int64)
    for row, (start, count) in enumerate(zip(starts, new, strict=True)):
        ids[row, :count] = text[row, start : start + count]
    lengths = None if set(new) == {T} else new
    with gradient.no_grad():
        logits = model(gradient.tensor(ids, device=model.device), cache, lengths=lengths)
    return [logits[row, :count].cpu().numpy() for row, count in enumerate(new)]


def whole(model, text):
    """Return the logits of every prefix of the rows, without a cache."""
    with gradient.no_grad():
        return model(gradient.tensor(text, device=model.device)).cpu().numpy()


def close(actual, expected, tolerance):
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=tolerance * np.abs(expected).max(initial=0)
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_a_cache_as_without(layout, dtype, scenario, make_model, device):
    model, passes = make_model(device), SCENARIOS[scenario]
    text = texts(len(passes[0]))
    expected = whole(model, text)
    cache = KVCache.for_model(model, len(text), dtype=dtype, **LAYOUTS[layout])
    for new in passes:
        starts = list(cache.counts)
        for row, logits in enumerate(feed(model, cache, text, new, starts)):
            stop = starts[row] + new[row]
            close(logits, expected[row, starts[row] : stop], TOLERANCE[dtype])
        assert cache.counts == cache.lengths.tolist()
    assert cache.counts == [sum(counts) for counts in zip(*passes, strict=True)]
