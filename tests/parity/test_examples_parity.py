"""The scripts of examples/ under PyTorch with nothing but their import lines changed.

The two packages draw different random numbers from one seed, so a script's whole run is compared by
what it reaches. Given the same weights and the same batches, the losses are compared step by step.
"""

from __future__ import annotations

import ast
import importlib

import numpy as np
import pytest

from examples import under_torch

pytestmark = pytest.mark.parity


@pytest.fixture(autouse=True)
def _own_devices():
    """A script makes its device the default one; with one, PyTorch's `l1_loss` drops its weight."""
    yield
    for package in ("gradient", "torch"):
        importlib.import_module(package).set_default_device(None)


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


@pytest.mark.parametrize(
    ("name", "arguments", "of", "low", "high"),
    [
        ("bars_vae", ["--steps", "400"], "losses", 0, 24),
        ("cartpole_reinforce", ["--steps", "25"], "lengths", 100, 200),
    ],
)
def test_both_packages_reach_as_much(name, arguments, of, low, high):
    for package in ("gradient", "torch"):
        last = under_torch.load(name, package).main(arguments)[of][-5:]
        assert low <= sum(last) / 5 <= high, package


def test_ring_gan_reaches_the_ring_under_both():
    for package in ("gradient", "torch"):
        result = under_torch.load("ring_gan", package).main(["--steps", "600"])
        assert result["distance"] < 0.4, package


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def integers(seed, high, *shape):
    return np.random.default_rng(seed).integers(0, high, shape)


def points_and_labels(seed):
    return numbers(seed, 64, 2), integers(seed, 3, 64)


def ring_models(module):
    return module.nn.ModuleList([module.network(module.NOISE, 2), module.network(2, 1)])


def ring_loss(module, models, real, noise):
    """Both losses: with one optimiser, each network's gradient is of both."""
    made = models[0](noise)
    return module.discriminator_loss(models[1], real, made) + module.generator_loss(models[1], made)


def gpt(module):
    sizes = {"vocab_size": 20, "block_size": 16, "layers": 2, "heads": 2, "width": 16}
    return module.GPT(module.GPTConfig(**sizes))


# name: the model, its loss for a batch, and the batch of a step, as NumPy arrays.
TRAINED = {
    "spiral_mlp": (
        lambda module: module.MLP(3),
        lambda module, model, x, y: module.F.cross_entropy(model(x), y),
        points_and_labels,
    ),
    "char_gpt": (
        gpt,
        lambda module, model, x, y: module.F.cross_entropy(model(x).flatten(0, 1), y.flatten()),
        lambda seed: (integers(seed, 20, 4, 16), integers(seed + 1, 20, 4, 16)),
    ),
    "digits_cnn": (
        lambda module: module.ConvNet(4),
        lambda module, model, x, y: module.F.cross_entropy(model(x), y),
        lambda seed: (numbers(seed, 8, 1, 28, 28), integers(seed, 10, 8)),
    ),
    "names_mlp": (
        lambda module: module.letter_mlp(4),
        lambda module, model, x, y: module.F.cross_entropy(model(x), y),
        lambda seed: (integers(seed, 27, 32, 4), integers(seed + 1, 27, 32)),
    ),
    "bars_vae": (
        lambda module: module.VAE(4),
        lambda module, model, x, noise: sum(module.negative_elbo(model, x, noise)),
        lambda seed: ((numbers(seed, 16, 64) > 0).astype(float), numbers(seed, 16, 4)),
    ),
    "ring_gan": (ring_models, ring_loss, lambda seed: (numbers(seed, 32, 2), numbers(seed, 32, 8))),
    "cartpole_reinforce": (
        lambda module: module.policy(),
        lambda module, *given: module.policy_loss(*given),
        lambda seed: (numbers(seed, 32, 4), integers(seed, 2, 32), numbers(seed + 1, 32)),
    ),
}


def test_every_example_that_trains_a_model_is_compared():
    assert {*TRAINED, "own_op"} == set(under_torch.PORTED)


@pytest.mark.parametrize("name", TRAINED)
def test_losses_follow_torch_in_float64(name):
    """The same weights and batches: 50 losses, each within 1e-5 of the other's."""
    import torch

    import gradient

    make, loss_of, batch = TRAINED[name]
    libraries = {"torch": torch, "gradient": gradient}
    modules = {package: under_torch.load(name, package) for package in libraries}
    models = {package: make(module).double() for package, module in modules.items()}
    models["gradient"].load_state_dict(
        {key: gradient.tensor(w.numpy()) for key, w in models["torch"].state_dict().items()}
    )
    losses = {package: [] for package in libraries}
    for package, model in models.items():
        for part in model.modules():
            if type(part).__name__.startswith("Dropout"):
                part.p = 0.0  # the two draw different numbers
        optimizer = libraries[package].optim.Adam(model.parameters(), lr=3e-3)
        for step in range(50):
            given = map(libraries[package].from_numpy, batch(step))
            loss = loss_of(modules[package], model, *given)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[package].append(loss.item())
    assert losses["gradient"][0] != losses["gradient"][-1]
    np.testing.assert_allclose(losses["gradient"], losses["torch"], rtol=0, atol=1e-5)


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
