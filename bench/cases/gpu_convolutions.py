"""Convolutions that `bench gpu` measures: layers of common networks, and training steps of two.

By default, PyTorch's cuDNN rounds the factors of float32 convolutions to TF32, and ours does not:
both are measured in both ways.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import gradient
from bench.cases import Options
from bench.cases.gpu_calls import functional, made
from bench.cases.gpu_models import free, torch_has
from bench.measure import interleave
from bench.result import Result
from bench.training_models import Built, mobilenet, resnet


class Layer(NamedTuple):
    """A convolution that keeps the image size except for its stride."""

    what: str
    channels: tuple[int, int]
    side: int
    kernel: int
    stride: int = 1
    is_depthwise: bool = False
    images: int = 32

    def scaled(self, scale: float) -> Layer:
        if scale == 1:
            return self
        inputs, outputs = (n if n == 3 else max(16, int(n * scale)) for n in self.channels)
        return self._replace(channels=(inputs, outputs), side=8, images=2)

    @property
    def groups(self) -> int:
        return self.channels[0] if self.is_depthwise else 1

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the input, the weight and the output."""
        (inputs, outputs), windows = self.channels, -(-self.side // self.stride)
        return (
            (self.images, inputs, self.side, self.side),
            (outputs, inputs // self.groups, self.kernel, self.kernel),
            (self.images, outputs, windows, windows),
        )

    @property
    def operations(self) -> float:
        """Operations of the forward pass; each gradient needs as many."""
        _, (_, inputs, *kernel), out = self.shapes
        return 2.0 * inputs * kernel[0] * kernel[1] * math.prod(out)

    @property
    def numbers(self) -> float:
        """Numbers read and written in the forward pass; each gradient needs as many."""
        return float(sum(map(math.prod, self.shapes)))


LAYERS = (
    Layer("3 x 3 of 256 channels of 56 x 56", (256, 256), 56, 3),
    Layer("3 x 3 of 128 to 256 channels of 56 x 56, stride 2", (128, 256), 56, 3, 2),
    Layer("3 x 3 of 512 channels of 7 x 7", (512, 512), 7, 3),
    Layer("7 x 7 of 3 to 64 channels of 224 x 224, stride 2", (3, 64), 224, 7, 2),
    Layer("1 x 1 of 256 to 64 channels of 56 x 56", (256, 64), 56, 1),
    Layer("1 x 1 of 1,024 to 256 channels of 14 x 14", (1024, 256), 14, 1, images=64),
    Layer("depthwise 3 x 3 of 256 channels of 56 x 56", (256, 256), 56, 3, 1, True),
    Layer("depthwise 5 x 5 of 144 channels of 56 x 56, stride 2", (144, 144), 56, 5, 2, True),
    Layer("depthwise 3 x 3 of 960 channels of 7 x 7", (960, 960), 7, 3, 1, True, 64),
)


def call_of(
    layer: Layer, dtype: str, grad: bool, tf32: bool | None = None
) -> Callable[[Any, str], Callable[[], object]]:
    """The convolution, and its gradients; `tf32`: None for the library's default."""

    def prepare(library: Any, place: str) -> Callable[[], object]:
        x, weight, g = (made(library, place, dtype, *shape) for shape in layer.shapes)
        convolve = partial(
            functional(library).conv2d, x, weight, stride=layer.stride,
            padding=layer.kernel // 2, groups=layer.groups,
        )  # fmt: skip

        def forward() -> None:
            with library.no_grad(), of_precision(library, tf32):
                convolve()

        def both() -> None:
            x.grad = weight.grad = None
            with of_precision(library, tf32):
                convolve().backward(g)

        if not grad:
            return forward
        x.requires_grad_(), weight.requires_grad_()
        return both

    return prepare


@contextlib.contextmanager
def of_precision(library: Any, tf32: bool | None) -> Iterator[None]:
    """Set whether float32 factors are rounded to TF32; None: the library's default."""
    if tf32 is None:
        yield
        return
    if library is gradient:
        before = library.get_float32_matmul_precision()
        library.set_float32_matmul_precision("high" if tf32 else "highest")
        try:
            yield
        finally:
            library.set_float32_matmul_precision(before)
        return
    cudnn = library.backends.cudnn
    before, cudnn.allow_tf32 = cudnn.allow_tf32, tf32
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


class Network(NamedTuple):
    """A model, and a function that makes it from a package."""

    name: str
    build: Callable[[Any], Built]


IMAGES, SIDE = 64, 224
NETWORKS = (
    Network(f"ResNet-18, {IMAGES} x {SIDE} x {SIDE}", partial(resnet, images=IMAGES, side=SIDE)),
    Network(f"MobileNet, {IMAGES} x {SIDE} x {SIDE}", partial(mobilenet, images=IMAGES, side=SIDE)),
)
TINY = (Network("a small one", partial(resnet, images=2, side=8, widths=(8,))),)


class Contender(NamedTuple):
    package: str
    compile: bool = False
    tf32: bool | None = None


CONTENDERS = {
    "torch eager": Contender("torch"),
    "torch without TF32": Contender("torch", tf32=False),
    "gradient": Contender("gradient"),
    "gradient compile": Contender("gradient", True),
    "gradient with TF32": Contender("gradient", tf32=True),
}
"""Peers first. Those that are told about TF32 are of float32 alone."""
PEERS = {
    "gradient": ("cuBLAS", "torch without TF32", "torch eager"),
    "gradient compile": ("torch without TF32", "torch eager"),
    "gradient with TF32": ("torch eager",),
}
"""With which of those that are there a contender is compared."""
SECONDS = 3
"""For the rounds of a contender's training step."""


def training(
    options: Options, place: str, copied: float, rate: Callable[[str], float], until: float
) -> Iterator[Result]:
    """Training steps of networks, with SGD; bfloat16 by autocast. No contender begins after
    `until`. The limit is the time of the convolutions alone, by their operations or bytes."""
    networks = TINY if options.tiny else NETWORKS
    for network, dtype in itertools.product(networks, ("bfloat16", "float32")):
        what = f"step of convolutions, {network.name} {dtype}"
        medians: dict[str, float] = {}
        for name, contender in CONTENDERS.items():
            is_torch = contender.package == "torch"
            if is_torch and not (options.peer("torch") and torch_has(place)):
                continue
            if contender.tf32 is not None and dtype != "float32":
                continue
            if time.monotonic() > until:
                print(f"gpu: no time was left for {name}'s {what}", file=sys.stderr)
                continue
            library: Any = __import__(contender.package)
            free(library, place)
            step, needed = training_step(library, network, contender, place, dtype)
            with of_precision(library, contender.tf32):
                losses = [step() for _ in range(5)]  # a graph is captured in the fourth
                if not losses[-1] < losses[0]:
                    raise RuntimeError(f"{name} does not learn: losses {losses}")
                rounds = options.rounds(10)
                sample = interleave({name: step}, rounds=rounds, within=SECONDS)[name]
            del step
            medians[name] = sample.median
            peer = next((p for p in PEERS.get(name, ()) if p in medians), None)
            by_tf32 = dtype == "float32" and (contender.tf32 or name == "torch eager")
            limit = needed.limit(dtype, "TF32" if by_tf32 else dtype, copied, rate)
            yield Result(
                case="gpu", what=what, contender=name, value=1e3 * sample.median, unit="ms",
                best=1e3 * sample.best, samples=len(sample.seconds), peer=peer,
                ratio=sample.median / medians[peer] if peer else None,
                roofline=limit[0] / sample.median if limit else None,
                bound=limit[1] if limit else None,
                note=f"{needed.images / sample.median:,.0f} images/s, "
                f"{needed.operations / sample.median / 1e12:.1f} Tflop/s",
            )  # fmt: skip
        free(gradient, place)


class Needed(NamedTuple):
    """The least work of the convolutions of a step, including gradients."""

    images: int
    numbers: float
    operations: float

    def limit(
        self, dtype: str, products: str, copied: float, rate: Callable[[str], float]
    ) -> tuple[float, str] | None:
        size = 2 if dtype == "bfloat16" else 4
        return least_seconds(self.numbers * size, copied, self.operations, rate(products))


def least_seconds(
    bytes: float, copied: float, operations: float, rate: float
) -> tuple[float, str] | None:
    """The least time by bytes or operations, whichever takes longer, and the name of the limit: a
    copy's bytes per second, or operations per second of cuBLAS. None if neither is known."""
    found = []
    if bytes and copied:
        found.append((bytes / copied, f"a copy's {copied / 1e9:.0f} GB/s"))
    if operations and rate:
        found.append((operations / rate, f"cuBLAS's {rate / 1e12:.0f} Tflop/s"))
    return max(found, default=None)


def training_step(
    library: Any, network: Network, contender: Contender, place: str, dtype: str
) -> tuple[Callable[[], float], Needed]:
    """A function that makes a step and returns its loss; and the work of its convolutions."""
    library.manual_seed(0)
    module, loss_of, arrays = network.build(library)
    module.to(place)
    optimizer = library.optim.SGD(module.parameters(), lr=1e-2, momentum=0.9)
    inputs = [library.tensor(array).to(place) for array in arrays]
    is_narrow = dtype == "bfloat16"

    def update(x: Any, y: Any) -> Any:
        with library.autocast(place, dtype=library.bfloat16, enabled=is_narrow):
            loss = loss_of(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    needed = needed_by(library, module, inputs[0])
    run = library.compile(update) if contender.compile else update
    return lambda: run(*inputs).item(), needed


def needed_by(library: Any, module: Any, x: Any) -> Needed:
    """Count it in a forward pass: three products for each layer, two for the first one."""
    numbers, operations = [], []

    def count(layer: Any, given: Any, out: Any) -> None:
        weight = layer.weight
        times = 2 if given[0] is x else 3
        numbers.append(times * (given[0].numel() + weight.numel() + out.numel()))
        operations.append(times * 2 * out.numel() * (weight.numel() // weight.shape[0]))

    layers = [m for m in module.modules() if isinstance(m, library.nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with library.no_grad():
        module(x)
    for hook in hooks:
        hook.remove()
    return Needed(x.shape[0], float(sum(numbers)), float(sum(operations)))
