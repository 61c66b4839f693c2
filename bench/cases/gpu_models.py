"""Whole models on a GPU: GPT-2's training step beside PyTorch's, and LLaMA's decoding.

Contenders run one after the other: the memory of four training steps does not fit side by side,
and nothing else uses the GPU.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import gradient
from bench import random_llama
from bench.cases import Options
from bench.cases.train_step import TINY, Shape, training_step
from bench.measure import Samples, interleave
from bench.result import Result, first_line
from gradient.generation import generate
from gradient.models.llama import LlamaConfig, LlamaForCausalLM

GPT2_124M = Shape(
    "GPT-2 124M, 16 x 1024", vocab=50257, layers=12, heads=12, width=768, batch=16, time=1024
)
TINY_LLAMA = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
)  # fmt: skip
PROMPT = list(range(16))
MEBIBYTE = 1 << 20
SECONDS = 20
"""For the rounds of a contender's training step."""


class Contender(NamedTuple):
    package: str
    compile: bool


CONTENDERS = {
    "torch eager": Contender("torch", False),
    "gradient": Contender("gradient", False),
    "gradient compile": Contender("gradient", True),
    "torch compile": Contender("torch", True),
}
"""The peer first: the others are compared with it. Last what may take minutes to compile."""


def training(options: Options, place: str, until: float) -> Iterator[Result]:
    """A step in bfloat16 by autocast, with clipping and AdamW; and its peak memory. No contender
    begins after `until`."""
    shape = TINY if options.tiny else GPT2_124M
    peer: Samples | None = None
    peer_bytes = 0
    for name, (package, compiled) in CONTENDERS.items():
        if package == "torch" and not (options.peer("torch") and torch_has(place)):
            continue
        if compiled and package == "torch" and options.quick:  # a minute of compilation
            continue
        if _is_late(f"{name}'s training step", until):
            continue
        library: Any = __import__(package)
        free(library, place)
        step = training_step(package, shape, compiled, place, "bfloat16")
        try:
            first = step()
            _reset_peak(library, place)
            losses = [first, *(step() for _ in range(4))]  # a graph is captured in the fourth
        except Exception as error:
            if name != "torch compile":  # which may fail, for example without a C compiler
                raise
            yield _absent(shape, name, error)
            continue
        if not losses[-1] < losses[0]:
            raise RuntimeError(f"{name} does not learn: losses {losses}")
        used = _peak(library, place)
        sample = interleave({name: step}, rounds=options.rounds(10), within=SECONDS)[name]
        if name == "torch eager":
            peer, peer_bytes = sample, used
        ratio = sample.median / peer.median if peer and name != "torch eager" else None
        yield Result(
            case="gpu", what=f"training step bfloat16, {shape.name}", contender=name,
            value=1e3 * sample.median, unit="ms", best=1e3 * sample.best,
            samples=len(sample.seconds),
            peer=None if ratio is None else "torch eager", ratio=ratio,
            note=f"{shape.tokens / sample.median:,.0f} tokens/s, "
            f"{shape.step_flops / sample.median / 1e12:.1f} Tflop/s",
            **judged(name, place, ratio, 1.0, "at most PyTorch eager's time"),
        )  # fmt: skip
        if used and not compiled:  # the peak does not include a graph's own memory
            share = used / peer_bytes if peer_bytes and name == "gradient" else None
            yield Result(
                case="gpu", what=f"memory of a training step, {shape.name}", contender=name,
                value=used / MEBIBYTE, unit="MiB",
                peer=None if share is None else "torch eager", ratio=share,
                **judged(name, place, share, 1.0, "at most PyTorch's peak"),
            )  # fmt: skip
        del step
    free(gradient, place)


def decoding(options: Options, place: str, copied: float, until: float) -> Iterator[Result]:
    """Greedy tokens of one row: each reads all weights, of the embedding one row. No format begins
    after `until`."""
    few, many = (1, 3) if options.tiny else (64, 192)  # both long enough to be recorded
    models = models_to_decode(options, place)
    for stored, share in (("bfloat16", 0.6), ("q4_0", 0.45)):
        if _is_late(f"decoding {stored}", until):
            continue
        _, model = next(models)
        read = sum(p.nbytes for p in model.parameters()) - model.model.embed_tokens.weight.nbytes

        def tokens(count: int, model: LlamaForCausalLM = model) -> float:
            begun = time.perf_counter()
            generate(model, PROMPT, max_new_tokens=count, temperature=0, ignore_eos=True)
            return time.perf_counter() - begun

        for count in (many, few) * 2:  # kernels, and the step recorded for caches of both sizes
            tokens(count)
        times = range(1 if options.tiny else max(3, options.rounds(5)))
        rounds = [(tokens(many) - tokens(few)) / (many - few) for _ in times]
        if not options.tiny and min(rounds) <= 0:
            raise RuntimeError(f"{many} tokens took less time than {few}: {rounds}")
        sample = Samples(tuple(max(seconds, 1e-9) for seconds in rounds))
        reached = read / sample.median / copied if copied else None
        yield Result(
            case="gpu", what=f"decoding {stored}, LLaMA 1.1B's shape", contender="gradient",
            value=1e3 * sample.median, unit="ms/token", best=1e3 * sample.best,
            samples=len(rounds), roofline=reached, bound=f"a copy's {copied / 1e9:.0f} GB/s",
            note=f"{1 / sample.median:,.1f} tokens/s, {read / MEBIBYTE:,.0f} MiB a token",
            **judged(
                "gradient", place, None if reached is None else 1 / reached, 1 / share,
                f"at least {share:.0%} of the bound",
            ),
        )  # fmt: skip
        del tokens
        free(gradient, place)


def models_to_decode(options: Options, place: str) -> Iterator[tuple[str, LlamaForCausalLM]]:
    """A LLaMA of 1.1B in bfloat16, made on the device, and the same with its weights packed."""
    config = TINY_LLAMA if options.tiny else random_llama.LLAMA_1B
    gradient.manual_seed(0)
    with gradient.device(place):
        model = LlamaForCausalLM(config).to(gradient.bfloat16).eval()
    yield "bfloat16", model
    gradient.quantization.quantize_(model, "q4_0")
    yield "q4_0", model


def judged(
    contender: str, place: str, ratio: float | None, limit: float, target: str
) -> dict[str, Any]:
    """A target and whether it was met, for our figure on a GPU if there is a peer."""
    ours = contender in ("gradient", "gradient compile")
    if not ours or place == "cpu" or ratio is None:
        return {}
    return {"target": target, "met": ratio <= limit}


def _is_late(what: str, until: float) -> bool:
    late = time.monotonic() > until
    if late:
        print(f"gpu: no time was left for {what}", file=sys.stderr)
    return late


def torch_has(place: str) -> bool:
    """Whether PyTorch can use the device."""
    import torch

    return place == "cpu" or torch.cuda.is_available()


def free(library: Any, place: str) -> None:
    """Release all unused memory."""
    gc.collect()
    if place != "cpu":
        library.cuda.empty_cache()


def _reset_peak(library: Any, place: str) -> None:
    if place != "cpu":
        library.cuda.synchronize()
        library.cuda.reset_peak_memory_stats()


def _peak(library: Any, place: str) -> int:
    return 0 if place == "cpu" else int(library.cuda.max_memory_allocated())


def _absent(shape: Shape, contender: str, error: Exception) -> Result:
    return Result(
        case="gpu", what=f"training step bfloat16, {shape.name}", contender=contender,
        value=float("nan"), unit="ms",
        note=f"does not run here: {type(error).__name__}: {first_line(error)}",
    )  # fmt: skip
