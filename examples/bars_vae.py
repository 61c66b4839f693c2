"""Learn to draw pictures of bars with a variational autoencoder.

    python examples/bars_vae.py
    python examples/bars_vae.py --steps 2000 --latent 4

After Kingma and Welling 2014, "Auto-Encoding Variational Bayes". A picture is encoded as a normal
distribution over a few latent numbers, and a sample of it is decoded to a picture. The loss is the
reconstruction error plus the divergence of the distribution from the standard normal one. It also
runs on PyTorch, with PyTorch's import lines (examples/README.md).
"""

import argparse
from typing import Any

import gradient
import gradient.nn as nn
import gradient.nn.functional as F
from gradient.optim import Adam

SIZE = 8  # pixels along a side


def pictures(count: int) -> gradient.Tensor:
    """Pictures (N, 64) of 0 and 1: some rows or some columns are lit, each with probability 0.3."""
    lit = (gradient.rand(count, SIZE) < 0.3).float()
    rows = lit.unsqueeze(2).expand(count, SIZE, SIZE)
    across = (gradient.rand(count, 1, 1) < 0.5).float()
    bars = across * rows + (1 - across) * rows.transpose(1, 2)
    return bars.reshape(count, SIZE * SIZE)


class VAE(nn.Module):
    """Pictures (N, 64) to logits (N, 64), through `latent` numbers."""

    def __init__(self, latent: int, width: int = 128) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(SIZE * SIZE, width), nn.ReLU())
        self.mean = nn.Linear(width, latent)
        self.log_variance = nn.Linear(width, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, SIZE * SIZE)
        )

    def forward(
        self, x: gradient.Tensor, noise: gradient.Tensor
    ) -> tuple[gradient.Tensor, gradient.Tensor, gradient.Tensor]:
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        # The sample is a differentiable function of the mean and the variance (reparametrisation).
        z = mean + (0.5 * log_variance).exp() * noise
        return self.decoder(z), mean, log_variance


def negative_elbo(
    model: VAE, x: gradient.Tensor, noise: gradient.Tensor
) -> tuple[gradient.Tensor, gradient.Tensor]:
    """The reconstruction error and the divergence from the prior, in nats per picture."""
    logits, mean, log_variance = model(x, noise)
    missed = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum() / len(x)
    return missed, divergence


@gradient.no_grad()
def drawn(model: VAE, count: int) -> list[str]:
    """New pictures as text, from samples of the prior."""
    images = (model.decoder(gradient.randn(count, model.latent)) > 0).reshape(count, SIZE, SIZE)
    return [
        "\n".join("".join("#" if lit else "." for lit in row) for row in image)
        for image in images.tolist()
    ]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--latent", type=int, default=10)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args(argv)
    gradient.set_default_device(args.device)

    gradient.manual_seed(args.seed)
    model = VAE(args.latent)
    optimizer = Adam(model.parameters(), lr=args.lr)
    losses = []
    for step in range(args.steps):
        x = pictures(args.batch)
        missed, divergence = negative_elbo(model, x, gradient.randn(args.batch, args.latent))
        loss = missed + divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 300 == 0 or step == args.steps - 1:
            print(
                f"step {step:5d}  loss {losses[-1]:6.2f} nats a picture "
                f"(missed {missed.item():6.2f}, divergence {divergence.item():5.2f})"
            )

    images = drawn(model, 4)
    for lines in zip(*(image.split("\n") for image in images), strict=True):
        print("   ".join(lines))
    return {"losses": losses, "images": images}


if __name__ == "__main__":
    main()
