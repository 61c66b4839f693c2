"""PyTorch Geometric."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch

from cases import normal

CASES: dict[str, Any] = {}

SIZES = {"in_channels": 8, "out_channels": 4}
NET = {"in_channels": 8, "hidden_channels": 6, "num_layers": 2, "out_channels": 3}
EDGES = [[0, 1, 2, 3, 4, 0, 2, 1], [1, 2, 3, 4, 0, 2, 0, 3]]


def layer(name: str, options: dict[str, Any]) -> Any:
    library: Any = importlib.import_module("torch_geometric.nn")
    edges = torch.tensor(EDGES)
    return getattr(library, name)(**options), lambda m: m(normal(5, 8), edges)


for name, options in {
    "GCNConv": SIZES, "GATConv": {**SIZES, "heads": 2}, "GATv2Conv": {**SIZES, "heads": 2},
    "SAGEConv": SIZES, "ChebConv": {**SIZES, "K": 3}, "TransformerConv": {**SIZES, "heads": 2},
    "ARMAConv": SIZES, "TAGConv": SIZES, "GraphConv": SIZES, "GENConv": SIZES, "FiLMConv": SIZES,
    "EGConv": {**SIZES, "num_heads": 2}, "GatedGraphConv": {"out_channels": 8, "num_layers": 2},
    "APPNP": {"K": 3, "alpha": 0.1}, "GCN": NET, "GraphSAGE": NET, "GAT": NET, "GIN": NET,
}.items():  # fmt: skip
    CASES[f"torch_geometric: {name}"] = functools.partial(layer, name, options)


def pooling() -> Any:
    library: Any = importlib.import_module("torch_geometric.nn")
    groups = torch.tensor([0, 0, 1, 1, 1])
    names = ("global_mean_pool", "global_max_pool", "global_add_pool")
    return lambda: [getattr(library, name)(normal(5, 4), groups) for name in names]


CASES["torch_geometric: pooling"] = pooling
