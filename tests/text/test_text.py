"""Encoding, decoding, streaming, BPE training."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import tokenizers

from gradient.errors import ArgumentError, FileFormatError, IndexOutOfRange, TypeMismatch
from gradient.text import Tokenizer, byte_tokenizer, patterns, train_bpe
from gradient.text.families import BY_GGUF_NAME
from gradient.text.patterns import is_quick
from gradient.text.stream import byte_alphabet
from support.paths import CHECKOUT
from support.text_data import SENTENCES, streamed, vectors


@pytest.fixture(scope="module")
def gpt2(real_data):
    return Tokenizer.from_folder(real_data("tok_gpt2"))


@pytest.fixture(scope="module")
def small():
    """A byte-level BPE trained on the sentences: many characters split over several tokens."""
    return train_bpe(SENTENCES * 3, 320)


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
    tokenizer = byte_tokenizer()
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


# Training ----------------------------------------------------------------------------------------


def test_training_is_repeatable_in_another_process(small):
    program = (
        "import hashlib; from gradient.text import train_bpe\n"
        "from support.text_data import SENTENCES\n"
        "print(hashlib.sha256(train_bpe(SENTENCES * 3, 320).backend.to_str().encode()).hexdigest())"
    )
    import hashlib

    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT / "tests",
    )
    assert run.stdout.strip() == hashlib.sha256(small.backend.to_str().encode()).hexdigest()


def test_split_digits_keeps_each_digit_a_token():
    texts = ["12 and 12 and 12 are 36"] * 4
    together, apart = (train_bpe(texts, 400, split_digits=split) for split in (False, True))
    assert [together.decode([i]) for i in together.encode("12 12")] == ["12", " 12"]
    assert [apart.decode([i]) for i in apart.encode("12 12")] == ["1", "2", " ", "1", "2"]


def test_trained_vocabulary_has_the_asked_size_and_all_bytes(small):
    assert small.vocab_size == 320
    assert small.bos_token == small.eos_token == "<|endoftext|>"
    assert small.decode(small.encode("\x00\x7f\u0378")) == "\x00\x7f\u0378"
    with pytest.raises(ArgumentError, match="vocab_size must be at least 257"):
        train_bpe(["text"], 100)
    with pytest.raises(TypeError, match=r"give \[text\]"):
        train_bpe("text", 300)
    with pytest.raises(ArgumentError, match=r"vocab_size must be at most 2\*\*24"):
        train_bpe(["text"], 2**24 + 1)
    with pytest.raises(TypeError, match="text 1 is a bytes"):
        train_bpe(["text", b"bytes"], 300)


@pytest.mark.parametrize(
    ("ids", "got"),
    [("abc", "'abc'|'a'"), ([1.7], "1.7"), ([[1, 2]], r"\[1, 2\] in it"), (None, "None")],
)
def test_ids_must_be_a_row_of_integers(ids, got):
    with pytest.raises(TypeMismatch, match=f"expected token ids, a row of integers, got ({got})"):
        byte_tokenizer().decode(ids)


def test_one_text_is_no_batch():
    with pytest.raises(TypeMismatch, match="expected a list of texts, got one str"):
        byte_tokenizer().encode_batch("abc")


# Regular expressions of strangers -----------------------------------------------------------------


def test_published_patterns_are_known_to_be_quick():
    for name in ("gpt-2", "llama-bpe", "qwen2", "deepseek-llm"):
        assert all(map(is_quick, BY_GGUF_NAME[name].patterns)), name
    for pattern in (r"\s", " ", r"\p{N}{1,3}", " {2,}", r"[0-9]+|\p{L}", r"\.", "[^\\s]*"):
        assert is_quick(pattern), pattern
    for pattern in (r"(a+)+$", r"a*a*b", r"\s+$", r"(?:a|a)*c", r"[a[b]]", r"a++b", "x{1,9999}"):
        assert not is_quick(pattern), pattern


def with_pattern(pattern: str) -> Tokenizer:
    """A tokenizer of bytes, whose file brings a pattern of its own."""
    state = json.loads(byte_tokenizer().backend.to_str())
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, state["pre_tokenizer"]]}
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(state)))


def test_unknown_patterns_encode_alike():
    plain, guarded = byte_tokenizer(), with_pattern(r"(?:\w\w)+x?")
    texts = ["héllo wörld <|endoftext|>", "", "a" * 1000]
    assert guarded.encode_batch(texts) == plain.encode_batch(texts)
    for text in texts:
        assert guarded.encode(text) == plain.encode(text)
        literal = {"parse_special": False}
        assert guarded.encode(text, **literal) == plain.encode(text, **literal)
    with pytest.raises(ArgumentError, match="half a surrogate pair"):
        guarded.encode("\ud800")


def test_a_pattern_cannot_run_for_ever(monkeypatch):
    """Just below the steps after which a match is given up, at each of many characters."""
    tokenizer = with_pattern(r"(?:a|aa)+$")
    assert len(tokenizer.encode("aaab")) == 4
    with monkeypatch.context() as patch:
        patch.setattr(patterns, "SECONDS", 1.0)
        with pytest.raises(ArgumentError, match="took more than 4 s .*none of the published"):
            tokenizer.encode(("a" * 26 + "b") * 10_000)
    assert len(tokenizer.encode("aaab")) == 4  # another process goes on


def test_the_process_of_a_pattern_is_out_of_reach_of_ctrl_c():
    """A terminal sends it to all of the session that is in the foreground."""
    tokenizer = with_pattern(r"(?:a|aa)+$")
    assert len(tokenizer.encode("aaab")) == 4
    process = tokenizer._encoder.parsing._process
    assert os.getsid(process.pid) != os.getsid(0)
    process.kill()  # as a system without memory does
    process.wait()
    with pytest.raises(FileFormatError, match="process ended by itself .exit code -9."):
        tokenizer.encode("aaab")
    assert len(tokenizer.encode("aaab")) == 4


def test_a_pattern_of_a_decoder_must_be_quick():
    state = json.loads(byte_tokenizer().backend.to_str())
    replace = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}
    state["decoder"] = {"type": "Sequence", "decoders": [state["decoder"], replace]}
    with pytest.raises(FileFormatError, match="decoder has a regular expression"):
        Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(state)))
