"""The result of readers of vocabulary files: the arguments of `Tokenizer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Required, TypedDict

if TYPE_CHECKING:
    import tokenizers


class SpecialTokens(TypedDict, total=False):
    """The fields of `TokenizerArguments` that name a token."""

    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    unk_token: str | None


class TokenizerArguments(SpecialTokens, total=False):
    """The arguments of `Tokenizer`; see there."""

    backend: Required[tokenizers.Tokenizer]
    add_bos: bool | None
    add_eos: bool | None
    chat_template: str | Mapping[str, str] | None
    charsmap: bytes
