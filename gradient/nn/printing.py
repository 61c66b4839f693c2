"""The `repr` of modules."""

from __future__ import annotations

from collections.abc import Sequence


def format_module(name: str, extra: str, children: list[str]) -> str:
    """Return `Name(extra)` on one line, or, with children, one line for each child."""
    lines = extra.splitlines()
    if not children and len(lines) <= 1:
        return f"{name}({extra})"
    return f"{name}(\n  " + "\n  ".join(lines + children) + "\n)"


def indent(text: str) -> str:
    """All lines but the first moved right by two spaces."""
    return text.replace("\n", "\n  ")


def shown(module: object, names: Sequence[str]) -> list[str]:
    """Return `name=value` for each name, for "=name" the value alone, and bias=True or False."""
    values = {name: getattr(module, name.strip("=")) for name in names}
    if "bias" in values:
        values["bias"] = values["bias"] is not None
    return [f"{name}={value!r}" if name[0] != "=" else f"{value}" for name, value in values.items()]


def changed(module: object, **defaults: object) -> list[str]:
    """Return `name=value` for each option that differs from its default."""
    values = {name: getattr(module, name) for name in defaults}
    return [f"{name}={value}" for name, value in values.items() if value != defaults[name]]
