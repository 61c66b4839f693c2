"""Each family of models decodes by recorded steps on a GPU's stand-in as on the CPU."""

from __future__ import annotations

import shutil

import pytest

from gradient.generation import generate
from support.fake_device import DEVICE
from support.families import FAMILIES, random_model

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_decodes_by_replay(family: str) -> None:
    model, options = random_model(family), {"max_new_tokens": 50, "temperature": 0, "compile": True}
    [expected] = generate(model, [[3, 5, 7]], **options)
    [found] = generate(model.to(DEVICE), [[3, 5, 7]], **options)
    assert found.token_ids == expected.token_ids
