"""Conversations as the text a chat model was trained on, by the template that comes with it.

A template is a program in a model file, written by anyone. It runs in Jinja's immutable sandbox: it
sees the values given to it, may change none of them, and reaches neither Python's internals nor
files. What it may take of time and memory is bounded by `gradient.text.template_work`. The
environment (options, filters, functions) is the one that Hugging Face's templates are written for.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradient.errors import ArgumentError, MissingDependency
from gradient.text.template_work import (
    Counter,
    TooMuchWork,
    allowed,
    counted,
    counting_filter,
    counting_test,
    of_call,
    of_operator,
    size,
    spend,
)
from gradient.text.tool_schema import tool_schemas

#: Characters of the longest template that is compiled, which takes 2 s and 200 MB at the most; the
#: longest published ones have 50,000.
MAX_TEMPLATE = 200_000

#: Names under which a message's reasoning is given; templates read the first.
_REASONING = ("reasoning_content", "thinking", "reasoning")
#: The variable by which `{% generation %}` learns of its marks; no template can spell it.
_MARKS = "generation marks"


class ChatTemplateError(ArgumentError):
    """A template that does not compile, or that refuses the conversation (in its own words)."""


class RenderedChat(NamedTuple):
    """A conversation as text, and where in it the assistant speaks."""

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
    """The text of a conversation.

        render_chat(template, [{"role": "user", "content": "Hi"}], add_generation_prompt=True)

    Args:
        template: Jinja source.
        messages: dicts with "role" ("system", "user", "assistant", "tool") and "content".
        tools: what the model may call: functions (see `get_json_schema`) or JSON schemas.
        documents: dicts to answer from ("title", "text"), for models that take them.
        add_generation_prompt: end with the beginning of an answer.
        continue_final_message: end within the last message, so that the model goes on with it; a
            text names the field to go on with, if that is not "content".
        variables: anything else that the template reads (`bos_token`, `enable_thinking`, ...).

    Raises:
        ArgumentError: a message, tool or document is of the wrong kind.
        ChatTemplateError: the template does not compile, fails, or refuses the messages by
            `raise_exception`, whose text is then in the message; so are the template's line and
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
    # A template that trims messages has taken the space after the mark. Then it would have taken
    # those before it as well.
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
    """As `render_chat`, and where the template says that the assistant speaks."""
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
            _MARKS: (begin, end) if "generation" in template else None,
        },
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
    """Give a message's reasoning the names that templates know it by."""
    given = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    if given is None:
        return message
    return {"thinking": given, **message, "reasoning_content": given}


def _to_builtin(value: Any) -> Any:
    """The same in values that JSON has: a template gets no object with methods of its own."""
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
    return f"<{type(value).__name__}>"  # an image, say: templates ask only whether there is one


def _render(template: str, context: dict[str, Any]) -> str:
    jinja2 = _jinja2()
    if len(template) > MAX_TEMPLATE:
        raise ChatTemplateError(
            f"the chat template has {len(template):,} characters; the limit is {MAX_TEMPLATE:,}"
        )
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
    except SyntaxError as error:  # Python's: what Jinja made of it is no program
        raise ChatTemplateError(f"the chat template does not compile: {error.msg}") from None
    except Exception as error:  # whatever a program by anyone can raise
        what, reason = "failed", error
    words = str(reason) if what != "failed" else f"{type(reason).__name__}: {reason}"
    where = _where(template, reason)
    raise ChatTemplateError(f"the chat template {what}: {words}{where}") from reason


def _where(template: str, error: BaseException) -> str:
    """The innermost line of the template that an error passed through; Jinja keeps count."""
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
        # Older ones let a template out of the sandbox.
        raise MissingDependency('chat templates need jinja2: pip install "jinja2>=3.1.6"') from None
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
        """{% generation %} ... {% endgeneration %} surrounds the assistant's own words."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_marked", [jinja2.nodes.ContextReference()])
            return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _marked(self, context: Any, caller: Any) -> str:
            begin, end = context.get(_MARKS) or ("", "")
            return f"{begin}{caller()}{end}"

    class Counting(jinja2.ext.Extension, Counter):
        """Counts what the template does."""

    class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
        """Jinja's sandbox, which also counts the work of operators, slices and calls."""

        intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

        def _parse(self, *args: Any) -> Any:
            extension = self.extensions[Counting.identifier]
            return counted(super()._parse(*args), extension.call_method)

        def call(self, context: Any, function: Any, /, *args: Any, **named: Any) -> Any:
            owner = getattr(function, "__self__", None)
            if isinstance(owner, Counting):
                return function(*args)
            if not isinstance(owner, jinja2.ext.Extension):
                spend(of_call(function, args, named))
            return super().call(context, function, *args, **named)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            spend(of_operator(operator, left, right))
            return super().call_binop(context, operator, left, right)

        def getitem(self, obj: Any, argument: Any) -> Any:
            if not isinstance(argument, str | int):  # Jinja hashes it, and writes it as a text
                spend(size(argument))
            return super().getitem(obj, argument)

    @jinja2.utils.pass_eval_context  # so that it is not applied to constants when compiling
    def count_output(_: Any, value: Any) -> Any:
        spend(size(value))
        return value

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

    class MakeDict:
        """`dict(...)` without the class itself, whose attributes lead to Python's internals."""

        def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
            return dict(*args, **kwargs)

        def fromkeys(self, *args: Any) -> dict[Any, Any]:
            return dict.fromkeys(*args)

    def _refuse_underscore(name: Any) -> None:
        if str(name).startswith("_"):
            raise jinja2.exceptions.SecurityError(f"namespace attribute {name!r} begins with '_'")

    environment = Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, Counting, jinja2.ext.loopcontrols],
        optimized=False,  # nothing is computed when compiling
        finalize=count_output,
    )
    filters = environment.filters | {"tojson": _tojson}
    environment.filters = {name: counting_filter(name, f) for name, f in filters.items()}
    tests: dict[str, Any] = dict(environment.tests)
    environment.tests = {name: counting_test(name, test) for name, test in tests.items()}
    del environment.globals["lipsum"]  # random text
    environment.globals["namespace"] = Namespace
    environment.globals["dict"] = MakeDict()
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


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
