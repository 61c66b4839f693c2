"""A trained model that we did not train: minGPT's gpt-nano, which sorts six digits of 0, 1 and 2.

llm-viz stores its weights and, for three inputs, what every stage of the forward pass should give.
"""

from __future__ import annotations

import base64
import itertools
import json

import numpy as np
import pytest

import gradient
from gradient.generation import generate
from gradient.io import safetensors
from gradient.models import load_model

LAYERS, HEADS, LENGTH = 3, 3, 6


def stored_tensors(path):
    """The float32 arrays of one of llm-viz's JSON files, by name."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: np.frombuffer(base64.b64decode(value["data"]), "<f4").reshape(value["shape"])
        for name, value in content.items()
        if name != "config"
    }


@pytest.fixture(scope="module")
def stages(real_data):
    """What each stage gives for the stored inputs `idx` (3, 11)."""
    return stored_tensors(real_data("llm_viz_nano_sort") / "gpt-nano-sort-t0-partials.json")


@pytest.fixture(scope="module")
def model(real_data, tmp_path_factory):
    """The model, loaded from a folder laid out as transformers would have."""
    weights = stored_tensors(real_data("llm_viz_nano_sort") / "gpt-nano-sort-model.json")
    folder = tmp_path_factory.mktemp("nano_sort")
    # Its linear layers are stored (out, in), a GPT-2 checkpoint's (in, out); masks are no weights.
    tensors = {
        name: gradient.tensor(value.T if ".c_" in name and value.ndim == 2 else value)
        for name, value in weights.items()
        if not name.endswith("attn.bias")
    }
    safetensors.save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "gpt2",
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_embd": 48,
        "vocab_size": 3,
        "n_positions": 2 * LENGTH - 1,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return load_model(folder)


def test_every_stage_gives_the_stored_activations(model, stages):
    outputs = {}

    def keep(name):
        return lambda module, inputs, output: outputs.__setitem__(name, output)

    first = model.transformer.h[0]
    watched = {
        "ln1": first.ln_1,
        "qkv": first.attn.c_attn,
        "yProj": first.attn.c_proj,
        "ln2": first.ln_2,
        "fc": first.mlp.c_fc,
        "mlp": first.mlp.c_proj,
        "block0": first,
        "block1": model.transformer.h[1],
        "block2": model.transformer.h[2],
        "ln_f": model.transformer.ln_f,
    }
    handles = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    with gradient.no_grad():
        outputs["lm_head"] = model(gradient.tensor(stages["idx"].astype(np.int64)))
    for handle in handles:
        handle.remove()
    outputs["probs"] = gradient.softmax(outputs["lm_head"], dim=-1)
    for name, output in outputs.items():
        np.testing.assert_allclose(
            output.numpy(), stages[name], rtol=1e-5, atol=1e-5, err_msg=f"stage {name}"
        )


def test_it_sorts_all_729_inputs(model):
    inputs = [list(digits) for digits in itertools.product(range(3), repeat=LENGTH)]
    outputs = generate(model, inputs, max_new_tokens=LENGTH)
    wrong = [
        digits
        for digits, output in zip(inputs, outputs, strict=True)
        if output.token_ids != sorted(digits)
    ]
    assert wrong == []
