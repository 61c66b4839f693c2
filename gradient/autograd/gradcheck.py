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
"""The step t of the difference quotients; inputs are taken to be of the order of one."""


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
    """Whether the gradients of `func(*inputs)` are right for every input that requires one.

    `inputs` are float64 or complex128 tensors (others pass through unchecked); `func` gives a
    tensor or a tuple of them. A mismatch raises GradcheckError with a report, or returns False.

    Args:
        nondet_tol: by so much a second backward pass may differ from the first.
        check_undefined_grad: of several results, look at the gradient of each without a gradient
            of the others, too.
        check_grad_dtypes: a gradient has its input's dtype.
        check_forward_ad: look at derivatives in a direction, too, as `func.jvp` takes them.
        check_backward_ad: look at gradients.
        check_batched_grad, check_batched_forward_grad, fast_mode, masked: PyTorch's, and change
            nothing: batches are loops, every check is along a direction, gradients are dense.
        check_non_contiguous: try memory that is not contiguous, too.
        directions: so many random ones are tried, of each layout.
        seed: of the directions.
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
    """Whether the second derivatives of `func(*inputs)` are right: gradcheck of its gradient.

    The gradient of w . f is checked as a function of the inputs and of w (`grad_outputs`, random
    if not given). `check_fwd_over_rev` and `check_rev_over_rev` are the check_forward_ad and
    check_backward_ad of that; other arguments are as in `gradcheck`. The memory of w is not
    contiguous, either, under `check_non_contiguous`: `gen_non_contig_grad_outputs` changes nothing.
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
