"""Generate points on a ring with a generative adversarial network.

    python examples/ring_gan.py
    python examples/ring_gan.py --steps 6000 --centres 12

After Goodfellow et al. 2014, "Generative Adversarial Nets". The generator makes points from noise;
the discriminator tries to distinguish them from real ones. They are trained in turn, against each
other. It also runs on PyTorch, with PyTorch's import lines (examples/README.md).
"""

import argparse
import math
from typing import Any

import gradient
import gradient.nn as nn
import gradient.nn.functional as F
from gradient.optim import Adam

NOISE = 8  # the size of the generator's input


def real_points(count: int, centres: int) -> gradient.Tensor:
    """Points (N, 2), normal with deviation 0.1 around `centres` places on the unit circle."""
    angle = gradient.randint(0, centres, (count,)).float() * (2 * math.pi / centres)
    points = gradient.stack([angle.cos(), angle.sin()], dim=1)
    return points + 0.1 * gradient.randn(count, 2)


def network(inputs: int, outputs: int, width: int = 64) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, outputs),
    )


def discriminator_loss(
    discriminator: nn.Module, real: gradient.Tensor, made: gradient.Tensor
) -> gradient.Tensor:
    """The cross-entropy of classifying real (N, 2) and generated points."""
    of_real, of_made = discriminator(real), discriminator(made.detach())
    return F.binary_cross_entropy_with_logits(
        of_real, gradient.ones_like(of_real)
    ) + F.binary_cross_entropy_with_logits(of_made, gradient.zeros_like(of_made))


def generator_loss(discriminator: nn.Module, made: gradient.Tensor) -> gradient.Tensor:
    """The cross-entropy of generated points (N, 2) with the label "real" (section 3)."""
    of_made = discriminator(made)
    return F.binary_cross_entropy_with_logits(of_made, gradient.ones_like(of_made))


@gradient.no_grad()
def centres_reached(generator: nn.Module, centres: int, count: int = 500) -> tuple[float, int]:
    """The mean distance of generated points from the nearest centre, and the number of centres with
    at least 1 % of the points."""
    made = generator(gradient.randn(count, NOISE))
    angle = gradient.arange(centres).float() * (2 * math.pi / centres)
    places = gradient.stack([angle.cos(), angle.sin()], dim=1)
    distances = ((made.unsqueeze(1) - places) ** 2).sum(dim=2).sqrt()
    counts = gradient.bincount(distances.argmin(dim=1), minlength=centres)
    return distances.amin(dim=1).mean().item(), int((counts >= count // 100).sum().item())


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--centres", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args(argv)
    gradient.set_default_device(args.device)

    gradient.manual_seed(args.seed)
    generator, discriminator = network(NOISE, 2), network(2, 1)
    of_generator = Adam(generator.parameters(), lr=args.lr, betas=(0.5, 0.99))
    of_discriminator = Adam(discriminator.parameters(), lr=args.lr, betas=(0.5, 0.99))
    losses = []
    for step in range(args.steps):
        real = real_points(args.batch, args.centres)
        made = generator(gradient.randn(args.batch, NOISE))

        judged = discriminator_loss(discriminator, real, made)
        of_discriminator.zero_grad()
        judged.backward()
        of_discriminator.step()

        fooled = generator_loss(discriminator, made)
        of_generator.zero_grad()
        fooled.backward()
        of_generator.step()

        losses.append((judged.item(), fooled.item()))
        if step % 500 == 0 or step == args.steps - 1:
            distance, reached = centres_reached(generator, args.centres)
            print(
                f"step {step:5d}  discriminator {losses[-1][0]:.3f}  generator {losses[-1][1]:.3f}"
                f"  distance {distance:.3f}  centres {reached}/{args.centres}"
            )

    distance, reached = centres_reached(generator, args.centres)
    return {"losses": losses, "distance": distance, "reached": reached}


if __name__ == "__main__":
    main()
