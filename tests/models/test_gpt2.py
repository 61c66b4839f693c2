"""GPT-2: its numbers against transformers' golden ones, its first weights, what it refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient.checkpoints import load_model
from gradient.errors import ArgumentError, AutogradError, FileFormatError, TypeMismatch
from gradient.generation import KVCache, generate
from gradient.models import GPT2Config, GPT2LMHeadModel
from gradient.models.activations import ACTIVATIONS
from support.paths import GOLDEN

CHECKPOINT = GOLDEN / "gpt2_tiny"


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads((CHECKPOINT / "golden.json").read_text())


@pytest.fixture
def model(device) -> GPT2LMHeadModel:
    return load_model(CHECKPOINT, device=device)


def tiny(**changes) -> GPT2Config:
    shape = {"vocab_size": 50, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return GPT2Config(**(shape | {"bos_token_id": 0, "eos_token_id": 0} | changes))


def close(actual, expected, tolerance):
    """Compare by the largest difference, relative to the largest expected number."""
    actual = np.asarray(actual.detach().cpu().float().numpy())
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


# ---- numbers ------------------------------------------------------------------------------------


def test_logits_are_transformers(model, golden, device):
    logits = model(gradient.tensor(golden["input_ids"], device=device))
    close(logits, golden["logits"], 2e-5)


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_tokens_are_transformers_alone_and_in_a_ragged_batch(model, golden, use_cache):
    options = {"max_new_tokens": 50, "ignore_eos": True, "use_cache": use_cache}
    alone = [generate(model, prompt, **options).token_ids for prompt in golden["prompts"]]
    batch = generate(model, golden["prompts"], **options)
    assert alone == golden["greedy"]
    assert [row.token_ids for row in batch] == golden["greedy"]


def test_a_training_step_has_transformers_loss_and_gradients(model, golden, device):
    model.train()
    ids = gradient.tensor(golden["input_ids"], device=device)
    loss = F.cross_entropy(model(ids)[:, :-1].reshape(-1, 96), ids[:, 1:].reshape(-1))
    loss.backward()
    assert loss.item() == pytest.approx(golden["loss"], rel=2e-6)
    norms = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    assert norms == pytest.approx(golden["gradient_norms"], rel=2e-5)


def test_ragged_chunks_follow_each_row_where_it_ended(model, device):
    first, second = gradient.randint(0, 96, (3, 10)), gradient.randint(0, 96, (3, 6))
    first_lengths, second_lengths = [4, 10, 7], [6, 2, 3]
    cache = KVCache.for_model(model, 3)
    with gradient.no_grad():
        model(first.to(device), cache, lengths=first_lengths)
        logits = model(second.to(device), cache, lengths=second_lengths)
        last = cache.lengths.tolist()
        for row, (n, m) in enumerate(zip(first_lengths, second_lengths, strict=True)):
            text = gradient.cat([first[row, :n], second[row, :m]]).unsqueeze(0).to(device)
            close(logits[row, :m], model(text)[0, n:].cpu().numpy(), 2e-6)
    assert last == cache.counts == [10, 12, 10]


@pytest.mark.parametrize(
    "changes",
    [
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"reorder_and_upcast_attn": True},
        {"n_inner": 24},
        {"tie_word_embeddings": False},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_variants_run_and_cached_equals_uncached(changes, device):
    model = GPT2LMHeadModel(tiny(**changes)).to(device).eval()
    options = {"max_new_tokens": 12, "ignore_eos": True}
    cached = generate(model, [[1, 2, 3], [4]], **options)
    uncached = generate(model, [[1, 2, 3], [4]], use_cache=False, **options)
    assert [row.token_ids for row in cached] == [row.token_ids for row in uncached]


@pytest.mark.parametrize("dtype", [gradient.bfloat16, gradient.float16])
def test_in_16_bits_cached_equals_uncached_too(dtype, device):
    model = load_model(CHECKPOINT, dtype=dtype, device=device)
    ids = gradient.randint(0, 96, (2, 12), device=device)
    cache = KVCache.for_model(model, 2)
    assert cache.codecs.keys.dtype == dtype
    with gradient.no_grad():
        whole = model(ids)
        parts = gradient.cat([model(ids[:, at : at + 4], cache) for at in (0, 4, 8)], dim=1)
    assert whole.dtype == dtype
    close(parts, whole.float().cpu().numpy(), 2e-2)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_runs_and_trains(name, device):
    model = GPT2LMHeadModel(tiny(n_layer=1, activation_function=name)).to(device)
    model(gradient.tensor([[1, 2, 3]], device=device)).sum().backward()
    assert all(math.isfinite(p.grad.sum().item()) for p in model.parameters())


# ---- initial weights, dropout -------------------------------------------------------------------


def test_initial_weights_are_gpt2s():
    gradient.manual_seed(1)
    model = GPT2LMHeadModel(tiny(n_embd=128, n_layer=4, vocab_size=500))
    state = model.state_dict()
    residual = 0.02 / math.sqrt(2 * 4)
    for name, value in state.items():
        if name.endswith("bias"):
            assert value.abs().max().item() == 0, name
        elif ".ln_" in name:
            assert value.min().item() == value.max().item() == 1, name
        else:
            expected = residual if name.endswith("c_proj.weight") else 0.02
            assert value.std().item() == pytest.approx(expected, rel=0.06), name
            assert abs(value.mean().item()) < expected / 10, name


def test_dropout_is_for_training_only(device):
    model = GPT2LMHeadModel(tiny()).to(device)
    ids = gradient.tensor([[1, 2, 3, 4]], device=device)
    with gradient.no_grad():
        assert (model(ids) != model(ids)).any().item()
        model.eval()
        assert (model(ids) == model(ids)).all().item()


def test_the_head_is_the_embedding_unless_untied():
    model = GPT2LMHeadModel(tiny())
    assert model.lm_head.weight is model.transformer.wte.weight
    untied = GPT2LMHeadModel(tiny(tie_word_embeddings=False))
    assert untied.lm_head.weight is not untied.transformer.wte.weight
    assert untied.num_parameters() == model.num_parameters() + 50 * 16


def test_num_parameters_of_the_published_sizes():
    with gradient.nn.init.skip_init():
        model = GPT2LMHeadModel(GPT2Config())
    assert model.num_parameters() == 124_439_808


# ---- what it refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_head": 3}, "n_head = 3 must divide n_embd = 16"),
        ({"n_layer": 0}, "n_layer must be at least 1, got 0"),
        ({"n_embd": "16"}, "n_embd must be int, got '16'"),
        ({"n_layer": True}, "n_layer must be int, got True"),
        ({"vocab_size": -1}, "vocab_size must be at least 1, got -1"),
        ({"attn_pdrop": 1.5}, "attn_pdrop must be a probability below 1, got 1.5"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon must be positive, got 0"),
        ({"eos_token_id": ["a"]}, r"eos_token_id must be int \| list\[int\] \| None, got \['a'\]"),
        ({"activation_function": "glu"}, "activation_function must be one of gelu, .*, got 'glu'"),
        ({"add_cross_attention": True}, "only decoder-only GPT-2 is supported"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_config_that_describes_no_model(changes, message):
    with pytest.raises(FileFormatError, match=message):
        tiny(**changes)


def test_all_that_is_wrong_with_a_config_is_told_at_once():
    with pytest.raises(FileFormatError) as error:
        tiny(n_layer=0, n_head=0, resid_pdrop=-1)
    assert str(error.value).splitlines() == [
        "GPT2Config ('gpt2') does not describe a model:",
        "  n_layer must be at least 1, got 0",
        "  n_head must be at least 1, got 0",
        "  resid_pdrop must be a probability below 1, got -1",
    ]


def test_config_keeps_what_it_does_not_know_and_reads_aliases():
    values = {
        "model_type": "gpt2",
        "hidden_size": 32,
        "n_head": 4,
        "task_specific_params": {"a": 1},
    }
    config = GPT2Config.from_hf(values)
    assert config.n_embd == 32
    saved = config.to_hf()
    assert saved["task_specific_params"] == {"a": 1}
    assert saved["model_type"] == "gpt2"
    assert GPT2Config.from_hf(saved) == config


def test_input_that_is_no_batch_of_tokens_in_the_context(model, device):
    with pytest.raises(ArgumentError, match=r"token ids of shape \(B, T\), got .* of shape \(3,\)"):
        model(gradient.tensor([1, 2, 3], device=device))
    with pytest.raises(TypeMismatch, match="expected a Tensor of token ids .*, got str; encode"):
        model("Once")
    with pytest.raises(ArgumentError, match="65 tokens do not fit the model's context of 64"):
        model(gradient.zeros(1, 65, dtype=gradient.int64, device=device))
    with pytest.raises(ArgumentError, match="expected 2 counts from 0 to 3"):
        model(gradient.zeros(2, 3, dtype=gradient.int64, device=device), lengths=[3, 4])


def test_the_cache_refuses_too_many_tokens_and_stays_usable(model, device):
    cache = KVCache.for_model(model, 1)
    ids = gradient.randint(0, 96, (1, 60), device=device)
    with gradient.no_grad():
        model(ids, cache)
        with pytest.raises(ArgumentError, match="65 tokens do not fit the model's context of 64"):
            model(ids[:, :5], cache)
        assert cache.counts == [60]
        assert model(ids[:, :4], cache).shape == (1, 4, 96)


def test_the_cache_says_that_it_keeps_no_gradients(model, device):
    with pytest.raises(AutogradError, match="keeps no gradients"):
        model(gradient.tensor([[1, 2]], device=device), KVCache.for_model(model, 1))
