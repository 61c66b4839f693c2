"""A small decoder that asks all of a key-value cache, and how tests feed it."""

from __future__ import annotations

import numpy as np

import gradient
from gradient import nn
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
