"""A small decoder that asks all of a key-value cache, and how tests feed it."""

from __future__ import annotations

import numpy as np

import gradient
from gradient import nn
from gradient.models import CausalLM, GPT2Config
from gradient.models.attention import CausalAttention
from gradient.models.causal_lm import KVShape

VOCAB, CONTEXT = 50, 80
H, H_KV = 4, 2  # heads
WINDOWS = (None, 6, 11)  # of the layers: one sees all, two slide


class WindowedAttention(CausalAttention):
    """Grouped heads from one matrix, capped scores, no projection of what comes out."""

    def __init__(self, layer: int, window: int | None, D: int) -> None:
        super().__init__(layer, window=window, softcap=4.0)
        self.D, self.sizes = D, [H * D, H_KV * D, H_KV * D]
        self.qkv = nn.Linear(H * D, sum(self.sizes))

    def forward(self, x, past):
        B, T, _ = x.shape
        parts = self.qkv(x).split(self.sizes, dim=2)
        return self.attend(past, *(y.view(B, T, -1, self.D).transpose(1, 2) for y in parts))


class WindowedModel(nn.Module):
    """A decoder of attention only, with a window of its own per layer."""

    def __init__(self, windows, D: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, H * D)
        self.places = nn.Embedding(CONTEXT, H * D)
        self.layers = nn.ModuleList(WindowedAttention(n, w, D) for n, w in enumerate(windows))

    def forward(self, input_ids, positions, past, lengths):
        x = self.tokens(input_ids) + self.places(positions)
        for layer in self.layers:
            x = x + layer(x, past)
        return x


class Windowed(CausalLM):
    """The decoder with its head."""

    def __init__(self, windows=WINDOWS, head_size: int = 8) -> None:
        super().__init__(GPT2Config(vocab_size=VOCAB, n_positions=CONTEXT))
        self.D, self.windows = head_size, windows
        self.model = WindowedModel(windows, head_size)
        self.lm_head = nn.Linear(H * head_size, VOCAB)

    context_length = property(lambda self: CONTEXT)
    kv_shapes = property(lambda self: [KVShape(H_KV, self.D, w) for w in self.windows])


def make_model(device="cpu", windows=WINDOWS, head_size=8) -> Windowed:
    gradient.manual_seed(0)
    return Windowed(windows, head_size).to(device).eval()


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


def fed(model, cache, text, counts):
    """Fill a cache with the beginnings of the rows' texts."""
    feed(model, cache, text, counts, [0] * len(counts))
    return cache
