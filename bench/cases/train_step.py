"""One training step of a GPT: forward, backward, clipping, AdamW.

The model is that of examples/char_gpt.py, at GPT-2's proportions; PyTorch runs the same file
with other import lines, so both do the same work, parameter for parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from bench.roofline import Roofline
from examples import under_torch


@dataclass(frozen=True)
class Shape:
    """A GPT and its batch."""

    name: str
    vocab: int
    layers: int
    heads: int
    width: int
    batch: int
    time: int

    @property
    def tokens(self) -> int:
        return self.batch * self.time

    @property
    def matrix_parameters(self) -> int:
        """The weights that multiply a token: the blocks' and the (tied) output layer's."""
        return self.layers * 12 * self.width**2 + self.vocab * self.width

    @property
    def step_flops(self) -> float:
        """Float operations of a step: 2 per weight and token forward, twice that backward, and the
        causal half of the two products of attention, forward and backward."""
        attention = self.layers * 2 * self.time * self.width
        return 3.0 * self.tokens * (2 * self.matrix_parameters + attention)

    @property
    def update_bytes(self) -> float:
        """Memory traffic of AdamW: weight and both moments read and written, the gradient read."""
        return 7.0 * 4 * (self.matrix_parameters + self.time * self.width)

    def floor_seconds(self, roofline: Roofline) -> float:
        """The least time a step can take here: the products at peak, then the update."""
        return self.step_flops / roofline.peak_flops + self.update_bytes / roofline.stream_bandwidth


TINY = Shape("GPT, 2 x 16", vocab=64, layers=1, heads=2, width=32, batch=2, time=16)
SMALL = Shape("GPT 3.4M, 8 x 128", vocab=1024, layers=4, heads=4, width=256, batch=8, time=128)
GPT2_124M = Shape(
    "GPT-2 124M, 4 x 256", vocab=50257, layers=12, heads=12, width=768, batch=4, time=256
)


def training_step(
    package: str,
    shape: Shape,
    compile: bool = False,
    place: str = "cpu",
    autocast: str | None = None,
) -> Callable[[], float]:
    """Return a function that makes one step of examples/char_gpt.py and returns its loss.

    Args:
        compile: compile the loss in PyTorch, the whole step in `gradient`.
        place: the device.
        autocast: the dtype of the products, "bfloat16"; None: float32.
    """
    script = under_torch.load("char_gpt", package)
    framework = script.gradient
    framework.manual_seed(0)
    model = script.GPT(
        script.GPTConfig(shape.vocab, shape.time, shape.layers, shape.heads, shape.width)
    ).to(place)
    optimizer = model.configure_optimizer(lr=1e-4, weight_decay=0.1)
    loss_of = framework.compile(model.loss) if compile and package == "torch" else model.loss
    ids = np.random.default_rng(0).integers(0, shape.vocab, (shape.batch, shape.time + 1))
    inputs, targets = (
        framework.tensor(part.copy()).to(place) for part in (ids[:, :-1], ids[:, 1:])
    )
    dtype = None if autocast is None else getattr(framework, autocast)

    def update(inputs: Any, targets: Any) -> Any:
        with framework.autocast(place, dtype=dtype, enabled=dtype is not None):
            loss = loss_of(inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        script.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    run = framework.compile(update) if compile and package == "gradient" else update
    return lambda: run(inputs, targets).item()


def run(options: Options) -> Iterator[Result]:
    roofline = options.roofline()
    small = TINY if options.tiny else SMALL
    for shape in [small, GPT2_124M] if options.large else [small]:
        steps = {"gradient": training_step("gradient", shape)}
        if options.peer("torch"):
            import torch

            torch.set_num_threads(options.threads)
            steps["torch eager"] = training_step("torch", shape)
            if not options.quick:  # half a minute of compilation
                steps["torch compile"] = training_step("torch", shape, compile=True)
        for contender in list(steps):
            try:
                first, second = steps[contender](), steps[contender]()
            except Exception as error:  # for example, torch.compile needs a C++ compiler
                if contender != "torch compile":
                    raise
                yield _absent(shape, contender, error)
                del steps[contender]
                continue
            if not second < first:
                raise RuntimeError(f"{contender} does not learn: loss {first}, then {second}")
        rounds = options.rounds(5 if shape is GPT2_124M else 20)
        samples = interleave(steps, rounds=rounds, settle=0.05)
        for contender, sample in samples.items():
            peer = "torch eager" if "torch eager" in samples and contender == "gradient" else None
            yield Result(
                case="step",
                what=shape.name,
                contender=contender,
                value=1e3 * sample.median,
                unit="ms",
                best=1e3 * sample.best,
                samples=len(sample.seconds),
                peer=peer,
                ratio=sample.ratio(samples[peer]) if peer else None,
                roofline=shape.floor_seconds(roofline) / sample.median,
                bound=f"{roofline.peak_flops / 1e9:.0f} GFLOP/s",
                note=f"{shape.tokens / sample.median:,.0f} tokens/s",
            )


def _absent(shape: Shape, contender: str, error: Exception) -> Result:
    return Result(
        case="step",
        what=shape.name,
        contender=contender,
        value=float("nan"),
        unit="ms",
        note=f"does not run here: {type(error).__name__}: {str(error).splitlines()[0][:200]}",
    )
