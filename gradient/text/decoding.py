"""Token ids to text, whole or as they come, for any tokenizer.

Pieces of byte-level and of byte-fallback vocabularies are runs of bytes. Their text is the joined
bytes of all tokens, decoded as UTF-8, so a stream needs no earlier tokens. Others
(WordPiece, whose decoder joins "##ing" to the word before it) are decoded by the `tokenizers`
package.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from gradient.errors import IndexOutOfRange, TypeMismatch
from gradient.text.build import panics_as
from gradient.text.stream import ByteStreamDecoder, PrefixStreamDecoder, StreamDecoder, bytes_of

if TYPE_CHECKING:
    import tokenizers

_SPACE_IS_ESCAPED = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
_DROPS_FIRST_SPACE = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


class TokenDecoder:
    """Converts token ids to text; see `Tokenizer.decode`, `stream` and `token_bytes`.

    Args:
        backend: the tokenizer, complete with its added tokens.
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        self._backend = backend
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(number for number, token in added.items() if token.special)
        self._bytes_of_piece, self._drops_first_space = _byte_rule(backend.decoder)

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        """The text of token ids; broken UTF-8 becomes U+FFFD."""
        if tokens and not 0 <= min(tokens) <= max(tokens) < 1 << 32:
            wrong = next(token for token in tokens if not 0 <= token < 1 << 32)
            raise IndexOutOfRange(f"decode: {wrong} is no token id")
        if self._bytes_of_piece is None or self._bytes_of_piece is bytes_of:
            with panics_as("decode: the tokenizer cannot do it, its files are damaged"):
                return self._backend.decode(tokens, skip_special_tokens=skip_special_tokens)
        shown = functools.partial(self.token_bytes, skip_special_tokens=skip_special_tokens)
        text = b"".join(map(shown, tokens)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._drops_first_space else text

    def stream(self, context: list[int], skip_special_tokens: bool) -> StreamDecoder:
        """A decoder of the tokens that follow `context`."""
        if self._bytes_of_piece is None:
            decode = functools.partial(self.decode, skip_special_tokens=skip_special_tokens)
            return PrefixStreamDecoder(decode, context)
        shown = functools.partial(self.token_bytes, skip_special_tokens=skip_special_tokens)
        begins = self._drops_first_space and not any(map(shown, context))
        return ByteStreamDecoder(shown, drop_first_space=begins)

    def token_bytes(self, token_id: int, skip_special_tokens: bool = True) -> bytes:
        """The bytes of one token; b"" for ids beyond the vocabulary."""
        if not 0 <= token_id < 1 << 32:
            raise IndexOutOfRange(f"decode: {token_id} is no token id")
        if skip_special_tokens and token_id in self.special_ids:
            return b""
        piece = self._backend.id_to_token(token_id)
        if piece is None:
            return b""
        if self._bytes_of_piece is None:
            return piece.encode("utf-8")
        return self._bytes_of_piece(piece)


def token_list(ids: Any) -> list[int]:
    """Return token ids that are a list, an array, a tensor or one number as a list.

    Raises:
        TypeMismatch: they are not a row of integers.
    """
    if hasattr(ids, "tolist"):
        ids = ids.tolist()
    if isinstance(ids, Integral):
        return [int(ids)]
    tokens = list(ids) if isinstance(ids, Iterable) else [ids]
    wrong = [token for token in tokens if not isinstance(token, (int, Integral))]
    if wrong or isinstance(ids, str):
        raise TypeMismatch(
            f"decode: expected token ids, a row of integers, got {(wrong or [ids])[0]!r:.80}"
            + (" in it; decode a batch row by row" if wrong and isinstance(wrong[0], list) else "")
        )
    return [int(token) for token in tokens]


def _byte_rule(decoder: Any) -> tuple[Callable[[str], bytes] | None, bool]:
    """How a piece becomes bytes, if it does, and whether a text's first space is dropped."""
    if decoder is None:
        return None, False
    state = json.loads(decoder.__getstate__())
    if state["type"] == "ByteLevel":
        return bytes_of, False
    if state["type"] != "Sequence":
        return None, False
    steps: Sequence[dict[str, Any]] = state["decoders"]
    drops = bool(steps) and steps[-1] == _DROPS_FIRST_SPACE
    kinds = [step["type"] for step in (steps[:-1] if drops else steps)]
    if kinds == ["Replace", "ByteFallback", "Fuse"] and steps[0] == _SPACE_IS_ESCAPED:
        return fallback_bytes_of, drops
    return None, False


def fallback_bytes_of(piece: str) -> bytes:
    """The bytes of a SentencePiece piece: <0x0A> is one byte, ▁ a space."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        try:
            return bytes([int(piece[3:5], 16)])
        except ValueError:
            pass
    return piece.replace("▁", " ").encode("utf-8")
