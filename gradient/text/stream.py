"""Streaming decoding: text from tokens as they arrive, in whole characters.

A byte-level token is a run of bytes, and a character of several bytes may be spread over several
tokens. So the text of the first n tokens is not a prefix of the text of the first n + 1: a
program that decodes each prefix and prints the new part shows U+FFFD, the sign for broken UTF-8,
though nothing is broken.
"""

from __future__ import annotations

import codecs
import functools
from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = ["StreamDecoder"]


class StreamDecoder(Protocol):
    """Decodes a stream: `push` each token, print the returned text, and `flush` at the end.

    All pieces together are `Tokenizer.decode` of all tokens (of broken UTF-8, bytes that end in the
    middle of a character, as U+FFFD from `flush`).
    """

    def push(self, token: int) -> str:
        """Return the text that `token` completes; "" while a character is incomplete."""
        ...

    def flush(self) -> str:
        """Return the rest after the last token."""
        ...


class ByteStreamDecoder:
    """For tokens that are runs of bytes: bytes in, characters out as soon as they are whole.

    Args:
        token_bytes: returns the bytes of a token; b"": the token is not shown.
        drop_first_space: drop the space at the start, which some tokenizers add when encoding.
    """

    def __init__(self, token_bytes: Callable[[int], bytes], *, drop_first_space: bool = False):
        self._token_bytes = token_bytes
        self._drop_first_space = drop_first_space
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        raw = self._token_bytes(token)
        if raw and self._drop_first_space:
            self._drop_first_space = False
            raw = raw.removeprefix(b" ")
        return self._utf8.decode(raw)

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class PrefixStreamDecoder:
    """For all other tokenizers: decodes the last few tokens again with each new one.

    Text is held back while it ends in U+FFFD. The tokens of the previous piece stay in the window,
    since many decoders treat the first token of a text differently (they drop its leading
    space).

    Args:
        decode: text of a list of tokens.
        context: tokens before those of the stream, such as the prompt.
    """

    #: More tokens than a character has bytes: then the held-back text is broken, not incomplete.
    MAX_HELD = 8

    def __init__(self, decode: Callable[[list[int]], str], context: Sequence[int] = ()):
        self._decode = decode
        self._window = list(context)[-self.MAX_HELD :]
        self._shown = len(self._window)  # tokens of the window whose text was returned

    def push(self, token: int) -> str:
        self._window.append(token)
        held = len(self._window) - self._shown
        return self._new_text(may_hold=held < self.MAX_HELD)

    def flush(self) -> str:
        return self._new_text(may_hold=False)

    def _new_text(self, may_hold: bool) -> str:
        before = self._decode(self._window[: self._shown])
        text = self._decode(self._window)
        if len(text) <= len(before) or (may_hold and text.endswith("\ufffd")):
            return ""
        self._window = self._window[self._shown :]
        self._shown = len(self._window)
        return text[len(before) :]


@functools.cache
def byte_alphabet() -> dict[str, int]:
    """Return {character: byte} of byte-level vocabularies.

    A printable Latin-1 character is its own byte; the other 68 bytes, in order, are the characters
    from U+0100 on, so that a vocabulary file has no spaces or control characters (GPT-2's
    `bytes_to_unicode`).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}


def bytes_of(piece: str) -> bytes:
    """The bytes of an entry of a byte-level vocabulary (added tokens: their UTF-8)."""
    alphabet = byte_alphabet()
    try:
        return bytes([alphabet[character] for character in piece])
    except KeyError:
        return piece.encode("utf-8")
