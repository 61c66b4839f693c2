"""The messages of a conversation, as in Hugging Face's chat templates and OpenAI's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.errors import ArgumentError

Message = dict[str, Any]
"""A message: {"role": "user", "content": "..."}, and perhaps further keys."""


def check_messages(messages: object, name: str = "messages") -> None:
    """Raise unless `messages` is a list of dicts with a role and a content.

    Args:
        name: what the error calls the list.

    Raises:
        ArgumentError: it is none; the message says which entry is wrong.
    """
    if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
        raise ArgumentError(
            f'{name}: expected a list such as [{{"role": "user", "content": "hi"}}], got '
            f"{messages!r:.80}"
        )
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ArgumentError(
                f'{name}[{number}]: expected a dict with "role" and "content", got {message!r:.80}'
            )
        # An assistant message that only calls tools has no content; a user message must have some.
        content = message.get("content")
        optional = message["role"] not in ("user", "system")
        if not isinstance(content, str | list) and not (optional and content is None):
            raise ArgumentError(
                f"{name}[{number}]: expected a text, or a list of parts, as the content of role "
                f"{message['role']}, got {content!r:.80}"
            )
