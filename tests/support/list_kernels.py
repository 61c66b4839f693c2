"""List the kernels that a command compiles as `expected_kernels` has them, by their time.

python tests/support/list_kernels.py generate "Once upon a time"
"""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
import textwrap
import time
from typing import Any

from numba import types

from gradient.backends.numpy.kernels import compilation

LEFT_OUT = ("entry_points.", "fused_")
"""Kernels of generated source, and those that pack arguments: each takes some 0.1 s."""


def line_of(function: Any, kinds: tuple[Any, ...]) -> str:
    """A kernel and the types of its arguments."""
    family = function.__module__.removeprefix(f"{compilation.__package__}.")
    return f"{family}.{function.__name__}: {', '.join(map(_text_of, kinds))}"


def _text_of(kind: Any) -> str:
    if isinstance(kind, types.Array):
        axes = [":"] * kind.ndim
        if kind.layout == "C":
            axes[-1] = "::1"
        return f"{_text_of(kind.dtype)}[{','.join(axes)}]"
    return "boolean" if kind is types.boolean else str(kind)


def watch() -> dict[str, float]:
    """Each kernel that this process needs from now on, and the seconds until it was compiled, or 0
    if it was in the cache."""
    needed: dict[str, float] = {}
    begun: dict[str, float] = {}
    cache_class: Any = compilation._KernelCache
    load, save = cache_class.load_overload, cache_class.save_overload

    def load_and_note(cache: Any, kinds: tuple[Any, ...], context: Any) -> Any:
        line = line_of(cache._py_func, kinds)
        if not line.startswith(LEFT_OUT):
            needed[line], begun[line] = 0.0, time.monotonic()
        return load(cache, kinds, context)

    def save_and_note(cache: Any, kinds: tuple[Any, ...], data: Any) -> None:
        line = line_of(cache._py_func, kinds)
        if line in needed:
            needed[line] = time.monotonic() - begun[line]
        save(cache, kinds, data)

    cache_class.load_overload, cache_class.save_overload = load_and_note, save_and_note
    return needed


def show(needed: dict[str, float]) -> None:
    for line in sorted(needed, key=lambda line: -needed[line]):
        print(textwrap.fill(line, 98, subsequent_indent="    "), file=sys.stderr)


if __name__ == "__main__":
    from gradient.cli import main

    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder
        atexit.register(show, watch())
        main()
