"""Text to token ids, by a `tokenizers.Tokenizer` and replacements of its inexact parts."""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradient.errors import ArgumentError, FileFormatError, TypeMismatch
from gradient.text.build import import_tokenizers
from gradient.text.charsmap import CharsmapStep
from gradient.text.patterns import GuardedEncoder, slow_patterns
from gradient.text.stream import byte_alphabet

if TYPE_CHECKING:
    import tokenizers


class TokenEncoder:
    """Converts texts to token ids; see `Tokenizer.encode`.

    Args:
        backend: the tokenizer, complete with its added tokens.
        charsmap: see `Tokenizer`.
    """

    def __init__(self, backend: tokenizers.Tokenizer, charsmap: bytes = b"") -> None:
        self._backend = backend
        self._slow = slow_patterns(backend)
        self.charsmap = charsmap

    def encode(
        self, texts: Sequence[str], add_special_tokens: bool, parse_special: bool
    ) -> list[list[int]]:
        """The ids of each text, with the backend's special tokens; errors as in `Tokenizer`."""
        for text in texts:
            if not isinstance(text, str):
                raise TypeMismatch(f"encode: expected a str, got {type(text).__name__}")
        backend = self.parsing if parse_special else self.literal
        try:
            if self._ids_are_bytes and not (parse_special and self._hold_added_tokens(texts)):
                return [list(text.encode("utf-8")) for text in texts]
            if len(texts) == 1:
                encoded: Any = [backend.encode(texts[0], add_special_tokens=add_special_tokens)]
            else:
                encoded = backend.encode_batch_fast(
                    list(texts), add_special_tokens=add_special_tokens
                )
        except (TypeError, UnicodeEncodeError):
            number = next((n for n, text in enumerate(texts) if _has_surrogate(text)), None)
            if number is None:
                raise
            raise ArgumentError(
                f"encode: text {number} holds half a surrogate pair and is not valid Unicode; "
                "read files with errors='replace', or mend it by "
                "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
            ) from None
        except (KeyboardInterrupt, SystemExit, MemoryError, ArgumentError):
            raise
        except BaseException as error:  # Exception itself, or a panic of the package's Rust code
            raise FileFormatError(
                f"encode: the tokenizer cannot do it, its files are damaged: {error}"
            ) from None
        return [encoding.ids for encoding in encoded]

    @functools.cached_property
    def _ids_are_bytes(self) -> bool:
        """Whether ids are the UTF-8 bytes: then the package would be 100 times slower."""
        backend, sample = self._backend, " a  é\n€\t'll 12"
        return (
            not self._slow
            and backend.get_vocab_size(with_added_tokens=False) == 256
            and backend.normalizer is None
            and all(backend.token_to_id(piece) == byte for piece, byte in byte_alphabet().items())
            and backend.encode(sample).ids == list(sample.encode("utf-8"))
        )

    def _hold_added_tokens(self, texts: Sequence[str]) -> bool:
        added = [token.content for token in self._backend.get_added_tokens_decoder().values()]
        return any(token in text for text in texts for token in added)

    @functools.cached_property
    def parsing(self) -> tokenizers.Tokenizer | GuardedEncoder:
        """The backend, or a copy with an exact first normalisation, or one with a time limit."""
        if self._slow:
            return GuardedEncoder(self._backend, self._slow)
        if not self.charsmap:
            return self._backend
        return self._with_charsmap(import_tokenizers().Tokenizer.from_str(self._backend.to_str()))

    @functools.cached_property
    def literal(self) -> tokenizers.Tokenizer | GuardedEncoder:
        """The same tokenizer, but special tokens in a text are ordinary characters."""
        state = json.loads(self._backend.to_str())
        added = self._backend.get_added_tokens_decoder()
        special_ids = [number for number, token in added.items() if token.special]
        if state["model"]["type"] == "Unigram":
            # Its model finds every piece in a text, even special ones: rename those.
            for number in special_ids:
                if number < len(state["model"]["vocab"]) and number != state["model"]["unk_id"]:
                    state["model"]["vocab"][number][0] = f"\0{secrets.token_hex(16)}"
            state["added_tokens"] = [t for t in state["added_tokens"] if not t["special"]]
        copy = import_tokenizers().Tokenizer.from_str(json.dumps(state))
        copy.encode_special_tokens = True
        return GuardedEncoder(copy, self._slow) if self._slow else self._with_charsmap(copy)

    def _with_charsmap(self, copy: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
        if self.charsmap:
            step = import_tokenizers().normalizers.Normalizer.custom(CharsmapStep(self.charsmap))
            copy.normalizer[0] = step
        return copy


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
