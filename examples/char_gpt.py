"""Train a character-level GPT on a text file, then generate text with it.

    python examples/char_gpt.py                           # the source of Python's argparse module
    python examples/char_gpt.py --text input.txt --steps 2000

The model is GPT-2's (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"):
pre-norm blocks, learned positions, and the token embedding as the weight of the output layer. It
also runs on PyTorch, with PyTorch's import lines (examples/README.md).

Shapes: B batch, T time (characters), C channels (width), H heads, V vocabulary.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gradient
import gradient.nn as nn
import gradient.nn.functional as F
from gradient.optim import AdamW
from gradient.optim.lr_scheduler import LambdaLR


@dataclass
class GPTConfig:
    """The sizes of a GPT."""

    vocab_size: int
    block_size: int = 64
    layers: int = 3
    heads: int = 4
    width: int = 96
    dropout: float = 0.0


class CausalSelfAttention(nn.Module):
    """Causal attention, softmax(q k^T / sqrt(C/H)) v per head: a position sees the earlier ones."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: gradient.Tensor) -> gradient.Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.heads, C // self.heads).transpose(1, 2)  # (B, H, T, C/H)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        y = y.transpose(1, 2).reshape(B, T, C)
        return F.dropout(self.out(y), self.dropout, self.training)


class Block(nn.Module):
    """Attention over positions, then an MLP at each position, both added to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.width)
        self.attention = CausalSelfAttention(config)
        self.norm_2 = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 4 * config.width),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * config.width, config.width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: gradient.Tensor) -> gradient.Tensor:
        x = x + self.attention(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class GPT(nn.Module):
    """A decoder-only transformer: (B, T) character ids to (B, T, V) logits, T <= block_size."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.position = nn.Embedding(config.block_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        self.head.weight = self.token.weight  # one matrix for both

        self.apply(self.init_weights)
        # Each block adds to the residual stream twice: without this its variance grows with depth.
        for name, parameter in self.named_parameters():
            if name.endswith(("attention.out.weight", "mlp.2.weight")):
                nn.init.normal_(parameter, mean=0.0, std=0.02 / math.sqrt(2 * config.layers))

    @staticmethod
    def init_weights(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, ids: gradient.Tensor) -> gradient.Tensor:
        """Logits (B, T, V) of the character after each id in ids (B, T)."""
        T = ids.shape[1]
        x = self.token(ids) + self.position(gradient.arange(T, device=ids.device))  # (B, T, C)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def loss(self, ids: gradient.Tensor, targets: gradient.Tensor) -> gradient.Tensor:
        """The mean cross-entropy with targets (B, T), in nats."""
        logits = self(ids)
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))

    def configure_optimizer(
        self, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.95)
    ) -> AdamW:
        """AdamW with weight decay for matrices only, not for biases and the weights of norms."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=lr, betas=betas)

    @gradient.no_grad()
    def generate(
        self, ids: gradient.Tensor, count: int, temperature: float = 1.0, top_k: int | None = None
    ) -> gradient.Tensor:
        """Append `count` sampled characters to ids (B, T), each given the last `block_size` ids."""
        for _ in range(count):
            logits = self(ids[:, -self.config.block_size :])[:, -1, :] / temperature
            if top_k is not None:
                least, _ = gradient.topk(logits, min(top_k, logits.size(-1)))
                logits[logits < least[:, [-1]]] = -float("inf")
            following = gradient.multinomial(F.softmax(logits, dim=-1), num_samples=1)
            ids = gradient.cat([ids, following], dim=1)
        return ids


class CharText:
    """A text as character ids: 90 % for training, 10 % for validation."""

    def __init__(self, text: str, seed: int = 0) -> None:
        self.alphabet = sorted(set(text))
        self.index = {character: i for i, character in enumerate(self.alphabet)}
        ids = np.array([self.index[character] for character in text], dtype=np.int64)
        split = len(ids) * 9 // 10
        self.parts = {"train": ids[:split], "val": ids[split:]}
        self.rng = np.random.default_rng(seed)

    def batch(
        self, part: str, batch_size: int, block_size: int
    ) -> tuple[gradient.Tensor, gradient.Tensor]:
        """Windows (B, T) at random positions, and the same windows shifted by one character."""
        ids = self.parts[part]
        starts = self.rng.integers(0, len(ids) - block_size, size=batch_size)
        windows = ids[starts[:, None] + np.arange(block_size + 1)]
        return (
            gradient.tensor(windows[:, :-1]),
            gradient.tensor(windows[:, 1:]),
        )

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.alphabet[i] for i in ids)


def warmup_then_cosine(warmup: int, steps: int, floor: float = 0.1) -> Callable[[int], float]:
    """Factor of the learning rate: linear for `warmup` steps, then half a cosine to `floor`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


@gradient.no_grad()
def estimate_loss(
    model: GPT, text: CharText, part: str, batch_size: int, batches: int = 8
) -> float:
    """The mean loss, in nats per character, over a few random batches of one part."""
    model.eval()
    losses: list[float] = []
    for _ in range(batches):
        ids, targets = text.batch(part, batch_size, model.config.block_size)
        losses.append(model.loss(ids, targets).item())
    model.train()
    return sum(losses) / len(losses)


def train(
    model: GPT,
    text: CharText,
    steps: int,
    batch_size: int = 16,
    lr: float = 2e-3,
    weight_decay: float = 0.1,
    log_every: int = 50,
) -> list[float]:
    """Train the model in place; return the loss of each step, in nats per character."""
    optimizer = model.configure_optimizer(lr, weight_decay)
    scheduler = LambdaLR(optimizer, warmup_then_cosine(max(1, steps // 20), steps))
    model.train()
    losses: list[float] = []
    start = time.perf_counter()
    for step in range(steps):
        ids, targets = text.batch("train", batch_size, model.config.block_size)
        loss = model.loss(ids, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        if log_every and (step % log_every == 0 or step == steps - 1):
            rate = (step + 1) * ids.numel() / (time.perf_counter() - start)
            print(f"step {step:5d}  loss {losses[-1]:.4f}  {rate:,.0f} characters/s")
    return losses


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--text", type=Path, default=Path(argparse.__file__), help="UTF-8 file")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--sample", type=int, default=200, help="characters to write at the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args(argv)
    gradient.set_default_device(args.device)

    gradient.manual_seed(args.seed)
    text = CharText(args.text.read_text(encoding="utf-8"), args.seed)
    config = GPTConfig(
        len(text.alphabet), args.block, args.layers, args.heads, args.width, args.dropout
    )
    model = GPT(config)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {config}")

    losses = train(model, text, args.steps, args.batch, args.lr)
    val_loss = estimate_loss(model, text, "val", args.batch)
    print(f"validation loss {val_loss:.4f} nats per character")

    model.eval()
    prompt = gradient.tensor([[text.index.get("\n", 0)]])
    written = text.decode(model.generate(prompt, args.sample, 0.8, top_k=20)[0].tolist())
    print(written)
    return {"losses": losses, "val_loss": val_loss, "text": written}


if __name__ == "__main__":
    main()
