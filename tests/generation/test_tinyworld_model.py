"""The model that comes with gradient: it tells stories, remembers, adds, and knows its limits."""

from __future__ import annotations

import sys

import pytest

import gradient
from gradient import hub
from support.paths import EXAMPLES

FOLDER = EXAMPLES / "tinyworld"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))

import questions  # noqa: E402
import stories  # noqa: E402

pytestmark = pytest.mark.skipif(not hub.embedded_models(), reason="built without its model")


@pytest.fixture(scope="module")
def lm():
    return gradient.hub.load("tinyworld")


def talk(lm, *said):
    """What it answers, likeliest tokens first, to the last of the things said."""
    messages = []
    for text in said:
        messages.append({"role": "user", "content": text})
        messages.append({"role": "assistant", "content": str(lm.chat(messages))})
    return messages[-1]["content"]


def test_it_is_a_small_llama():
    folder = hub.find("tinyworld")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 6 * 2**20
    lm = gradient.hub.load("tinyworld")
    assert lm.config.model_type == "llama" and lm.config.kv_heads < lm.config.num_attention_heads
    assert lm.tokenizer.chat_template


def test_it_tells_a_story_to_its_end(lm):
    told = lm.generate("Once upon a time")
    assert told.finish_reason == "stop"
    assert stories.read("Once upon a time" + told.text) is not None
    assert stories.read(talk(lm, "Tell me a story about a girl and a kite.")) is not None


def test_what_the_command_line_draws_is_a_story_too(lm):
    texts = [
        "Once upon a time" + lm.generate("Once upon a time", seed=seed, **lm.recommended).text
        for seed in range(5)
    ]
    assert len(set(texts)) > 1
    assert sum(stories.read(text) is not None for text in texts) >= 3


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (["What is 7 + 5?"], "7 + 5 is 12."),
        (["what is 14 minus 6"], "14 - 6 is 8."),
        (["What does a cow say?"], "A cow says moo."),
        (["What is the capital of France?"], questions.UNKNOWN),
        (["write a poem about the stock market"], questions.UNKNOWN),
        (["Who are you?"], questions.WHO),
        (["My name is Tom.", "What is 2 + 2?", "What is my name?"], "Your name is Tom."),
    ],
)
def test_it_answers(lm, said, answer):
    assert talk(lm, *said) == answer


@pytest.mark.parametrize("hello", ["Hello", "hello!", "Hi there!", "good morning"])
def test_it_is_polite(lm, hello):
    assert talk(lm, hello).startswith("Hello!")
    assert talk(lm, hello, "Thank you!").startswith("You are welcome")
    assert talk(lm, hello, "bye").startswith("Goodbye")
