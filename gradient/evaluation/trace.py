"""The intermediate results of a forward pass: of every module, and of every op in it.

Modules and ops have no code for this and no cost without it: modules have hooks, and the few
wrapper functions of ops are watched like by a profiler.
"""

from __future__ import annotations

import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gradient
from gradient import nn
from gradient.autograd import calls
from gradient.dtypes import float64
from gradient.tensor import Tensor

_PACKAGE = Path(gradient.__file__).parent
#: Folders of an op's own code and the functions and methods around it, whose lines do not count.
_WITHIN = tuple(str(_PACKAGE / name) for name in ("autograd", "ops", "tensor", "functional"))


@dataclass(frozen=True)
class Event:
    """One result.

    Attributes:
        module: the module's path; for an op, of the innermost module that called it.
        op: the op's name; "" for a module's own result.
        number: how often that module had called that op before.
        where: the line that called the op, as "file:line".
        value: the result on the host, in float64 for a float64 result, else in float32.
    """

    module: str
    op: str
    number: int
    where: str
    value: np.ndarray

    @property
    def key(self) -> tuple[str, str, int]:
        """The key of the same result in another run."""
        return self.module, self.op, self.number

    def __str__(self) -> str:
        if not self.op:
            return self.module
        return f"{self.module}: {self.op} #{self.number + 1} at {self.where}"


def trace(module: nn.Module, run: Callable[[], Any], *, ops: bool = True) -> list[Event]:
    """Call `run`, which calls `module`; return results in the order of their completion.

    Args:
        ops: record every op's result, too.
    """
    events: list[Event] = []
    inside: list[str] = []  # paths of the modules that are running, the innermost last
    seen: Counter[tuple[str, str]] = Counter()

    def note(path: str, op: str, where: str, output: Any) -> None:
        value = first_tensor(output)
        if value is None or not value.dtype.is_floating_point or value.dtype.is_packed:
            return
        events.append(Event(path, op, seen[path, op], where, numbers(value)))
        seen[path, op] += 1

    def before(path: str) -> Callable[..., None]:
        return lambda *_: inside.append(path)

    def after(path: str) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            inside.pop()
            note(path, "", "", output)

        return hook

    handles = []
    for path, each in module.named_modules():
        handles.append(each.register_forward_pre_hook(before(path)))
        handles.append(each.register_forward_hook(after(path)))
    try:
        if not ops:
            run()
        else:
            with watched_ops(lambda op, at, out: note(inside[-1] if inside else "", op, at, out)):
                run()
    finally:
        for handle in handles:
            handle.remove()
    return events


@contextmanager
def watched_ops(callback: Callable[[str, str, Any], None]) -> Iterator[None]:
    """Call `callback(op's name, "file:line" of its caller, result)` after each op, in this thread.

    An active profiler does not see what happens within.
    """
    wrappers = _wrapper_codes()

    def profile(frame: types.FrameType, event: str, result: Any) -> None:
        if event != "return" or frame.f_code not in wrappers or result is None:
            return
        caller: types.FrameType | None = frame
        while caller is not None and caller.f_code.co_filename.startswith(_WITHIN):
            caller = caller.f_back
        where = ""
        if caller is not None:
            where = f"{Path(caller.f_code.co_filename).name}:{caller.f_lineno}"
        callback(frame.f_locals["made"].name, where, result)

    previous: Any = sys.getprofile()
    compiled = previous is not None and not callable(previous)  # cProfile's, before Python 3.12
    if compiled:
        previous.disable()
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None if compiled else previous)
        if compiled:
            previous.enable()


def _wrapper_codes() -> set[types.CodeType]:
    """The code objects of the functions that the op decorator returns, one for each arity."""
    return {
        constant
        for make in (calls.of_one, calls.of_two, calls.of_n)
        for constant in make.__code__.co_consts
        if isinstance(constant, types.CodeType) and constant.co_name.startswith("call")
    }


def first_tensor(output: Any) -> Tensor | None:
    """The tensor that a module returned, or the first of a tuple."""
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def numbers(value: Tensor) -> np.ndarray:
    """The values on the host; 16-bit floats as float32."""
    array = value.detach()
    wide = array if array.dtype is float64 else array.float()
    return np.array(wide.backend.to_numpy(wide.array))
