"""Mixtures of experts: what is computed and what is not, what training needs, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import nn
from gradient.checkpoints import load_model, save_model
from gradient.errors import ArgumentError, FileFormatError, StateDictError
from gradient.generation import generate
from gradient.io import load_file, save_file
from gradient.models.llama import LlamaConfig, LlamaMLP
from gradient.models.moe import Router, SparseMoe, record_routing
from gradient.models.registry import config_class, model_class
from gradient.quantization import quantize_
from support.paths import GOLDEN

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "eos_token_id": 0,
    "num_experts_per_tok": 2,
}
FAMILIES = {
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": {"num_experts": 5, "moe_intermediate_size": 12,
                  "shared_expert_intermediate_size": 8},
    "qwen3_moe": {"num_experts": 5, "moe_intermediate_size": 12, "mlp_only_layers": [0]},
}  # fmt: skip


def build(model_type: str, device: str = "cpu", **changes):
    cls = model_class(model_type)
    values = {"model_type": model_type, **SHAPE, **FAMILIES[model_type], **changes}
    return cls(config_class(model_type).from_hf(values)).to(device).eval()


@pytest.fixture(params=FAMILIES)
def model(request, device):
    gradient.manual_seed(1)
    return build(request.param, device)


def mixture(experts: int = 5, top_k: int = 2, normalize: bool = True, **options) -> SparseMoe:
    gate = Router(8, experts, top_k=top_k, normalize=normalize)
    config = LlamaConfig(hidden_size=8, intermediate_size=6, num_attention_heads=2)
    return SparseMoe(gate, [LlamaMLP(config) for _ in range(experts)], F.silu, **options)


def all_of_them(moe: SparseMoe, x):
    """The mixture by its definition: every expert on every token, times its weight or 0."""
    p = F.softmax(moe.gate(x), -1)
    kept = p >= p.topk(moe.gate.top_k, -1)[0][..., -1:]
    weights = p * kept
    if moe.gate.normalize:
        weights = weights / weights.sum(-1, keepdim=True)
    return sum(weights[..., i : i + 1] * expert(x) for i, expert in enumerate(moe.experts))


def close(actual, expected, tolerance=2e-5):
    """Compare by the largest difference, relative to the largest expected number."""
    actual, expected = (x.detach().cpu().float().numpy() for x in (actual, expected))
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


# ---- the reference's numbers --------------------------------------------------------------------


@pytest.fixture(params=FAMILIES)
def golden(request) -> tuple[Path, dict]:
    folder = GOLDEN / f"{request.param}_tiny"
    return folder, json.loads((folder / "golden.json").read_text())


def test_logits_and_greedy_tokens_are_transformers(golden, device):
    folder, expected = golden
    model = load_model(folder, device=device)
    with gradient.no_grad():
        logits = model(gradient.tensor(expected["input_ids"], device=device))
    close(logits, gradient.tensor(expected["logits"]))
    written = generate(model, expected["prompts"], max_new_tokens=30, ignore_eos=True)
    assert [row.token_ids for row in written] == expected["greedy"]


def test_a_training_step_has_transformers_losses_and_gradients(golden, device):
    folder, expected = golden
    model = load_model(folder, device=device).train()
    ids = gradient.tensor(expected["input_ids"], device=device)
    with record_routing(model) as routing:
        logits = model(ids)[:, :-1]
    auxiliary = routing.load_balancing_loss()
    loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    loss = loss + model.config.router_aux_loss_coef * auxiliary
    loss.backward()
    assert auxiliary.item() == pytest.approx(expected["auxiliary_loss"], rel=2e-6)
    assert loss.item() == pytest.approx(expected["loss"], rel=2e-6)
    norms = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    assert norms == pytest.approx(expected["gradient_norms"], rel=5e-5, abs=1e-7)


# ---- what is computed ---------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_a_mixture_is_the_weighted_sum_of_the_chosen_experts(top_k, normalize, device):
    moe = mixture(top_k=top_k, normalize=normalize).to(device)
    x = gradient.randn(3, 7, 8, device=device, requires_grad=True)
    weights = gradient.randn(3, 7, 8, device=device)
    results = {}
    for name, function in (("sparse", moe), ("dense", lambda x: all_of_them(moe, x))):
        y = function(x)
        y.mul(weights).sum().backward()
        results[name] = [y, x.grad, *(p.grad for p in moe.parameters())]
        x.grad = None
        moe.zero_grad()
    for sparse, dense in zip(results["sparse"], results["dense"], strict=True):
        if top_k == 1 and normalize and sparse.shape == moe.gate.weight.shape:
            continue  # the one weight is 1, whatever the router says: its gradient is rounding
        close(sparse, dense)


def test_only_the_chosen_experts_compute(monkeypatch):
    moe = mixture(experts=8, top_k=2)
    x = gradient.randn(1, 3, 8)
    rows = []
    backend = x.backend
    linear = type(backend).linear

    def counted(be, x, weight, bias=None):
        rows.append((tuple(weight.shape), x.shape[0]))
        return linear(be, x, weight, bias)

    monkeypatch.setattr(type(backend), "linear", counted)
    with gradient.no_grad():
        moe(x)
    assert rows[0] == ((8, 8), 3)  # the router
    for shape, projections in (((6, 8), 2), ((8, 6), 1)):
        assert sum(n for size, n in rows[1:] if size == shape) == projections * 3 * 2
    assert all(n for _, n in rows)


def test_no_tokens_give_none(device):
    moe = mixture().to(device)
    x = gradient.zeros(2, 0, 8, device=device, requires_grad=True)
    y = moe(x)
    y.sum().backward()
    assert y.shape == (2, 0, 8) and x.grad.shape == (2, 0, 8)


def test_in_16_bits_the_weights_of_the_experts_are_those_of_float32(device):
    moe = mixture().to(device).bfloat16()
    x = gradient.randn(4, 8, device=device).bfloat16()
    weights, _ = moe.gate.choose(moe.gate(x))
    assert weights.dtype == gradient.float32
    assert (weights.sum(-1) - 1).abs().max().item() < 1e-6
    y = moe(x.unsqueeze(0))
    assert y.dtype == gradient.bfloat16
    close(y[0], all_of_them(moe.float(), x.float()), 2e-2)


@pytest.mark.parametrize(
    ("model_type", "rounded"), [("mixtral", False), ("qwen2_moe", True), ("qwen3_moe", True)]
)
def test_in_16_bits_qwens_mixtures_round_the_weights_and_mixtrals_do_not(
    model_type, rounded, device
):
    model = build(model_type, device).bfloat16()
    moe = next(module for module in model.modules() if isinstance(module, SparseMoe))
    x = gradient.randn(32, 16, device=device).bfloat16()
    weights, experts = moe.gate.choose(moe.gate(x))
    y, narrow = (moe.mix(x, w, experts) for w in (weights, weights.bfloat16()))
    assert y.dtype == gradient.bfloat16
    assert (y.tolist() == narrow.tolist()) is rounded


def test_jitter_is_for_training_only(device):
    moe = mixture(jitter=0.2).to(device)
    x = gradient.randn(2, 3, 8, device=device)
    with gradient.no_grad():
        assert (moe(x) != moe(x)).any().item()
        moe.eval()
        assert (moe(x) == moe(x)).all().item()


def test_which_layers_have_a_mixture():
    def sparse(**changes):
        layers = build("qwen3_moe", num_hidden_layers=4, **changes).model.layers
        return [isinstance(layer.mlp, SparseMoe) for layer in layers]

    assert sparse(mlp_only_layers=None) == [True] * 4
    assert sparse(mlp_only_layers=[1, 2]) == [True, False, False, True]
    assert sparse(mlp_only_layers=[3], decoder_sparse_step=2) == [False, True, False, False]
    assert sparse(num_experts=0) == [False] * 4


# ---- training -----------------------------------------------------------------------------------


def test_recorded_routing_counts_the_tokens_of_each_expert(model, device):
    ids = gradient.randint(0, 61, (3, 7), device=device)
    with gradient.no_grad(), record_routing(model) as routing:
        model(ids)
    routers = [module for module in model.modules() if isinstance(module, Router)]
    loads = routing.tokens_per_expert()
    assert loads.shape == (len(routers), routers[0].out_features)
    assert loads.dtype == gradient.int64
    assert loads.sum(1).tolist() == [3 * 7 * 2] * len(routers)
    for load, logits in zip(loads, routing.logits, strict=True):
        best = logits[0].argsort(-1, descending=True)[:, :2].flatten()
        assert load.tolist() == best.bincount(minlength=load.shape[0]).tolist()


def test_recording_ends_with_the_context_and_adds_up_within_it(model, device):
    ids = gradient.randint(0, 61, (2, 5), device=device)
    with gradient.no_grad():
        with record_routing(model) as routing:
            model(ids)
            once = routing.tokens_per_expert()
            model(ids)
            twice = routing.tokens_per_expert()
        model(ids)
    assert twice.tolist() == (2 * once).tolist() == routing.tokens_per_expert().tolist()
    assert all(len(logits) == 2 for logits in routing.logits)


def test_padding_counts_for_nothing(model, device):
    ids = gradient.randint(0, 61, (2, 6), device=device)
    mask = gradient.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], device=device)
    with gradient.no_grad():
        with record_routing(model) as padded:
            model(ids, lengths=[3, 6])
        with record_routing(model) as alone:
            model(ids[:1, :3])
            model(ids[1:])
    assert padded.tokens_per_expert(mask).tolist() == alone.tokens_per_expert().tolist()
    close(padded.load_balancing_loss(mask.bool()), alone.load_balancing_loss())
    with pytest.raises(ArgumentError, match=r"the 12 recorded tokens, got shape \(2, 5\)"):
        padded.load_balancing_loss(mask[:, :5])


def test_the_load_balancing_loss_is_the_formula_and_least_where_loads_are_equal(device):
    moe = mixture(experts=4, top_k=2).to(device)
    with record_routing(moe) as routing, gradient.no_grad():
        moe.gate.weight.zero_()
        moe.gate.weight[:, 0] = gradient.tensor([4.0, 3.0, 2.0, 1.0], device=device)
        x = gradient.zeros(1, 6, 8, device=device)
        x[..., 0] = 1.0
        moe(x)
    p = np.exp([4.0, 3, 2, 1]) / np.exp([4.0, 3, 2, 1]).sum()
    assert routing.load_balancing_loss().item() == pytest.approx(4 * (p[0] + p[1]), rel=1e-6)
    assert routing.z_loss().item() == pytest.approx(np.log(np.exp([4, 3, 2, 1]).sum()) ** 2)
    even = gradient.eye(4, device=device)
    with record_routing(moe) as routing, gradient.no_grad():
        moe.gate.weight[:, :4] = even + even.roll(1, 0)
        x = gradient.zeros(1, 4, 8, device=device)
        x[0, :, :4] = even
        moe(x)
    assert routing.tokens_per_expert().tolist() == [[2] * 4]
    assert routing.load_balancing_loss().item() == pytest.approx(2.0)


def test_the_auxiliary_loss_evens_the_loads_out(device):
    gradient.manual_seed(3)
    moe = mixture(experts=6, top_k=1, normalize=False).to(device)
    x = gradient.randn(1, 96, 8, device=device) + gradient.randn(8, device=device)
    optimizer = gradient.optim.SGD(moe.gate.parameters(), lr=0.5)
    largest = []
    for _ in range(60):
        with record_routing(moe) as routing:
            moe(x)
        largest.append(routing.tokens_per_expert().max().item())
        optimizer.zero_grad()
        routing.load_balancing_loss().backward()
        optimizer.step()
    assert largest[0] > 40
    assert largest[-1] < 24  # 16 each would be even


def test_what_cannot_be_recorded_is_said():
    with pytest.raises(ArgumentError, match="Linear has no mixture of experts in it"):
        record_routing(nn.Linear(2, 2))
    with (
        record_routing(mixture()) as routing,
        pytest.raises(ArgumentError, match="no tokens have passed the model"),
    ):
        routing.tokens_per_expert()


# ---- checkpoints --------------------------------------------------------------------------------


def test_files_have_a_tensor_for_each_matrix_of_each_expert(model, tmp_path, device):
    save_model(model, tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    layer = "model.layers.1."
    if model.config.model_type == "mixtral":
        expected = {f"block_sparse_moe.experts.3.w{i}.weight" for i in (1, 2, 3)}
        expected.add("block_sparse_moe.gate.weight")
    else:
        expected = {f"mlp.experts.4.{name}_proj.weight" for name in ("gate", "up", "down")}
        expected.add("mlp.gate.weight")
    assert {layer + name for name in expected} <= names
    again = load_model(tmp_path, device=device)
    ids = gradient.randint(0, 61, (1, 9), device=device)
    with gradient.no_grad():
        assert again(ids).tolist() == model(ids).tolist()


@pytest.mark.parametrize("key", ["num_experts", "num_local_experts"])
def test_stacked_experts_are_read_as_views(key, tmp_path):
    model = build("qwen3_moe")
    save_model(model, tmp_path)
    tensors = {k: v.clone() for k, v in load_file(tmp_path / "model.safetensors").items()}
    apart = {k: tensors.pop(k) for k in list(tensors) if ".experts." in k}
    prefix = "model.layers.1.mlp.experts."
    gate, up, down = (
        gradient.stack([apart[f"{prefix}{e}.{name}_proj.weight"] for e in range(5)])
        for name in ("gate", "up", "down")
    )
    tensors[prefix + "gate_up_proj"] = gradient.cat([gate, up], dim=1)
    tensors[prefix + "down_proj"] = down
    save_file(tensors, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    config[key] = config.pop("num_experts")
    (tmp_path / "config.json").write_text(json.dumps(config))
    stacked = load_model(tmp_path)
    assert stacked.config.num_experts == 5
    for name, value in apart.items():
        assert stacked.state_dict()[name].tolist() == value.tolist()
    experts = stacked.model.layers[1].mlp.experts
    backend = experts[0].up_proj.weight.backend
    owners = {id(backend.storage(e.up_proj.weight.array)) for e in experts}
    assert len(owners) == 1  # all of them lie in the file's own memory


def test_a_config_that_asks_for_more_experts_than_the_file_has_bytes(tmp_path):
    save_model(build("qwen3_moe"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_experts": 1 << 40}))
    with pytest.raises(StateDictError, match="2 layers of 1099511627776 experts"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("mixtral", {"num_local_experts": 1}, "from 1 to the number of experts, 1, got 2"),
        ("mixtral", {"num_experts": 0}, "num_local_experts must be at least 1, got 0"),
        ("mixtral", {"router_jitter_noise": 2.0}, "router_jitter_noise must be from 0 to 1"),
        ("mixtral", {"sliding_window": 0}, "sliding_window must be at least 1, got 0"),
        ("qwen3_moe", {"num_experts_per_tok": 9}, "from 1 to the number of experts, 5, got 9"),
        ("qwen3_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step must be at least 1, got 0"),
        ("qwen3_moe", {"mlp_only_layers": 3}, r"mlp_only_layers must be list\[int\] \| None"),
        ("qwen3_moe", {"num_experts": -1}, "num_experts must be at least 0, got -1"),
        ("qwen2_moe", {"moe_intermediate_size": 0}, "moe_intermediate_size must be at least 1"),
        ("qwen2_moe", {"shared_expert_intermediate_size": 0}, "shared_expert_intermediate_size"),
    ],
)
def test_configs_that_describe_no_mixture(model_type, changes, message):
    with pytest.raises(FileFormatError, match=message):
        build(model_type, **changes)


# ---- packed experts -----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["q8_0", "int4"])
def test_packed_experts_give_what_their_values_give(scheme, tmp_path, device):
    gradient.manual_seed(5)
    model = build("qwen3_moe", hidden_size=64, intermediate_size=96, moe_intermediate_size=32)
    save_model(quantize_(model, scheme), tmp_path / "packed")
    packed = load_model(tmp_path / "packed", device=device)
    weights = {k: v.dequantize() if v.dtype.is_packed else v for k, v in model.state_dict().items()}
    unpacked = build("qwen3_moe", hidden_size=64, intermediate_size=96, moe_intermediate_size=32)
    unpacked.load_state_dict(weights)
    unpacked = unpacked.to(device)
    assert packed.model.layers[1].mlp.experts[0].up_proj.weight.dtype.is_packed
    assert not packed.model.layers[1].mlp.gate.weight.dtype.is_packed
    x = gradient.randn(1, 5, 64, device=device)
    for model in (packed, unpacked):
        model.requires_grad_(False)
    results = []
    for model in (packed, unpacked):
        y = x.clone().requires_grad_()
        model.model.layers[1].mlp(y).square().sum().backward()
        results.append(y.grad)
    close(*results)
    options = {"max_new_tokens": 12, "ignore_eos": True}
    before = gradient.get_quantized_matmul_precision()
    gradient.set_quantized_matmul_precision("exact")  # inputs in int8 may give another token
    try:
        tokens = [generate(model, [3, 4, 5], **options).token_ids for model in (packed, unpacked)]
    finally:
        gradient.set_quantized_matmul_precision(before)
    assert tokens[0] == tokens[1]
