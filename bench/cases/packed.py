"""Packed weights: unpacking them, packing them, and a product with one beside the float32 product.

At the shape of a layer of TinyLlama 1.1B (--large: of LLaMA 7B), for one row, as in decoding, and
for many, as in reading a prompt. "gradient" rounds x to int8, as products without a recorded
graph do; "exact" does not; "composed" is the definition that runs on every backend.

The product of one row with weights larger than the caches should take as long as reading their
bytes: both are measured in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from gradient import backends
from gradient.backends.composed.packed import PackedDefaults
from gradient.backends.packed import PackedArray
from gradient.dtypes import PackedDType
from gradient.dtypes.packed import int4_group, int8_channel, nf4, q4_0, q4_k, q5_k, q6_k, q8_0

TINY, SMALL, LARGE = (64, 512), (2048, 5632), (4096, 11008)
FORMATS: tuple[PackedDType, ...] = (
    *(q8_0, q4_0, q4_k, q5_k, q6_k),
    *(int8_channel, int4_group, nf4),
)
STREAMED = 384 << 20
"""Bytes of weights that are read one after another, beyond most caches."""
SHARES = {"q8_0": 0.8, "int8_channel": 0.8}
"""Of the read bandwidth, the least that a row by weights of a format should reach; others 0.65."""
AT_ONCE = 64
"""Rows of the weight that are unpacked alone, to time that: their values stay in the cache."""
TARGET = 0.5
"""GB/s of float32 that unpacking q8_0 and q4_0 gives at least."""


def run(options: Options) -> Iterator[Result]:
    be = backends.get("cpu")
    rng = np.random.default_rng(0)
    small = TINY if options.tiny else SMALL
    for n, k in [small, LARGE] if options.large else [small]:
        weight = rng.standard_normal((n, k), dtype=np.float32)
        packed = {d.name: PackedArray(d, (n, k), d.pack(weight)) for d in FORMATS}
        few = {name: p.rows(be, (slice(0, AT_ONCE),)) for name, p in packed.items()}
        yield from _rates("unpacked", {name: _unpack(be, p) for name, p in few.items()}, options, k)
        packing = {d.name: _pack(be, d, weight[:AT_ONCE]) for d in FORMATS}
        yield from _rates("packed", packing, options, k)
        for name, p in packed.items():
            yield _streamed(be, rng.standard_normal((1, k), dtype=np.float32), name, p, options)
        for m in (1, 16 if options.tiny else 256):
            x = rng.standard_normal((m, k), dtype=np.float32)
            yield from _products(be, x, weight, packed, options)


def _unpack(be: backends.Backend, array: PackedArray) -> Callable[[], object]:
    return lambda: be.unpack(array)


def _pack(be: backends.Backend, dtype: PackedDType, values: np.ndarray) -> Callable[[], object]:
    return lambda: be.pack(values, dtype)


def _rates(
    what: str, calls: dict[str, Callable[[], object]], options: Options, k: int
) -> Iterator[Result]:
    """GB/s of float32 that a call reads or writes, on one thread."""
    for call in calls.values():
        call()
    gigabytes = 4e-9 * AT_ONCE * k
    for name, sample in interleave(calls, rounds=options.rounds(15)).items():
        held = what == "unpacked" and name in ("q8_0", "q4_0")
        yield Result(
            case="packed",
            what=f"{name} {what}, one thread",
            contender="gradient",
            value=gigabytes / sample.median,
            unit="GB/s of float32",
            best=gigabytes / sample.best,
            samples=len(sample.seconds),
            target=f">= {TARGET} GB/s" if held else None,
            met=gigabytes / sample.best >= TARGET if held else None,
        )


def _streamed(
    be: backends.Backend, x: np.ndarray, name: str, packed: PackedArray, options: Options
) -> Result:
    """One row times many weights, in turn with reading as many bytes."""
    many = 1 if options.tiny else -(-STREAMED // packed.nbytes)
    weights = [packed.map(np.copy) for _ in range(many)]
    size = sum(weight.nbytes for weight in weights)
    parts = np.array_split(np.ones(size // 4, np.float32), options.threads)
    with ThreadPoolExecutor(options.threads) as pool:
        calls: dict[str, Callable[[], object]] = {
            "products": lambda: [be.int8_matmul(x, weight) for weight in weights],
            "reading": lambda: list(pool.map(np.max, parts)),
        }
        for call in calls.values():
            call()
        samples = interleave(calls, rounds=options.rounds(10), settle=0.05)
    products, reading = samples["products"], samples["reading"]
    share = 1 / products.ratio(reading)
    least = SHARES.get(name, 0.65)
    return Result(
        case="packed",
        what=f"{name} weights by one row",
        contender="gradient",
        value=1e-9 * size / products.median,
        unit="GB/s",
        best=1e-9 * size / products.best,
        samples=len(products.seconds),
        peer="reading",
        ratio=share,
        target=f">= {least} of reading",
        met=share >= least,
        note=f"reading: {1e-9 * size / reading.median:.1f} GB/s",
    )


def _products(
    be: backends.Backend,
    x: np.ndarray,
    weight: np.ndarray,
    packed: dict[str, PackedArray],
    options: Options,
) -> Iterator[Result]:
    """`linear` with each packed weight, beside the float32 one; and the composed definition."""
    calls: dict[tuple[str, str], Callable[[], object]] = {
        ("float32", "gradient"): lambda: be.linear(x, weight)
    }
    for name, p in packed.items():
        calls[name, "gradient"] = lambda p=p: be.int8_matmul(x, p)  # type: ignore[misc]
        calls[name, "exact"] = lambda p=p: be.quantized_matmul(x, p)  # type: ignore[misc]
    composed = packed["q4_k"]
    calls["q4_k", "composed"] = lambda: PackedDefaults.quantized_matmul(be, x, composed)
    for call in calls.values():
        call()
    labels = {" ".join(key): call for key, call in calls.items()}
    samples = interleave(labels, rounds=options.rounds(10), settle=0.05)
    unpacked = samples["float32 gradient"]
    for name, contender in calls:
        sample = samples[f"{name} {contender}"]
        yield Result(
            case="packed",
            what=f"{name} linear, {len(x)} x {x.shape[1]} by {len(weight)}",
            contender=contender,
            value=1e3 * sample.median,
            unit="ms",
            best=1e3 * sample.best,
            samples=len(sample.seconds),
            peer=None if sample is unpacked else "float32",
            ratio=None if sample is unpacked else sample.ratio(unpacked),
            note=f"{1e-9 * len(x) * weight.size / sample.median:.0f} billion products a second",
        )
