"""Weight norm, spectral norm and parametrizations: values, gradients and state dicts are PyTorch's,
which load into each other."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.nn.utils import parametrizations, parametrize

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::FutureWarning")]
torch = pytest.importorskip("torch")


def utils(package: Any) -> Any:
    return package.nn.utils


ROWS: list[tuple[str, Callable[[Any], Any], tuple[int, ...]]] = [
    ("weight_norm", lambda p: utils(p).weight_norm(p.nn.Linear(3, 4)), (2, 3)),
    ("weight_norm over all", lambda p: utils(p).weight_norm(p.nn.Linear(3, 4), dim=None), (2, 3)),
    ("weight_norm of a convolution",
     lambda p: utils(p).weight_norm(p.nn.ConvTranspose1d(3, 4, 3), dim=1), (2, 3, 7)),
    ("spectral_norm", lambda p: utils(p).spectral_norm(p.nn.Linear(3, 4)), (2, 3)),
    ("spectral_norm of a convolution",
     lambda p: utils(p).spectral_norm(p.nn.Conv2d(3, 4, 3), n_power_iterations=3), (2, 3, 5, 5)),
    ("spectral_norm of a transposed convolution",
     lambda p: utils(p).spectral_norm(p.nn.ConvTranspose2d(3, 4, 3)), (2, 3, 5, 5)),
    ("parametrizations.weight_norm",
     lambda p: utils(p).parametrizations.weight_norm(p.nn.Linear(3, 4)), (2, 3)),
    ("parametrizations.weight_norm over all",
     lambda p: utils(p).parametrizations.weight_norm(p.nn.Conv1d(3, 4, 3), dim=None), (2, 3, 7)),
    ("parametrizations.spectral_norm",
     lambda p: utils(p).parametrizations.spectral_norm(p.nn.Conv1d(3, 4, 3)), (2, 3, 7)),
    *(
        (f"orthogonal {kind} of {outs} by {ins}",
         lambda p, ins=ins, outs=outs, kind=kind: utils(p).parametrizations.orthogonal(
             p.nn.Linear(ins, outs), orthogonal_map=kind), (2, ins))
        for kind in ("matrix_exp", "cayley", "householder", None)
        for ins, outs in ((3, 3), (3, 5), (5, 3))
    ),
    ("orthogonal kernels",
     lambda p: utils(p).parametrizations.orthogonal(p.nn.Conv1d(3, 4, 3)), (2, 3, 7)),
    ("orthogonal without a base",
     lambda p: utils(p).parametrizations.orthogonal(
         p.nn.Linear(3, 4), orthogonal_map="householder", use_trivialization=False), (2, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "build", "shape"), ROWS, ids=[row[0] for row in ROWS])
def test_norms(name: str, build: Callable[[Any], Any], shape: tuple[int, ...]) -> None:
    assert parametrizations and parametrize  # or `nn.utils` would have found PyTorch's names alone
    ours, theirs = build(gradient).double(), build(torch).double()
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict({key: gradient.tensor(value.numpy()) for key, value in state.items()})
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    x = np.random.default_rng(0).standard_normal(shape)
    for training in (True, True, False):
        ours.train(training), theirs.train(training)
        found, wanted = ours(gradient.tensor(x)), theirs(torch.tensor(x))
        np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol=1e-10)
        (found**2).sum().backward()
        (wanted**2).sum().backward()
    for (key, mine), (other_key, other) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert key == other_key
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-9, atol=1e-12)
    for (key, mine), (_, other) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-9, err_msg=key)


def test_the_old_norms_are_removed() -> None:
    for kind, remove in (("weight_norm", "remove_weight_norm"),
                         ("spectral_norm", "remove_spectral_norm")):  # fmt: skip
        for package in (gradient, torch):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                layer = getattr(utils(package), kind)(package.nn.Linear(3, 4))
                with pytest.raises(RuntimeError):
                    getattr(utils(package), kind)(layer)
                x = package.ones(1, 3)
                wanted = layer.eval()(x).detach().numpy()
                getattr(utils(package), remove)(layer)
                np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=1e-6)
                assert sorted(dict(layer.named_parameters())) == ["bias", "weight"]
                with pytest.raises(ValueError):
                    getattr(utils(package), remove)(layer)


@pytest.mark.parametrize(("outs", "ins"), [(3, 3), (5, 3), (3, 5)])
@pytest.mark.parametrize("start", [True, False], ids=["with a base", "without"])
@pytest.mark.parametrize("kind", ["matrix_exp", "cayley", "householder"])
def test_an_orthogonal_weight_is_assigned(kind: str, start: bool, outs: int, ins: int) -> None:
    values = np.linalg.qr(
        np.random.default_rng(0).standard_normal((max(outs, ins), min(outs, ins)))
    )
    matrix = values.Q if outs >= ins else values.Q.T

    def assigned(package: Any) -> Any:
        layer = package.nn.Linear(ins, outs).double()
        utils(package).parametrizations.orthogonal(layer, "weight", kind, use_trivialization=start)
        layer.weight = package.tensor(np.ascontiguousarray(matrix))
        return layer.weight.detach().numpy()

    if start or kind == "householder":
        np.testing.assert_allclose(assigned(gradient), matrix, atol=1e-10)
        np.testing.assert_allclose(assigned(torch), matrix, atol=1e-10)
    else:
        for package in (gradient, torch):
            with pytest.raises(NotImplementedError):
                assigned(package)


def test_an_orthogonal_weight_is_refused_by_name() -> None:
    orthogonal = parametrizations.orthogonal
    with pytest.raises(ValueError, match="a matrix"):
        orthogonal(gradient.nn.Linear(2, 2), "bias")
    with pytest.raises(ValueError, match="orthogonal_map one of"):
        orthogonal(gradient.nn.Linear(2, 2), orthogonal_map="qr")
    with pytest.raises(ValueError, match="that name"):
        orthogonal(gradient.nn.Linear(2, 2), "weights")
    layer = orthogonal(gradient.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="a matrix"):
        layer.weight = gradient.ones(3, 2)


def parametrized(package: Any) -> list[Any]:
    class Symmetric(package.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.triu() + x.triu(1).transpose(-1, -2)

        def right_inverse(self, x: Any) -> Any:
            return x.triu()

    class Double(package.nn.Module):
        def forward(self, x: Any) -> Any:
            return 2 * x

        def right_inverse(self, x: Any) -> Any:
            return x / 2

    class Wider(package.nn.Module):
        def forward(self, x: Any) -> Any:
            return package.cat([x, x])

    found: list[Any] = []
    tools = utils(package).parametrize
    layer = package.nn.Linear(3, 3).double()
    start = package.arange(9.0).reshape(3, 3).double()
    with package.no_grad():
        layer.weight.copy_(start)
    kind = type(layer)
    tools.register_parametrization(layer, "weight", Symmetric())
    found += [layer.weight.detach().numpy(), list(layer.state_dict()), repr(layer)]
    found += [type(layer).__name__, isinstance(layer, kind), tools.is_parametrized(layer)]
    tools.register_parametrization(layer, "weight", Double())
    found += [layer.weight.detach().numpy(), layer.parametrizations.weight.original.tolist()]
    layer(package.ones(2, 3).double()).sum().backward()
    found.append(layer.parametrizations.weight.original.grad.tolist())
    layer.weight = package.eye(3).double()
    found += [layer.weight.tolist(), [name for name, _ in layer.named_parameters()]]
    with tools.cached():
        found.append(layer.weight is layer.weight)
    found.append(layer.weight is layer.weight)
    found.append(tools.type_before_parametrizations(layer) is kind)
    for mistake in (
        lambda: tools.register_parametrization(layer, "absent", Double()),
        lambda: tools.register_parametrization(package.nn.Linear(2, 2), "weight", Wider()),
        lambda: tools.remove_parametrizations(layer, "bias"),
    ):
        with pytest.raises(ValueError):
            mistake()
    tools.remove_parametrizations(layer, "weight")
    found += [type(layer) is kind, layer.weight.tolist(), sorted(layer.state_dict())]
    tools.register_parametrization(layer, "bias", Double())
    before = layer.parametrizations.bias.original.tolist()
    tools.remove_parametrizations(layer, "bias", leave_parametrized=False)
    found.append(layer.bias.tolist() == before)
    return found


def test_parametrize() -> None:
    for found, wanted in zip(parametrized(gradient), parametrized(torch), strict=True):
        if isinstance(wanted, np.ndarray):
            np.testing.assert_allclose(found, wanted)
        else:
            assert found == wanted
