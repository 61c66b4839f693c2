"""`LanguageModel.chat`: system prompts, tools, and thinking apart from the answer."""

from __future__ import annotations

import sys
from io import StringIO

import numpy as np
import pytest

import gradient
from gradient.cli import chat as cli_chat
from gradient.errors import ArgumentError, GenerationError
from gradient.generation import LanguageModel
from gradient.models import GPT2Config
from gradient.models.causal_lm import CausalLM
from gradient.text import ChatTemplateError, byte_level

EOS = 256
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if tools %}{{ tools | length }} tools\n{% endif %}"
    "{% if documents %}{{ documents | length }} documents\n{% endif %}"
    "{% if enable_thinking is defined %}thinks: {{ enable_thinking }}\n{% endif %}"
    "{% if mood is defined %}{{ mood }}\n{% endif %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
HI = [{"role": "user", "content": "hi"}]


class Scripted(CausalLM):
    """Says `script` after any prompt, and remembers the prompt."""

    context_length = None
    kv_shapes = property(lambda self: [])
    dtype = gradient.float32
    device = "cpu"

    def __init__(self, script: str) -> None:
        super().__init__(GPT2Config(vocab_size=257, bos_token_id=EOS, eos_token_id=EOS))
        self.script = [*script.encode(), EOS]
        self.heard = None

    def forward(self, input_ids, cache=None, *, lengths=None, last_only=False):
        if self.heard is None:
            self.heard = bytes(input_ids.tolist()[0]).decode()
            self.begin = input_ids.shape[1]
        cache.begin(input_ids.shape[1], lengths).commit()
        logits = np.zeros((1, 1, 257), dtype=np.float32)
        logits[0, 0, self.script[cache.counts[0] - self.begin]] = 10.0
        return gradient.tensor(logits)


def chatty(script, template=TEMPLATE):
    tokenizer = byte_level()
    tokenizer.chat_template = template
    return LanguageModel(Scripted(script), tokenizer)


@pytest.mark.parametrize("error", [KeyboardInterrupt, GenerationError("full")])
def test_at_a_terminal_a_conversation_outlives_an_answer(error, monkeypatch, capsys):
    """In a pipe it ends: see `gradient.cli.errors` for how."""
    lm, asked = chatty("unused"), []

    def answer(messages, **options):
        asked.append([message["content"] for message in messages])
        if len(asked) == 2:
            raise error
        return iter(["o", "k"])

    monkeypatch.setattr(lm, "chat", answer)
    monkeypatch.setattr(cli_chat, "load_language_model", lambda *args, **options: lm)
    monkeypatch.setattr(cli_chat, "_turns", lambda: iter(["a", "b", "c", "/exit", "d"]))
    terminal = StringIO()
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        cli_chat.chat("it")
    asked.clear()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    cli_chat.chat("it")
    cut = ["b", ""] if error is KeyboardInterrupt else []
    assert asked == [["a"], ["a", "ok", "b"], ["a", "ok", *cut, "c"]]
    assert ("error: full" in capsys.readouterr().err) == (not cut)


def say(script, messages=HI, template=TEMPLATE, **options):
    """The answer, and what the model was shown."""
    lm = chatty(script, template)
    return lm.chat(messages, max_new_tokens=200, **options), lm.model.heard


def weather(place: str) -> float:
    """The weather.

    Args:
        place: Where.
    """
    return 0.0


def test_thoughts_are_not_part_of_the_answer():
    answer, _ = say("<think>\n1 + 1\n</think>\n\nTwo.")
    assert (answer.thinking, str(answer)) == ("1 + 1", "Two.")
    assert len(answer.token_ids) == len("<think>\n1 + 1\n</think>\n\nTwo.")
    assert answer.to_json()["thinking"] == "1 + 1"
    answer, _ = say("Two.")
    assert (answer.thinking, str(answer)) == ("", "Two.")


def test_a_prompt_may_open_the_thought():
    answer, heard = say("1 + 1\n</think>Two.", template=TEMPLATE + "{{ '<think>\n' }}")
    assert heard.endswith("<think>\n")
    assert (answer.thinking, str(answer)) == ("1 + 1", "Two.")
    answer, _ = say("never ends", template=TEMPLATE + "<think>")
    assert (answer.thinking, str(answer)) == ("never ends", "")


def test_a_stream_holds_everything():
    pieces = chatty("<think>a</think>b").chat(HI, stream=True, max_new_tokens=99)
    assert "".join(pieces) == "<think>a</think>b"


def test_the_template_is_told_what_the_caller_says():
    _, heard = say(
        "x",
        system="Be brief.",
        tools=[weather],
        documents=[{"text": "t"}],
        enable_thinking=False,
        template_variables={"mood": "good"},
    )
    assert heard == (
        "<system>Be brief.\n<user>hi\n1 tools\n1 documents\nthinks: False\ngood\n<assistant>"
    )


def test_a_system_prompt_finds_its_way_into_a_model_without_one():
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    _, heard = say("x", template=template + TEMPLATE, system="Be brief.")
    assert heard == "<user>Be brief.\n\nhi\n<assistant>"
    with pytest.raises(ChatTemplateError, match="no system"):
        say("x", [{"role": "system", "content": "s"}, *HI], template=template + TEMPLATE)
    with pytest.raises(ChatTemplateError, match="never"):
        say("x", template="{{ raise_exception('never') }}", system="Be brief.")


def test_a_model_without_a_template_gets_a_transcript():
    _, heard = say("x", template=None, system="Be brief.")
    assert heard == "System: Be brief.\nUser: hi\nAssistant:"
    with pytest.raises(ArgumentError, match="knows neither tools nor documents"):
        say("x", template=None, tools=[weather])


def test_two_system_prompts_are_one_too_many():
    with pytest.raises(ArgumentError, match="give one of them"):
        say("x", [{"role": "system", "content": "s"}, *HI], system="Be brief.")
