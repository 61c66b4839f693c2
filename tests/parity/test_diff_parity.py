"""`gradient diff` against transformers: modules are matched by name, planted errors are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradient.checkpoints import load_model
from gradient.cli.app import app
from gradient.evaluation import activations, compare
from gradient.evaluation.reference import run_transformers
from gradient.text import byte_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

SHAPE = {
    "vocab_size": 257, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.2,
    "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
GPT2 = {"vocab_size": 257, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
FAMILIES = {
    "gpt2": (transformers.GPT2Config, GPT2),
    "llama": (transformers.LlamaConfig, SHAPE),
    "qwen3": (transformers.Qwen3Config, SHAPE),
    "gemma3_text": (transformers.Gemma3TextConfig, SHAPE),
    "qwen3_moe": (transformers.Qwen3MoeConfig, SHAPE | MOE),
}
TOKENS = [1, 5, 9, 200, 31, 77, 256, 3]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    make, settings = FAMILIES[request.param]
    path = tmp_path_factory.mktemp(request.param)
    transformers.AutoModelForCausalLM.from_config(make(**settings)).eval().save_pretrained(path)
    byte_tokenizer().save(path)
    return path


def test_every_module_that_has_a_result_agrees(folder):
    found = compare(activations(load_model(folder), TOKENS), run_transformers(folder, TOKENS), 1e-4)
    assert found.first_module is None, found.first_module
    names = {difference.name for difference in found.modules}
    # Of each layer at least attention, the feed-forward part and two norms are compared.
    layers = [name for name in names if name.count(".") >= 3]
    assert len(layers) >= 12 and "lm_head" in names


def test_a_planted_error_is_found(folder):
    model = load_model(folder)
    name = next(
        n for n, _ in model.named_parameters() if ".1." in n and "norm" in n or ".1.ln_1" in n
    )
    dict(model.named_parameters())[name].data[3] += 0.5
    found = compare(activations(model, TOKENS), run_transformers(folder, TOKENS), 1e-4)
    assert found.first_module.name == name.rpartition(".")[0]


def test_the_command(folder):
    result = CliRunner().invoke(app, ["diff", str(folder), "@transformers", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["first_module"] is None
    narrow = CliRunner().invoke(
        app, ["diff", f"{folder}@dtype=bfloat16", "@transformers", "--tolerance", "1e-5"]
    )
    assert narrow.exit_code == 1 and "first module that differs:" in narrow.output


ENCODER = {
    "vocab_size": 257, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
ENCODERS = {
    "bert": transformers.BertConfig(**ENCODER),
    "roberta": transformers.RobertaConfig(**ENCODER),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=257, dim=32, hidden_dim=48, n_layers=2, n_heads=4, max_position_embeddings=64
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders(name, tmp_path):
    torch.manual_seed(0)
    model = transformers.AutoModelForMaskedLM.from_config(ENCODERS[name])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    found = compare(
        activations(load_model(tmp_path), TOKENS), run_transformers(tmp_path, TOKENS), 1e-4
    )
    assert found.first_module is None, found.first_module
    assert sum(".layer.1." in difference.name for difference in found.modules) >= 6
