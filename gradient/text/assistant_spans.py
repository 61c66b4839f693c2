"""The assistant's part of a conversation, for templates that do not mark it.

Few chat templates have `{% generation %}` blocks. With the others, an assistant's turn begins where
a prompt for it would end, and ends where the conversation up to it would. Templates that render an
earlier turn differently from the last one (Qwen3 leaves out its thoughts) are rendered with a mark
at the end of the turn.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gradient.text.chat_template import ChatTemplateError, RenderedChat

_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")

Message = Mapping[str, Any]
#: Renders messages as text; with True, followed by the beginning of an answer.
Render = Callable[[Sequence[Message], bool], str]


def marks_assistant(template: str) -> bool:
    """Whether a template marks the assistant's words by `{% generation %}` blocks."""
    return _GENERATION.search(template) is not None


def find_assistant_spans(
    messages: Sequence[Message], render: Render, special_tokens: Iterable[str]
) -> RenderedChat:
    """Return the text of a conversation, and (begin, end) of each of the assistant's turns in it.

    A turn includes the special token that ends it, but no white space after that.

    Args:
        render: applies the template.
        special_tokens: the texts of the tokenizer's special tokens.

    Raises:
        ChatTemplateError: the template's text of a turn does not show where it is.
    """
    text = render(messages, False)
    spans: list[tuple[int, int]] = []
    for number, message in enumerate(messages):
        if message.get("role") != "assistant":
            continue
        prompt = render(messages[:number], True)
        end = _end(messages, number, text, render, special_tokens)
        begin = len(prompt)
        if end is None or end < begin or not text.startswith(prompt):
            raise ChatTemplateError(
                f"messages[{number}]: where the assistant speaks cannot be told from this chat "
                "template; mark it there by {% generation %} ... {% endgeneration %}"
            )
        spans.append((begin, end))
    return RenderedChat(text, spans)


def _end(
    messages: Sequence[Message],
    number: int,
    text: str,
    render: Render,
    special_tokens: Iterable[str],
) -> int | None:
    """Where a turn ends in the text of the whole conversation; None if that is not to be found."""
    until = render(messages[: number + 1], False).rstrip()
    if text.startswith(until):
        return len(until)
    content = messages[number].get("content")
    if not isinstance(content, str):
        return None
    mark = secrets.token_hex(8)
    marked = {**messages[number], "content": content.rstrip() + mark}
    end = render([*messages[:number], marked, *messages[number + 1 :]], False).find(mark)
    if end < 0:
        return None
    after = end + len(text[end:]) - len(text[end:].lstrip())
    return max(
        (after + len(each) for each in special_tokens if text.startswith(each, after)), default=end
    )
