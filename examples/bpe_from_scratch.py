"""Learn a byte-level BPE vocabulary, encode and decode with it: a tokenizer in a hundred lines.

    python examples/bpe_from_scratch.py                   # learns from a file of Python's library
    python examples/bpe_from_scratch.py --text FILE --merges 500

A language model reads numbers. One number per letter makes texts long; one per word needs a list of
all words. Byte-pair encoding (Sennrich et al. 2016) is between these: it starts with single
bytes, and repeatedly joins the most frequent pair. GPT-2 has such a vocabulary of bytes (Radford et
al. 2019). At the end, the script compares it with `gradient.text`, whose training and encoding run
in Rust.
"""

import argparse
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

from gradient.text import Tokenizer, train_bpe
from gradient.text.build import byte_level_bpe
from gradient.text.stream import byte_alphabet

# Text is split into words first, and pairs are joined only within words. Otherwise "dog." and
# "dog!" could become separate pieces. A space belongs to the word after it, so " dog" needs no
# separate piece for the space. The first alternative that matches is used:
WORDS = re.compile(
    r"'(?:s|t|re|ve|m|ll|d)"  # the ends of it's, don't, we're, ...
    r"| ?[^\W\d_]+"  # letters, with the space before them
    r"| ?\d+"  # digits
    r"| ?(?:[^\s\w]|_)+"  # punctuation
    r"|\s+(?!\S)"  # spaces, except the last one before a word
    r"|\s+"
)

Pair = tuple[bytes, bytes]


def learn(text: str, merges: int) -> list[Pair]:
    """The pairs to join, in order. A pair is two `bytes`.

    Each round counts all pairs again. A library keeps the counts and updates those near a join;
    the result is the same.
    """
    words = Counter(WORDS.findall(text))
    # A word's pieces, at first its bytes, and how often it occurs.
    split = {word: [bytes([b]) for b in word.encode()] for word in words}
    learned = []
    for _ in range(merges):
        pairs: Counter[Pair] = Counter()
        for word, pieces in split.items():
            for pair in zip(pieces, pieces[1:], strict=False):
                pairs[pair] += words[word]
        if not pairs:
            break
        # The most frequent pair; of several, the first by its bytes, for a deterministic result.
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < 2:
            break
        learned.append(best)
        split = {word: join(pieces, best) for word, pieces in split.items()}
    return learned


def join(pieces: list[bytes], pair: Pair) -> list[bytes]:
    """Join every occurrence of `pair` in `pieces` to one piece, from left to right."""
    joined: list[bytes] = []
    at = 0
    while at < len(pieces):
        if at + 1 < len(pieces) and (pieces[at], pieces[at + 1]) == pair:
            joined.append(pieces[at] + pieces[at + 1])
            at += 2
        else:
            joined.append(pieces[at])
            at += 1
    return joined


class BytePairs:
    """Text to ids and back: ids 0 to 255 are bytes, ids from 256 on the pairs in learned order."""

    def __init__(self, learned: list[Pair]) -> None:
        self.rank = {pair: number for number, pair in enumerate(learned)}
        self.pieces = [bytes([b]) for b in range(256)] + [left + right for left, right in learned]
        self.ids = {piece: number for number, piece in enumerate(self.pieces)}

    def encode(self, text: str) -> list[int]:
        return [self.ids[piece] for word in WORDS.findall(text) for piece in self.split(word)]

    def split(self, word: str) -> list[bytes]:
        """Split a word into pieces: repeatedly join the pair that was learned first.

        This repeats the joins of training, so a word gets the same pieces as there. Choosing the
        longest piece that matches would be a different rule, with different pieces.
        """
        pieces = [bytes([b]) for b in word.encode()]
        while len(pieces) > 1:
            pairs = zip(pieces, pieces[1:], strict=False)
            first = min(pairs, key=lambda pair: self.rank.get(pair, len(self.rank)))
            if first not in self.rank:
                break
            pieces = join(pieces, first)
        return pieces

    def decode(self, ids: list[int]) -> str:
        # Join the bytes first: a character of several bytes may be split between pieces.
        return b"".join(self.pieces[number] for number in ids).decode("utf-8", "replace")


def in_the_library(learned: list[Pair]) -> Tokenizer:
    """The same vocabulary as a `gradient.text.Tokenizer`, which writes bytes as characters."""
    letter = {byte: character for character, byte in byte_alphabet().items()}

    def written(piece: bytes) -> str:
        return "".join(letter[byte] for byte in piece)

    # Two different pairs can make one piece: "a" + "bc" and "ab" + "c". It keeps one id.
    pieces = BytePairs(learned).ids
    vocab = {written(piece): number for piece, number in pieces.items()}
    merges = [(written(left), written(right)) for left, right in learned]
    return Tokenizer(byte_level_bpe(vocab, merges))


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--text", type=Path, default=Path(argparse.__file__), help="learn from it")
    parser.add_argument("--merges", type=int, default=200)
    options = parser.parse_args(argv)
    text = options.text.read_text("utf-8")

    begin = time.perf_counter()
    learned = learn(text, options.merges)
    seconds = time.perf_counter() - begin
    tokenizer = BytePairs(learned)
    print(f"{len(learned)} pairs from {len(text):,} characters in {seconds:.1f} s; the first:")
    print("  " + "  ".join(repr((a + b).decode("utf-8", "replace")) for a, b in learned[:10]))

    sample = "def tokenizer(text): it's naïve 😀"
    ids = tokenizer.encode(sample)
    print(f"\n{sample!r} is {len(ids)} tokens (of {len(sample.encode())} bytes):")
    print("  " + "|".join(tokenizer.pieces[n].decode("utf-8", "backslashreplace") for n in ids))
    print(f"and back: {tokenizer.decode(ids)!r}")

    theirs = in_the_library(learned)
    begin = time.perf_counter()
    own = tokenizer.encode(text)
    middle = time.perf_counter()
    same = theirs.encode(text) == own
    end = time.perf_counter()
    trained = train_bpe([text], 257 + len(learned))
    print(
        f"\n{len(own):,} tokens for the whole text, {len(text) / len(own):.2f} characters each; "
        f"the library gives {'the same' if same else 'OTHER'} ids,\n{(middle - begin):.2f} s here "
        f"and {end - middle:.2f} s there. Trained by the library: {len(trained.encode(text)):,} "
        "tokens."
    )
    return {
        "same": same and tokenizer.decode(own) == text,
        "tokens": len(own),
        "trained": len(trained.encode(text)),
        "characters": len(text),
    }


if __name__ == "__main__":
    main()
