"""Gemma 1, 2 and 3 without their reference: caches, windows, caps, rounding, configs, files."""

from __future__ import annotations

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

import gradient
from gradient.checkpoints import load_model, save_model
from gradient.errors import ArgumentError, FileFormatError, StateDictError
from gradient.generation import KVCache, generate
from gradient.io.safetensors import save_file
from gradient.models.gemma import GemmaRMSNorm
from gradient.models.gemma_config import FULL, SLIDING, Gemma3Config
from gradient.models.registry import config_class, model_class

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "eos_token_id": 0,
}
CAPS = {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 4.0}
MEMBERS = {
    "gemma": {"attention_bias": True},
    "gemma2": {"sliding_window": 4, **CAPS},
    "gemma3_text": {"sliding_window": 3, "sliding_window_pattern": 2, "rope_local_base_freq": 50.0},
}


def config_of(model_type: str, **changes):
    return config_class(model_type).from_hf(
        {"model_type": model_type, **SHAPE, **MEMBERS.get(model_type, {}), **changes}
    )


def build(model_type: str, device: str = "cpu", **changes):
    model = model_class(model_type)(config_of(model_type, **changes)).to(device).eval()
    with gradient.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("norm.weight", "bias")):
                parameter.copy_(0.3 * gradient.randn_like(parameter))
    return model


@pytest.fixture(params=MEMBERS, ids=str)
def model(request, device):
    gradient.manual_seed(1)
    return build(request.param, device)


def close(actual, expected, tolerance=2e-5):
    """Compare by the largest difference, relative to the largest expected number."""
    actual, expected = (x.detach().cpu().float().numpy() for x in (actual, expected))
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


# ---- one text, however it is read ---------------------------------------------------------------


# ---- windows and caps ---------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [False, True])
def test_a_window_hides_what_lies_before_it(cached, device):
    model = build("gemma2", device, sliding_window=3, num_hidden_layers=1)
    ids = gradient.randint(0, 61, (1, 9), device=device)
    other = ids.clone()
    other[0, :6] = (other[0, :6] + 1) % 61
    caches = [KVCache.for_model(model, 1) if cached else None for _ in range(2)]
    with gradient.no_grad():
        first, second = (
            model(each, cache) for each, cache in zip((ids, other), caches, strict=True)
        )
    close(first[:, 8:], second[:, 8:], 1e-6)  # tokens 6, 7 and 8 are the same
    assert (first[:, 7] - second[:, 7]).abs().max().item() > 1e-2


def test_kinds_of_layers():
    assert config_of("gemma").windows == [None] * 3
    assert config_of("gemma2").windows == [4, None, 4]
    seven = config_of("gemma3_text", num_hidden_layers=7, sliding_window_pattern=6)
    assert seven.windows == [3] * 5 + [None, 3]
    assert config_of("gemma3_text", layer_types=[FULL, SLIDING, FULL]).windows == [None, 3, None]
    shapes = build("gemma2").kv_shapes
    assert [tuple(shape) for shape in shapes] == [(2, 6, 4), (2, 6, None), (2, 6, 4)]


def test_logits_stay_below_their_cap(device):
    model = build("gemma2", device, initializer_range=3.0)
    ids = gradient.randint(0, 61, (1, 9), device=device)
    with gradient.no_grad():
        capped = model(ids)
        model.config.final_logit_softcapping = None
        free = model(ids)
    assert free.abs().max().item() > 8
    assert 3.9 < capped.abs().max().item() <= 4
    close(capped, 4 * (free / 4).tanh(), 1e-6)


def test_scores_are_capped_but_in_gemma_3(device):
    ids = gradient.randint(0, 61, (1, 9), device=device)
    for model_type, changes in (("gemma2", True), ("gemma3_text", False)):
        gradient.manual_seed(0)
        free = build(model_type, device, attn_logit_softcapping=None)
        gradient.manual_seed(0)
        capped = build(model_type, device, attn_logit_softcapping=0.1)
        with gradient.no_grad():
            differ = (free(ids) - capped(ids)).abs().max().item() > 1e-2
        assert differ == changes, model_type


# ---- rounding -----------------------------------------------------------------------------------


def test_norms_multiply_before_they_round():
    """With weights of 96.5, as models have: LLaMA's order would be off by up to 0.4 %."""
    norm = GemmaRMSNorm(256, 1e-6).bfloat16()
    x = np.random.default_rng(0).standard_normal((4, 256)).astype(ml_dtypes.bfloat16)
    with gradient.no_grad():
        norm.weight.fill_(96.5)
        got = norm(gradient.tensor(x)).float().numpy()
    wide = x.astype(np.float32)
    normed = wide / np.sqrt((wide * wide).mean(-1, keepdims=True) + 1e-6)
    late = (normed * np.float32(97.5)).astype(ml_dtypes.bfloat16).astype(np.float32)
    early = normed.astype(ml_dtypes.bfloat16).astype(np.float32) * np.float32(97.5)
    assert (got == late).mean() > 0.999  # a sum in another order may round to the other side
    assert (early.astype(ml_dtypes.bfloat16).astype(np.float32) == late).mean() < 0.8


def test_the_factor_of_embeddings_is_rounded_like_them():
    model = build("gemma", hidden_size=3072, num_hidden_layers=1).bfloat16()
    embedding = model.model.embed_tokens
    with gradient.no_grad():
        x = embedding(gradient.tensor([[5]]))
        rows = embedding.weight[gradient.tensor([[5]])]
        expected = rows * 55.5  # not sqrt(3072) = 55.43
    assert x.dtype == gradient.bfloat16
    assert gradient.equal(x, expected)


# ---- config.json --------------------------------------------------------------------------------


def test_defaults_are_those_of_transformers():
    first = config_class("gemma").from_hf({})
    assert (first.head_size, first.kv_heads, first.tie_word_embeddings) == (256, 16, True)
    second = config_class("gemma2").from_hf({})
    assert (second.softcap, second.logit_softcap, second.scale) == (50.0, 30.0, 1 / 16)
    third = Gemma3Config.from_hf({})
    assert (third.softcap, third.logit_softcap, third.sliding_window) == (None, None, 4096)
    assert third.windows.count(None) == 4  # 26 layers
    assert third.ropes[FULL]["rope_theta"] == 1e6 and third.ropes[SLIDING]["rope_theta"] == 1e4


def test_a_published_config_that_leaves_most_to_defaults():
    """What google/gemma-3-4b-it's config.json says of its language model."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config = Gemma3Config.from_hf(
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "boi_token_index": 255999,
            "eoi_token_index": 256000,
            "eos_token_id": [1, 106],
            "image_token_index": 262144,
            "mm_tokens_per_image": 256,
            "model_type": "gemma3",
            "text_config": text,
            "vision_config": {"model_type": "siglip_vision_model"},
        }
    )
    assert (config.num_attention_heads, config.kv_heads, config.head_size) == (8, 4, 256)
    assert [layer for layer, window in enumerate(config.windows) if window is None] == [
        5, 11, 17, 23, 29,
    ]  # fmt: skip
    assert config.ropes == {
        SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
        FULL: {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
    }
    assert config.eos_token_ids == {1, 106}
    assert config.vocab_size == 262208 and config.scale == 1 / 16


@pytest.mark.parametrize(
    ("model_type", "said", "meant"),
    [
        ("gemma", {"hidden_act": "gelu"}, "gelu_pytorch_tanh"),
        ("gemma", {"hidden_act": "gelu", "hidden_activation": None}, "gelu_pytorch_tanh"),
        ("gemma", {"hidden_activation": "relu"}, "relu"),
        ("gemma", {"hidden_act": "silu"}, "silu"),
        ("gemma2", {"hidden_act": "silu", "hidden_activation": "gelu"}, "gelu"),
        ("gemma2", {"hidden_act": "silu"}, "gelu_pytorch_tanh"),
        ("gemma3_text", {}, "gelu_pytorch_tanh"),
    ],
)
def test_activations(model_type, said, meant):
    config = config_of(model_type, **said)
    assert config.hidden_act == meant
    assert config.to_hf()["hidden_act"] == config.to_hf()["hidden_activation"] == meant


def test_both_dialects_of_rotary_positions():
    scaling = {"rope_type": "linear", "factor": 8.0}
    old = config_of("gemma3_text", rope_theta=7e5, rope_scaling=scaling, rope_local_base_freq=9e3)
    new = config_of(
        "gemma3_text",
        rope_local_base_freq=None,
        rope_parameters={FULL: {**scaling, "rope_theta": 7e5}, SLIDING: {"rope_theta": 9e3}},
    )
    assert old == new
    written = old.to_hf()
    assert written["rope_scaling"] == scaling
    assert (written["rope_theta"], written["rope_local_base_freq"]) == (7e5, 9e3)
    assert Gemma3Config.from_hf(written) == old
    assert config_of("gemma2", rope_theta=5e3).to_hf()["rope_parameters"]["rope_theta"] == 5e3


REFUSED = [
    ("gemma", {"use_bidirectional_attention": True}, "encoders such as EmbeddingGemma are not"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "encoders such as EmbeddingGemma"),
    ("gemma", {"hidden_act": "silu", "hidden_activation": "relu"}, "'silu'.*'relu'"),
    ("gemma2", {"rope_parameters": {FULL: {}}}, "one kind of positions for all layers.*full_att"),
    ("gemma2", {"sliding_window": None}, "sliding_window must be an int"),
    ("gemma2", {"sliding_window": 0}, "sliding_window must be at least 1, got 0"),
    ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar must be positive"),
    ("gemma2", {"attn_logit_softcapping": 0.0}, "attn_logit_softcapping must be null or positive"),
    ("gemma2", {"final_logit_softcapping": -1}, "final_logit_softcapping must be null or positive"),
    ("gemma2", {"layer_types": [FULL]}, "layer_types must name 3 layers, got"),
    ("gemma2", {"layer_types": [FULL, "chunked", FULL]}, "layer_types must hold .*'chunked'"),
    ("gemma3_text", {"sliding_window_pattern": 0}, "sliding_window_pattern must be at least 1"),
    ("gemma3_text", {"rope_parameters": {"rope_type": "default"}}, "must hold an object for full"),
    ("gemma3_text", {"rope_parameters": {FULL: 3}}, "must hold an object for full_attention and"),
    ("gemma3_text", {"rope_parameters": [1]}, "rope_parameters must be"),
    ("gemma3_text", {"rope_theta": -1.0}, "full_attention: .*rope_theta"),
    ("gemma3_text", {"rope_local_base_freq": "x"}, "sliding_attention: .*rope_theta"),
    ("gemma3", {"text_config": None}, "text_config must be an object"),
]


@pytest.mark.parametrize(("model_type", "changes", "message"), REFUSED)
def test_a_config_that_describes_no_model(model_type, changes, message):
    with pytest.raises(FileFormatError, match=message):
        config_of(model_type, **changes)


# ---- files --------------------------------------------------------------------------------------

OLD = ("language_model.model.", "language_model.lm_head.")
NEW = ("model.language_model.", "lm_head.")


def multimodal(folder, model, prefixes):
    """Write `model` as the language model of a multimodal Gemma 3, with some vision tensors."""
    decoder, head = prefixes
    state = {
        name.replace("model.", decoder, 1).replace("lm_head.", head): value
        for name, value in model.state_dict().items()
    }
    for name in (
        "vision_tower.post_layernorm.bias",
        "multi_modal_projector.mm_soft_emb_norm.weight",
    ):
        state[("model." if prefixes is NEW else "") + name] = gradient.zeros(3)
    save_file(state, folder / "model.safetensors")
    text = {key: value for key, value in model.config.to_hf().items() if key != "eos_token_id"}
    config = {
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": {"hidden_size": 16},
        "eos_token_id": [1, 2],
        "boi_token_index": 58,
        "image_token_index": 60,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("prefixes", [OLD, NEW], ids=["old names", "new names"])
def test_the_language_model_of_a_multimodal_one(tmp_path, prefixes):
    model = build("gemma3_text")
    loaded = load_model(multimodal(tmp_path, model, prefixes))
    ids = gradient.tensor([[5, 6, 7, 8, 9]])
    with gradient.no_grad():
        close(loaded(ids), model(ids), 0)
    assert loaded.config.eos_token_id == [1, 2]
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    save_model(loaded, tmp_path / "text")
    again = load_model(tmp_path / "text")  # as a text model, under its own names
    with gradient.no_grad():
        close(again(ids), model(ids), 0)
    assert replace(again.config, extra={}) == loaded.config


def test_images_are_refused(tmp_path):
    model = load_model(multimodal(tmp_path, build("gemma3_text"), OLD))
    assert len(generate(model, [5, 6, 7], max_new_tokens=2, ignore_eos=True).token_ids) == 2
    for token in (58, 60):
        with pytest.raises(ArgumentError, match=f"token {token} stands for .*an image.*text only"):
            generate(model, [5, token, 7], max_new_tokens=2)


def test_a_multimodal_file_that_lacks_a_weight(tmp_path):
    model = build("gemma3_text")
    folder = multimodal(tmp_path, model, OLD)
    state = load_model(folder).state_dict()
    del state["model.norm.weight"]
    save_file(
        {"language_model." + name: value for name, value in state.items()},
        folder / "model.safetensors",
    )
    with pytest.raises(StateDictError, match=r"model\.norm\.weight"):
        load_model(folder)
