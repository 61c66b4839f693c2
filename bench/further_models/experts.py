"""Mixtures of experts: networks of which each token takes a few."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.training_models import Built, TrainingModel


def mixture_of_experts(package: Any) -> Built:
    """Each token goes to 2 of 8 networks, as Mixtral's published code writes it (Jiang et al.
    2024)."""
    nn, F = package.nn, package.nn.functional
    vocab, width, hidden, experts, top = 500, 128, 256, 8, 2

    class Expert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w1 = nn.Linear(width, hidden, bias=False)
            self.w2 = nn.Linear(hidden, width, bias=False)
            self.w3 = nn.Linear(width, hidden, bias=False)

        def forward(self, x: Any) -> Any:
            return self.w2(F.silu(self.w1(x)) * self.w3(x))

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocab, width)
            self.gate = nn.Linear(width, experts, bias=False)
            self.experts = nn.ModuleList([Expert() for _ in range(experts)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab)

        def forward(self, ids: Any) -> Any:
            batch, time = ids.shape
            x = self.embedding(ids).view(-1, width)
            routing = F.softmax(self.gate(x), dim=1)
            weights, chosen = package.topk(routing, top, dim=-1)
            weights = weights / weights.sum(dim=-1, keepdim=True)
            out = package.zeros_like(x)
            mask = F.one_hot(chosen, num_classes=experts).permute(2, 1, 0)
            for i, expert in enumerate(self.experts):
                which, token = package.where(mask[i])
                part = expert(x[token]) * weights[token, which, None]
                out.index_add_(0, token, part.to(x.dtype))
            load = mask.sum(dim=(1, 2)) / mask.sum()
            self.balance = experts * (load * routing.mean(dim=0)).sum()
            return self.head(self.norm(x + out)).view(batch, time, vocab)

    model = Mixture()
    ids = np.random.default_rng(0).integers(0, vocab, (8, 65))

    def loss(x: Any, y: Any) -> Any:
        logits = model(x)
        return F.cross_entropy(logits.view(-1, vocab), y.view(-1)) + 0.01 * model.balance

    return model, loss, [ids[:, :-1].copy(), ids[:, 1:].copy()]


def switch(package: Any) -> Built:
    """Each token goes to 1 of 8 networks that take a bounded number of tokens, by products with
    one-hot masks (Fedus et al. 2021)."""
    nn, F = package.nn, package.nn.functional
    vocab, width, hidden, experts, capacity = 500, 128, 256, 8, 80

    class Switch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocab, width)
            self.router = nn.Linear(width, experts)
            self.up = nn.Parameter(package.randn(experts, width, hidden) * width**-0.5)
            self.down = nn.Parameter(package.randn(experts, hidden, width) * hidden**-0.5)
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab)

        def forward(self, ids: Any) -> tuple[Any, Any]:
            x = self.embedding(ids).flatten(0, 1)
            probabilities = F.softmax(self.router(x), dim=-1)
            gate, expert = probabilities.max(dim=-1)
            mask = F.one_hot(expert, experts)
            place = (package.cumsum(mask, dim=0) - 1) * mask
            mask = mask * (place < capacity)
            place = F.one_hot((place * mask).sum(dim=-1), capacity) * mask.sum(-1, keepdim=True)
            dispatch = mask.to(x.dtype).unsqueeze(-1) * place.to(x.dtype).unsqueeze(1)
            grouped = package.einsum("nd,nec->ecd", x, dispatch)
            grouped = package.einsum("ecd,edh->ech", grouped, self.up)
            grouped = package.einsum("ech,ehd->ecd", F.relu(grouped), self.down)
            out = package.einsum("ecd,nec->nd", grouped, dispatch * gate[:, None, None])
            share = F.one_hot(expert, experts).to(x.dtype).mean(0)
            balance = experts * (share * probabilities.mean(0)).sum()
            return self.head(self.norm(x + out)).view(*ids.shape, vocab), balance

    model = Switch()
    ids = np.random.default_rng(0).integers(0, vocab, (8, 65))

    def loss(x: Any, y: Any) -> Any:
        logits, balance = model(x)
        return F.cross_entropy(logits.view(-1, vocab), y.view(-1)) + 0.01 * balance

    return model, loss, [ids[:, :-1].copy(), ids[:, 1:].copy()]


MODELS = [
    TrainingModel("Mixture of experts 8 x 256, 512", mixture_of_experts, None),
    TrainingModel("Switch 8 x 256, 512", switch),
]
