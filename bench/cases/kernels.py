"""The CPU kernels, each beside the composed default that it overrides and PyTorch eager.

On arrays, without a graph, at the shapes of a small GPT's training step (--large: GPT-2 124M's).
Both sides allocate their results, as in training. PyTorch's backward runs in its autograd engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from gradient import backends
from gradient.backends.array_api import ArrayAPIBackend
from gradient.backends.options import AdamWOptions, AttentionOptions
from gradient.dtypes import bfloat16


@dataclass(frozen=True)
class Shape:
    """A GPT's step, by the sizes of the kernels' arrays."""

    name: str
    batch: int
    time: int
    heads: int
    head: int
    vocab: int

    @property
    def rows(self) -> int:
        return self.batch * self.time

    @property
    def width(self) -> int:
        return self.heads * self.head

    @property
    def window(self) -> int:
        """The number of keys that a query sees in attention with a window."""
        return self.time // 4


TINY = Shape("2 x 16 x 32", batch=2, time=16, heads=2, head=16, vocab=64)
SMALL = Shape("16 x 256 x 192", batch=16, time=256, heads=6, head=32, vocab=4096)
GPT2_124M = Shape("4 x 256 x 768", batch=4, time=256, heads=12, head=64, vocab=50257)

Calls = dict[str, Callable[[Any], object]]


def calls(shape: Shape) -> tuple[Calls, Calls]:
    """The kernels' calls on a backend, and the same in torch, under the same names."""
    rng = np.random.default_rng(0)

    def draw(*size: int) -> np.ndarray:
        return rng.standard_normal(size, dtype=np.float32)

    n, width = shape.rows, shape.width
    x, wide, logits = draw(n, width), draw(n, 4 * width), draw(n, shape.vocab)
    weight, bias = draw(width), draw(width)
    ids, targets = rng.integers(0, shape.vocab, n), rng.integers(0, shape.vocab, n)
    packed = draw(shape.batch, shape.time, 3, shape.heads, shape.head)
    q, k, v = (packed[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    scale, window = shape.head**-0.5, shape.window
    table, fan = draw(shape.vocab, width), draw(4 * width, width)
    x_16_bit, fan_16_bit = x.astype(bfloat16.numpy), fan.astype(bfloat16.numpy)
    params = [table.copy() for _ in range(4)]
    params[3] **= 2

    reference = backends.get("cpu")
    _, mean, rstd = reference.layer_norm(x, weight, bias, 1e-5)
    _, *statistics = reference.cross_entropy(logits, targets, -100, 0.0)
    causal = AttentionOptions(scale, is_causal=True)
    near_keys = AttentionOptions(scale, is_causal=True, window=window)
    out, *of_all = reference.attention(q, k, v, None, causal)
    near, *of_near = reference.attention(q, k, v, None, near_keys)
    g = draw(n)
    ours: Calls = {
        "gelu(tanh)": lambda be: be.gelu(wide, "tanh"),
        "gelu(tanh) backward": lambda be: be.gelu_grad(wide, wide, "tanh"),
        "layer_norm": lambda be: be.layer_norm(x, weight, bias, 1e-5),
        "layer_norm backward": lambda be: be.layer_norm_grad(x, x, weight, mean, rstd),
        "cross_entropy": lambda be: be.cross_entropy(logits, targets, -100, 0.0),
        "cross_entropy backward": lambda be: be.cross_entropy_grad(
            g, logits, targets, *statistics, -100, 0.0
        ),
        "attention": lambda be: be.attention(q, k, v, None, causal),
        "attention backward": lambda be: be.attention_grad(
            out, q, k, v, out, *of_all, None, causal
        ),
        "attention(window)": lambda be: be.attention(q, k, v, None, near_keys),
        "attention(window) backward": lambda be: be.attention_grad(
            near, q, k, v, near, *of_near, None, near_keys
        ),
        "embedding backward": lambda be: be.embedding_grad(x, ids, shape.vocab),
        "linear": lambda be: be.linear(x, fan, None),
        "linear backward (weight)": lambda be: be.linear_weight_grad(wide, x),
        "linear (bfloat16, 1 row)": lambda be: be.linear(x_16_bit[:1], fan_16_bit),
        "linear (bfloat16, 4 rows)": lambda be: be.linear(x_16_bit[:4], fan_16_bit),
        "linear (bfloat16, 256 rows)": lambda be: be.linear(x_16_bit[:256], fan_16_bit),
        "adamw": lambda be: be.adamw_step(
            *([p] for p in params), AdamWOptions(1e-3, 0.9, 0.95, 1e-8, 0.1, step=10),
        ),
        "uniform": lambda be: be.uniform(0, 0, n * width, x.dtype),
    }  # fmt: skip
    arrays = (x, wide, logits, weight, bias, ids, targets, q, k, v, g, out, table, fan)
    return ours, _torch_calls(shape, *arrays)


def _torch_calls(
    shape: Shape, x: Any, wide: Any, logits: Any, weight: Any, bias: Any, ids: Any, targets: Any,
    q: Any, k: Any, v: Any, g: Any, out: Any, table: Any, fan: Any,
) -> Calls:  # fmt: skip
    try:
        import torch
        import torch.nn.functional as F
    except ImportError:
        return {}
    x, wide, logits, weight, bias, ids, targets, q, k, v, g, out, table, fan = map(
        torch.from_numpy, (x, wide, logits, weight, bias, ids, targets, q, k, v, g, out, table, fan)
    )

    def backward(function: Callable[..., Any], grad: Any, *inputs: Any) -> Callable[[Any], object]:
        leaves = [i.detach().requires_grad_() for i in inputs]
        result = function(*leaves)
        return lambda _: torch.autograd.grad(result, leaves, grad, retain_graph=True)

    def gelu(x: Any) -> Any:
        return F.gelu(x, approximate="tanh")

    def norm(x: Any, weight: Any, bias: Any) -> Any:
        return F.layer_norm(x, (shape.width,), weight, bias)

    def loss(logits: Any) -> Any:
        return F.cross_entropy(logits, targets, reduction="none")

    def attend(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    everything = torch.ones(shape.time, shape.time, dtype=torch.bool)
    band = everything.tril() & everything.triu(1 - shape.window)

    def attend_in_window(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=band)

    x_16_bit, fan_16_bit = x.bfloat16(), fan.bfloat16()
    parameter = torch.nn.Parameter(table.clone())
    parameter.grad = table.clone()
    optimizer = torch.optim.AdamW([parameter], fused=True)
    return {
        "gelu(tanh)": lambda _: gelu(wide),
        "gelu(tanh) backward": backward(gelu, wide, wide),
        "layer_norm": lambda _: norm(x, weight, bias),
        "layer_norm backward": backward(norm, x, x, weight, bias),
        "cross_entropy": lambda _: loss(logits),
        "cross_entropy backward": backward(loss, g, logits),
        "attention": lambda _: attend(q, k, v),
        "attention backward": backward(attend, out, q, k, v),
        "attention(window)": lambda _: attend_in_window(q, k, v),
        "attention(window) backward": backward(attend_in_window, out, q, k, v),
        "embedding backward": backward(lambda table: F.embedding(ids, table), x, table),
        "linear": lambda _: F.linear(x, fan),
        "linear backward (weight)": lambda _: wide.T @ x,
        "linear (bfloat16, 1 row)": lambda _: F.linear(x_16_bit[:1], fan_16_bit),
        "linear (bfloat16, 4 rows)": lambda _: F.linear(x_16_bit[:4], fan_16_bit),
        "linear (bfloat16, 256 rows)": lambda _: F.linear(x_16_bit[:256], fan_16_bit),
        "adamw": lambda _: optimizer.step(),
        "uniform": lambda _: torch.rand(shape.rows, shape.width),
    }


def run(options: Options) -> Iterator[Result]:
    composed, cpu = ArrayAPIBackend(), backends.get("cpu")
    peers = options.peer("torch")
    if peers:
        import torch

        torch.set_num_threads(options.threads)
    small = TINY if options.tiny else SMALL
    for shape in [small, GPT2_124M] if options.large else [small]:
        ours, theirs = calls(shape)
        for name, call in ours.items():
            contenders: dict[str, Callable[[], object]] = {
                "gradient": lambda call=call: call(cpu),
                "composed": lambda call=call: call(composed),
            }
            if peers:
                contenders["torch eager"] = lambda call=theirs[name]: call(None)
            for contender in contenders.values():
                contender()
            samples = interleave(contenders, rounds=options.rounds(15), settle=0.05)
            for contender, sample in samples.items():
                peer = contender == "gradient" and ("torch eager" if peers else "composed")
                faster = samples["composed"].ratio(samples["gradient"])
                yield Result(
                    case="kernels",
                    what=f"{name}, {shape.name}",
                    contender=contender,
                    value=1e3 * sample.median,
                    unit="ms",
                    best=1e3 * sample.best,
                    samples=len(sample.seconds),
                    peer=peer or None,
                    ratio=sample.ratio(samples[peer]) if peer else None,
                    note=f"composed takes {faster:.1f} times as long" if peer else None,
                )
