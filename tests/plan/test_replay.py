"""Replayed plans are equal to eager execution in every bit: ops and functions, values and
gradients, on other values than were recorded, with an arena that is poisoned before each run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import autograd
from gradient.plan import PlanError, record
from gradient.plan.executors import CpuExecutor
from gradient.plan.passes import simplified
from gradient.testing import TABLE, Row
from support.functional_cases import CASES, Case

pytestmark = pytest.mark.cpu_only

Arrays = Sequence[np.ndarray]


def by_name(row: Row) -> str:
    return row.name


def outputs_of(result: Any) -> list[gradient.Tensor]:
    results = result if isinstance(result, (tuple, list)) else [result]
    return [r for r in results if isinstance(r, gradient.Tensor)]


def with_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    """The results of `function` and its gradients for all inputs of floats."""

    def run(*inputs: gradient.Tensor) -> list[gradient.Tensor | None]:
        leaves = [
            t.detach().requires_grad_() if t.dtype.is_floating_point else t.detach() for t in inputs
        ]
        outs = outputs_of(function(*leaves))
        wanted = [t for t in leaves if t.requires_grad]
        roots = [out for out in outs if out.requires_grad]
        grads: Any = ()
        if roots and wanted:
            weights = [(out.detach() * 0.5 + 1).to(out.dtype) for out in roots]
            grads = autograd.grad(roots, wanted, weights, allow_unused=True)
        return [*(out.detach() for out in outs), *grads]

    return run


def check_replay(function: Callable[..., Any], recorded: Arrays, replayed: Arrays) -> None:
    """Record on one set of inputs, replay on another (and the first), compare with eager."""
    tensors = [gradient.tensor(a) for a in recorded]
    gradient.manual_seed(0)
    recording = record(function, *tensors, inputs=tensors)
    kept = [t for t in recording.result if t is not None]
    refs = {id(t): ref for t, ref in recording.survivors}
    plan = replace(recording.plan, outputs=tuple(refs[id(t)] for t in kept if id(t) in refs))
    executors = [CpuExecutor(each, poison=True) for each in (plan, simplified(plan.expanded()))]
    for arrays, executor in itertools.product((replayed, recorded), executors):
        gradient.manual_seed(0)
        eager = [t for t in function(*map(gradient.tensor, arrays)) if t is not None]
        gradient.manual_seed(0)
        found = executor.run(list(arrays), recording.readers.next_numbers())
        expected = [t for t, was in zip(eager, kept, strict=True) if id(was) in refs]
        for got, want in zip(found, expected, strict=True):
            array = np.asarray(want.array)
            assert got.dtype == array.dtype and got.shape == array.shape
            assert got.tobytes() == array.tobytes()


def as_dtype(arrays: Arrays, dtype: str) -> list[np.ndarray]:
    numpy_dtype = getattr(gradient, dtype).numpy
    return [a.astype(numpy_dtype) if a.dtype.kind == "f" else a for a in arrays]


def turned(arrays: Arrays) -> list[np.ndarray]:
    """The same values in other places."""
    return [np.ascontiguousarray(a[::-1]) if a.ndim else a for a in arrays]


REFUSED = {
    **dict.fromkeys(("grouped_linear",), "reads the value|packed"),
    **dict.fromkeys(("linear", "quantized_matmul", "quantized_matmul_grad"), "packed"),
    **dict.fromkeys(("compress", "getitem"), "mask"),
    "one_hot": "of the result of m",
    "multilabel_margin_loss": "of the result of any",
    "embedding_bag": "of the result of ne",  # how many are padding_idx
    "dropout": "made meanwhile",  # the table's key is no generator's
}  # fmt: skip
"""Ops and functions of which some cases look at values on the host, and how the refusal says so."""


def check(name: str, function: Callable[..., Any], arrays: Arrays) -> None:
    """`check_replay`, or a refusal where one is expected."""
    try:
        check_replay(function, arrays, turned(arrays))
    except PlanError as error:
        assert re.search(REFUSED.get(name, "(?!)"), str(error)), error


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("row", TABLE, ids=by_name)
def test_ops(row: Row, dtype: str) -> None:
    if row.kind == "double":  # no 16 bits
        dtype = "float32"
    check(row.op, with_gradients(row.run), as_dtype(row.samples(), dtype))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_functions(case: Case) -> None:
    def constant(array: np.ndarray) -> gradient.Tensor:
        return gradient.tensor(as_dtype([array], "float32")[0])

    def call(*inputs: gradient.Tensor) -> Any:
        return case.call(F, list(inputs), constant)

    check(case.name, with_gradients(call), as_dtype(case.arrays(), "float32"))
