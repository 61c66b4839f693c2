"""Training on real text falls as PyTorch's does: same weights, data, schedule and clipping."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

import gradient

STEPS, BATCH, BLOCK, WIDTH, HEADS, LAYERS = 200, 16, 64, 64, 4, 2


def build(lib, vocab_size):
    """A GPT-2 in miniature, in the modules of `lib`, with attention spelled out."""
    nn, F = lib.nn, lib.nn.functional

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.c_attn = nn.Linear(WIDTH, 3 * WIDTH)
            self.c_proj = nn.Linear(WIDTH, WIDTH)
            mask = lib.tril(lib.ones(BLOCK, BLOCK)).view(1, 1, BLOCK, BLOCK)
            self.register_buffer("mask", mask, persistent=False)

        def forward(self, x):
            B, T, C = x.size()
            q, k, v = (
                part.view(B, T, HEADS, C // HEADS).transpose(1, 2)  # (B, H, T, C/H)
                for part in self.c_attn(x).split(C, dim=2)
            )
            scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            scores = scores.masked_fill(self.mask[:, :, :T, :T] == 0, float("-inf"))
            y = F.softmax(scores, dim=-1) @ v  # (B, H, T, C/H)
            return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(WIDTH), Attention(), nn.LayerNorm(WIDTH)
            self.mlp = nn.Sequential(
                nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
            )

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab_size, WIDTH), nn.Embedding(BLOCK, WIDTH)
            self.h = nn.ModuleList([Block() for _ in range(LAYERS)])
            self.ln_f = nn.LayerNorm(WIDTH)
            self.lm_head = nn.Linear(WIDTH, vocab_size, bias=False)
            self.lm_head.weight = self.wte.weight

        def forward(self, idx, targets):
            T = idx.size(1)
            x = self.wte(idx) + self.wpe(lib.arange(T, device=idx.device))
            for block in self.h:
                x = block(x)
            logits = self.lm_head(self.ln_f(x))
            return F.cross_entropy(logits.view(-1, vocab_size), targets.view(-1))

    return GPT()


def initial_weights(shapes):
    """GPT-2's: normal with deviation 0.02, biases zero, gains one."""
    rng = np.random.default_rng(1337)
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("bias"):
            weights[name] = np.zeros(shape, np.float32)
        elif ".ln_" in f".{name}":
            weights[name] = np.ones(shape, np.float32)
        else:
            weights[name] = rng.normal(0, 0.02, shape).astype(np.float32)
    weights["lm_head.weight"] = weights["wte.weight"]
    return weights


def loss_curve(lib, ids, vocab_size, device):
    """The loss of every step, in nats per character."""
    model = build(lib, vocab_size).to(device)
    weights = initial_weights({name: tuple(t.shape) for name, t in model.state_dict().items()})
    model.load_state_dict({name: lib.tensor(value) for name, value in weights.items()})
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = lib.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-3,
        betas=(0.9, 0.95),
    )
    schedules = lib.optim.lr_scheduler
    scheduler = schedules.SequentialLR(
        optimizer,
        [
            schedules.LinearLR(optimizer, 0.05, total_iters=20),
            schedules.CosineAnnealingLR(optimizer, T_max=STEPS - 20, eta_min=1e-4),
        ],
        milestones=[20],
    )
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(STEPS):
        starts = rng.integers(0, len(ids) - BLOCK, BATCH)
        windows = ids[starts[:, None] + np.arange(BLOCK + 1)]
        x, y = (lib.tensor(part, device=device) for part in (windows[:, :-1], windows[:, 1:]))
        optimizer.zero_grad(set_to_none=True)
        loss = model(x, y)
        loss.backward()
        lib.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return np.array(losses)


@pytest.fixture(scope="module")
def shakespeare(real_data):
    text = (real_data("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")
    alphabet, ids = np.unique(list(text), return_inverse=True)
    return ids.astype(np.int64), len(alphabet)


@pytest.mark.slow
def test_the_loss_on_tinyshakespeare_falls(shakespeare, device):
    losses = loss_curve(gradient, *shakespeare, device)
    assert losses[0] == pytest.approx(math.log(65), abs=0.05)  # knows nothing yet
    assert losses[-20:].mean() < 2.6  # about what character pairs alone give


@pytest.mark.slow
@pytest.mark.parity
def test_the_curve_is_pytorch_s(shakespeare, device):
    got = loss_curve(gradient, *shakespeare, device)
    want = loss_curve(importlib.import_module("torch"), *shakespeare, "cpu")
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)  # on the CPU 5e-7 apart
