"""Random programs, compiled: values and gradients equal to eager's, bit for bit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.parity, pytest.mark.slow, pytest.mark.cpu_only]
pytest.importorskip("torch")  # the programs are drawn from its declarations

import gradient  # noqa: E402
from fuzzing import generator  # noqa: E402
from fuzzing.interpreter import World  # noqa: E402
from fuzzing.program import Program  # noqa: E402

PROGRAMS, PIECE = 500, 50
CALLS = 5


class Compilable:
    """A program as a function of its arrays: all that its statements give, and the gradients of
    the sum of it."""

    def __init__(self, program: Program):
        self.program = program
        world = World(gradient)
        self.given = [world.execute(s).detach() if s.function == "array" else None for s in program]

    def inputs(self) -> list[gradient.Tensor]:
        return [t.clone() for t in self.given if t is not None]

    def __call__(self, *inputs: gradient.Tensor) -> list[gradient.Tensor]:
        world = World(gradient)
        arrays = iter(inputs)
        leaves = []
        for statement in self.program:
            if statement.function == "array":
                value = next(arrays).clone()
                if statement.args[0].requires_grad:
                    leaves.append(value.requires_grad_())
            else:
                value = world.execute(statement)
            world.values.append(value)
        found = [t for value in world.values for t in world.tensors(value)]
        roots = [t for t in found if t.requires_grad and t.dtype.is_floating_point]
        grads: Any = ()
        if roots and leaves:
            weights = [t.detach() * 0.5 + 1 for t in roots]
            grads = gradient.autograd.grad(roots, leaves, weights, allow_unused=True)
        return [t.detach().clone() for t in (*found, *grads) if t is not None]


def taken(results: list[gradient.Tensor]) -> list[Any]:
    return [(t.dtype, t.shape, np.asarray(t.array).tobytes()) for t in results]


@pytest.mark.parametrize("start", range(0, PROGRAMS, PIECE))
def test_programs_compiled(start: int) -> None:
    ran = replayed = 0
    for seed in range(start, start + PIECE):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            program = generator.program(seed)
            if any("empty" in s.function for s in program):  # whatever lies in memory
                continue
            try:
                function = Compilable(program)
                gradient.manual_seed(0)
                expected = taken(function(*function.inputs()))
            except Exception:  # a program with a mistake, which other tests look at
                continue
            fast: Any = gradient.compile(function)
            for _ in range(CALLS):
                gradient.manual_seed(0)
                assert taken(fast(*function.inputs())) == expected, f"program {seed}"
        ran += 1
        replayed += any(s.replays for s in fast.signatures.values())
    assert ran > PIECE // 4 and replayed > ran // 2, (ran, replayed)
