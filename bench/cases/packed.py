"""Packed weights: unpacking them, packing them, and a product with one beside the float32 product.

At the shape of a layer of TinyLlama 1.1B (--large: of LLaMA 7B), for one row, as in decoding, and
for many, as in reading a prompt. "composed" is the definition that runs on every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bench.cases import Options
from bench.measure import Samples, interleave
from bench.result import Result
from gradient import backends
from gradient.backends.composed.packed import PackedDefaults
from gradient.backends.packed import PackedArray
from gradient.dtypes import PackedDType
from gradient.dtypes.packed import int4_group, int8_channel, q4_0, q4_k, q6_k, q8_0

SMALL, LARGE = (2048, 5632), (4096, 11008)
FORMATS: tuple[PackedDType, ...] = (q8_0, q4_0, q4_k, q6_k, int8_channel, int4_group)
AT_ONCE = 64
"""Rows of the weight that are unpacked alone, to time that: their values stay in the cache."""
TARGET = 0.5
"""GB/s of float32 that unpacking q8_0 and q4_0 gives at least."""


def run(options: Options) -> Iterator[Result]:
    be = backends.get("cpu")
    rng = np.random.default_rng(0)
    for n, k in [SMALL, LARGE] if options.large else [SMALL]:
        weight = rng.standard_normal((n, k), dtype=np.float32)
        packed = {d.name: PackedArray(d, (n, k), d.pack(weight)) for d in FORMATS}
        few = {name: p.rows(be, (slice(0, AT_ONCE),)) for name, p in packed.items()}
        yield from _rates("unpacked", {name: _unpack(be, p) for name, p in few.items()}, options, k)
        rows = weight[:AT_ONCE]
        packing = {d.name: _pack(d, rows) for d in FORMATS}
        yield from _rates("packed", packing, options, k)
        for m in (1, 256):
            x = rng.standard_normal((m, k), dtype=np.float32)
            contenders: dict[str, Callable[[], object]] = {"float32": lambda: be.linear(x, weight)}  # noqa: B023
            for name, p in packed.items():
                contenders[name] = lambda p=p: be.linear(x, p)  # type: ignore[misc] # noqa: B023
            q = packed["q4_k"]
            contenders["q4_k composed"] = lambda: PackedDefaults.quantized_matmul(be, x, q)  # noqa: B023
            for call in contenders.values():
                call()
            samples = interleave(contenders, rounds=options.rounds(10), settle=0.05)
            for name, sample in samples.items():
                peer = None if name == "float32" else samples["float32"]
                yield _result(f"linear of {m} x {k} by {n} x {k}", name, sample, peer)


def _unpack(be: backends.Backend, array: PackedArray) -> Callable[[], object]:
    return lambda: be.unpack(array)


def _pack(dtype: PackedDType, values: np.ndarray) -> Callable[[], object]:
    return lambda: dtype.pack(values)


def _rates(
    what: str, calls: dict[str, Callable[[], object]], options: Options, k: int
) -> Iterator[Result]:
    """GB/s of float32 that a call takes or gives, on one thread."""
    for call in calls.values():
        call()
    for name, sample in interleave(calls, rounds=options.rounds(15)).items():
        gigabytes = 4e-9 * AT_ONCE * k
        held = what == "unpacked" and name in ("q8_0", "q4_0")
        yield Result(
            case="packed",
            what=f"float32 {what}, one thread",
            contender=name,
            value=gigabytes / sample.median,
            unit="GB/s",
            best=gigabytes / sample.best,
            samples=len(sample.seconds),
            target=f">= {TARGET} GB/s" if held else None,
            met=gigabytes / sample.best >= TARGET if held else None,
        )


def _result(what: str, name: str, sample: Samples, peer: Samples | None) -> Result:
    return Result(
        case="packed",
        what=what,
        contender=name,
        value=1e3 * sample.median,
        unit="ms",
        best=1e3 * sample.best,
        samples=len(sample.seconds),
        peer=None if peer is None else "float32",
        ratio=None if peer is None else sample.ratio(peer),
    )
