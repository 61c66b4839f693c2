"""Models that make images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.training_models import Built, TrainingModel


def dcgan(package: Any) -> Built:
    """The generator's step of DCGAN (Radford et al. 2016): transposed convolutions of 4x4 and
    stride 2, judged by a discriminator whose weights stay as they are."""
    nn, widths = package.nn, [64, 128, 256]
    layers = [nn.ConvTranspose2d(100, 256, 4, bias=False), nn.BatchNorm2d(256), nn.ReLU(True)]
    for inputs, outputs in ((256, 128), (128, 64)):
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU(True)]
    generator = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh())
    layers = [nn.Conv2d(3, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.LeakyReLU(0.2, inplace=True)]
    discriminator = nn.Sequential(*layers, nn.Conv2d(256, 1, 4, bias=False), nn.Sigmoid())
    for part in (generator, discriminator):
        for parameter in part.parameters():
            if parameter.ndim == 4:
                nn.init.normal_(parameter, 0.0, 0.02)
    discriminator.requires_grad_(False)

    def loss(noise: Any, real: Any) -> Any:
        judged = discriminator(generator(noise)).view(-1)
        return nn.functional.binary_cross_entropy(judged, real)

    noise = np.random.default_rng(0).standard_normal((16, 100, 1, 1), dtype=np.float32)
    return nn.ModuleList([generator, discriminator]), loss, [noise, np.ones(16, np.float32)]


def wgan(package: Any) -> Built:
    """The critic's step of WGAN-GP (Gulrajani et al. 2017): a penalty on the norm of the critic's
    gradient for mixtures of true and generated images, so derivatives of second order."""
    nn = package.nn
    layers, width = [nn.Conv2d(3, 32, 5, 2, 2), nn.LeakyReLU(0.2)], 32
    for outputs in (64, 128):
        layers += [nn.Conv2d(width, outputs, 5, 2, 2), nn.GroupNorm(1, outputs), nn.LeakyReLU(0.2)]
        width = outputs
    critic = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, 1))

    def loss(real: Any, fake: Any) -> Any:
        share = package.rand(len(real), 1, 1, 1)
        mixed = (share * real + (1 - share) * fake).requires_grad_()
        (slope,) = package.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        penalty = ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
        return critic(fake).mean() - critic(real).mean() + 10 * penalty

    real, fake = np.random.default_rng(0).standard_normal((2, 16, 3, 32, 32), dtype=np.float32)
    return critic, loss, [real, np.tanh(fake)]


def vae(package: Any) -> Built:
    """A convolutional variational autoencoder (Kingma and Welling 2014)."""
    nn = package.nn

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(
                *(nn.Conv2d(3, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()),
                *(nn.Conv2d(64, 128, 4, 2, 1), nn.ReLU(), nn.Flatten()),
            )
            self.mean, self.log_variance = nn.Linear(2048, 64), nn.Linear(2048, 64)
            self.decoder = nn.Sequential(
                *(nn.Linear(64, 2048), nn.Unflatten(1, (128, 4, 4)), nn.ReLU()),
                *(nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.ReLU()),
                *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU()),
                nn.ConvTranspose2d(32, 3, 4, 2, 1),
            )

        def forward(self, x: Any) -> Any:
            x = self.encoder(x)
            mean, log_variance = self.mean(x), self.log_variance(x)
            z = mean + package.exp(0.5 * log_variance) * package.randn_like(mean)
            return self.decoder(z), mean, log_variance

    model = VAE()

    def loss(x: Any, target: Any) -> Any:
        logits, mean, log_variance = model(x)
        error = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        divergence = -0.5 * package.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        return (error + divergence) / len(x)

    x = np.random.default_rng(0).random((16, 3, 32, 32), dtype=np.float32)
    return model, loss, [x, x]


def diffusion(package: Any) -> Built:
    """The U-Net of denoising diffusion (Ho et al. 2020), small: GroupNorm and SiLU, an embedding of
    the time in each block, attention at the low resolution, nearest-neighbour upsampling. The loss
    is the error of the predicted noise at random times."""
    nn, F = package.nn, package.nn.functional

    class Residual(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.norm1, self.conv1 = nn.GroupNorm(8, inputs), nn.Conv2d(inputs, outputs, 3, 1, 1)
            self.norm2, self.conv2 = nn.GroupNorm(8, outputs), nn.Conv2d(outputs, outputs, 3, 1, 1)
            self.time = nn.Linear(128, outputs)
            self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

        def forward(self, x: Any, time: Any) -> Any:
            y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
            return self.skip(x) + self.conv2(F.silu(self.norm2(y)))

    class Attention(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm, self.qkv = nn.GroupNorm(8, width), nn.Conv2d(width, 3 * width, 1)
            self.project = nn.Conv2d(width, width, 1)

        def forward(self, x: Any) -> Any:
            n, c, h, w = x.shape
            q, k, v = self.qkv(self.norm(x)).reshape(n, 3, c, h * w).unbind(1)
            weights = package.einsum("nci,ncj->nij", q * c**-0.5, k).softmax(-1)
            y = package.einsum("nij,ncj->nci", weights, v).reshape(n, c, h, w)
            return x + self.project(y)

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time = nn.Sequential(nn.Linear(32, 128), nn.SiLU(), nn.Linear(128, 128))
            self.first = nn.Conv2d(3, 32, 3, padding=1)
            self.down1, self.smaller = Residual(32, 32), nn.Conv2d(32, 32, 3, 2, 1)
            self.down2, self.middle = Residual(32, 64), Residual(64, 64)
            self.attention = Attention(64)
            self.up2, self.larger = Residual(128, 64), nn.Conv2d(64, 64, 3, padding=1)
            self.up1 = Residual(96, 32)
            self.last = nn.Sequential(nn.GroupNorm(8, 32), nn.SiLU(), nn.Conv2d(32, 3, 3, 1, 1))
            step = math.log(10_000) / 15
            self.register_buffer("frequencies", package.exp(-step * package.arange(16)))

        def forward(self, x: Any, time: Any) -> Any:
            angles = time[:, None] * self.frequencies
            time = self.time(package.cat([angles.sin(), angles.cos()], -1))
            wide = self.down1(self.first(x), time)
            narrow = self.down2(self.smaller(wide), time)
            x = self.attention(self.middle(narrow, time))
            x = self.up2(package.cat([x, narrow], 1), time)
            x = self.larger(F.interpolate(x, scale_factor=2, mode="nearest"))
            return self.last(self.up1(package.cat([x, wide], 1), time))

    model = UNet()
    kept = package.cumprod(1 - package.linspace(1e-4, 0.02, 1000), 0)

    def loss(x: Any, time: Any) -> Any:
        noise, share = package.randn_like(x), kept[time][:, None, None, None]
        return F.mse_loss(model(share.sqrt() * x + (1 - share).sqrt() * noise, time), noise)

    draws = np.random.default_rng(0)
    x = draws.standard_normal((8, 3, 32, 32), dtype=np.float32)
    return model, loss, [x, draws.integers(0, 1000, 8)]


def espcn(package: Any) -> Built:
    """ESPCN (Shi et al. 2016): super-resolution by three, whose pixels are shuffled from channels
    last."""
    nn = package.nn
    model = nn.Sequential(
        *(nn.Conv2d(1, 64, 5, padding=2), nn.Tanh(), nn.Conv2d(64, 32, 3, padding=1), nn.Tanh()),
        *(nn.Conv2d(32, 9, 3, padding=1), nn.PixelShuffle(3)),
    )

    def loss(x: Any, y: Any) -> Any:
        return nn.functional.mse_loss(model(x), y)

    draws = np.random.default_rng(0)
    x = draws.standard_normal((16, 1, 17, 17), dtype=np.float32)
    return model, loss, [x, draws.standard_normal((16, 1, 51, 51), dtype=np.float32)]


def style_transfer(package: Any) -> Built:
    """Fast style transfer (Johnson et al. 2016): a net with reflection padding and instance
    normalisation, whose pictures are compared with content and style by the maps of a fixed net and
    their Gram matrices."""
    nn, F = package.nn, package.nn.functional

    def layer(inputs: int, outputs: int, size: int, stride: int = 1) -> list[Any]:
        convolution = nn.Conv2d(inputs, outputs, size, stride)
        return [nn.ReflectionPad2d(size // 2), convolution, nn.InstanceNorm2d(outputs, affine=True)]

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(*layer(width, width, 3), nn.ReLU(), *layer(width, width, 3))

        def forward(self, x: Any) -> Any:
            return x + self.layers(x)

    painter = nn.Sequential(
        *(*layer(3, 16, 9), nn.ReLU(), *layer(16, 32, 3, 2), nn.ReLU(), Residual(32)),
        *(nn.Upsample(scale_factor=2, mode="nearest"), *layer(32, 16, 3), nn.ReLU()),
        *(nn.ReflectionPad2d(4), nn.Conv2d(16, 3, 9)),
    )
    layers = [nn.Conv2d(3, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, 1, 1)]
    critic = nn.Sequential(*layers, nn.ReLU()).requires_grad_(False)

    def maps(x: Any) -> list[Any]:
        first = critic[:2](x)
        return [first, critic[2:](first)]

    def gram(x: Any) -> Any:
        n, c, h, w = x.shape
        x = x.view(n, c, h * w)
        return package.bmm(x, x.transpose(1, 2)) / (c * h * w)

    def loss(x: Any, style: Any) -> Any:
        painted = painter(x)
        ours, content = maps(painted), maps(x)
        styles = zip(ours, maps(style), strict=True)
        error = sum(F.mse_loss(gram(a), gram(b).expand(len(x), -1, -1)) for a, b in styles)
        rough = (painted[:, :, 1:] - painted[:, :, :-1]).abs().mean()
        rough = rough + (painted[..., 1:] - painted[..., :-1]).abs().mean()
        return F.mse_loss(ours[1], content[1]) + 1e3 * error + 1e-2 * rough

    x, style = (np.random.default_rng(0).random((n, 3, 48, 48), dtype=np.float32) for n in (4, 1))
    return nn.ModuleList([painter, critic]), loss, [x, style]


MODELS: list[TrainingModel] = [
    TrainingModel("DCGAN generator, 16 x 32 x 32", dcgan),
    TrainingModel("WGAN-GP critic, 16 x 32 x 32", wgan),
    TrainingModel("Convolutional VAE, 16 x 32 x 32", vae),
    TrainingModel("Diffusion U-Net, 8 x 32 x 32", diffusion),
    TrainingModel("ESPCN, 16 x 51 x 51", espcn),
    TrainingModel("Style transfer, 4 x 48 x 48", style_transfer),
]
