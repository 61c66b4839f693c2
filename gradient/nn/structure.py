"""Detects changes of a module: its submodules, their attributes and their hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradient.nn.module import Module


class Changes:
    """Counts how often an attribute of any module was set, or a hook registered."""

    count = 0


changes = Changes()

IGNORED = ("training",)
"""Attributes whose changes do not matter: recorded steps always run in evaluation mode."""


class Structure:
    """The attributes of a module and its submodules, with a quick check that none has changed.

    Attributes:
        not_recordable: why calls of the module cannot be recorded and replayed (it has hooks, which
            a replay would not call), or None.
    """

    def __init__(self, module: Module) -> None:
        self.changes = changes.count
        # The modules' dicts, not the modules: this is kept in a dict with the module as a weak key,
        # which it must not keep alive.
        self.parts = [(vars(part), type(part), _attributes(part)) for part in module.modules()]
        self.forwards = [kind.forward for _, kind, _ in self.parts]
        self.not_recordable = next(
            (
                f"{kind.__name__} has hooks"
                for part, kind, _ in self.parts
                if _has_hooks(part, kind)
            ),
            None,
        )

    def unchanged(self) -> bool:
        """Whether no attribute was set to another value, and no hook registered or removed."""
        if self.changes == changes.count and self.not_recordable is None:
            return True
        if any(
            kind.forward is not forward or not _same(part, before)
            for (part, kind, before), forward in zip(self.parts, self.forwards, strict=True)
        ):
            return False
        hooked = any(_has_hooks(part, kind) for part, kind, _ in self.parts)
        if hooked is not (self.not_recordable is not None):
            return False
        self.changes = changes.count
        return True

    def contents(self) -> list[Any]:
        """Return the attributes and the content of the dicts, lists, tuples and sets among them
        (whose changes are not counted): plain values, and the ids of other objects."""
        return [_content(_attributes_of(part)) for part, _, _ in self.parts]


def _content(value: Any, depth: int = 4) -> Any:
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        return repr(value)  # NaN is equal to itself in this form
    if depth and isinstance(value, dict):
        return [(_content(key, 0), _content(each, depth - 1)) for key, each in value.items()]
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_content(each, depth - 1) for each in value]
    return id(value)


def _attributes(part: Module) -> dict[str, Any]:
    return _attributes_of(vars(part))


def _attributes_of(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in IGNORED}


def _same(part: dict[str, Any], before: dict[str, Any]) -> bool:
    now = _attributes_of(part)
    return now.keys() == before.keys() and all(
        value is before[name] or _equal(value, before[name]) for name, value in now.items()
    )


def _equal(a: Any, b: Any) -> bool:
    scalars = (bool, int, float, str, type(None))
    return isinstance(a, scalars) and type(a) is type(b) and a == b


def _has_hooks(part: dict[str, Any], kind: type[Module]) -> bool:
    """Whether the module has hooks, or every module has."""
    found = (part.get("_hooks"), kind._hooks)
    return any(hooks is not None and any(vars(hooks).values()) for hooks in found)
