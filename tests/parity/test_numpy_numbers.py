"""NumPy's scalars are numbers: what a function makes of np.float64(2) is of the tensor's dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

Call = Callable[[Any, Any, Any], Any]
"""(package, functional, number) -> a tensor."""


def ramp(package: Any, *shape: int) -> Any:
    values = (np.arange(np.prod(shape)) % 7 - 3.0).reshape(shape)
    return package.tensor(values, dtype=package.float32)


NUMBERS: dict[str, Call] = {
    "0-d mul": lambda t, F, v: ramp(t, 3).sum() * v,
    "0-d rmul": lambda t, F, v: v * t.tensor(3.0),
    "loss": lambda t, F, v: F.mse_loss(ramp(t, 3), t.ones(3)) * v,
    "int mul": lambda t, F, v: t.ones(2, dtype=t.int64) * v,
    "bool add": lambda t, F, v: t.ones(2, dtype=t.bool) + v,
    "where": lambda t, F, v: t.where(ramp(t, 3) > 0, v, ramp(t, 3)),
    "where of numbers": lambda t, F, v: t.where(ramp(t, 3) > 0, v, 0.0),
    "full": lambda t, F, v: t.full((2,), v),
    "clamp": lambda t, F, v: ramp(t, 3).clamp(-v, v),
    "clamp_": lambda t, F, v: ramp(t, 3).clamp_(max=v),
    "clamp_max": lambda t, F, v: t.clamp_max(ramp(t, 3), v),
    "addcmul": lambda t, F, v: t.addcmul(ramp(t, 3), ramp(t, 3), ramp(t, 3), value=v),
    "addcdiv": lambda t, F, v: t.addcdiv(ramp(t, 3), ramp(t, 3), ramp(t, 3) + 9, value=v),
    "var": lambda t, F, v: ramp(t, 5).var(correction=v),
    "quantile": lambda t, F, v: ramp(t, 4).quantile(v / 4),
    "nanquantile": lambda t, F, v: ramp(t, 4).nanquantile(v / 4),
    "trapezoid": lambda t, F, v: t.trapezoid(ramp(t, 5), dx=v),
    "leaky_relu": lambda t, F, v: F.leaky_relu(ramp(t, 3), v),
    "LeakyReLU": lambda t, F, v: t.nn.LeakyReLU(v)(ramp(t, 3)),
    "elu": lambda t, F, v: F.elu(ramp(t, 3), v),
    "celu": lambda t, F, v: F.celu(ramp(t, 3), v),
    "rrelu": lambda t, F, v: F.rrelu(ramp(t, 3), v / 4, v / 2),
    "softplus": lambda t, F, v: F.softplus(ramp(t, 3), beta=v),
    "layer_norm": lambda t, F, v: F.layer_norm(ramp(t, 2, 4), (4,), eps=v),
    "rms_norm": lambda t, F, v: F.rms_norm(ramp(t, 2, 4), (4,), eps=v),
    "group_norm": lambda t, F, v: F.group_norm(ramp(t, 2, 4, 3), 2, eps=v),
    "instance_norm": lambda t, F, v: F.instance_norm(ramp(t, 2, 3, 4), eps=v),
    "batch_norm": lambda t, F, v: F.batch_norm(ramp(t, 4, 3), None, None, training=True, eps=v),
    "BatchNorm1d": lambda t, F, v: t.nn.BatchNorm1d(3, eps=v, affine=False)(ramp(t, 4, 3)),
    "normalize": lambda t, F, v: F.normalize(ramp(t, 2, 3), p=v, eps=v),
    "cross_entropy": lambda t, F, v: F.cross_entropy(
        ramp(t, 2, 3), t.tensor([0, 1]), label_smoothing=v / 4
    ),
    "smooth_l1_loss": lambda t, F, v: F.smooth_l1_loss(ramp(t, 3), t.zeros(3), beta=v),
    "huber_loss": lambda t, F, v: F.huber_loss(ramp(t, 3), t.zeros(3), delta=v),
    "attention": lambda t, F, v: F.scaled_dot_product_attention(*[ramp(t, 1, 2, 3)] * 3, scale=v),
    "interpolate": lambda t, F, v: F.interpolate(ramp(t, 1, 1, 3, 3), scale_factor=(v, v)),
}

SIZES: dict[str, Call] = {
    "sum": lambda t, F, v: ramp(t, 2, 2, 2).sum(v),
    "roll": lambda t, F, v: ramp(t, 3).roll(v),
    "conv": lambda t, F, v: F.conv2d(ramp(t, 1, 1, 5, 5), ramp(t, 1, 1, 2, 2), stride=v, padding=v),
    "Conv2d": lambda t, F, v: t.nn.Conv2d(v, 3, v).weight.detach() * 0 + 1,
    "avg_pool2d": lambda t, F, v: F.avg_pool2d(ramp(t, 1, 1, 4, 4), v),
    "divisor": lambda t, F, v: F.avg_pool2d(ramp(t, 1, 1, 4, 4), 2, divisor_override=v),
    "adaptive": lambda t, F, v: F.adaptive_avg_pool2d(ramp(t, 1, 1, 4, 4), (v, v)),
    "interpolate": lambda t, F, v: F.interpolate(ramp(t, 1, 1, 3, 3), scale_factor=v),
}


def agree(call: Call, value: Any) -> None:
    ours = call(gradient, gradient.nn.functional, value)
    theirs = call(torch, torch.nn.functional, value)
    assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int64, np.int32])
@pytest.mark.parametrize("call", NUMBERS.values(), ids=NUMBERS)
def test_a_number(call: Call, kind: Any) -> None:
    agree(call, kind(2))


@pytest.mark.parametrize("kind", [np.int64, np.int32])
@pytest.mark.parametrize("call", SIZES.values(), ids=SIZES)
def test_a_size(call: Call, kind: Any) -> None:
    agree(call, kind(2))
