"""Each script of examples/ runs and learns; under PyTorch the same file must too (tests/parity)."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

import gradient
from examples import under_torch
from support import fake_device

SCRIPTS = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.parity] * (path.stem == "under_torch"))
    for path in sorted(under_torch.EXAMPLES.glob("*.py"))
]


def mean(losses):
    return sum(losses) / len(losses)


@pytest.fixture(autouse=True)
def _own_device():
    """A script makes its device the default one."""
    yield
    gradient.set_default_device(None)


def test_spiral_mlp_separates_the_arms(device):
    result = under_torch.load("spiral_mlp").main(["--device", device, "--steps", "300"])
    assert mean(result["losses"][-20:]) < 0.1
    assert result["accuracy"] > 0.95


def test_char_gpt_learns_and_writes(device):
    result = under_torch.load("char_gpt").main(
        [
            "--device",
            device,
            "--steps",
            "100",
            "--width",
            "32",
            "--layers",
            "2",
            "--block",
            "32",
            "--sample",
            "20",
        ]
    )
    assert result["losses"][0] > 4.0  # about ln(88), the alphabet's size: nothing known yet
    assert mean(result["losses"][-10:]) < 2.8
    assert len(result["text"]) == 21


def test_char_gpt_with_dropout_and_short_prompt(device):
    result = under_torch.load("char_gpt").main(
        [
            "--device",
            device,
            "--steps",
            "3",
            "--width",
            "16",
            "--layers",
            "1",
            "--block",
            "8",
            "--dropout",
            "0.5",
        ]
    )
    assert all(loss < 6 for loss in result["losses"])


def test_digits_cnn_learns_and_survives_saving(tmp_path, device):
    result = under_torch.load("digits_cnn").main(
        [
            "--device",
            device,
            "--steps",
            "120",
            "--channels",
            "8",
            "--lr",
            "0.05",
            "--out",
            str(tmp_path / "digits"),
        ]
    )
    assert mean(result["losses"][-10:]) < 1.6
    assert result["accuracy"] > 0.5
    assert result["restored_accuracy"] == result["accuracy"]


def test_names_mlp_learns_spelling(device):
    result = under_torch.load("names_mlp").main(["--device", device, "--steps", "300"])
    assert result["losses"][0] > 2.8  # about ln(27)
    assert mean(result["losses"][-20:]) < 2.2
    assert all(word == "" or word.isalpha() for word in result["words"])


def test_bars_vae_learns_and_draws(device):
    result = under_torch.load("bars_vae").main(["--device", device, "--steps", "400"])
    assert result["losses"][0] > 44  # about 64 ln 2: each pixel is a coin
    assert mean(result["losses"][-20:]) < 24
    assert all(set(image) <= set("#.\n") and len(image) == 71 for image in result["images"])


def test_ring_gan_reaches_the_ring(device):
    result = under_torch.load("ring_gan").main(["--device", device, "--steps", "600"])
    assert result["distance"] < 0.4
    assert result["reached"] >= 6


def test_cartpole_reinforce_learns_to_balance(device):
    lengths = under_torch.load("cartpole_reinforce").main(["--device", device, "--steps", "25"])[
        "lengths"
    ]
    assert lengths[0] < 40
    assert mean(lengths[-3:]) > 100


def test_own_op_tells_the_right_gradient_from_the_wrong_one(device):
    result = under_torch.load("own_op").main(["--device", device, "--steps", "300"])
    assert result["right"] is True
    assert result["wrong"] is False
    assert abs(result["below"] - 0.9) < 0.02


SMALL = {
    "char_gpt": "--batch 2 --block 8 --layers 1 --width 16 --sample 2",
    "digits_cnn": "--batch 4 --channels 4",
    "bars_vae": "--batch 4",
    "ring_gan": "--batch 8",
    "cartpole_reinforce": "--episodes 2",
}
"""What makes scripts quick on the stand-in for a GPU, where each thread of a kernel is a fiber."""


@pytest.mark.slow
@pytest.mark.cpu_only
@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels")
@pytest.mark.parametrize("name", [name for name in under_torch.PORTED if name != "own_op"])
def test_a_script_needs_only_be_told_of_a_gpu(name):
    """All but own_op, most of which is gradcheck's many calls."""
    with fake_device.as_cuda():
        losses = {}
        for device in ("cpu", "cuda"):
            arguments = ["--device", device, "--steps", "2", *SMALL.get(name, "").split()]
            result = under_torch.load(name).main(arguments)
            losses[device] = result.get("losses", result.get("lengths"))
            gradient.set_default_device(None)
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS)
def test_runs_as_a_script_with_nothing_on_stderr(path):
    arguments = {
        "bpe_from_scratch": ["--merges", "5"],
        "micrograd_style": [],
        "under_torch": ["spiral_mlp", "--steps", "2"],
    }
    steps = arguments.get(path.stem, ["--steps", "2"])
    done = subprocess.run(
        [sys.executable, path, *steps], capture_output=True, text=True, timeout=300, check=False
    )
    compiling = "compiling kernels, cached for later runs\n"  # on a machine that has none yet
    assert (done.returncode, done.stderr.replace(compiling, "")) == (0, "")


def test_digits_cnn_reads_mnist(real_data, device):
    arguments = ["--device", device, "--steps", "60", "--channels", "8", "--lr", "0.05"]
    result = under_torch.load("digits_cnn").main(["--data", str(real_data("mnist")), *arguments])
    assert result["accuracy"] > 0.8


def test_micrograd_style_finds_the_gradients_that_backward_finds():
    for by_hand, by_engine in under_torch.load("micrograd_style").main().values():
        assert by_hand == pytest.approx(by_engine, rel=1e-12)


def test_bpe_from_scratch_agrees_with_the_library(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat and the hat: that's naïve, isn't it?  日本 12 12\n" * 30, "utf-8")
    for arguments in (["--merges", "60"], ["--merges", "40", "--text", str(text)]):
        result = under_torch.load("bpe_from_scratch").main(arguments)
        assert result["same"]
        assert result["tokens"] < 0.7 * result["characters"]
        assert abs(result["trained"] - result["tokens"]) <= 0.01 * result["tokens"]
