"""`size_average` and `reduce`, the arguments that losses had before `reduction`."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.nn import functional as F

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")


def takers(module: Any) -> list[str]:
    """Names of what takes `size_average` in PyTorch and is public here."""
    names = []
    for name in dir(module):
        kind = getattr(module, name)
        if name[0] == "_" or not callable(kind) or name == "NLLLoss2d":
            continue
        try:
            if "size_average" in inspect.signature(kind).parameters:
                names.append(name)
        except (TypeError, ValueError):
            continue
    return names


COMBINATIONS = [
    {key: value for key, value in (("size_average", mean), ("reduce", reduce)) if value != "absent"}
    for mean in ("absent", None, False, True)
    for reduce in ("absent", None, False, True)
]


@pytest.mark.parametrize("name", takers(torch.nn))
@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
def test_layers_have_pytorchs_reduction(name: str, options: dict[str, Any]) -> None:
    found = []
    for package in (torch.nn, nn):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            layer = getattr(package, name)(**options)
        found.append((layer.reduction, [each.category for each in caught]))
    assert found[0] == found[1]


def arguments(package: Any, name: str) -> list[Any]:
    """Arguments that every argument check of the function passes."""
    torch.manual_seed(0)
    x, y = torch.rand(4, 3).double(), torch.rand(4, 3).double()
    signs = torch.tensor([1, -1, 1, -1])
    given = {
        "cosine_embedding_loss": [x, y, signs],
        "cross_entropy": [x, torch.tensor([0, 2, 1, 1])],
        "margin_ranking_loss": [x[:, 0], y[:, 0], signs],
        "multi_margin_loss": [x, torch.tensor([0, 2, 1, 1])],
        "multilabel_margin_loss": [
            x,
            torch.tensor([[0, -1, 1], [2, 1, -1], [1, 0, 2], [-1, 0, 1]]),
        ],
        "nll_loss": [x, torch.tensor([0, 2, 1, 1])],
        "triplet_margin_loss": [x, y, x * y],
    }.get(name, [x, y])
    return given if package is torch else [gradient.tensor(each.numpy()) for each in given]


@pytest.mark.parametrize("name", takers(torch.nn.functional))
@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
def test_functions_have_pytorchs_values(name: str, options: dict[str, Any]) -> None:
    found = []
    for package, functions in ((torch, torch.nn.functional), (gradient, F)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            out = getattr(functions, name)(*arguments(package, name), **options)
        legacy = [each for each in caught if "size_average" in str(each.message)]
        found.append((tuple(out.shape), out.tolist(), len(legacy)))
    assert found[0][::2] == found[1][::2]
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-12)


BY_POSITION = [
    {"size_average": mean, "reduce": reduce}
    for mean in (None, False, True)
    for reduce in (None, False, True)
]


def by_position(function: Any, start: int, given: dict[str, Any]) -> list[Any]:
    """The arguments from `start` to `reduce` in PyTorch's signature: those given, and defaults."""
    parameters = list(inspect.signature(function).parameters.values())
    stop = [p.name for p in parameters].index("reduce") + 1
    return [given.get(p.name, p.default) for p in parameters[start:stop]]


@pytest.mark.parametrize("name", takers(torch.nn.functional))
@pytest.mark.parametrize("given", BY_POSITION, ids=str)
def test_functions_take_them_by_position(name: str, given: dict[str, Any]) -> None:
    found = []
    for package, functions in ((torch, torch.nn.functional), (gradient, F)):
        tensors = arguments(package, name)
        further = by_position(getattr(torch.nn.functional, name), len(tensors), given)
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            out = getattr(functions, name)(*tensors, *further)
        found.append((tuple(out.shape), out.tolist()))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-12)


@pytest.mark.parametrize("name", takers(torch.nn))
@pytest.mark.parametrize("given", BY_POSITION, ids=str)
def test_layers_take_them_by_position(name: str, given: dict[str, Any]) -> None:
    further = by_position(getattr(torch.nn, name), 0, given)
    found = []
    for package in (torch.nn, nn):
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            found.append(getattr(package, name)(*further).reduction)
    assert found[0] == found[1]


def test_a_reduction_in_the_place_of_size_average_is_refused() -> None:
    """PyTorch takes it for True: the mean."""
    x = gradient.ones(2)
    expected = "expected a bool as size_average, argument 3, got 'sum'; name the argument: reduc"
    with pytest.raises(ValueError, match=f"mse_loss: {expected}"):
        F.mse_loss(x, x, "sum")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="L1Loss: expected a bool as size_average, argument 1"):
        nn.L1Loss("sum")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        F.mse_loss(x, x, False, None, "sum", None, 3)  # type: ignore[call-arg, arg-type]


def test_the_warning_points_at_the_call_and_unknown_keywords_are_refused() -> None:
    x = gradient.ones(2)
    with pytest.warns(UserWarning, match="use reduction='sum' instead") as caught:
        F.mse_loss(x, x, size_average=False)  # type: ignore[call-arg]
    assert caught[0].filename == __file__
    with pytest.raises(TypeError, match="average"):
        F.mse_loss(x, x, average=False)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"MSELoss.__init__\(\) got .* 'average'"):
        nn.MSELoss(average=False)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="size_average"):
        nn.HuberLoss(size_average=False)  # type: ignore[call-arg]
