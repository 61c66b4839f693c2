"""The Jinja environment of chat templates: Hugging Face's, in a sandbox that counts work.

Imported with the first template that is compiled, as it needs jinja2.
"""

from __future__ import annotations

import datetime
import functools
import json
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import jinja2.utils

from gradient.text.template_work import (
    Counter,
    counted,
    counting_filter,
    counting_test,
    of_call,
    of_operator,
    size,
    spend,
)

#: The variable with the marks for `{% generation %}`; a template cannot write this name.
MARKS = "generation marks"


class Generation(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %} surrounds the assistant's own words."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_marked", [jinja2.nodes.ContextReference()])
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _marked(self, context: Any, caller: Any) -> str:
        begin, end = context[MARKS]
        return f"{begin}{caller()}{end}"


class Counting(jinja2.ext.Extension, Counter):
    """Counts a template's work."""


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
        if not isinstance(argument, str | int):  # Jinja hashes it and converts it to text
            spend(size(argument))
        return super().getitem(obj, argument)


@jinja2.utils.pass_eval_context  # so that it is not applied to constants when compiling
def count_output(_: Any, value: Any) -> Any:
    spend(size(value))
    return value


class Namespace(jinja2.utils.Namespace):
    """Like Jinja's, but without leading underscores, which give access to Python's internals."""

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


@functools.cache
def environment() -> Sandbox:
    """The common environment of all templates: options, filters, functions."""
    made = Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, Counting, jinja2.ext.loopcontrols],
        optimized=False,  # nothing is computed when compiling
        finalize=count_output,
    )
    filters = made.filters | {"tojson": _tojson}
    made.filters = {name: counting_filter(name, f) for name, f in filters.items()}
    tests: dict[str, Any] = dict(made.tests)
    made.tests = {name: counting_test(name, test) for name, test in tests.items()}
    del made.globals["lipsum"]  # random text
    made.globals["namespace"] = Namespace
    made.globals["dict"] = MakeDict()
    made.globals["raise_exception"] = _raise_exception
    made.globals["strftime_now"] = _strftime_now
    return made


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes < > & ' for HTML, unlike the models' training data.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
