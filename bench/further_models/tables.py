"""Models of tables and lists of items, and of similarity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.further_models.features import normal, perceptron
from bench.training_models import Built, TrainingModel


def ft_transformer(package: Any) -> Built:
    """FT-Transformer (Gorishniy et al. 2021) for eight numbers and four categories: a token for
    each feature, three blocks of width 96 with ReGLU."""
    nn, width, heads = package.nn, 96, 8
    F, categories = nn.functional, [10, 50, 100, 1000]

    class Tokenizer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(package.randn(8 + 1, width) / math.sqrt(width))
            self.bias = nn.Parameter(package.zeros(8 + 4, width))
            self.categories = nn.Embedding(sum(categories), width)
            offsets = package.tensor([0, *categories[:-1]]).cumsum(0)
            self.register_buffer("offsets", offsets)

        def forward(self, numbers: Any, classes: Any) -> Any:
            ones = package.ones(len(numbers), 1, dtype=numbers.dtype)
            tokens = self.weight[None] * package.cat([ones, numbers], dim=1)[:, :, None]
            tokens = package.cat([tokens, self.categories(classes + self.offsets[None])], dim=1)
            first = package.zeros(1, width, dtype=numbers.dtype)
            return tokens + package.cat([first, self.bias])[None]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
            self.gate, self.down = nn.Linear(width, 2 * 128), nn.Linear(128, width)

        def forward(self, x: Any) -> Any:
            h = self.norm1(x)
            x = x + self.attention(h, h, h, need_weights=False)[0]
            a, b = self.gate(self.norm2(x)).chunk(2, dim=-1)
            return x + self.down(a * F.relu(b))

    class FTTransformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokenizer = Tokenizer()
            self.blocks = nn.ModuleList([Block() for _ in range(3)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1)

        def forward(self, numbers: Any, classes: Any) -> Any:
            x = self.tokenizer(numbers, classes)
            for block in self.blocks:
                x = block(x)
            return self.head(F.relu(self.norm(x[:, 0]))).squeeze(-1)

    model = FTTransformer()

    def loss(x: Any, y: Any) -> Any:
        label = y[:, 4].to(x.dtype)
        return F.binary_cross_entropy_with_logits(model(x, y[:, :4]), label)

    draws = np.random.default_rng(0)
    y = np.stack([draws.integers(0, n, 256) for n in (*categories, 2)], 1)
    return model, loss, [normal(draws, 256, 8), y]


def tabnet(package: Any) -> Built:
    """TabNet (Arik and Pfister 2021): three steps that choose features by sparsemax (Martins and
    Astudillo 2016), with gated blocks and batch norms over virtual batches of 128."""
    nn, features, width, steps = package.nn, 32, 16, 3
    F = nn.functional

    def sparsemax(z: Any) -> Any:
        ordered, _ = package.sort(z, dim=-1, descending=True)
        sums = ordered.cumsum(dim=-1) - 1
        places = package.arange(1, z.size(-1) + 1, dtype=z.dtype)
        support = (places * ordered > sums).sum(dim=-1, keepdim=True)
        threshold = sums.gather(-1, support - 1) / support.to(z.dtype)
        return package.clamp(z - threshold, min=0)

    class GhostNorm(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(width, momentum=0.01)

        def forward(self, x: Any) -> Any:
            return package.cat([self.norm(part) for part in x.chunk(len(x) // 128, 0)], dim=0)

    class Gated(nn.Module):
        def __init__(self, inputs: int, shared: Any = None) -> None:
            super().__init__()
            self.linear = shared or nn.Linear(inputs, 4 * width, bias=False)
            self.norm = GhostNorm(4 * width)

        def forward(self, x: Any) -> Any:
            x = self.norm(self.linear(x))
            return x[:, : 2 * width] * package.sigmoid(x[:, 2 * width :])

    class FeatureTransformer(nn.Module):
        def __init__(self, shared: list[Any]) -> None:
            super().__init__()
            self.first = Gated(features, shared[0])
            self.rest = nn.ModuleList(
                [Gated(2 * width, shared[1]), Gated(2 * width), Gated(2 * width)]
            )

        def forward(self, x: Any) -> Any:
            x = self.first(x)
            for block in self.rest:
                x = (x + block(x)) * math.sqrt(0.5)
            return x

    class TabNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            shared = [nn.Linear(n, 4 * width, bias=False) for n in (features, 2 * width)]
            self.norm = nn.BatchNorm1d(features)
            self.transformers = nn.ModuleList(
                [FeatureTransformer(shared) for _ in range(steps + 1)]
            )
            self.attention = nn.ModuleList(
                [nn.Linear(width, features, bias=False) for _ in range(steps)]
            )
            self.norms = nn.ModuleList([GhostNorm(features) for _ in range(steps)])
            self.head = nn.Linear(width, 2)

        def forward(self, x: Any) -> tuple[Any, Any]:
            x = self.norm(x)
            prior, sparsity, out = package.ones_like(x), 0.0, 0.0
            attended = self.transformers[0](x)[:, width:]
            for attention, norm, transformer in zip(
                self.attention, self.norms, self.transformers[1:], strict=True
            ):
                mask = sparsemax(norm(attention(attended)) * prior)
                sparsity = sparsity - (mask * package.log(mask + 1e-15)).sum(dim=1).mean() / steps
                prior = prior * (1.3 - mask)
                h = transformer(mask * x)
                out = out + F.relu(h[:, :width])
                attended = h[:, width:]
            return self.head(out), sparsity

    model = TabNet()

    def loss(x: Any, y: Any) -> Any:
        logits, sparsity = model(x)
        return F.cross_entropy(logits, y) + 1e-3 * sparsity

    draws = np.random.default_rng(0)
    x = normal(draws, 512, features)
    return model, loss, [x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)]


def dlrm(package: Any) -> Built:
    """A recommendation model (DLRM, Naumov et al. 2019): 13 numbers, eight tables whose rows are
    summed in bags of four, and the products of all pairs."""
    nn, tables, bag, width, rows = package.nn, 8, 4, 32, 2000

    class DLRM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bottom = perceptron(package, (13, 256, 64, width), nn.ReLU)
            self.tables = nn.ModuleList(
                [nn.EmbeddingBag(rows, width, mode="sum") for _ in range(tables)]
            )
            pairs = (tables + 1) * tables // 2
            self.top = perceptron(package, (width + pairs, 256, 64, 1), nn.ReLU)

        def forward(self, numbers: Any, indices: Any) -> Any:
            x = package.relu(self.bottom(numbers))
            parts = [x] + [
                table(i) for table, i in zip(self.tables, indices.unbind(1), strict=True)
            ]
            stacked = package.cat(parts, dim=1).view(len(x), tables + 1, width)
            products = package.bmm(stacked, package.transpose(stacked, 1, 2))
            i, j = package.tril_indices(tables + 1, tables + 1, offset=-1)
            return self.top(package.cat([x, products[:, i, j]], dim=1)).squeeze(1)

    model, criterion = DLRM(), nn.BCEWithLogitsLoss()

    def loss(x: Any, indices: Any) -> Any:
        return criterion(model(x[:, :13], indices), x[:, 13])

    draws = np.random.default_rng(0)
    x = normal(draws, 512, 14)
    x[:, 13] = x[:, 13] > 0
    # A few rows are looked up often.
    indices = (draws.random((512, tables, bag)) ** 3 * rows).astype(np.int64)
    return model, loss, [x, indices]


def matrix_factorization(package: Any) -> Built:
    """Matrix factorisation (Koren et al. 2009) with Bayesian personalised ranking (Rendle et al.
    2009): 3,000 users, 2,000 items, 2,048 triples."""
    nn, users, items, width = package.nn, 3000, 2000, 64

    class Factors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items = nn.Embedding(users, width), nn.Embedding(items, width)
            self.bias = nn.Embedding(items, 1)
            for table in (self.users, self.items):
                nn.init.normal_(table.weight, std=0.05)
            nn.init.zeros_(self.bias.weight)

        def forward(self, user: Any, item: Any) -> Any:
            return (user * self.items(item)).sum(-1) + self.bias(item).squeeze(-1)

    model = Factors()

    def loss(pairs: Any, negative: Any) -> Any:
        user = model.users(pairs[:, 0])
        better, worse = model(user, pairs[:, 1]), model(user, negative)
        return -nn.functional.logsigmoid(better - worse).mean() + 1e-4 * user.pow(2).sum(-1).mean()

    draws = np.random.default_rng(0)
    pairs = np.stack([draws.integers(0, users, 2048), draws.integers(0, items, 2048) // 2], 1)
    return model, loss, [pairs, draws.integers(0, items, 2048)]


def word2vec(package: Any) -> Built:
    """Word vectors by the skip-gram model with negative sampling (Mikolov et al. 2013): 5,000
    words, 1,024 pairs, five negative words for each."""
    nn, words, width = package.nn, 5000, 100

    class SkipGram(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centres, self.contexts = nn.Embedding(words, width), nn.Embedding(words, width)
            nn.init.uniform_(self.centres.weight, -0.5 / width, 0.5 / width)
            nn.init.zeros_(self.contexts.weight)

    model = SkipGram()

    def loss(pairs: Any, negative: Any) -> Any:
        centre, context = model.centres(pairs[:, 0]), model.contexts(pairs[:, 1])
        score = package.sum(centre * context, dim=1)
        others = package.bmm(model.contexts(negative), centre.unsqueeze(2)).squeeze(2)
        log_sigmoid = nn.functional.logsigmoid
        return -(log_sigmoid(score) + log_sigmoid(-others).sum(1)).mean()

    def drawn(*shape: int) -> np.ndarray:  # few words are frequent
        return (words ** np.random.default_rng(0).random(shape)).astype(np.int64) - 1

    return model, loss, [drawn(1024, 2), drawn(1024, 5)]


def contrastive(package: Any) -> Built:
    """The normalised, temperature-scaled cross entropy of SimCLR (Chen et al. 2020) on two views of
    256 vectors."""
    nn, n = package.nn, 256
    F = nn.functional
    encoder = perceptron(package, (128, 256, 256), nn.ReLU)
    head = perceptron(package, (256, 256, 64), nn.ReLU)

    def loss(x: Any, y: Any) -> Any:
        z = F.normalize(head(encoder(package.cat([x, y]))), dim=1)
        similarity = z @ z.T / 0.5
        itself = package.eye(2 * n, dtype=package.bool)
        similarity = similarity.masked_fill(itself, float("-inf"))
        places = package.arange(2 * n)
        return F.cross_entropy(similarity, (places + n) % (2 * n))

    draws = np.random.default_rng(0)
    x = normal(draws, n, 128)
    views = [x + normal(draws, n, 128) / 2 for _ in range(2)]
    return nn.ModuleList([encoder, head]), loss, views


def triplet(package: Any) -> Built:
    """The triplet loss with the hardest positive and negative of a batch (Hermans et al. 2017): 32
    people, eight pictures each."""
    nn = package.nn
    model = nn.Sequential(
        *(nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128)),
    )

    def loss(x: Any, person: Any) -> Any:
        z = model(x)
        distances = package.cdist(z, z)
        is_same = person[:, None] == person[None, :]
        positive = distances.masked_fill(~is_same, 0.0).max(dim=1).values
        negative = distances.masked_fill(is_same, float("inf")).min(dim=1).values
        return package.relu(positive - negative + 0.3).mean()

    person = np.repeat(np.arange(32), 8)
    draws = np.random.default_rng(0)
    return model, loss, [normal(draws, 32, 256)[person] + normal(draws, 256, 256), person]


MODELS = [
    TrainingModel("FT-Transformer, 256 x 12", ft_transformer),
    TrainingModel("TabNet, 512 x 32", tabnet),
    TrainingModel("DLRM, 512", dlrm),
    TrainingModel("Matrix factorisation, 2048", matrix_factorization),
    TrainingModel("word2vec, 1024", word2vec),
    TrainingModel("SimCLR, 512", contrastive),
    TrainingModel("Triplets, 256", triplet),
]
