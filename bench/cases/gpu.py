"""An NVIDIA GPU: whole models, and kernels beside PyTorch's on the same GPU and beside a copy.

A kernel's figure is the time of a call when many are queued one after the other. What is bound by
memory says which share of a copy's bytes a second it makes of the bytes that it must read and
write. Shapes are those of GPT-2's training (16 x 1,024 tokens) and of LLaMA's decoding. What
promises are about comes first. A case ends early, with the rounds that it has, after CASE_SECONDS;
after eight minutes nothing more is begun, and what is left is named; after `Case.seconds` the
process is ended, for a call that does not come back.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gradient
import gradient.functional as F
from bench.cases import Options, gpu_models
from bench.measure import interleave
from bench.result import Result, first_line
from gradient import backends, optim
from gradient.backends.cuda.cublas import Operand, Sizes
from gradient.backends.options import AttentionOptions, SlotMap
from gradient.ops import fused

QUEUED = 20  # calls between two waits
SECONDS = 480
"""After so many nothing more is begun."""
CASE_SECONDS = 8
"""For the rounds of a kernel: with some 100 of them, few may take as long."""
TRAINING_SECONDS, MODELS_SECONDS = 150, 300
"""By when a training step, and a model that decodes, must have begun: else it is named."""
COPY_SHARE, CUBLAS_SHARE, FORWARD_SHARE, BACKWARD_SHARE = 0.8, 0.95, 0.6, 0.5
"""What is promised: of a copy's bandwidth, of cuBLAS's and of PyTorch's attention's speed."""
GPT2_PARAMETERS = [
    *[(50257, 768), (1024, 768)],
    *[(2304, 768), (2304,), (768, 768), (768,), (3072, 768), (3072,), (768, 3072), (768,)] * 12,
    *[(768,)] * 50,
]


class Measured(NamedTuple):
    """A call, and the bytes or the operations that it cannot do without."""

    what: str
    run: Callable[[Any, Any], Callable[[], object]]  # of a library and the device's name
    bytes: float = 0.0
    operations: float = 0.0
    only_here: bool = False  # there is no such call in the other library
    by_cublas: Callable[[str], Callable[[], object]] | None = None  # of the device's name
    of_copy: float | None = None  # the share of a copy's bandwidth that is promised
    of_peer: float | None = None  # and of the other's speed


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
    failed: list[str] = []
    whole = {
        "training step": lambda: gpu_models.training(options, place, begun + TRAINING_SECONDS),
        "decoding": lambda: gpu_models.decoding(options, place, copied, begun + MODELS_SECONDS),
    }
    measured = cases(1 / 64 if options.tiny else 1.0)
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
        if time.monotonic() - begun > SECONDS:
            left.append(each.what)
            continue
        yield from unless_failed(each.what, kernel(each, peers, place, options, copied), failed)
    if left:
        print(f"gpu: no time was left for {', '.join(left)}", file=sys.stderr)
    if failed:
        raise RuntimeError(f"gpu: {len(failed)} failed: {'; '.join(failed)}")


def unless_failed(what: str, results: Iterator[Result], failed: list[str]) -> Iterator[Result]:
    """The results of a case; where it fails, those before. The others still run, for a machine with
    a GPU may not be there again, and `failed` names it."""
    try:
        yield from results
    except Exception as error:
        traceback.print_exc()
        failed.append(f"{what} ({type(error).__name__}: {first_line(error)})")


def kernel(
    measured: Measured, peers: dict[str, Any], place: str, options: Options, copied: float
) -> Iterator[Result]:
    """One call by each that has it; `copied`: a copy's bytes a second, if they are known."""
    calls_queued = 1 if options.tiny else QUEUED
    calls = {
        name: queued(measured.run(library, place), library, place, calls_queued)
        for name, library in peers.items()
        if library is gradient or not measured.only_here
    }
    if measured.by_cublas is not None and place != "cpu":
        calls["cuBLAS"] = queued(measured.by_cublas(place), gradient, place, calls_queued)
    for call in calls.values():
        call()
    rounds = options.rounds(10)
    samples = interleave(calls, rounds=rounds, within=CASE_SECONDS)
    if (made := len(samples["gradient"].seconds)) < rounds:
        print(f"gpu: {measured.what}: {made} of {rounds} rounds, for want of time", file=sys.stderr)
    for name, sample in samples.items():
        ours, seconds = name == "gradient", sample.median / calls_queued
        peer = next((p for p in ("cuBLAS", "torch eager") if p in samples), None) if ours else None
        ratio = sample.ratio(samples[peer]) if peer else None
        reached = measured.bytes / seconds / copied if measured.bytes and copied else None
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
            best=sample.best / calls_queued * 1e6,
            samples=len(sample.seconds),
            peer=peer,
            ratio=ratio,
            roofline=reached,
            bound=f"a copy's {copied / 1e9:.0f} GB/s" if reached else None,
            note=f"{measured.operations / seconds / 1e12:.1f} Tflop/s"
            if measured.operations
            else None,
            **judged,
        )


def queued(
    call: Callable[[], object], library: Any, place: str, times: int
) -> Callable[[], object]:
    """The call, so many times, and a wait for the last."""
    wait: Callable[[], object] = (lambda: None) if place == "cpu" else library.cuda.synchronize
    if library is gradient:
        wait = backends.get(place).synchronize

    def all_of_them() -> None:
        for _ in range(times):
            call()
        wait()

    return all_of_them


def cases(scale: float) -> Iterator[Measured]:
    """The copy first, by which the others are measured."""
    rows = max(4, int(16384 * scale))
    wide = rows * 4096 * 4
    yield Measured("copy", of_one(lambda lib, x: x.clone(), rows, 4096, "float32"), 2 * wide)
    yield from products(scale)
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        wide = rows * 4096 * size
        for name in ("exp", "gelu", "silu", "relu"):
            function = function_of(name)
            yield Measured(
                f"{name} {dtype}", of_one(function, rows, 4096, dtype), 2 * wide, of_copy=COPY_SHARE
            )
        softmax = of_one(lambda lib, x: functional(lib).softmax(x, -1), rows, 4096, dtype)
        yield Measured(f"softmax {dtype}", softmax, 2 * wide, of_copy=COPY_SHARE)
        yield Measured(
            f"layer_norm {dtype}", norm("layer_norm", rows, dtype), 2 * wide, of_copy=COPY_SHARE
        )
        yield Measured(
            f"rms_norm {dtype}", norm("rms_norm", rows, dtype), 2 * wide, of_copy=COPY_SHARE
        )
        training = norm("layer_norm", rows, dtype, grad=True)
        yield Measured(f"layer_norm and gradient {dtype}", training, 5 * wide, of_copy=COPY_SHARE)
        logits = max(4, rows // 4) * 50304 * size
        entropy = cross_entropy(max(4, rows // 4), dtype)
        yield Measured(f"cross_entropy and gradient {dtype}", entropy, 3 * logits)
        for what, of in (("attention", GPT2), ("attention of LLaMA's heads", LLAMA)):
            if of is LLAMA and size == 4:
                continue
            b, t = max(1, int(of.batch * scale)), max(16, int(of.length * scale))
            for grad in (False, True):
                # Two products forwards and five backwards, of half of the scores.
                flops = 2 * b * of.heads * t * t * of.width * (1 if not grad else 3.5)
                called = f"{what} {'and gradient ' if grad else ''}{dtype}"
                promised = BACKWARD_SHARE if grad else FORWARD_SHARE
                call = attention(of, b, t, dtype, grad)
                yield Measured(called, call, operations=flops, of_peer=promised)
        keys = max(64, int(8192 * scale))
        read = 2 * 8 * keys * 128 * size
        yield Measured(f"attention of one query {dtype}", decode(keys, dtype), read)
        for what, channels, kernel, groups in (
            ("convolution 3 x 3", max(16, int(256 * scale)), 3, 1),
            ("convolution 7 x 7 of 3 channels", 3, 7, 1),
            ("depthwise convolution 3 x 3", max(16, int(256 * scale)), 3, 256),
        ):
            images, side = max(2, int(32 * scale)), 56
            outputs = max(16, int(256 * scale))
            groups = min(groups, channels)
            flops = 3 * 2 * images * side**2 * outputs * channels // groups * kernel**2
            call = convolution(images, side, (channels, outputs), kernel, groups, dtype)
            yield Measured(f"{what} and gradient {dtype}", call, operations=flops)
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
    wide = max(256, int(4096 * scale))
    for name in ("q8_0", "q4_0", "q4_k", "q6_k", "nf4", "mxfp4"):
        for batch in (1, 16, 64):
            read = getattr(gradient, name).nbytes((wide, wide))
            what = f"{batch} x {wide} by {name} {wide} x {wide}"
            yield Measured(what, packed_product(name, wide, batch), read, only_here=True)
    slots = max(64, int(4096 * scale))
    for stored, vector in (("bfloat16", 256), ("int8", 128 + 8), ("int4", 64 + 16)):
        read = 2 * 8 * 8 * slots * vector
        yield Measured(f"decoding over pages of {stored}", decode_pages(slots, stored), read)
    shapes = GPT2_PARAMETERS if scale == 1 else [(8, 8), (3,)]
    numbers = sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes)
    yield Measured("AdamW, GPT-2's parameters", adamw(shapes), 7 * 4 * numbers)


def functional(library: Any) -> Any:
    return F if library is gradient else library.nn.functional


def made(library: Any, place: str, dtype: str, *shape: int, grad: bool = False) -> Any:
    x = library.randn(*shape, device=place).to(getattr(library, dtype))
    return x.requires_grad_() if grad else x


def of_one(
    function: Callable[[Any, Any], object], rows: int, columns: int, dtype: str
) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        x = made(library, place, dtype, rows, columns)
        return lambda: function(library, x)

    return prepare


def function_of(name: str) -> Callable[[Any, Any], object]:
    if name == "exp":
        return lambda library, x: library.exp(x)
    return lambda library, x: getattr(functional(library), name)(x)


def norm(
    name: str, rows: int, dtype: str, grad: bool = False
) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        x = made(library, place, dtype, rows, 4096, grad=grad)
        weight = made(library, place, dtype, 4096, grad=grad)
        function, g = getattr(functional(library), name), made(library, place, dtype, rows, 4096)
        if not grad:
            return lambda: function(x, (4096,), weight)

        def both() -> None:
            x.grad = weight.grad = None
            function(x, (4096,), weight).backward(g)

        return both

    return prepare


def cross_entropy(rows: int, dtype: str) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        logits = made(library, place, dtype, rows, 50304, grad=True)
        target = library.randint(0, 50304, (rows,)).to(place)

        def both() -> None:
            logits.grad = None
            functional(library).cross_entropy(logits, target).backward()

        return both

    return prepare


def products(scale: float) -> Iterator[Measured]:
    """A square one, and those of GPT-2's training: what a linear layer does forwards."""
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


def product(m: int, k: int, n: int, dtype: str) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        a, b = made(library, place, dtype, m, k), made(library, place, dtype, k, n)
        return lambda: a @ b

    return prepare


def product_of_cublas(m: int, k: int, n: int, dtype: str) -> Callable[[str], Callable[[], object]]:
    """`cublasGemmEx` alone, into an array that is there; by columns, so that factors change
    places."""

    def prepare(place: str) -> Callable[[], object]:
        be: Any = backends.get(place)
        shapes = ((m, k), (k, n), (m, n))
        a, b, out = (made(gradient, place, dtype, *shape).array for shape in shapes)
        left, right, result = (
            Operand(be.runtime.address(x), False, x.shape[1]) for x in (a, b, out)
        )
        sizes, blas = Sizes(n, m, k), be.runtime.blas

        def call() -> object:
            blas.multiply(out.dtype, sizes, right, left, result)
            return a, b, out  # whose memory it is

        return call

    return prepare


class Heads(NamedTuple):
    """Sizes of a model's causal attention."""

    batch: int
    length: int
    heads: int
    key_heads: int
    width: int


GPT2, LLAMA = Heads(16, 1024, 12, 12, 64), Heads(4, 2048, 32, 8, 128)


def attention(
    of: Heads, batch: int, length: int, dtype: str, grad: bool
) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        shapes = [(batch, heads, length, of.width) for heads in (of.heads, *[of.key_heads] * 2)]
        q, k, v = (made(library, place, dtype, *shape, grad=grad) for shape in shapes)
        g, groups = made(library, place, dtype, *shapes[0]), of.heads != of.key_heads
        attend = functional(library).scaled_dot_product_attention
        if not grad:
            return lambda: attend(q, k, v, is_causal=True, enable_gqa=groups)

        def both() -> None:
            q.grad = k.grad = v.grad = None
            attend(q, k, v, is_causal=True, enable_gqa=groups).backward(g)

        return both

    return prepare


def decode(keys: int, dtype: str) -> Callable[[Any, str], Callable[[], object]]:
    """32 heads of one query, in groups of 4 that share keys."""

    def prepare(library: Any, place: str) -> Callable[[], object]:
        q = made(library, place, dtype, 1, 32, 1, 128)
        k, v = (made(library, place, dtype, 1, 8, keys, 128) for _ in range(2))
        attend = functional(library).scaled_dot_product_attention
        return lambda: attend(q, k, v, enable_gqa=True)

    return prepare


def convolution(
    images: int, side: int, channels: tuple[int, int], kernel: int, groups: int, dtype: str
) -> Callable[[Any, str], Callable[[], object]]:
    """With a stride of 1, of a size that stays."""

    def prepare(library: Any, place: str) -> Callable[[], object]:
        inputs, outputs = channels
        x = made(library, place, dtype, images, inputs, side, side, grad=True)
        weight = made(library, place, dtype, outputs, inputs // groups, kernel, kernel, grad=True)
        g = made(library, place, dtype, images, outputs, side, side)

        def both() -> None:
            x.grad = weight.grad = None
            y = functional(library).conv2d(x, weight, padding=kernel // 2, groups=groups)
            y.backward(g)

        return both

    return prepare


def max_pool(images: int, dtype: str) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        x = made(library, place, dtype, images, 64, 112, 112, grad=True)
        g = made(library, place, dtype, images, 64, 56, 56)

        def both() -> None:
            x.grad = None
            functional(library).max_pool2d(x, 3, stride=2, padding=1).backward(g)

        return both

    return prepare


def experts(size: int, rows: int, dtype: str) -> Callable[[Any, str], Callable[[], object]]:
    """Rows that are spread evenly over 8 matrices, sorted; a few without gradients. PyTorch is told
    on the host how many each has."""

    def prepare(library: Any, place: str) -> Callable[[], object]:
        train = rows > 8
        x = made(library, place, dtype, rows, size, grad=train)
        weights = [made(library, place, dtype, size, size, grad=train) for _ in range(8)]
        sizes = [rows // 8 + (e < rows % 8) for e in range(8)]
        counts, g = library.tensor(sizes).to(place), made(library, place, dtype, rows, size)

        def forward() -> Any:
            if library is gradient:
                return F.grouped_linear(x, weights, counts)
            parts = zip(x.split(sizes), weights, strict=True)
            return library.cat([part @ weight.T for part, weight in parts])

        def both() -> None:
            x.grad = None
            for weight in weights:
                weight.grad = None
            forward().backward(g)

        return both if train else forward

    return prepare


def packed_product(name: str, size: int, rows: int) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        x = made(library, place, "bfloat16", rows, size)
        weight = library.quantization.quantize(library.randn(size, size), name).to(place)
        return lambda: functional(library).linear(x, weight)

    return prepare


def decode_pages(slots: int, stored: str) -> Callable[[Any, str], Callable[[], object]]:
    """A step of 8 rows, 32 heads in groups of 4, over pages of 16 slots; PyTorch, which has no
    pages, attends to arrays of bfloat16."""
    rows, heads, width, page = 8, 8, 128, 16

    def prepare(library: Any, place: str) -> Callable[[], object]:
        q = made(library, place, "bfloat16", rows, 32, 1, width)
        if library is not gradient:
            shape = (rows, heads, slots, width)
            k, v = (made(library, place, "bfloat16", *shape) for _ in range(2))
            return lambda: functional(library).scaled_dot_product_attention(
                q, k, v, enable_gqa=True
            )
        lead = (rows * slots // page, page, heads)

        def parts() -> tuple[Any, ...]:
            if stored == "bfloat16":
                return (made(library, place, stored, *lead, width).array,)
            codes = library.randint(0, 100, (*lead, width if stored == "int8" else width // 2))
            scales = [made(library, place, "float16", *lead, width // 32).array for _ in range(2)]
            kind, count = (library.int8, 1) if stored == "int8" else (library.uint8, 2)
            return codes.to(place).to(kind).array, *scales[:count]

        positions = library.full((rows, 1), slots - 1, dtype=library.int64).to(place).array
        table = library.arange(lead[0]).reshape(rows, slots // page).to(place).array
        where = SlotMap(positions, slots, page, {}, table=table)
        keys, values, how = parts(), parts(), AttentionOptions(width**-0.5, True)
        return lambda: fused.cached_attention(q, keys=keys, values=values, slots=where, options=how)

    return prepare


def adamw(shapes: list[Any]) -> Callable[[Any, str], Callable[[], object]]:
    def prepare(library: Any, place: str) -> Callable[[], object]:
        params = [made(library, place, "float32", *shape, grad=True) for shape in shapes]
        for p in params:
            p.grad = library.zeros_like(p)
        if library is gradient:
            return optim.AdamW(params, lr=1e-3).step
        return library.optim.AdamW(params, lr=1e-3, fused=True).step

    return prepare
