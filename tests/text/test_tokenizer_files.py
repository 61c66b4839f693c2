"""Tokenizer files of every kind in a model's folder: read, written, damaged."""

from __future__ import annotations

import json
import random
import shutil

import pytest

from gradient.errors import ArgumentError, FileFormatError, ModelNotFound
from gradient.text import Tokenizer, byte_tokenizer, train_bpe
from support.piece_models import BYTES, SPECIALS, model_bytes
from support.text_data import SENTENCES, hard_texts, streamed


@pytest.fixture(scope="module")
def gpt2(real_data):
    return Tokenizer.from_folder(real_data("tok_gpt2"))


@pytest.fixture(scope="module")
def small():
    """A byte-level BPE trained on the sentences: many characters split over several tokens."""
    return train_bpe(SENTENCES * 3, 320)


def test_save_and_load_keep_everything(tmp_path, small):
    made = Tokenizer(small.backend, eos_token="<|endoftext|>", chat_template="{{ messages }}")
    made.save(tmp_path / "new" / "folder")
    again = Tokenizer.from_folder(tmp_path / "new" / "folder")
    assert [again.encode(text) for text in SENTENCES] == [small.encode(text) for text in SENTENCES]
    assert (again.bos_id, again.eos_id) == (None, small.eos_id)
    assert again.chat_template == "{{ messages }}"
    assert Tokenizer.from_file(tmp_path / "new" / "folder" / "tokenizer.json").vocab_size == 320


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


@pytest.mark.parametrize("name", ["tokenizer.json", "merges.txt", "chat_template.jinja"])
def test_a_file_of_absurd_size_is_not_read(name, tmp_path):
    byte_tokenizer().save(tmp_path)
    if name == "merges.txt":
        for other in ("tokenizer.json", "tokenizer_config.json"):
            (tmp_path / other).unlink()
        (tmp_path / "vocab.json").write_text("{}")
    with open(tmp_path / name, "ab") as file:
        file.truncate(600_000_000)  # a hole: it takes no room on the disk
    with pytest.raises(FileFormatError, match=rf"{name} has 600,000,000 bytes; the limit is"):
        Tokenizer.from_folder(tmp_path)


# Added tokens and special ones -------------------------------------------------------------------


def write_json(path, content):
    path.write_text(json.dumps(content), "utf-8")


def test_tokens_that_other_files_add_are_found(tmp_path, small):
    small.save(tmp_path)
    write_json(tmp_path / "added_tokens.json", {"<a>": 320})
    decoder = {"321": {"content": "<b>", "special": True}, "0": {"content": "<|endoftext|>"}}
    config = {"added_tokens_decoder": decoder, "additional_special_tokens": ["<c>"]}
    write_json(tmp_path / "tokenizer_config.json", config)
    write_json(tmp_path / "special_tokens_map.json", {"pad_token": {"content": "<d>"}})
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.encode("<a><b><c><d>") == [320, 321, 323, 322]
    assert tokenizer.special_ids == {0, 321, 322, 323}
    assert tokenizer.pad_id == 322
    assert tokenizer.decode([320, 321]) == "<a>"


def test_a_special_token_within_the_vocabulary_is_found_whole(tmp_path, small):
    small.save(tmp_path)
    state = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    state["added_tokens"] = []  # <|endoftext|> is a piece, which no text makes
    write_json(tmp_path / "tokenizer.json", state)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.encode("a<|endoftext|>")[-1] == tokenizer.eos_id == 0


def test_both_ends_are_added_once(tmp_path):
    made = train_bpe(SENTENCES, 300, special_tokens=("<s>", "</s>"))
    tokenizer = Tokenizer(
        made.backend, bos_token="<s>", eos_token="</s>", add_bos=True, add_eos=True
    )
    for text in ("b", "<s>b", "b</s>", "<s>b</s>"):
        assert tokenizer.encode(text) == [0, *made.encode("b"), 1]
    assert tokenizer.encode("") == [0, 1]
    assert tokenizer.encode("b", add_special_tokens=False) == made.encode("b")
    tokenizer.save(tmp_path)
    assert Tokenizer.from_folder(tmp_path).encode("<s>b") == [0, *made.encode("b"), 1]
    with pytest.raises(ArgumentError, match="add_eos=True needs a eos_token"):
        Tokenizer(made.backend, add_eos=True)


def test_one_token_may_be_both_ends(tmp_path, gpt2):
    tokenizer = Tokenizer(gpt2.backend, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    assert tokenizer.encode("a") == [64]
    with_bos = Tokenizer(
        gpt2.backend, bos_token="<|endoftext|>", eos_token="<|endoftext|>", add_bos=True
    )
    assert with_bos.encode("a") == [50256, 64]
    assert with_bos.encode("") == [50256]


# Families by class -------------------------------------------------------------------------------


def merges_folder(folder, tokenizer, config):
    """vocab.json and merges.txt of a tokenizer, with a tokenizer_config.json."""
    state = json.loads(tokenizer.backend.to_str())["model"]
    write_json(folder / "vocab.json", state["vocab"])
    lines = ["#version: 0.2", *(" ".join(pair) for pair in state["merges"]), ""]
    (folder / "merges.txt").write_text("\n".join(lines), "utf-8")
    write_json(folder / "tokenizer_config.json", config)


def test_prefix_space_and_ends_follow_the_class(tmp_path):
    made = train_bpe(SENTENCES, 300, special_tokens=("<s>", "</s>"))
    merges_folder(tmp_path, made, {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True})
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.encode("b") == [0, *made.encode(" b"), 1]
    made.save(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"add_prefix_space": True})
    assert Tokenizer.from_folder(tmp_path).encode("b") == made.encode(" b")


def test_the_models_type_stands_in_for_a_missing_class(tmp_path):
    made = train_bpe(["12 12 12"], 260)
    merges_folder(tmp_path, made, {})
    assert len(Tokenizer.from_folder(tmp_path).encode("12")) == 1
    write_json(tmp_path / "config.json", {"model_type": "qwen3"})
    assert len(Tokenizer.from_folder(tmp_path).encode("12")) == 2  # Qwen's digits stand alone


def sentencepiece_folder(folder, config, **options):
    words = ["▁", "a", "b", "▁a", "ab"]
    pieces = [*SPECIALS, *BYTES, *((word, -float(n), 1) for n, word in enumerate(words))]
    (folder / "tokenizer.model").write_bytes(model_bytes(pieces, byte_fallback=True, **options))
    write_json(folder / "tokenizer_config.json", config)
    tokenizer = Tokenizer.from_folder(folder)
    return lambda text: [tokenizer.id_to_token(number) for number in tokenizer.encode(text)]


@pytest.mark.parametrize(
    ("config", "text", "pieces"),
    [
        ({}, "a</s>a", ["<s>", "▁a", "</s>", "▁a"]),
        ({"legacy": False}, "a</s>a", ["<s>", "▁a", "</s>", "a"]),
        ({"add_prefix_space": False}, "a a", ["<s>", "a", "▁a"]),
        ({"add_bos_token": False}, "a", ["▁a"]),
        ({"add_eos_token": True}, "a", ["<s>", "▁a", "</s>"]),
        ({"tokenizer_class": "GemmaTokenizerFast"}, "<s>a", ["<s>", "▁a"]),
        ({"tokenizer_class": "T5Tokenizer"}, "a<extra_id_0>", ["▁a", "<extra_id_0>", "</s>"]),
    ],
)
def test_a_sentencepiece_model_follows_its_config(tmp_path, config, text, pieces):
    assert sentencepiece_folder(tmp_path, config)(text) == pieces


def test_a_map_of_special_tokens_overrules_the_vocabulary(tmp_path):
    write_json(tmp_path / "special_tokens_map.json", {"eos_token": {"content": "<turn>"}})
    sentencepiece_folder(tmp_path, {"pad_token": "<s>"})
    tokenizer = Tokenizer.from_folder(tmp_path)
    named = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token)
    assert named == ("<s>", "<turn>", "<s>", "<unk>")
    assert tokenizer.encode("<turn>")[-1] == tokenizer.eos_id == tokenizer.vocab_size - 1


def test_t5s_extra_tokens_count_down(tmp_path):
    sentencepiece_folder(tmp_path, {"tokenizer_class": "T5Tokenizer", "extra_ids": 3})
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.token_to_id("<extra_id_0>") == tokenizer.vocab_size - 1


def test_a_saved_sentencepiece_tokenizer_is_the_same(tmp_path):
    for config in ({}, {"legacy": False}, {"add_eos_token": True}, {"add_prefix_space": False}):
        sentencepiece_folder(tmp_path, config)
        original = Tokenizer.from_folder(tmp_path)
        original.save(tmp_path / "saved")
        again = Tokenizer.from_folder(tmp_path / "saved")
        for text in [*SENTENCES, *hard_texts(30)]:
            ids = original.encode(text)
            assert again.encode(text) == ids
            assert "".join(streamed(again, ids)) == again.decode(ids) == original.decode(ids)


def bert_folder(folder, pieces=("a", "##b", "ab", "Ab", ",", "é", "e"), **config):
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", "utf-8")
    write_json(folder / "tokenizer_config.json", config)


def test_reads_berts_vocabulary(tmp_path):
    bert_folder(tmp_path, tokenizer_class="BertTokenizer", do_lower_case=True)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.encode("Abb, É") == [2, 7, 6, 9, 11, 3]
    assert tokenizer.decode(tokenizer.encode("Abb, É")) == "abb, e"
    assert tokenizer.encode("[MASK] x", add_special_tokens=False) == [4, 1]
    ids = tokenizer.encode("abb a ab", add_special_tokens=False)
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids) == "abb a ab"
    bert_folder(tmp_path, do_lower_case=False)
    assert Tokenizer.from_folder(tmp_path).encode("Ab é") == [2, 8, 10, 3]
    bert_folder(tmp_path)  # a capital letter in the vocabulary: text keeps its own
    assert Tokenizer.from_folder(tmp_path).encode("Ab") == [2, 8, 3]
    assert Tokenizer.from_file(tmp_path / "vocab.txt").encode("Ab") == [2, 8, 3]


@pytest.mark.parametrize(
    ("config", "pieces", "words"),
    [
        ({"tokenizer_class": "ProphetNetTokenizer"}, ["a"], "of a ProphetNetTokenizer cannot be"),
        ({}, ["a", "a"], "1 of its pieces come twice"),
        ({"unk_token": "<unk>"}, ["a"], "there is no unknown token '<unk>'"),
    ],
)
def test_a_vocabulary_that_is_not_berts_is_refused(tmp_path, config, pieces, words):
    bert_folder(tmp_path, pieces, **config)
    with pytest.raises(FileFormatError, match=words):
        Tokenizer.from_folder(tmp_path)


def test_a_model_whose_ids_are_not_its_pieces_numbers_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="of a XLMRobertaTokenizer cannot be read without"):
        sentencepiece_folder(tmp_path, {"tokenizer_class": "XLMRobertaTokenizer"})


# Files made to do harm ---------------------------------------------------------------------------


def evil(change):
    """A tokenizer.json of bytes with a change."""
    state = json.loads(byte_tokenizer().backend.to_str())
    change(state)
    return state


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(decoder={"type": "Strip", "content": " ", "start": 0, "stop": 1}),
        lambda s: s.update(padding={**PADDING, "strategy": {"Fixed": 1 << 50}}),
        lambda s: s.update(truncation={**TRUNCATION, "max_length": 1 << 60}),
        lambda s: s["added_tokens"][0].update(id=4294967295),
        lambda s: s["model"].update(dropout=2.0),
        lambda s: s["model"].update(type="Unigram", vocab=[["a", 0.0]], unk_id=None),
        lambda s: s["model"].update(type="WordPiece", vocab={"a": 0}, unk_token="none"),
        lambda s: s.update(pre_tokenizer={**SPLIT, "pattern": {"Regex": "(a|a)*(a|a)*b"}}),
        lambda s: s.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        lambda s: s.update(normalizer={"type": "Precompiled", "precompiled_charsmap": CHARSMAP}),
        lambda s: s.update(post_processor={**TEMPLATE, "single": [{"SpecialToken": SPECIAL}]}),
    ],
)
def test_a_tokenizer_made_to_crash_raises_our_error(tmp_path, change, capfd):
    write_json(tmp_path / "tokenizer.json", evil(change))
    try:
        tokenizer = Tokenizer.from_folder(tmp_path)
        tokenizer.decode(tokenizer.encode("a" * 40))
        tokenizer.decode([97])
        tokenizer.decode([])
    except FileFormatError as error:
        assert str(error)


PADDING = {
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "a",
}
TRUNCATION = {"direction": "Right", "strategy": "LongestFirst", "stride": 0}
SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
SPECIAL = {"id": "nothing", "type_id": 0}
TEMPLATE = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}
#: A trie of one unit, whose branch leads far out of it.
CHARSMAP = "BAAAAAD8/38="
