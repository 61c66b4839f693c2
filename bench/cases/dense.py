"""Float weights and the KV cache, as a language model reads them: `linear` for one row, a
few rows and a prompt's, and attention of one token and of a prompt over a filled cache.

At the shapes of TinyLlama 1.1B. The peer is PyTorch eager if it is installed; "composed" is the
definition that runs on every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from bench.roofline import Roofline
from gradient import backends
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.composed.cached_attention import CachedAttentionDefaults
from gradient.backends.options import AttentionOptions, SlotMap
from gradient.dtypes import bfloat16

N, K = 5632, 2048
TINY = 512, 256
HEADS, KEY_HEADS, HEAD = 32, 4, 64
LAYERS = 8
"""Caches that take turns, so that none is left in the processor's cache."""

Calls = dict[str, Callable[[], object]]


def run(options: Options) -> Iterator[Result]:
    limits = options.roofline()
    n, k = TINY if options.tiny else (N, K)
    rng = np.random.default_rng(0)
    for dtype in (bfloat16.numpy, np.dtype(np.float32)):
        for rows in (1, 4, 16) if options.tiny else (1, 4, 16, 128, 512):
            calls, read = _linear(rng, dtype, (rows, n, k), options)
            what = f"linear {dtype}, {rows} x {k} by {n}"
            yield from _results(what, calls, read if rows < 16 else 0, limits, options)
    for length in (64,) if options.tiny else (64, 512, 2000):
        for queries in (1, 512):
            if queries <= length:
                calls, read = _attention(rng, queries, length, options)
                what = f"attention bfloat16, {queries} of {length}"
                yield from _results(what, calls, read if queries == 1 else 0, limits, options)


def _linear(
    rng: np.random.Generator, dtype: np.dtype, shape: tuple[int, int, int], options: Options
) -> tuple[Calls, int]:
    """The contenders, and the bytes that each must read."""
    be = backends.get("cpu")
    rows, n, k = shape
    x, weight = (
        rng.standard_normal(size, dtype=np.float32).astype(dtype) for size in ((rows, k), (n, k))
    )
    calls: Calls = {
        "gradient": lambda: be.linear(x, weight),
        "composed": lambda: AttentionDefaults.linear(be, x, weight),
    }
    if options.peer("torch"):
        import torch

        tx, tw = _torch(x), _torch(weight)
        calls["torch"] = lambda: torch.nn.functional.linear(tx, tw)
    return calls, weight.nbytes


def _attention(
    rng: np.random.Generator, queries: int, length: int, options: Options
) -> tuple[Calls, int]:
    be = backends.get("cpu")

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32).astype(bfloat16.numpy)

    q = draw(1, HEADS, queries, HEAD)
    caches = [[draw(1, KEY_HEADS, length, HEAD) for _ in range(2)] for _ in range(LAYERS)]
    positions = np.arange(length - queries, length)[None]
    scale = AttentionOptions(HEAD**-0.5)

    def over_caches(attend: Callable[..., object]) -> Callable[[], object]:
        def call() -> None:
            slots = SlotMap(positions, length, length, {}, see_all=queries == 1)
            for k, v in caches:
                attend(q, (k,), (v,), slots, scale)

        return call

    calls = {
        "gradient": over_caches(be.cached_attention),
        "composed": over_caches(
            lambda *arguments: CachedAttentionDefaults.cached_attention(be, *arguments)
        ),
    }
    if options.peer("torch"):
        import torch

        tq, held = _torch(q), [[_torch(x) for x in pair] for pair in caches]
        mask = torch.ones(queries, length, dtype=torch.bool).tril(length - queries)

        def attend() -> None:
            for k, v in held:
                torch.nn.functional.scaled_dot_product_attention(
                    tq, k, v, attn_mask=None if queries == 1 else mask, enable_gqa=True
                )

        calls["torch"] = attend
    return calls, LAYERS * 2 * caches[0][0].nbytes


def _torch(x: np.ndarray) -> Any:
    """A tensor of torch with the same numbers."""
    import torch

    if x.dtype == bfloat16.numpy:
        return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(x)


def _results(
    what: str, calls: Calls, read: int, limits: Roofline, options: Options
) -> Iterator[Result]:
    """Each contender's time, and its share of the read bandwidth, for `read` bytes."""
    for call in calls.values():
        call()
    samples = interleave(calls, rounds=options.rounds(15), settle=0.05)
    ours = samples["gradient"]
    for name, sample in samples.items():
        yield Result(
            case="dense",
            what=what,
            contender=name,
            value=1e3 * sample.median,
            unit="ms",
            best=1e3 * sample.best,
            samples=len(sample.seconds),
            peer=None if name == "gradient" else "gradient",
            ratio=None if name == "gradient" else sample.ratio(ours),
            roofline=read / sample.median / limits.read_bandwidth if read else None,
            bound="read bandwidth" if read else None,
        )
