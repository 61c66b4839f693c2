"""Averages of weights are PyTorch's, and so are the rates of SWALR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.optim import swa_utils

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::UserWarning")]
torch = pytest.importorskip("torch")

AVERAGES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "mean": lambda s: {},
    "mean of buffers": lambda s: {"use_buffers": True},
    "moving": lambda s: {"avg_fn": s.get_ema_avg_fn(0.9)},
    "moving lists": lambda s: {"multi_avg_fn": s.get_ema_multi_avg_fn(0.9), "use_buffers": True},
    "mean of lists": lambda s: {"multi_avg_fn": s.get_swa_multi_avg_fn()},
    "own": lambda s: {"avg_fn": lambda mean, weight, count: 0.5 * mean + 0.5 * weight},
}


def averaged(p: Any, s: Any, options: dict[str, Any]) -> dict[str, Any]:
    model = p.nn.Sequential(p.nn.Linear(3, 2), p.nn.BatchNorm1d(2)).double()
    mean = s.AveragedModel(model, **options)
    for step in range(3):
        with p.no_grad():
            for k, value in enumerate(model.parameters()):
                value.copy_(
                    p.tensor(np.cos(np.arange(value.numel()) + step + k)).reshape(value.shape)
                )
        model(p.tensor(np.sin(np.arange(12.0) * (step + 1)).reshape(4, 3)))
        mean.update_parameters(model)
    batches = [p.tensor(np.sin(np.arange(12.0) * k).reshape(4, 3)) for k in (1, 2, 5)]
    result = {k: v.numpy() for k, v in mean.state_dict().items()}
    s.update_bn(batches, mean)
    return result | {f"{k} then": v.numpy() for k, v in mean.state_dict().items()}


@pytest.mark.parametrize("name", AVERAGES)
def test_averages(name: str) -> None:
    theirs = torch.optim.swa_utils
    found = averaged(gradient, swa_utils, AVERAGES[name](swa_utils))
    wanted = averaged(torch, theirs, AVERAGES[name](theirs))
    assert list(found) == list(wanted)
    # PyTorch's mean of lists divides 1 by the count in float32.
    rtol = 1e-6 if name == "mean of lists" else 1e-10
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, rtol=rtol, err_msg=key)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_rates(strategy: str, epochs: int) -> None:
    rates = []
    for p, s in ((gradient, swa_utils), (torch, torch.optim.swa_utils)):
        groups = [{"params": [p.ones(1)], "lr": 0.1}, {"params": [p.ones(1)], "lr": 0.5}]
        optimizer = p.optim.SGD(groups, lr=0.1)
        schedule = s.SWALR(optimizer, [0.05, 0.01], epochs, strategy)
        seen = [schedule.get_last_lr()]
        for _ in range(8):
            optimizer.step()
            schedule.step()
            seen.append(schedule.get_last_lr())
        rates.append(seen)
    np.testing.assert_allclose(*rates, rtol=1e-12)


def test_mistakes_raise() -> None:
    for p, s in ((torch, torch.optim.swa_utils), (gradient, swa_utils)):
        optimizer = p.optim.SGD([p.ones(1)], lr=0.1)
        for mistake in (
            lambda s=s: s.get_ema_avg_fn(1.5),
            lambda s=s, o=optimizer: s.SWALR(o, 0.1, -1),
            lambda s=s, o=optimizer: s.SWALR(o, 0.1, 3, "sine"),
            lambda s=s, o=optimizer: s.SWALR(o, [0.1, 0.2]),
        ):
            with pytest.raises(ValueError):
                mistake()
