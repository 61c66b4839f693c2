"""Results lie in row-major order where PyTorch's do, so that scripts can `view` them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import gradient
import gradient.nn.functional as F
from gradient import Tensor

AT, TO = gradient.tensor([0, 2]), gradient.tensor([1, 1])

RESULTS: dict[str, Callable[[Any], Tensor]] = {
    "x[:, i]": lambda x: x[:, AT],
    "x[:, i, j]": lambda x: x[:, AT, TO],
    "x[:, :, i, j]": lambda x: x[:, :, AT, TO],
    "x[:, i[:, None], j]": lambda x: x[:, AT[:, None], TO],
    "x[..., i]": lambda x: x[..., AT],
    "x[:, [0, 2]]": lambda x: x[:, [0, 2]],
    "x[:, None, i]": lambda x: x[:, None, AT],
    "x[0, :, i]": lambda x: x[0, :, AT],
    "x[:, 1, i]": lambda x: x[:, 1, AT],
    "x[:, mask]": lambda x: x[:, gradient.tensor([True, False, True])],
    "index_select": lambda x: x.index_select(1, AT),
    "repeat_interleave": lambda x: x.repeat_interleave(gradient.tensor([1, 0, 2]), 1),
    "cat": lambda x: gradient.cat([x.transpose(1, 2), x.transpose(1, 2)]),
    "softmax": lambda x: x.transpose(1, 2).softmax(-1),
    "softmax of 2": lambda x: x.transpose(1, 2).softmax(2),
    "log_softmax": lambda x: x.transpose(1, 2).log_softmax(1),
    "layer_norm": lambda x: F.layer_norm(x.transpose(2, 3), (4,)),
    "bicubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "pad replicate": lambda x: F.pad(x, (1, 1, 1, 1), "replicate"),
    "pad circular": lambda x: F.pad(x, (1, 1, 1, 1), "circular"),
    "masked_fill": lambda x: x.transpose(1, 2).masked_fill(x.transpose(1, 2) > 0, 0.0),
    "kthvalue": lambda x: x.kthvalue(1, 1)[0],
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, gradient.ones(3, 2, 3, 3), padding=1),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_contiguous(name):
    x = gradient.randn(2, 3, 4, 5)
    out = RESULTS[name](x)
    assert out.is_contiguous() and out.view(-1).shape == (out.numel(),)
    again = RESULTS[name](x.clone().requires_grad_())
    assert gradient.equal(again, out) and again.is_contiguous()
    again.sum().backward()


GRADIENTS: dict[str, Callable[[Any], Tensor]] = {
    "conv2d": lambda x: F.conv2d(x, gradient.ones(2, 3, 3, 3), padding=1, stride=2),
    "pad": lambda x: F.pad(x, (1, 1, 1, 1)),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (2, 3)),
    "cross_entropy": lambda x: F.cross_entropy(x, gradient.zeros(2, 4, 5, dtype=gradient.int64)),
    "cumsum": lambda x: x.cumsum(1),
    "flip": lambda x: x.flip(1),
    "mean": lambda x: x.mean((0, 2)),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_contiguous(name, create_graph):
    """A gradient penalty views them."""
    x = gradient.randn(2, 3, 4, 5, requires_grad=True)
    out = (GRADIENTS[name](x) ** 2).sum()
    (g,) = gradient.autograd.grad(out, x, create_graph=create_graph)
    assert g.view(2, -1).shape == (2, 60) and g.requires_grad is create_graph
    if create_graph:
        ((g.view(2, -1).norm(2, dim=1) - 1) ** 2).mean().backward()
        assert x.grad.shape == x.shape
