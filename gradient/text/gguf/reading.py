"""A tokenizer from a GGUF file's metadata, for each kind of vocabulary."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gradient.errors import FileFormatError
from gradient.text.arguments import TokenizerArguments
from gradient.text.build import add_bos_eos, byte_level_bpe, import_tokenizers, panics_as, special
from gradient.text.families import BY_GGUF_NAME
from gradient.text.gguf.keys import OTHER_IDS, PREFIX, SEPARATOR_IDS, SPECIAL_IDS, Metadata
from gradient.text.pieces import (
    SPACE,
    PieceNormalizer,
    PieceType,
    PieceVocabulary,
    tokenizer_of_pieces,
)
from gradient.text.wordpiece import CONTINUES, wordpiece

if TYPE_CHECKING:
    import tokenizers

__all__ = ["has_vocabulary", "read_vocabulary"]


def has_vocabulary(metadata: Metadata) -> bool:
    """Whether a GGUF file's metadata hold a tokenizer."""
    return metadata.get(PREFIX + "model", "no_vocab") != "no_vocab"


def read_vocabulary(metadata: Metadata) -> TokenizerArguments:
    """The tokenizer in a GGUF file's metadata; see `Tokenizer.from_gguf`."""
    kind = metadata.get(PREFIX + "model")
    if not isinstance(kind, str) or kind not in _KINDS:
        whole = metadata.get("tokenizer.huggingface.json")
        if isinstance(whole, str):
            return _finished(_from_json(whole), metadata, {})
        raise FileFormatError(
            f"GGUF: expected tokenizer.ggml.model to be one of {', '.join(_KINDS)}, got {kind!r}"
        )
    return _KINDS[kind](metadata)


def _llama(metadata: Metadata) -> TokenizerArguments:
    """LLaMA's kind of vocabulary, as in llama.cpp: a space follows each special token."""
    vocabulary = _scored(metadata, unigram=False, dummy_prefix=True)
    flags = {"add_bos": True, "add_eos": False}
    return _finished_pieces(vocabulary, metadata, flags)


def _t5(metadata: Metadata) -> TokenizerArguments:
    vocabulary = _scored(metadata, unigram=True, dummy_prefix=False)
    return _finished_pieces(vocabulary, metadata, {"add_bos": False, "add_eos": True})


def _finished_pieces(
    vocabulary: PieceVocabulary, metadata: Metadata, flags: dict[str, bool]
) -> TokenizerArguments:
    backend = tokenizer_of_pieces(vocabulary)
    return _finished(backend, metadata, flags, charsmap=vocabulary.normalizer.charsmap)


def _scored(metadata: Metadata, *, unigram: bool, dummy_prefix: bool) -> PieceVocabulary:
    pieces = _tokens(metadata)
    scores = _numbers(metadata, "scores", len(pieces))
    types = _types(metadata, len(pieces))
    charsmap = metadata.get(PREFIX + "precompiled_charsmap")
    return PieceVocabulary(
        pieces,
        scores,
        types,
        unigram=unigram,
        byte_fallback=PieceType.BYTE in types,
        unk_id=_unknown(metadata, types),
        normalizer=PieceNormalizer(
            charsmap=b"" if charsmap is None else _bytes(charsmap),
            remove_extra_whitespaces=_flag(metadata, "remove_extra_whitespaces", False),
            add_dummy_prefix=_flag(metadata, "add_space_prefix", dummy_prefix),
        ),
    )


def _gpt2(metadata: Metadata) -> TokenizerArguments:
    tokens = _tokens(metadata)
    types = _types(metadata, len(tokens))
    name = metadata.get(PREFIX + "pre", "default")
    if not isinstance(name, str) or name not in BY_GGUF_NAME:
        raise FileFormatError(
            f"GGUF: unknown tokenizer.ggml.pre {name!r}; known are {', '.join(BY_GGUF_NAME)}"
        )
    family = BY_GGUF_NAME[name]
    merges = []
    for number, merge in enumerate(_array(metadata, "merges")):
        # The first of the two pieces may begin with a space, in vocabularies not over bytes.
        cut = merge.find(" ", 1) if isinstance(merge, str) else -1
        if cut < 1 or cut == len(merge) - 1:
            raise FileFormatError(f"GGUF: merge {number} has not two pieces: {merge!r:.60}")
        merges.append((merge[:cut], merge[cut + 1 :]))
    vocab = {token: number for number, token in enumerate(tokens)}
    backend = byte_level_bpe(vocab, merges, (), family)
    _add_tokens(backend, tokens, types)
    return _finished(backend, metadata, {"add_bos": family.add_bos, "add_eos": False})


def _bert(metadata: Metadata) -> TokenizerArguments:
    tokens = _tokens(metadata)
    types = _types(metadata, len(tokens))
    # Here pieces that begin a word are marked, not those that continue one.
    tokens = [
        token[1:]
        if token.startswith(SPACE)
        else token
        if token.startswith("[") and token.endswith("]")
        else CONTINUES + token
        for token in tokens
    ]
    vocab = {token: number for number, token in enumerate(tokens)}
    special_text: dict[str, str | None] = {}
    for name, keys in {
        "unk": ("unknown_token_id",),
        "cls": ("cls_token_id", "bos_token_id"),
        "sep": (*SEPARATOR_IDS, "eos_token_id"),
    }.items():
        ids = [number for key in keys if (number := _id(metadata, key, len(tokens))) is not None]
        special_text[name] = tokens[ids[0]] if ids else f"[{name.upper()}]"
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == 3]
    backend = wordpiece(
        vocab,
        unk_token=special_text["unk"] or "[UNK]",
        cls_token=special_text["cls"],
        sep_token=special_text["sep"],
        special_tokens=tuple(control),
    )
    ends = {
        "bos_token": special_text["cls"] if special_text["cls"] in vocab else None,
        "eos_token": special_text["sep"] if special_text["sep"] in vocab else None,
    }
    return _finished(backend, metadata, {"add_bos": True, "add_eos": True}, ends)


_KINDS: dict[str, Callable[[Metadata], TokenizerArguments]] = {
    "llama": _llama,
    "gpt2": _gpt2,
    "t5": _t5,
    "bert": _bert,
}


def _finished(
    backend: tokenizers.Tokenizer,
    metadata: Metadata,
    flags: dict[str, bool],
    given: Mapping[str, str | None] = MappingProxyType({}),
    charsmap: bytes = b"",
) -> TokenizerArguments:
    """The tokenizer with its special tokens, its rule for BOS and EOS, and its chat template."""
    size = backend.get_vocab_size(with_added_tokens=True)
    ids = {name: _id(metadata, key, size) for name, key in SPECIAL_IDS.items()}
    specials = {
        name: None if number is None else backend.id_to_token(number)
        for name, number in ids.items()
    }
    specials |= dict(given)
    others = [_id(metadata, key, size) for key in (*OTHER_IDS, *SEPARATOR_IDS)]
    texts = [*specials.values(), *(backend.id_to_token(n) for n in others if n is not None)]
    backend.add_special_tokens([special(text) for text in dict.fromkeys(texts) if text])
    if any(name in str(metadata.get("general.name")).lower() for name in ("phi-3", "phi3")):
        _take_space_after_specials(backend)
    ends = {
        f"add_{end}": _flag(metadata, f"add_{end}_token", flags.get(f"add_{end}", False))
        and specials[f"{end}_token"] is not None
        for end in ("bos", "eos")
    }
    if backend.post_processor is None or metadata.get(PREFIX + "model") == "gpt2":
        begin, end = (specials[f"{e}_token"] if ends[f"add_{e}"] else None for e in ("bos", "eos"))
        add_bos_eos(backend, begin, end)
    read = {"chat_template": _templates(metadata), "charsmap": charsmap}
    return cast("TokenizerArguments", {"backend": backend, **read, **specials, **ends})


def _take_space_after_specials(backend: tokenizers.Tokenizer) -> None:
    """Let special tokens take the white space that follows, as Phi-3's do.

    Its tokenizer.json declares it for each token. GGUF has no key for it; llama.cpp also
    decides by the model's name.
    """
    tk = import_tokenizers()
    added = backend.get_added_tokens_decoder().values()
    names = [token.content for token in added if token.special]
    names = [name for name in names if name not in ("<unk>", "<s>", "<|endoftext|>")]
    backend.add_special_tokens(
        [tk.AddedToken(name, special=True, normalized=False, rstrip=True) for name in names]
    )


def _templates(metadata: Metadata) -> str | dict[str, str] | None:
    default = metadata.get("tokenizer.chat_template")
    prefix = "tokenizer.chat_template."
    named = {
        key.removeprefix(prefix): template
        for key, template in metadata.items()
        if key.startswith(prefix) and isinstance(template, str)
    }
    if isinstance(default, str):
        return {"default": default, **named} if named else default
    return named or None


def _from_json(text: str) -> tokenizers.Tokenizer:
    tk = import_tokenizers()
    with panics_as("GGUF: tokenizer.huggingface.json"):
        return tk.Tokenizer.from_str(text)


def _add_tokens(backend: tokenizers.Tokenizer, tokens: list[str], types: list[int]) -> None:
    """Add tokens that are searched for in a text first, in the order of their ids."""
    tk = import_tokenizers()
    control = (PieceType.CONTROL, PieceType.UNKNOWN)
    found = [
        tk.AddedToken(token, special=kind in control, normalized=False)
        for token, kind in zip(tokens, types, strict=True)
        if kind in control or kind == PieceType.USER_DEFINED
    ]
    backend.add_tokens(found)  # in one call, as each call sorts all of them


# Reading single keys ---------------------------------------------------------------------------


def _array(metadata: Metadata, key: str, size: int | None = None) -> list[Any]:
    values = metadata.get(PREFIX + key)
    if not isinstance(values, list | tuple | np.ndarray):
        raise FileFormatError(f"GGUF: expected an array {PREFIX + key}, got {values!r:.60}")
    if size is not None and len(values) != size:
        raise FileFormatError(f"GGUF: expected {size:,} {PREFIX + key}, got {len(values):,}")
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _tokens(metadata: Metadata) -> list[str]:
    """Texts of the tokens. Duplicates and empty texts get a generated name instead."""
    tokens = _array(metadata, "tokens")
    seen: set[str] = set()
    for number, token in enumerate(tokens):
        if not isinstance(token, str):
            raise FileFormatError(f"GGUF: expected token {number} to be a text, got {token!r:.60}")
        if not token or token in seen:
            tokens[number] = token = f"[{'DUPLICATE' if token else 'EMPTY'}_{number}]"
        seen.add(token)
    try:
        "".join(tokens).encode("utf-8")
    except UnicodeEncodeError as error:
        raise FileFormatError(f"GGUF: a token is not valid Unicode ({error})") from None
    return tokens


def _types(metadata: Metadata, size: int) -> list[int]:
    if PREFIX + "token_type" not in metadata:
        return [int(PieceType.NORMAL)] * size
    return [int(kind) for kind in _numbers(metadata, "token_type", size)]


def _numbers(metadata: Metadata, key: str, size: int) -> list[float]:
    numbers = _array(metadata, key, size)
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        raise FileFormatError(f"GGUF: expected {PREFIX + key} to be numbers, got {numbers!r:.60}")
    return numbers


def _id(metadata: Metadata, key: str, size: int) -> int | None:
    """A special token's id; None if it is outside the vocabulary."""
    number = metadata.get(PREFIX + key)
    if isinstance(number, Integral) and 0 <= int(number) < size:
        return int(number)
    return None


def _flag(metadata: Metadata, key: str, default: bool) -> bool:
    return bool(metadata.get(PREFIX + key, default))


def _unknown(metadata: Metadata, types: list[int]) -> int | None:
    number = _id(metadata, "unknown_token_id", len(types))
    if number is None and PieceType.UNKNOWN in types:
        return types.index(PieceType.UNKNOWN)
    return number


def _bytes(values: Any) -> bytes:
    try:
        return (
            bytes(values)
            if isinstance(values, bytes)
            else np.asarray(values).astype(np.uint8).tobytes()
        )
    except (TypeError, ValueError):
        raise FileFormatError(f"GGUF: expected an array of bytes, got {values!r:.60}") from None
