"""The JSON schema of a Python function, by which a chat template describes it to a model.

Types come from the annotations, descriptions from the docstring in Google's style ("Args:", with a
line for each argument). The schema is that of `transformers.utils.get_json_schema`, for
which the templates of models with tools are written.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from gradient.errors import ArgumentError

__all__ = ["get_json_schema"]

_JSON_NAMES: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    type(None): "null",
}
_CONTAINERS: dict[Any, str] = {list: "array", tuple: "array", dict: "object"}
_SECTION = re.compile(r"^(Args|Arguments|Returns|Raises):[ \t]*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^([ \t]*)(\w+):[ \t]*", re.MULTILINE)
_CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.IGNORECASE)


def get_json_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the schema of a function, for a chat template's `tools`.

        def weather(place: str, unit: Literal["C", "F"] = "C") -> float:
            '''The temperature at a place.

            Args:
                place: A town, such as "Zürich".
                unit: Celsius or Fahrenheit.
            '''

        get_json_schema(weather)["function"]["parameters"]["required"]      # ["place"]

    An argument's description may end in `(choices: ["a", "b"])`, which allows only these values.

    Raises:
        ArgumentError: there is no docstring, or an argument has no annotation or description, or
            has a type that JSON does not have.
    """
    name = getattr(function, "__name__", "operation")
    doc = inspect.getdoc(function)
    if not doc:
        raise ArgumentError(f"tool {name}: it has no docstring to describe it")
    sections = _sections(doc.strip())
    described = _arguments(sections.get("Args", sections.get("Arguments", "")))
    hints = typing.get_type_hints(function)
    properties, required = {}, []
    for number, parameter in enumerate(inspect.signature(function).parameters.values()):
        if number == 0 and parameter.name in ("self", "cls") and parameter.name not in hints:
            continue
        wrong = "annotation" if parameter.name not in hints else "description in its docstring"
        if parameter.name not in hints or parameter.name not in described:
            raise ArgumentError(f"tool {name}: the argument {parameter.name!r} has no {wrong}")
        schema = _schema_of(hints[parameter.name], f"tool {name}: {parameter.name}")
        text = described[parameter.name]
        choices = _CHOICES.search(text)
        if choices:
            schema["enum"] = _choices(choices.group(1), f"tool {name}: {parameter.name}")
            text = text[: choices.start()].strip()
        properties[parameter.name] = schema | {"description": text}
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    made = {"name": name, "description": sections[""].strip(), "parameters": parameters}
    returned = _returned(hints, sections)
    return {"type": "function", "function": made | ({"return": returned} if returned else {})}


def tool_schemas(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Return each tool as a schema: dicts unchanged, functions by `get_json_schema`.

    Raises:
        ArgumentError: a tool is neither.
    """
    schemas = []
    for number, tool in enumerate(tools):
        if isinstance(tool, dict):
            schemas.append(tool)
        elif inspect.isfunction(tool) or inspect.ismethod(tool):
            schemas.append(get_json_schema(tool))
        else:
            raise ArgumentError(
                f"tools[{number}]: expected a JSON schema (a dict) or a function with annotations "
                f"and a docstring, got {tool!r:.80}"
            )
    return schemas


def _returned(hints: dict[str, Any], sections: dict[str, str]) -> dict[str, Any] | None:
    if "return" not in hints:
        return None
    try:
        schema = _schema_of(hints["return"], "return")
    except ArgumentError:
        return None  # the model never writes it, so any type is allowed
    text = _joined(sections.get("Returns", ""))
    return schema | {"description": text} if text else schema


def _sections(doc: str) -> dict[str, str]:
    """The parts of a docstring by their headings; the text before the first has the key ""."""
    parts = _SECTION.split(doc)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def _arguments(section: str) -> dict[str, str]:
    """Descriptions by argument. Lines with more indentation belong to the argument before."""
    described: dict[str, str] = {}
    indent = None
    starts = []
    for found in _ARGUMENT.finditer(section):
        indent = len(found.group(1)) if indent is None else indent
        if len(found.group(1)) <= indent:
            starts.append(found)
    for found, following in zip(starts, [*starts[1:], None], strict=False):
        end = following.start() if following else len(section)
        described[found.group(2)] = _joined(section[found.end() : end])
    return described


def _joined(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip())


def _choices(text: str, where: str) -> list[Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise ArgumentError(f'{where}: expected (choices: ["a", "b"]), got {text!r}') from None
    return [choice.strip() if isinstance(choice, str) else choice for choice in found]


def _schema_of(hint: Any, where: str) -> dict[str, Any]:
    """The JSON schema of one annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if origin is None and hint in _JSON_NAMES | _CONTAINERS:
        return {"type": (_JSON_NAMES | _CONTAINERS)[hint]}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _one_of([member.value for member in hint], where)
    if origin is Literal:
        return _one_of(list(arguments), where)
    if origin in (Union, types.UnionType):
        return _union(arguments, where)
    if origin is list:
        return {"type": "array", "items": _schema_of(arguments[0], where)}
    if origin is tuple and len(arguments) > 1 and ... not in arguments:
        return {"type": "array", "prefixItems": [_schema_of(each, where) for each in arguments]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema_of(arguments[1], where)}
    raise ArgumentError(
        f"{where}: no JSON schema for the type {hint!r}; known are int, float, str, bool, None, "
        "Any, Enum, Literal, and list, tuple, dict and unions of these. Or give a schema by hand"
    )


def _one_of(values: list[Any], where: str) -> dict[str, Any]:
    if not values or any(type(value) not in _JSON_NAMES for value in values):
        raise ArgumentError(f"{where}: expected values that JSON has, got {values!r:.80}")
    kinds = list(dict.fromkeys(_JSON_NAMES[type(value)] for value in values))
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": values}


def _union(arguments: tuple[Any, ...], where: str) -> dict[str, Any]:
    """Plain types become a list of names, others "anyOf"; None becomes "nullable"."""
    schemas = [_schema_of(each, where) for each in arguments if each is not type(None)]
    if len(schemas) == 1:
        schema = schemas[0]
    elif all(set(each) == {"type"} and isinstance(each["type"], str) for each in schemas):
        names = sorted({each["type"] for each in schemas})
        schema = {"type": names[0] if len(names) == 1 else names}
    else:
        schema = {"anyOf": schemas}
    return schema | {"nullable": True} if type(None) in arguments else schema
