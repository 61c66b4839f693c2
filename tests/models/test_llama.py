"""The LLaMA family: transformers' golden numbers, caches, rotary positions, what it refuses."""

from __future__ import annotations

import dataclasses
import json
import random

import numpy as np
import pytest

import gradient
from gradient.checkpoints import load_model, save_model
from gradient.errors import FileFormatError
from gradient.generation import generate
from gradient.io.safetensors import save_file
from gradient.models.llama import LlamaRMSNorm
from gradient.models.registry import config_class, model_class
from gradient.models.rope import ROPE_TYPES, rotary_embedding
from gradient.models.rope_parameters import rope_problems, settled
from support.paths import GOLDEN

CHECKPOINT = GOLDEN / "llama_tiny"
SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "eos_token_id": 0,
}
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": 5},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {"head_dim": 12},
    "phi3": {"partial_rotary_factor": 0.5},
    "ernie4_5": {"use_bias": True},
}


def build(model_type: str, device: str = "cpu", **changes):
    cls = model_class(model_type)
    config = config_class(model_type).from_hf({"model_type": model_type, **SHAPE, **changes})
    return cls(config).to(device).eval()


@pytest.fixture(params=FAMILIES, ids=str)
def model(request, device):
    gradient.manual_seed(1)
    return build(request.param, device, **FAMILIES[request.param])


def close(actual, expected, tolerance=2e-5):
    """Compare by the largest difference, relative to the largest expected number."""
    actual, expected = (x.detach().cpu().float().numpy() for x in (actual, expected))
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


# ---- numbers ------------------------------------------------------------------------------------


@pytest.fixture(params=FAMILIES, ids=str)
def golden(request, device):
    """A model that transformers has made, in float32, and what it computes there."""
    folder = CHECKPOINT / request.param
    model = load_model(folder, dtype=gradient.float32, device=device)
    return model, json.loads((folder / "golden.json").read_text())


def test_logits_are_transformers(golden, device):
    model, expected = golden
    with gradient.no_grad():
        logits = model(gradient.tensor(expected["input_ids"], device=device))
    close(logits, gradient.tensor(expected["logits"]))


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_tokens_are_transformers(golden, use_cache):
    model, expected = golden
    options = {"max_new_tokens": 24, "ignore_eos": True, "use_cache": use_cache}
    rows = generate(model, expected["prompts"], **options)
    assert [row.token_ids for row in rows] == expected["greedy"]


def test_a_training_step_has_transformers_loss_and_gradients(golden, device):
    model, expected = golden
    ids = gradient.tensor(expected["input_ids"], device=device)
    logits = model.train()(ids)[:, :-1].flatten(0, 1)
    loss = gradient.nn.functional.cross_entropy(logits, ids[:, 1:].flatten())
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-5)
    norms = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    assert norms == pytest.approx(expected["gradient_norms"], rel=1e-4)


# ---- one text, however it is read ---------------------------------------------------------------


def test_a_window_hides_what_lies_before_it(device):
    model = build("mistral", device, sliding_window=3, num_hidden_layers=1)
    ids = gradient.randint(0, 61, (1, 9), device=device)
    other = ids.clone()
    other[0, :6] = (other[0, :6] + 1) % 61
    with gradient.no_grad():
        first, second = model(ids), model(other)
    close(first[:, 8:], second[:, 8:], 1e-6)  # tokens 6, 7 and 8 are the same
    assert (first[:, 7] - second[:, 7]).abs().max().item() > 1e-2


# ---- rotary positions ---------------------------------------------------------------------------

SCALINGS = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 1024},
    "longrope": {
        "short_factor": [1.0] * 16,
        "long_factor": [3.0] * 16,
        "original_max_position_embeddings": 1024,
    },
}


def rotation_of(rope_type: str, context: int = 1024, head_dim: int = 32, **options):
    parameters = {"rope_type": rope_type, **SCALINGS.get(rope_type, {}), **options}
    parameters = settled(parameters, theta=10_000.0, max_position_embeddings=context)
    assert rope_problems(parameters, head_dim) == []
    return rotary_embedding(parameters, head_dim, context)


def test_angles_are_positions_times_frequencies():
    rotate = rotation_of("default")(gradient.tensor([[0, 1, 700]]), gradient.float32)
    inv_freq = 10_000.0 ** -(np.arange(0, 32, 2) / 32)
    angles = np.array([0, 1, 700])[:, None] * inv_freq
    assert rotate.cos.shape == (1, 1, 3, 16)
    np.testing.assert_allclose(rotate.cos[0, 0].numpy(), np.cos(angles), atol=1e-4)
    np.testing.assert_allclose(rotate.sin[0, 0].numpy(), np.sin(angles), atol=1e-4)


@pytest.mark.parametrize("rope_type", ROPE_TYPES)
def test_scores_depend_on_the_distance_alone(rope_type):
    """What rotary positions are for: q at m and k at n meet as q at m + 50 and k at n + 50."""
    q, k = gradient.randn(2, 1, 1, 32)
    rotary = rotation_of(rope_type)

    def score(m: int, n: int) -> float:
        at_m, at_n = (rotary(gradient.tensor([[at]]), gradient.float32) for at in (m, n))
        return (at_m(q[None]) * at_n(k[None])).sum().item()

    assert score(20, 13) == pytest.approx(score(70, 63), abs=2e-4)
    assert abs(score(20, 13) - score(20, 19)) > 1e-2


def test_linear_presses_positions_together():
    ids = gradient.arange(40)
    pressed = rotation_of("linear")(4 * ids, gradient.float32)
    close(pressed.cos, rotation_of("default")(ids, gradient.float32).cos, 1e-5)


@pytest.mark.parametrize("rope_type", ["llama3", "yarn"])
def test_high_frequencies_are_kept_and_low_ones_divided(rope_type):
    plain = rotation_of("default", head_dim=64).inv_freq
    ratio = plain / rotation_of(rope_type, head_dim=64).inv_freq
    assert ratio[0] == pytest.approx(1)
    assert ratio[-1] == pytest.approx(SCALINGS[rope_type]["factor"], rel=1e-5)
    assert (np.diff(ratio) > -1e-5).all()
    assert ((ratio > 1.01) & (ratio < ratio[-1] - 0.01)).any()  # and some lie between


def test_yarn_makes_attention_warmer():
    assert rotation_of("yarn").attention_factor == pytest.approx(0.1 * np.log(4) + 1)
    given = rotation_of("yarn", mscale=2.0, mscale_all_dim=1.0).attention_factor
    assert given == pytest.approx((0.2 * np.log(4) + 1) / (0.1 * np.log(4) + 1))
    assert rotation_of("yarn", attention_factor=0.5).attention_factor == 0.5


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope"])
def test_angles_change_only_beyond_the_original_context(rope_type):
    rotary = rotation_of(rope_type)
    short, edge, long = (rotary(gradient.arange(n), gradient.float32) for n in (9, 1024, 1025))
    close(short.cos, edge.cos[..., :9, :], 1e-6)
    assert (long.cos[..., :9, :] - short.cos).abs().max().item() > 1e-3
    assert rotary.original_max_seq_len == 1024


def test_each_row_has_the_angles_of_its_own_length():
    """Not those of the longest, nor of its padding: a batch changes no row."""
    rotary = rotation_of("dynamic", context=8)
    batch = rotary(gradient.arange(20).expand(2, 20), gradient.float32, [20, 11])
    for row, length in enumerate((20, 11)):
        alone = rotary(gradient.arange(length), gradient.float32)
        assert batch.cos[row, 0, :length].tolist() == alone.cos[0, 0].tolist()


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope"])
def test_a_ragged_batch_beyond_the_original_context_is_as_alone(rope_type, device):
    changes = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4} | {"rope_type": rope_type}
    changes |= {"factor": 3.0, "original_max_position_embeddings": 8}
    model = build("llama", device, rope_scaling=changes, max_position_embeddings=8)
    prompts = [list(range(3, 14)), [5], [6, 7, 8, 9]]
    options = {"max_new_tokens": 12, "ignore_eos": True, "beyond_context": True}
    alone = [generate(model, prompt, **options).token_ids for prompt in prompts]
    assert [each.token_ids for each in generate(model, prompts, **options)] == alone


def test_phi3_begins_anew_where_a_text_outgrows_its_short_factors(device):
    """So that a cache makes no difference: keys turned by the short factors are of no use then."""
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "type": "su"}
    changes = {"rope_scaling": factors, "original_max_position_embeddings": 8}
    model = build("phi3", device, **changes)
    assert model.must_recompute(8, 9) and not model.must_recompute(9, 10)
    assert model.supports_chunked_prefill(8) and not model.supports_chunked_prefill(9)
    options = {"max_new_tokens": 12, "ignore_eos": True}
    prompts = [[3, 4, 5, 6], [7], list(range(10))]
    plain = generate(model, prompts, use_cache=False, **options)
    cached = generate(model, prompts, **options)
    assert [each.token_ids for each in cached] == [each.token_ids for each in plain]


def test_a_model_may_draft_for_another(device):
    """Though its decoder is named `model`, as a `LanguageModel`'s network is."""
    gradient.manual_seed(1)
    model, small = build("qwen2", device), build("qwen2", device, num_hidden_layers=1)
    options = {"max_new_tokens": 20, "ignore_eos": True}
    plain = generate(model, [3, 4, 5], **options).token_ids
    assert generate(model, [3, 4, 5], draft=small, **options).token_ids == plain


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope"])
def test_drafts_change_nothing_where_angles_change(rope_type, device):
    """Of the tokens that are checked in one pass, each must have the angles of its own length."""
    scaling = {"rope_type": rope_type, "factor": 3.0, "original_max_position_embeddings": 12}
    scaling |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    for seed in range(4):
        gradient.manual_seed(seed)
        model = build("llama", device, rope_scaling=scaling, max_position_embeddings=12)
        options = {"max_new_tokens": 20, "ignore_eos": True}
        plain = generate(model, [3, 4, 5] * 3, **options)
        drafted = generate(model, [3, 4, 5] * 3, draft="prompt_lookup", **options)
        assert drafted.token_ids == plain.token_ids


def test_a_part_of_each_head_is_left_alone():
    rotate = rotation_of("default", partial_rotary_factor=0.5)(gradient.arange(5), gradient.float32)
    x = gradient.randn(2, 3, 5, 32)
    turned = rotate(x)
    assert (turned[..., 16:] == x[..., 16:]).all().item()
    assert (turned[..., 1:, :16] != x[..., 1:, :16]).all().item()
    close(turned.norm(dim=-1), x.norm(dim=-1), 1e-6)  # a rotation changes no length


def test_frequencies_stay_float32_in_a_converted_model(device):
    """In bfloat16 a frequency has 8 bits: at position 1000 the angle would be off by a radian."""
    model = build("llama", device).to(gradient.bfloat16)
    assert model.model.rotary_emb["full_attention"].inv_freq.dtype == np.float32
    rotate = model.model.rotary_emb["full_attention"](
        gradient.tensor([[1000]], device=device), gradient.float32
    )
    expected = np.cos(1000 * 10_000.0 ** -(np.arange(0, 8, 2) / 8))
    np.testing.assert_allclose(rotate.cos.cpu().numpy().ravel(), expected, atol=1e-3)


# ---- norms --------------------------------------------------------------------------------------


def test_rms_norm_rounds_before_it_multiplies(device):
    """A weight of 96.5 turns the last bit of bfloat16 into a difference that one can see."""
    norm = LlamaRMSNorm(64, 1e-6).to(device)
    with gradient.no_grad():
        norm.weight.fill_(96.5)
    norm = norm.to(gradient.bfloat16)
    x = gradient.randn(50, 64, device=device).to(gradient.bfloat16)
    wide = x.float().cpu().numpy()
    normed = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6)
    rounded = gradient.tensor(normed).to(gradient.bfloat16).float() * 96.5
    expected = rounded.to(gradient.bfloat16).float().numpy()
    actual = norm(x).detach().float().cpu().numpy()
    # The reciprocal root may fall to the other side of a rounding boundary now and then.
    assert (actual == expected).mean() > 0.999
    once = gradient.nn.functional.rms_norm(x, (64,), norm.weight, 1e-6).detach()
    assert (once.float().cpu().numpy() == expected).mean() < 0.9


# ---- weights ------------------------------------------------------------------------------------


def test_rotary_tables_of_old_checkpoints_are_passed_over(tmp_path):
    model = build("llama")
    save_model(model, tmp_path)
    state = model.state_dict() | {
        f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": gradient.zeros(4)
        for layer in range(2)
    }
    save_file(state, tmp_path / "model.safetensors")
    load_model(tmp_path)


def test_names_of_weights_are_the_checkpoints():
    assert sorted(build("qwen2", num_hidden_layers=1).state_dict()) == [
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.self_attn.k_proj.bias",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.v_proj.bias",
        "model.layers.0.self_attn.v_proj.weight",
        "model.norm.weight",
    ]


def test_sizes_of_published_models():
    """The defaults are the published ones, so that a sparse config.json means what it should."""
    sizes = {
        "llama": 6_738_415_616,  # LLaMA-7B
        "mistral": 7_241_732_096,  # Mistral-7B-v0.1
        "phi3": 3_821_079_552,  # Phi-3-mini
    }
    for model_type, expected in sizes.items():
        cls = model_class(model_type)
        with gradient.nn.init.skip_init():
            config = config_class(model_type).from_hf(
                {"model_type": model_type, "num_hidden_layers": 1}
            )
            one = cls(config).num_parameters()
            two = cls(dataclasses.replace(config, num_hidden_layers=2)).num_parameters()
        assert one + 31 * (two - one) == expected, model_type


def test_it_learns(device):
    model = build("qwen3", device).train()
    ids = gradient.tensor([[1, 2, 3, 4, 5, 6, 7, 8]], device=device)
    optimizer = gradient.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = gradient.nn.functional.cross_entropy(model(ids)[0, :-1], ids[0, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10


def test_none_goes_on_to_the_length_it_was_made_for(model):
    """Nothing stops rotary positions, so that generation may be asked to go beyond."""
    assert model.context_length is None and model.trained_length == 64
    text = generate(model, [1] * 60, max_new_tokens=None, ignore_eos=True)
    assert len(text.token_ids) == 5 and text.finish_reason == "context"
    further = generate(model, [1] * 60, max_new_tokens=9, ignore_eos=True, beyond_context=True)
    assert len(further.token_ids) == 9


# ---- config.json --------------------------------------------------------------------------------


def config(model_type: str = "llama", **changes):
    return config_class(model_type).from_hf(SHAPE | changes)


def test_both_dialects_of_rotary_positions_say_the_same():
    new = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5, "partial_rotary_factor": 0.5}
    old = {"type": "linear", "factor": 2.0}
    beside = {"rope_theta": 5e5, "partial_rotary_factor": 0.5}
    for model_type in ("llama", "phi3"):
        expected = config(model_type, rope_parameters=new)
        assert config(model_type, rope_scaling=old, **beside) == expected
        assert config(model_type, rope_scaling=old, rope_parameters=None, **beside) == expected
        assert expected.rope_parameters == new
        saved = expected.to_hf()
        assert saved["rope_parameters"] == new
        assert saved["rope_theta"] == 5e5 and saved["partial_rotary_factor"] == 0.5
        assert saved["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}
        assert config_class(model_type).from_hf(saved).to_hf() == saved


def test_no_scaling_in_any_words():
    plain = {"rope_type": "default", "rope_theta": 10_000.0}
    for words in ({}, {"rope_scaling": None}, {"rope_parameters": {}}, {"rope_theta": 10_000.0}):
        assert config(**words).rope_parameters == plain
    assert config().to_hf()["rope_scaling"] is None


def test_where_the_original_context_is_found():
    yarn = {"rope_type": "yarn", "factor": 2.0}
    key = "original_max_position_embeddings"
    assert config(rope_scaling=yarn).rope_parameters[key] == 64
    assert config(rope_scaling=yarn | {key: 32}).rope_parameters[key] == 32
    assert config(rope_scaling=yarn | {key: 32}, **{key: 16}).rope_parameters[key] == 16


def test_what_phi3_calls_yarn_is_longrope():
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    for name in ("su", "yarn", "longrope"):
        parameters = config("phi3", rope_scaling={"type": name, **factors}).rope_parameters
        assert parameters["rope_type"] == "longrope"
        assert parameters["original_max_position_embeddings"] == 4096


def test_windows():
    assert config("mistral", sliding_window=9).windows == [9, 9]
    assert config("mistral", sliding_window=None).windows == [None, None]
    assert config("llama", sliding_window=9).windows == [None, None]
    qwen = {"sliding_window": 9, "max_window_layers": 1}
    assert config("qwen2", **qwen).windows == [None, None]
    assert config("qwen2", use_sliding_window=True, **qwen).windows == [None, 9]
    types = ["sliding_attention", "full_attention"]
    assert config("qwen3", use_sliding_window=True, layer_types=types, **qwen).windows == [9, None]
    shapes = build("qwen3", use_sliding_window=True, layer_types=types, **qwen).kv_shapes
    assert shapes == [(2, 8, 9), (2, 8, None)]


def test_unknown_keys_are_kept():
    saved = config(pretraining_tp=2, quirk={"a": 1}).to_hf()
    assert saved["pretraining_tp"] == 2 and saved["quirk"] == {"a": 1}


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("llama", {"hidden_size": 0}, "hidden_size must be at least 1, got 0"),
        ("llama", {"head_dim": "8"}, r"head_dim must be int \| None, got '8'"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads = 3 must divide .* = 4"),
        ("llama", {"rms_norm_eps": 0.0}, "rms_norm_eps must be positive, got 0.0"),
        ("llama", {"hidden_act": "swiglu"}, "hidden_act must be one of gelu.*, got 'swiglu'"),
        ("llama", {"head_dim": 7}, "head_dim = 7 .* must make pairs"),
        ("llama", {"attention_dropout": 1.0}, "attention_dropout must be a probability below 1"),
        ("llama", {"rope_scaling": "linear"}, "rope_parameters must be dict.*, got 'linear'"),
        ("llama", {"rope_theta": -1.0}, "rope_theta must be a positive number, got -1.0"),
        ("llama", {"rope_theta": "1"}, "rope_theta must be a positive number, got '1'"),
        ("llama", {"rope_scaling": {"type": "mrope"}}, "rope_type must be one of .*, got 'mrope'"),
        ("llama", {"rope_scaling": {"type": ["x"]}}, r"rope_type must be one of .*, got \['x'\]"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "'linear': factor must .* got None"),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 0}}, "factor must be .* got 0"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": True}}, "factor must .* True"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2}, "head_dim": 2}, "more than 2"),
        ("llama", {"rope_scaling": {"type": "longrope"}}, "short_factor must be 4 positive"),
        (
            "llama",
            {"rope_scaling": SCALINGS["llama3"] | {"type": "llama3", "high_freq_factor": 1.0}},
            "high_freq_factor must be above low_freq_factor = 1.0, got 1.0",
        ),
        (
            "phi3",
            {"partial_rotary_factor": 1.5},
            "partial_rotary_factor = 1.5: the columns to rotate",
        ),
        ("phi3", {"partial_rotary_factor": 0.01}, "the columns to rotate must make pairs"),
        ("phi3", {"resid_pdrop": -1}, "resid_pdrop must be a probability below 1, got -1"),
        ("mistral", {"sliding_window": 0}, "sliding_window must be at least 1, got 0"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types must name 2 layers, got 1"),
        (
            "qwen2",
            {
                "layer_types": ["full_attention"] * 45 + ["linear", "full_attention", "chunked"],
                "num_hidden_layers": 48,
            },
            "got 'linear', 'chunked' for 2 of 48 layers, the first of them layer 45$",
        ),
        (
            "smollm3",
            {"no_rope_layers": [1] * 47, "num_hidden_layers": 48},
            "no_rope_layers must name 48 layers, got 47$",
        ),
        ("qwen3", {"layer_types": ["chunked", "full_attention"]}, "must hold .* got .*'chunked'"),
    ],
)
def test_a_config_that_describes_no_model(model_type, changes, message):
    with pytest.raises(FileFormatError, match=message):
        config(model_type, **changes)


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(FileFormatError) as error:
        config(hidden_size=0, num_hidden_layers=-1, hidden_act="glue", rms_norm_eps=-1.0)
    assert len(str(error.value).splitlines()) == 5


JUNK = [
    None, True, 0, -1, 2, 7, 1.5, -2.5, 1e308, 10**400, float("nan"), float("inf"), "", "silu", [],
    [1], [[]], ["full_attention"], {}, {"rope_type": "yarn"}, {"type": [1]}, 2**63, "linear",
]  # fmt: skip


def test_a_damaged_config_is_refused_or_describes_a_model():
    """Whatever stands in config.json, the error is ours; and nothing else fails later."""
    draw = random.Random(0)
    refused = 0
    for _ in range(2000):
        model_type = draw.choice(list(FAMILIES))
        rope_type = draw.choice(list(SCALINGS))
        scaling = {"rope_type": rope_type, **SCALINGS[rope_type]}
        values = {**SHAPE, **FAMILIES[model_type], "rope_parameters": scaling, "layer_types": None}
        for _ in range(draw.choice([1, 1, 2, 3])):
            where = draw.choice([values, scaling])
            where[draw.choice([*where, "rope_theta", "attention_factor"])] = draw.choice(JUNK)
        cls = model_class(model_type)
        try:
            described = config_class(model_type).from_hf(values)
        except FileFormatError:
            refused += 1
            continue
        described.to_hf()
        if max(described.hidden_size, described.intermediate_size, described.vocab_size) < 1000:
            with gradient.nn.init.skip_init():
                cls(described)
    assert 500 < refused < 1900
