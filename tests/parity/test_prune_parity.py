"""Pruning: masks, products, gradients and state dicts are PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
pytest.importorskip("torch.nn.utils.prune")


def layers(kind: str = "Linear", *sizes: int) -> list[Any]:
    """The same layer of both, in float64."""
    made = []
    for package in (gradient, torch):
        layer = getattr(package.nn, kind)(*(sizes or (5, 6))).double()
        rng = np.random.default_rng(3)
        with package.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(package.tensor(rng.normal(size=tuple(parameter.shape))))
        made.append((package, layer))
    return made


def number_of(package: Any, values: Any) -> Any:
    return package.tensor(np.asarray(values), dtype=package.float64)


def scores(package: Any) -> Any:
    return number_of(package, np.random.default_rng(5).normal(size=(6, 5)))


def twice(p: Any, layer: Any) -> None:
    prune = p.nn.utils.prune
    prune.l1_unstructured(layer, "weight", 0.3)
    prune.ln_structured(layer, "weight", 0.5, n=1, dim=0)
    prune.l1_unstructured(layer, "weight", 4)


def by_a_mask(p: Any, layer: Any) -> None:
    mask = np.random.default_rng(7).integers(0, 2, (6, 5))
    p.nn.utils.prune.custom_from_mask(layer, "weight", number_of(p, mask))
    p.nn.utils.prune.l1_unstructured(layer, "weight", 0.25)


ROWS: dict[str, Callable[[Any, Any], Any]] = {
    "identity": lambda p, m: p.nn.utils.prune.identity(m, "weight"),
    "l1, a share": lambda p, m: p.nn.utils.prune.l1_unstructured(m, "weight", amount=0.35),
    "l1, a number": lambda p, m: p.nn.utils.prune.l1_unstructured(m, "weight", amount=7),
    "l1, nothing": lambda p, m: p.nn.utils.prune.l1_unstructured(m, "weight", amount=0),
    "l1, all": lambda p, m: p.nn.utils.prune.l1_unstructured(m, "weight", amount=1.0),
    "l1 by scores": lambda p, m: p.nn.utils.prune.l1_unstructured(
        m, "weight", 0.5, importance_scores=scores(p)
    ),
    "the bias": lambda p, m: p.nn.utils.prune.l1_unstructured(m, "bias", 3),
    "rows by 2-norm": lambda p, m: p.nn.utils.prune.ln_structured(m, "weight", 0.4, n=2, dim=0),
    "columns by 1-norm": lambda p, m: p.nn.utils.prune.ln_structured(m, "weight", 2, n=1, dim=1),
    "columns by maximum": lambda p, m: p.nn.utils.prune.ln_structured(
        m, "weight", 2, n=float("inf"), dim=-1
    ),
    "rows by scores": lambda p, m: p.nn.utils.prune.ln_structured(
        m, "weight", 3, n=2, dim=0, importance_scores=scores(p)
    ),
    "three in turn": twice,
    "a mask, then l1": by_a_mask,
}


@pytest.mark.parametrize("name", ROWS)
def test_masks_products_and_gradients(name: str) -> None:
    found = []
    for package, layer in layers():
        ROWS[name](package, layer)
        x = number_of(package, np.random.default_rng(1).normal(size=(4, 5)))
        layer(x).square().sum().backward()
        shown = {key: value.detach().numpy().copy() for key, value in layer.state_dict().items()}
        shown |= {f"grad of {key}": p.grad.numpy() for key, p in layer.named_parameters()}
        assert package.nn.utils.prune.is_pruned(package.nn.Sequential(layer))
        pruned = [key.removesuffix("_mask") for key in layer.state_dict() if key.endswith("_mask")]
        for each in pruned:
            package.nn.utils.prune.remove(layer, each)
        assert not package.nn.utils.prune.is_pruned(layer)
        shown |= {f"{key} at last": p.detach().numpy() for key, p in layer.named_parameters()}
        found.append(shown)
    assert found[0].keys() == found[1].keys()
    for key, expected in found[1].items():
        np.testing.assert_allclose(found[0][key], expected, rtol=1e-12, err_msg=key)


def test_several_modules_as_one() -> None:
    found = []
    for at in range(2):
        (package, first), (_, second) = layers()[at], layers("Conv1d", 3, 4, 2)[at]
        prune = package.nn.utils.prune
        prune.l1_unstructured(first, "weight", 5)
        pairs = [(first, "weight"), (second, "weight"), (second, "bias")]
        given = {(first, "weight"): scores(package)}
        prune.global_unstructured(pairs, prune.L1Unstructured, given, amount=0.5)
        found.append([m.state_dict()[f"{name}_mask"].numpy() for m, name in pairs])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_by_chance() -> None:
    """How much is pruned, and that what is left is pruned next."""
    for package, layer in layers():
        prune = package.nn.utils.prune
        prune.random_unstructured(layer, "weight", 0.4)
        assert int(layer.weight_mask.sum()) == 18
        prune.random_unstructured(layer, "weight", 5)
        assert int(layer.weight_mask.sum()) == 13
        prune.remove(layer, "weight")
        prune.random_structured(layer, "weight", 2, dim=1)
        assert sorted(layer.weight_mask.sum(0).tolist()) == [0, 0, 6, 6, 6]


def test_state_dicts() -> None:
    (_, ours), (_, theirs) = layers()
    for package, layer in ((gradient, ours), (torch, theirs)):
        package.nn.utils.prune.l1_unstructured(layer, "weight", 0.5)
    state = {key: gradient.tensor(value.numpy()) for key, value in theirs.state_dict().items()}
    (_, again), _ = layers()
    gradient.nn.utils.prune.identity(again, "weight")
    again.load_state_dict(state)
    x = gradient.ones(1, 5, dtype=gradient.float64)
    expected = theirs(torch.ones(1, 5, dtype=torch.float64)).detach().numpy()
    np.testing.assert_allclose(again(x).detach().numpy(), expected)
    gradient.nn.utils.prune.remove(again, "weight")
    assert gradient.nn.utils.prune.is_pruned(ours)


class EveryOther:
    """What a script adds: a method of its own."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        mask = default_mask.clone()
        mask.view(-1)[::2] = 0
        return mask


def test_a_method_of_the_users() -> None:
    found = []
    for package, layer in layers():
        base = package.nn.utils.prune.BasePruningMethod
        method = type("EveryOther", (EveryOther, base), {})
        method.apply(layer, "weight")
        method.apply(layer, "weight")
        found.append(layer.weight_mask.numpy())
        values = np.arange(1.0, 31.0).reshape(6, 5)
        found.append(method().prune(number_of(package, values)).numpy())
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], found[3])


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda u, m, p: u.l1_unstructured(m, "weight", -1), ValueError),
        (lambda u, m, p: u.l1_unstructured(m, "weight", 1.5), ValueError),
        (lambda u, m, p: u.l1_unstructured(m, "weight", 31), ValueError),
        (lambda u, m, p: u.l1_unstructured(m, "weight", "a"), TypeError),
        (lambda u, m, p: u.l1_unstructured(m, "wieght", 1), AttributeError),
        (lambda u, m, p: u.ln_structured(m, "bias", 1, 2, 0), ValueError),
        (lambda u, m, p: u.ln_structured(m, "weight", 1, 2, 2), IndexError),
        (lambda u, m, p: u.remove(m, "weight"), ValueError),
        (lambda u, m, p: u.global_unstructured(3, u.L1Unstructured, amount=1), TypeError),
        (
            lambda u, m, p: u.global_unstructured(
                [(m, "weight")], u.LnStructured, amount=1, n=2, dim=0
            ),
            TypeError,
        ),
        (lambda u, m, p: u.global_unstructured([(m, "weight")], u.L1Unstructured, 3, amount=1),
         TypeError),
    ],
)  # fmt: skip
def test_what_both_refuse(call: Any, kind: type[Exception]) -> None:
    for package, layer in layers():
        with pytest.raises(kind):
            call(package.nn.utils.prune, layer, package)
        assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}
