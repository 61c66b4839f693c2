"""Tokenizers from GGUF metadata: llama.cpp's vectors, and the way back."""

from __future__ import annotations

import random

import numpy as np
import pytest

from gradient.errors import FileFormatError, UnsupportedModel
from gradient.io.gguf import GGUFFile, write
from gradient.text import Tokenizer, byte_tokenizer, train_bpe
from gradient.text.build import add_byte_level_steps, import_tokenizers
from gradient.text.families import BY_GGUF_NAME, GPT2
from gradient.text.gguf import metadata_of
from gradient.text.gguf.writing import words_of_probe
from gradient.text.pieces import PieceType
from gradient.text.sentencepiece import arguments_of, parse_sentencepiece
from gradient.text.wordpiece import wordpiece
from support import real_data as data
from support.piece_models import BYTES, SPECIALS, model_bytes
from support.text_data import SENTENCES, hard_texts, streamed, vectors

NORMAL = PieceType.NORMAL
#: Vocabularies that are always looked for; others that lie beside them are tried as well.
REQUIRED = ["gpt-2", "falcon"]
FOUND = [
    path.name.removeprefix("ggml-vocab-").removesuffix(".gguf")
    for path in sorted((data.root() / "ggml_vocab").glob("ggml-vocab-*.gguf"))
    if path.with_name(path.name + ".inp").is_file()
]


def agreement(tokenizer, cases):
    """How many texts get llama.cpp's ids, of how many, and the first that does not."""
    wrong = [
        (text, ids, got)
        for text, ids in cases
        if (got := tokenizer.encode(text, add_special_tokens=False)) != ids
    ]
    return f"{len(cases) - len(wrong)} of {len(cases)}", wrong[:1]


@pytest.mark.parametrize("name", sorted({*REQUIRED, *FOUND}))
def test_gives_llama_cpps_ids(real_data, name, record_property):
    folder = real_data("ggml_vocab")
    tokenizer = Tokenizer.from_file(real_data(f"ggml_vocab/ggml-vocab-{name}.gguf"))
    score, wrong = agreement(tokenizer, vectors(folder, name))
    record_property("agreement", score)
    assert score == "47 of 47", f"{name}: {score}; the first: {wrong}"
    for text in SENTENCES:
        ids = tokenizer.encode(text)
        assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("gpt-2", "tok_gpt2"), ("qwen2", "tok_qwen2_5")],
)
def test_metadata_written_from_other_files_gives_them_too(real_data, tmp_path, name, folder):
    original = Tokenizer.from_folder(real_data(folder))
    write(tmp_path / "vocab.gguf", metadata_of(original), {})
    again = Tokenizer.from_file(tmp_path / "vocab.gguf")
    assert agreement(again, vectors(real_data("ggml_vocab"), name)) == ("47 of 47", [])
    assert again.chat_template == original.chat_template
    assert (again.vocab_size, again.eos_id) == (original.vocab_size, original.eos_id)
    assert again.special_ids >= original.special_ids


def test_the_260k_model_has_one_vocabulary_in_three_files(real_data):
    folder = real_data("stories260k")
    files = ("stories260K.gguf", "tok512.model", "tok512.bin")
    ours = [Tokenizer.from_file(folder / name) for name in files]
    for text in ("Once upon a time", "Lily's mom said: “Don't!”\n\nThe end. 😀", ""):
        ids = [tokenizer.encode(text) for tokenizer in ours]
        assert ids[0] == ids[1] == ids[2]
        assert ids[0][:1] == [1]
        assert ours[0].decode(ids[0]) == text


# There and back ----------------------------------------------------------------------------------


def spm(model_type=2, **options):
    words = ["▁", "a", "b", "c", "ab", "▁a", "▁ab", "é"]
    pieces = [*SPECIALS, *BYTES, *((word, -float(n), NORMAL) for n, word in enumerate(words))]
    pieces.append(("<u>", 0.0, PieceType.USER_DEFINED))
    return Tokenizer(
        **arguments_of(
            parse_sentencepiece(
                model_bytes(pieces, model_type=model_type, byte_fallback=True, **options)
            )
        )
    )


def bert():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "ab", "é", ",", "##é"]
    made = wordpiece({word: number for number, word in enumerate(words)})
    return Tokenizer(made, bos_token="[CLS]", eos_token="[SEP]", unk_token="[UNK]")


MADE = {
    "gpt2": lambda: train_bpe(SENTENCES, 300, special_tokens=("<|endoftext|>", "<|im_start|>")),
    "bytes": byte_tokenizer,
    "llama": spm,
    "llama, no prefix": lambda: spm(dummy_prefix=False),
    "llama, tidy": lambda: spm(remove_extra=True),
    "t5": lambda: spm(model_type=1),
    "bert": bert,
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_metadata_says_what_a_tokenizer_is(make, tmp_path):
    original = make()
    original.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    write(tmp_path / "vocab.gguf", metadata_of(original), {})
    again = Tokenizer.from_gguf(GGUFFile(tmp_path / "vocab.gguf").metadata)
    for text in [*SENTENCES, *hard_texts(90), "a<u>b", "ab, abé", "<s>a</s>", "<|im_start|>b"]:
        for options in ({}, {"add_special_tokens": False}, {"parse_special": False}):
            ids = original.encode(text, **options)
            assert again.encode(text, **options) == ids, text
            assert again.decode(ids) == original.decode(ids)
    assert again.chat_template == original.chat_template
    for name in ("bos_id", "eos_id", "add_bos", "add_eos", "special_ids"):
        assert getattr(again, name) == getattr(original, name), name


@pytest.mark.parametrize("ends", [("[CLS]", "[SEP]"), (None, None)])
def test_the_ends_of_a_bert_that_names_them_by_its_template_alone(ends):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b"]
    vocab = {word: number for number, word in enumerate(words)}
    original = Tokenizer(wordpiece(vocab, cls_token=ends[0], sep_token=ends[1]))
    assert original.bos_id is None and not original.add_bos
    again = Tokenizer.from_gguf(metadata_of(original))
    for text in ("ab", ""):
        assert again.encode(text) == original.encode(text)
        assert len(again.encode(text)) == len(text) + (2 if ends[0] else 0)


def test_every_family_cuts_in_a_way_of_its_own():
    tk = import_tokenizers()
    families = {}
    for family in BY_GGUF_NAME.values():
        made = tk.Tokenizer(tk.models.BPE())
        add_byte_level_steps(made, family)
        families.setdefault(family, (tuple(words_of_probe(made)), family.ignore_merges))
    assert len(set(families.values())) == len(families)


@pytest.mark.parametrize("name", sorted(BY_GGUF_NAME))
def test_a_family_is_found_again(name):
    tk = import_tokenizers()
    family = BY_GGUF_NAME[name]
    made = tk.Tokenizer(tk.models.BPE(ignore_merges=family.ignore_merges))
    add_byte_level_steps(made, family)
    trainer = tk.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=tk.pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(SENTENCES, trainer)
    original = Tokenizer(made)
    metadata = metadata_of(original)
    assert BY_GGUF_NAME[metadata["tokenizer.ggml.pre"]] == family
    again = Tokenizer.from_gguf(metadata)
    for text in SENTENCES:
        assert again.encode(text) == original.encode(text)


def test_what_gguf_cannot_say_is_refused():
    tk = import_tokenizers()
    words = Tokenizer(tk.Tokenizer(tk.models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(UnsupportedModel, match="one of the kinds .*, got WordLevel"):
        metadata_of(words)
    odd = train_bpe(SENTENCES, 300)
    odd.backend.pre_tokenizer = tk.pre_tokenizers.Sequence(
        [tk.pre_tokenizers.Split("e", "isolated"), tk.pre_tokenizers.ByteLevel(use_regex=False)]
    )
    with pytest.raises(UnsupportedModel, match="no tokenizer.ggml.pre names how"):
        metadata_of(odd)


# Special tokens, damage --------------------------------------------------------------------------


def tiny(**changes):
    """Metadata of a small byte-level vocabulary."""
    metadata = metadata_of(train_bpe(["ab"] * 3, 258))
    return metadata | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


def test_special_tokens_follow_the_metadata():
    metadata = tiny(bos_token_id=65, eos_token_id=66, eot_token_id=67, add_bos_token=True)
    tokenizer = Tokenizer.from_gguf(metadata)
    assert tokenizer.encode("b")[0] == tokenizer.bos_id == 65
    assert tokenizer.special_ids >= {65, 66, 67}
    text = tokenizer.id_to_token(65) + "b"
    assert tokenizer.encode(text) == tokenizer.encode("b")  # never two
    absent = Tokenizer.from_gguf(tiny(bos_token_id=4294967295))
    assert absent.bos_id is None and not absent.add_bos
    both = Tokenizer.from_gguf(
        tiny(bos_token_id=65, eos_token_id=66, add_bos_token=1, add_eos_token=1)
    )
    assert [*both.encode("")] == [65, 66]
    assert both.encode("acb") == both.encode("c") == [65, 67, 66]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "rwkv"}, "expected tokenizer.ggml.model to be one of llama, gpt2, t5, bert"),
        ({"pre": "nothing"}, "unknown tokenizer.ggml.pre 'nothing'; known are gpt-2, "),
        ({"tokens": 5}, "expected an array tokenizer.ggml.tokens, got 5"),
        ({"tokens": ["a", 5]}, "expected token 1 to be a text, got 5"),
        ({"token_type": [1]}, "expected 258 tokenizer.ggml.token_type, got 1"),
        ({"merges": ["ab"]}, "merge 0 has not two pieces: 'ab'"),
        ({"merges": ["a nothing"]}, "vocabulary and merges do not fit"),
        ({"model": "llama"}, "expected an array tokenizer.ggml.scores"),
        ({"model": "llama", "scores": [1.0]}, "expected 258 tokenizer.ggml.scores, got 1"),
        ({"model": "bert"}, r"there is no unknown token '\[UNK\]'"),
    ],
)
def test_damaged_metadata_is_named(changes, words):
    with pytest.raises(FileFormatError, match=words):
        Tokenizer.from_gguf(tiny(**changes))


def test_repeated_and_empty_tokens_keep_their_ids():
    metadata = tiny()
    tokens = [*metadata["tokenizer.ggml.tokens"], "", "a", ""]
    types = np.append(metadata["tokenizer.ggml.token_type"], [1, 1, 1])
    tokenizer = Tokenizer.from_gguf(tiny(tokens=tokens, token_type=types))
    assert tokenizer.vocab_size == len(tokens)
    assert tokenizer.encode("ab") == train_bpe(["ab"] * 3, 258).encode("ab")


def test_a_whole_tokenizer_json_is_taken_where_ggml_has_no_model():
    original = train_bpe(SENTENCES, 300)
    metadata = {"tokenizer.huggingface.json": original.backend.to_str()}
    assert Tokenizer.from_gguf(metadata).encode("Hello") == original.encode("Hello")
    with pytest.raises(FileFormatError, match=r"tokenizer.huggingface.json: "):
        Tokenizer.from_gguf({"tokenizer.huggingface.json": "{"})


def test_phi_3s_special_tokens_take_the_space_after_them():
    made = train_bpe(SENTENCES, 300, special_tokens=("<s>", "<|user|>"))
    for name, taken in (("Phi 3 Mini", False), ("Phi-3-mini", True), ("phi3", True)):
        tokenizer = Tokenizer.from_gguf(metadata_of(made) | {"general.name": name})
        ids = made.encode("<|user|>") + made.encode("b" if taken else "\n b")
        assert tokenizer.encode("<|user|>\n b") == ids
        assert tokenizer.encode("<s> b") == made.encode("<s> b")


def test_old_files_have_no_family_and_no_types():
    metadata = tiny()
    for key in ("pre", "token_type"):
        del metadata[f"tokenizer.ggml.{key}"]
    assert (
        Tokenizer.from_gguf(metadata).decode(Tokenizer.from_gguf(metadata).encode("ab 12345"))
        == "ab 12345"
    )
    assert BY_GGUF_NAME["default"] != GPT2


VALUES = [None, -1, 0, 1 << 31, 1e300, float("nan"), "", "a", "\ud800", "\0", [], [1], ["a"], True]


def test_mutated_metadata_never_crashes():
    """Seeded: each mutant makes a tokenizer that works, or raises our error."""
    generator = random.Random(0)
    originals = [
        {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in metadata_of(make()).items()
        }
        for make in MADE.values()
    ]
    worked = 0
    for number in range(350):
        metadata = dict(originals[number % len(originals)])
        for _ in range(generator.randrange(1, 4)):
            key = generator.choice(list(metadata))
            value = metadata[key]
            if not isinstance(value, list) or not value or generator.random() < 0.2:
                metadata[key] = generator.choice(VALUES)
                continue
            value = metadata[key] = list(value)
            where = generator.randrange(len(value))
            if generator.random() < 0.3:
                del value[where]
            else:
                value[where] = generator.choice(VALUES)
        try:
            tokenizer = Tokenizer.from_gguf(metadata)
            tokenizer.decode(tokenizer.encode("ab é <s> c [MASK]"))
            worked += 1
        except FileFormatError:
            continue
    assert 0 < worked < 350
