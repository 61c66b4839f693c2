"""Models whose state at each step follows from the one before, written out: selective and diagonal
state spaces, decaying means, linear attention."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from bench.further_models.supervision import next_token_by_column, supervised
from bench.training_models import Built, TrainingModel


def mamba(package: Any) -> Built:
    """A selective state space: step sizes and the maps into and out of the state depend on the
    input; the recurrence is a loop over time (Gu & Dao 2023, algorithm 2)."""
    nn, F = package.nn, package.nn.functional
    vocab, width, inner, states, rank, time = 256, 64, 128, 16, 4, 64

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(width)
            self.in_proj = nn.Linear(width, 2 * inner, bias=False)
            self.conv1d = nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
            self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
            self.dt_proj = nn.Linear(rank, inner)
            self.A_log = nn.Parameter(package.log(package.arange(1.0, states + 1).repeat(inner, 1)))
            self.D = nn.Parameter(package.ones(inner))
            self.out_proj = nn.Linear(inner, width, bias=False)

        def scan(self, u: Any, delta: Any, B: Any, C: Any) -> Any:
            A = -package.exp(self.A_log)
            decay = package.exp(package.einsum("bld,dn->bldn", delta, A))
            change = package.einsum("bld,bln,bld->bldn", delta, B, u)
            h, outputs = u.new_zeros(u.size(0), inner, states), []
            for t in range(u.size(1)):
                h = decay[:, t] * h + change[:, t]
                outputs.append(package.einsum("bdn,bn->bd", h, C[:, t]))
            return package.stack(outputs, dim=1) + u * self.D

        def forward(self, x: Any) -> Any:
            u, gate = self.in_proj(self.norm(x)).chunk(2, dim=-1)
            u = self.conv1d(u.transpose(1, 2))[..., : x.size(1)].transpose(1, 2)
            u = F.silu(u)
            delta, B, C = self.x_proj(u).split([rank, states, states], dim=-1)
            y = self.scan(u, F.softplus(self.dt_proj(delta)), B, C)
            return x + self.out_proj(y * F.silu(gate))

    model = _language_model(package, vocab, width, [Block(), Block()])
    return next_token_by_column(package, model, vocab, 4, time)


def s4d(package: Any) -> Built:
    """Diagonal state spaces as convolutions over the whole sequence, by FFT (Gu et al. 2022)."""
    nn, F = package.nn, package.nn.functional
    width, states, time = 64, 32, 256

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            step = package.rand(width) * (math.log(0.1) - math.log(0.001)) + math.log(0.001)
            self.log_step = nn.Parameter(step)
            self.C = nn.Parameter(package.randn(width, states // 2, 2))
            self.log_A_real = nn.Parameter(math.log(0.5) * package.ones(width, states // 2))
            self.A_imag = nn.Parameter(math.pi * package.arange(states // 2).repeat(width, 1))
            self.D = nn.Parameter(package.randn(width))
            self.mix, self.norm = nn.Conv1d(width, 2 * width, 1), nn.LayerNorm(width)
            self.dropout = nn.Dropout(0.1)

        def kernel(self, time: int) -> Any:
            step, C = package.exp(self.log_step), package.view_as_complex(self.C)
            A = package.complex(-package.exp(self.log_A_real), self.A_imag)
            stepped = A * step.unsqueeze(-1)
            powers = stepped.unsqueeze(-1) * package.arange(time, dtype=step.dtype)
            C = C * (package.exp(stepped) - 1.0) / A
            return 2 * package.einsum("hn,hnl->hl", C, package.exp(powers)).real

        def forward(self, x: Any) -> Any:
            u = x.transpose(1, 2)
            time = u.size(-1)
            kernel = package.fft.rfft(self.kernel(time), n=2 * time)
            y = package.fft.irfft(package.fft.rfft(u, n=2 * time) * kernel, n=2 * time)
            y = self.dropout(F.gelu(y[..., :time] + u * self.D.unsqueeze(-1)))
            return self.norm(x + F.glu(self.mix(y), dim=1).transpose(1, 2))

    class S4D(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.layers = nn.Linear(3, width), nn.Sequential(Layer(), Layer())
            self.decoder = nn.Linear(width, 10)

        def forward(self, x: Any) -> Any:
            return self.decoder(self.layers(self.encoder(x)).mean(dim=1))

    draws = np.random.default_rng(0)
    x = draws.standard_normal((4, time, 3), dtype=np.float32)
    return supervised(S4D(), F.cross_entropy, x, draws.integers(0, 10, 4))


def rwkv(package: Any) -> Built:
    """Blocks whose state is a mean of past values with weights that decay, computed in a loop over
    time with a running maximum of the exponents (Peng et al. 2023)."""
    nn = package.nn
    vocab, width, time = 256, 128, 48

    class TimeMix(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decay = nn.Parameter(package.linspace(-5, 3, width))
            self.first = nn.Parameter(package.zeros(width))
            self.mix_k, self.mix_v, self.mix_r = (
                nn.Parameter(package.linspace(0, 1, width).view(1, 1, width)) for _ in range(3)
            )
            self.key, self.value, self.receptance, self.output = (
                nn.Linear(width, width, bias=False) for _ in range(4)
            )
            self.shift = nn.ZeroPad2d((0, 0, 1, -1))

        def forward(self, x: Any) -> Any:
            past = self.shift(x)
            k = self.key(x * self.mix_k + past * (1 - self.mix_k))
            v = self.value(x * self.mix_v + past * (1 - self.mix_v))
            r = self.receptance(x * self.mix_r + past * (1 - self.mix_r))
            decay, outputs = -package.exp(self.decay), []
            top, bottom = package.zeros_like(k[:, 0]), package.zeros_like(k[:, 0])
            largest = package.full_like(top, -1e38)
            for t in range(x.size(1)):
                kt, vt = k[:, t], v[:, t]
                peak = package.maximum(largest, self.first + kt)
                old, new = package.exp(largest - peak), package.exp(self.first + kt - peak)
                outputs.append((old * top + new * vt) / (old * bottom + new))
                peak = package.maximum(largest + decay, kt)
                old, new = package.exp(largest + decay - peak), package.exp(kt - peak)
                top, bottom, largest = old * top + new * vt, old * bottom + new, peak
            return self.output(package.sigmoid(r) * package.stack(outputs, dim=1))

    class ChannelMix(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix_k, self.mix_r = (
                nn.Parameter(package.linspace(0, 1, width).view(1, 1, width)) for _ in range(2)
            )
            self.key = nn.Linear(width, 4 * width, bias=False)
            self.receptance = nn.Linear(width, width, bias=False)
            self.value = nn.Linear(4 * width, width, bias=False)
            self.shift = nn.ZeroPad2d((0, 0, 1, -1))

        def forward(self, x: Any) -> Any:
            past = self.shift(x)
            k = self.key(x * self.mix_k + past * (1 - self.mix_k))
            r = self.receptance(x * self.mix_r + past * (1 - self.mix_r))
            return package.sigmoid(r) * self.value(package.square(package.relu(k)))

    class RWKV(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocab, width)
            self.mixes = nn.ModuleList([TimeMix(), ChannelMix(), TimeMix(), ChannelMix()])
            self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in self.mixes])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)

        def forward(self, ids: Any) -> Any:
            x = self.embedding(ids)
            for norm, mix in zip(self.norms, self.mixes, strict=True):
                x = x + mix(norm(x))
            return self.head(self.norm(x)).transpose(1, 2)

    return next_token_by_column(package, RWKV(), vocab, 8, time)


def linear_attention(package: Any) -> Built:
    """Causal attention by running sums of products of keys and values (Katharopoulos et al.
    2020)."""
    nn, F = package.nn, package.nn.functional
    vocab, width, heads, time = 256, 128, 4, 64

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            y = self.norm1(x)
            q, k, v = (part(y).view(*x.shape[:2], heads, -1) for part in (self.q, self.k, self.v))
            q, k = F.elu(q) + 1, F.elu(k) + 1
            states = package.cumsum(package.einsum("blhd,blhm->blhdm", k, v), dim=1)
            scale = 1 / (package.einsum("blhd,blhd->blh", q, k.cumsum(dim=1)) + 1e-6)
            y = package.einsum("blhd,blhdm,blh->blhm", q, states, scale)
            x = x + self.o(y.reshape(x.shape))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    model = _language_model(package, vocab, width, [Block(), Block()])
    return next_token_by_column(package, model, vocab, 4, time)


def _language_model(package: Any, vocab: int, width: int, blocks: Iterable[Any]) -> Any:
    """Logits (batch, vocab, time) of ids (batch, time)."""
    nn = package.nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.blocks = nn.Embedding(vocab, width), nn.Sequential(*blocks)
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab)

        def forward(self, ids: Any) -> Any:
            return self.head(self.norm(self.blocks(self.embedding(ids)))).transpose(1, 2)

    return Model()


MODELS = [
    TrainingModel("Mamba 2 x 64, 4 x 64", mamba),
    TrainingModel("S4D 2 x 64, 4 x 256", s4d),
    TrainingModel("RWKV 2 x 128, 8 x 48", rwkv),
    TrainingModel("Linear attention 2 x 128, 4 x 64", linear_attention),
]
