"""Tokens that a model's folder adds to its vocabulary, and the special ones among its tokens.

They are in several files, by age: added_tokens.json and special_tokens_map.json,
tokenizer_config.json, and tokenizer.json. All are read. A token gets the id in the files, or
loading fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradient.errors import FileFormatError
from gradient.io.json_file import read_json
from gradient.text.build import import_tokenizers, special

if TYPE_CHECKING:
    import tokenizers

#: The special tokens that `Tokenizer` knows by name.
SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")
#: Those that are special as well, if a file names them.
_OTHER_SPECIALS = ("sep_token", "cls_token", "mask_token")
_SPECIAL_LISTS = ("additional_special_tokens", "extra_special_tokens")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
END_OF_TEXT = "<|endoftext|>"


def add_tokens(folder: Path, backend: tokenizers.Tokenizer, config: dict[str, Any]) -> None:
    """Add the tokens of tokenizer_config.json and added_tokens.json that the vocabulary lacks.

    Raises:
        FileFormatError: a token cannot get the id in its file.
    """
    wanted: dict[int, Any] = {}
    for token, number in read_optional(folder / "added_tokens.json").items():
        if type(number) is int:
            wanted[number] = {"content": token}
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        wanted |= {int(number): token for number, token in decoder.items() if number.isdecimal()}
    there = {token.content for token in backend.get_added_tokens_decoder().values()}
    tk = import_tokenizers()
    found, ids = [], {}
    for number in sorted(wanted):
        content = text_of(wanted[number])
        if content is None:
            raise FileFormatError(f"added token {number} has no content")
        ids[content] = number
        if content not in there:
            flags = wanted[number] if isinstance(wanted[number], dict) else {}
            chosen = {flag: bool(flags[flag]) for flag in _FLAGS if flag in flags}
            found.append(tk.AddedToken(content, **chosen))
    backend.add_tokens(found)
    for content, number in ids.items():
        if backend.token_to_id(content) != number:
            raise FileFormatError(
                f"added token {content!r} should have id {number} and gets "
                f"{backend.token_to_id(content)}: the vocabulary is not the one it was added to"
            )


def special_tokens(
    folder: Path,
    config: dict[str, Any],
    backend: tokenizers.Tokenizer,
    defaults: Mapping[str, object],
) -> dict[str, str | None]:
    """Special tokens by name: those in the tokenizer's files, else those in the model's config.

    `defaults` are those of the vocabulary's own file, which all other files override.

    All special tokens that files name are made special in `backend`: a text is searched for
    them first.
    """
    named = {**defaults, **read_optional(folder / "special_tokens_map.json"), **config}
    specials = {name: text_of(named.get(name)) for name in SPECIAL_NAMES}
    model = read_optional(folder / "config.json")
    for name in ("bos_token", "eos_token"):
        if specials[name] is None and name not in named:
            number = model.get(f"{name}_id")
            if type(number) is int and 0 <= number < backend.get_vocab_size():
                specials[name] = backend.id_to_token(number)
            elif backend.token_to_id(END_OF_TEXT) is not None and not model:
                specials[name] = END_OF_TEXT
    texts = [*specials.values(), *(text_of(named.get(name)) for name in _OTHER_SPECIALS)]
    for name in _SPECIAL_LISTS:
        listed = named.get(name)
        if isinstance(listed, dict):  # by a name of the model's own: {"image_token": "<image>"}
            listed = list(listed.values())
        texts += [text_of(token) for token in listed] if isinstance(listed, list) else []
    there = {token.content for token in backend.get_added_tokens_decoder().values()}
    missing = [text for text in dict.fromkeys(texts) if text and text not in there]
    backend.add_special_tokens([special(text) for text in missing])
    return specials


def text_of(token: Any) -> str | None:
    """A special token is written as a string, or as an object with its content."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) and content else None


def read_optional(path: Path) -> dict[str, Any]:
    """The object in a JSON file, or an empty one if there is no such file."""
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise FileFormatError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
