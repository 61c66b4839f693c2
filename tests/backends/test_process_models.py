"""Whole models on devices in another process: GPT-2 and LLaMA load, write and train as on the CPU.

On the example plugin, and on MLX where it is installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

import gradient
import gradient.functional as F
from gradient import backends, hub, nn, optim
from support.array_backends import PROOFS
from support.paths import GOLDEN

HAS_MLX = importlib.util.find_spec("mlx") is not None
PLACES = [
    "process",
    pytest.param("metal", marks=pytest.mark.skipif(not HAS_MLX, reason='extra "metal" absent')),
]
pytestmark = pytest.mark.cpu_only
assert "process" in PROOFS  # the example plugin's device


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param
    backends.get(request.param).synchronize()  # no error is left for the next test


@pytest.mark.parametrize("name", ["gpt2_tiny", "llama_tiny/llama"])
def test_greedy_tokens_are_those_of_the_cpu(name: str, place: str) -> None:
    def written(device: str) -> list[list[int]]:
        lm = hub.load(GOLDEN / name, device=device)
        assert str(lm.model.device) == device
        prompts = [[5, 3, 8], [7, 1, 4, 9, 2]]
        options = {"max_new_tokens": 16, "temperature": 0, "ignore_eos": True}
        return [lm.generate(prompt, **options).token_ids for prompt in prompts]

    assert written(place) == written("cpu")


@pytest.mark.parametrize("name", ["gpt2_tiny", "llama_tiny/llama"])
def test_ten_training_steps_have_the_losses_of_the_cpu(name: str, place: str) -> None:
    def losses(device: str) -> list[float]:
        gradient.manual_seed(0)
        model = hub.load(GOLDEN / name, device=device, dtype="float32").model.train()
        optimizer = optim.AdamW(model.parameters(), lr=1e-3)
        tokens = gradient.randint(0, model.config.vocab_size, (4, 13)).to(device)
        found = []
        for _ in range(10):
            optimizer.zero_grad()
            logits = model(tokens[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            found.append(loss.item())
        return found

    assert losses(place) == pytest.approx(losses("cpu"), abs=1e-4)
