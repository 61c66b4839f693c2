"""The tokenizer of a run and its chat template: trained on the text, given, or the base model's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gradient.checkpoints import open_checkpoint
from gradient.checkpoints.generation_config import read_generation_config
from gradient.errors import ArgumentError, ModelNotFound
from gradient.io.regular_file import read_regular
from gradient.text import Tokenizer, byte_tokenizer, train_bpe
from gradient.text.added_tokens import END_OF_TEXT
from gradient.training.config import TrainConfig
from gradient.training.documents import Chat, Document, read_in_turn

#: ChatML (OpenAI 2023), as in Qwen and many other models, with marks for the assistant's words.
CHATML = """\
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}
            {{- message.content + '<|im_end|>' -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- message.content + '<|im_end|>' -}}
    {%- endif -%}
    {{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

#: The form of special tokens in templates.
_MARK = re.compile(r"<\|\w+\|>")


def existing_tokenizer(
    config: TrainConfig, *, with_chats: bool
) -> tuple[Tokenizer | None, dict[str, Any]]:
    """The tokenizer that need not be trained, if the config has one.

    Also the content of the generation_config.json beside the tokenizer or the base model. To
    learn chats, a tokenizer without a chat template gets one, and the special tokens that it uses.

    Raises:
        ArgumentError: the tokenizer has no end-of-text token.
    """
    origin = config.base_model if config.tokenizer == "bpe" else config.tokenizer
    if origin is None or origin == "bpe":
        return None, {}
    generation_config: dict[str, Any] = {}
    if origin == "bytes":
        tokenizer = byte_tokenizer()
    else:
        path = Path(origin)
        if path.suffix != ".gguf":  # complete in itself: files beside it belong to other models
            generation_config = read_generation_config(path if path.is_dir() else path.parent)
        tokenizer = _read(path)
    if tokenizer.eos_token is None:
        raise ArgumentError(
            f"tokenizer: the one in {origin!r} has no end-of-text token, which separates "
            "the documents; add an eos_token to its tokenizer_config.json"
        )
    if config.chat_template is not None or (with_chats and not tokenizer.chat_template):
        tokenizer.chat_template = source = template(config)
        tokenizer.add_special_tokens(_MARK.findall(source))
    return tokenizer, generation_config


def _read(path: Path) -> Tokenizer:
    """The tokenizer in a file, or beside a model."""
    if path.is_dir():
        return open_checkpoint(path).load_tokenizer()
    if path.is_file() and path.suffix in (".gguf", ".json", ".model"):
        return Tokenizer.from_file(path)
    return Tokenizer.from_folder(path.parent)


def changed_tokens(tokenizer: Tokenizer, base_model: str) -> tuple[int, int]:
    """Count a base model's tokens that have another id or none in a tokenizer, and all its tokens.

    Both are 0 if there is no tokenizer beside the model.
    """
    try:
        known = _read(Path(base_model)).backend.get_vocab()
    except ModelNotFound:
        return 0, 0
    ids = tokenizer.backend.get_vocab()
    return sum(ids.get(piece) != number for piece, number in known.items()), len(known)


def train_tokenizer(config: TrainConfig, documents: Sequence[Document]) -> Tokenizer:
    """Byte pairs learned from the documents; with a chat template if there are chats."""
    with_chats = config.chat_template is not None or any(each.is_chat for each in documents)
    source = template(config) if with_chats else ""
    marks = [mark for mark in dict.fromkeys(_MARK.findall(source)) if mark != END_OF_TEXT]
    tokenizer = train_bpe(
        _texts(documents), config.vocab_size, special_tokens=[END_OF_TEXT, *marks]
    )
    tokenizer.chat_template = source or None
    return tokenizer


def template(config: TrainConfig) -> str:
    """The chat template that the config asks for, ChatML if it asks for none.

    Raises:
        ArgumentError: the file cannot be read.
    """
    if config.chat_template is None:
        return CHATML
    try:
        return read_regular(config.chat_template).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(
            f"chat_template: {config.chat_template!r} cannot be read: {error}"
        ) from None


def _texts(documents: Sequence[Document]) -> Iterator[str]:
    for content in read_in_turn(documents):
        if isinstance(content, Chat):
            yield from content.contents
        else:
            yield content
