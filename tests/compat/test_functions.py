"""Functions of PyTorch's package that stand elsewhere here."""

from __future__ import annotations

import pytest

import gradient
import gradient.nn.functional as F
from gradient.compat.tables import COPIES, FUNCTIONAL

ARGUMENTS = {
    "as_strided": ((2, 2), (1, 4)), "expand": ((2, 3, 4),), "narrow": (0, 1, 2),
    "permute": ((1, 0),), "select": (0, 1), "slice": (1, 1, 3), "split": (2,),
    "split_with_sizes": ([1, 2],), "transpose": (0, 1), "unfold": (1, 2, 1), "unsqueeze": (0,),
    "view": ((2, 6),),
}  # fmt: skip


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_what_views_show_in_memory_of_its_own(name):
    x = gradient.arange(12.0).reshape(3, 4).clone().requires_grad_()
    arguments = ARGUMENTS.get(name, ())
    copied = getattr(gradient, f"{name}_copy")(x, *arguments)
    views = {"alias": x.view_as, "slice": lambda *a: x[:, 1:3]}
    shown = views.get(name, getattr(x, name, None))(*((x,) if name == "alias" else arguments))
    pairs = zip(copied, shown, strict=True) if isinstance(copied, tuple) else [(copied, shown)]
    for copy, view in pairs:
        assert gradient.equal(copy, view) and copy.requires_grad is (name != "detach")
        with gradient.no_grad():
            copy.fill_(-1.0)
    assert x.min() == 0


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_functions_are_those_of_nn_functional(name):
    assert callable(getattr(gradient, name))


def test_older_arguments():
    x = gradient.arange(6.0).reshape(2, 3)
    assert gradient.constant_pad_nd(x, (1, 0), 7.0)[:, 0].tolist() == [7, 7]
    assert gradient.equal(gradient.dropout(x, p=0.5, train=False), x)
    assert gradient.equal(gradient.layer_norm(x, (3,), cudnn_enable=False), F.layer_norm(x, (3,)))
    assert [part.shape for part in gradient.unsafe_chunk(x, 2, 1)] == [(2, 2), (2, 1)]
    assert gradient.pdist(x).tolist() == pytest.approx([27**0.5])
    with pytest.raises(AttributeError, match="nothing_copy"):
        gradient.nothing_copy  # noqa: B018
