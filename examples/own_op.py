"""Write an operation with a gradient by hand, check the gradient, train with it.

    python examples/own_op.py

Three steps: (1) an `autograd.Function` with forward and backward; (2) `gradcheck`, which compares
the backward with finite differences, and finds a deliberate mistake; (3) training with the
operation. The operation is the quantile ("pinball") loss of Koenker and Bassett 1978, "Regression
Quantiles": an error costs `q` per unit if the prediction is too low and `1 - q` if it is too high,
so the loss is smallest at the q-quantile. It also runs on PyTorch, with PyTorch's import lines
(examples/README.md).
"""

import argparse
from typing import Any

import gradient
import gradient.nn as nn
from gradient.autograd import Function, gradcheck
from gradient.optim import Adam

Gradients = tuple[gradient.Tensor, gradient.Tensor, None]


class QuantileLoss(Function):
    """Elementwise pinball loss: max(q * (target - prediction), (q - 1) * (target - prediction))."""

    @staticmethod
    def forward(
        ctx: Any, prediction: gradient.Tensor, target: gradient.Tensor, q: float
    ) -> gradient.Tensor:
        error = target - prediction
        # Keep only what backward needs: the sign of the error, not the error itself.
        ctx.too_low = error > 0
        ctx.q = q
        return gradient.where(ctx.too_low, q * error, (q - 1) * error)

    @staticmethod
    def backward(ctx: Any, grad: gradient.Tensor) -> Gradients:
        slope = gradient.where(
            ctx.too_low, gradient.full_like(grad, -ctx.q), gradient.full_like(grad, 1 - ctx.q)
        )
        # One gradient per argument of forward; None for an argument without gradient.
        return grad * slope, -grad * slope, None


class MistakenQuantileLoss(QuantileLoss):
    """The same with a typical mistake: the two slopes are exchanged."""

    @staticmethod
    def backward(ctx: Any, grad: gradient.Tensor) -> Gradients:
        slope = gradient.where(
            ctx.too_low, gradient.full_like(grad, 1 - ctx.q), gradient.full_like(grad, -ctx.q)
        )
        return grad * slope, -grad * slope, None


def check() -> tuple[bool, bool]:
    """Whether `gradcheck` accepts the correct op, and whether it accepts the mistaken one."""
    # float64, because finite differences are not accurate enough in float32.
    prediction = gradient.randn(5, 3, dtype=gradient.float64, requires_grad=True)
    target = gradient.randn(5, 3, dtype=gradient.float64, requires_grad=True)
    right = gradcheck(lambda p, t: QuantileLoss.apply(p, t, 0.9), (prediction, target))
    wrong = gradcheck(
        lambda p, t: MistakenQuantileLoss.apply(p, t, 0.9),
        (prediction, target),
        raise_exception=False,
    )
    return right, wrong


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--quantile", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args(argv)
    gradient.set_default_device(args.device)

    gradient.manual_seed(args.seed)
    right, wrong = check()
    print(f"gradcheck: the right backward passes: {right}; the mistaken one passes: {wrong}")

    # y = 2x + noise that grows with x: its 0.9-quantile is a steeper line than its mean.
    x = gradient.rand(2000, 1)
    y = 2 * x + x * gradient.randn(2000, 1)
    model = nn.Linear(1, 1)
    optimizer = Adam(model.parameters(), lr=0.05)
    for _ in range(args.steps):
        loss = QuantileLoss.apply(model(x), y, args.quantile).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with gradient.no_grad():
        below = (y <= model(x)).float().mean().item()
    slope, offset = model.weight.item(), model.bias.item()
    print(f"fitted {slope:.2f} x + {offset:+.2f}: {below:.1%} of the points lie below the line")
    return {"right": right, "wrong": wrong, "below": below}


if __name__ == "__main__":
    main()
