"""Results of several tensors: named tuples of types that PyTorch names too."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import gradient

CALLS: dict[str, Callable[[Any], Any]] = {
    **{name: lambda x, name=name: getattr(x, name)(dim=0)
       for name in ("max", "min", "sort", "median", "nanmedian", "mode", "cummax", "cummin")},
    "topk": lambda x: x.topk(1), "kthvalue": lambda x: x.kthvalue(1), "frexp": gradient.frexp,
    "aminmax": gradient.aminmax, "slogdet": gradient.slogdet, "svd": gradient.svd,
    "qr": gradient.qr, "geqrf": gradient.geqrf,
    "linalg_svd": gradient.linalg.svd, "linalg_eigh": gradient.linalg.eigh,
    "linalg_slogdet": gradient.linalg.slogdet, "linalg_inv_ex": gradient.linalg.inv_ex,
    "histogram": lambda x: gradient.histogram(x, 2),
    "lu_unpack": lambda x: gradient.lu_unpack(*gradient.linalg.lu_factor(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_result_is_of_the_functions_type(name: str) -> None:
    result = CALLS[name](gradient.eye(2))
    assert type(result) is getattr(gradient.return_types, name) and isinstance(result, tuple)
    assert repr(result).startswith(f"gradient.return_types.{name}(\n{result._fields[0]}=tensor(")
    for same in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert type(same) is type(result) and repr(same) == repr(result)


@pytest.mark.parametrize("name", ["sort", "topk", "kthvalue", "median", "nanmedian", "max", "mode"])
def test_a_result_for_a_number_is_of_the_functions_type(name: str) -> None:
    call = getattr(gradient.tensor(1.5), name)
    result = call(1) if name in ("topk", "kthvalue") else call(dim=0)
    assert type(result).__name__ == name and result.values == 1.5 and result.indices == 0


@pytest.mark.parity
@pytest.mark.parametrize("name", CALLS)
def test_a_result_is_printed_as_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.return_types, name)
    assert theirs.__match_args__ == getattr(gradient.return_types, name)._fields


@pytest.mark.parity
def test_a_printed_result() -> None:
    torch = pytest.importorskip("torch")
    both = [repr(t.tensor([[3.0, 1.0], [2.0, 4.0]]).max(0)) for t in (torch, gradient)]
    assert both[0].replace("torch.", "gradient.") == both[1]
