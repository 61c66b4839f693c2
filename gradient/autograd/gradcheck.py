"""Check gradients against finite differences (see `gradient.autograd.finite_differences`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.engine import grad
from gradient.autograd.modes import enable_grad, no_grad
from gradient.autograd.variable import Variable
from gradient.errors import ArgumentError, FailedCheck, GradientError

if TYPE_CHECKING:
    from gradient.tensor import Tensor

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]

STEP = 1e-4
"""The step t of the finite differences, for inputs of magnitude about 1."""


class GradcheckError(GradientError, RuntimeError):
    """A gradient does not match the difference quotient; the message is the report."""


def gradcheck(
    func: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = STEP,
    atol: float = 1e-7,
    rtol: float = 1e-6,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
    check_non_contiguous: bool = True,
    directions: int = 2,
    seed: int = 0,
) -> bool:
    """Check the gradients of `func(*inputs)` for every input that requires one.

    Args:
        func: returns a tensor or a tuple of tensors.
        inputs: float64 or complex128 tensors; inputs without a gradient can be anything.
        eps: the step of the finite differences.
        atol, rtol: the tolerances of the comparison.
        raise_exception: on a mismatch raise GradcheckError, instead of returning False.
        nondet_tol: the largest allowed difference between two backward passes.
        check_undefined_grad: with several results, also check the gradient of each one alone.
        check_grad_dtypes: also check that a gradient has its input's dtype.
        check_forward_ad: also check directional derivatives, as `func.jvp` computes them.
        check_backward_ad: check gradients.
        check_batched_grad, check_batched_forward_grad, fast_mode, masked: PyTorch's, without
            effect: batches are loops, every check is along a direction, gradients are dense.
        check_non_contiguous: also check inputs with memory that is not contiguous.
        directions: the number of random directions for each memory layout.
        seed: the seed of the random directions.

    Raises:
        GradcheckError: a gradient is wrong; the message is a report.
        ArgumentError: no input requires a gradient, or one has another dtype.
    """
    from gradient.autograd.finite_differences import Checks, compare  # rarely needed

    if not (check_forward_ad or check_backward_ad):
        raise FailedCheck("gradcheck: expected check_forward_ad or check_backward_ad, got neither")
    checks = Checks(
        eps, atol, rtol, nondet_tol, check_undefined_grad, check_grad_dtypes,
        check_forward_ad, check_backward_ad,
    )  # fmt: skip
    args = (inputs,) if isinstance(inputs, Variable) else tuple(inputs)
    checked = [i for i, a in enumerate(args) if isinstance(a, Variable) and a.node is not None]
    if not checked:
        raise ArgumentError("gradcheck: expected at least one input that requires a gradient")
    for i in checked:
        if str(args[i].array.dtype) not in ("float64", "complex128"):
            fix = "cdouble" if args[i].array.dtype.kind == "c" else "double"
            raise ArgumentError(
                f"gradcheck: input {i} is {args[i].array.dtype}; differences need float64 or "
                f"complex128, so call .{fix}() on the inputs"
            )
    rng = np.random.default_rng(seed)
    layouts = ["contiguous", "not contiguous"] if check_non_contiguous else ["as given"]
    for layout in layouts:
        for _ in range(directions):
            report = compare(func, args, checked, layout, rng, checks)
            if report is not None:
                if raise_exception:
                    raise GradcheckError(report)
                return False
    return True


def gradgradcheck(
    func: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = STEP,
    atol: float = 1e-6,
    rtol: float = 1e-5,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
    check_non_contiguous: bool = True,
    seed: int = 0,
) -> bool:
    """Check the second derivatives of `func(*inputs)`: call `gradcheck` on its gradient.

    This checks the gradient of w . f as a function of the inputs and of w (`grad_outputs`, random
    by default). `check_fwd_over_rev` and `check_rev_over_rev` are its `check_forward_ad` and
    `check_backward_ad`; other arguments are the same as in `gradcheck`. `check_non_contiguous`
    applies to w too, so `gen_non_contig_grad_outputs` has no effect.
    """
    from gradient.autograd.finite_differences import normal_like, results_of, tensor_like

    args = (inputs,) if isinstance(inputs, Variable) else tuple(inputs)
    rng = np.random.default_rng(seed + 1)
    with no_grad():
        results = results_of(func(*args))
    if grad_outputs is None:
        weights = [tensor_like(normal_like(rng, r), r) for r in results]
    else:
        weights = [grad_outputs] if isinstance(grad_outputs, Variable) else list(grad_outputs)
    weights = [w.detach().requires_grad_() for w in weights]
    n = len(args)

    def gradient_of(*every: Any) -> tuple[Any, ...]:
        own, w = every[:n], every[n:]
        with enable_grad():
            outs = results_of(func(*own))
        pairs = [(o, v) for o, v in zip(outs, w, strict=True) if o.node is not None]
        wanted: Any = [a for a in own if isinstance(a, Variable) and a.node is not None]
        found = grad(
            [o for o, _ in pairs],
            wanted,
            [v for _, v in pairs],
            create_graph=True,
            allow_unused=True,
        )
        return tuple(g for g in found if g is not None)

    return gradcheck(
        gradient_of,
        (*args, *weights),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev,
        check_non_contiguous=check_non_contiguous,
        directions=1,
        seed=seed,
    )
