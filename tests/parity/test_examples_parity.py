"""The scripts of examples/ under PyTorch with nothing but their import lines changed.

The two packages draw different random numbers from one seed, so a script's whole run is compared by
what it reaches. Given the same weights and the same batches, the losses are compared step by step.
"""

from __future__ import annotations

import ast

import numpy as np
import pytest

from examples import under_torch

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", under_torch.PORTED)
def test_only_import_lines_differ(name):
    source = (under_torch.EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    ported = under_torch.torch_source(source)
    for ours, theirs in zip(source.splitlines(), ported.splitlines(), strict=True):
        if ours != theirs:
            statement = ast.parse(theirs).body[0]
            assert isinstance(statement, (ast.Import, ast.ImportFrom))


@pytest.mark.parametrize(
    ("name", "arguments", "below"),
    [
        ("spiral_mlp", ["--steps", "300"], 0.1),
        ("char_gpt", ["--steps", "100", "--width", "32", "--layers", "2", "--block", "32"], 2.8),
        ("digits_cnn", ["--steps", "120", "--channels", "8", "--lr", "0.05"], 1.6),
        ("names_mlp", ["--steps", "300"], 2.2),
    ],
)
def test_both_packages_learn_as_much(name, arguments, below):
    reached = {}
    for package in ("gradient", "torch"):
        losses = under_torch.load(name, package).main(arguments)["losses"]
        reached[package] = sum(losses[-10:]) / 10
    assert reached["gradient"] < below
    assert reached["torch"] < below


def test_own_op_agrees():
    results = [
        under_torch.load("own_op", package).main(["--steps", "300"])
        for package in ("gradient", "torch")
    ]
    for result in results:
        assert (result["right"], result["wrong"]) == (True, False)
        assert abs(result["below"] - 0.9) < 0.02


def test_char_gpt_follows_torch_on_tiny_shakespeare(real_data):
    """The same weights, data and seed: each loss within 1e-3 of the other's."""
    text = (real_data("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")
    ours = under_torch.load("char_gpt")
    theirs = under_torch.load("char_gpt", "torch")
    import torch

    import gradient

    torch.manual_seed(0)
    sizes = {"vocab_size": len(set(text)), "block_size": 64, "layers": 3, "heads": 4, "width": 96}
    their_model = theirs.GPT(theirs.GPTConfig(**sizes))
    our_model = ours.GPT(ours.GPTConfig(**sizes))
    weights = their_model.state_dict()
    our_model.load_state_dict(
        {name: gradient.tensor(weight.numpy()) for name, weight in weights.items()}
    )
    with torch.no_grad():
        ids = torch.arange(64)[None]
    np.testing.assert_allclose(
        our_model(gradient.arange(64)[None])[0].detach().numpy(),
        their_model(ids)[0].detach().numpy(),
        rtol=1e-4,
        atol=1e-5,
    )

    options = {"steps": 60, "batch_size": 16, "lr": 1e-3, "log_every": 0}
    their_losses = theirs.train(their_model, theirs.CharText(text, seed=0), **options)
    our_losses = ours.train(our_model, ours.CharText(text, seed=0), **options)
    assert our_losses[-1] < 3.0 < our_losses[0]
    np.testing.assert_allclose(our_losses, their_losses, rtol=0, atol=1e-3)
