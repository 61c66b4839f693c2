"""Conversations as the text a chat model was trained on, by the template that comes with it.

A template is a program in a model file, written by anyone. It runs in Jinja's immutable sandbox: it
sees the values given to it, may change none of them, and reaches neither Python's internals nor
files. What it may take is bounded less: `range`, `*` and `**` are, so that a mistake does not cost
the machine's memory, but a template that means to waste time or memory can. The environment
(options, filters, functions) is the one that Hugging Face's templates are written for.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gradient.errors import ArgumentError, MissingDependency

#: Longest string or list that a template may make by repetition ("a" * 10 ** 9).
MAX_REPEATED = 10_000_000


class ChatTemplateError(ArgumentError):
    """A template that does not compile, or that refuses the conversation (in its own words)."""


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Any] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = False,
    **variables: Any,
) -> str:
    """The text of a conversation.

        render_chat(template, [{"role": "user", "content": "Hi"}], add_generation_prompt=True)

    Args:
        template: Jinja source.
        messages: dicts with "role" ("system", "user", "assistant", "tool") and "content".
        tools: JSON schemas of functions that the model may call.
        documents: texts to answer from, for models that take them.
        add_generation_prompt: end with the beginning of an answer.
        variables: anything else that the template reads (`bos_token`, `enable_thinking`, ...).

    Raises:
        ChatTemplateError: the template does not compile, fails, or refuses the messages by
            `raise_exception`, whose text is then in the message.
        MissingDependency: jinja2 is not installed.
    """
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ArgumentError(
                f"messages[{number}]: expected a dict with 'role' and 'content', got "
                f"{message!r:.80}"
            )
    jinja2 = _jinja2()
    try:
        return _compiled(template).render(
            messages=messages,
            tools=list(tools) if tools else None,
            documents=list(documents) if documents else None,
            add_generation_prompt=add_generation_prompt,
            **variables,
        )
    except jinja2.TemplateSyntaxError as error:
        raise ChatTemplateError(
            f"the chat template does not compile: line {error.lineno}: {error.message}"
        ) from None
    except jinja2.exceptions.SecurityError as error:
        raise ChatTemplateError(f"the chat template was stopped by the sandbox: {error}") from None
    except jinja2.TemplateError as error:
        raise ChatTemplateError(f"the chat template refuses this conversation: {error}") from None
    except SyntaxError as error:  # Python's: what Jinja made of it is no program
        raise ChatTemplateError(f"the chat template does not compile: {error.msg}") from None
    except Exception as error:  # whatever a program by anyone can raise
        raise ChatTemplateError(
            f"the chat template failed: {type(error).__name__}: {error}"
        ) from error


def _jinja2() -> Any:
    try:
        import jinja2
        import jinja2.exceptions
    except ImportError:
        raise MissingDependency('chat templates need jinja2: pip install "jinja2>=3.1"') from None
    return jinja2


@functools.lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    return _environment().from_string(template)


@functools.cache
def _environment() -> Any:
    _jinja2()
    import jinja2.exceptions
    import jinja2.ext
    import jinja2.nodes
    import jinja2.sandbox
    import jinja2.utils

    class Generation(jinja2.ext.Extension):
        """{% generation %} ... {% endgeneration %} marks the assistant's words; text as it is."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
        """Jinja's sandbox bounds `range`; this bounds what `*` and `**` can make as well."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" and isinstance(left, int) and isinstance(right, int):
                size = left.bit_length() * max(right, 0) // 8
            else:
                size = _repeated(left, right) if operator == "*" else 0
            if size > MAX_REPEATED:
                raise jinja2.exceptions.SecurityError(f"'{operator}' would make {size:,} items")
            return super().call_binop(context, operator, left, right)

    class Namespace(jinja2.utils.Namespace):
        """As Jinja's, but without names that begin with an underscore: those are Python's doors."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            # No named parameters, so that a template may use any name: namespace(self=1).
            for name in dict(*args[1:], **kwargs):
                _refuse_underscore(name)
            jinja2.utils.Namespace.__init__(*args, **kwargs)

        def __setitem__(self, name: str, value: Any) -> None:
            _refuse_underscore(name)
            super().__setitem__(name, value)

    def _refuse_underscore(name: Any) -> None:
        if str(name).startswith("_"):
            raise jinja2.exceptions.SecurityError(f"namespace attribute {name!r} begins with '_'")

    environment = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["namespace"] = Namespace
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _repeated(left: Any, right: Any) -> int:
    for items, times in ((left, right), (right, left)):
        if isinstance(items, str | list | tuple) and isinstance(times, int):
            return len(items) * max(times, 0)
    if isinstance(left, int) and isinstance(right, int):
        return (left.bit_length() + right.bit_length()) // 8
    return 0


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes < > & ' for HTML, which no model has seen.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise _jinja2().exceptions.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
