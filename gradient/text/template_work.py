"""A limit on the work of chat templates: long operations are counted before they run.

Anyone can write a template. Jinja's sandbox limits access, not time and memory:
`"x" | center(10 ** 9)`, a string doubled 60 times, or three nested loops are all
allowed. A time limit could not interrupt one long call of C code, and would give other results on a
busy machine. So work is counted, in characters, items and steps, and each render has an allowance
of it (`Work`). The work of these operations is computed from their operands:

    a loop's round, a macro's call      the nodes and the text in its body
    {{ x }}, x ~ y, x == y, x in y      the size of x and y, nested values as often as they occur
    x + y, x * y, x ** y, x[1:], x % y  the size of the result, before it is made
    filters, tests, methods             a rule for each; others the product of their arguments,
                                        where an integer counts as its value

`counted` adds these counts to the syntax trees of compiled templates; the environment handles
operators, calls and filters (`gradient.text.template_environment`).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import BuiltinMethodType
from typing import Any

#: The allowance of every render, in characters and steps: half a second of work.
ALLOWANCE = 2_000_000
#: The additional allowance for each character of the conversation.
PER_CHARACTER = 50
_COLLECTIONS: Any = (
    list,
    tuple,
    set,
    frozenset,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)
#: The work of a loop's round itself, in steps.
_ROUND = 5
#: A list of single characters or words takes this many times the memory of the text.
_LISTED = 8


class TooMuchWork(Exception):
    """A template has used up its allowance."""


class Work:
    """The rest of a render's allowance."""

    def __init__(self, given: Any) -> None:
        self.allowance = ALLOWANCE + PER_CHARACTER * _tree(given, math.inf)[0]
        self.left: float = self.allowance

    def spend(self, amount: float) -> None:
        self.left -= amount
        if self.left < 0:
            raise TooMuchWork(
                f"it takes more than {self.allowance:,} steps, and no conversation of this length "
                "needs as many"
            )


_work: ContextVar[Work | None] = ContextVar("work of the template that is rendered", default=None)


@contextmanager
def allowed(given: Any) -> Iterator[None]:
    """Limit the work within to an allowance, by the size of the conversation."""
    token = _work.set(Work(given))
    try:
        yield
    finally:
        _work.reset(token)


def spend(amount: float) -> None:
    """Count some work.

    Raises:
        TooMuchWork: the allowance is used up.
    """
    work = _work.get()
    if work is not None:
        work.spend(amount)


# How large values are -----------------------------------------------------------------------------


def size(value: Any) -> int:
    """The size of a value, in characters and items."""
    if type(value) is str:
        return 1 + len(value)
    work = _work.get()
    return _tree(value, math.inf if work is None else work.left)[0]


def _tree(value: Any, limit: float) -> tuple[int, int]:
    """The size of a value and the depth of its nesting; it need not be exact above `limit`."""
    total = depth = 0
    level = [value]
    while level:
        depth += 1
        below: list[Any] = []
        for item in level:
            total += 1
            if isinstance(item, str | bytes):
                total += len(item)
            elif isinstance(item, int):
                total += item.bit_length() // 8
            elif isinstance(item, dict):
                below.extend(item)
                below.extend(item.values())
            elif isinstance(item, _COLLECTIONS):
                below.extend(item)
            elif isinstance(item, range):
                total += len(item)
            else:  # a namespace: its values
                held = getattr(item, "_Namespace__attrs", None)
                if isinstance(held, dict):
                    total += _ROUND  # slow to inspect
                    below.extend(held.values())
            if total + len(below) > limit:
                return total + len(below), depth
        level = below
    return total, depth


def _length(value: Any) -> int:
    try:
        return len(value)
    except TypeError:
        return 1


def _weight(value: Any) -> int:
    """How much an argument can enlarge others: its size, or the integer that it is or spells."""
    if isinstance(value, bool) or value is None:
        return 1
    if isinstance(value, int):
        return 1 + abs(value)
    if isinstance(value, str):
        return 1 + len(value) + max((int(n[:18]) for n in re.findall(r"\d+", value)), default=0)
    if isinstance(value, list | tuple | dict):
        items = value.values() if isinstance(value, dict) else value
        return size(value) + max((_weight(n) for n in items if isinstance(n, int)), default=0)
    return size(value)


# Rules: (arguments) -> work -----------------------------------------------------------------------


def _each(*values: Any, **named: Any) -> int:
    return sum(map(size, values)) + sum(map(size, named.values()))


def _listed(value: Any, *rest: Any, **named: Any) -> int:
    return _LISTED * (1 + _length(value)) + _each(*rest, **named)


def _per_item(value: Any, *rest: Any, **named: Any) -> int:
    return (1 + _length(value)) * (1 + _each(*rest, **named))


def _sorted(value: Any, *rest: Any, **named: Any) -> int:
    return (size(value) + _each(*rest, **named)) * (4 + _length(value).bit_length())


def _product(*values: Any, **named: Any) -> int:
    return math.prod(_weight(value) for value in [*values, *named.values()])


def _square(*values: Any, **named: Any) -> int:
    return sum(_weight(value) for value in [*values, *named.values()]) ** 2


def _replaced(text: Any, old: Any = "", new: Any = "", *_: Any, **named: Any) -> int:
    old, new = str(named.get("old", old)), str(named.get("new", new))
    text = str(text)
    return 1 + len(text) + text.count(old) * len(new)


def _joined(parts: Any, between: Any = "", *rest: Any, **named: Any) -> int:
    between = named.get("d", between)
    return size(parts) + _length(parts) * size(between) + _each(*rest)


def _written(value: Any, *rest: Any, indent: Any = None, **named: Any) -> int:
    work = _work.get()
    total, depth = _tree(value, math.inf if work is None else work.left)
    return total * (1 + depth * (0 if indent is None else _weight(indent))) + _each(*rest, **named)


_CHEAP = ("first", "last", "length", "count", "default", "d", "items", "random")
_PER_ITEM = ("map", "select", "reject", "selectattr", "rejectattr")
_EACH = (
    "trim", "upper", "lower", "capitalize", "title", "string", "int", "float", "abs", "e", "escape",
    "forceescape", "urlencode", "wordcount", "filesizeformat", "safe", "attr",
)  # fmt: skip
_SORTED = ("sort", "unique", "dictsort", "groupby", "max", "min")
_PRODUCT = ("center", "indent", "batch", "slice", "format", "round")
#: Jinja's filters; others, which use regular expressions or split texts repeatedly, count as the
#: square of their arguments.
_FILTERS: dict[str, Callable[..., int]] = {
    **dict.fromkeys(_CHEAP, lambda *_, **__: 1),
    **dict.fromkeys(_PER_ITEM, _per_item),
    **dict.fromkeys(_EACH, _each),
    **dict.fromkeys(_SORTED, _sorted),
    **dict.fromkeys(_PRODUCT, _product),
    "list": _listed,
    "reverse": _listed,
    "join": _joined,
    "replace": _replaced,
    "tojson": _written,
}
#: Tests that compare, or search a text; all others test a value's type.
_COMPARING = {
    "eq", "==", "equalto", "ne", "!=", "lt", "<", "lessthan", "le", "<=", "gt", ">", "greaterthan",
    "ge", ">=", "in", "lower", "upper",
}  # fmt: skip
#: Methods whose work is reading the text and the arguments.
_READING = {
    "strip", "lstrip", "rstrip", "startswith", "endswith", "upper", "lower", "title", "capitalize",
    "find", "rfind", "index", "rindex", "count", "removeprefix", "removesuffix", "casefold",
    "isalnum", "isalpha", "isdigit", "isspace", "istitle", "isupper", "islower", "isnumeric",
    "swapcase", "encode", "isdecimal", "isidentifier", "isprintable", "isascii",
}  # fmt: skip
_SPLITTING = {"split", "rsplit", "splitlines", "partition", "rpartition"}
_OF_DICTS = {"get", "items", "keys", "values"}


def of_call(function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> int:
    """The work of calling a function, a macro or a method; a macro's body counts its own.

    `format` is wrapped by Jinja.
    """
    method = getattr(function, "__wrapped__", function)
    if not isinstance(method, BuiltinMethodType):
        return 1 + _each(*args)
    own, name = method.__self__, method.__name__
    if isinstance(own, str):
        if name in _READING:
            return len(own) + _each(*args)
        if name in _SPLITTING:
            return _LISTED * (1 + len(own)) + _each(*args)
        if name == "replace":
            return _replaced(own, *args)
        if name == "join" and len(args) == 1:
            return _joined(args[0], own)
    if isinstance(own, dict) and name in _OF_DICTS:
        return 1 + _each(*args)
    if isinstance(own, str | bytes | int | float | list | tuple | dict):
        return _product(own, *args, **named)
    return 1 + _each(*args)


def of_operator(operator: str, left: Any, right: Any) -> int:
    """The work of a binary operator, by the size of its result."""
    if operator == "+" and not isinstance(left, int):
        return 1 + (_length(left) + _length(right)) // _LISTED
    if isinstance(left, str | bytes) and operator == "%":
        return _product(left, right)
    if operator == "*":
        for items, times in ((left, right), (right, left)):
            if isinstance(items, str | bytes | list | tuple) and isinstance(times, int):
                return 1 + len(items) * max(times, 0)
    if isinstance(left, int) and isinstance(right, int):
        if operator == "**":
            return 1 + (left.bit_length() * max(right, 0) // 64) ** 2
        return (1 + left.bit_length() // 64) * (1 + right.bit_length() // 64)
    return 1


def counting_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A Jinja filter that first counts its work."""
    work = _FILTERS.get(name, _square)
    skipped = int(hasattr(function, "jinja_pass_arg"))  # the environment or the context

    @functools.wraps(function)
    def run(*args: Any, **named: Any) -> Any:
        if len(args) > skipped and isinstance(args[skipped], Iterator):  # from `map`
            whole = list(args[skipped])
            args = (*args[:skipped], whole, *args[skipped + 1 :])
        spend(work(*args[skipped:], **named))
        return function(*args, **named)

    return run


def counting_test(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A Jinja test (`x is eq(y)`) that first counts its work."""
    if name not in _COMPARING:
        return function
    skipped = int(hasattr(function, "jinja_pass_arg"))

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        spend(_each(*args[skipped:]))
        return function(*args)

    return run


# The syntax tree ----------------------------------------------------------------------------------


def counted(tree: Any, call: Callable[[str, list[Any]], Any]) -> Any:
    """Add counts to a template's syntax tree.

    Args:
        call: (method, arguments as nodes) -> the node that calls that method of `Counter`.
    """
    from jinja2 import nodes

    def measured(node: Any) -> Any:
        return node if _is_constant(node) else call("measured", [node])

    for loop in tree.find_all(nodes.For):
        if loop.test is not None:
            loop.iter = call("gone_through", [loop.iter, nodes.Const(_static(loop.test))])
    for compare in tree.find_all(nodes.Compare):
        _count_compare(compare, call, measured)
    for item in tree.find_all(nodes.Getitem):
        if isinstance(item.arg, nodes.Slice):
            item.node = call("gone_through", [item.node])
    for concat in tree.find_all(nodes.Concat):
        concat.nodes = [measured(node) for node in concat.nodes]
    for pair in tree.find_all(nodes.Pair):
        pair.key = measured(pair.key)
    bodies = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)
    for holder in list(tree.find_all(bodies)):
        amount = _ROUND + sum(map(_static, holder.body))
        step = nodes.ExprStmt(call("step", [nodes.Const(amount)])).set_lineno(holder.lineno)
        holder.body.insert(0, step)
    return tree


def _count_compare(compare: Any, call: Callable[..., Any], measured: Callable[..., Any]) -> None:
    operands = [compare.expr, *(each.expr for each in compare.ops)]
    if compare.ops[-1].op in ("in", "notin"):
        last = compare.ops[-1]
        if not _is_constant(last.expr):
            whole = _is_constant(compare.expr)
            last.expr = call("gone_through", [last.expr]) if whole else measured(last.expr)
            compare.expr = measured(compare.expr)
    elif not any(map(_is_constant, operands)):
        compare.expr = measured(compare.expr)
        for each in compare.ops:
            each.expr = measured(each.expr)


def _is_constant(node: Any) -> bool:
    from jinja2 import nodes

    if isinstance(node, nodes.List | nodes.Tuple):
        return all(map(_is_constant, node.items))
    return isinstance(node, nodes.Const)


def _static(node: Any) -> int:
    """The nodes of a tree, and the characters of its text."""
    from jinja2 import nodes

    own = len(node.data) if isinstance(node, nodes.TemplateData) else 1
    return own + sum(map(_static, node.iter_child_nodes()))


class Counter:
    """The methods that counted templates call."""

    def step(self, amount: int) -> None:
        """Count one round of a loop, or one call of a macro."""
        spend(amount)

    def measured(self, value: Any) -> Any:
        """Count the whole size of a value; return it."""
        spend(size(value))
        return value

    def gone_through(self, value: Any, times: int = 1) -> Any:
        """Count a value's items; return it."""
        spend(times * (1 + _length(value)))
        return value
