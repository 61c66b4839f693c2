"""Tokenizers, streaming decoding, BPE training and chat templates."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gradient.errors import (
    ArgumentError,
    FileFormatError,
    IndexOutOfRange,
    ModelNotFound,
    TypeMismatch,
)
from gradient.text import ChatTemplateError, Tokenizer, byte_level, render_chat, train_bpe
from gradient.text.stream import byte_alphabet

SENTENCES = [
    "Hello world",
    "  leading and   inner  spaces \n\n\ttabs\r\n",
    "naïve café — “quotes” … ½ Führer",
    "日本語のテキスト、한국어 텍스트, نص عربي",
    "emoji 😀👩‍👩‍👧‍👦🇩🇪 and 𝄞 music",
    "def f(x):\n    return x ** 2  # ✓\n",
    "",
    " ",
]


@pytest.fixture(scope="module")
def gpt2(real_data):
    return Tokenizer.from_folder(real_data("tok_gpt2"))


@pytest.fixture(scope="module")
def small():
    """A byte-level BPE trained on the sentences: many characters split over several tokens."""
    return train_bpe(SENTENCES * 3, 320)


def vectors(folder, name):
    """Texts and their ids, from llama.cpp's tokenizer tests."""
    texts = (folder / f"ggml-vocab-{name}.gguf.inp").read_bytes().decode("utf-8")
    lines = (folder / f"ggml-vocab-{name}.gguf.out").read_text("utf-8").split("\n")
    texts = texts.split("\n__ggml_vocab_test__\n")
    return list(
        zip(texts, ([int(number) for number in line.split()] for line in lines), strict=False)
    )


def streamed(tokenizer, ids, **options):
    stream = tokenizer.stream(**options)
    return [stream.push(token) for token in ids] + [stream.flush()]


# Encoding and decoding -------------------------------------------------------------------------


@pytest.mark.parametrize("name, folder", [("gpt-2", "tok_gpt2"), ("qwen2", "tok_qwen2_5")])
def test_gives_llama_cpps_ids(real_data, name, folder):
    tokenizer = Tokenizer.from_folder(real_data(folder))
    cases = vectors(real_data("ggml_vocab"), name)
    assert len(cases) == 47
    wrong = [
        (text, ids, tokenizer.encode(text)) for text, ids in cases if tokenizer.encode(text) != ids
    ]
    assert not wrong


def test_knows_gpt2s_special_token(gpt2):
    assert gpt2.vocab_size == 50257
    assert gpt2.bos_id == gpt2.eos_id == 50256
    assert gpt2.encode("a<|endoftext|>b") == [64, 50256, 65]
    assert 50256 not in gpt2.encode("a<|endoftext|>b", parse_special=False)
    assert gpt2.decode([64, 50256, 65]) == "ab"
    assert gpt2.decode([64, 50256, 65], skip_special_tokens=False) == "a<|endoftext|>b"


def test_decode_undoes_encode(small):
    for text in SENTENCES:
        assert small.decode(small.encode(text)) == text
    assert small.encode_batch(SENTENCES) == [small.encode(text) for text in SENTENCES]


def test_decode_takes_arrays_and_tensors(small):
    import gradient

    ids = small.encode("Hello world")
    assert small.decode(np.array(ids)) == "Hello world"
    assert small.decode(gradient.tensor(ids)) == "Hello world"
    assert small.decode([10**6]) == ""  # beyond the vocabulary: no text


def test_byte_level_ids_are_bytes():
    tokenizer = byte_level()
    text = "héllo €𝄞\n\0"
    assert tokenizer.encode(text) == list(text.encode())
    assert tokenizer.decode(range(256)) == bytes(range(256)).decode("utf-8", "replace")
    assert tokenizer.eos_id == 256
    assert tokenizer.vocab_size == 257
    for text in SENTENCES:  # by the short way and by the package's
        backend_ids = tokenizer.backend.encode(text).ids
        assert tokenizer.encode(text) == backend_ids == list(text.encode())
    assert tokenizer.encode("é<|endoftext|>") == [*"é".encode(), 256]
    assert tokenizer.encode("<|endoftext|>", parse_special=False) == list(b"<|endoftext|>")
    assert tokenizer.encode_batch(["a<|endoftext|>", "b"]) == [[97, 256], [98]]
    with pytest.raises(ArgumentError, match="half a surrogate pair"):
        tokenizer.encode("\ud800")
    assert sorted(byte_alphabet().values()) == list(range(256))


def test_bos_comes_exactly_once(tmp_path):
    import tokenizers

    tokenizer = train_bpe(SENTENCES, 300, special_tokens=("<s>", "</s>"))
    tokenizer.backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    for add_bos, expected in ((None, 1), (True, 1), (False, 0)):
        made = Tokenizer(tokenizer.backend, bos_token="<s>", eos_token="</s>", add_bos=add_bos)
        assert made.encode("Hello").count(0) == expected
        assert made.encode("<s>Hello").count(0) == 1  # as a chat template writes it
        assert made.encode("Hello", add_special_tokens=False).count(0) == 0
        made.save(tmp_path)
        assert Tokenizer.from_folder(tmp_path).encode("Hello").count(0) == expected


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda t: t.encode("a\ud800b"), ArgumentError, "text 0 holds half a surrogate pair"),
        (lambda t: t.encode_batch(["", "\udfff"]), ArgumentError, "text 1 holds half"),
        (lambda t: t.encode(b"bytes"), TypeError, "expected a str, got bytes"),
        (lambda t: t.decode([3, -1]), IndexOutOfRange, "-1 is no token id"),
        (lambda t: t.stream().push(-1), IndexOutOfRange, "-1 is no token id"),
        (
            lambda t: Tokenizer(t.backend, eos_token="<no>"),
            ArgumentError,
            "'<no>' is not in the voc",
        ),
        (
            lambda t: t.apply_chat_template([{"role": "user"}]),
            ArgumentError,
            "has no chat template",
        ),
    ],
)
def test_wrong_use_is_explained(small, call, error, message):
    with pytest.raises(error, match=message):
        call(small)


# Streaming -------------------------------------------------------------------------------------


def test_streams_whole_characters_only(small):
    for text in SENTENCES:
        pieces = streamed(small, small.encode(text))
        assert "".join(pieces) == text
        assert not any("\ufffd" in piece for piece in pieces)
    split = small.encode("𝄞")
    assert len(split) > 1, "the case that matters: one character in several tokens"
    assert streamed(small, split) == [""] * (len(split) - 1) + ["𝄞", ""]


def test_stream_agrees_with_decode_on_any_tokens(small):
    """Broken UTF-8 included: random bytes, cut characters, surrogates, overlong forms."""
    generator = random.Random(0)
    for _ in range(500):
        ids = [generator.randrange(small.vocab_size) for _ in range(generator.randrange(12))]
        assert "".join(streamed(small, ids)) == small.decode(ids)
        assert "".join(streamed(small, ids, skip_special_tokens=False)) == small.decode(
            ids, skip_special_tokens=False
        )


def test_any_decoder_streams():
    """A sentencepiece-like tokenizer: spaces as ▁, unknown characters as bytes <0xE2>."""
    import tokenizers

    words = ["▁Hello", "▁wor", "ld", "▁", "."]
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)} | {
        w: 256 + i for i, w in enumerate(words)
    }
    model = tokenizers.models.BPE(vocab=vocab, merges=[], byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    replace, strip = tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.Strip(" ", 1, 0)
    parts = [replace, tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse(), strip]
    backend.decoder = tokenizers.decoders.Sequence(parts)
    tokenizer = Tokenizer(backend)
    ids = [256, 257, 258, *"€".encode(), 259, *"𝄞".encode(), 260]
    pieces = streamed(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids) == "Hello world€ 𝄞."
    assert not any("\ufffd" in piece for piece in pieces)
    # After a prompt the first word keeps its space.
    assert "".join(streamed(tokenizer, [257, 258], context=[256])) == " world"
    # A character that stays broken is given up, not held back for ever.
    broken = [0xE2] * 20 + [256]
    assert "".join(streamed(tokenizer, broken)).endswith(" Hello")


# Training and files ----------------------------------------------------------------------------


def test_training_is_repeatable_in_another_process(small):
    program = (
        "import hashlib, sys; from gradient.text import train_bpe; from test_text import SENTENCES;"
        "print(hashlib.sha256(train_bpe(SENTENCES * 3, 320).backend.to_str().encode()).hexdigest())"
    )
    import hashlib
    from pathlib import Path

    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    assert run.stdout.strip() == hashlib.sha256(small.backend.to_str().encode()).hexdigest()


def test_trained_vocabulary_has_the_asked_size_and_all_bytes(small):
    assert small.vocab_size == 320
    assert small.bos_token == small.eos_token == "<|endoftext|>"
    assert small.decode(small.encode("\x00\x7f\u0378")) == "\x00\x7f\u0378"
    with pytest.raises(ArgumentError, match="vocab_size must be at least 257"):
        train_bpe(["text"], 100)
    with pytest.raises(TypeError, match=r"give \[text\]"):
        train_bpe("text", 300)
    with pytest.raises(TypeError, match="text 1 is a bytes"):
        train_bpe(["text", b"bytes"], 300)


def test_save_and_load_keep_everything(tmp_path, small):
    made = Tokenizer(small.backend, eos_token="<|endoftext|>", chat_template="{{ messages }}")
    made.save(tmp_path / "new" / "folder")
    again = Tokenizer.from_folder(tmp_path / "new" / "folder")
    assert [again.encode(text) for text in SENTENCES] == [small.encode(text) for text in SENTENCES]
    assert (again.bos_id, again.eos_id) == (None, small.eos_id)
    assert again.chat_template == "{{ messages }}"
    assert Tokenizer.from_file(tmp_path / "new" / "folder" / "tokenizer.json").vocab_size == 320


@pytest.mark.parity
def test_transformers_reads_what_we_save(tmp_path, small):
    transformers = pytest.importorskip("transformers")
    small.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in SENTENCES:
        assert theirs.encode(text) == small.encode(text)
        assert theirs.decode(small.encode(text)) == text


def test_hugging_face_names_are_read(real_data, tmp_path, gpt2):
    shutil.copy(real_data("tok_gpt2") / "encoder.json", tmp_path / "vocab.json")
    shutil.copy(real_data("tok_gpt2") / "vocab.bpe", tmp_path / "merges.txt")
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.encode("Hello world") == gpt2.encode("Hello world") == [15496, 995]


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ModelNotFound, match="is not a folder"):
        Tokenizer.from_folder(tmp_path / "absent")
    (tmp_path / "weights.bin").touch()
    with pytest.raises(ModelNotFound) as caught:
        Tokenizer.from_folder(tmp_path)
    assert str(caught.value) == (
        f"no tokenizer in {tmp_path}: looked for tokenizer.json, vocab.json + merges.txt, "
        "encoder.json + vocab.bpe, tokenizer.model, spiece.model, vocab.txt or tokenizer.bin; "
        "found weights.bin"
    )
    with pytest.raises(ModelNotFound, match="no tokenizer at"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")


BAD_FILES = [
    ({"tokenizer.json": "{"}, "not a valid tokenizer.json"),
    ({"tokenizer.json": "[]"}, "not a valid tokenizer.json"),
    ({"tokenizer.json": b"\xff\xfe"}, "is not UTF-8"),
    (
        {"tokenizer.json": '{"version": "1.0", "model": {"type": "Nothing"}}'},
        "not a valid tokenizer",
    ),
    ({"vocab.json": "{", "merges.txt": ""}, "not a valid JSON file"),
    ({"vocab.json": "[1]", "merges.txt": ""}, "expected an object of token to id"),
    ({"vocab.json": '{"a": "b"}', "merges.txt": ""}, "expected an object of token to id"),
    ({"vocab.json": '{"a": -1}', "merges.txt": ""}, "vocab.json and merges.txt"),
    ({"vocab.json": '{"a": 0}', "merges.txt": "#version: 0.2\na b c\n"}, "line 2: expected two"),
    ({"vocab.json": '{"a": 0}', "merges.txt": "a b\n"}, "do not fit: .*out of vocabulary"),
    ({"vocab.json": '{"a": 0}', "merges.txt": b"\xff"}, "is not UTF-8"),
    (
        {"vocab.json": '{"a": 0}', "merges.txt": "", "tokenizer_config.json": "[]"},
        "expected a JSON object, got list",
    ),
    (
        {
            "vocab.json": '{"a": 0}',
            "merges.txt": "",
            "tokenizer_config.json": '{"tokenizer_class": "FalconTokenizer"}',
        },
        "of a FalconTokenizer cannot be read",
    ),
    (
        {
            "vocab.json": '{"a": 0}',
            "merges.txt": "",
            "tokenizer_config.json": '{"added_tokens_decoder": {"7": {"content": "<x>"}}}',
        },
        "'<x>' should have id 7 and gets 1",
    ),
]


@pytest.mark.parametrize("files, message", BAD_FILES)
def test_damaged_files_are_named(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FileFormatError, match=message) as caught:
        Tokenizer.from_folder(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_mutated_tokenizer_files_never_crash(tmp_path, small):
    """Seeded: each mutant loads and encodes, or raises our error."""
    small.save(tmp_path)
    original = (tmp_path / "tokenizer.json").read_bytes()
    generator = random.Random(0)
    for _ in range(60):
        mutant = bytearray(original)
        for _ in range(generator.randrange(1, 4)):
            where = generator.randrange(len(mutant))
            match generator.randrange(3):
                case 0:
                    mutant[where] = generator.randrange(256)
                case 1:
                    del mutant[where : where + generator.randrange(1, 40)]
                case 2:
                    mutant[where:where] = mutant[where : where + 20]
        (tmp_path / "tokenizer.json").write_bytes(mutant)
        try:
            tokenizer = Tokenizer.from_folder(tmp_path)
        except (FileFormatError, ArgumentError):
            continue
        tokenizer.decode(tokenizer.encode("Hello world"))


# Chat ------------------------------------------------------------------------------------------

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
        ("{{ 'a' * 10 ** 9 }}", "stopped by the sandbox: .*would make 1,000,000,000 items"),
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


@pytest.mark.parity
def test_renders_as_transformers_does(real_data):
    transformers = pytest.importorskip("transformers")
    folder = real_data("tok_qwen2_5")
    ours = Tokenizer.from_folder(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    tool = {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather of a “place”",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
        },
    }
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Zürich?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "type": "function",
                    "function": {"name": "weather", "arguments": {"place": "Zürich"}},
                }
            ],
        },
        {"role": "tool", "content": "{'t': 3}"},
    ]
    for messages, tools in ((HI, None), (conversation, None), (conversation, [tool])):
        for generation in (False, True):
            expected = theirs.apply_chat_template(
                messages, tools=tools, add_generation_prompt=generation, tokenize=False
            )
            assert expected == ours.apply_chat_template(
                messages, tools=tools, add_generation_prompt=generation
            )


@pytest.mark.parametrize(
    ("ids", "got"),
    [("abc", "'abc'|'a'"), ([1.7], "1.7"), ([[1, 2]], r"\[1, 2\] in it"), (None, "None")],
)
def test_ids_must_be_a_row_of_integers(ids, got):
    with pytest.raises(TypeMismatch, match=f"expected token ids, a row of integers, got ({got})"):
        byte_level().decode(ids)


def test_one_text_is_no_batch():
    with pytest.raises(TypeMismatch, match="expected a list of texts, got one str"):
        byte_level().encode_batch("abc")


@pytest.mark.parametrize("template", ["{% break %}", "{{ strftime_now(none) }}"])
def test_no_template_raises_an_error_of_its_own_kind(template):
    with pytest.raises(ChatTemplateError):
        render_chat(template, [{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("name", ["tokenizer.json", "merges.txt", "chat_template.jinja"])
def test_a_file_of_absurd_size_is_not_read(name, tmp_path):
    byte_level().save(tmp_path)
    if name == "merges.txt":
        for other in ("tokenizer.json", "tokenizer_config.json"):
            (tmp_path / other).unlink()
        (tmp_path / "vocab.json").write_text("{}")
    with open(tmp_path / name, "ab") as file:
        file.truncate(600_000_000)  # a hole: it takes no room on the disk
    with pytest.raises(FileFormatError, match=rf"{name} has 600,000,000 bytes; the limit is"):
        Tokenizer.from_folder(tmp_path)
