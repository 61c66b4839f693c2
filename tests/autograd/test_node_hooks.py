"""Hooks on the graph's nodes, and on several gradients at once."""

from __future__ import annotations

from typing import Any

import pytest

import gradient
from gradient.autograd import graph  # type: ignore[attr-defined]


def leaf(*values: Any) -> gradient.Tensor:
    return gradient.tensor(values, dtype=gradient.float64, requires_grad=True)


def shown(grads: tuple[Any, ...]) -> list[Any]:
    return [None if g is None else g.tolist() for g in grads]


def test_hooks_see_the_gradients_of_inputs_and_results():
    x, w = leaf(1, 2), leaf([1, 1], [3, 4])
    seen: list[Any] = []
    y = x * w
    assert y.grad_fn is not None
    y.grad_fn.register_hook(lambda gi, go: seen.append((shown(gi), shown(go))))
    y.sum().backward()
    ones = [[1.0, 1.0], [1.0, 1.0]]
    assert seen == [([[4, 5], [[1, 2], [1, 2]]], [ones])]  # summed over what was broadcast


def test_an_input_that_needs_no_gradient_has_none():
    x, c = leaf(1, 2), leaf(3, 4)
    seen: list[Any] = []
    y = x * c
    y.grad_fn.register_hook(lambda gi, go: seen.append(shown(gi)))
    gradient.autograd.grad(y.sum(), x)
    assert seen == [[[3, 4], None]]


def test_results_replace_one_after_another():
    x = leaf(1, 2)
    y = x * 2
    for _ in range(2):
        y.grad_fn.register_prehook(lambda go: (go[0] * 3,))
        y.grad_fn.register_hook(lambda gi, go: (gi[0] * 5, None))
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [450, 450]


def test_the_order_of_hooks_and_what_retain_grad_keeps():
    x = leaf(1)
    y = x * 2
    y.retain_grad()
    order: list[str] = []
    y.grad_fn.register_hook(lambda gi, go: order.append("node"))
    y.grad_fn.register_prehook(lambda go: (order.append("pre"), (go[0] * 7,))[1])
    y.register_hook(lambda g: order.append("tensor"))
    y.sum().backward()
    assert order == ["tensor", "pre", "node"]
    assert y.grad is not None and y.grad.tolist() == [1]  # as it came, before the node's own hooks
    assert x.grad is not None and x.grad.tolist() == [14]


def test_none_in_place_of_all_gradients_ends_there():
    x = leaf(1)
    y = x * 2
    y.grad_fn.register_prehook(lambda go: (None,))
    y.sum().backward()
    assert x.grad is None


def test_removed_hooks_are_not_called():
    x = leaf(1)
    y = x * 2
    handle = y.grad_fn.register_hook(lambda gi, go: (gi[0] * 5, None))
    with y.grad_fn.register_prehook(lambda go: (go[0] * 5,)):
        pass
    handle.remove()
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2]


def test_what_hooks_do_is_differentiated():
    x = leaf(1, 2)
    y = x**3
    y.grad_fn.register_hook(lambda gi, go: (gi[0] * x,))  # what has no gradient is left out
    (first,) = gradient.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = gradient.autograd.grad(first.sum(), x)
    assert (first.tolist(), second.tolist()) == ([3, 24], [9, 36])


def test_an_op_of_several_results_has_one_node():
    x = leaf(1, 2)
    a, b = (x * 2).chunk(2)
    seen: list[Any] = []
    assert a.grad_fn is b.grad_fn and (a.output_nr, b.output_nr) == (0, 1)
    a.grad_fn.register_hook(lambda gi, go: seen.append((shown(gi), shown(go))))
    a.sum().backward()
    assert seen == [([[1, 0]], [[1], None])]


def test_hooks_of_a_leafs_node():
    x = leaf(1, 2)
    ((accumulate, _),) = (x * 1).grad_fn.next_functions[:1]
    seen: list[Any] = []
    accumulate.register_prehook(lambda go: (go[0] * 10,))
    accumulate.register_hook(lambda gi, go: seen.append((gi, shown(go), x.grad.tolist())))
    (x * 3).sum().backward()
    (x * 3).sum().backward(inputs=[x])
    assert seen == [((), [[30, 30]], [30, 30]), ((), [[30, 30]], [60, 60])]
    assert gradient.autograd.grad((x * 3).sum(), x)[0].tolist() == [3, 3]  # nothing accumulates
    accumulate.register_prehook(lambda go: (None,))
    (x * 3).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [60, 60] and len(seen) == 2


def test_hooks_of_complex_nodes_see_gradients_as_users_do():
    x = gradient.tensor([1 + 2j], requires_grad=True)
    seen: list[Any] = []
    y = x * (3 + 1j)
    y.grad_fn.register_hook(lambda gi, go: seen.append((shown(gi)[0], shown(go))))
    (y * 1j).real.sum().backward()
    assert x.grad is not None
    assert seen == [(x.grad.tolist(), [[-1j]])]


@pytest.mark.parametrize(
    ("before", "after", "kind", "message"),
    [
        (
            None,
            lambda gi, go: gi[0],
            TypeError,
            "a hook of MulBackward0 is to return None or",
        ),
        (lambda go: go[0], None, TypeError, "None or a tuple, got Tensor"),
        (lambda go: (), None, RuntimeError, "given 1 gradients and returned 0"),
        (None, lambda gi, go: gi * 2, RuntimeError, "given 2 gradients and returned 4"),
        (None, lambda gi, go: (3, None), TypeError, "Tensors or None, got int"),
        (None, lambda gi, go: (gi[0], gi[0]), RuntimeError, "where there is none"),
        (None, lambda gi, go: (gi[0].sum(), None), RuntimeError, r"shape \(1,\) and returned one"),
        (None, lambda gi, go: (gi[0].float(), None), RuntimeError, "dtype float64 and returned"),
    ],
)
def test_what_cannot_replace_is_refused(before, after, kind, message):
    y = leaf(1) * 2
    if before:
        y.grad_fn.register_prehook(before)
    if after:
        y.grad_fn.register_hook(after)
    with pytest.raises(kind, match=message):
        y.sum().backward()


def test_a_compiled_function_calls_the_hooks_of_its_leaves():
    x = leaf(1, 2)
    (x * 1).grad_fn.next_functions[0][0].register_prehook(lambda go: (go[0] * 10,))

    @gradient.compile
    def step() -> None:
        (x * 3).sum().backward()

    for i in range(1, 6):
        step()
        assert x.grad is not None and x.grad.tolist() == [30 * i, 30 * i]


def test_all_gradients_at_once():
    x, y, z = leaf(1, 2), leaf(3, 4), leaf(5, 6)
    every: list[Any] = []
    first: list[Any] = []
    handle = graph.register_multi_grad_hook((x, y, z), lambda g: every.append(shown(g)))
    graph.register_multi_grad_hook((x, y, z), lambda g: first.append(g.tolist()), mode="any")
    (x * y).sum().backward()
    (x * y).sum().backward()
    (x * y * z).sum().backward(inputs=[z])
    assert every == [[[3, 4], [1, 2], None]] * 2 + [[None, None, [3, 8]]]
    assert len(first) == 3
    handle.remove()
    (x * y).sum().backward()
    assert len(every) == 3 and len(first) == 4
    with pytest.raises(ValueError, match="mode 'all' or 'any'"):
        graph.register_multi_grad_hook((x,), print, mode="some")
    with pytest.raises(RuntimeError, match="tensors that require a gradient"):
        graph.register_multi_grad_hook((x, gradient.ones(1)), print)


def test_edges_of_tensors():
    x = leaf(1, 2)
    _, b = (x * 2).chunk(2)
    assert graph.get_gradient_edge(b)[:2] == (b.grad_fn, 1)
    assert graph.get_gradient_edge(x).node.name() == "AccumulateGrad"
    with pytest.raises(RuntimeError, match="a tensor that requires a gradient"):
        graph.get_gradient_edge(gradient.ones(1))


def test_writes_that_nobody_sees_are_told():
    x = leaf(1, 2)
    y = x * x
    graph.increment_version(x.detach())
    with pytest.raises(RuntimeError, match="increment_version"):
        y.sum().backward()


def test_an_edge_stands_for_its_tensor_in_a_backward_pass():
    x = gradient.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    (first, second), shape = y.unbind(0), y.shape
    z = (y * y).sum() + first * 5 + second * 7
    edges = [graph.get_gradient_edge(t) for t in (x, y, second)]
    del y, second
    grads = gradient.autograd.grad(z, edges, retain_graph=True)
    assert [g.tolist() for g in grads] == [[33.0, 57.0], [11.0, 19.0], 7.0]
    assert grads[1].shape == shape
    (of_root,) = gradient.autograd.grad(graph.get_gradient_edge(z), x, retain_graph=True)
    assert of_root.tolist() == [33.0, 57.0]
    (same,) = gradient.autograd.grad(z, [edges[0]], gradient.tensor(2.0), retain_graph=True)
    assert same.tolist() == [66.0, 114.0]
    gradient.autograd.backward(z, inputs=edges[0], retain_graph=True)
    assert x.grad.tolist() == [33.0, 57.0]
    lone = gradient.ones(2, requires_grad=True)
    none, zeros = (
        gradient.autograd.grad(z, graph.get_gradient_edge(lone), retain_graph=True, **option)[0]
        for option in ({"allow_unused": True}, {"materialize_grads": True})
    )
    assert none is None and zeros.tolist() == [0.0, 0.0]
    part = (x * 2).unbind(0)[1]
    with pytest.raises(RuntimeError, match="edges as autograd.graph.get_gradient_edge gives them"):
        gradient.autograd.grad(part, graph.GradientEdge(part.grad_fn, 1))


def test_a_graph_of_an_edge():
    x = gradient.tensor([1.0, 2.0], requires_grad=True)
    y = x**2
    (g,) = gradient.autograd.grad((y**3).sum(), graph.get_gradient_edge(y), create_graph=True)
    g.sum().backward()
    assert x.grad.tolist() == [12.0, 96.0]
