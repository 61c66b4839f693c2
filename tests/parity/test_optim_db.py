"""PyTorch's own optimiser database: the options it tests go PyTorch's way, step by step."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import gradient

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
torch = pytest.importorskip("torch")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_optimizers import optim_db

ABSENT = {"SparseAdam": "there are no sparse gradients"}
"""Optimisers that gradient has not."""

STEPS = 6

ROUGH = {"LBFGS": 1e-6, "Muon": 1e-3}
"""How near relatively: LBFGS overshoots here, and Muon's iteration is in bfloat16."""


@pytest.fixture(autouse=True)
def precise_numbers() -> Any:
    """PyTorch keeps numbers of a parameter's state in the default dtype; we do not."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


CASES = [
    pytest.param(info, i, id=f"{info.optim_cls.__name__}-{sample.desc}".replace(" ", "_"))
    for info in optim_db
    if info.optim_cls.__name__ not in ABSENT
    for i, sample in enumerate(info.optim_inputs_func(device="cpu"))
]


def trained(package: Any, optimizer: Any, matrices: bool, options: dict[str, Any]) -> list[Any]:
    """Values after each step of a small regression. Muon takes matrices alone."""
    rng = np.random.default_rng(3)
    x, y, w, b = (package.tensor(rng.standard_normal(s)) for s in ((8, 4), (8, 3), (4, 3), (3,)))
    w, b = w.requires_grad_(), b.requires_grad_(not matrices)
    given = {
        k: package.tensor(v.item(), dtype=package.float64) if isinstance(v, torch.Tensor) else v
        for k, v in options.items()
    }
    made = optimizer([w] if matrices else [w, b], **given)
    found = []

    def closure() -> Any:
        made.zero_grad()
        loss = ((x @ w).tanh() + b - y).square().mean()
        loss.backward()
        return loss

    for _ in range(STEPS):
        made.step(closure)
        found += [w.detach().numpy().copy(), b.detach().numpy().copy()]
    return found


@pytest.mark.parametrize(("info", "number"), CASES)
def test_options_go_pytorchs_way(info: Any, number: int) -> None:
    options = info.optim_inputs_func(device="cpu")[number].kwargs
    name = info.optim_cls.__name__
    theirs = trained(torch, info.optim_cls, name == "Muon", options)
    ours = trained(gradient, getattr(gradient.optim, name), name == "Muon", options)
    for mine, wanted in zip(ours, theirs, strict=True):
        nearness = ROUGH.get(name, 1e-9) * max(float(np.abs(wanted).max()), 1.0)
        np.testing.assert_allclose(mine, wanted, rtol=0, atol=nearness)


def test_what_is_absent_is_known() -> None:
    names = {info.optim_cls.__name__ for info in optim_db}
    assert {name for name in names if not hasattr(gradient.optim, name)} == ABSENT.keys()
    with pytest.raises(AttributeError, match="gradients are dense: use optim.Adam"):
        gradient.optim.SparseAdam  # noqa: B018
