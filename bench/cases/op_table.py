"""218 operations at the shapes of common models, and their gradients, beside PyTorch's.

The shapes are those of a MNIST CNN, ResNet-18 and depthwise blocks (32 x 32), a U-Net, ViT-tiny, an
LSTM language model (2 x 200), a TransformerEncoder, an MLP, a GPT and a graph network, and of their
optimizers; and special functions of a million numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradient
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Op:
    """A call of an operation.

    Args:
        name: the name in the table.
        call: a function of the package and its tensors.
        floats: shapes of normally distributed inputs.
        indices: shape of an integer input, which follows them, and its limit.
        differentiable: whether the gradients of all floats are measured too.
    """

    name: str
    call: Callable[..., Any]
    floats: tuple[Shape, ...]
    indices: tuple[Shape, int] | None = None
    differentiable: bool = True


def of_f(name: str, *given: object, **keywords: object) -> Callable[..., Any]:
    """A call of a function of nn.functional, with these arguments after the tensors."""
    return lambda p, *x: getattr(p.nn.functional, name)(*x, *given, **keywords)


def norm(p: Any, x: Any, weight: Any, bias: Any) -> Any:
    return p.nn.functional.batch_norm(x, None, None, weight, bias, training=True)


def masked(p: Any, q: Any, k: Any, v: Any, mask: Any) -> Any:
    return p.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.detach())


def scattered(reduce: str) -> Callable[..., Any]:
    """What nodes of a graph get along its edges: one index for all features."""

    def call(p: Any, x: Any, y: Any, i: Any) -> Any:
        return x.scatter_reduce(0, i[:, None].expand(-1, y.shape[1]), y, reduce)

    return call


SETTLE = 0.02
IMAGES, MAPS, TOKENS = (16, 64, 32, 32), (16, 128, 16, 16), (512, 256)
MILLION = (1000, 1000)
HEADS, SCORES, GPT_LOGITS = (8, 4, 128, 64), (8, 4, 128, 128), (1024, 1024)

OPS = [
    # products
    Op("linear, MLP", of_f("linear"), ((128, 784), (512, 784), (512,))),
    Op("linear, GPT", of_f("linear"), (TOKENS, (1024, 256), (1024,))),
    *[Op(f"linear, {n} x {k} x {m}", of_f("linear"), ((n, k), (m, k), (m,)))
      for n, k, m in ((256, 64, 64), (512, 32, 64), (256, 128, 128))],
    Op("linear, bfloat16",
       lambda p, *x: p.nn.functional.linear(*(each.bfloat16() for each in x)).float(),
       ((1024, 768), (2048, 768), (2048,))),
    Op("matmul, batched", lambda p, a, b: a @ b, ((32, 128, 64), (32, 64, 128))),
    Op("bmm", lambda p, a, b: p.bmm(a, b), ((32, 128, 128), (32, 128, 64))),
    Op("attention, causal", of_f("scaled_dot_product_attention", is_causal=True), (HEADS,) * 3),
    Op("attention", of_f("scaled_dot_product_attention"), ((8, 3, 65, 64),) * 3),
    Op("attention, heads of 16", of_f("scaled_dot_product_attention"), ((2, 16, 128, 16),) * 3),
    Op("attention, head of 256", of_f("scaled_dot_product_attention"), ((2, 1, 128, 256),) * 3),
    Op("attention, mask added", masked, ((4, 4, 128, 64),) * 3 + ((128, 128),)),
    # convolutions and pooling
    Op("conv2d, MNIST", of_f("conv2d"), ((64, 32, 26, 26), (64, 32, 3, 3), (64,))),
    Op("conv2d, ResNet", of_f("conv2d", padding=1), (IMAGES, (64, 64, 3, 3))),
    Op("conv2d, stride 2", of_f("conv2d", stride=2, padding=1), (IMAGES, (128, 64, 3, 3))),
    Op("conv2d, stride 2, 128 channels", of_f("conv2d", stride=2, padding=1),
       (MAPS, (256, 128, 3, 3))),
    Op("conv2d, 512 channels", of_f("conv2d", padding=1), ((16, 512, 4, 4), (512, 512, 3, 3))),
    Op("conv2d, 1 x 1", of_f("conv2d"), (IMAGES, (128, 64, 1, 1))),
    Op("conv2d, 4 groups", of_f("conv2d", padding=1, groups=4), (IMAGES, (64, 16, 3, 3))),
    Op("conv2d, depthwise", of_f("conv2d", padding=1, groups=64), (IMAGES, (64, 1, 3, 3))),
    Op("conv2d, patches", of_f("conv2d", stride=4), ((8, 3, 32, 32), (192, 3, 4, 4))),
    Op("conv_transpose2d", of_f("conv_transpose2d", stride=2), (MAPS, (128, 64, 2, 2))),
    Op("max_pool2d", of_f("max_pool2d", 2), ((64, 64, 24, 24),)),
    Op("max_pool1d", of_f("max_pool1d", 2), ((16, 64, 1024),)),
    Op("max_pool1d, overlapping", of_f("max_pool1d", 3, 2, 1), ((16, 64, 1024),)),
    Op("avg_pool2d", of_f("avg_pool2d", 2), (IMAGES,)),
    Op("avg_pool2d, 3 x 3", of_f("avg_pool2d", 3, 2, 1), (IMAGES,)),
    Op("adaptive_avg_pool2d", of_f("adaptive_avg_pool2d", 1), ((16, 512, 4, 4),)),
    Op("adaptive_avg_pool2d, 7 x 7", of_f("adaptive_avg_pool2d", 7), (IMAGES,)),
    Op("interpolate, nearest", of_f("interpolate", scale_factor=2.0), (MAPS,)),
    Op("interpolate, bilinear", of_f("interpolate", scale_factor=2.0, mode="bilinear"), (MAPS,)),
    Op("interpolate, bicubic", of_f("interpolate", scale_factor=2.0, mode="bicubic"), (MAPS,)),
    Op("pad", of_f("pad", (1, 1, 1, 1)), (IMAGES,)),
    *[Op(f"pad, {mode}", of_f("pad", (1, 1, 1, 1), mode=mode), (IMAGES,))
      for mode in ("reflect", "replicate", "circular")],
    # normalization
    Op("batch_norm", norm, (IMAGES, (64,), (64,))),
    Op("group_norm", lambda p, x, *w: p.nn.functional.group_norm(x, 8, *w), (IMAGES, (64,), (64,))),
    Op("instance_norm", of_f("instance_norm"), (IMAGES,)),
    Op(
        "layer_norm",
        lambda p, x, *w: p.nn.functional.layer_norm(x, (256,), *w),
        ((1024, 256), (256,), (256,)),
    ),
    Op("softmax", lambda p, x: p.softmax(x, -1), (SCORES,)),
    Op("log_softmax", lambda p, x: p.log_softmax(x, -1), (GPT_LOGITS,)),
    # losses
    Op("cross_entropy, GPT", of_f("cross_entropy"), (GPT_LOGITS,), ((1024,), 1024)),
    Op("cross_entropy, MNIST", of_f("cross_entropy"), ((64, 10),), ((64,), 10)),
    Op("nll_loss, GPT", of_f("nll_loss"), (GPT_LOGITS,), ((1024,), 1024)),
    Op("nll_loss, images", of_f("nll_loss"), ((4, 21, 64, 64),), ((4, 64, 64), 21)),
    Op("mse_loss", of_f("mse_loss"), (TOKENS, TOKENS)),
    Op("binary_cross_entropy_with_logits",
       lambda p, x: p.nn.functional.binary_cross_entropy_with_logits(x, p.zeros_like(x)),
       (TOKENS,)),
    *[Op(name, of_f(name), ((1024, 1024),) * 2)
      for name in ("huber_loss", "smooth_l1_loss", "l1_loss", "cosine_similarity",
                   "pairwise_distance")],
    Op("triplet_margin_loss", of_f("triplet_margin_loss"), ((1024, 1024),) * 3),
    Op("normalize", of_f("normalize"), ((1024, 1024),)),
    # 16-bit floats
    *[Op(f"{name}, bfloat16", lambda p, a, b, f=f: f(p, a.bfloat16(), b.bfloat16()).float(),
         ((1024, 1024),) * 2) for name, f in {
        "add": lambda p, a, b: a + b, "mul": lambda p, a, b: a * b, "div": lambda p, a, b: a / b,
        "relu": lambda p, a, b: a.relu(), "exp": lambda p, a, b: a.exp(),
        "tanh": lambda p, a, b: a.tanh(), "sigmoid": lambda p, a, b: a.sigmoid(),
        "gelu": lambda p, a, b: p.nn.functional.gelu(a), "softmax": lambda p, a, b: a.softmax(-1),
        "layer_norm": lambda p, a, b: p.nn.functional.layer_norm(a, (1024,)),
        "sum": lambda p, a, b: a.sum()}.items()],
    *[Op(f"{name}, float16", lambda p, a, b, f=f: f(p, a.half(), b.half()).float(),
         ((1024, 1024),) * 2, None, False) for name, f in {
        "x * 2": lambda p, a, b: a * 2.0, "x + 1": lambda p, a, b: a + 1,
        "floor": lambda p, a, b: a.floor(), "sqrt": lambda p, a, b: a.sqrt(),
        "sin": lambda p, a, b: a.sin(), "log1p": lambda p, a, b: a.log1p(),
        "maximum": lambda p, a, b: a.maximum(b), "amax": lambda p, a, b: a.amax(1),
        "isnan": lambda p, a, b: a.isnan(), "atan": lambda p, a, b: a.atan(),
        "atan2": lambda p, a, b: p.atan2(a, b), "fmod": lambda p, a, b: p.fmod(a, b),
        "remainder": lambda p, a, b: a % b, "floor_divide": lambda p, a, b: a // b,
        "pow": lambda p, a, b: a.abs() ** b, "x ** 0.7": lambda p, a, b: a.abs() ** 0.7,
        "tan, transposed": lambda p, a, b: a.T.tan(),
        "exp, channels last":
            lambda p, a, b: a.reshape(16, 32, 32, 64).permute(0, 3, 1, 2).exp(),
        "floor, every second": lambda p, a, b: a[:, ::2].floor(),
        "relu, half of the columns": lambda p, a, b: a[:, :512].relu(),
        "add, one transposed": lambda p, a, b: a + b.T,
        "maximum, both transposed": lambda p, a, b: a.T.maximum(b.T),
        "where, one transposed": lambda p, a, b: p.where(a > 0, a, b.T),
        "contiguous, transposed": lambda p, a, b: a.T.contiguous()}.items()],
    # elementwise
    *[Op(name, of_f(name, *given), ((1024, 1024),)) for name, given in (
        ("glu", ()), ("hardshrink", ()), ("softshrink", ()), ("threshold", (0.1, 20.0)))],
    Op("prelu", of_f("prelu"), ((1024, 1024), (1024,))),
    Op("clamp", lambda p, x: x.clamp(-1, 1), ((1024, 1024),)),
    Op("lerp", lambda p, a, b: p.lerp(a, b, 0.3), ((1024, 1024),) * 2),
    Op("lerp, tensors", lambda p, a, b, w: p.lerp(a, b, w), ((1024, 1024),) * 3),
    Op("addcmul", lambda p, *x: p.addcmul(*x, value=0.5), ((1024, 1024),) * 3),
    Op("addcdiv", lambda p, *x: p.addcdiv(*x, value=0.5), ((1024, 1024),) * 3),
    Op("relu", of_f("relu"), (IMAGES,)),
    Op("leaky_relu", of_f("leaky_relu", 0.1), (IMAGES,)),
    Op("relu6", of_f("relu6"), (IMAGES,)),
    Op("hardswish", of_f("hardswish"), (IMAGES,)),
    Op("gelu", of_f("gelu"), ((1024, 1024),)),
    Op("gelu, tanh", of_f("gelu", approximate="tanh"), ((1024, 1024),)),
    Op("silu", of_f("silu"), ((1024, 1024),)),
    Op("tanh", lambda p, x: p.tanh(x), ((700, 200),)),
    Op("sigmoid", lambda p, x: p.sigmoid(x), ((700, 800),)),
    Op("exp", lambda p, x: p.exp(x), ((1024, 256),)),
    Op("dropout", of_f("dropout", 0.1), ((1024, 256),)),
    Op("add, residual", lambda p, a, b: a + b, (IMAGES, IMAGES)),
    Op("add, bias", lambda p, a, b: a + b, ((1024, 1024), (1024,))),
    Op("mul", lambda p, a, b: a * b, ((1024, 256),) * 2),
    Op("a * b + c * 2", lambda p, a, b, c: a * b + c * 2.0, ((1024, 256),) * 3),
    Op("where", lambda p, a, b: p.where(a > 0, a, b), ((1024, 256),) * 2),
    # special functions and remainders
    *[Op(name, lambda p, x, name=name: getattr(p, name)(x), (MILLION,))
      for name in ("erf", "erfc", "tan", "expm1", "sinh", "sign", "atan")],
    Op("tan, transposed", lambda p, x: p.tan(x.T), (MILLION,)),
    Op("tan, every second", lambda p, x: p.tan(x[:, ::2]), (MILLION,)),
    Op("asin", lambda p, x: p.asin(x.tanh()), (MILLION,)),
    Op("atan2", lambda p, a, b: p.atan2(a, b), (MILLION,) * 2),
    Op("pow", lambda p, a, b: a.abs() ** b, (MILLION,) * 2),
    *[Op(name, lambda p, x, name=name: getattr(p, name)(x.abs() + 0.01), (MILLION,))
      for name in ("log", "log2", "log1p")],
    Op("erfinv", lambda p, x: p.erfinv(x.tanh()), (MILLION,)),
    *[Op(name, lambda p, x, name=name: getattr(p, name)(x.abs() + 0.01), (MILLION,))
      for name in ("lgamma", "digamma")],
    Op("polygamma, 1", lambda p, x: p.polygamma(1, x.abs() + 0.01), (MILLION,), None, False),
    *[Op(f"special.{name}", lambda p, x, name=name: getattr(p.special, name)(x), (MILLION,))
      for name in ("ndtr", "log_ndtr", "erfcx", "i0", "i0e", "i1", "i1e")],
    Op("special.ndtri", lambda p, x: p.special.ndtri(x.sigmoid()), (MILLION,)),
    *[Op(name, lambda p, a, b, name=name: getattr(p, name)(a, b), (MILLION,) * 2)
      for name in ("fmod", "remainder")],
    *[Op(name, lambda p, a, b, name=name: getattr(p, name)(a, b), (MILLION,) * 2)
      for name in ("hypot", "copysign")],
    Op("nextafter", lambda p, a, b: p.nextafter(a, b), (MILLION,) * 2, None, False),
    *[Op(name, lambda p, x, name=name: getattr(p, name)(x), (MILLION,))
      for name in ("sin", "cos", "trunc", "round")],
    Op("log", lambda p, x: p.log(x.abs() + 0.01), (MILLION,)),
    *[Op(f"{name}, float64", lambda p, x, name=name: getattr(p, name)(x.double()), (MILLION,))
      for name in ("exp", "sin", "erf")],
    Op("ldexp", lambda p, x, i: p.ldexp(x, i), (MILLION,), (MILLION, 9)),
    Op("left shift, int64", lambda p, i: i << 3, (), (MILLION, 1000), False),
    Op("floor_divide", lambda p, a, b: a // b, (MILLION,) * 2, None, False),
    Op("remainder, int64", lambda p, i: i % 7, (), (MILLION, 1000), False),
    # reductions and orders
    Op("sum", lambda p, x: x.sum(), ((1024, 1024),)),
    Op("sum, rows", lambda p, x: x.sum(-1), ((1024, 1024),)),
    Op("sum, columns", lambda p, x: x.sum(0), ((1024, 1024),)),
    Op("mean, planes", lambda p, x: x.mean((2, 3)), (IMAGES,)),
    Op("var", lambda p, x: x.var(-1), ((1024, 256),)),
    Op("std, all", lambda p, x: x.std(), ((1024, 1024),)),
    Op("max, rows", lambda p, x: x.max(-1)[0], ((1024, 256),)),
    Op("argmax", lambda p, x: x.argmax(-1), (GPT_LOGITS,), None, False),
    Op("cumsum", lambda p, x: x.cumsum(-1), ((1024, 256),)),
    Op("cumsum, columns", lambda p, x: x.cumsum(0), ((1024, 256),)),
    Op("sort", lambda p, x: x.sort(-1)[0], ((256, 256),)),
    Op("topk", lambda p, x: x.topk(50, -1)[0], ((8, 50257),)),
    Op("topk, 10 of 1000", lambda p, x: x.topk(10, -1)[0], ((64, 1000),)),
    # matrices of Gaussian processes, and Fourier transforms
    Op("cholesky", lambda p, x: p.linalg.cholesky(x @ x.T / 300 + p.eye(300)), ((300, 300),)),
    Op("solve_triangular",
       lambda p, a, b: p.linalg.solve_triangular(a.tril(-1) / 100 + p.eye(300), b, upper=False),
       ((300, 300), (300, 300))),
    *[Op(f"linalg.{name}, 5,000 of 4 x 4",
         lambda p, x, name=name: getattr(p.linalg, name)(x + 4 * p.eye(4)), ((5000, 4, 4),))
      for name in ("inv", "det")],
    *[Op(f"rfft and irfft, {n} x {m}", lambda p, x: p.fft.irfft(p.fft.rfft(x), x.shape[-1]),
         ((n, m),)) for n, m in ((640, 256), (1024, 400))],
    # places
    Op("topk, 2 of 8", lambda p, x: x.topk(2, -1)[0], ((512, 8),)),
    Op("embedding", lambda p, w, i: p.nn.functional.embedding(i, w), ((1000, 200),),
       ((20, 35), 1000)),
    Op("gather", lambda p, x, i: x.gather(1, i), (GPT_LOGITS,), ((1024, 1), 1024)),
    Op("gather, rows", lambda p, x, i: x.gather(1, i), ((1024, 256),), ((1024, 256), 256)),
    Op("scatter_add", lambda p, x, y, i: x.scatter_add(0, i, y), ((1024, 256),) * 2,
       ((1024, 256), 1024)),
    *[Op(f"scatter_reduce, {reduce}", scattered(reduce), ((2000, 64), (20000, 64)),
         ((20000,), 2000)) for reduce in ("sum", "mean", "prod", "amax")],
    Op("index_add", lambda p, x, y, i: x.index_add(0, i, y), ((1024, 256), (4096, 256)),
       ((4096,), 1024)),
    Op("scatter", lambda p, x, y, i: x.scatter(1, i, y), (GPT_LOGITS, (1024, 8)),
       ((1024, 8), 1024)),
    Op("index_select", lambda p, x, i: x.index_select(0, i), ((1024, 256),), ((512,), 1024)),
    Op("outer", lambda p, a, b: p.outer(a, b), ((1024,),) * 2),
    Op("flip", lambda p, x: x.flip(1), ((1024, 1024),)),
    Op("roll", lambda p, x: x.roll(1, 1), ((1024, 1024),)),
    Op("cat", lambda p, a, b: p.cat([a, b], 1), (MAPS, MAPS)),
    # a million numbers: searches, masks, random integers
    Op("randperm", lambda p: p.randperm(1_000_000), (), None, False),
    Op("randint", lambda p: p.randint(0, 100, (1000, 1000)), (), None, False),
    Op("multinomial, with replacement",
       lambda p, x: p.multinomial(x.abs(), 10, replacement=True), (MILLION,), None, False),
    Op("searchsorted", lambda p, x, row: p.searchsorted(row.sort()[0], x), (MILLION, (1000,)),
       None, False),
    Op("histogram", lambda p, x: p.histogram(x, 100)[0], (MILLION,), None, False),
    Op("histc", lambda p, x: p.histc(x, 100), (MILLION,), None, False),
    Op("bincount", lambda p, i: p.bincount(i), (), ((1_000_000,), 100), False),
    Op("sort, ints", lambda p, i: i.sort()[0], (), ((1_000_000,), 1000), False),
    Op("nonzero", lambda p, x: (x > 0).nonzero(), (MILLION,), None, False),
    Op("x[mask]", lambda p, x: x[x.detach() > 0].sum(), (MILLION,)),
    Op("masked_scatter", lambda p, x, y: x.masked_scatter(y.detach() > 0, y), (MILLION, MILLION)),
    Op("cummax", lambda p, x: x.cummax(1)[0], (MILLION,)),
    Op("cumprod", lambda p, x: x.cumprod(1), (MILLION,)),
    Op("logcumsumexp", lambda p, x: x.logcumsumexp(1), (MILLION,)),
    Op("kron", lambda p, a, b: p.kron(a, b), ((32, 32), (32, 32))),
    Op("amax, rows", lambda p, x: x.amax(1), (MILLION,)),
    Op("amin, columns", lambda p, x: x.amin(0), (MILLION,)),
    Op("index_copy, columns", lambda p, x, y: x.index_copy(1, p.arange(999, -1, -1), y),
       (MILLION, MILLION)),
    Op("index_select, columns", lambda p, x, i: x.index_select(1, i), (MILLION,),
       ((1000,), 1000)),
    Op("scatter, columns", lambda p, x, i: x.scatter(0, i, 1.0), (MILLION,), (MILLION, 1000)),
    # in place, at few places of a million
    *[Op(f"{name}, 8 rows of 1,000", call, (MILLION, (8, 1000)), ((8,), 1000), False)
      for name, call in {
        "index_add_": lambda p, x, y, i: x.index_add_(0, i, y),
        "index_copy_": lambda p, x, y, i: x.index_copy_(0, i, y),
        "index_fill_": lambda p, x, y, i: x.index_fill_(0, i, 2.0),
        "index_put_": lambda p, x, y, i: x.index_put_((i,), y),
        "index_reduce_, amax": lambda p, x, y, i: x.index_reduce_(0, i, y, "amax"),
        "scatter_": lambda p, x, y, i: x.scatter_(0, i[:, None].expand(8, 1000), y)}.items()],
    Op("repeat_interleave", lambda p, x: x.repeat_interleave(2, 1), (MILLION,)),
    Op("combinations", lambda p, x: p.combinations(x), ((1000,),), None, False),
    Op("trapezoid", lambda p, x: p.trapezoid(x, dim=1), (MILLION,)),
    Op("one_hot", lambda p, i: p.nn.functional.one_hot(i, 1000), (), ((1000,), 1000), False),
    Op("transpose, contiguous", lambda p, x: x.transpose(1, 2).contiguous(), (HEADS,)),
]  # fmt: skip


def contender(package: Any, op: Op, backward: bool) -> Callable[[], object]:
    """A call of the operation, with the same numbers in every package."""
    draws = np.random.default_rng(0)
    floats = [
        package.tensor(draws.standard_normal(shape, dtype=np.float32), requires_grad=backward)
        for shape in op.floats
    ]
    indices = []
    if op.indices is not None:
        shape, limit = op.indices
        indices.append(package.tensor(draws.integers(0, limit, shape)))
    if not backward:
        return lambda: op.call(package, *floats, *indices)
    shape = tuple(op.call(package, *floats, *indices).shape)
    grad = package.tensor(draws.standard_normal(shape, dtype=np.float32))

    def both() -> None:
        for x in floats:
            x.grad = None
        op.call(package, *floats, *indices).backward(grad)

    return both


def run(options: Options) -> Iterator[Result]:
    packages = {"gradient": gradient}
    if options.peer("torch"):
        import torch

        torch.set_num_threads(options.threads)
        packages["torch eager"] = torch
    for op in OPS[::10] if options.tiny else OPS:
        if not options.wants(op.name):
            continue
        for backward in (False, True) if op.differentiable else (False,):
            runs = {label: contender(package, op, backward) for label, package in packages.items()}
            for call in runs.values():
                call()
            samples = interleave(
                runs, rounds=options.rounds(30), sample_seconds=0.002, settle=SETTLE
            )
            for label, sample in samples.items():
                compared = label == "gradient" and "torch eager" in samples
                ratio = sample.ratio(samples["torch eager"]) if compared else None
                yield Result(
                    case="ops60",
                    what=f"{op.name}: {'forward, backward' if backward else 'forward'}",
                    contender=label,
                    value=1e6 * sample.median,
                    unit="us",
                    best=1e6 * sample.best,
                    samples=len(sample.seconds),
                    peer="torch eager" if compared else None,
                    ratio=ratio,
                    target="<= 1.0 x torch eager" if compared else None,
                    met=None if ratio is None else ratio <= 1.0,
                )
