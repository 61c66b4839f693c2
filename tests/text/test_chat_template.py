"""Chat templates, tools, thinking."""

from __future__ import annotations

import itertools
import json

import pytest

from gradient.errors import ArgumentError, FileFormatError
from gradient.text import (
    ChatTemplateError,
    ThinkingStream,
    Tokenizer,
    byte_tokenizer,
    get_json_schema,
    render_chat,
    split_thinking,
    train_bpe,
)
from support.text_data import SENTENCES


@pytest.fixture(scope="module")
def small():
    return train_bpe(SENTENCES * 3, 320)


CHATML = (
    "{% for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HI = [{"role": "user", "content": "Hi <b>&'ü'"}]


def test_renders_a_conversation():
    expected = "<|im_start|>user\nHi <b>&'ü'<|im_end|>\n"
    assert render_chat(CHATML, HI) == expected
    assert (
        render_chat(CHATML, HI, add_generation_prompt=True) == expected + "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    "template, text",
    [
        ("{{ messages | tojson }}", '[{"role": "user", "content": "Hi <b>&\'ü\'"}]'),
        ("{{ {'b': 1, 'a': [2]} | tojson(indent=2) }}", '{\n  "b": 1,\n  "a": [\n    2\n  ]\n}'),
        ("{% generation %}{{ 1 + 1 }}{% endgeneration %}!", "2!"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% set n = namespace(a=1) %}{% set n.a = 5 %}{{ n.a }}", "5"),
        ("{{ strftime_now('%Y') | int > 2000 }}", "True"),
        ("{{ tools }}{{ documents }}{{ add_generation_prompt }}", "NoneNoneFalse"),
    ],
)
def test_templates_find_what_they_are_written_for(template, text):
    assert render_chat(template, HI) == text


@pytest.mark.parametrize(
    "template, message",
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses .*: roles must alternate"),
        ("{% if %}", "does not compile: line 1"),
        ("\n\n{% nothing %}", "does not compile: line 3"),
        ("{{ messages.append(1) }}", "stopped by the sandbox"),
        ("{{ ''.__class__.__mro__ }}", "stopped by the sandbox"),
        ("{{ 'a' * 10 ** 9 }}", "stopped by the sandbox: it takes more than 2,\\d+,\\d+ steps"),
        ("{{ 9 ** (9 ** 9) }}", "stopped by the sandbox"),
        ("{% for i in range(10 ** 7) %}{% endfor %}", "Range too big"),
        ("{% set n = namespace(__class__=1) %}", "stopped by the sandbox"),
        ("{{ 1 / 0 }}", "failed: ZeroDivisionError"),
        ("{{ messages[0].nothing.more }}", "refuses .*no attribute 'nothing'"),
        ("{% include '/etc/passwd' %}", "no loader for this environment|failed"),
    ],
)
def test_a_template_can_not_do_harm(template, message):
    with pytest.raises(ChatTemplateError, match=message):
        render_chat(template, HI)


#: `x` doubles in each of 60 rounds.
DOUBLED = "{{% set n = namespace(x={0}) %}}{{% for _ in range(60) %}}{1}{{% endfor %}}{2}"
HOSTILE = {
    "center": "{{ 'x' | center(10 ** 12) }}",
    "indent": "{{ 'x' | indent(10 ** 12, first=true) }}",
    "indent, by a text": "{{ ('x\n' * 10 ** 6) | indent('x' * 10 ** 6) }}",
    "replace": "{{ ('x' * 10 ** 6) | replace('x', 'y' * 10 ** 6) }}",
    "replace nothing": "{{ ('x' * 10 ** 6).replace('', 'y' * 10 ** 6) }}",
    "join": "{{ range(10 ** 5) | join('y' * 10 ** 6) }}",
    "join, method": "{{ ('y' * 10 ** 6).join('x' * 10 ** 6) }}",
    "batch": "{{ [1] | batch(10 ** 12, 0) | list }}",
    "slice": "{{ [1] | slice(10 ** 12) | list }}",
    "sum": "{% set x = [[1] * 1000] * 1000 %}{{ x | sum(start=[]) | length }}",
    "round": "{{ 1 | round(10 ** 12, 'floor') }}",
    "wordwrap": "{{ ('x' * 10 ** 6) | wordwrap(1) }}",
    "urlize": "{{ ('www.' * 10 ** 6) | urlize }}",
    "tojson": "{{ ([1] * 10 ** 5) | tojson(indent=10 ** 6) }}",
    "pprint": "{{ ([[1] * 1000] * 1000) | pprint }}",
    "map": "{{ range(10 ** 5) | map('center', 10 ** 6) | list }}",
    "ljust": "{{ 'x'.ljust(10 ** 12) }}",
    "zfill": "{{ 'x'.zfill(10 ** 12) }}",
    "expandtabs": "{{ '\t'.expandtabs(10 ** 12) }}",
    "format": "{{ '{:>1000000000000}'.format(1) }}",
    "format, nested": "{{ '{:>{}}'.format(1, 10 ** 12) }}",
    "format_map": "{{ '{x:>1000000000000}'.format_map({'x': 1}) }}",
    "format filter": "{{ '%1000000000000d' | format(1) }}",
    "%": "{{ '%1000000000000d' % 1 }}",
    "% with a width": "{{ '%*d' % (10 ** 12, 1) }}",
    "* of lists": "{{ [0] * 10 ** 12 }}",
    "** of integers": "{{ (9 ** (9 ** 9)) % 7 }}",
    "to_bytes": "{{ (1).to_bytes(10 ** 12, 'big') }}",
    "bytes": "{{ 'x'.encode().center(10 ** 12) }}",
    "strftime_now": "{{ strftime_now('%Y' * 10 ** 7) }}",
    "doubled by ~": DOUBLED.format("'x'", "{% set n.x = n.x ~ n.x %}", ""),
    "doubled by +": DOUBLED.format("'x'", "{% set n.x = n.x + n.x %}", ""),
    "doubled list": DOUBLED.format("[1]", "{% set n.x = n.x + n.x %}", ""),
    "doubled nesting": DOUBLED.format("1", "{% set n.x = [n.x, n.x] %}", "{{ n.x }}"),
    "doubled nesting, ~": DOUBLED.format("1", "{% set n.x = [n.x, n.x] %}", "{{ n.x ~ '' }}"),
    "doubled nesting, json": DOUBLED.format("1", "{% set n.x = [n.x, n.x] %}", "{{ n.x|tojson }}"),
    "doubled nesting, attr": DOUBLED.format("1", "{% set n.x = [n.x, n.x] %}", "{{ 1|attr(n.x) }}"),
    "doubled nesting, safe": DOUBLED.format("1", "{% set n.x = [n.x, n.x] %}", "{{ n.x|safe|d }}"),
    "doubled nesting, list": DOUBLED.format("1", "{% set n.x = [n.x, n.x] %}", "{{ {}[[n.x]] }}"),
    "doubled nesting, string": DOUBLED.format(
        "1", "{% set n.x = {'a': n.x, 'b': n.x} %}", "{{ n.x | string }}"
    ),
    "doubled nesting, ==": DOUBLED.format(
        "1", "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}", "{{ n.x == n.y }}"
    ),
    "doubled nesting, in": DOUBLED.format(
        "1", "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}", "{{ n.x in [n.y] }}"
    ),
    "doubled nesting, eq": DOUBLED.format(
        "1", "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}", "{{ n.x is eq(n.y) }}"
    ),
    "doubled nesting, unique": DOUBLED.format(
        "1", "{% set n.x = (n.x, n.x) %}", "{{ [n.x] | unique | list }}"
    ),
    "doubled nesting, key": DOUBLED.format("1", "{% set n.x = (n.x, n.x) %}", "{{ {n.x: 1} }}"),
    "doubled nesting, index": DOUBLED.format(
        "1", "{% set n.x = (n.x, n.x) %}", "{{ {}[n.x] is defined }}"
    ),
    "doubled nesting, get": DOUBLED.format("1", "{% set n.x = (n.x, n.x) %}", "{{ {}.get(n.x) }}"),
    "doubled namespaces": DOUBLED.format(
        "1", "{% set n.x = namespace(a=n.x, b=n.x) %}", "{{ n.x }}"
    ),
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a loop with a test": (
        "{% for a in range(999) %}{% for b in range(99999) if b < 0 %}{% endfor %}{% endfor %}"
    ),
    "much text": "{% for a in range(99999) %}" + "text " * 1000 + "{% endfor %}",
    "slices": (
        "{% set x = [1] * 10 ** 6 %}{% for a in range(99999) %}{% set y = x[1:] %}{% endfor %}"
    ),
    "searches": (
        "{% set x = 'x' * 10 ** 6 %}{% for a in range(99999) %}{{ 'y' in x }}{% endfor %}"
    ),
    "comparisons": (
        "{% set x, y = 'x' * 10 ** 6, 'x' * 10 ** 6 %}"
        "{% for a in range(99999) %}{{ x == y }}{% endfor %}"
    ),
    "macros": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "blocks": "{% block f %}{% if x %}{% endif %}{{ self.f() }}{{ self.f() }}{% endblock %}",
    "a recursive loop": (
        "{% for x in [1] recursive %}{% if loop.depth < 60 %}{{ loop([1, 1]) }}{% endif %}"
        "{% endfor %}"
    ),
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_a_template_can_not_take_long(template):
    with pytest.raises(ChatTemplateError, match=r"stopped by the sandbox|OverflowError|Recursion"):
        render_chat(template, HI)


def test_long_conversations_may_take_more():
    """What is counted grows with the conversation: one of 3 MB is no attack."""
    words = "{% for m in messages %}{{ m.content | trim | replace('a', 'b') }}{% endfor %}"
    long = [{"role": "user", "content": "a b " * 7500}] * 100
    assert len(render_chat(words, long)) == 100 * (4 * 7500 - 1)


def test_a_template_has_an_end():
    with pytest.raises(ChatTemplateError, match="has 200,001 characters; the limit is 200,000"):
        render_chat("x" * 200_001, HI)


def test_messages_are_checked():
    with pytest.raises(ArgumentError, match=r"messages\[0\]: expected a dict with 'role'"):
        render_chat(CHATML, ["Hi"])


def test_tokenizer_renders_its_own_template(tmp_path, small):
    templates = [
        {"name": "default", "template": "{{ eos_token }}{{ messages[0].content }}"},
        {"name": "tool_use", "template": "{{ tools | length }} tools"},
    ]
    small.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(config | {"chat_template": templates})
    )
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.apply_chat_template(HI) == "<|endoftext|>Hi <b>&'ü'"
    assert tokenizer.apply_chat_template(HI, tools=[{}, {}]) == "2 tools"
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert Tokenizer.from_folder(tmp_path).apply_chat_template(HI) == "from the file"


@pytest.mark.parametrize("template", ["{% break %}", "{{ strftime_now(none) }}"])
def test_no_template_raises_an_error_of_its_own_kind(template):
    with pytest.raises(ChatTemplateError):
        render_chat(template, [{"role": "user", "content": "hi"}])


# Errors carry the template's own words and line -------------------------------------------------


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (
            "{% for m in messages %}\n{{ raise_exception('no ' ~ m.role) }}\n{% endfor %}",
            r"refuses this conversation: no user \(at line 2 of the template, .*raise_exception",
        ),
        (
            "a\nb\n{{ messages[3].content }}",
            r"has no element 3 .*line 3 of the template, '\{\{ messages\[3\]",
        ),
        ("a\n{{ 1 / 0 }}", r"failed: ZeroDivisionError: .*line 2 of the template"),
        ("a\n\n{% iff %}", r"does not compile: line 3 of the template, '\{% iff %\}': Encountered"),
        ("x\n{{ ''.__class__.mro() }}", r"stopped by the sandbox: .*line 2 of the template"),
    ],
)
def test_errors_carry_the_templates_words_and_line(template, words):
    with pytest.raises(ChatTemplateError, match=words):
        render_chat(template, HI)


# What the template is given ----------------------------------------------------------------------


def test_objects_become_plain_values():
    import dataclasses
    import enum

    import numpy as np

    class Color(enum.StrEnum):
        RED = "red"

    @dataclasses.dataclass
    class Part:
        text: str

    message = {
        "role": "user",
        "content": [Part("a"), Color.RED, np.float32(0.5), np.bool_(False), (1, 2), object()],
    }
    expected = '[{"text": "a"}, "red", 0.5, false, [1, 2], "<object>"]'
    assert render_chat("{{ messages[0].content | tojson }}", [message]) == expected


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_is_known_by_all_its_names(name):
    message = {"role": "assistant", "content": "x", name: "because"}
    template = "{{ messages[0].reasoning_content }} {{ messages[0].thinking }}"
    assert render_chat(template, [message]) == "because because"


def test_templates_may_make_dicts():
    assert render_chat("{{ dict(a=1) | tojson }}", HI) == '{"a": 1}'
    with pytest.raises(ChatTemplateError, match="stopped by the sandbox|refuses"):
        render_chat("{{ dict.__subclasses__() }}", HI)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"documents": ["text"]}, r"documents\[0\]: expected a dict, got 'text'"),
        ({"tools": [3]}, r"tools\[0\]: expected a JSON schema .* got 3"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "choose one"),
    ],
)
def test_wrong_arguments_are_explained(options, words):
    with pytest.raises(ArgumentError, match=words):
        render_chat(CHATML, HI, **options)


# Going on with a message -------------------------------------------------------------------------

ANSWER = [*HI, {"role": "assistant", "content": "It is "}]


def test_the_last_message_can_be_continued():
    whole = render_chat(CHATML, ANSWER)
    text = render_chat(CHATML, ANSWER, continue_final_message=True)
    assert whole.startswith(text) and text.endswith("<|im_start|>assistant\nIt is ")
    trimming = CHATML.replace("message.content", "message.content | trim")
    assert render_chat(trimming, ANSWER, continue_final_message=True).endswith("\nIt is")
    parts = [{"role": "assistant", "content": [{"type": "text", "text": "It is "}]}]
    template = "{% for m in messages %}<{{ m.content[0].text }}>{% endfor %}"
    assert render_chat(template, parts, continue_final_message=True) == "<It is "
    thought = [{"role": "assistant", "content": "", "thinking": "Let me"}]
    template = "<think>{{ messages[0].reasoning_content }}</think>"
    assert render_chat(template, thought, continue_final_message="thinking") == "<think>Let me"
    assert ANSWER[-1]["content"] == "It is "


@pytest.mark.parametrize(
    ("messages", "template", "words"),
    [
        (HI[:0], CHATML, "the last message has no content"),
        ([{"role": "user", "content": None}], CHATML, "the last message has no content"),
        (ANSWER, "nothing", "does not show the last message's content"),
        (ANSWER, "{{ messages[-1].content | upper }}", "does not show the last message's content"),
    ],
)
def test_what_cannot_be_continued_is_refused(messages, template, words):
    with pytest.raises(ArgumentError, match=words):
        render_chat(template, messages, continue_final_message=True)


# The assistant's own tokens ----------------------------------------------------------------------

TRAINING = (
    "{% for m in messages %}[{{ m.role }}]"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}.{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{{ '\n' }}{% endfor %}"
)


def test_a_mask_marks_what_the_assistant_says():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TRAINING
    messages = [
        {"role": "user", "content": "é"},
        {"role": "assistant", "content": "ü?"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    tokens = tokenizer.encode_chat(messages)
    text = "[user]é\n[assistant]ü?.\n[user]b\n[assistant]c.\n"
    assert tokens.input_ids == list(text.encode())
    assert tokenizer.apply_chat_template(messages) == text
    marked = [token for token, ours in zip(*tokens, strict=True) if ours]
    assert bytes(marked).decode() == "ü?.c."


LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content | trim + ' <|end|>' }}{% endif %}"
    "{% endfor %}"
)
FORGETS_THOUGHTS = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' and loop.last %}(thought){{ m.content }}"
    "{% else %}{{ m.content.split(')')[-1] }}{% endif %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CALLS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content or m.tool_calls[0].name }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.mark.parametrize(
    "template, said",
    [
        (CHATML, ["It is 3. <|im_end|>", "Yes.<|im_end|>"]),
        (LLAMA_2, [" It is 3. <|end|>", " Yes. <|end|>"]),
        (FORGETS_THOUGHTS, ["It is 3. <|end|>", "(thought)Yes.<|end|>"]),
        (CALLS, ["It is 3. <|end|>", "Yes.<|end|>"]),
    ],
)
def test_a_template_without_marks_is_seen_from_outside(template, said):
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|end|>"])
    tokenizer.chat_template = template
    messages = [
        {"role": "user", "content": "What is 1 plus 2?"},
        {"role": "assistant", "content": "It is 3. "},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes."},
    ]
    tokens = tokenizer.encode_chat(messages)
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=False)
    assert tokenizer.decode(tokens.input_ids, skip_special_tokens=False) == text
    runs = itertools.groupby(zip(*tokens, strict=True), key=lambda pair: pair[1])
    shown = [
        tokenizer.decode([token for token, _ in run], skip_special_tokens=False)
        for ours, run in runs
        if ours
    ]
    assert shown == said


def test_a_call_of_a_tool_is_said_by_the_assistant():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CALLS
    messages = [*HI, {"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]}]
    tokens = tokenizer.encode_chat(messages)
    assert bytes(t for t, ours in zip(*tokens, strict=True) if ours) == b"add<|end|>"


def test_a_template_that_hides_the_assistant_is_refused():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ messages | length }}{{ messages[-1].content }}"
    with pytest.raises(
        ChatTemplateError, match=r"messages\[1\]: where the assistant speaks cannot"
    ):
        tokenizer.encode_chat([*HI, {"role": "assistant", "content": "x"}])


def test_a_published_template_is_learned_from(real_data):
    tokenizer = Tokenizer.from_folder(real_data("tok_qwen2_5"))
    tokens = tokenizer.encode_chat([*HI, {"role": "assistant", "content": "Hello."}])
    said = [token for token, ours in zip(*tokens, strict=True) if ours]
    assert tokenizer.decode(said, skip_special_tokens=False) == "Hello.<|im_end|>"


# Tools -------------------------------------------------------------------------------------------


def test_functions_become_schemas():
    def weather(place: str, days: int = 1, unit: str = "C") -> float:
        """The weather at a place.

        In degrees.

        Args:
            place: A town, such as
                "Zürich".
            days: How many.
            unit: Which one (choices: ["C", "F"])

        Returns:
            The temperature.
        """
        return 0.0

    schema = get_json_schema(weather)
    assert schema == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather at a place.\n\nIn degrees.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": 'A town, such as "Zürich".'},
                    "days": {"type": "integer", "description": "How many."},
                    "unit": {"type": "string", "enum": ["C", "F"], "description": "Which one"},
                },
                "required": ["place"],
            },
            "return": {"type": "number", "description": "The temperature."},
        },
    }
    assert render_chat("{{ tools | tojson }}", HI, tools=[weather]) == json.dumps(
        [schema], ensure_ascii=False
    )


def undocumented(x: int) -> int:
    return x


def unannotated(x):
    """Does it.

    Args:
        x: A number.
    """


def undescribed(x: int, y: int):
    """Does it.

    Args:
        x: A number.
    """


def unknown(x: Tokenizer):
    """Does it.

    Args:
        x: A number.
    """


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (undocumented, "tool undocumented: it has no docstring"),
        (unannotated, "tool unannotated: the argument 'x' has no annotation"),
        (undescribed, "tool undescribed: the argument 'y' has no description"),
        (unknown, "tool unknown: x: no JSON schema for the type"),
    ],
)
def test_a_function_that_says_too_little_is_no_tool(function, words):
    with pytest.raises(ArgumentError, match=words):
        render_chat(CHATML, HI, tools=[function])


# Thinking ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "opened", "thinking", "answer"),
    [
        ("<think>\nTwo.\n</think>\n\nFour.", False, "Two.", "Four."),
        (" \n<think>Two.</think>Four. ", False, "Two.", "Four. "),
        ("<think>\n\n</think>\n\nFour.", False, "", "Four."),
        ("Two.\n</think>\n\nFour.", True, "Two.", "Four."),
        ("<think>never en", False, "never en", ""),
        ("never ended", True, "never ended", ""),
        ("<think>Two.</think>Four.", True, "Two.", "Four."),  # the tag once more
        ("<thin", True, "<thin", ""),
        ("Four.", False, "", "Four."),
        (" a < b", False, "", " a < b"),
        ("<thin", False, "", "<thin"),
        ("", False, "", ""),
        ("<think>a</think>b<think>c</think>", False, "a", "b<think>c</think>"),
    ],
)
def test_thinking_is_kept_apart(text, opened, thinking, answer):
    assert split_thinking(text, opened=opened) == (thinking, answer)
    for size in range(1, 9):
        stream = ThinkingStream(opened=opened)
        given = [stream.push(text[at : at + size]) for at in range(0, len(text), size)]
        given.append(stream.flush())
        assert "".join(each.thinking for each in given) == thinking
        assert "".join(each.answer for each in given) == answer


def test_a_thought_that_only_ends_was_begun_by_the_prompt():
    assert split_thinking("Two.</think>Four.") == ("Two.", "Four.")


def test_thinking_streams_without_delay():
    stream = ThinkingStream()
    assert stream.push("<think>") == ("", "")
    assert stream.push("a b") == ("a b", "")
    assert stream.push(" </thi") == ("", "")  # may be the end
    assert stream.push("s") == (" </this", "")
    assert stream.push("</think>Yes") == ("", "Yes")


# A tokenizer's templates -------------------------------------------------------------------------


def test_a_template_is_chosen_by_name_or_given():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"default": "d", "tool_use": "t", "rag": "r {{ documents | length }}"}
    assert tokenizer.apply_chat_template(HI) == "d"
    assert tokenizer.apply_chat_template(HI, tools=[{}]) == "t"
    assert tokenizer.apply_chat_template(HI, documents=[{}], chat_template="rag") == "r 1"
    assert tokenizer.apply_chat_template(HI, chat_template="{{ eos_token }}") == "<|endoftext|>"
    tokenizer.chat_template = {"rag": "r"}
    with pytest.raises(ArgumentError, match="no 'default' one; give chat_template= one of rag"):
        tokenizer.apply_chat_template(HI)


def test_a_special_token_that_there_is_not_is_undefined():
    tokenizer = byte_tokenizer()
    template = "{{ 'yes' if pad_token is defined else 'no' }}"
    assert tokenizer.apply_chat_template(HI, chat_template=template) == "no"


def test_additional_templates_are_files_of_a_folder(tmp_path, small):
    small.save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("default")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.apply_chat_template(HI) == "default"
    assert tokenizer.apply_chat_template(HI, tools=[{}]) == "tools"
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": [1]}')
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(FileFormatError, match="chat_template must be a string or a list"):
        Tokenizer.from_folder(tmp_path)
