"""Whole models trained under `gradient.compile`: the losses, gradients and parameters of eager."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import nn, optim
from gradient.models.gpt2 import GPT2Config, GPT2LMHeadModel
from gradient.models.llama import LlamaConfig, LlamaForCausalLM

pytestmark = pytest.mark.cpu_only

Batch = tuple[gradient.Tensor, gradient.Tensor]
VOCABULARY = 40


def gpt2() -> nn.Module:
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=16, n_embd=32, n_layer=2, n_head=2)
    return GPT2LMHeadModel(config)


def llama() -> nn.Module:
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=16,
    )  # fmt: skip
    return LlamaForCausalLM(config)


class ConvolutionThenEncoder(nn.Module):
    """Images: convolutions with batch norm, then a transformer encoder over what they leave."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        )  # fmt: skip
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, VOCABULARY)

    def forward(self, images: gradient.Tensor) -> gradient.Tensor:
        places = self.stem(images).flatten(2).transpose(1, 2)  # (B, H*W, 16)
        return self.head(self.encoder(places).mean(1))


MODELS = [gpt2, llama, ConvolutionThenEncoder]


def batches_for(model: nn.Module) -> list[Batch]:
    if isinstance(model, ConvolutionThenEncoder):
        return [
            (gradient.randn(3, 1, 8, 8), gradient.randint(0, VOCABULARY, (3,))) for _ in range(3)
        ]
    texts = [gradient.randint(0, VOCABULARY, (3, 13)) for _ in range(3)]
    return [(text[:, :-1].contiguous(), text[:, 1:].contiguous()) for text in texts]


def trained(
    make: Callable[[], nn.Module], steps: int, form: str, *, fuse: bool = False, rate: float = 1e-3
) -> tuple[list[float], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Train a model from one seed: the losses, the last gradients, and the state that it ends in.

    Args:
        form: "eager"; "function", which compiles the whole step; or "module", which compiles the
            model, and leaves the loss and the optimiser to eager execution.
    """
    gradient.manual_seed(7)
    model = make().train()
    data = batches_for(model)
    optimizer = optim.AdamW(model.parameters(), lr=rate)
    compiled: Any = None
    forward: Callable[[gradient.Tensor], gradient.Tensor] = model
    if form == "module":
        forward = compiled = gradient.compile(model, fullgraph=True, fuse=fuse)

    def step(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
        optimizer.zero_grad()
        out = forward(x)
        loss = F.cross_entropy(out.reshape(-1, VOCABULARY), y.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    run: Callable[..., gradient.Tensor] = step
    if form == "function":
        run = compiled = gradient.compile(step, fullgraph=True, fuse=fuse)
    losses = [run(*data[i % len(data)]).item() for i in range(steps)]
    if compiled is not None:
        (signature,) = compiled.signatures.values()
        assert signature.replays >= steps - 8, compiled.explain()
        if fuse:
            chains = re.search(r"(\d+) of them fused chains", compiled.explain())
            assert chains and int(chains[1]) > 0, compiled.explain()
    grads = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    state = {name: t.detach().numpy().copy() for name, t in model.state_dict().items()}
    return losses, grads, state


def assert_equal_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("form", ["function", "module"])
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_training_a_whole_model_has_the_bits_of_eager(make: Any, form: str) -> None:
    losses, grads, state = trained(make, 12, "eager")
    own_losses, own_grads, own_state = trained(make, 12, form)
    assert own_losses == losses
    assert_equal_bits(own_grads, grads)
    assert_equal_bits(own_state, state)


@pytest.mark.parametrize("form", ["function", "module"])
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_fusion_is_within_rounding_of_eager(make: Any, form: str) -> None:
    """The rate is 0, so that no step makes the rounding of those before it grow."""
    pytest.importorskip("numba")
    losses, grads, _ = trained(make, 12, "eager", rate=0.0)
    own_losses, own_grads, _ = trained(make, 12, form, fuse=True, rate=0.0)
    np.testing.assert_allclose(own_losses, losses, rtol=1e-6)
    largest = max(np.abs(grad).max() for grad in grads.values())
    for name, grad in grads.items():
        np.testing.assert_allclose(own_grads[name], grad, rtol=0, atol=1e-6 * largest, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["function", "module"])
def test_two_hundred_steps_have_the_losses_of_eager(form: str) -> None:
    losses, grads, state = trained(gpt2, 200, "eager")
    assert losses[-1] < losses[0] / 2  # it learns
    own_losses, own_grads, own_state = trained(gpt2, 200, form)
    assert own_losses == losses
    assert_equal_bits(own_grads, grads)
    assert_equal_bits(own_state, state)
