"""Mixtures of experts side by side with transformers: the auxiliary loss, and stacked experts."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient.checkpoints import load_model
from gradient.checkpoints.weight_names import module_name, split_weight
from gradient.io import load_file, save_file
from gradient.models.moe import record_routing
from support.transformers_models import torch, transformers

pytestmark = pytest.mark.parity

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "router_aux_loss_coef": 0.3,
}
EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
CONFIGS = {
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen2Moe": {**EXPERTS, "shared_expert_intermediate_size": 12},
    "Qwen3Moe": {**EXPERTS, "head_dim": 8, "norm_topk_prob": True, "mlp_only_layers": [1]},
}


@pytest.fixture(scope="module", params=CONFIGS)
def reference(request):
    torch.manual_seed(0)
    config = getattr(transformers, request.param + "Config")(**SHAPE, **CONFIGS[request.param])
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    reference.save_pretrained(path)
    return path


def close(actual, expected, tolerance=2e-5):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("masked", [False, True])
def test_the_loss_with_its_auxiliary_part_and_its_gradients(reference, folder, masked):
    ids = np.random.default_rng(0).integers(0, 61, (3, 17))
    mask = np.arange(17) < np.array([[17], [5], [11]]) if masked else np.ones((3, 17), bool)
    labels = np.where(mask, ids, -100)
    reference.train().zero_grad()
    given = torch.tensor(mask.astype(np.int64)) if masked else None
    theirs = reference(
        torch.tensor(ids),
        attention_mask=given,
        labels=torch.tensor(labels),
        output_router_logits=True,
    )
    theirs.loss.backward()

    ours = load_model(folder).train()
    with record_routing(ours) as routing:
        logits = ours(gradient.tensor(ids))[:, :-1]
    loss = F.cross_entropy(logits.flatten(0, 1), gradient.tensor(labels[:, 1:]).flatten())
    auxiliary = routing.load_balancing_loss(gradient.tensor(mask) if masked else None)
    loss = loss + ours.config.router_aux_loss_coef * auxiliary
    loss.backward()

    assert auxiliary.item() == pytest.approx(theirs.aux_loss.item(), rel=1e-5)
    assert loss.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    gradients = {name: p.grad.numpy() for name, p in ours.named_parameters()}
    expected = {
        module_name(ours, part, {}): grad.numpy()
        for name, p in reference.named_parameters()
        for part, grad in split_weight(ours, name, gradient.tensor(p.grad.numpy()))
    }
    assert gradients.keys() == expected.keys()
    for name, grad in expected.items():
        close(gradients[name], grad, 1e-4)


def test_experts_stacked_as_transformers_has_them_in_memory(reference, folder, tmp_path):
    state = {k: gradient.tensor(v.detach().numpy()) for k, v in reference.state_dict().items()}
    assert any(value.ndim == 3 for value in state.values())
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    stacked, apart = load_model(tmp_path), load_model(folder)
    assert stacked.state_dict().keys() == apart.state_dict().keys()
    assert set(load_file(folder / "model.safetensors")) == set(apart.state_dict())
    for name, value in apart.state_dict().items():
        assert np.array_equal(stacked.state_dict()[name].numpy(), value.numpy()), name
