"""Counts of `FlopCounterMode` beside PyTorch's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

import gradient
from gradient.errors import ArgumentError

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.parity, pytest.mark.cpu_only]

MODELS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "MLP": (lambda nn: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4, bias=False)),
            (5, 8)),
    "MLP of rows": (lambda nn: nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)),
                    (5, 7, 8)),
    "CNN": (lambda nn: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, dilation=2), nn.Flatten(), nn.Linear(128, 3)), (2, 3, 16, 16)),
    "depthwise": (lambda nn: nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6, padding=1)), (2, 3, 8, 8)),
    "transposed": (lambda nn: nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 8, 3, groups=2, stride=2)), (2, 3, 8, 8)),
    "Conv1d": (lambda nn: nn.Conv1d(3, 4, 3), (2, 3, 9)),
    "Conv3d": (lambda nn: nn.Conv3d(3, 4, 3), (2, 3, 5, 6, 7)),
    "ConvTranspose1d": (lambda nn: nn.ConvTranspose1d(3, 4, 3), (2, 3, 9)),
    "no rows": (lambda nn: nn.Linear(3, 4), (0, 3)),
}  # fmt: skip


def counted(t: Any, run: Callable[[], Any]) -> dict[str, int]:
    package = "torch" if t is torch else "gradient"
    made = importlib.import_module(f"{package}.utils.flop_counter").FlopCounterMode(display=False)
    with made:
        run()
    counts = made.get_flop_counts().get("Global", {})
    assert made.get_total_flops() == sum(counts.values())
    return {str(name).replace("aten.", ""): flops for name, flops in counts.items() if flops}


@pytest.mark.parametrize("mode", ["forward", "backward", "backward to the input", "no_grad"])
@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, mode: str) -> None:
    make, shape = MODELS[name]

    def found(t: Any) -> dict[str, int]:
        model, x = make(t.nn), t.ones(shape, requires_grad=mode == "backward to the input")

        def run() -> None:
            with t.set_grad_enabled(mode != "no_grad"):
                y = model(x)
            if "backward" in mode:
                y.sum().backward()

        return counted(t, run)

    assert found(gradient) == found(torch)


PRODUCTS: dict[str, Callable[[Any], Any]] = {
    "mm": lambda t: t.ones(4, 5) @ t.ones(5, 6),
    "bmm": lambda t: t.ones(3, 4, 5) @ t.ones(3, 5, 6),
    "batch and matrix": lambda t: t.ones(3, 4, 5) @ t.ones(5, 6),
    "broadcast": lambda t: t.ones(2, 1, 4, 5) @ t.ones(3, 5, 2),
    "einsum": lambda t: t.einsum("bij,bjk->bik", t.ones(3, 4, 5), t.ones(3, 5, 2)),
    "tensordot": lambda t: t.tensordot(t.ones(3, 4, 5), t.ones(3, 5, 2), dims=([2], [1])),
    "nothing": lambda t: t.ones(3).exp().sum(),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str) -> None:
    ours, theirs = (counted(t, lambda t=t: PRODUCTS[name](t)) for t in (gradient, torch))
    assert ours == theirs


def test_transformer_layers() -> None:
    """PyTorch's CPU kernel for attention is not counted: with weights it computes products."""
    totals = []
    for t in (gradient, torch):
        attend = t.nn.MultiheadAttention(16, 2, batch_first=True)
        x = t.ones(2, 5, 16)
        run = lambda attend=attend, x=x: attend(x, x, x)[0].sum().backward()  # noqa: E731
        totals.append(sum(counted(t, run).values()))
    assert totals[0] == totals[1]
    q = gradient.ones(2, 3, 5, 8, requires_grad=True)
    attention = gradient.nn.functional.scaled_dot_product_attention
    found = counted(gradient, lambda: attention(q, q, q).sum().backward())
    product = 2 * 2 * 3 * 5 * 5 * 8
    assert sorted(found.values()) == [2 * product, 5 * product]


def test_display_and_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    mode: Any = importlib.import_module("gradient.utils.flop_counter").FlopCounterMode
    with mode() as counter:
        gradient.ones(100, 100) @ gradient.ones(100, 100)
    assert "2,000,000" in capsys.readouterr().out and "Total" in counter.get_table()
    with counter, pytest.raises(ValueError):
        gradient.ones(2, 3) @ gradient.ones(2, 3)
    assert counter.get_total_flops() == 0
    with pytest.raises(ArgumentError, match="custom_mapping"):
        mode(custom_mapping={1: 2})
