"""`load(map_location=dict)` beside PyTorch's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gradient

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.parity, pytest.mark.cpu_only]


@pytest.mark.parametrize("devices", [{"cpu": "meta"}, {"cuda:0": "cpu"}, {}, {"cpu": "cpu"}])
def test_a_dict_of_devices(tmp_path: Path, devices: Any) -> None:
    value = {"w": torch.ones(2, 3), "more": [torch.zeros(0), 3]}
    torch.save(value, tmp_path / "a.pt")
    theirs = torch.load(tmp_path / "a.pt", map_location=devices)
    ours = gradient.load(tmp_path / "a.pt", map_location=devices)
    gradient.save({"w": gradient.ones(2, 3)}, tmp_path / "a.safetensors")
    third = gradient.load(tmp_path / "a.safetensors", map_location=devices)
    assert str(ours["w"].device) == str(theirs["w"].device) == str(third["w"].device)
    assert str(ours["more"][0].device) == str(theirs["more"][0].device) and ours["more"][1] == 3


@pytest.mark.parametrize("value", [5, 1.5, [1], {"cpu": 5}])
def test_other_values_are_refused(tmp_path: Path, value: Any) -> None:
    gradient.save({"w": gradient.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(TypeError, match="load: expected map_location, a device, a dict"):
        gradient.load(tmp_path / "a.safetensors", map_location=value)
