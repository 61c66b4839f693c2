"""Phi-2 without its reference: caches, the parallel block, partial rotary positions, configs."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient.checkpoints import load_model, save_model
from gradient.errors import FileFormatError
from gradient.io.safetensors import save_file
from gradient.models import LlamaForCausalLM, PhiConfig

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "eos_token_id": 0,
}
MEMBERS = {
    "plain": {},
    "grouped": {"num_key_value_heads": 2, "partial_rotary_factor": 0.25},
    "normalised": {"qk_layernorm": True, "num_key_value_heads": 1, "tie_word_embeddings": True},
}


def build(device: str = "cpu", **changes):
    model = LlamaForCausalLM(PhiConfig.from_hf({**SHAPE, **changes})).to(device).eval()
    with gradient.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * gradient.randn_like(parameter))
    return model


@pytest.fixture(params=MEMBERS, ids=str)
def model(request, device):
    gradient.manual_seed(1)
    return build(device, **MEMBERS[request.param])


def close(actual, expected, tolerance=2e-5):
    """Compare by the largest difference, relative to the largest expected number."""
    actual, expected = (x.detach().cpu().float().numpy() for x in (actual, expected))
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def test_attention_and_mlp_read_the_same_norm(device):
    layer = build(device).model.layers[0]
    x = gradient.randn(1, 5, 32, device=device)
    rotate = build(device).model.rotary_emb["full_attention"](
        gradient.arange(5, device=device), x.dtype
    )
    with gradient.no_grad():
        y = layer.input_layernorm(x)
        close(layer(x, rotate, None), x + layer.self_attn(y, rotate, None) + layer.mlp(y), 1e-6)


@pytest.mark.parametrize(("factor", "turned"), [(None, 4), (0.5, 4), (0.25, 2), (1.0, 8)])
def test_a_part_of_each_head_is_turned(factor, turned):
    given = {} if factor is None else {"partial_rotary_factor": factor}
    rotary = build(**given).model.rotary_emb["full_attention"]
    x = gradient.randn(1, 4, 3, 8)  # (B, H, T, D)
    moved = (rotary(gradient.arange(3), x.dtype)(x) - x).abs().amax(dim=(0, 1, 2)).numpy() > 0
    assert moved.tolist() == [True] * turned + [False] * (8 - turned)


def test_dropouts_act_in_training_alone(device):
    model = build(device, resid_pdrop=0.5, embd_pdrop=0.5, attention_dropout=0.5)
    ids = gradient.randint(0, 61, (1, 9), device=device)
    with gradient.no_grad():
        assert gradient.equal(model(ids), model(ids))
        model.train()
        assert not gradient.equal(model(ids), model(ids))


def test_both_dialects_of_rotary_positions():
    old = PhiConfig.from_hf({**SHAPE, "partial_rotary_factor": 0.25, "rope_theta": 500.0})
    inner = {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.25}
    new = PhiConfig.from_hf({**SHAPE, "rope_parameters": inner})
    assert old == new
    written = old.to_hf()
    assert (written["partial_rotary_factor"], written["rope_theta"]) == (0.25, 500.0)
    assert "rms_norm_eps" not in written
    assert PhiConfig.from_hf(written).to_hf() == written
    for silent in ({}, {"rope_parameters": {"partial_rotary_factor": None}}):
        config = PhiConfig.from_hf({**SHAPE, **silent})
        assert config.rope_parameters["partial_rotary_factor"] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_norm_eps": 0.0}, "layer_norm_eps must be positive"),
        ({"resid_pdrop": 1.0}, "resid_pdrop must be a probability below 1"),
        ({"embd_pdrop": -0.1}, "embd_pdrop must be a probability below 1"),
        ({"qk_layernorm": "yes"}, "qk_layernorm must be bool"),
        ({"num_key_value_heads": 3}, "num_key_value_heads = 3 must divide"),
        ({"partial_rotary_factor": 0.0}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 1.5}, "the columns to rotate must make pairs"),
        ({"partial_rotary_factor": 3.5 / 8}, "an even number of head_dim = 8, got 3 columns"),
        ({"hidden_act": "swoosh"}, "hidden_act must be one of"),
    ],
)
def test_a_config_that_describes_no_model(changes, message):
    with pytest.raises(FileFormatError, match=message):
        PhiConfig.from_hf({**SHAPE, **changes})


def test_files(model, tmp_path):
    save_model(model, tmp_path)
    model = model.cpu()  # as what is loaded
    ids = gradient.tensor([[5, 6, 7, 8]])
    with gradient.no_grad():
        close(load_model(tmp_path)(ids), model(ids), 0)
    # As old versions of transformers wrote it: with a buffer, from the decoder without its prefix.
    state = dict(model.state_dict())
    state = {name.removeprefix("model."): value for name, value in state.items()}
    state["layers.0.self_attn.rotary_emb.inv_freq"] = gradient.zeros(2)
    save_file(state, tmp_path / "model.safetensors")
    with gradient.no_grad():
        close(load_model(tmp_path)(ids), model(ids), 0)
