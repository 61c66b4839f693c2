"""Tokenizers against the sentencepiece package and transformers, chat templates against the latter.

The templates below are written for these tests, in the styles of published ones.
"""

from __future__ import annotations

import enum
import io
import json
import shutil
from typing import Any, Literal

import pytest

from gradient.text import Tokenizer, get_json_schema, render_chat, train_bpe
from gradient.text.sentencepiece import arguments_of, parse_sentencepiece
from support.text_data import SENTENCES, excerpts, hard_texts

pytestmark = pytest.mark.parity


# SentencePiece -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts(real_data):
    """Real and random ones, 3,000 in all."""
    found = hard_texts(1500) + SENTENCES
    for folder in ("tinystories_sample", "tinyshakespeare"):
        file = max(real_data(folder).iterdir(), key=lambda path: path.stat().st_size)
        found += excerpts(file.read_text("utf-8", "replace"), 750)
    return found


def differing(tokenizer, yardstick, texts):
    """Texts whose ids are others than SentencePiece's."""
    return [
        text
        for text in texts
        if tokenizer.encode(text, add_special_tokens=False, parse_special=False)
        != yardstick.encode(text)
    ]


@pytest.mark.parametrize("name", ["stories260k/tok512.model", "tok_open_llama/open_llama_3b.model"])
def test_published_models_give_sentencepieces_ids(real_data, texts, name):
    sentencepiece = pytest.importorskip("sentencepiece")
    tokenizer = Tokenizer.from_file(real_data(name))
    yardstick = sentencepiece.SentencePieceProcessor(str(real_data(name)))
    assert differing(tokenizer, yardstick, texts) == []
    for text in texts:
        if "▁" not in text:  # SentencePiece takes one at a text's head for the space it added
            ids = yardstick.encode(text)
            assert tokenizer.decode(ids) == yardstick.decode(ids)


NORMALIZERS = {
    "nmt_nfkc": {"normalization_rule_name": "nmt_nfkc"},
    "identity": {"normalization_rule_name": "identity"},
    "no dummy prefix": {"normalization_rule_name": "nfkc_cf", "add_dummy_prefix": False},
    "all spaces": {
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "byte_fallback": True,
    },
    "user-defined": {"user_defined_symbols": ["<U>", "the", "▁▁"], "control_symbols": ["<C>"]},
    "across spaces": {
        "normalization_rule_name": "identity",
        "user_defined_symbols": ["<U>"],
        "split_by_whitespace": False,
        "remove_extra_whitespaces": False,
    },
    "suffix": {"treat_whitespace_as_suffix": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("options", NORMALIZERS.values(), ids=NORMALIZERS)
def test_trained_models_give_sentencepieces_ids(texts, kind, options):
    sentencepiece = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(text.replace("\n", " ") for text in texts if text.strip()),
        model_writer=written,
        vocab_size=1200,
        model_type=kind,
        character_coverage=0.98,
        hard_vocab_limit=False,
        minloglevel=9,
        **options,
    )
    tokenizer = Tokenizer(**arguments_of(parse_sentencepiece(written.getvalue())))
    yardstick = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    cases = [*texts, "a<U>b<C> the", "<U> <U>", "the <U>"]
    wrong = differing(tokenizer, yardstick, cases)
    # Where two cuts of a text have one score, the sums' last bits decide: theirs are float32.
    ties = 0 if kind == "bpe" else len(cases) // 200
    assert len(wrong) <= ties, wrong[:5]


# transformers ------------------------------------------------------------------------------------


def test_transformers_reads_what_we_save(tmp_path):
    transformers = pytest.importorskip("transformers")
    small = train_bpe(SENTENCES * 3, 320)
    small.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in SENTENCES:
        assert theirs.encode(text) == small.encode(text)
        assert theirs.decode(small.encode(text)) == text


def test_a_llamas_sentencepiece_model_is_read_alike(real_data, tmp_path):
    """As `"legacy": false` has it, and saved as tokenizer.json by either side."""
    transformers = pytest.importorskip("transformers")
    shutil.copy(real_data("stories260k") / "tok512.model", tmp_path / "tokenizer.model")
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = [Tokenizer.from_folder(tmp_path), Tokenizer.from_folder(tmp_path / "theirs")]
    ours[0].save(tmp_path / "ours")
    back = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    for text in [*SENTENCES, "Once upon a time</s>there was <s> a", "Lily's"]:
        expected = theirs.encode(text)
        assert [each.encode(text) for each in ours] == [expected, expected]
        assert back.encode(text) == expected
        assert ours[0].decode(expected) == theirs.decode(expected, skip_special_tokens=True)


def weather(
    place: str,
    days: int | None = None,
    unit: Literal["C", "F"] = "C",
    more: list[dict[str, float]] | None = None,
) -> dict[str, float]:
    """The weather at a “place”.

    Over the next days.

    Args:
        place: A town,
            with its country: "Zürich, CH".
        days: How many days.
        unit: Degrees (choices: ["C", "F"])
        more: What else.

    Returns:
        Temperatures by day.
    """
    return {}


class Kind(enum.Enum):
    A = "a"
    B = 2


def all_kinds(
    a: int | str,
    b: float | list[int],
    c: Kind,
    d: tuple[int, str],
    e: Any,
    f: bool,
    g: dict,
    h: list,
    i: dict[str, list[str]] | None,
    j: Literal[1, "x", None],
):
    """Takes all.

    Args:
        a: 1
        b: 2: two
        c: 3
        d: 4

        e: 5
        f: 6
        g: 7
        h: 8
        i: 9
        j: 10
    """


def no_arguments():
    """Does something."""


@pytest.mark.parametrize("function", [weather, all_kinds, no_arguments])
def test_functions_become_the_same_schemas(function):
    utils = pytest.importorskip("transformers.utils")
    assert get_json_schema(function) == utils.get_json_schema(function)


HEAD = "{% set system = messages[0].content if messages[0].role == 'system' else none %}"
STYLES = {
    "chatml": "{% for m in messages %}"
    "{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama 2": HEAD + "{%- set loop_messages = messages[1:] if system else messages %}"
    "{% for m in loop_messages %}"
    "{% if (m.role == 'user') != (loop.index0 is even) %}"
    "{{ raise_exception('user and assistant must take turns') }}{% endif %}"
    "{% set content = '<<SYS>>\n' ~ system ~ '\n<</SYS>>\n\n' ~ m.content "
    "if loop.first and system else m.content %}"
    "{% if m.role == 'user' %}{{ bos_token ~ '[INST] ' ~ content.strip() ~ ' [/INST]' }}"
    "{% else %}{{ ' ' ~ content | trim ~ ' ' ~ eos_token }}{% endif %}{% endfor %}",
    "llama 3": "{{ bos_token }}{% for m in messages %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
    "{% endif %}",
    "mistral": "{{ bos_token }}{% for m in messages %}"
    "{%- if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{%- elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{%- elif m.role == 'system' %}{% continue %}"
    "{%- else %}{{ raise_exception('no ' + m.role + ' here') }}{% endif %}{% endfor %}",
    "gemma": "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "phi-3": "{% for m in messages %}"
    "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "qwen 3": "{%- if tools %}<|im_start|>system\n"
    "{%- for t in tools %}\n{{ t | tojson }}{%- endfor %}"
    "<|im_end|>\n{%- endif %}\n"
    "{%- set ns = namespace(last=messages | length - 1) %}"
    "{%- for m in messages %}\n"
    "    {%- set content = m.content if m.content is string else '' %}\n"
    "    {%- if m.role == 'assistant' and '</think>' in content %}\n"
    "        {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}\n"
    "        {%- set content = content.split('</think>')[-1].lstrip('\n') %}\n"
    "        {%- if loop.index0 == ns.last %}<think>{{ thought }}</think>{% endif %}\n"
    "    {%- endif %}\n"
    "{{- '<|im_start|>' + m.role + '\n' + content }}\n"
    "    {%- for call in m.tool_calls or [] %}\n"
    "<tool_call>{{ call.function.arguments | tojson(indent=2, sort_keys=true) }}</tool_call>"
    "{%- endfor %}<|im_end|>\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n"
    "{%- if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
    "{%- endif %}",
    "documents": "{% for d in documents or [] %}"
    "[{{ loop.index }}] {{ d.title }}: {{ d.text }}\n{% endfor %}"
    "{{ messages[-1].content }}{{ strftime_now('%Y') }}",
}
CONVERSATIONS = {
    "one turn": [{"role": "user", "content": " Hi <b>&'ü' "}],
    "system": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "<think>\nOne and one.\n</think>\n\n2 "},
    ],
    "tools": [
        {"role": "user", "content": "Weather in Zürich?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "type": "function",
                    "function": {"name": "weather", "arguments": {"place": "Zürich", "days": 1}},
                }
            ],
        },
        {"role": "tool", "content": "{'t': 3}"},
        {"role": "assistant", "content": "Three."},
    ],
}
OPTIONS = [
    {},
    {"add_generation_prompt": True},
    {"continue_final_message": True},
    {"tools": [weather, {"type": "function", "function": {"name": "x"}}]},
    {"documents": [{"title": "T", "text": "text"}]},
    {"add_generation_prompt": True, "enable_thinking": False},
]


@pytest.fixture(scope="module")
def chatters(tmp_path_factory):
    """Our tokenizer and transformers' reading of it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("chat")
    ours = train_bpe(SENTENCES, 300, special_tokens=("<s>", "</s>"))
    ours = Tokenizer(ours.backend, bos_token="<s>", eos_token="</s>")
    ours.save(folder)
    return ours, transformers.AutoTokenizer.from_pretrained(folder)


def outcome(render):
    """What it gives, or that it refuses."""
    try:
        return render()
    except Exception as error:
        return ("refused", str(error))


@pytest.mark.parametrize("template", STYLES.values(), ids=STYLES)
def test_templates_render_as_in_transformers(chatters, template):
    ours, theirs = chatters
    for messages in CONVERSATIONS.values():
        for options in OPTIONS:
            expected = outcome(
                lambda m=messages, o=options: theirs.apply_chat_template(
                    m, chat_template=template, tokenize=False, **o
                )
            )
            got = outcome(
                lambda m=messages, o=options: ours.apply_chat_template(
                    m, chat_template=template, **{"add_generation_prompt": False, **o}
                )
            )
            if expected[0] == "refused":
                assert got[0] == "refused", (messages, options, got, expected)
                if "continue_final_message" not in options:
                    assert expected[1] in got[1]  # the template's own words
            else:
                assert got == expected


def test_the_assistants_tokens_are_marked_as_in_transformers(chatters):
    ours, theirs = chatters
    template = (
        "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}\n{% endfor %}"
    )
    messages = [
        {"role": role, "content": text}
        for role, text in zip(("user", "assistant") * 4, SENTENCES, strict=True)
    ]
    expected = theirs.apply_chat_template(
        messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
    )
    got = ours.encode_chat(messages, chat_template=template)
    assert got.input_ids == expected["input_ids"]
    assert got.assistant_mask == expected["assistant_masks"]
    assert 0 < sum(got.assistant_mask) < len(got.assistant_mask)


def test_a_published_template_renders_as_in_transformers(real_data):
    transformers = pytest.importorskip("transformers")
    folder = real_data("tok_qwen2_5")
    ours = Tokenizer.from_folder(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for messages in CONVERSATIONS.values():
        for options in (*OPTIONS[:2], OPTIONS[3]):
            options = {"add_generation_prompt": False, **options}
            text = ours.apply_chat_template(messages, **options)
            assert text == theirs.apply_chat_template(messages, tokenize=False, **options)
            assert ours.encode(text, add_special_tokens=False) == theirs.encode(text)
    assert render_chat(theirs.chat_template, CONVERSATIONS["one turn"])
