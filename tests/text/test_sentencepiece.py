"""Vocabularies of scored pieces: `.model` files, llama2.c's, and the protobuf reader under them.

Whether the ids are SentencePiece's own, tests/parity/test_text_parity.py says.
"""

from __future__ import annotations

import random
import struct
import time

import pytest

from gradient.errors import FileFormatError, ModelNotFound
from gradient.io.protobuf import fields, float_of, int_of, text_of
from gradient.text import Tokenizer, pieces
from gradient.text.charsmap import Charsmap, check_charsmap
from gradient.text.pieces import PieceType, PieceVocabulary, merges_of
from gradient.text.sentencepiece import arguments_of, parse_sentencepiece, read_llama2c
from support.piece_models import (
    BYTES,
    SPECIALS,
    float_field,
    int_field,
    model_bytes,
    text_field,
    varint,
)
from support.text_data import SENTENCES, hard_texts, streamed

NORMAL = PieceType.NORMAL
WORDS = ["▁", "a", "b", "c", "ab", "bc", "▁a", "▁ab", "abc"]


def small(words=WORDS, **options):
    """A model whose earlier words are the better ones."""
    pieces = [*SPECIALS, *((word, -float(n), NORMAL) for n, word in enumerate(words))]
    return Tokenizer(**arguments_of(parse_sentencepiece(model_bytes(pieces, **options))))


def pieces_of(tokenizer, text, **options):
    ids = tokenizer.encode(text, add_special_tokens=False, **options)
    return [tokenizer.id_to_token(number) for number in ids]


# The wire ----------------------------------------------------------------------------------------


def test_reads_fields_of_every_wire_type():
    message = (
        int_field(1, 300)
        + int_field(2, -1)
        + text_field(3, "é")
        + float_field(4, 0.5)
        + varint(5 << 3 | 1)
        + b"12345678"
    )
    found = dict(fields(message))
    assert found[1] == 300
    assert int_of(found[2]) == -1
    assert text_of(found[3]) == "é"
    assert float_of(found[4]) == 0.5
    assert bytes(found[5]) == b"12345678"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\x08", "ends within a number"),
        (b"\x08" + b"\xff" * 11, "longer than 64 bits"),
        (b"\x0b", "field 1 has the unknown wire type 3"),
        (text_field(1, "abc")[:-1], "field 1 needs 3 bytes and 2 are left"),
        (b"\x0a\xff\xff\xff\xff\x7f", "needs 34,359,738,367 bytes and 0 are left"),
        (float_field(2, 1.0)[:-1], "needs 4 bytes and 3 are left"),
    ],
)
def test_a_damaged_message_is_refused(message, words):
    with pytest.raises(FileFormatError, match=words):
        list(fields(message))


@pytest.mark.parametrize("read", [text_of, float_of])
def test_a_number_is_no_text(read):
    with pytest.raises(FileFormatError, match="expected bytes, got the number 3"):
        read(3)


# Encoding ----------------------------------------------------------------------------------------


def test_the_best_union_of_neighbours_comes_first():
    tokenizer = small(["▁", "a", "b", "c", "bc", "ab", "abc"])
    assert pieces_of(tokenizer, "abc") == ["▁", "abc"]  # bc first, then a + bc
    assert pieces_of(tokenizer, "abab") == ["▁", "ab", "ab"]
    assert pieces_of(small(["▁", "a", "aa"]), "aaa") == ["▁", "aa", "a"]  # the leftmost of equals


def test_every_way_to_cut_a_piece_is_a_merge():
    vocabulary = PieceVocabulary(["abc", "ab", "bc", "a", "b", "c"], [-1, -2, -3, 0, 0, 0], [1] * 6)
    assert merges_of(vocabulary) == [("a", "bc"), ("ab", "c"), ("a", "b"), ("b", "c")]


def test_unknown_characters_are_one_piece_or_their_bytes():
    assert pieces_of(small(), "aéü a") == ["▁a", "<unk>", "▁a"]
    words = [*BYTES, *((word, -float(n), NORMAL) for n, word in enumerate(WORDS))]
    data = model_bytes([*SPECIALS, *words], byte_fallback=True)
    tokenizer = Tokenizer(**arguments_of(parse_sentencepiece(data)))
    assert pieces_of(tokenizer, "aé") == ["▁a", "<0xC3>", "<0xA9>"]
    for text in [*SENTENCES, *hard_texts(60)]:
        if "▁" not in text:
            assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("options", "text", "pieces"),
    [
        ({}, "a  b ", ["▁a", "▁", "▁", "b", "▁"]),
        ({"remove_extra": True}, "  a  b  ", ["▁a", "▁", "b"]),
        ({"remove_extra": True}, "   ", []),
        ({"dummy_prefix": False}, "a a", ["a", "▁a"]),
        ({"n24": 1}, "a", ["a", "▁"]),  # treat_whitespace_as_suffix
        ({}, "", []),
    ],
)
def test_spaces_are_treated_as_the_model_says(options, text, pieces):
    assert pieces_of(small(**options), text) == pieces
    unigram = pieces_of(small(model_type=1, **options), text)
    assert "".join(unigram) == "".join(pieces)


def test_a_unigram_model_takes_the_cut_of_best_score():
    words = {"▁": -1.0, "a": -1.0, "b": -3.0, "ab": -3.9, "▁a": -2.5, "▁ab": -5.0}
    pieces = [*SPECIALS, *((word, score, NORMAL) for word, score in words.items())]
    tokenizer = Tokenizer(**arguments_of(parse_sentencepiece(model_bytes(pieces, model_type=1))))
    assert pieces_of(tokenizer, "ab") == ["▁", "ab"]  # -4.9, and ▁ab has -5, ▁a b -5.5


@pytest.mark.parametrize("model_type", [1, 2])
def test_user_defined_pieces_are_never_cut(model_type):
    words = [*((word, -float(n), NORMAL) for n, word in enumerate(WORDS))]
    pieces = [*SPECIALS, *words, ("<u>", 0.0, PieceType.USER_DEFINED)]
    data = model_bytes(pieces, model_type=model_type)
    tokenizer = Tokenizer(**arguments_of(parse_sentencepiece(data)))
    assert pieces_of(tokenizer, "<u>a<u> b") == ["▁", "<u>", "a", "<u>", "▁", "b"]
    assert tokenizer.decode(tokenizer.encode("a<u>")) == "a<u>"


@pytest.mark.parametrize("model_type", [1, 2])
def test_control_pieces_are_characters_in_a_strangers_text(model_type):
    tokenizer = small(model_type=model_type)
    assert tokenizer.encode("</s>a")[:2] == [1, 2]
    assert 2 not in tokenizer.encode("</s>a", parse_special=False)


def test_unused_pieces_are_never_made():
    words = [(word, -1.0, NORMAL) for word in ("▁", "a", "b")] + [("ab", 0.0, PieceType.UNUSED)]
    tokenizer = Tokenizer(**arguments_of(parse_sentencepiece(model_bytes([*SPECIALS, *words]))))
    assert pieces_of(tokenizer, "ab") == ["▁", "a", "b"]


# Decoding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", [1, 2])
def test_streams_bytes_and_spaces(model_type):
    words = [*BYTES, *((word, -float(n), NORMAL) for n, word in enumerate(WORDS))]
    data = model_bytes([*SPECIALS, *words], model_type=model_type, byte_fallback=True)
    tokenizer = Tokenizer(**arguments_of(parse_sentencepiece(data)))
    for text in [*SENTENCES, *hard_texts(60)]:
        ids = tokenizer.encode(text)
        given = streamed(tokenizer, ids)
        assert "".join(given) == tokenizer.decode(ids)
        assert not any("\ufffd" in each for each in given)
    bos, first = tokenizer.bos_id, tokenizer.encode("a", add_special_tokens=False)
    assert "".join(streamed(tokenizer, first, context=[bos])) == "a"  # still a text's first word
    assert "".join(streamed(tokenizer, first, context=[bos, *first])) == " a"
    broken = [tokenizer.token_to_id("<0xE2>"), *tokenizer.encode("€", add_special_tokens=False)]
    assert tokenizer.decode(broken) == "".join(streamed(tokenizer, broken)) == "\ufffd €"


# Files -------------------------------------------------------------------------------------------


def test_llama2cs_file_has_the_pieces_of_the_model(real_data):
    folder = real_data("stories260k")
    theirs, ours = (
        Tokenizer.from_file(folder / "tok512.bin"),
        Tokenizer.from_file(folder / "tok512.model"),
    )
    assert [theirs.id_to_token(n) for n in range(512)] == [ours.id_to_token(n) for n in range(512)]
    text = "Once upon a time, there was a little girl named Lily."
    assert theirs.encode(text) == ours.encode(text)
    assert ours.encode(text)[:5] == [1, 403, 407, 261, 378]
    assert ours.decode(ours.encode(text)) == text
    # llama2.c keeps all spaces; the model's normaliser removes extra ones.
    assert theirs.decode(theirs.encode(" a  b")) == " a  b"
    assert ours.decode(ours.encode(" a  b")) == "a b"


@pytest.mark.parametrize(
    ("pieces", "options", "words"),
    [
        ([], {}, "and some, got 0, 0 and 0"),
        ([("a", 0.0, 1), ("a", 0.0, 1)], {}, "the piece 'a' comes twice"),
        ([("", 0.0, 1)], {}, "expected piece 0 to have 1 to 512"),
        ([("a" * 600, 0.0, 1)], {}, "expected piece 0 to have 1 to 512 characters, got 600"),
        ([("a", float("nan"), 1)], {}, "the score of piece 0 is nan"),
        ([("a", 0.0, 9)], {}, "type to be 1 to 6, got 9"),
        ([("a", 0.0, 1)], {"model_type": 3}, r"unigram \(1\) or BPE \(2\) model, got model_type 3"),
        ([("a", 0.0, 1)], {"n40": 5}, "no piece has the id 5"),
        ([*SPECIALS], {"charsmap": b"ab"}, "charsmap: it ends within its head"),
        ([*SPECIALS], {"charsmap": struct.pack("<I", 1 << 30)}, "a trie of 1,073,741,824 bytes"),
    ],
)
def test_a_damaged_model_is_refused(tmp_path, pieces, options, words):
    (tmp_path / "tokenizer.model").write_bytes(model_bytes(pieces, **options))
    for read in (
        lambda: Tokenizer.from_folder(tmp_path),
        lambda: Tokenizer.from_file(tmp_path / "tokenizer.model"),
    ):
        with pytest.raises(FileFormatError, match=words) as caught:
            read()
        assert str(tmp_path) in str(caught.value)


def charsmap(units, texts=b"x\0"):
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + texts


def small_charsmap():
    """A table of A to a and AB to x; the nodes' places are chosen by hand."""
    units = [0] * 768
    units[0] = 256 << 10  # children of the root lie from 256 on, at 256 ^ byte
    a = 256 ^ ord("A")
    units[a] = ord("A") | 1 << 8 | (a ^ 512) << 10
    units[512] = 1 << 31
    ab = 512 ^ ord("B")
    units[ab] = ord("B") | 1 << 8 | (ab ^ 640) << 10
    units[640] = 1 << 31 | 2
    return charsmap(units, b"a\0x\0")


def test_the_longest_replacement_is_taken():
    table = Charsmap(small_charsmap())
    assert table.normalize("AABé A\u0301C") == "axé a\u0301C"
    assert table.normalize("") == ""
    tokenizer = small(charsmap=small_charsmap())
    assert pieces_of(tokenizer, "A bAA") == ["▁a", "▁", "b", "a", "a"]
    assert pieces_of(tokenizer, "A bAA", parse_special=False) == ["▁a", "▁", "b", "a", "a"]
    batch = tokenizer.encode_batch(["A bAA", "", "Ab"] * 200)
    assert batch[:3] * 200 == batch and batch[0] == tokenizer.encode("A bAA")
    user_defined = [*SPECIALS, ("▁", 0.0, 1), ("a", 0.0, 1), ("<A>", 0.0, PieceType.USER_DEFINED)]
    data = model_bytes(user_defined, charsmap=small_charsmap())
    assert pieces_of(Tokenizer(**arguments_of(parse_sentencepiece(data))), "A<A>") == [
        "▁",
        "a",
        "<A>",
    ]


def test_a_charsmap_that_goes_in_circles_ends():
    """Each byte leads back to where it came from; no string of the trie ends."""
    table = Charsmap(charsmap([0] + [byte << 10 | byte for byte in range(1, 256)]))
    text = "é a" * 3000
    begun = time.process_time()
    assert table.normalize(text) == text
    assert time.process_time() - begun < 60  # it takes a second, and hours without a bound


def test_pieces_without_end_are_refused(monkeypatch):
    """All parts of a text as pieces make merges by the cube of its length."""
    text = "abbabaab"
    parts = {text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)}
    vocabulary = PieceVocabulary(sorted(parts), [0.0] * len(parts), [1] * len(parts))
    assert len(merges_of(vocabulary)) == sum(len(part) - 1 for part in parts)
    monkeypatch.setattr(pieces, "MAX_MERGES", -15 * len(parts))
    with pytest.raises(FileFormatError, match=r"into two others in more than 2\d ways"):
        merges_of(vocabulary)
    defined = [(f"{'x' * 400}{n}", 0.0, PieceType.USER_DEFINED) for n in range(3500)]
    with pytest.raises(FileFormatError, match=r"3,500 user-defined pieces of 1,4\d\d,\d{3} char"):
        Tokenizer(**arguments_of(parse_sentencepiece(model_bytes([*SPECIALS, *defined]))))


def test_a_charsmap_may_not_lead_out_of_itself():
    with pytest.raises(FileFormatError, match="leads out of it"):
        check_charsmap(charsmap([1 << 31 | 255 << 10] * 256))
    check_charsmap(charsmap([0] * 256))
    with pytest.raises(FileFormatError, match="leads out of it"):
        check_charsmap(charsmap([5 << 20] + [0] * 255))
    with pytest.raises(FileFormatError, match="replacements that are not there"):
        check_charsmap(charsmap([1 << 8 | 1 << 10, 1 << 31 | 99] + [0] * 254))
    with pytest.raises(FileFormatError, match="replacements that are not there"):
        check_charsmap(charsmap([0] * 256, b"no end"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\0" + b"\0" * 7, "piece 0 is cut short"),
        (b"\0\0\0\0" + struct.pack("<fi", 0.0, 1 << 30), "needs 1,073,741,824 bytes and 0"),
        (b"\0\0\0\0" + struct.pack("<fi", 0.0, -1), "is no llama2.c tokenizer"),
        (b"\0\0\0\0" + struct.pack("<fi", 0.0, 1) + b"\xff", "piece 0 is not UTF-8"),
        (b"\0\0\0\0" + struct.pack("<fi", 0.0, 1) + b"a", "and the 256 bytes first"),
    ],
)
def test_a_damaged_llama2c_file_is_refused(tmp_path, data, words):
    (tmp_path / "tokenizer.bin").write_bytes(data)
    with pytest.raises(FileFormatError, match=words):
        read_llama2c(tmp_path / "tokenizer.bin")


def test_a_tiktoken_file_is_recognised(tmp_path):
    (tmp_path / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")
    with pytest.raises(FileFormatError, match="is a tiktoken vocabulary"):
        Tokenizer.from_folder(tmp_path)


def test_absent_and_absurd_files_are_named(tmp_path):
    with pytest.raises(ModelNotFound, match="no tokenizer at .*absent.model"):
        Tokenizer.from_file(tmp_path / "absent.model")
    with open(tmp_path / "tokenizer.model", "wb") as file:
        file.truncate(200_000_000)  # a hole: it takes no room on the disk
    with pytest.raises(FileFormatError, match="more than 100,000,000 bytes"):
        Tokenizer.from_folder(tmp_path)


def test_mutated_models_never_crash(tmp_path):
    """Seeded: each mutant loads and encodes, or raises our error."""
    words = [*BYTES[:20], *((word, -float(n), NORMAL) for n, word in enumerate(WORDS))]
    originals = [model_bytes([*SPECIALS, *words], model_type=kind, charsmap=b"") for kind in (1, 2)]
    generator = random.Random(0)
    loaded = 0
    for number in range(400):
        mutant = bytearray(originals[number % 2])
        for _ in range(generator.randrange(1, 4)):
            where = generator.randrange(len(mutant))
            match generator.randrange(3):
                case 0:
                    mutant[where] = generator.randrange(256)
                case 1:
                    del mutant[where : where + generator.randrange(1, 40)]
                case 2:
                    mutant[where:where] = mutant[where : where + 20]
        (tmp_path / "tokenizer.model").write_bytes(mutant)
        try:
            tokenizer = Tokenizer.from_folder(tmp_path)
            tokenizer.decode(tokenizer.encode("ab é <s> c"))
            loaded += 1
        except FileFormatError:
            continue
    assert 0 < loaded < 400
