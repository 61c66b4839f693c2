"""Names that programs for transformers use, and what the errors say of them."""

from __future__ import annotations

import copy

import pytest

import gradient
from gradient.generation import LanguageModel
from gradient.models import GPT2Config, GPT2LMHeadModel
from gradient.text import Tokenizer, byte_tokenizer


@pytest.fixture(scope="module")
def lm():
    config = GPT2Config(vocab_size=300, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    return LanguageModel(GPT2LMHeadModel(config), byte_tokenizer())


@pytest.mark.parametrize(
    ("of", "name", "instead"),
    [
        ("lm", "eval", "use lm.model.eval"),
        ("lm", "parameters", "lm.model.parameters"),
        ("lm", "save_pretrained", "lm.save"),
        ("lm", "quantize", "quantize="),
        ("tokenizer", "eos_token_id", "eos_id"),
        ("tokenizer", "batch_decode", "tokenizer.decode"),
        ("model", "generate", "LanguageModel"),
        ("model", "save_pretrained", "save_model"),
    ],
)
def test_the_error_says_what_to_use(lm, of, name, instead):
    owner = {"lm": lm, "tokenizer": lm.tokenizer, "model": lm.model}[of]
    assert not hasattr(owner, name)
    assert name not in dir(owner)
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'.*{instead}"):
        getattr(owner, name)


@pytest.mark.parametrize("cls", [GPT2LMHeadModel, LanguageModel, Tokenizer])
def test_classes_say_it_too(cls):
    assert not hasattr(cls, "from_pretrained")
    with pytest.raises(AttributeError, match="gradient.hub.load"):
        _ = cls.from_pretrained


def test_a_subclass_and_an_object_may_have_such_a_name(lm):
    class Mine(GPT2LMHeadModel):
        def generate(self):
            return "mine"

    assert Mine(lm.config).generate() == "mine"
    model = GPT2LMHeadModel(lm.config)
    model.generate = lambda: "its own"
    assert model.generate() == "its own"
    with pytest.raises(AttributeError, match="has no attribute 'generation'$"):
        _ = gradient.nn.Linear(1, 1).generation


@pytest.mark.parametrize("of", ["lm", "tokenizer"])
def test_objects_with_such_names_are_copied(lm, of):
    owner = lm if of == "lm" else lm.tokenizer
    assert type(copy.copy(owner)) is type(owner)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'$"):
        _ = owner.nothing


def test_an_error_within_a_property_is_its_own(lm):
    class Mine(LanguageModel):
        @property
        def answer(self):
            return self.question

    with pytest.raises(AttributeError, match="has no attribute 'question'$"):
        _ = Mine(lm.model, lm.tokenizer).answer
