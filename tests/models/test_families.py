"""What holds for every decoder family, whatever its parts: one contract, a row for each."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gradient
from gradient.checkpoints import load_model, save_gguf, save_model
from gradient.checkpoints.weight_names import to_checkpoint
from gradient.errors import UnsupportedModel
from gradient.generation import generate
from gradient.io.safetensors import save_file
from gradient.kv_cache import KVCache
from gradient.models.families import MODELS
from support.families import FAMILIES, VOCAB, random_model
from support.paths import CHECKOUT

ENCODERS = {"bert", "distilbert", "roberta", "xlm-roberta"}
MIXTURES = {"deepseek_v2", "mixtral", "qwen2_moe", "qwen3_moe"}
#: What llama.cpp has no words for, of families that it knows.
NOT_IN_GGUF = {
    "falcon, new": "new_decoder_architecture",
    "llama, dynamic rope": "dynamic",
    "phi, normed": "qk_layernorm",
    "smollm3": "no_rope_layers",
    "stablelm": "qk_layernorm",
}
GGUF = [name for name in FAMILIES if MODELS[name.partition(",")[0]].gguf]


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def model(family, device):
    return random_model(family, device)


def close(actual, expected, tolerance=2e-5):
    """Compare by the largest difference, relative to the largest expected number."""
    actual, expected = (x.detach().cpu().float().numpy() for x in (actual, expected))
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def depends_on_length(family: str) -> bool:
    """Whether a token's keys depend on the length of the text that is read with it."""
    return "dynamic rope" in family


def test_every_family_has_a_row():
    rows = {family.partition(",")[0] for family in FAMILIES}
    assert rows | {"gemma3"} == MODELS.keys() - ENCODERS  # gemma3: gemma3_text in a larger file


def test_the_documentation_lists_every_model_type():
    page = (CHECKOUT / "docs" / "models.md").read_text(encoding="utf-8")
    assert [name for name in MODELS if f"`{name}`" not in page] == []


@pytest.mark.parametrize("ends", [[7, 8, 20], [1, 2, 3, 4, 20]], ids=str)
def test_chunks_through_the_cache_give_the_logits_of_the_whole(family, ends, device):
    changes = {"max_position_embeddings": 64} if depends_on_length(family) else {}
    model = random_model(family, device, **changes)
    ids = gradient.randint(0, VOCAB, (2, 20), device=device)
    cache = KVCache.for_model(model, 2)
    with gradient.no_grad():
        whole = model(ids)
        starts = [0, *ends[:-1]]
        parts = [model(ids[:, a:b], cache) for a, b in zip(starts, ends, strict=True)]
    assert whole.shape == (2, 20, VOCAB)
    close(gradient.cat(parts, dim=1), whole)


def test_rows_of_a_ragged_batch_are_as_alone(model, family, device):
    ids = gradient.randint(0, VOCAB, (4, 14), device=device)
    lengths = [14, 3, 9, 0]
    cache = KVCache.for_model(model, 4)
    with gradient.no_grad():
        batch = model(ids, lengths=lengths)
        last = model(ids, cache, lengths=lengths, last_only=True)
        after = model(ids[:, :1], cache)
        assert last.shape == (4, 1, VOCAB)
        for row, length in enumerate(lengths):
            text = ids[row : row + 1, :length]
            if length:
                alone = model(text)
                close(batch[row : row + 1, :length], alone)
                close(last[row : row + 1], alone[:, -1:])
            longer = model(gradient.cat([text, ids[row : row + 1, :1]], dim=1))
            close(after[row : row + 1], longer[:, -1:])


def test_tokens_cached_and_not_alone_and_in_a_batch(model, family):
    prompts = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15]]
    options = {"max_new_tokens": 8, "ignore_eos": True}
    alone = [generate(model, prompt, use_cache=False, **options).token_ids for prompt in prompts]
    assert [generate(model, prompt, **options).token_ids for prompt in prompts] == alone
    assert [each.token_ids for each in generate(model, prompts, **options)] == alone


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in MIXTURES])
def test_in_16_bits_chunks_are_near_the_whole(family, device):
    """But for mixtures: of two experts nearly tied, the last bit chooses."""
    model = random_model(family, device).to(gradient.bfloat16)
    ids = gradient.randint(0, VOCAB, (1, 12), device=device)
    cache = KVCache.for_model(model, 1)
    with gradient.no_grad():
        whole = model(ids)
        parts = gradient.cat([model(ids[:, at : at + 4], cache) for at in (0, 4, 8)], dim=1)
    assert whole.dtype == gradient.bfloat16
    close(parts, whole, 4e-2)


def test_every_parameter_learns(model, device):
    ids = gradient.arange(2, 2 + 2 * 24, device=device).view(2, 24) % VOCAB
    model.train()(ids).square().mean().backward()
    for name, parameter in model.named_parameters():
        if ".experts." in name:  # no token may have chosen it
            continue
        assert parameter.grad is not None and parameter.grad.abs().max().item() > 0, name


def test_the_config_comes_back(model, family):
    values = json.loads(json.dumps(model.config.to_hf()))
    assert values["model_type"] == family.partition(",")[0]
    config = type(model.config).from_hf(values)
    assert config.to_hf() == values
    assert config.eos_token_ids == {1}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_saved_and_loaded_it_is_the_same(family, tied, tmp_path, device):
    model = random_model(family, device, tie_word_embeddings=tied)
    save_model(model, tmp_path, max_shard_bytes=8000)
    again = load_model(tmp_path, device=device)
    assert type(again) is type(model) and again.architecture == model.architecture
    assert again.config.tie_word_embeddings == tied
    head, source = next(iter(model.tied.items()))
    assert (again.get_parameter(head) is again.get_parameter(source)) == tied
    ids = gradient.randint(0, VOCAB, (1, 9), device=device)
    with gradient.no_grad():
        close(again(ids), model(ids), 2e-6)  # GPT-2's matrices lie the other way round


def test_a_file_of_the_decoder_alone(family, tmp_path):
    """As some are saved: without the decoder's name before the names of its weights."""
    model = random_model(family, tie_word_embeddings=True)
    save_model(model, tmp_path)
    prefix = model.base_model_prefix + "."
    state = {n.removeprefix(prefix): p.contiguous() for n, p in to_checkpoint(model).items()}
    save_file(state, tmp_path / "model.safetensors")
    ids = gradient.tensor([[5, 6, 7, 8]])
    with gradient.no_grad():
        close(load_model(tmp_path)(ids), model(ids), 2e-6)


@pytest.mark.parametrize("family", [name for name in GGUF if name not in NOT_IN_GGUF])
def test_gguf_has_a_name_for_every_weight(family, tmp_path):
    model = random_model(family)
    save_gguf(model, tmp_path / "model.gguf")
    again = load_model(tmp_path / "model.gguf")
    assert type(again) is type(model) and type(again.config) is type(model.config)
    ids = gradient.tensor([[5, 6, 7, 8, 9, 10, 11, 12, 13]])
    with gradient.no_grad():
        close(again(ids), model(ids), 2e-6)


@pytest.mark.parametrize("family", NOT_IN_GGUF)
def test_what_gguf_cannot_say_is_told(family, tmp_path):
    with pytest.raises(UnsupportedModel, match=NOT_IN_GGUF[family]):
        save_gguf(random_model(family), tmp_path / "model.gguf")
