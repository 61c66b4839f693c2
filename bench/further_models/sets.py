"""Models of graphs, sets and points."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.training_models import Built, TrainingModel


def graph_convolutions(package: Any) -> Built:
    """Each node adds up its neighbours' features, divided by the roots of both degrees (Kipf &
    Welling 2017)."""
    nn, F = package.nn, package.nn.functional
    nodes, features, hidden, classes = 1500, 256, 64, 7
    draws = np.random.default_rng(0)

    class Convolution(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.linear = nn.Linear(inputs, outputs, bias=False)
            self.bias = nn.Parameter(package.zeros(outputs))

        def forward(self, x: Any, edges: Any) -> Any:
            source, target = edges
            degree = package.zeros(len(x), dtype=x.dtype)
            degree = degree.index_add(0, target, package.ones_like(target, dtype=x.dtype))
            root = degree.pow(-0.5)
            x = self.linear(x)
            messages = x[source] * (root[source] * root[target]).unsqueeze(-1)
            return package.zeros_like(x).index_add_(0, target, messages) + self.bias

    class GCN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Convolution(features, hidden), Convolution(hidden, classes)
            self.dropout = nn.Dropout(0.2)
            self.register_buffer("edges", package.tensor(_edges(draws, nodes, 4)))

        def forward(self, x: Any) -> Any:
            x = self.dropout(F.relu(self.first(self.dropout(x), self.edges)))
            return self.second(x, self.edges)

    return _nodes(package, GCN(), draws, nodes, features, classes)


def graph_attention(package: Any) -> Built:
    """Each node averages its neighbours' features, with weights that are a softmax over its edges
    (8 heads; Veličković et al. 2018)."""
    nn, F = package.nn, package.nn.functional
    nodes, features, heads, hidden, classes = 1000, 256, 8, 8, 7
    draws = np.random.default_rng(0)

    class Attention(nn.Module):
        def __init__(self, inputs: int, heads: int, outputs: int) -> None:
            super().__init__()
            self.shape = (-1, heads, outputs)
            self.linear = nn.Linear(inputs, heads * outputs, bias=False)
            self.from_source = nn.Parameter(package.randn(1, heads, outputs) * 0.1)
            self.from_target = nn.Parameter(package.randn(1, heads, outputs) * 0.1)
            self.dropout = nn.Dropout(0.2)

        def forward(self, x: Any, edges: Any) -> Any:
            source, target = edges[0], edges[1]
            h = self.linear(x).view(self.shape)
            of_source, of_target = (h * self.from_source).sum(-1), (h * self.from_target).sum(-1)
            scores = F.leaky_relu(of_source[source] + of_target[target], 0.2)
            index = target.unsqueeze(-1).expand_as(scores)
            most = scores.new_full((len(x), scores.size(1)), float("-inf"))
            most = most.scatter_reduce(0, index, scores.detach(), reduce="amax")
            weights = package.exp(scores - most[target])
            total = package.zeros_like(most).scatter_add(0, index, weights)
            weights = self.dropout(weights / (total[target] + 1e-16))
            out = package.zeros_like(h)
            return out.index_add(0, target, h[source] * weights.unsqueeze(-1))

    class GAT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Attention(features, heads, hidden)
            self.second = Attention(heads * hidden, 1, classes)
            self.dropout = nn.Dropout(0.2)
            self.register_buffer("edges", package.tensor(_edges(draws, nodes, 4)))

        def forward(self, x: Any) -> Any:
            x = F.elu(self.first(self.dropout(x), self.edges).flatten(1))
            return self.second(self.dropout(x), self.edges).mean(1)

    return _nodes(package, GAT(), draws, nodes, features, classes)


def message_passing(package: Any) -> Built:
    """Networks of the features of both ends of each edge, added up at the nodes, and the mean of
    each graph's nodes (Gilmer et al. 2017; Satorras et al. 2021)."""
    nn, F = package.nn, package.nn.functional
    graphs, atoms, width = 16, 18, 64

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.edge = nn.Sequential(
                nn.Linear(2 * width + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
            )
            self.node = nn.Sequential(
                nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width)
            )

        def forward(self, h: Any, source: Any, target: Any, distance: Any) -> Any:
            message = self.edge(package.cat([h[target], h[source], distance], dim=1))
            received = h.new_zeros(len(h), width)
            received.scatter_add_(0, target.unsqueeze(1).expand(-1, width), message)
            return h + self.node(package.cat([h, received], dim=1))

    draws = np.random.default_rng(0)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, width)
            self.layers = nn.ModuleList([Layer() for _ in range(3)])
            self.head = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
            pairs = np.array([(i, j) for i in range(atoms) for j in range(atoms) if i != j]).T
            edges = np.concatenate([pairs + atoms * g for g in range(graphs)], 1)
            self.register_buffer("edges", package.tensor(edges))
            self.register_buffer("graph", package.arange(graphs).repeat_interleave(atoms))
            kinds = package.tensor(draws.integers(0, 5, graphs * atoms))
            self.register_buffer("kinds", kinds)

        def forward(self, places: Any) -> Any:
            source, target = self.edges
            difference = places[source] - places[target]
            distance = (difference**2).sum(dim=1, keepdim=True)
            h = self.embedding(self.kinds)
            for layer in self.layers:
                h = layer(h, source, target, distance)
            total = h.new_zeros(graphs, width).index_add(0, self.graph, h)
            count = h.new_zeros(graphs).index_add(0, self.graph, h.new_ones(len(h)))
            return self.head(total / count.unsqueeze(1)).squeeze(1)

    model = Network()
    places = draws.standard_normal((graphs * atoms, 3), dtype=np.float32)

    def loss(x: Any, y: Any) -> Any:
        return F.l1_loss(model(x), y)

    return model, loss, [places, draws.standard_normal(graphs, dtype=np.float32)]


def point_net(package: Any) -> Built:
    """The same network for each point and the maximum over all points; the points are first turned
    by a matrix that a smaller such network predicts (Qi et al. 2017)."""
    nn, F = package.nn, package.nn.functional

    def shared(*widths: int) -> Any:
        layers = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv1d(inputs, outputs, 1), nn.BatchNorm1d(outputs), nn.ReLU()]
        return nn.Sequential(*layers)

    class Turn(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.size = size
            self.points = shared(size, 32, 64, 128)
            self.head = nn.Sequential(
                nn.Linear(128, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, size * size)
            )

        def forward(self, x: Any) -> Any:
            x = self.head(package.max(self.points(x), 2)[0])
            return x.view(-1, self.size, self.size) + package.eye(self.size)

    class PointNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn, self.turn_features = Turn(3), Turn(32)
            self.first, self.second = shared(3, 32), shared(32, 64, 256)
            self.head = nn.Sequential(
                *(nn.Linear(256, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.3)),
                nn.Linear(128, 10),
            )

        def forward(self, points: Any) -> tuple[Any, Any]:
            x = points.transpose(2, 1)
            x = package.bmm(x.transpose(2, 1), self.turn(x)).transpose(2, 1)
            x = self.first(x)
            turn = self.turn_features(x)
            x = package.bmm(x.transpose(2, 1), turn).transpose(2, 1)
            return self.head(package.max(self.second(x), 2)[0]), turn

    model = PointNet()

    def loss(x: Any, y: Any) -> Any:
        scores, turn = model(x)
        skew = package.bmm(turn, turn.transpose(2, 1)) - package.eye(turn.size(1))
        return F.cross_entropy(scores, y) + 0.001 * package.norm(skew, dim=(1, 2)).mean()

    draws = np.random.default_rng(0)
    points = draws.standard_normal((16, 256, 3), dtype=np.float32)
    return model, loss, [points, draws.integers(0, 10, 16)]


def deep_sets(package: Any) -> Built:
    """Layers that subtract the maximum over the set from each element's features (Zaheer et al.
    2017)."""
    nn, F = package.nn, package.nn.functional

    class Equivariant(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.each = nn.Linear(inputs, outputs)
            self.all = nn.Linear(inputs, outputs, bias=False)

        def forward(self, x: Any) -> Any:
            most, _ = x.max(dim=1, keepdim=True)
            return self.each(x) - self.all(most)

    layers = [Equivariant(3, 128), nn.Tanh(), Equivariant(128, 128), nn.Tanh()]
    phi = nn.Sequential(*layers, Equivariant(128, 128), nn.Tanh())
    rho = nn.Sequential(
        *(nn.Dropout(0.2), nn.Linear(128, 128), nn.Tanh()),
        *(nn.Dropout(0.2), nn.Linear(128, 10)),
    )

    def loss(x: Any, y: Any) -> Any:
        return F.cross_entropy(rho(phi(x).sum(dim=1)), y)

    draws = np.random.default_rng(0)
    points = draws.standard_normal((32, 100, 3), dtype=np.float32)
    return nn.ModuleList([phi, rho]), loss, [points, draws.integers(0, 10, 32)]


def set_transformer(package: Any) -> Built:
    """Attention of a set to itself through 16 learned points, and of learned seeds to the set (Lee
    et al. 2019)."""
    nn, F = package.nn, package.nn.functional
    width, heads = 64, 4

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
            self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
            self.linear = nn.Linear(width, width)

        def forward(self, x: Any, y: Any, absent: Any = None) -> Any:
            attended, _ = self.attention(x, y, y, key_padding_mask=absent, need_weights=False)
            x = self.norms[0](x + attended)
            return self.norms[1](x + F.relu(self.linear(x)))

    class Induced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.points = nn.Parameter(package.empty(1, 16, width))
            nn.init.xavier_uniform_(self.points)
            self.gather, self.spread = Attend(), Attend()

        def forward(self, x: Any, absent: Any) -> Any:
            points = self.gather(self.points.repeat(x.size(0), 1, 1), x, absent)
            return self.spread(x, points)

    class SetTransformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.first, self.second = nn.Linear(2, width), Induced(), Induced()
            self.seeds = nn.Parameter(package.empty(1, 4, width))
            nn.init.xavier_uniform_(self.seeds)
            self.pool, self.together, self.head = Attend(), Attend(), nn.Linear(width, 5)

        def forward(self, x: Any) -> Any:
            absent = package.isnan(x[..., 0])
            x = self.embed(package.nan_to_num(x))
            x = self.second(self.first(x, absent), absent)
            x = self.pool(self.seeds.repeat(x.size(0), 1, 1), x, absent)
            return self.head(self.together(x, x))

    model = SetTransformer()
    draws = np.random.default_rng(0)
    points = draws.standard_normal((16, 80, 2), dtype=np.float32)
    points[np.arange(80) >= draws.integers(50, 81, 16)[:, None]] = np.nan

    def loss(x: Any, y: Any) -> Any:
        return F.smooth_l1_loss(model(x), y)

    return model, loss, [points, draws.standard_normal((16, 4, 5), dtype=np.float32)]


def _edges(draws: np.random.Generator, nodes: int, degree: int) -> np.ndarray:
    """(2, edges): random edges in both directions, and one from each node to itself."""
    ends = draws.integers(0, nodes, (2, nodes * degree // 2))
    own = np.tile(np.arange(nodes), (2, 1))
    return np.concatenate([ends, ends[::-1], own], 1)


def _nodes(
    package: Any, model: Any, draws: np.random.Generator, nodes: int, features: int, classes: int
) -> Built:
    """A class for each node, known for a tenth of them."""
    labels = draws.integers(0, classes, nodes)
    known = package.tensor(np.arange(0, nodes, 10))

    def loss(x: Any, y: Any) -> Any:
        scores = package.nn.functional.log_softmax(model(x), dim=1)
        return package.nn.functional.nll_loss(scores[known], y[known])

    return model, loss, [draws.standard_normal((nodes, features), dtype=np.float32), labels]


MODELS = [
    TrainingModel("GCN 2 x 64, 1500 nodes", graph_convolutions),
    TrainingModel("GAT 8 x 8, 1000 nodes", graph_attention),
    TrainingModel("Message passing 3 x 64, 16 x 18 nodes", message_passing),
    TrainingModel("PointNet, 16 x 256", point_net),
    TrainingModel("Deep Sets 3 x 128, 32 x 100", deep_sets),
    TrainingModel("Set Transformer 2 x 64, 16 x 80", set_transformer),
]
