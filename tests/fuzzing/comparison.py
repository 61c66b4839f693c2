"""Where two runs of a program differ.

Numbers agree if they are as near as rounding allows. How far rounding can carry a result is found
by running the program again under PyTorch with every number of many digits moved by a few units in
its last place (Vignes, "Discrete stochastic arithmetic", 2004): what moves much is ill-conditioned,
and may differ as much. Only programs whose numbers are not near at once are run again.

Where both refuse a statement, ours must be the built-in exception that PyTorch's is, unless the
statement has two mistakes: which of them is told first is promised by neither package. That there
are two is shown, not guessed (mistakes.py). Where one side accepts, nothing is excused here.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import gradient
from fuzzing import interpreter, mistakes
from fuzzing.interpreter import Raised, Run, Taken, World
from fuzzing.mistakes import builtin
from fuzzing.program import Dtype, Program, Statement, line

NEAR = {"float64": 1e-11, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
"""Relative differences that need no explanation."""

MIX = 0xBF58476D1CE4E5B9 - 2**64

BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}


GRADIENTS = ("gradient", "second")
"""Of these, whether they could be differentiated again is seen by doing so."""


@dataclass
class Difference:
    """One thing in which two runs differ."""

    kind: str
    """"accepted", "refused", "error", "type", "dtype", "shape", "requires_grad", "value", "final",
    "alias", "gradient", "second" ..."""
    index: int
    function: str
    theirs: Any
    ours: Any
    program: Program

    @functools.cached_property
    def text(self) -> str:
        """The program as it is printed."""
        return "".join(line(i, s) for i, s in enumerate(self.program))

    @property
    def signature(self) -> tuple[str, str]:
        return self.kind, self.function

    def __str__(self) -> str:
        where = f"v{self.index} ({self.function})" if self.index >= 0 else "the program"
        answers = f"    torch    {brief(self.theirs)}\n    gradient {brief(self.ours)}"
        return f"{self.kind} of {where}:\n{answers}"


def brief(value: Any) -> str:
    if isinstance(value, Taken):
        numbers = np.array2string(value.values, threshold=40, precision=12).replace("\n", "")
        grad = ", requires_grad" if value.requires_grad else ""
        return f"{value.dtype}{list(value.shape)}{grad} {numbers}"
    if isinstance(value, list):
        return "[" + ", ".join(map(brief, value)) + "]"
    return str(value)


def near(ours: Taken, theirs: Taken, fused: bool = False, smallest: float = 0.0) -> bool:
    """Whether all numbers agree but for the last digits; those of a fused function to within the
    last digits of its largest number, or of `smallest`."""
    a, b = ours.values, theirs.values
    if theirs.dtype not in NEAR:
        return np.array_equal(a, b)
    if a.tobytes() == b.tobytes():  # to the last digit: nothing to compute
        return True
    with np.errstate(all="ignore"):
        largest = np.abs(b[np.isfinite(b)]).max(initial=smallest) if fused else smallest
        limit = 1e-300 + 16 * largest * 2.0 ** -BITS[theirs.dtype]
        return bool(np.allclose(a, b, rtol=NEAR[theirs.dtype], atol=limit, equal_nan=True))


def near_or_unstable(ours: Taken, theirs: Taken, moved: list[Any]) -> bool:
    """Whether `ours` is as near to `theirs` as its moved versions are, times a few."""
    others = [m for m in moved if isinstance(m, Taken) and m.shape == theirs.shape]
    if len(others) < len(moved):
        return True  # rounding decides whether it can be computed at all
    with np.errstate(all="ignore"):
        b = theirs.values.astype(np.float64)
        spread = np.zeros(b.shape)
        for other in others:
            c = other.values.astype(np.float64)
            gap = np.where((c == b) | (np.isnan(c) & np.isnan(b)), 0.0, np.abs(c - b))
            spread = np.maximum(spread, np.where(np.isnan(gap), np.inf, gap))
        limit = NEAR.get(theirs.dtype, 0.0)
        allowed = np.where(np.isfinite(b), limit * np.abs(b) + 64 * spread, 0.0)
        a = ours.values.astype(np.float64)
        same = (
            (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= allowed) | np.isinf(spread)
        )
    return bool(same.all())


class Noise:
    """Moves numbers by a few units in the last place, equal ones alike, and short ones not."""

    def __init__(self, salt: int):
        self.salt = salt
        self.known: dict[int, int] = {}
        """The version of each memory that was moved: what is written is moved again."""

    def __call__(self, world: World, value: Any) -> None:
        for tensor in world.tensors(value):
            storage = tensor.untyped_storage().data_ptr()
            fresh = self.known.get(storage) != tensor._version
            self.known[storage] = tensor._version
            name = str(tensor.dtype).removeprefix("torch.")
            if not fresh or name not in BITS or not tensor.numel():
                continue
            with torch.no_grad():
                own = tensor.data
                for dim, step in enumerate(tensor.stride()):
                    if step == 0:  # expanded: each number once
                        own = own.narrow(dim, 0, 1)
                own.mul_(1 + self.relative(own, name).to(tensor.dtype))

    def relative(self, tensor: Any, name: str) -> Any:
        x = tensor.double()
        mantissa, _ = torch.frexp(x)
        # A number of few bits is meant: whole numbers and their sums, exp(0), the place of a kink.
        short = mantissa.mul(2.0 ** (BITS[name] // 2)).frac().eq(0)
        bits = mantissa.mul(2.0 ** BITS[name]).nan_to_num().long()
        mixed = (bits + self.salt) * MIX  # wraps; the next two steps of SplitMix64 (Steele 2014)
        mixed = (mixed ^ mixed.bitwise_right_shift(31)) * MIX
        draw = mixed.bitwise_right_shift(32) % 5 - 2
        return torch.where(short, 0.0, draw.double() * 2.0 ** (1 - BITS[name]))


def moved_runs(program: Program) -> list[Run]:
    return [interpreter.run(torch, program, Noise(salt)) for salt in range(1, 7)]


class Comparer:
    def __init__(self, program: Program):
        self.program = program
        self.theirs = interpreter.run(torch, program)
        self.ours = interpreter.run(gradient, program)
        self.found: list[Difference] = []
        self._moved: list[Run] | None = None
        self.excused = 0

    @property
    def moved(self) -> list[Run]:
        if self._moved is None:
            self._moved = moved_runs(self.program)
        return self._moved

    def report(self, kind: str, index: int, theirs: Any, ours: Any) -> None:
        function = self.program[index].function if index >= 0 else "program"
        self.found.append(Difference(kind, index, function, theirs, ours, self.program))

    def compare(self) -> list[Difference]:
        for i, (ours, theirs) in enumerate(
            zip(self.ours.results, self.theirs.results, strict=True)
        ):
            before = len(self.found)
            self.result(i, ours, theirs)
            if len(self.found) > before:
                return self.found  # what comes later follows from this
        for part, kind in (
            ("final", "final"),
            ("first", "gradient"),
            ("second", "second"),
            ("written", "alias"),
        ):
            ours, theirs = getattr(self.ours, part), getattr(self.theirs, part)
            self.whole(kind, part, ours, theirs)
            if self.found:
                return self.found
        return self.found

    def result(self, i: int, ours: Any, theirs: Any) -> None:
        if isinstance(theirs, Raised) or isinstance(ours, Raised):
            self.errors(i, ours, theirs)
            return
        random = self.program[i].random
        self.value("value", i, ours, theirs, lambda run: run.results[i], random)

    def fused(self, kind: str, i: int) -> bool:
        """Whether a function that computes several steps at once gave the numbers."""
        statements = self.program if kind in GRADIENTS or i < 0 else self.program[: i + 1]
        return any(s.function.startswith("nn.") for s in statements)

    def errors(self, i: int, ours: Any, theirs: Any) -> None:
        if not isinstance(ours, Raised):
            self.report("accepted", i, theirs, ours)
        elif not isinstance(theirs, Raised):
            self.report("refused", i, theirs, ours)
        elif not isinstance(ours.error, builtin(theirs.error)):
            if mistakes.two(self.program, i):
                self.excused += 1
            else:
                self.report("error", i, theirs, ours)

    def value(
        self, kind: str, i: int, ours: Any, theirs: Any, pick: Any, random: bool = False
    ) -> None:
        if isinstance(theirs, Taken) and isinstance(ours, Taken):
            if ours.dtype != theirs.dtype:
                self.report("dtype", i, theirs, ours)
            elif ours.shape != theirs.shape:
                moved = [] if random else [_pick(pick, run) for run in self.moved]
                if any(isinstance(m, Taken) and m.shape != theirs.shape for m in moved):
                    self.excused += 1  # rounding decides how many of its numbers are equal
                else:
                    self.report("shape", i, theirs, ours)
            elif kind not in GRADIENTS and ours.requires_grad != theirs.requires_grad:
                self.report("requires_grad", i, theirs, ours)
            elif kind not in GRADIENTS and ours.is_leaf != theirs.is_leaf:
                self.report("is_leaf", i, theirs, ours)
            elif not random and not near(
                ours, theirs, self.fused(kind, i), float(kind in GRADIENTS)
            ):
                moved = [_pick(pick, run) for run in self.moved]
                if near_or_unstable(ours, theirs, moved):
                    self.excused += 1
                else:
                    self.report(kind, i, theirs, ours)
        elif isinstance(theirs, list) and isinstance(ours, list):
            if len(theirs) != len(ours):
                self.report("length", i, theirs, ours)
                return
            for n, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                self.value(kind, i, a, b, lambda run, n=n: pick(run)[n], random)
        elif isinstance(theirs, float) and isinstance(ours, float):
            if not random and not np.isclose(ours, theirs, rtol=1e-6, equal_nan=True):
                moved = [_number(_pick(pick, run)) for run in self.moved]
                if near_or_unstable(_number(ours), _number(theirs), moved):
                    self.excused += 1
                else:
                    self.report(kind, i, theirs, ours)
        elif type(theirs) is not type(ours) or theirs != ours:
            if kind == "second" and all(v is None or _zero(v) for v in (ours, theirs)):
                return  # a derivative of zero may be left out
            if (theirs is None or ours is None) and kind in GRADIENTS:
                self.report(f"{kind} None", i, theirs, ours)
            elif not random:
                self.report("type" if type(theirs) is not type(ours) else kind, i, theirs, ours)

    def whole(self, kind: str, part: str, ours: Any, theirs: Any) -> None:
        """What is asked of the program at its end."""
        if isinstance(theirs, Raised) or isinstance(ours, Raised):
            if not isinstance(ours, Raised):
                self.report(f"{kind} accepted", -1, theirs, ours)
            elif not isinstance(theirs, Raised):
                self.report(f"{kind} refused", -1, theirs, ours)
            elif not isinstance(ours.error, builtin(theirs.error)):
                self.report(f"{kind} error", -1, theirs, ours)
            return
        if kind == "second":
            # Whether a first derivative that is constant has a graph is left to the package.
            ours, theirs = _as_list(ours, theirs), _as_list(theirs, ours)
        if not isinstance(theirs, list) or not isinstance(ours, list):
            if theirs != ours:
                self.report(f"{kind} graph", -1, theirs, ours)
            return
        if len(theirs) != len(ours):
            self.report(f"{kind} length", -1, theirs, ours)
            return
        for n, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            statement = n if part in ("final", "written") else -1
            random = part in ("final", "written") and self.program[n].random
            self.value(kind, statement, a, b, lambda run, n=n: getattr(run, part)[n], random)


def _number(value: Any) -> Any:
    """A Python number (of `item`, `tolist`) as what it was taken of."""
    if not isinstance(value, float):
        return value
    return Taken("float32", (), False, np.asarray(value))


def _zero(value: Any) -> bool:
    return isinstance(value, Taken) and not value.values.any()


def _as_list(value: Any, other: Any) -> Any:
    return [None] * len(other) if value == "constant" and isinstance(other, list) else value


def _pick(pick: Any, run: Run) -> Any:
    try:
        return pick(run)
    except (TypeError, IndexError):
        return None


def differences(program: Program) -> list[Difference]:
    return Comparer(program).compare()


__all__ = ["Difference", "Dtype", "Statement", "differences", "line", "zlib"]
