"""Models of text that attend to all of its words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.further_models.supervision import next_token
from bench.training_models import Built, TrainingModel


def bert(package: Any) -> Built:
    """A masked language model: predictions at the masked positions only, by the transposed table of
    word embeddings (Devlin et al. 2019)."""
    nn, F = package.nn, package.nn.functional
    vocab, width, heads, layers, time = 2000, 128, 4, 3, 64

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(width, width)
            self.key = nn.Linear(width, width)
            self.value = nn.Linear(width, width)
            self.dense = nn.Linear(width, width)
            self.attention_norm = nn.LayerNorm(width, eps=1e-12)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.norm = nn.LayerNorm(width, eps=1e-12)
            self.dropout = nn.Dropout(0.1)

        def split(self, x: Any) -> Any:
            return x.view(x.size(0), x.size(1), heads, width // heads).permute(0, 2, 1, 3)

        def forward(self, x: Any, mask: Any) -> Any:
            query, key, value = (self.split(part(x)) for part in (self.query, self.key, self.value))
            scores = package.matmul(query, key.transpose(-1, -2)) / math.sqrt(width // heads)
            weights = self.dropout(nn.Softmax(dim=-1)(scores + mask))
            context = package.matmul(weights, value).permute(0, 2, 1, 3).contiguous()
            context = context.view(x.size(0), x.size(1), width)
            x = self.attention_norm(x + self.dropout(self.dense(context)))
            return self.norm(x + self.dropout(self.down(F.gelu(self.up(x)))))

    class Bert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(vocab, width, padding_idx=0)
            self.positions = nn.Embedding(time, width)
            self.segments = nn.Embedding(2, width)
            self.norm, self.dropout = nn.LayerNorm(width, eps=1e-12), nn.Dropout(0.1)
            self.layers = nn.ModuleList([Layer() for _ in range(layers)])
            self.transform, self.head_norm = nn.Linear(width, width), nn.LayerNorm(width)
            self.decoder = nn.Linear(width, vocab)
            self.decoder.weight = self.words.weight
            self.register_buffer("position_ids", package.arange(time).expand((1, -1)))
            for table in (self.words, self.positions, self.segments):
                nn.init.normal_(table.weight, std=0.02)

        def forward(self, ids: Any, masked: Any) -> Any:
            mask = (1.0 - (ids > 0).to(self.norm.weight.dtype))[:, None, None, :] * -10000.0
            x = self.words(ids) + self.positions(self.position_ids[:, : ids.size(1)])
            x = self.dropout(self.norm(x + self.segments(package.zeros_like(ids))))
            for layer in self.layers:
                x = layer(x, mask)
            x = package.gather(x, 1, masked.unsqueeze(-1).expand(-1, -1, width))
            return self.decoder(self.head_norm(F.gelu(self.transform(x))))

    model = Bert()
    draws = np.random.default_rng(0)
    ids = draws.integers(1, vocab, (8, time))
    ids[::2, -10:] = 0
    masked = np.stack([draws.permutation(time - 10)[:8] for _ in ids])
    labels = np.take_along_axis(ids, masked, 1)
    np.put_along_axis(ids, masked, 3, 1)

    def loss(x: Any, y: Any) -> Any:
        masked, labels = y.unbind(dim=1)
        return F.cross_entropy(model(x, masked).view(-1, vocab), labels.reshape(-1))

    return model, loss, [ids, np.stack([masked, labels], 1)]


def t5(package: Any) -> Built:
    """Decoder blocks of T5: RMS norm before each part, attention without a scale and with a learned
    bias for each bucket of distances, a ReLU network without biases (Raffel et al. 2020)."""
    nn, F = package.nn, package.nn.functional
    vocab, width, heads, hidden, layers, buckets, farthest = 1000, 128, 4, 512, 3, 32, 128

    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(package.ones(width))

        def forward(self, x: Any) -> Any:
            variance = x.pow(2).mean(-1, keepdim=True)
            return self.weight * (x * package.rsqrt(variance + 1e-6))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
            self.wi = nn.Linear(width, hidden, bias=False)
            self.wo = nn.Linear(hidden, width, bias=False)
            self.norms = nn.ModuleList([Norm(), Norm()])
            self.dropout = nn.Dropout(0.1)

        def forward(self, x: Any, bias: Any) -> Any:
            batch, time, _ = x.shape
            y = self.norms[0](x)
            q, k, v = (
                part(y).view(batch, time, heads, -1).transpose(1, 2)
                for part in (self.q, self.k, self.v)
            )
            scores = package.matmul(q, k.transpose(3, 2))
            scores += bias
            weights = F.dropout(F.softmax(scores, dim=-1), p=self.dropout.p)
            y = package.matmul(weights, v).transpose(1, 2).contiguous().view(batch, time, width)
            x = x + self.dropout(self.o(y))
            y = self.dropout(F.relu(self.wi(self.norms[1](x))))
            return x + self.dropout(self.wo(y))

    class T5(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Embedding(vocab, width)
            self.relative = nn.Embedding(buckets, heads)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm = Norm()

        def bias(self, time: int, dtype: Any) -> Any:
            """(1, heads, time, time): the biases of all distances, none to later positions."""
            places = package.arange(time)
            distance = package.clamp(places[:, None] - places[None, :], min=0)
            exact = buckets // 2
            far = package.log(distance.float() / exact) / math.log(farthest / exact)
            far = exact + (far * (buckets - exact)).to(package.long)
            far = package.min(far, package.full_like(far, buckets - 1))
            bucket = package.where(distance < exact, distance, far)
            bias = self.relative(bucket).permute([2, 0, 1]).unsqueeze(0)
            later = places[None, :] > places[:, None]
            return bias + later.to(dtype) * package.finfo(dtype).min

        def forward(self, ids: Any) -> Any:
            x = self.shared(ids)
            bias = self.bias(ids.size(1), x.dtype)
            for block in self.blocks:
                x = block(x, bias)
            return F.linear(self.norm(x) * width**-0.5, self.shared.weight)

    return next_token(package, T5(), vocab, 4, 96)


def lora(package: Any) -> Built:
    """A GPT with frozen weights, and trained products of low rank beside two of them in each layer
    (Hu et al. 2021)."""
    nn, F = package.nn, package.nn.functional
    vocab, width, heads, layers, rank, alpha = 1000, 256, 8, 3, 8, 16

    class LoRALinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(width, width)
            self.lora_A = nn.Parameter(package.empty(rank, width))
            self.lora_B = nn.Parameter(package.zeros(width, rank))
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
            self.dropout = nn.Dropout(0.05)

        def forward(self, x: Any) -> Any:
            change = self.dropout(x) @ self.lora_A.T @ self.lora_B.T
            return self.base(x) + change * (alpha / rank)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.v = LoRALinear(), LoRALinear()
            self.k, self.o = nn.Linear(width, width), nn.Linear(width, width)
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.mlp = nn.Sequential(
                nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            )

        def forward(self, x: Any) -> Any:
            y = self.norm1(x)
            q, k, v = (
                part(y).unflatten(-1, (heads, -1)).transpose(1, 2)
                for part in (self.q, self.k, self.v)
            )
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.o(y.transpose(1, 2).flatten(2))
            return x + self.mlp(self.norm2(x))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.positions = nn.Embedding(vocab, width), nn.Embedding(128, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)
            for name, parameter in self.named_parameters():
                parameter.requires_grad_("lora_" in name)

        def forward(self, ids: Any) -> Any:
            x = self.words(ids) + self.positions(package.arange(ids.size(1)))
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return next_token(package, GPT(), vocab, 4, 64)


def alibi(package: Any) -> Built:
    """A GPT of bytes without positions: attention falls linearly with distance, by a slope for each
    head (Press et al. 2022)."""
    nn, F = package.nn, package.nn.functional
    width, heads, layers = 128, 4, 3

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any, bias: Any) -> Any:
            q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
            q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
            scores = q @ k.transpose(-2, -1) * (width // heads) ** -0.5 + bias
            y = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(x.shape)
            x = x + self.o(y)
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(256, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256)
            slopes = package.tensor([2 ** (-8 * (i + 1) / heads) for i in range(heads)])
            self.register_buffer("slopes", slopes)

        def forward(self, ids: Any) -> Any:
            places = package.arange(ids.size(1))
            distance = places[None, :] - places[:, None]
            bias = self.slopes[:, None, None] * distance
            bias = bias.masked_fill(distance > 0, float("-inf"))
            x = self.embedding(ids)
            for block in self.blocks:
                x = block(x, bias)
            return self.head(self.norm(x))

    return next_token(package, GPT(), 256, 4, 128)


def reformer(package: Any) -> Built:
    """Attention within chunks of positions sorted by a hash of their keys, and to the chunk before
    (Kitaev et al. 2020)."""
    nn, F = package.nn, package.nn.functional
    vocab, width, heads, chunk, buckets = 256, 128, 4, 32, 8
    head = width // heads

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qk, self.v = (nn.Linear(width, width, bias=False) for _ in range(2))
            self.o = nn.Linear(width, width)
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.mlp = nn.Sequential(
                nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
            )
            self.register_buffer("rotation", package.randn(head, buckets // 2))

        def attend(self, qk: Any, v: Any) -> Any:
            """(batch, heads, time, head) of keys, which are also the queries, and values."""
            time = qk.size(2)
            rotated = qk.detach() @ self.rotation
            bucket = package.cat([rotated, -rotated], dim=-1).argmax(dim=-1)
            order = package.argsort(bucket * time + package.arange(time), dim=-1)
            undo = package.argsort(order, dim=-1)
            rows = order.unsqueeze(-1).expand(-1, -1, -1, head)
            qk, v = package.gather(qk, 2, rows), package.gather(v, 2, rows)
            q = qk.unflatten(2, (-1, chunk))
            k, v = F.normalize(qk, dim=-1).unflatten(2, (-1, chunk)), v.unflatten(2, (-1, chunk))
            place = order.unflatten(2, (-1, chunk))
            k, v = (package.cat([part, part.roll(1, dims=2)], dim=3) for part in (k, v))
            other = package.cat([place, place.roll(1, dims=2)], dim=3).unsqueeze(-2)
            scores = package.einsum("bhcid,bhcjd->bhcij", q, k) * head**-0.5
            place = place.unsqueeze(-1)
            scores = scores.masked_fill(other > place, -1e9).masked_fill(other == place, -1e5)
            weights = package.exp(scores - package.logsumexp(scores, dim=-1, keepdim=True))
            out = package.einsum("bhcij,bhcjd->bhcid", weights, v).flatten(2, 3)
            return package.gather(out, 2, undo.unsqueeze(-1).expand(-1, -1, -1, head))

        def forward(self, x: Any) -> Any:
            y = self.norm1(x)
            qk, v = (
                part(y).view(*x.shape[:2], heads, head).transpose(1, 2)
                for part in (self.qk, self.v)
            )
            x = x + self.o(self.attend(qk, v).transpose(1, 2).reshape(x.shape))
            return x + self.mlp(self.norm2(x))

    class Reformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.places = nn.Embedding(vocab, width), nn.Embedding(256, width)
            self.blocks = nn.Sequential(Block(), Block())
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab)

        def forward(self, ids: Any) -> Any:
            x = self.embedding(ids) + self.places.weight[: ids.size(1)]
            return self.head(self.norm(self.blocks(x)))

    return next_token(package, Reformer(), vocab, 2, 256)


def clip(package: Any) -> Built:
    """Images and their captions: each image's nearest caption is its own, and the reverse (Radford
    et al. 2021)."""
    nn, F = package.nn, package.nn.functional
    width, time, pairs = 128, 24, 16

    def encoder() -> Any:
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    class CLIP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, width, 8, 8, bias=False)
            self.token = nn.Parameter(package.randn(width) * width**-0.5)
            self.places = nn.Parameter(package.randn(17, width) * width**-0.5)
            self.image, self.image_head = encoder(), nn.Linear(width, 64, bias=False)
            self.words = nn.Embedding(1000, width)
            self.text_places = nn.Parameter(package.randn(time, width) * 0.01)
            self.text, self.text_head = encoder(), nn.Linear(width, 64, bias=False)
            self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
            self.logit_scale = nn.Parameter(package.ones([]) * math.log(1 / 0.07))
            causal = package.full((time, time), float("-inf")).triu_(1)
            self.register_buffer("causal", causal)

        def forward(self, images: Any, ids: Any) -> Any:
            x = self.patches(images).flatten(2).permute(0, 2, 1)
            x = package.cat([self.token.expand(len(x), 1, -1), x], dim=1) + self.places
            seen = self.image_head(self.norms[0](self.image(x)[:, 0]))
            x = self.norms[1](self.text(self.words(ids) + self.text_places, mask=self.causal))
            read = self.text_head(x[package.arange(len(ids)), ids.argmax(dim=-1)])
            seen = seen / seen.norm(dim=1, keepdim=True)
            read = read / read.norm(dim=1, keepdim=True)
            logits = self.logit_scale.exp() * seen @ read.t()
            own = package.arange(len(ids))
            return (F.cross_entropy(logits, own) + F.cross_entropy(logits.t(), own)) / 2

    model = CLIP()
    draws = np.random.default_rng(0)
    ids = draws.integers(1, 999, (pairs, time))
    ids[np.arange(pairs), draws.integers(6, time, pairs)] = 999  # the end of the text
    return model, model, [draws.standard_normal((pairs, 3, 32, 32), dtype=np.float32), ids]


MODELS = [
    TrainingModel("BERT 3 x 128, 8 x 64", bert),
    TrainingModel("T5 3 x 128, 4 x 96", t5),
    TrainingModel("GPT with LoRA 3 x 256, 4 x 64", lora),
    TrainingModel("GPT with ALiBi 3 x 128, 4 x 128", alibi),
    TrainingModel("Reformer 2 x 128, 2 x 256", reformer),
    TrainingModel("CLIP 2 + 2 x 128, 16", clip),
]
