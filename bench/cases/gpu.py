"""An NVIDIA GPU: whole models, and kernels beside PyTorch's on the same GPU and beside a copy.

A kernel's figure is the time of a call when so many are queued that the host's time for the first
does not count. For a kernel that is limited by memory, the bytes that it must read and write per
second are given as a share of a copy's. Shapes are those of GPT-2's training (16 x
1,024 tokens) and of LLaMA's decoding. Figures with targets come first. A kernel's measurement ends
early, with the rounds so far, when its time is over (`Limits`). After eight minutes, two with
`--quick`, nothing new begins, and what is left is named. After `Case.seconds` the process is ended,
in case that a call does not return.
"""

from __future__ import annotations

import functools
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import gradient
from bench.cases import Options, gpu_convolutions, gpu_models
from bench.cases.gpu_calls import (
    GPT2,
    LLAMA,
    Heads,
    adamw,
    attention,
    cross_entropy,
    decode,
    decode_pages,
    experts,
    function_of,
    functional,
    max_pool,
    norm,
    of_one,
    packed_product,
    product,
    product_of_cublas,
)
from bench.cases.gpu_convolutions import LAYERS, PEERS, call_of, least_seconds, of_precision
from bench.measure import Samples, interleave
from bench.result import Result, first_line
from gradient import backends

QUEUED, ROUND_SECONDS = 20, 0.02
"""Calls between two waits, at least, and about how long they take together."""


class Limits(NamedTuple):
    """Seconds for the rounds of one kernel, of which there are some 100; by when a training step,
    and a model that decodes, must have begun; and after how many seconds nothing new begins."""

    case: float
    training: float
    models: float
    whole: float


FULL, QUICK = Limits(2.5, 150, 300, 480), Limits(1.0, 60, 90, 135)
COPY_SHARE, CUBLAS_SHARE, FORWARD_SHARE, BACKWARD_SHARE = 0.8, 0.95, 0.6, 0.5
"""What is promised: of a copy's bandwidth, of cuBLAS's and of PyTorch's attention's speed."""
GPT2_PARAMETERS = [
    *[(50257, 768), (1024, 768)],
    *[(2304, 768), (2304,), (768, 768), (768,), (3072, 768), (3072,), (768, 3072), (768,)] * 12,
    *[(768,)] * 50,
]


SIZES = {"float32": 4, "bfloat16": 2}
ELEMENTWISE = ("exp", "gelu", "silu", "relu")


class Measured(NamedTuple):
    """A call, and the bytes or operations that it needs at least."""

    what: str
    run: Callable[[Any, Any], Callable[[], object]]  # takes a library and the device's name
    bytes: float = 0.0
    operations: float = 0.0
    only_here: bool = False  # the other library has no such call
    by_cublas: Callable[[str], Callable[[], object]] | None = None  # takes the device's name
    of_copy: float | None = None  # the target, as a share of a copy's bandwidth
    of_peer: float | None = None  # the target, as a share of the peer's speed
    products: str | None = None  # the dtype of products by cuBLAS whose speed limits `operations`
    told: Callable[[bool], Callable[[Any, str], Callable[[], object]]] | None = None
    """The same where float32 factors are rounded to TF32, or are not."""


def run(options: Options) -> Iterator[Result]:
    place = "cuda" if gradient.cuda.is_available() else "cpu"
    if place == "cpu" and not options.tiny:
        print("gpu: there is no usable CUDA device here", file=sys.stderr)
        return
    peers = {"gradient": gradient}
    if options.peer("torch"):
        import torch

        if place == "cpu" or torch.cuda.is_available():
            peers["torch eager"] = torch
    begun, left, copied = time.monotonic(), [], 0.0
    limits = QUICK if options.quick else FULL
    failed: list[str] = []
    whole = {
        "training step": lambda: gpu_models.training(options, place, begun + limits.training),
        "decoding": lambda: gpu_models.decoding(options, place, copied, begun + limits.models),
    }
    scale = 1 / 64 if options.tiny else 1.0
    measured = cases(scale)
    rate = functools.cache(lambda dtype: rate_of_products(dtype, place, scale))
    copy = next(measured)
    for result in kernel(copy, peers, place, options, 0.0):
        if result.contender == "gradient":
            copied = copy.bytes / (result.value / 1e6)
        yield result
    for name, results in whole.items():
        if options.wants(name):
            yield from unless_failed(name, results(), failed)
    for each in measured:
        if not options.wants(each.what):
            continue
        if time.monotonic() - begun > limits.whole:
            left.append(each.what)
            continue
        found = kernel(each, peers, place, options, copied, rate)
        yield from unless_failed(each.what, found, failed)
    if options.wants("step of convolutions"):
        until = begun + limits.whole
        found = gpu_convolutions.training(options, place, copied, rate, until)
        yield from unless_failed("step of convolutions", found, failed)
    if left:
        print(f"gpu: no time was left for {', '.join(left)}", file=sys.stderr)
    if failed:
        raise RuntimeError(f"gpu: {len(failed)} failed: {'; '.join(failed)}")


def unless_failed(what: str, results: Iterator[Result], failed: list[str]) -> Iterator[Result]:
    """Yield the results of a case; if it fails, those before, and add its name to `failed`. The
    other cases still run, as a machine with a GPU may not be available again."""
    try:
        yield from results
    except Exception as error:
        traceback.print_exc()
        failed.append(f"{what} ({type(error).__name__}: {first_line(error)})")


def kernel(
    measured: Measured, peers: dict[str, Any], place: str, options: Options, copied: float,
    rate: Callable[[str], float] = lambda dtype: 0.0,
) -> Iterator[Result]:  # fmt: skip
    """One call in each library that has it; `copied`: a copy's bytes per second, if known; `rate`:
    operations per second of products of a dtype."""
    calls = {
        name: (measured.run(library, place), waiter(library, place))
        for name, library in peers.items()
        if library is gradient or not measured.only_here
    }
    if measured.by_cublas is not None and place != "cpu":
        calls["cuBLAS"] = measured.by_cublas(place), waiter(gradient, place)
    if measured.told is not None:
        calls["gradient with TF32"] = measured.told(True)(gradient, place), waiter(gradient, place)
        if torch := peers.get("torch eager"):
            calls["torch without TF32"] = measured.told(False)(torch, place), waiter(torch, place)
    counts = {name: 1 if options.tiny else count_of(*each) for name, each in calls.items()}
    rounds, within = options.rounds(10), (QUICK if options.quick else FULL).case
    samples = {
        name: Samples(tuple(seconds / counts[name] for seconds in sample.seconds))
        for name, sample in interleave(
            {name: queued(*each, counts[name]) for name, each in calls.items()},
            rounds=rounds,
            within=within,
        ).items()
    }
    if (made := len(samples["gradient"].seconds)) < rounds:
        print(f"gpu: {measured.what}: {made} of {rounds} rounds, for want of time", file=sys.stderr)
    for name, sample in samples.items():
        seconds = sample.median
        peer = next((p for p in PEERS.get(name, ()) if p in samples), None)
        ratio = sample.ratio(samples[peer]) if peer else None
        by_tf32 = measured.told is not None and name in ("gradient with TF32", "torch eager")
        products = "TF32" if by_tf32 else measured.products
        limit = least_seconds(
            measured.bytes, copied, measured.operations, rate(products) if products else 0.0
        )
        reached = limit[0] / seconds if limit else None
        judged: dict[str, Any] = {}
        if measured.of_copy and reached:
            what = f"at least {measured.of_copy:.0%} of a copy's bandwidth"
            judged = gpu_models.judged(name, place, 1 / reached, 1 / measured.of_copy, what)
        elif measured.of_peer and ratio:
            what = f"at least {measured.of_peer:.0%} of {peer}'s speed"
            judged = gpu_models.judged(name, place, ratio, 1 / measured.of_peer, what)
        yield Result(
            case="gpu",
            what=measured.what,
            contender=name,
            value=seconds * 1e6,
            unit="us",
            best=sample.best * 1e6,
            samples=len(sample.seconds),
            peer=peer,
            ratio=ratio,
            roofline=reached,
            bound=limit[1] if limit else None,
            note=f"{measured.operations / seconds / 1e12:.1f} Tflop/s"
            if measured.operations
            else None,
            **judged,
        )


def rate_of_products(dtype: str, place: str, scale: float) -> float:
    """Operations per second of a large product by cuBLAS alone; 0 without cuBLAS."""
    if place == "cpu":
        return 0.0
    n, is_tf32 = max(64, int(4096 * scale)), dtype == "TF32"
    call = product_of_cublas(n, n, n, "float32" if is_tf32 else dtype)(place)
    wait = waiter(gradient, place)
    with of_precision(gradient, is_tf32):
        times = count_of(call, wait)
        sample = interleave({"cuBLAS": queued(call, wait, times)}, rounds=3)["cuBLAS"]
    return 2.0 * n**3 * times / sample.median


def waiter(library: Any, place: str) -> Callable[[], object]:
    """A function that waits for a library's work."""
    if library is gradient:
        return backends.get(place).synchronize
    return (lambda: None) if place == "cpu" else library.cuda.synchronize


def count_of(call: Callable[[], object], wait: Callable[[], object]) -> int:
    """How often to queue a call in a round; also warms it up."""
    queued(call, wait, 2)()
    begun = time.perf_counter()
    queued(call, wait, 3)()
    return max(QUEUED, math.ceil(ROUND_SECONDS * 3 / (time.perf_counter() - begun)))


def queued(
    call: Callable[[], object], wait: Callable[[], object], times: int
) -> Callable[[], object]:
    """A function that makes the call so many times, and waits for the last."""

    def all_of_them() -> None:
        for _ in range(times):
            call()
        wait()

    return all_of_them


def cases(scale: float) -> Iterator[Measured]:
    """The copy first, the scale for the others; then those with targets."""
    rows = max(4, int(16384 * scale))
    wide = rows * 4096 * 4
    yield Measured("copy", of_one(lambda lib, x: x.clone(), rows, 4096, "float32"), 2 * wide)
    yield from products(scale)
    yield from attentions(scale, "bfloat16", (GPT2, LLAMA))
    for dtype, size in SIZES.items():
        yield from of_rows(rows, dtype, size)
    yield from attentions(scale, "float32", (GPT2,))
    for dtype, size in SIZES.items():
        yield from others(scale, rows, dtype, size)
    yield from packed_products(scale)
    slots = max(64, int(4096 * scale))
    for stored, vector in (("bfloat16", 256), ("int8", 128 + 8), ("int4", 64 + 16)):
        read = 2 * 8 * 8 * slots * vector
        yield Measured(f"decoding over pages of {stored}", decode_pages(slots, stored), read)
    shapes = GPT2_PARAMETERS if scale == 1 else [(8, 8), (3,)]
    numbers = sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes)
    yield Measured("AdamW, GPT-2's parameters", adamw(shapes), 7 * 4 * numbers)
    for dtype, size in SIZES.items():
        yield from convolutions(scale, dtype, size, grad=False)


def products(scale: float) -> Iterator[Measured]:
    """A square product, and the forward products of GPT-2's linear layers in training."""
    square = max(64, int(4096 * scale))
    tokens, width, inner = (max(16, int(n * scale)) for n in (16384, 768, 3072))
    shapes = [(square,) * 3, (tokens, width, inner), (tokens, inner, width)]
    for dtype in ("float32", "bfloat16"):
        for m, k, n in shapes:
            yield Measured(
                f"matmul {m} x {k} x {n} {dtype}",
                product(m, k, n, dtype),
                operations=2 * m * k * n,
                by_cublas=product_of_cublas(m, k, n, dtype),
                of_peer=CUBLAS_SHARE,
            )


def attentions(scale: float, dtype: str, models: tuple[Heads, ...]) -> Iterator[Measured]:
    for of in models:
        what = "attention" if of is GPT2 else "attention of LLaMA's heads"
        b, t = max(1, int(of.batch * scale)), max(16, int(of.length * scale))
        for grad in (False, True):
            # Two forward products and five backward ones, of half of the scores.
            flops = 2 * b * of.heads * t * t * of.width * (1 if not grad else 3.5)
            called = f"{what} {'and gradient ' if grad else ''}{dtype}"
            promised = BACKWARD_SHARE if grad else FORWARD_SHARE
            call = attention(of, b, t, dtype, grad)
            yield Measured(called, call, operations=flops, of_peer=promised)


def of_rows(rows: int, dtype: str, size: int) -> Iterator[Measured]:
    """Elementwise functions, softmax and norms, of 4096 columns."""
    wide = rows * 4096 * size
    functions = {name: of_one(function_of(name), rows, 4096, dtype) for name in ELEMENTWISE}
    functions["softmax"] = of_one(lambda lib, x: functional(lib).softmax(x, -1), rows, 4096, dtype)
    functions |= {name: norm(name, rows, dtype) for name in ("layer_norm", "rms_norm")}
    for name, call in functions.items():
        yield Measured(f"{name} {dtype}", call, 2 * wide, of_copy=COPY_SHARE)
    training = norm("layer_norm", rows, dtype, grad=True)
    yield Measured(f"layer_norm and gradient {dtype}", training, 5 * wide, of_copy=COPY_SHARE)


def others(scale: float, rows: int, dtype: str, size: int) -> Iterator[Measured]:
    logits = max(4, rows // 4) * 50304 * size
    entropy = cross_entropy(max(4, rows // 4), dtype)
    yield Measured(f"cross_entropy and gradient {dtype}", entropy, 3 * logits)
    keys = max(64, int(8192 * scale))
    yield Measured(
        f"attention of one query {dtype}", decode(keys, dtype), 2 * 8 * keys * 128 * size
    )
    yield from convolutions(scale, dtype, size, grad=True)
    planes = max(2, int(32 * scale)) * 64 * 112 * 112
    read = int(planes * (2 * size + 2 * (size + 8) / 4 + size))
    pools = max_pool(max(2, int(32 * scale)), dtype)
    yield Measured(f"max_pool2d 3 x 3 and gradient {dtype}", pools, read)
    inner = max(64, int(4096 * scale))
    for tokens in (1, max(8, int(4096 * scale))):
        flops = 2 * 2 * tokens * inner * inner * (3 if tokens > 1 else 1)
        what = f"8 experts of {inner} x {inner}, {2 * tokens} rows"
        what += f"{' and gradient' if tokens > 1 else ''} {dtype}"
        yield Measured(what, experts(inner, 2 * tokens, dtype), operations=flops)


def convolutions(scale: float, dtype: str, size: int, grad: bool) -> Iterator[Measured]:
    """Layers, forward only or with their gradients."""
    for named in LAYERS:
        layer, times = named.scaled(scale), 3 if grad else 1
        call = partial(call_of, layer, dtype, grad)
        yield Measured(
            f"convolution, {named.what}, {'and gradients ' if grad else ''}{dtype}",
            call(),
            bytes=times * size * layer.numbers,
            operations=times * layer.operations,
            products=dtype,
            told=call if dtype == "float32" else None,
        )


def packed_products(scale: float) -> Iterator[Measured]:
    wide = max(256, int(4096 * scale))
    for name in ("q8_0", "q4_0", "q4_k", "q6_k", "nf4", "mxfp4"):
        for batch in (1, 16, 64):
            read = getattr(gradient, name).nbytes((wide, wide))
            what = f"{batch} x {wide} by {name} {wide} x {wide}"
            yield Measured(what, packed_product(name, wide, batch), read, only_here=True)
