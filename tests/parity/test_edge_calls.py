"""Calls at the edges that random programs found to differ, each run under both packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

from support.both_packages import assert_alike  # noqa: E402

INF = float("inf")
NANS = [1.0, float("nan"), -INF, 3.0, 0.0, float("nan"), INF, 2.0]


def leaf(t: Any, values: Any) -> Any:
    return t.tensor(values, dtype=t.float64, requires_grad=True)


def norm_grad(t: Any, values: Any) -> Any:
    x = t.tensor(values, dtype=t.float16, requires_grad=True)
    return t.autograd.grad(x.norm(), [x])[0]


def scaled_grad(t: Any, scale: float) -> Any:
    x = t.tensor([1e-4, -2e-4], dtype=t.float16, requires_grad=True)
    (g,) = t.autograd.grad(((x * scale) * 1e-3).sum(), [x], create_graph=True)
    return g.detach()


def written(t: Any, x: Any, view: Any) -> Any:
    """x after a write into `view`."""
    view.fill_(7)
    return x


def twice(t: Any, function: Any, x: Any) -> Any:
    """The second derivative of a function along dimension 0."""
    (first,) = t.autograd.grad(function(x, 0), x, create_graph=True)
    return t.autograd.grad(first + 0 * x, x)[0]


def slopes(t: Any, function: Any, *inputs: Any) -> Any:
    """The result of a function, and its gradient for each input."""
    xs = [leaf(t, x) for x in inputs]
    y = function(*xs)
    return y, t.autograd.grad(y.sum(), xs)


def grad_of_weight(t: Any, function: Any) -> Any:
    """The result of a function of one weight, and its gradient."""
    w = leaf(t, [1.0])
    y = function(w)
    return y, t.autograd.grad(y.sum(), w)[0]


def after(t: Any, write: Any, values: Any = (1.0, 2.0)) -> Any:
    """A result after a write into it, and the gradient for what it was computed of."""
    x = leaf(t, values)
    y = x * 1
    write(y)
    return y, t.autograd.grad(y.sum(), x)[0]


CASES: dict[str, Callable[[Any], Any]] = {
    "erfc keeps its digits": lambda t: t.tensor([2.0, 4.02, 9.0, -3.0]).double().erfc(),
    "negative powers of ints": lambda t: t.pow(
        t.tensor([2, 1, -1, -1, 0, 3]), t.tensor([-1, -2, -2, -3, -1, 2])
    ),
    "lerp from the nearer end": lambda t: t.lerp(t.tensor([1.0, 1e8]), t.tensor([INF, 1.0]), 1.0),
    "lerp by a tensor": lambda t: t.lerp(
        t.tensor([1.0, 2.0]), t.tensor([5.0, INF]), t.tensor([0.25, 1.0])
    ),
    "alpha of a number": lambda t: t.add(t.ones(2), -1, alpha=-1),
    "infinity stays in its window": lambda t: t.nn.functional.adaptive_avg_pool2d(
        t.tensor([[[INF, 1.0, 2.0]]]), (1, 2)
    ),
    **{
        f"an image of size {size!r}, mode {mode}": lambda t, size=size, mode=mode: (
            t.nn.functional.interpolate(t.arange(16.0).reshape(1, 1, 4, 4), size=size, mode=mode)
        )
        for size in (0, (2, 0), -1, 2.0, True, (2, 2.0))
        for mode in ("area", "nearest", "bilinear", "bicubic")
    },
    "areas of a small image": lambda t: t.nn.functional.interpolate(
        t.ones(1, 1, 4, 4), scale_factor=0.1, mode="area"
    ),
    **{
        f"Lanczos resampling to {size} of {dtype}": lambda t, size=size, dtype=dtype: (
            t.nn.functional.interpolate(
                (t.arange(80.0).reshape(1, 2, 8, 5).sin() * 100 + 100).to(getattr(t, dtype)),
                size=size,
                mode="lanczos",
                antialias=True,
            )
            .mul(1e4 if dtype == "float64" else 1)
            .round()
        )
        for size in ((3, 3), (11, 2), (8, 5))
        for dtype in ("float64", "uint8")
    },
    "Lanczos resampling without antialias": lambda t: t.nn.functional.interpolate(
        t.ones(1, 1, 4, 4), 2, mode="lanczos"
    ),
    "Lanczos resampling with aligned corners": lambda t: t.nn.functional.interpolate(
        t.ones(1, 1, 4, 4), 2, mode="lanczos", align_corners=True, antialias=True
    ),
    "infinity stays among its neighbours": lambda t: t.nn.functional.interpolate(
        t.tensor([[[0.5, INF, 1.0, 2.0]]]), size=9, mode="linear"
    ),
    "NaN stays in its window of an antialiased image": lambda t: t.nn.functional.interpolate(
        t.tensor([[[[NANS[1], 1.0, 2.0, 3.0, 4.0, 5.0]] * 2]]),
        (1, 3),
        mode="bilinear",
        antialias=True,
    ),
    "infinity stays in its window of an antialiased image": lambda t: t.nn.functional.interpolate(
        t.tensor([[[[0.0, 1.0, INF, 3.0, 4.0, 5.0, 6.0]]]]).double(),
        (1, 9),
        mode="bicubic",
        antialias=True,
    ),
    "kl_div of a negative target": lambda t: t.nn.functional.kl_div(
        t.tensor([-1.5, 0.5]), t.tensor([-1.5, 0.0]), reduction="none"
    ),
    "flatten of a vector is itself": lambda t: (lambda x: x.flatten() is x)(t.ones(3)),
    "t of a vector is a view": lambda t: (lambda x: (x.t() is x, written(t, x, x.t())))(t.ones(3)),
    "expand to the same shape": lambda t: (lambda x: written(t, x, x.expand(1, 3)))(t.ones(3)),
    "expand of nothing": lambda t: t.zeros(0).expand(2, 0),
    "softmax of a number, differentiated twice": lambda t: twice(
        t, t.nn.functional.softmax, leaf(t, 0.5)
    ),
    "the multi-margin loss at its kink": lambda t: (
        lambda x: t.autograd.grad(t.nn.functional.multi_margin_loss(x, t.tensor([1])), x)[0]
    )(leaf(t, [[0.0, 1.0, 1.0]])),
    "shapes of the multi-margin loss of one sample": lambda t: tuple(
        tuple(t.nn.functional.multi_margin_loss(t.ones(3), target, reduction="none").shape)
        for target in (t.tensor(1), t.tensor([1]))
    ),
    "the soft margin loss of float16 scores": lambda t: tuple(
        t.nn.functional.soft_margin_loss(
            t.tensor([0.5, 2.0]).half(), t.tensor([1.0, -1.0]), reduction=reduction
        )
        for reduction in ("none", "mean", "sum")
    ),
    "sort bfloat16 with NaN": lambda t: t.tensor(NANS, dtype=t.bfloat16).sort(stable=True)[0],
    "the last of bfloat16 with NaN": lambda t: t.tensor(NANS, dtype=t.bfloat16).topk(3)[0],
    "median of bfloat16 with NaN": lambda t: t.tensor(NANS, dtype=t.bfloat16).median(),
    "kthvalue of bfloat16 with NaN": lambda t: t.tensor(NANS, dtype=t.bfloat16).kthvalue(3)[0],
    "a float64 number divided down": lambda t: (t.tensor(7.0).double() * 1) // 2,
    "remainder of a float64 number": lambda t: (t.tensor(7.0).double() * 1) % 2.0,
    "fmod of a float64 number": lambda t: t.fmod(t.tensor(7.0).double() * 1, 2.0),
    "negative powers of an int": lambda t: (2 ** t.tensor([1, -1]), (-1) ** t.tensor([-3, 2])),
    "float16 divided by a large number": lambda t: t.tensor([1000.0, -3.0]).half() / 1e6,
    "float16 times a large number": lambda t: t.tensor([1e-3, -2e-3]).half() * 65536,
    "float16 times a small number": lambda t: t.tensor([1000.0, -3.0]).half() * 1e-6,
    "bfloat16 times a third": lambda t: t.arange(1.0, 20.0).bfloat16() * (1 / 3),
    "float16 by a number, divided down": lambda t: t.tensor([3.0, 257.0]).half() // 0.1,
    "float16 times a float32 number": lambda t: t.tensor([1e-3]).half() * t.tensor(65536.0),
    "gradient of float16 times a large number": lambda t: scaled_grad(t, 65536.0),
    "norm of large float16": lambda t: t.tensor([300.0, -400.0], dtype=t.float16).norm(),
    "3-norm of large float16": lambda t: t.tensor([300.0, -400.0], dtype=t.float16).norm(3, 0),
    "norm of bfloat16, rounded once": lambda t: t.tensor([6e4, 6e4, -6e4]).bfloat16().norm(),
    "gradient of the norm of large float16": lambda t: norm_grad(t, [300.0, -400.0]),
    "normalize large float16": lambda t: t.nn.functional.normalize(
        t.tensor([300.0, -400.0], dtype=t.float16), dim=0
    ),
    "cosine of large float16": lambda t: t.nn.functional.cosine_similarity(
        t.tensor([300.0, -400.0]).half(), t.tensor([500.0, 200.0]).half(), dim=0
    ),
    "windows of large float16": lambda t: t.nn.functional.adaptive_avg_pool1d(
        t.tensor([[3e4, 4e4, -5e4, 0.0]]).half(), 3
    ),
    "mT of a number": lambda t: t.tensor(3.0).mT,
    "logspace that requires a gradient": lambda t: t.logspace(0, 2, 3, requires_grad=True),
    "dtype of normal": lambda t: t.normal(t.ones(2, dtype=t.bfloat16)).dtype.itemsize,
    "random_ up to": lambda t: t.zeros(9).random_(to=1),
    "bernoulli_ by a tensor": lambda t: t.zeros(3).bernoulli_(t.tensor([0.0, 1.0, 1.0])),
    "roll along no dims": lambda t: t.arange(6).reshape(2, 3).roll(2, ()),
    "dropout2d of a matrix": lambda t: t.nn.functional.dropout2d(t.ones(2, 3), p=1.0),
    "dropout3d of a vector": lambda t: t.nn.functional.dropout3d(t.ones(3), training=False),
    "dropout2d of a vector": lambda t: t.nn.functional.dropout2d(t.ones(3)),
    "diag of a cube": lambda t: t.diag(t.ones(2, 2, 2)),
    "trace of a cube": lambda t: t.trace(t.ones(2, 2, 2)),
    "meshgrid of a matrix": lambda t: t.meshgrid(t.ones(2, 2), t.ones(2), indexing="ij"),
    "unflatten of a number": lambda t: t.tensor(2.0).unflatten(0, (1,)),
    "negative numbers wrap in uint8": lambda t: t.zeros(2, dtype=t.uint8).fill_(-1),
    "a number beyond float16, in brackets": lambda t: (lambda x: (x.__setitem__(0, 1e10), x)[1])(
        t.zeros(2, dtype=t.float16)
    ),
    "False in brackets selects nothing": lambda t: (lambda x: (x.__setitem__(False, 2.0), x)[1])(
        leaf(t, [1.0])
    ),
    "copy_ of a number": lambda t: after(t, lambda y: y.copy_(2)),
    "copy_ of a tensor": lambda t: after(t, lambda y: y.copy_(t.ones(2))),
    "copy_ of one element": lambda t: after(t, lambda y: y.copy_(t.tensor(3.0))),
    "fill_ of a number": lambda t: after(t, lambda y: y.fill_(3)),
    "fill_ of a tensor": lambda t: after(t, lambda y: y.fill_(t.tensor(3.0))),
    "fill_ of a part": lambda t: after(t, lambda y: y[0].fill_(t.tensor(3.0))),
    "fill_ of a tensor with a gradient": lambda t: (
        lambda x: t.autograd.grad((x * 1).fill_(x[0]).sum(), x)[0]
    )(leaf(t, [1.0, 2.0])),
    "clamp_max of bools": lambda t: t.tensor([False, True]).clamp_max(2),
    "clamp_min_ of bools": lambda t: t.tensor([False, True]).clamp_min_(2),
    "index_add of ints by a fraction": lambda t: t.tensor([1, 2, 3]).index_add(
        0, t.tensor([0, 2]), t.tensor([10, 20]), alpha=-2.7
    ),
    "a number to negative powers of ints": lambda t: 2 ** t.tensor([-3, -1, 0, 3]),
    "remainder of nothing": lambda t: t.zeros(0).long() % t.tensor(0),
    "chunk of nothing": lambda t: t.chunk(t.zeros(0, 1), 3),
    "variance of huge numbers": lambda t: t.tensor([1e30, 1.0, 1e30]).bfloat16().var(),
    "multilabel_soft_margin_loss of a vector": lambda t: (
        t.nn.functional.multilabel_soft_margin_loss(t.tensor([1.0]), t.ones(2, 1))
    ),
    "view of pooled values": lambda t: t.nn.functional.adaptive_avg_pool1d(
        t.arange(3.0).reshape(1, 3, 1), 4
    ).view(2, -1),
    "norm in float16": lambda t: t.tensor([200.0, 300.0]).half().norm(p=3),
    "Euclidean norm in float16": lambda t: t.tensor([2000.0, 3000.0]).half().norm(),
    "softmax of an infinite number": lambda t: slopes(t, lambda x: t.softmax(x, 0), INF),
    "log_softmax of an infinite number": lambda t: slopes(t, lambda x: t.log_softmax(x, 0), INF),
    "gaussian_nll_loss of an infinite variance": lambda t: slopes(
        t,
        lambda x, y, v: t.nn.functional.gaussian_nll_loss(x, y, v, reduction="none"),
        [1.0, 2.0],
        [0.0, 1.0],
        [INF, 0.0],
    ),  # fmt: skip
    "cosine_similarity of a small vector": lambda t: slopes(
        t, lambda x, y: t.nn.functional.cosine_similarity(x, y, dim=0), [1e-9, 0.0], [1.0, 2.0]
    ),
    "add_ of bools, scaled": lambda t: t.tensor([True, False]).add_(
        t.tensor([False, True]), alpha=2
    ),
    "bool and True, scaled": lambda t: t.tensor([False]).add(True, alpha=2),
    "float32 and scaled float16": lambda t: t.ones(2).add(t.ones(2).half(), alpha=1e6),
    "float32 less scaled bfloat16, in place": lambda t: t.ones(2).sub_(
        t.ones(2).bfloat16(), alpha=1e6
    ),
    "float64 less scaled float32": lambda t: t.ones(2).double().sub(t.ones(2), alpha=1e39),
    "int64 and scaled int8": lambda t: t.tensor([1]).add(t.ones(1).char(), alpha=300),
    "float16 and ints scaled by a fraction": lambda t: (
        t.ones(1).half().add(t.tensor([1]), alpha=2.5)
    ),
    "rsub of a scaled float16": lambda t: t.rsub(t.ones(2).half(), t.ones(2), alpha=1e6),
    "hardswish before an infinite slope": lambda t: slopes(
        t, lambda x: 1 / t.nn.functional.hardswish(x), [-3.0, -5.0, -2.0, 1.0, 4.0]
    ),
    "large float64 to uint8": lambda t: t.tensor(
        [3e9 + 77, -1e12 - 5, 300.0, -1.0], dtype=t.float64
    ).byte(),
    "large float64 into uint8": lambda t: (
        t.ones(2).byte().copy_(t.tensor([3e9 + 77, -77.0], dtype=t.float64))
    ),
    "clamp of bools by ints": lambda t: t.tensor([True]).clamp(2, 3),
    "clamp of uint8 from below zero": lambda t: t.tensor([1], dtype=t.uint8).clamp_min(-1),
    "clamp between a 0-d tensor and a number": lambda t: t.ones(2).clamp(t.tensor(0.5), 2),
    "logaddexp of floats and ints": lambda t: t.logaddexp(t.ones(2), t.tensor([0, 1])),
    "detach_ of a result that is no view": lambda t: t.nn.functional.avg_pool3d(
        leaf(t, [[[[[1.0, 2.0], [3.0, 4.0]]]]]).expand(1, 1, 2, 2, 2), 2
    ).detach_(),
    "detach_ of a pooled result": lambda t: t.nn.functional.adaptive_max_pool2d(
        leaf(t, [[[1.0]]]), (2, 2)
    ).detach_(),
    "scatter_ of a 0-d tensor as value": lambda t: t.zeros(2, dtype=t.int64).scatter_(
        0, t.tensor([0]), value=t.tensor(1.0)
    ),
    "detach_ of a product": lambda t: tuple(
        (x @ y).detach_()
        for x, y in [
            (leaf(t, [[1.0, 2.0]]), t.ones(2).double()),
            (leaf(t, [1.0]), t.ones(1, 2).double()),
            (leaf(t, [1.0, 3.0]), t.ones(2).double()),
            (leaf(t, [[[1.0]]]), t.ones(1, 2).double()),
        ]
    ),
    "detach_ of a repeated tensor": lambda t: leaf(t, [1.0, 2.0]).repeat(2).detach_(),
    "erfc far out": lambda t: (
        t.tensor([5.99, 6.0, 7.3, 12.1, 19.7, 26.3, 28.0, -INF]).double().erfc()
    ),
    "erfc far out, in float32": lambda t: t.tensor([5.99, 6.0, 7.3, 8.9]).erfc(),
    "activations in 16 bits, rounded once": lambda t: tuple(
        getattr(t.nn.functional, name)(t.linspace(-4, 4, 30).to(dtype))
        for name in ("selu", "elu", "celu", "mish", "hardsigmoid", "glu")
        for dtype in (t.float16, t.bfloat16)
    ),
    "True in brackets is a new dimension": lambda t: (
        lambda x: (x.__setitem__(True, t.tensor([2, 0])), x)[1]
    )(t.zeros(2, dtype=t.bool)),
    "addcmul of ints by a fraction": lambda t: (
        t.tensor([1], dtype=t.uint8).addcmul(t.ones(1).byte(), t.ones(1).byte(), value=-1),
        t.tensor([1, 2]).addcmul(t.tensor([1, -2]), t.tensor([3, 4]), value=-1.7),
        t.tensor([1, 2]).addcmul_(t.tensor([1, -2]), t.tensor([3, 4]), value=0.7),
    ),
    "addcmul and addcdiv in 16 bits, rounded once": lambda t: tuple(
        f(x, x + 1, x + 2, value=0.3)
        for f in (t.addcmul, t.addcdiv)
        for x in (t.linspace(3, 9, 40).half(), t.linspace(3, 9, 40).bfloat16())
    ),
    "scatter of nothing": lambda t: slopes(
        t, lambda x, y: x.scatter(0, t.zeros(0).long(), y), [1.0, 2.0], []
    ),
    "scatter_add of nothing": lambda t: slopes(
        t, lambda x, y: x.scatter_add(0, t.zeros(0).long(), y), [1.0, 2.0], []
    ),
    "copies keep the order of dimensions": lambda t: [
        (x.stride(), x.is_contiguous())
        for x in (
            t.ones(2, 3).t().clone(),
            t.ones(2, 3, 4).permute(2, 0, 1).clone(),
            t.ones(2, 1).expand(2, 3).clone(),
            t.ones(4, 6)[:, ::2].clone(),
            t.ones(2, 3).t().to(t.float32, copy=True),
            t.ones(2, 3).t().contiguous(),
        )
    ],
    "dropout of nothing is its input": lambda t: [
        f(leaf(t, [[]])).is_leaf for f in (t.nn.functional.dropout, t.nn.functional.dropout2d)
    ],
    "local_response_norm by a bool": lambda t: t.nn.functional.local_response_norm(
        t.ones(1, 4, 2).double(), 3, alpha=t.tensor(True)
    ),
    "std of huge numbers": lambda t: (lambda x: (x.std(), t.autograd.grad(x.std(), x)[0]))(
        t.tensor([2e19, -3e19, 1e19], requires_grad=True)
    ),
    "var of many huge numbers": lambda t: (t.arange(100.0) * 2e17).var(),
    "logsumexp beside an infinity": lambda t: slopes(
        t, lambda x: x.logsumexp(1), [[1.0, INF, 2.0], [INF, INF, 0.0], [-INF, 1.0, 2.0]]
    ),
    "copy_ of numbers that do not fit": lambda t: (
        t.zeros(1, dtype=t.int8).copy_(300),
        t.zeros(1, dtype=t.int8).copy_(-129),
        t.zeros(1, dtype=t.uint8).copy_(300),
        t.zeros(1, dtype=t.float16).copy_(1e10),
        t.zeros(1, dtype=t.float64).copy_(0.1),
    ),
    "unfold of a number by nothing": lambda t: t.tensor(1.0).unfold(0, 0, 1),
    "arange of ints by fractions": lambda t: (
        t.arange(2, 2, 0.5, dtype=t.int32),
        t.arange(0, 3, 1.5, dtype=t.int32),
        t.arange(0.7, 3, 1, dtype=t.int64),
    ),
    "dropout of all bools": lambda t: t.nn.functional.dropout(t.tensor([True]), 1.0),
    "index_add of bools by a fraction": lambda t: t.tensor([False, False]).index_add(
        0, t.tensor([1]), t.tensor([True]), alpha=0.5
    ),
    "logical_not_ of what requires a gradient": lambda t: (leaf(t, [1.0, 0.0]) * 1).logical_not_(),
    "split by its argument's name": lambda t: t.split(
        tensor=t.arange(3), split_size_or_sections=[1, 2]
    ),
    "cosine_similarity of floats and ints": lambda t: t.nn.functional.cosine_similarity(
        t.ones(1, 2), t.tensor([[1, 3]])
    ),
    "layer_norm with eps in a 0-d tensor": lambda t: t.nn.functional.layer_norm(
        t.tensor([1.0, 4.0]), (2,), eps=t.tensor(True)
    ),
    "the second derivative of a saturated binary_cross_entropy": lambda t: tuple(
        t.autograd.grad(g.sum(), x)[0]
        for x in [leaf(t, [0.0, 1.0, 1.0, 0.25])]
        for g in t.autograd.grad(
            t.nn.functional.binary_cross_entropy(
                x, t.tensor([0.0, 1.0, 0.0, 1.0]).double(), reduction="sum"
            ),
            x,
            create_graph=True,
        )
    ),
    "var with more correction than elements": lambda t: slopes(
        t, lambda x: x.var(correction=3), [1.0, 1.0]
    ),
    "arange of uint8 from below zero": lambda t: t.arange(-1, 3, dtype=t.uint8),
    "triu_indices of no dtype": lambda t: t.triu_indices(1, 3, 2, dtype=None),
    "ones of requires_grad None": lambda t: t.ones(2, requires_grad=None),
    "median of no ints": lambda t: t.zeros(0, dtype=t.int64).median(),
    "softshrink by a bool": lambda t: t.nn.functional.softshrink(t.ones(1), True),
    "randint_like up to a 0-d tensor": lambda t: t.randint_like(t.ones(2), t.tensor(1.9)),
    "the derivative of acosh left of where it is": lambda t: slopes(t, t.acosh, [-1.0]),
    "lerp at infinities": lambda t: slopes(
        t,
        t.lerp,
        [INF, 1.0, 1.0, 0.0, INF],
        [1.0, 1.0, 2.0, INF, 1.0],
        [1.0, -INF, INF, 0.25, 0.25],
    ),
    "isclose of bools": lambda t: tuple(
        t.isclose(t.tensor([True, False]), t.tensor([False, True]), rtol=r, atol=a)
        for r, a in [(1e-5, 3.0), (2.0, 0.0), (0.0, 0.5)]
    ),
    "normal has the dtype of its mean": lambda t: tuple(
        t.normal(t.ones(1, dtype=mean), t.zeros(1, dtype=std)).dtype.itemsize
        for mean, std in [(t.float32, t.float64), (t.float64, t.float32), (t.float16, t.float32)]
    ),
    "quantile at an infinity": lambda t: tuple(
        t.quantile(t.tensor([1.0, INF, INF]), q, interpolation=kind)
        for kind in ("lower", "higher", "nearest", "linear", "midpoint")
        for q in (0.0, 0.3, 0.5, 1.0)
    ),
    "round of float16 to decimals": lambda t: t.tensor([1000.73, 0.12345]).half().round(decimals=2),
    "arange of int64 by fractions": lambda t: tuple(
        t.arange(*ends, dtype=t.int64)
        for ends in [(0, 3.5), (-0.5, 2), (0, 4, 1.5), (3.5, 0, -1), (0, 0.5), (0.7, 3.2)]
    ),
    "huber_loss by position": lambda t: t.nn.functional.huber_loss(
        t.zeros(2), t.tensor([0.5, 3.0]), "sum", 2.0
    ),
    "detach_ of diag_embed": lambda t: t.diag_embed(t.ones(2, 2), 1, 1).detach_(),
    "sort stable by None": lambda t: tuple(t.tensor([2, 1]).sort(stable=None)),
    "batch_norm of nothing": lambda t: grad_of_weight(
        t, lambda w: t.nn.functional.batch_norm(t.zeros(0, 1).double(), None, None, w, w, True)
    ),
    "batch_norm of nothing, weights of another size": lambda t: t.nn.functional.batch_norm(
        t.zeros(2, 0), None, None, t.ones(2), t.ones(3), True
    ),
    "a size that scale_factor keeps": lambda t: tuple(
        t.nn.functional.interpolate(x, scale_factor=1.2, mode=mode)
        for x, mode in [
            (t.tensor([[[1.0, 2.0, 5.0]]]), "linear"),
            (t.tensor([[[[1.0, 2.0, 5.0], [3.0, 4.0, 9.0]]]]), "bilinear"),
        ]
    ),
    "nearest pixels of twice the size": lambda t: tuple(
        t.nn.functional.interpolate(t.arange(4.0).reshape(1, 1, 2, 2), scale_factor=by)
        for by in (2.3, 1.2, 2.0, 2.6)
    ),
    "nan_to_num of None": lambda t: t.tensor([1.0, float("nan")]).nan_to_num(None, 2.0),
    "detach_ of the inverse of unique": lambda t: (
        t.ones(2).unique(return_inverse=True)[1].detach_()
    ),
    "interpolate uint8": lambda t: tuple(
        t.nn.functional.interpolate(
            t.tensor([[[[1, 2, 5], [3, 40, 9], [10, 70, 255]]]], dtype=t.uint8),
            size=(4, 2),
            mode=mode,
        )
        for mode in ("bilinear", "bicubic")
    ),
    "einsum of sizes 1 and 0": lambda t: t.einsum("ij,kj->ik", t.ones(2, 1), t.zeros(3, 0)),
    "roll over no dimensions": lambda t: t.tensor([[1.0, 2.0], [3.0, 4.0]]).roll(1, []),
    "second derivative beside zero_()": lambda t: twice(
        t, lambda x, dim: x / x.clone().zero_(), leaf(t, 1.0)
    ),
    "huber_loss with a tensor as delta": lambda t: t.nn.functional.huber_loss(
        t.zeros(2), t.tensor([0.5, 3.0]), delta=t.tensor(2)
    ),
    "arange by name": lambda t: (t.arange(end=3), t.arange(start=1, end=3, step=2), t.arange(3)),
    "arange of nothing": lambda t: t.arange(),
    "randint by name": lambda t: (
        t.randint(high=1, size=(2,)),
        t.randint(1, size=(2,)),
        t.randint(low=3, high=4, size=(2,)),
    ),
    "randint that requires a gradient": lambda t: t.randint(
        0, 1, (2,), dtype=t.float64, requires_grad=True
    ),
    "ints that require a gradient": lambda t: t.randperm(3, requires_grad=True),
    "normal that requires a gradient": lambda t: t.normal(
        1.0, 0.0, (2,), dtype=t.float64, requires_grad=True
    ),
    "rand_like on a device": lambda t: t.rand_like(t.ones(2), device="cpu").ceil(),
    "copy_ by name": lambda t: t.zeros(2).copy_(other=t.ones(1), non_blocking=True),
    "type without waiting": lambda t: t.ones(2).type(t.float64, non_blocking=True),
    "dtypes by name": lambda t: t.can_cast(from_=t.float32, to=t.int64),
    "promoted dtypes by name": lambda t: t.promote_types(type1=t.int8, type2=t.uint8) is t.int16,
    "counts repeated": lambda t: t.repeat_interleave(t.tensor([1, 0, 2])),
    "asarray of a leaf": lambda t: t.asarray(leaf(t, [1.0])),
    "asarray outside the graph": lambda t: t.asarray(leaf(t, [1.0]), requires_grad=False),
    "asarray in the graph": lambda t: t.asarray(leaf(t, [1.0]), requires_grad=True),
    "asarray as a leaf": lambda t: t.asarray([1.0], requires_grad=True),
    "asarray without a copy": lambda t: t.asarray(t.ones(2), copy=False),
    "asarray that needs a copy": lambda t: t.asarray([1.0], copy=False),
    "asarray that copies": lambda t: written(t, x := t.ones(2), t.asarray(x, copy=True)),
    "asarray that shares": lambda t: written(t, x := t.ones(2), t.asarray(x)),
    "grad of inputs only": lambda t: t.autograd.grad(
        [(x := leaf(t, [2.0])) ** 2], [x], [t.ones(1).double()], True, False, True, True
    ),
    "gumbel_softmax by position": lambda t: t.nn.functional.gumbel_softmax(
        t.ones(3, 2), 1.0, True, 1e-10, 0
    ).sum(0),
}


@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name: str):
    assert_alike(CASES[name])
