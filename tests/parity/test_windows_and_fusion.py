"""`signal.windows`, and layers made one with the norms that follow them, under both packages."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402
from support.both_packages import assert_alike  # noqa: E402

NAMES = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine",
    "general_hamming", "hamming", "hann", "kaiser", "nuttall",
]  # fmt: skip
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "general_cosine": [{"a": [0.3, 0.4, 0.2]}, {"a": (1,)}, {"a": []}],
    "general_hamming": [{}, {"alpha": 0.7}],
    "gaussian": [{}, {"std": 2.5}, {"std": 0}],
    "exponential": [
        {},
        {"tau": 0.5},
        {"tau": 0},
        {"center": 1.0},
        {"center": 1.0, "sym": False},
    ],  # fmt: skip
    "kaiser": [{}, {"beta": 0}, {"beta": -1}],
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32"])
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_windows(name, sym, dtype):
    def windows(t: Any) -> Any:
        make = getattr(importlib.import_module(f"{t.__name__}.signal.windows"), name)
        given = {"a": [0.5, 0.5]} if name == "general_cosine" else {}
        found = [make(M, sym=sym, dtype=getattr(t, dtype), **given) for M in (0, 1, 2, 5, 8)]
        return tuple((w.double() * 1e4).round() for w in found)

    assert_alike(windows)


@pytest.mark.parametrize(
    ("name", "options"), [(name, each) for name, every in OPTIONS.items() for each in every]
)
def test_options_of_windows(name, options):
    def window(t: Any) -> Any:
        make = getattr(importlib.import_module(f"{t.__name__}.signal.windows"), name)
        return (make(6, dtype=t.float64, **options) * 1e6).round()

    assert_alike(window)


@pytest.mark.parametrize("options", [{"center": 1.0}, {"center": 1.0, "tau": 2.0}, {}])
def test_one_number_away_from_the_center(options):
    def window(t: Any) -> Any:
        make = importlib.import_module(f"{t.__name__}.signal.windows").exponential
        return make(1, sym=False, dtype=t.float64, **options)

    assert_alike(window)


@pytest.mark.parametrize("arguments", [(-1,), (2.5,), ("a",)])
def test_refused_sizes_of_windows(arguments):
    assert_alike(lambda t: importlib.import_module(f"{t.__name__}.signal.windows").hann(*arguments))


def test_windows_are_leaves():
    windows = importlib.import_module("gradient.signal.windows")
    assert windows.hann(3, requires_grad=True, layout=None).is_leaf


FUSED = {
    "Conv1d": ((4, 6, 3), {}, (2, 4, 9)),
    "Conv2d": ((4, 6, 3), {"groups": 2, "bias": False}, (2, 4, 8, 8)),
    "ConvTranspose2d": ((4, 6, 3), {}, (2, 4, 5, 5)),
    "Linear": ((4, 6), {}, (3, 4)),
}


@pytest.mark.parametrize(
    ("name", "affine"),
    # PyTorch has no linear layers with norms that have no weights.
    [(name, affine) for name in FUSED for affine in (True, False) if affine or name != "Linear"],
)
def test_fused_layers(name, affine):
    given, options, size = FUSED[name]
    rng = np.random.default_rng(0)
    dimensions = max(len(size) - 2, 1)

    def both(t: Any) -> Any:
        values = np.random.default_rng(1)
        layer = getattr(t.nn, name)(*given, **options).double().eval()
        norm = getattr(t.nn, f"BatchNorm{dimensions}d")(6, affine=affine).double().eval()
        with t.no_grad():
            for p in [*layer.parameters(), *norm.parameters(), *list(norm.buffers())[:2]]:
                p.copy_(t.tensor(values.uniform(0.5, 1.5, tuple(p.shape))))
        x = t.tensor(inputs)
        if name == "Linear":
            fused = t.nn.utils.fuse_linear_bn_eval(layer, norm)
        else:
            fused = t.nn.utils.fuse_conv_bn_eval(layer, norm, name.startswith("ConvT"))
        apart = (fused(x) - norm(layer(x))).abs().max() < 1e-12
        return type(fused) is type(layer), fused is layer, apart, fused.weight, fused.bias

    inputs = rng.standard_normal(size)
    assert_alike(both)


@pytest.mark.parametrize("case", ["training", "sizes", "no class"])
def test_what_cannot_be_fused(case):
    def refused(t: Any) -> Any:
        layer, norm = t.nn.Linear(2, 3).eval(), t.nn.BatchNorm1d(2).eval()
        if case == "sizes":
            return t.nn.utils.fuse_linear_bn_eval(layer, norm)
        if case == "no class":
            return t.nn.utils.skip_init(dict)
        return t.nn.utils.fuse_linear_bn_eval(layer.train(), norm)

    with pytest.raises((AssertionError, RuntimeError)):
        refused(torch)
    with pytest.raises((ValueError, TypeError)):
        refused(gradient)


def test_norms_without_statistics_are_not_fused():
    norm = gradient.nn.BatchNorm1d(3, track_running_stats=False).eval()
    with pytest.raises(ValueError, match="a norm with running statistics"):
        gradient.nn.utils.fuse_linear_bn_eval(gradient.nn.Linear(2, 3).eval(), norm)  # type: ignore[attr-defined]


def test_layers_for_who_fills_them():
    made = gradient.nn.utils.skip_init(gradient.nn.Linear, 2, 3, dtype=gradient.float64)  # type: ignore[attr-defined]
    assert made.weight.dtype is gradient.float64 and made.weight.shape == (3, 2)
