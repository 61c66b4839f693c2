"""Damaged checkpoints: each of five hundred either loads and runs, or is refused in our words."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

import gradient
from gradient.errors import GradientError
from gradient.models import load_model

pytestmark = [pytest.mark.slow, pytest.mark.cpu_only]

GOLDEN = Path(__file__).parent / "golden" / "gpt2_tiny"
CONFIG = (GOLDEN / "config.json").read_bytes()
WEIGHTS = (GOLDEN / "model.safetensors").read_bytes()
HEADER_BYTES = int.from_bytes(WEIGHTS[:8], "little")

VALUES = [
    0, -1, 1, 2, 3, 7, 10**6, 10**9, 10**18, 2**63, 0.5, 1e308, float("nan"), float("inf"),
    True, False, None, "", "x", "gelu_new", "9" * 50, [], [1], {},
]  # fmt: skip
DTYPES = ["F16", "BF16", "F64", "I32", "U8", "BOOL", "F8_E4M3", "no dtype"]


def other_values(draw: random.Random) -> tuple[bytes, bytes]:
    config = json.loads(CONFIG)
    for _ in range(draw.randint(1, 3)):
        config[draw.choice(list(config))] = draw.choice(VALUES)
    return json.dumps(config).encode(), WEIGHTS


def config_bytes(draw: random.Random) -> tuple[bytes, bytes]:
    return flipped(CONFIG, len(CONFIG), draw), WEIGHTS


def header_bytes(draw: random.Random) -> tuple[bytes, bytes]:
    return CONFIG, flipped(WEIGHTS, 8 + HEADER_BYTES, draw)


def truncated(draw: random.Random) -> tuple[bytes, bytes]:
    return CONFIG, WEIGHTS[: draw.randrange(len(WEIGHTS))]


def other_header(draw: random.Random) -> tuple[bytes, bytes]:
    header = json.loads(WEIGHTS[8 : 8 + HEADER_BYTES])
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
    return CONFIG, len(text).to_bytes(8, "little") + text + WEIGHTS[8 + HEADER_BYTES :]


def flipped(data: bytes, end: int, draw: random.Random) -> bytes:
    """Return `data` with up to six of its first `end` bytes replaced."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        changed[draw.randrange(end)] = draw.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize(
    "damage", [other_values, config_bytes, header_bytes, truncated, other_header]
)
def test_damaged_checkpoints(damage, tmp_path):
    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    draw = random.Random(damage.__name__)
    loaded = 0
    for _ in range(100):
        config, weights = damage(draw)
        (tmp_path / "config.json").write_bytes(config)
        (tmp_path / "model.safetensors").write_bytes(weights)
        try:
            model = load_model(tmp_path)
            with gradient.no_grad():
                model(gradient.tensor([[0]]))
            loaded += 1
        except GradientError:
            pass
    assert loaded < 100
