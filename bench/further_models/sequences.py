"""Models of sequences: text here, in `language` and `experts`, states step by step in
`recurrences`, sound and time series in `series`, sets and graphs in `sets`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.further_models import experts, language, recurrences, series, sets
from bench.further_models.supervision import supervised
from bench.training_models import Built, TrainingModel


def attentive_translation(package: Any) -> Built:
    """A bidirectional GRU, and a GRU that attends to its states before every word of the
    translation (Bahdanau et al. 2015)."""
    nn, F = package.nn, package.nn.functional
    vocab, width = 1000, 128

    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source = nn.Embedding(vocab, width, padding_idx=0)
            self.target = nn.Embedding(vocab, width, padding_idx=0)
            self.encoder = nn.GRU(width, width, batch_first=True, bidirectional=True)
            self.bridge = nn.Linear(2 * width, width)
            self.query = nn.Linear(width, width, bias=False)
            self.key = nn.Linear(2 * width, width, bias=False)
            self.score = nn.Linear(width, 1, bias=False)
            self.decoder = nn.GRUCell(3 * width, width)
            self.head = nn.Linear(width, vocab)

        def forward(self, source: Any, target: Any) -> Any:
            states, last = self.encoder(self.source(source))
            hidden = package.tanh(self.bridge(package.cat([last[0], last[1]], dim=-1)))
            keys, padding = self.key(states), source == 0
            words, outputs = self.target(target), []
            for t in range(target.size(1)):
                energy = package.tanh(self.query(hidden).unsqueeze(1) + keys)
                scores = self.score(energy).squeeze(-1).masked_fill(padding, float("-inf"))
                weights = F.softmax(scores, dim=-1)
                context = package.bmm(weights.unsqueeze(1), states).squeeze(1)
                hidden = self.decoder(package.cat([words[:, t], context], dim=1), hidden)
                outputs.append(hidden)
            return self.head(package.stack(outputs, dim=1))

    return _translation(package, Translator(), vocab, 16, 20)


def transformer(package: Any) -> Built:
    """An encoder and a decoder, with a causal mask and padding masks (Vaswani et al. 2017)."""
    nn = package.nn
    vocab, width = 1000, 128

    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source = nn.Embedding(vocab, width, padding_idx=0)
            self.target = nn.Embedding(vocab, width, padding_idx=0)
            place = package.arange(64).unsqueeze(1)
            rate = package.exp(package.arange(0, width, 2) * (-math.log(10000.0) / width))
            positions = package.zeros(64, width)
            positions[:, 0::2] = package.sin(place * rate)
            positions[:, 1::2] = package.cos(place * rate)
            self.register_buffer("positions", positions)
            self.transformer = nn.Transformer(width, 4, 2, 2, 512, dropout=0.1, batch_first=True)
            self.head = nn.Linear(width, vocab)

        def embed(self, embedding: Any, ids: Any) -> Any:
            return embedding(ids) * math.sqrt(width) + self.positions[: ids.size(1)]

        def forward(self, source: Any, target: Any) -> Any:
            steps = target.size(1)
            causal = package.triu(package.ones(steps, steps, dtype=package.bool), diagonal=1)
            hidden = self.transformer(
                self.embed(self.source, source),
                self.embed(self.target, target),
                tgt_mask=causal,
                src_key_padding_mask=source == 0,
                tgt_key_padding_mask=target == 0,
                memory_key_padding_mask=source == 0,
            )
            return self.head(hidden)

    return _translation(package, Translator(), vocab, 8, 32)


def text_cnn(package: Any) -> Built:
    """Convolutions of three widths over word vectors, and the maximum over time (Kim 2014)."""
    nn, F = package.nn, package.nn.functional

    class TextCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5000, 128, padding_idx=0)
            self.convolutions = nn.ModuleList([nn.Conv1d(128, 100, k) for k in (3, 4, 5)])
            self.dropout, self.head = nn.Dropout(0.2), nn.Linear(300, 5)

        def forward(self, ids: Any) -> Any:
            x = self.embedding(ids).transpose(1, 2)
            features = [F.relu(convolution(x)) for convolution in self.convolutions]
            pooled = [F.max_pool1d(f, f.size(2)).squeeze(2) for f in features]
            return self.head(self.dropout(package.cat(pooled, dim=1)))

    draws = np.random.default_rng(0)
    ids = draws.integers(1, 5000, (50, 56))
    ids[::3, 40:] = 0
    return supervised(TextCNN(), F.cross_entropy, ids, draws.integers(0, 5, 50))


def fast_text(package: Any) -> Built:
    """The mean of the vectors of a text's words and n-grams (Joulin et al. 2017)."""
    nn, F = package.nn, package.nn.functional
    draws = np.random.default_rng(0)
    lengths = draws.integers(20, 120, 128)

    class FastText(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.EmbeddingBag(20000, 64, mode="mean")
            self.head = nn.Linear(64, 4)
            offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            self.register_buffer("offsets", package.tensor(offsets))

        def forward(self, ids: Any) -> Any:
            return self.head(self.embedding(ids, self.offsets))

    model = FastText()
    ids = draws.integers(0, 20000, int(lengths.sum()))

    def loss(x: Any, y: Any) -> Any:
        return F.cross_entropy(model(x), y)

    return model, loss, [ids, draws.integers(0, 4, len(lengths))]


def packed_classifier(package: Any) -> Built:
    """A bidirectional LSTM over texts of different lengths, packed; the two last states of each
    are classified (Graves & Schmidhuber 2005)."""
    nn = package.nn
    rnn = nn.utils.rnn
    draws = np.random.default_rng(0)
    lengths = draws.integers(8, 41, 24)
    lengths[5] = 40

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(2000, 100, padding_idx=0)
            self.lstm = nn.LSTM(100, 128, batch_first=True, bidirectional=True)
            self.dropout, self.head = nn.Dropout(0.3), nn.Linear(256, 5)

        def forward(self, ids: Any) -> Any:
            packed = rnn.pack_padded_sequence(
                self.embedding(ids), self.lengths, batch_first=True, enforce_sorted=False
            )
            _, (last, _) = self.lstm(packed)
            return self.head(self.dropout(package.cat([last[-2], last[-1]], dim=1)))

    model = Classifier()
    model.lengths = lengths.tolist()
    ids = draws.integers(1, 2000, (24, 40))
    ids[np.arange(40) >= lengths[:, None]] = 0
    return supervised(model, nn.functional.cross_entropy, ids, draws.integers(0, 5, 24))


def lstm_cells(package: Any) -> Built:
    """A language model of two LSTM cells in a loop, with the same dropout at every step (Gal &
    Ghahramani 2016)."""
    nn, F = package.nn, package.nn.functional
    vocab, width = 1000, 128

    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocab, width)
            self.cells = nn.ModuleList([nn.LSTMCell(width, width) for _ in range(2)])
            self.dropout, self.head = nn.Dropout(0.2), nn.Linear(width, vocab)

        def forward(self, ids: Any) -> Any:
            words = self.embedding(ids)
            keep = self.dropout(package.ones_like(words[:, 0]))
            states = [
                (words.new_zeros(ids.size(0), width), words.new_zeros(ids.size(0), width))
                for _ in self.cells
            ]
            outputs = []
            for x in words.unbind(dim=1):
                for i, cell in enumerate(self.cells):
                    states[i] = cell(x, states[i])
                    x = states[i][0] * keep
                outputs.append(x)
            return self.head(package.stack(outputs, dim=1))

    model = Cells()
    ids = np.random.default_rng(0).integers(0, vocab, (20, 31))

    def loss(x: Any, y: Any) -> Any:
        return F.cross_entropy(model(x).transpose(1, 2), y)

    return model, loss, [ids[:, :-1].copy(), ids[:, 1:].copy()]


def lstm_crf(package: Any) -> Built:
    """Scores of tags by a bidirectional LSTM, and the probability of the whole sequence of tags by
    the forward algorithm (Huang et al. 2015)."""
    nn = package.nn
    tags = 12

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(2000, 100, padding_idx=0)
            self.lstm = nn.LSTM(100, 64, batch_first=True, bidirectional=True)
            self.emit = nn.Linear(128, tags)
            self.transitions = nn.Parameter(package.randn(tags, tags) * 0.1)
            self.start = nn.Parameter(package.zeros(tags))
            self.end = nn.Parameter(package.zeros(tags))

        def forward(self, ids: Any, y: Any) -> Any:
            scores, mask = self.emit(self.lstm(self.embedding(ids))[0]), ids != 0
            return (self.total(scores, mask) - self.of_path(scores, y, mask)).mean()

        def total(self, scores: Any, mask: Any) -> Any:
            alpha = self.start + scores[:, 0]
            for t in range(1, scores.size(1)):
                step = alpha.unsqueeze(2) + self.transitions + scores[:, t].unsqueeze(1)
                step = package.logsumexp(step, dim=1)
                alpha = package.where(mask[:, t].unsqueeze(1), step, alpha)
            return package.logsumexp(alpha + self.end, dim=1)

        def of_path(self, scores: Any, y: Any, mask: Any) -> Any:
            emitted = scores.gather(2, y.unsqueeze(2)).squeeze(2) * mask
            moves = self.transitions[y[:, :-1], y[:, 1:]] * mask[:, 1:]
            last = y.gather(1, mask.sum(dim=1, keepdim=True) - 1).squeeze(1)
            return self.start[y[:, 0]] + emitted.sum(1) + moves.sum(1) + self.end[last]

    model = Tagger()
    draws = np.random.default_rng(0)
    ids = draws.integers(1, 2000, (16, 40))
    ids[::2, 30:] = 0
    return model, model, [ids, draws.integers(0, tags, ids.shape)]


def pointer_network(package: Any) -> Built:
    """The order in which points are visited: at each step a distribution over the points that are
    left (Vinyals et al. 2015)."""
    nn, F = package.nn, package.nn.functional
    width, points = 128, 12

    class Pointer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(2, width)
            self.encoder = nn.LSTM(width, width, batch_first=True)
            self.decoder = nn.LSTMCell(width, width)
            self.first = nn.Parameter(package.zeros(width))
            self.w1, self.w2 = (nn.Linear(width, width, bias=False) for _ in range(2))
            self.v = nn.Parameter(package.randn(width) * width**-0.5)

        def forward(self, x: Any, order: Any) -> Any:
            embedded = self.embed(x)
            states, (h, c) = self.encoder(embedded)
            h, c = h[0], c[0]
            keys, inputs = self.w1(states), self.first.expand(len(x), -1)
            visited = package.zeros(len(x), points, dtype=package.bool)
            rows, losses = package.arange(len(x)), []
            for t in range(points):
                h, c = self.decoder(inputs, (h, c))
                scores = package.tanh(keys + self.w2(h)[:, None]) @ self.v
                scores = scores.masked_fill(visited, -1e9)
                losses.append(F.cross_entropy(scores, order[:, t]))
                visited = visited.scatter(1, order[:, t, None], True)
                inputs = embedded[rows, order[:, t]]
            return package.stack(losses).mean()

    model = Pointer()
    x = np.random.default_rng(0).random((64, points, 2), dtype=np.float32)
    return model, model, [x, np.argsort(x[:, :, 0], axis=1)]


def _translation(package: Any, model: Any, vocab: int, batch: int, time: int) -> Built:
    """Texts with padding 0 at the end, in two languages."""
    source, target = np.random.default_rng(0).integers(1, vocab, (2, batch, time + 1))
    source[::2, -5:] = target[1::2, -4:] = 0

    def loss(x: Any, y: Any) -> Any:
        logits = model(x, y[:, :-1])
        return package.nn.functional.cross_entropy(
            logits.reshape(-1, vocab), y[:, 1:].reshape(-1), ignore_index=0
        )

    return model, loss, [source, target]


TEXT = [
    TrainingModel("GRU translation with attention, 16 x 20", attentive_translation),
    TrainingModel("Transformer 2 + 2 x 128, 8 x 32", transformer),
    TrainingModel("TextCNN, 50 x 56", text_cnn),
    TrainingModel("fastText, 128", fast_text),
    TrainingModel("Packed LSTM, 24 x 40", packed_classifier),
    TrainingModel("LSTM cells 2 x 128, 20 x 30", lstm_cells),
    TrainingModel("LSTM-CRF, 16 x 40", lstm_crf),
    TrainingModel("Pointer network, 64 x 12", pointer_network),
]

MODELS = [
    *(*TEXT, *language.MODELS, *experts.MODELS, *recurrences.MODELS),
    *(*series.MODELS, *sets.MODELS),
]
