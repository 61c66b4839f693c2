"""Texts that tokenizers find hard, and llama.cpp's test vectors."""

from __future__ import annotations

import random
from pathlib import Path

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

_HARD = (
    " \u3000\u00a0\t\n\r▁éàßĳﬁ①Ⅷ½ｶﾞ가각힣日本語😀👩‍👩‍👧‍👦🇩🇪\u0301\u0302\u0323\u1100\u1161\u11a8ẛ"
    "\u200b\u200d\ufeff\x00\x01\x7f\u0085\u2028abcABC123.,!?<>'"
)


def hard_texts(count: int, seed: int = 0) -> list[str]:
    """Random texts, a third each: marks and odd spaces, all scripts, spaces and letters."""
    rng = random.Random(seed)

    def character() -> str:
        low, high = rng.choice(
            [(0x20, 0x250), (0x370, 0x600), (0x3000, 0xD800), (0x1F300, 0x1FA00), (1, 0xD800)]
        )
        return chr(rng.randrange(low, high))

    kinds = (
        lambda: rng.choice(_HARD),
        character,
        lambda: rng.choice(["a", "b", "aa", " ", "  ", "   ", "\n"]),
    )
    return ["".join(kinds[n % 3]() for _ in range(rng.randrange(30))) for n in range(count)]


def excerpts(text: str, count: int, seed: int = 0) -> list[str]:
    """Pieces of up to 300 characters from anywhere in a text."""
    rng = random.Random(seed)
    begins = [rng.randrange(len(text)) for _ in range(count)]
    return [text[begin : begin + rng.randrange(1, 300)] for begin in begins]


def vectors(folder: Path, name: str) -> list[tuple[str, list[int]]]:
    """Texts and their ids, from llama.cpp's tokenizer tests."""
    texts = (folder / f"ggml-vocab-{name}.gguf.inp").read_bytes().decode("utf-8")
    lines = (folder / f"ggml-vocab-{name}.gguf.out").read_text("utf-8").split("\n")
    found = zip(texts.split("\n__ggml_vocab_test__\n"), lines, strict=False)
    return [(text, [int(number) for number in line.split()]) for text, line in found]


def streamed(tokenizer, ids, **options):
    """What a stream gives for each token, and at the end."""
    stream = tokenizer.stream(**options)
    return [stream.push(token) for token in ids] + [stream.flush()]
