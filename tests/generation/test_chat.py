"""`LanguageModel.chat`: system prompts, tools, and thinking apart from the answer."""

from __future__ import annotations

import re
import sys
from io import StringIO

import numpy as np
import pytest

import gradient
from gradient.cli import chat as cli_chat
from gradient.cli.turns import command_of, read_turn
from gradient.errors import ArgumentError, GenerationError
from gradient.generation import LanguageModel
from gradient.generation.conversation import trimmed
from gradient.models import GPT2Config, GPT2LMHeadModel
from gradient.models.causal_lm import CausalLM
from gradient.text import ChatTemplateError, byte_tokenizer

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
    tokenizer = byte_tokenizer()
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
    monkeypatch.setattr(cli_chat, "turns", lambda: iter(["a", "b", "c", "/exit", "d"]))
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


@pytest.mark.parametrize(
    ("typed", "turn"),
    [
        (["one line"], "one line"),
        (["one \\", "two\\", "three", "not read"], "one \ntwo\nthree"),
        (['"""one', "two", 'three"""', "not read"], "one\ntwo\nthree"),
        (['"""', "  indented", '"""'], "  indented"),
        (['"""one line"""'], "one line"),
        (['""""""'], ""),
        ([""], ""),
    ],
)
def test_turns_of_several_lines(typed, turn):
    prompts, lines = [], iter(typed)
    assert read_turn(lambda prompt: prompts.append(prompt) or next(lines)) == turn
    assert prompts == ["> ", *[". "] * (len(prompts) - 1)]


def test_commands():
    assert command_of("/system Be brief.\nAlways.", strict=False) == (
        "system",
        "Be brief.\nAlways.",
    )
    assert command_of("/reset", strict=False) == ("reset", "")
    assert command_of("/rest", strict=True) == ("rest", "")
    for text in ("/usr/bin is what?", " /help", "a /help"):
        assert command_of(text, strict=True) is None
    assert command_of("/rest", strict=False) == ("rest", "")
    assert command_of("/rest is a word", strict=False) is None


def converse(monkeypatch, lm, *turns, **options):
    """The conversations that a model is shown at a terminal, turn by turn."""
    shown, answers = [], lm.chat

    def chat(messages, **given):
        system = [given["system"]] if given.get("system") else []
        shown.append([*system, *(message["content"] for message in messages)])
        return answers(messages, **given)

    terminal = StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(lm, "chat", chat)
    monkeypatch.setattr(cli_chat, "load_language_model", lambda *args, **options: lm)
    monkeypatch.setattr(cli_chat, "turns", lambda: iter(turns))
    cli_chat.chat("it", temperature=0.0, **options)
    return shown


def test_what_commands_do(monkeypatch, capsys):
    turns = ["a", "/undo", "b", "/system Be brief.", "c", "/reset", "d", "/system", "e"]
    more = ["/clear", "/keep", "/help", "/what", "/exit", "f"]
    shown = converse(monkeypatch, tiny_chat(), *turns, *more, max_new_tokens=2)
    brief = "Be brief."
    assert shown == [["a"], ["b"], [brief, "c"], [brief, "d"], ["e"]]
    said = capsys.readouterr().err
    assert "there is no turn yet" in said and "there is no command /what" in said
    assert "/reset         forget" in said


@pytest.mark.parametrize("word", ["/exit", "/quit", "/bye"])
def test_words_that_leave(monkeypatch, word):
    assert converse(monkeypatch, tiny_chat(), "a", word, "b", max_new_tokens=2) == [["a"]]


def tiny_chat(template=TEMPLATE, context=200):
    """A random model of bytes whose context ends."""
    gradient.manual_seed(0)
    config = GPT2Config(
        vocab_size=257, n_positions=context, n_embd=16, n_layer=1, n_head=2, eos_token_id=EOS
    )
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return LanguageModel(GPT2LMHeadModel(config).eval(), tokenizer, "tiny")


def test_a_full_context_drops_the_oldest_turns_and_says_so(monkeypatch, capsys):
    turns = [letter * 20 for letter in "abcdef"]
    told = {"system": "Be brief.", "max_new_tokens": 3}
    shown = converse(monkeypatch, tiny_chat(), turns[0], "/keep", *turns[1:], **told)
    assert len(shown) == 6  # every turn has an answer
    for messages, turn in zip(shown, turns, strict=True):
        assert messages[0] == "Be brief." and messages[1] == turns[0] and messages[-1] == turn
    assert turns[1] in shown[1] and turns[1] not in shown[-1]
    said = capsys.readouterr().err
    assert re.search("the context is full: the oldest .* dropped", said)
    shown = converse(monkeypatch, tiny_chat(), "a", "b" * 300, "c", **told)
    assert shown[-1][:2] == ["Be brief.", "a"] and shown[-1][-1] == "c"
    assert "b" * 300 not in shown[-1]  # said, taken back, gone on
    said = capsys.readouterr().err
    assert "error: prompt: " in said and "dropped" not in said


@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_a_conversation_is_made_to_fit(template):
    lm = tiny_chat(template)
    system = {"role": "system", "content": "Be brief."}
    kept = {"role": "user", "content": "remember", "keep": True}
    turns = [
        {"role": role, "content": letter * 12}
        for letter in "abcdef"
        for role in ("user", "assistant")
    ]
    messages = [system, kept, *turns, {"role": "user", "content": "end"}]
    fit = lm.trim_messages(messages, max_new_tokens=4)
    assert fit[:2] == [system, kept] and fit[-1] == messages[-1]
    assert fit[2:-1] == turns[-len(fit[2:-1]) :] and 2 <= len(fit[2:-1]) < len(turns)
    answer = lm.chat(fit, max_new_tokens=4)
    assert len(answer.token_ids) == 4 or answer.finish_reason == "stop"
    with pytest.raises(ArgumentError, match="do not fit the model's context of 200"):
        lm.chat(messages)
    assert lm.trim_messages(fit, max_new_tokens=4) == fit
    hopeless = [{"role": "user", "content": "x" * 900}]
    assert lm.trim_messages(hopeless) == hopeless


def test_tool_calls_go_with_their_turn():
    roles = ["system", "assistant", "user", "assistant", "tool", "assistant", "user"]
    messages = [{"role": role, "content": str(at)} for at, role in enumerate(roles)]
    left = [[m["content"] for m in trimmed(messages, len, room)] for room in (7, 6, 3, 2, 1)]
    assert left == [list("0123456"), list("023456"), list("06"), list("06"), list("06")]


def test_a_base_model_is_said_to_be_none_for_chat(monkeypatch, capsys):
    converse(monkeypatch, tiny_chat(None), "hi", max_new_tokens=2)
    assert "it is a base model, not trained to converse" in capsys.readouterr().err
    converse(monkeypatch, tiny_chat(), "hi", max_new_tokens=2, verbose=True)
    said = capsys.readouterr().err
    assert "base model" not in said
    assert re.search(r"\[prompt \d+ tokens in .* s, 2 generated, .* tokens/s; length\]", said)


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


@pytest.mark.parametrize("silent", [{}, {"content": None}, {"content": 3}])
def test_who_asks_says_something(silent):
    for role in ("user", "system"):
        with pytest.raises(ArgumentError, match=rf"messages\[0\]: .*content of role {role}, got"):
            say("x", [{"role": role, **silent}, *HI])


def test_two_system_prompts_are_one_too_many():
    with pytest.raises(ArgumentError, match="give one of them"):
        say("x", [{"role": "system", "content": "s"}, *HI], system="Be brief.")
