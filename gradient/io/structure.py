"""Nested Python values with tensors in them, as JSON and a flat dict of tensors; and back.

What JSON cannot express is an object with one key that begins with "$":

    {"$tensor": name}   the tensor stored under that name        {"$tuple": [...]}
    {"$array": name}    the same, to come back as a NumPy array   {"$bytes": base64}
    {"$float": "nan"}   a float that is not finite                {"$dtype": "bfloat16"}
    {"$meta": ["float32", [2, 3]]}   a tensor on the device meta, which has no numbers
    {"$dict": [[k, v], ...]}   a dict whose keys are not all plain strings, such as {0: ...}

Floats keep every bit (JSON text holds the shortest form that reads back the same), so a learning
rate or a counter resumes exactly. A tensor that occurs twice is stored once, and comes back as one
tensor. Nothing here can name a class or a function: reading runs no code.
"""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradient.dtypes import DType, dtype_of
from gradient.errors import FileFormatError, TypeMismatch
from gradient.io.arrays import to_numpy
from gradient.source_lines import warn_user
from gradient.tensor import Tensor
from gradient.tensor.creation import empty

#: Deeper nesting is a cycle, or an attack on the stack.
MAX_DEPTH = 100


class Encoder:
    """Converts values to JSON, and collects their tensors in `tensors` under unique names."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor | np.ndarray] = {}
        self._names: dict[int, str] = {}

    def encode(self, value: Any, path: str = "") -> Any:
        """Return the JSON form of `value`; its tensors are named after their place, `a.b.0`. For an
        object with a `state_dict`, such as a module, its `state_dict` is used, for a dataclass the
        dict of its fields, with a warning.

        Raises:
            TypeMismatch: something in it is neither tensor, array, dict, list, tuple, str, bytes,
                number, bool, None nor dtype, and has no state_dict; the message gives the place.
        """
        return self._encode(value, path, 0)

    def _encode(self, value: Any, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise TypeMismatch(f"cannot save {path[:60]}...: nested more than {MAX_DEPTH} deep")
        match value:
            case None | bool() | str():
                return value if type(value) is not np.str_ else str(value)
            case Tensor() if value.is_meta and not value.dtype.is_packed:
                return {"$meta": [value.dtype.name, list(value.shape)]}
            case Tensor():
                return {"$tensor": self._name(value, id(value.array), path)}
            case np.ndarray():
                return {"$array": self._name(value, id(value), path)}
            case np.generic():
                return self._encode(value.item(), path, depth + 1)
            case int():
                return int(value)
            case float():
                return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
            case bytes():
                return {"$bytes": base64.b64encode(value).decode("ascii")}
            case DType():
                return {"$dtype": value.name}
            case Mapping():
                return self._encode_mapping(value, path, depth)
            case list() | tuple():
                items = [
                    self._encode(item, f"{path}.{index}" if path else str(index), depth + 1)
                    for index, item in enumerate(value)
                ]
                return items if isinstance(value, list) else {"$tuple": items}
        state_dict = getattr(value, "state_dict", None)
        if callable(state_dict) and not isinstance(value, type):
            warn_user(
                f"save: {path or 'the value'} is a whole {type(value).__qualname__}; its "
                "state_dict is saved, since files contain no classes; to load it, create the "
                "object again and call its load_state_dict()"
            )
            return self._encode(dict(state_dict()), path, depth + 1)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            warn_user(
                f"save: {path or 'the value'} is a whole {type(value).__qualname__}; its fields "
                "are saved, as a dict, since files contain no classes"
            )
            fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
            return self._encode(fields, path, depth + 1)
        raise TypeMismatch(
            f"cannot save {path or 'the value'}: a {type(value).__module__}."
            f"{type(value).__qualname__}. Tensors, arrays, dicts, lists, tuples, strings, bytes, "
            "numbers, bools, None and dtypes can be saved; save an object's state_dict() instead"
        )

    def _encode_mapping(self, value: Mapping[Any, Any], path: str, depth: int) -> Any:
        def inner(key: Any) -> str:
            return f"{path}.{key}" if path else str(key)

        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {k: self._encode(v, inner(k), depth + 1) for k, v in value.items()}
        return {
            "$dict": [
                [self._encode(k, inner("key"), depth + 1), self._encode(v, inner(k), depth + 1)]
                for k, v in value.items()
            ]
        }

    def _name(self, value: Tensor | np.ndarray, identity: int, path: str) -> str:
        # NumPy has one True for all scalars, so only arrays can be identified by `id`.
        if identity in self._names and len(value.shape):
            return self._names[identity]
        base = path or "tensor"
        name, number = base, 2
        while name in self.tensors or name == "__metadata__":
            name, number = f"{base}#{number}", number + 1
        self._names[identity] = name
        self.tensors[name] = value  # kept alive, so that its id stays unique
        return name


def decode(value: Any, tensors: Mapping[str, Tensor], source: str) -> Any:
    """Return the value of a JSON form.

    Args:
        value: the JSON form.
        tensors: the tensors for `{"$tensor": name}`.
        source: the file, for error messages.

    Raises:
        FileFormatError: a form that `Encoder` never writes, or a missing tensor.
    """
    made: dict[str, Tensor] = {}  # so that a tensor named twice is one object

    def tensor(name: Any) -> Tensor:
        if name not in made:
            if name not in tensors:
                raise FileFormatError(f"{source}: the tensor {name!r} is missing")
            made[name] = tensors[name]
        return made[name]

    def decoded(value: Any) -> Any:
        if isinstance(value, list):
            return [decoded(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) != 1 or not (form := next(iter(value))).startswith("$"):
            return {key: decoded(item) for key, item in value.items()}
        content = value[form]
        match form:
            case "$tensor":
                return tensor(content)
            case "$array":
                return to_numpy(tensor(content))
            case "$meta":
                dtype, shape = content
                return empty(tuple(shape), dtype=dtype_of(dtype), device="meta")
            case "$tuple":
                return tuple(decoded(item) for item in content)
            case "$dict":
                return {decoded(key): decoded(item) for key, item in content}
            case "$float":
                return float(content)
            case "$bytes":
                return base64.b64decode(content, validate=True)
            case "$dtype":
                return dtype_of(content)
        raise FileFormatError(
            f"{source}: unknown form {form!r}; was it written by a newer gradient?"
        )

    try:
        return decoded(value)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{source}: malformed structure: {error}") from None
