"""What the assistant says in a conversation, by a template that does not mark it.

Few chat templates have `{% generation %}` blocks. With the others, an assistant's turn begins where
a prompt for it would end, and ends where the conversation up to it would. Templates that show an
earlier turn otherwise than the last one (Qwen3 leaves out its thoughts) are rendered with a mark at
the end of what is said.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gradient.text.chat_template import ChatTemplateError, RenderedChat

_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")

Message = Mapping[str, Any]
#: The text of messages; with True, and of the beginning of an answer.
Render = Callable[[Sequence[Message], bool], str]


def marks_assistant(template: str) -> bool:
    """Whether a template says by `{% generation %}` blocks what the assistant's words are."""
    return _GENERATION.search(template) is not None


def find_assistant_spans(
    messages: Sequence[Message], render: Render, special_tokens: Iterable[str]
) -> RenderedChat:
    """The text of a conversation, and (begin, end) of each of the assistant's turns in it.

    A turn includes the special token that ends it, and no white space behind that.

    Args:
        render: applies the template.
        special_tokens: of the tokenizer, by their text.

    Raises:
        ChatTemplateError: the template shows a turn in a way that does not let it be found.
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
