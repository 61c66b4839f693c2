"""Damaged checkpoints: each of 1,500 either loads and runs, or is refused in our words."""

from __future__ import annotations

import json
import random
from typing import NamedTuple

import pytest

import gradient
from gradient.checkpoints import load_model
from gradient.errors import GradientError
from support.paths import GOLDEN

pytestmark = [pytest.mark.slow, pytest.mark.cpu_only]


class Files(NamedTuple):
    """The content of config.json and of model.safetensors."""

    config: bytes
    weights: bytes

    @property
    def header_bytes(self) -> int:
        return int.from_bytes(self.weights[:8], "little")


VALUES = [
    0, -1, 1, 2, 3, 7, 10**6, 10**9, 10**18, 2**63, 0.5, 1e308, float("nan"), float("inf"),
    True, False, None, "", "x", "gelu_new", "9" * 50, [], [1], {},
]  # fmt: skip
DTYPES = ["F16", "BF16", "F64", "I32", "U8", "BOOL", "F8_E4M3", "no dtype"]


def other_values(draw: random.Random, files: Files) -> Files:
    config = json.loads(files.config)
    for _ in range(draw.randint(1, 3)):
        config[draw.choice(list(config))] = draw.choice(VALUES)
    return files._replace(config=json.dumps(config).encode())


def config_bytes(draw: random.Random, files: Files) -> Files:
    return files._replace(config=flipped(files.config, len(files.config), draw))


def header_bytes(draw: random.Random, files: Files) -> Files:
    return files._replace(weights=flipped(files.weights, 8 + files.header_bytes, draw))


def truncated(draw: random.Random, files: Files) -> Files:
    return files._replace(weights=files.weights[: draw.randrange(len(files.weights))])


def other_header(draw: random.Random, files: Files) -> Files:
    header = json.loads(files.weights[8 : 8 + files.header_bytes])
    name = draw.choice([name for name in header if name != "__metadata__"])
    change = draw.choice(["name", "shape", "dtype"])
    if change == "name":
        header[name + "x"] = header.pop(name)
    elif change == "shape":
        sizes = [draw.choice([1, 2, 32, 96, 10**9, -1]) for _ in range(draw.randint(0, 3))]
        header[name]["shape"] = sizes
    else:
        header[name]["dtype"] = draw.choice(DTYPES)
    text = json.dumps(header).encode()
    start = len(text).to_bytes(8, "little") + text
    return files._replace(weights=start + files.weights[8 + files.header_bytes :])


def flipped(data: bytes, end: int, draw: random.Random) -> bytes:
    """Return `data` with up to six of its first `end` bytes replaced."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        changed[draw.randrange(end)] = draw.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("name", ["gpt2_tiny", "mixtral_tiny", "bert_tiny"])
@pytest.mark.parametrize(
    "damage", [other_values, config_bytes, header_bytes, truncated, other_header]
)
def test_damaged_checkpoints(damage, name, tmp_path):
    names = "config.json", "model.safetensors"
    files = Files(*((GOLDEN / name / each).read_bytes() for each in names))
    draw = random.Random(damage.__name__)
    loaded = 0
    for _ in range(100):
        for each, content in zip(names, damage(draw, files), strict=True):
            (tmp_path / each).write_bytes(content)
        try:
            model = load_model(tmp_path)
            with gradient.no_grad():
                model(gradient.tensor([[0]]))
            loaded += 1
        except GradientError:
            pass
    assert loaded < 100
