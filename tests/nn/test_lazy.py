"""Lazy layers. What they compute is compared with PyTorch's in tests/parity/test_module_db.py."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import gradient
from gradient import nn
from gradient.errors import ArgumentError, ShapeError, StateDictError

LAYERS = [
    (nn.LazyLinear, (5,), (2, 3), "in_features", 3),
    (nn.LazyConv1d, (4, 3), (2, 6, 7), "in_channels", 6),
    (nn.LazyConv2d, (4, 3), (6, 7, 7), "in_channels", 6),
    (nn.LazyConv3d, (4, 2), (1, 3, 4, 4, 4), "in_channels", 3),
    (nn.LazyConvTranspose1d, (4, 3), (2, 6, 7), "in_channels", 6),
    (nn.LazyConvTranspose2d, (4, 3), (2, 6, 7, 7), "in_channels", 6),
    (nn.LazyConvTranspose3d, (4, 2), (1, 3, 4, 4, 4), "in_channels", 3),
    (nn.LazyBatchNorm1d, (), (4, 3), "num_features", 3),
    (nn.LazyBatchNorm2d, (), (4, 3, 2, 2), "num_features", 3),
    (nn.LazyBatchNorm3d, (), (4, 3, 2, 2, 2), "num_features", 3),
    (nn.LazyInstanceNorm1d, (), (4, 3, 5), "num_features", 3),
    (nn.LazyInstanceNorm2d, (), (3, 5, 5), "num_features", 3),
    (nn.LazyInstanceNorm3d, (), (4, 3, 2, 2, 2), "num_features", 3),
]


@pytest.mark.parametrize(("kind", "args", "shape", "name", "features"), LAYERS)
def test_a_lazy_layer_becomes_its_layer(
    kind: Any, args: Any, shape: Any, name: str, features: int
) -> None:
    lazy = kind(*args, dtype=gradient.float64)
    assert lazy.has_uninitialized_params() and getattr(lazy, name) == 0
    kept = dict(lazy.named_parameters())
    x = gradient.randn(shape, dtype=gradient.float64)
    result = lazy(x)
    assert type(lazy) is kind.cls_to_become and getattr(lazy, name) == features
    assert all(value is kept[key] for key, value in lazy.named_parameters())  # an optimiser's, too
    options = {"affine": True, "track_running_stats": True} if "Norm" in kind.__name__ else {}
    made = kind.cls_to_become(features, *args, dtype=gradient.float64, **options)
    wanted = {key: value.shape for key, value in made.state_dict().items()}
    assert {key: value.shape for key, value in lazy.state_dict().items()} == wanted
    made.load_state_dict(
        {k: v for k, v in lazy.state_dict().items() if "running" not in k and "num_" not in k},
        strict=False,
    )
    assert gradient.allclose(made(x), result)
    lazy(x).sum().backward()
    assert all(p.grad is not None for p in lazy.parameters())


def test_before_the_first_input_there_are_no_shapes() -> None:
    lazy = nn.LazyLinear(2)
    assert repr(lazy.weight) == "<UninitializedParameter>"
    with pytest.raises(ArgumentError, match="call the layer once"):
        lazy.weight.shape  # noqa: B018
    assert copy.deepcopy(lazy)(gradient.ones(1, 3)).shape == (1, 2)
    assert lazy.has_uninitialized_params()
    with pytest.raises(ShapeError, match="LazyConv2d: expected 3 or 4 dimensions"):
        nn.LazyConv2d(2, 3)(gradient.ones(2, 2))
    double = nn.LazyLinear(2).double()
    assert double(gradient.ones(1, 3, dtype=gradient.float64)).dtype == gradient.float64


def test_state_dicts_give_shapes() -> None:
    """As in PyTorch: a lazy layer takes any shape, and one without shapes loads into such alone."""
    lazy, made = nn.Sequential(nn.LazyLinear(2)), nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(StateDictError, match="got one of a lazy layer"):
        made.load_state_dict(lazy.state_dict())
    lazy.load_state_dict(nn.Sequential(nn.LazyLinear(2)).state_dict())
    assert lazy[0].has_uninitialized_params()
    lazy.load_state_dict(made.state_dict())
    x = gradient.randn(4, 3)
    assert gradient.allclose(lazy(x), made(x))


def test_buffers_by_their_class() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept = nn.Buffer(gradient.zeros(2))
            self.passing = nn.Buffer(gradient.ones(1), persistent=False)

    counter = Counter()
    assert [name for name, _ in counter.named_buffers()] == ["kept", "passing"]
    assert list(counter.state_dict()) == ["kept"]
    assert counter.double().kept.dtype == gradient.float64


def test_sync_batch_norm_on_one_process() -> None:
    plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.BatchNorm1d(4)))
    x = gradient.randn(5, 3)
    plain(x)
    wanted = copy.deepcopy(plain)(x)
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    assert [type(m).__name__ for m in synchronized.modules()].count("SyncBatchNorm") == 2
    assert gradient.equal(synchronized(x), wanted)
    assert list(synchronized.state_dict()) == list(plain.state_dict())
