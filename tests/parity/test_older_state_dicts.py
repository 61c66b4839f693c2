"""State dicts of batch norms that were saved before there was a count of batches."""

from __future__ import annotations

from typing import Any

import pytest

import gradient

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


def outcome(g: Any, old: bool, strict: bool, version: int | None) -> Any:
    nn = g.nn
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3, momentum=None))
    model(g.ones(4, 2))
    state = dict(model.state_dict()) if version is None else model.state_dict()
    if version is not None:
        state._metadata["1"]["version"] = version
    if old:
        del state["1.num_batches_tracked"]
    model(g.ones(4, 2))
    try:
        keys = model.load_state_dict(state, strict=strict)
    except RuntimeError:
        return "refused"
    return list(keys.missing_keys), [int(model[i].num_batches_tracked) for i in (1, 2)]


@pytest.mark.parametrize("version", [None, 1, 2])
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("old", [True, False])
def test_a_missing_count_is_kept_as_it_is(old: bool, strict: bool, version: int | None) -> None:
    assert outcome(gradient, old, strict, version) == outcome(torch, old, strict, version)
