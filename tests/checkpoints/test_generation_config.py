"""generation_config.json: its token ids always hold, its sampling options where asked for."""

from __future__ import annotations

import json

import pytest

import gradient
from gradient.errors import FileFormatError
from gradient.generation import LanguageModel, generate
from gradient.models import GPT2Config, GPT2LMHeadModel
from gradient.text import byte_tokenizer

EOS = 256


@pytest.fixture
def folder(tmp_path):
    gradient.manual_seed(3)
    config = GPT2Config(
        vocab_size=257, n_positions=64, n_embd=32, n_layer=2, n_head=4,
        bos_token_id=EOS, eos_token_id=EOS, initializer_range=0.2,
    )  # fmt: skip
    LanguageModel(GPT2LMHeadModel(config), byte_tokenizer()).save(tmp_path)
    return tmp_path


def test_without_the_file_nothing_is_recommended(folder):
    lm = gradient.hub.load(folder)
    assert lm.model.generation_config == lm.recommended == {}


def test_its_tokens_end_the_text(folder):
    plain = gradient.hub.load(folder).generate("abc", max_new_tokens=20).token_ids
    ending = plain[4]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [ending, 3]}))
    lm = gradient.hub.load(folder)
    result = lm.generate("abc", max_new_tokens=20)
    assert result.token_ids == plain[: plain.index(ending)]
    assert result.finish_reason == "stop"
    lm.save(folder / "copy")
    again = gradient.hub.load(folder / "copy")
    assert again.generate("abc", max_new_tokens=20).token_ids == result.token_ids


def test_its_sampling_options_are_used_by_asking(folder):
    values = {
        "do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95,
        "repetition_penalty": 1.05, "max_length": 20, "transformers_version": "4.51.0",
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(values))
    lm = gradient.hub.load(folder)
    assert lm.recommended == {
        "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05,
    }  # fmt: skip
    greedy = generate(lm.model, list(b"abc"), max_new_tokens=20).token_ids
    assert lm.generate("abc", max_new_tokens=20).token_ids == greedy
    drawn = lm.generate("abc", max_new_tokens=20, seed=1, **lm.recommended)
    assert drawn.token_ids != greedy


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"temperature": 0.6, "top_p": 0.9}, {}),
        ({"do_sample": True}, {"temperature": 1.0}),
        ({"do_sample": False, "repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
    ],
    ids=str,
)
def test_sampling_options_without_sampling_mean_nothing(folder, values, expected):
    (folder / "generation_config.json").write_text(json.dumps(values))
    assert gradient.hub.load(folder).recommended == expected


@pytest.mark.parametrize("content", ["[]", "{", '{"eos_token_id": "2"}', '{"bos_token_id": [1]}'])
def test_a_malformed_file_is_an_error_before_weights_are_read(folder, content):
    (folder / "generation_config.json").write_text(content)
    (folder / "model.safetensors").write_bytes(b"damaged, too")
    with pytest.raises(FileFormatError, match="generation_config.json"):
        gradient.hub.load(folder)
