"""Visit the graph that a forward pass records, and do the backward pass by hand.

    python examples/micrograd_style.py

Karpathy's micrograd (2020) shows that reverse-mode differentiation needs three things: each
operation stores its inputs, each has its local derivative, and the chain rule is applied from the
result back to the leaves. The nodes that `gradient` records have the same three things. This script
prints them for one neuron, repeats `backward()` in ten lines, and compares the results.
"""

from typing import Any

import gradient


def neuron() -> tuple[dict[str, gradient.Tensor], gradient.Tensor]:
    """tanh(w1 x1 + w2 x2 + b) for fixed numbers: the leaves by name, and the result."""
    leaves = {
        name: gradient.tensor(value, dtype=gradient.float64, requires_grad=True)
        for name, value in {"x1": 2.0, "x2": 0.5, "w1": -3.0, "w2": 1.0, "b": 6.9}.items()
    }
    x1, x2, w1, w2, b = leaves.values()
    return leaves, (x1 * w1 + x2 * w2 + b).tanh()


def graph(result: gradient.Tensor) -> list[Any]:
    """All nodes that `result` depends on, newest first.

    A node is made after its parents, so the order of creation is a topological order. In reverse
    order, a node's gradient is complete before it is passed to its parents.
    """
    found, pending = set(), [result.node]
    while pending:
        node = pending.pop()
        if node is not None and node not in found:
            found.add(node)
            pending.extend(node.parents)
    return sorted(found, key=lambda node: node.sequence_nr, reverse=True)


def describe(nodes: list[Any], names: dict[Any, str]) -> None:
    """Print each node's op, its parents, and the arrays that it keeps for its gradient."""
    labels = {node: names.get(node, f"n{node.sequence_nr}") for node in nodes}
    for node in reversed(nodes):
        if node.op is None:
            print(f"{labels[node]:>4}  leaf")
            continue
        inputs = ", ".join("a constant" if p is None else labels[p] for p in node.parents)
        kept = ", ".join(
            f"{name} = {float(value):.4g}"
            for name, value in zip(node.op.saved_names, node.saved, strict=True)
            if value is not None
        )
        print(f"{labels[node]:>4}  {node.op.name}({inputs})   keeps {kept or 'nothing'}")


def backward_by_hand(result: gradient.Tensor) -> dict[Any, float]:
    """The derivative of `result` with respect to each node: the chain rule, newest node first."""
    gradients = {result.node: 1.0}
    for node in graph(result):
        if node.op is None:
            continue
        # The op's rules compute a gradient for each input from the result's gradient. (The engine
        # also sums it over the axes along which the input was broadcast, for all ops.)
        shares = node.op.vjp(node, gradients[node], node.parents)
        for parent, share in zip(node.parents, shares, strict=True):
            if parent is not None:
                gradients[parent] = gradients.get(parent, 0.0) + share
    return gradients


def main() -> dict[str, tuple[float, float]]:
    leaves, result = neuron()
    nodes = graph(result)
    describe(nodes, {leaf.node: name for name, leaf in leaves.items()})

    by_hand = backward_by_hand(result)
    result.backward()
    gradients = {
        name: (by_hand[leaf.node], leaf.grad.item())
        for name, leaf in leaves.items()
        if leaf.grad is not None
    }
    print(f"\nresult {result.item():.6f}\n\n  leaf  by hand    backward()")
    for name, (own, theirs) in gradients.items():
        print(f"  {name:4}  {own:9.6f}  {theirs:9.6f}")
    return gradients


if __name__ == "__main__":
    main()
