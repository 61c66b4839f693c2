"""Ctrl-C while kernels are compiled: a few runs of `python tests/support/interrupt_runs.py`."""

from __future__ import annotations

import sys

import pytest

from support import interrupt_runs

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process"),
]


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.parametrize("program", interrupt_runs.PROGRAMS)
def test_ctrl_c_ends_a_program_that_compiles(program: str, signals: int) -> None:
    """Whenever it comes; how long the end takes is for the program, on a machine without load."""
    run = interrupt_runs.one(program, signals, first=3.0, pause=0.5, seed=0)
    assert run.problem(within=interrupt_runs.HUNG) == "", run.output
