"""`gradient tokenize`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from gradient.cli.app import app
from gradient.io.gguf import write
from gradient.text import Tokenizer, byte_tokenizer, train_bpe
from gradient.text.gguf import metadata_of
from support.text_data import SENTENCES


def run(*arguments, **options):
    return CliRunner().invoke(app, ["tokenize", *map(str, arguments)], **options)


@pytest.fixture
def folder(tmp_path):
    made = train_bpe(SENTENCES, 300, special_tokens=("<s>", "</s>"))
    Tokenizer(made.backend, bos_token="<s>", eos_token="</s>", add_bos=True).save(tmp_path / "lm")
    return tmp_path / "lm"


def test_shows_each_token(folder):
    result = run(folder, "é</s>\n")
    assert result.exit_code == 0
    assert [line.split() for line in result.output.splitlines()] == [
        ["id", "piece", "text"],
        ["0", "<s>", "special"],
        [*result.output.splitlines()[2].split()[:1], "Ã", r"b'\xc3'"],
        [*result.output.splitlines()[3].split()[:1], "©", r"b'\xa9'"],
        ["1", "</s>", "special"],
        [*result.output.splitlines()[5].split()[:1], "Ċ", r"'\n'"],
        ["5", "tokens,", "6", "characters,", "1.20", "characters", "a", "token"],
    ]


def test_json_holds_ids_pieces_and_counts(folder):
    tokenizer = Tokenizer.from_folder(folder)
    found = json.loads(run(folder, "Hello", "--json").stdout)
    assert found["ids"] == tokenizer.encode("Hello")
    assert found["pieces"] == [tokenizer.id_to_token(number) for number in found["ids"]]
    assert found["special"] == [True] + [False] * (found["count"] - 1)
    assert (found["characters"], found["vocab_size"]) == (5, tokenizer.vocab_size)


def test_text_comes_from_a_file_or_a_pipe(folder, tmp_path):
    (tmp_path / "text").write_text("Hello\n")
    count = len(Tokenizer.from_folder(folder).encode("Hello"))
    assert run(folder, "--count", input="Hello\n").output == f"{count}\n"
    assert run(folder, "-", "--count", "--no-special", input="Hello").output == f"{count - 1}\n"
    assert run(folder, "--file", tmp_path / "text", "--count").output == f"{count + 1}\n"


def test_special_tokens_may_be_characters(folder):
    assert run(folder, "</s>", "--count").output == "2\n"
    assert run(folder, "</s>", "--literal", "--count").output == "5\n"


def test_ids_become_text(folder):
    ids = Tokenizer.from_folder(folder).encode("Hello é")
    assert run(folder, "--decode", " ".join(map(str, ids))).output == "<s>Hello é\n"
    assert run(folder, "--decode", str(ids), "--no-special").output == "Hello é\n"
    found = json.loads(run(folder, "--decode", ",".join(map(str, ids)), "--json").stdout)
    assert found == {"ids": ids, "text": "<s>Hello é", "count": len(ids)}


def test_reads_single_files_of_each_kind(folder, tmp_path):
    write(tmp_path / "vocab.gguf", metadata_of(byte_tokenizer()), {})
    assert run(tmp_path / "vocab.gguf", "abc", "--count").output == "3\n"
    assert run(folder / "tokenizer.json", "abc", "--count").exit_code == 0
    assert run("tinyworld", "Once upon a time", "--count").output == "5\n"  # with BOS


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--decode", "1 x"], 2, "expected token ids, got 'x'"),
        (["text", "--decode", "1"], 2, "takes ids alone, and no text"),
        (["text", "--file", __file__], 2, "give TEXT or a file, not both"),
        (["--decode", "1 99999999"], 0, "note: no token has the id 99999999\n"),
        (["--decode", "2147483648"], 2, "expected token ids below 2**31, got 2147483648"),
        (["--file", "absent"], 2, "does not exist"),
    ],
)
def test_wrong_use_is_explained(folder, arguments, code, words):
    result = run(folder, *arguments)
    assert result.exit_code == code
    assert words in result.output


def test_a_missing_tokenizer_is_named(tmp_path):
    result = run(tmp_path, "text")
    assert result.exit_code == 1
    assert "no tokenizer in" in result.output
    found = json.loads(run(tmp_path, "text", "--json").stdout)
    assert found["error"]["type"] == "ModelNotFound"
