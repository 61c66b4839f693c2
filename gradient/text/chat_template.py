"""Conversations as the text that a chat model was trained on, by the template in its files.

A template is a program in a model file, written by anyone. It runs in Jinja's immutable sandbox: it
reads the values given to it, cannot change them, and cannot reach Python's internals or
files (`gradient.text.template_environment`). `gradient.text.template_work` limits its time and
memory.
"""

from __future__ import annotations

import dataclasses
import functools
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradient.errors import ArgumentError, MissingDependency
from gradient.text.template_work import TooMuchWork, allowed
from gradient.text.tool_schema import tool_schemas

__all__ = ["ChatTemplateError", "render_chat"]

#: The maximum length of a template in characters; compiling it takes 2 s and 200 MB at most. The
#: longest published ones have 50,000.
MAX_TEMPLATE = 200_000

#: Keys for a message's reasoning; templates read the first.
_REASONING = ("reasoning_content", "thinking", "reasoning")


class ChatTemplateError(ArgumentError):
    """A template that does not compile, or that refuses the conversation (with its own message)."""


class RenderedChat(NamedTuple):
    """A conversation as text, and the assistant's spans in it."""

    text: str
    #: (begin, end) in characters, of each `{% generation %}` block of the template.
    assistant_spans: list[tuple[int, int]]


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Any] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool | str = False,
    **variables: Any,
) -> str:
    """Return the text of a conversation.

        render_chat(template, [{"role": "user", "content": "Hi"}], add_generation_prompt=True)

    Args:
        template: Jinja source.
        messages: dicts with "role" ("system", "user", "assistant", "tool") and "content".
        tools: the tools of the model: functions (see `get_json_schema`) or JSON schemas.
        documents: dicts ("title", "text") for models that answer from documents.
        add_generation_prompt: end with the beginning of an answer.
        continue_final_message: end within the last message, so that the model continues it; a
            str: the field to continue, if not "content".
        variables: further variables of the template (`bos_token`, `enable_thinking`, ...).

    Raises:
        ArgumentError: a message, tool or document is of the wrong kind.
        ChatTemplateError: the template does not compile, fails, or refuses the messages by
            `raise_exception`, whose text is then in the message, with the template's line and
            its number.
        MissingDependency: jinja2 is not installed.
    """
    options: dict[str, Any] = {
        "tools": tools,
        "documents": documents,
        "add_generation_prompt": add_generation_prompt,
    }
    if not continue_final_message:
        return render_with_spans(template, messages, **options, **variables).text
    if add_generation_prompt:
        raise ArgumentError(
            "continue_final_message goes on with the last message, add_generation_prompt begins "
            "another: choose one"
        )
    field = continue_final_message if isinstance(continue_final_message, str) else "content"
    cut = secrets.token_hex(8)
    marked, last = _mark_end(messages, field, cut + " ")
    text = render_with_spans(template, marked, **options, **variables).text
    end = text.rfind(cut)
    if end < 0 or last.strip() not in text:
        raise ChatTemplateError(
            f"continue_final_message: the chat template does not show the last message's {field} "
            "as it is, so it cannot be continued"
        )
    # A template that trims messages removed the space after the mark. Then it would also have
    # removed those before it.
    return text[:end] if text[end + len(cut) :].startswith(" ") else text[:end].rstrip()


def render_with_spans(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Any] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = False,
    **variables: Any,
) -> RenderedChat:
    """As `render_chat`, and the spans that the template marks as the assistant's."""
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ArgumentError(
                f"messages[{number}]: expected a dict with 'role' and 'content', got "
                f"{message!r:.80}"
            )
    for number, document in enumerate(documents or ()):
        if not isinstance(document, Mapping):
            raise ArgumentError(f"documents[{number}]: expected a dict, got {document!r:.80}")
    mark = secrets.token_hex(8)
    begin, end = f"<{mark}>", f"</{mark}>"
    text = _render(
        template,
        {
            "messages": [_with_reasoning(_to_builtin(message)) for message in messages],
            "tools": _to_builtin(tool_schemas(tools)) if tools else None,
            "documents": _to_builtin(list(documents)) if documents else None,
            "add_generation_prompt": add_generation_prompt,
            **_to_builtin(variables),
        },
        (begin, end),
    )
    before, *rest = text.split(begin)
    parts, spans, at = [before], [], len(before)
    for part in rest:
        said, _, after = part.partition(end)
        spans.append((at, at + len(said)))
        parts += said, after
        at += len(said) + len(after)
    return RenderedChat("".join(parts), spans)


def _mark_end(
    messages: Sequence[Mapping[str, Any]], field: str, mark: str
) -> tuple[list[Mapping[str, Any]], str]:
    """The messages with `mark` at the end of the last one's text, and that text."""
    last = dict(messages[-1]) if messages and isinstance(messages[-1], Mapping) else {}
    value = last.get(field)
    if isinstance(value, str):
        text = value
        names = [name for name in _REASONING if last.get(name) == value and field in _REASONING]
        last |= {name: value + mark for name in [field, *names]}
        return [*messages[:-1], last], text
    if isinstance(value, list):  # of parts, as {"type": "text", "text": ...}
        for number in reversed(range(len(value))):
            if isinstance(value[number], Mapping) and isinstance(value[number].get("text"), str):
                text = value[number]["text"]
                parts = [*value]
                parts[number] = {**value[number], "text": text + mark}
                return [*messages[:-1], last | {field: parts}], text
    raise ArgumentError(f"continue_final_message: the last message has no {field} to go on with")


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Add a message's reasoning under all keys that templates use."""
    given = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    if given is None:
        return message
    return {"thinking": given, **message, "reasoning_content": given}


def _to_builtin(value: Any) -> Any:
    """Convert to JSON's types: a template gets no object with methods of its own."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    if isinstance(value, Mapping):
        return {_to_builtin(key): _to_builtin(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_builtin(item) for item in value]
    if isinstance(value, np.generic):
        return _to_builtin(value.item())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (each.name for each in dataclasses.fields(value))
        return {name: _to_builtin(getattr(value, name)) for name in names}
    return f"<{type(value).__name__}>"  # such as an image: templates only test whether there is one


def _render(template: str, context: dict[str, Any], marks: tuple[str, str]) -> str:
    """The template's text; `marks` are put around its `{% generation %}` blocks."""
    jinja2 = _jinja2()
    from gradient.text.template_environment import MARKS

    if len(template) > MAX_TEMPLATE:
        raise ChatTemplateError(
            f"the chat template has {len(template):,} characters; the limit is {MAX_TEMPLATE:,}"
        )
    context[MARKS] = marks
    try:
        with allowed(context):
            return _compiled(template).render(context)
    except jinja2.TemplateSyntaxError as error:
        where = _line(template, error.lineno)
        raise ChatTemplateError(
            f"the chat template does not compile: {where}: {error.message}"
        ) from None
    except (jinja2.exceptions.SecurityError, TooMuchWork) as error:
        what, reason = "was stopped by the sandbox", error
    except jinja2.TemplateError as error:
        what, reason = "refuses this conversation", error
    except SyntaxError as error:  # Python's: Jinja compiled it to an invalid program
        raise ChatTemplateError(f"the chat template does not compile: {error.msg}") from None
    except Exception as error:  # a template can raise anything
        what, reason = "failed", error
    words = str(reason) if what != "failed" else f"{type(reason).__name__}: {reason}"
    where = _where(template, reason)
    raise ChatTemplateError(f"the chat template {what}: {words}{where}") from reason


def _where(template: str, error: BaseException) -> str:
    """The innermost line of the template in the traceback, as Jinja records it."""
    number, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<template>":
            number = frame.tb_lineno
        frame = frame.tb_next
    return "" if number is None else f" (at {_line(template, number)})"


def _line(template: str, number: int) -> str:
    lines = template.splitlines()
    text = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    if len(text) > 120:
        text = text[:120] + " ..."
    return f"line {number} of the template, {text!r}" if text else f"line {number}"


def _jinja2() -> Any:
    try:
        import jinja2
        import jinja2.exceptions
    except ImportError:
        # Templates can escape the sandbox of older versions.
        raise MissingDependency('chat templates need jinja2: pip install "jinja2>=3.1.6"') from None
    return jinja2


@functools.lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    from gradient.text.template_environment import environment

    return environment().from_string(template)
