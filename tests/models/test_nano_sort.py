"""A trained model from elsewhere: minGPT's gpt-nano that sorts six of three symbols.

Its weights and the activations of one forward pass come as JSON (llm_viz_nano_sort of the test
data).
"""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import gradient
from gradient.models import GPT2Config, GPT2LMHeadModel


def read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the config and the arrays (float32, base64) of one of the JSON files."""
    content = json.loads(path.read_text())
    config = content.pop("config")
    arrays = {
        name: np.frombuffer(base64.b64decode(entry["data"]), np.float32).reshape(entry["shape"])
        for name, entry in content.items()
    }
    return config, arrays


@pytest.fixture(scope="module")
def folder(real_data) -> Path:
    return real_data("llm_viz_nano_sort")


@pytest.fixture
def model(folder, device) -> GPT2LMHeadModel:
    values, arrays = read(folder / "gpt-nano-sort-model.json")
    config = GPT2Config(
        vocab_size=values["vocab_size"],
        n_positions=values["block_size"],
        n_embd=values["n_embd"],
        n_layer=values["n_layer"],
        n_head=values["n_head"],
        activation_function="gelu_new",
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    with gradient.nn.init.skip_init():
        model = GPT2LMHeadModel(config)
    # minGPT keeps its matrices as nn.Linear does: nothing to transpose.
    weights = {k: gradient.tensor(v) for k, v in arrays.items() if not k.endswith(".attn.bias")}
    model.load_state_dict(weights, assign=True)
    return model.to(device).eval()


def test_activations_are_the_stored_ones(model, folder, device):
    _, stored = read(folder / "gpt-nano-sort-t0-partials.json")
    seen: dict[str, np.ndarray] = {}

    def keep(name):
        def hook(module, args, output):
            seen[name] = output.detach().cpu().numpy()

        return hook

    body, block = model.transformer, model.transformer.h[0]
    places = {
        "tok_emb": body.wte,
        "x": body.drop,
        "ln1": block.ln_1,
        "qkv": block.attn.c_attn,
        "yProj": block.attn,
        "ln2": block.ln_2,
        "fc": block.mlp.c_fc,
        "mlp": block.mlp,
        "block0": body.h[0],
        "block1": body.h[1],
        "block2": body.h[2],
        "ln_f": body.ln_f,
        "lm_head": model,
    }
    for name, module in places.items():
        module.register_forward_hook(keep(name))
    inputs = gradient.tensor(stored["idx"].astype(np.int64), device=device)
    with gradient.no_grad():
        seen["probs"] = gradient.softmax(model(inputs), dim=-1).cpu().numpy()
        gelu = block.mlp.act(gradient.tensor(seen["fc"], device=device))
        seen["gelu"] = gelu.cpu().numpy()
    for name, activation in seen.items():
        np.testing.assert_allclose(activation, stored[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("cached", [True, False])
def test_it_sorts_every_input(model, cached):
    from gradient.generation import generate

    inputs = [list(symbols) for symbols in itertools.product(range(3), repeat=6)]
    assert len(inputs) == 729
    outputs = generate(model, inputs, max_new_tokens=6, use_cache=cached)
    assert [row.token_ids for row in outputs] == [sorted(symbols) for symbols in inputs]
