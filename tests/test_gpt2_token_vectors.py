"""GPT-2's tokenizer, read from OpenAI's own files, against llama.cpp's vectors for it."""

from __future__ import annotations

from gradient.text import Tokenizer

SEPARATOR = "\n__ggml_vocab_test__\n"


def test_all_47_texts_give_the_stored_ids_and_come_back(real_data):
    vocab = real_data("ggml_vocab")
    texts = (vocab / "ggml-vocab-gpt-2.gguf.inp").read_text(encoding="utf-8").split(SEPARATOR)
    lines = (vocab / "ggml-vocab-gpt-2.gguf.out").read_text(encoding="utf-8").split("\n")
    expected = [[int(number) for number in line.split()] for line in lines]
    assert len(texts) == len(expected) == 47

    tokenizer = Tokenizer.from_folder(real_data("tok_gpt2"))
    assert [tokenizer.encode(text) for text in texts] == expected
    assert [tokenizer.decode(ids) for ids in expected] == texts
