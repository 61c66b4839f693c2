"""Names that libraries around PyTorch use of its insides: checks, trees, scans, placeholders."""

from __future__ import annotations

import builtins
import importlib
from collections import OrderedDict, defaultdict, deque, namedtuple
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.compat import (
    ao,
    assertions,
    bindings,
    device_states,
    distribution_tools,
    fx,
    half_complex,
    package_functions,
    printing,
    pytree,
    scans,
    scatter_gather,
)
from gradient.errors import ArgumentError, BackendError, MissingDependency, TypeMismatch

pytestmark = pytest.mark.cpu_only

Point = namedtuple("Point", "x y")


def test_trees() -> None:
    tree = {"a": [1, (2, 3)], "b": OrderedDict(c=Point(4, deque([5], 3))), "d": None}
    leaves, form = pytree.tree_flatten(tree)
    assert leaves == [1, 2, 3, 4, 5, None] and form.num_leaves == 6
    again = pytree.tree_unflatten(leaves, form)
    assert again == tree and type(again["b"]) is OrderedDict and again["b"]["c"].y.maxlen == 3
    counted = pytree.tree_map(lambda d: len(d), [defaultdict(list)], is_leaf=lambda x: x == {})
    assert counted == [0]
    made = pytree.tree_map(str, defaultdict(list, a=1))
    assert made == {"a": "1"} and made.default_factory is list
    assert pytree.tree_structure([1, 2]) == pytree.tree_structure([3, 4])
    assert pytree.tree_structure([1, 2]) != pytree.tree_structure((1, 2))
    assert pytree.tree_leaves([Point(1, 2)], is_leaf=lambda x: isinstance(x, Point)) == [(1, 2)]
    assert pytree.tree_all(bool, [1, {"a": 2}]) and not pytree.tree_any(bool, [0, ()])
    assert pytree.tree_map(lambda x, y: (x, y), [1, 2], [[3], {"a": 4}]) == [
        (1, [3]),
        (2, {"a": 4}),
    ]
    for other in ([1], {"a": 1}, 5):
        with pytest.raises(ArgumentError, match="tree_map"):
            pytree.tree_map(lambda x, y: x, [1, 2], other)


def test_a_registered_type_has_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pair:
        def __init__(self, left: Any, right: Any) -> None:
            self.left, self.right = left, right

    monkeypatch.setattr(pytree, "SUPPORTED_NODES", dict(pytree.SUPPORTED_NODES))
    assert len(pytree.tree_leaves(Pair(1, 2))) == 1
    pytree.register_pytree_node(Pair, lambda p: ([p.left, p.right], None), lambda v, _: Pair(*v))
    doubled = pytree.tree_map(lambda x: 2 * x, Pair(1, [2]))
    assert (doubled.left, doubled.right) == (2, [4])
    with pytest.raises(ArgumentError, match="already registered"):
        pytree.register_pytree_node(Pair, lambda p: ([], None), lambda v, _: None)


def test_checks() -> None:
    assertions._check(True)
    with pytest.raises(RuntimeError, match="two sizes"):
        assertions._check(1 == 2, lambda: "two sizes")
    for call, error in (
        (assertions._check_index, IndexError),
        (assertions._check_value, ValueError),
        (assertions._check_type, TypeError),
        (assertions._check_not_implemented, NotImplementedError),
        (assertions._check_is_size, TypeError),
    ):
        with pytest.raises(error):
            call(None)  # type: ignore[operator]
    with pytest.raises(RuntimeError):
        assertions._check_is_size(-1)
    with pytest.raises(RuntimeError):
        assertions._check_tensor_all(gradient.tensor([True, False]))
    with pytest.raises(AssertionError, match="no"):
        assertions._assert(False, "no")
    assertions._assert_async(gradient.tensor(True))
    with pytest.raises(RuntimeError, match="single nonzero value"):
        assertions._assert_async(gradient.tensor(0.0))
    shape = assertions._shape_as_tensor(gradient.ones(2, 0))
    assert shape.tolist() == [2, 0] and shape.dtype == gradient.int64


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("reverse", [False, True])
def test_scans(size: int, reverse: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, size, 3))
    t = gradient.tensor(x, requires_grad=True)
    found = scans.associative_scan(lambda a, b: a + b, t, 1, reverse)
    expected = np.flip(np.cumsum(np.flip(x, 1), 1), 1) if reverse else np.cumsum(x, 1)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-12)
    found.sum().backward()
    counts = np.arange(1, size + 1) if reverse else np.arange(size, 0, -1)
    assert t.grad is not None
    np.testing.assert_array_equal(t.grad.numpy(), np.broadcast_to(counts[:, None], x.shape))


def test_a_scan_of_pairs_that_do_not_commute() -> None:
    """The recurrence h = a h + b, as pairs of (a, b)."""
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 9))
    pairs = (gradient.tensor(a), gradient.tensor(b))
    found = scans.associative_scan(lambda x, y: (y[0] * x[0], y[0] * x[1] + y[1]), pairs, 0)
    h, expected = 0.0, []
    for factor, term in zip(a, b, strict=True):
        h = factor * h + term
        expected.append(h)
    np.testing.assert_allclose(found[1].numpy(), expected)


def test_arguments_of_to() -> None:
    like = gradient.ones(2, dtype=gradient.float64)
    assert bindings._parse_to("cpu", gradient.float16, True)[:3] == (
        gradient.device("cpu"),
        gradient.float16,
        True,
    )
    assert bindings._parse_to(like)[:2] == (gradient.device("cpu"), gradient.float64)
    assert bindings._parse_to(dtype=gradient.int8) == (None, gradient.int8, False, None)


def test_one_device_is_given_all() -> None:
    x = gradient.ones(2)
    assert scatter_gather.scatter({"x": x}, ["cpu"])[0]["x"] is x
    args, kwargs = scatter_gather.scatter_kwargs((x, 3), {"y": x}, ["cpu"])
    assert args[0][1] == 3 and kwargs[0]["y"] is x
    assert scatter_gather.gather([x], "cpu") is x
    with pytest.raises(ArgumentError, match="one device"):
        scatter_gather.scatter(x, ["cpu", "cpu"])


def test_models_that_pytorch_would_quantise_compute_in_floats() -> None:
    x = gradient.tensor([-1.0, 2.0])
    assert ao.DeQuantStub()(ao.QuantStub(qconfig=None)(x)) is x
    functions = ao.FloatFunctional()
    assert functions.add_relu(x, x).tolist() == [0.0, 4.0]
    assert functions.cat([x, x]).shape == (4,) and functions.mul(x, 2).tolist() == [-2.0, 4.0]
    with pytest.raises(BackendError, match=r"gradient\.quantization"):
        ao.prepare(nn.Linear(2, 2))


def test_classes_that_nothing_is_an_instance_of() -> None:
    for made in (fx.Graph, fx.Tracer, fx.GraphModule):
        assert not isinstance(nn.Linear(1, 1), made)
        with pytest.raises(BackendError, match="no tracing of programs"):
            made()
    assert half_complex.complex32 not in (gradient.complex64, gradient.float32)
    with pytest.raises(TypeMismatch, match="complex64 is the narrowest complex dtype"):
        gradient.zeros(2, dtype=half_complex.complex32)


def test_the_text_of_elements() -> None:
    x = gradient.tensor([[1.0, 2.5], [3.0, 4.0]])
    found = printing._tensor_str(x, 4)
    assert found == "[[1.0000, 2.5000],\n     [3.0000, 4.0000]]"


def test_parts_of_distributions() -> None:
    x = gradient.ones(2, 3, 4)
    assert distribution_tools._sum_rightmost(x, 2).tolist() == [12.0, 12.0]
    assert distribution_tools._sum_rightmost(x, 0) is x
    drawn = distribution_tools._standard_normal((2, 3), gradient.float64, "cpu")
    assert drawn.shape == (2, 3) and drawn.dtype == gradient.float64


def test_hooks_that_tools_count() -> None:
    layer = nn.Linear(2, 2)
    assert not layer._forward_hooks and not layer._backward_hooks
    handle = layer.register_forward_hook(lambda *_: None)
    layer.register_full_backward_hook(lambda *_: None)
    assert len(layer._forward_hooks) == len(layer._backward_hooks) == 1
    assert len(layer._forward_pre_hooks) == 0
    handle.remove()
    assert not layer._forward_hooks


def test_an_optimiser_around_another() -> None:
    optimizer = gradient.optim.SGD([gradient.ones(1, requires_grad=True)], lr=0.1)
    optimizer._patch_step_function()
    assert device_states.get_device_states(gradient.ones(1)) == ([], [])
    grouped = importlib.import_module("gradient.utils._foreach_utils")
    a, b = gradient.ones(1), gradient.ones(1, dtype=gradient.float64)
    found = grouped._group_tensors_by_device_and_dtype([[a, b, a], [b, None, a]], with_indices=True)
    assert {key[1]: value for key, value in found.items()} == {
        gradient.float32: ([[a, a], [b, a]], [0, 2]),
        gradient.float64: ([[b], [None]], [1]),
    }
    tensors = [gradient.tensor([1.0, 5.0])]
    gradient._foreach_maximum_(tensors, [gradient.tensor([3.0, 3.0])])
    assert tensors[0].tolist() == [3.0, 5.0]


def test_sobol_sequences_need_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    quasirandom = importlib.import_module("gradient.quasirandom")
    found = builtins.__import__

    def without_scipy(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("scipy"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(MissingDependency, match="pip install scipy"):
        quasirandom.SobolEngine(3)
    with pytest.raises(ArgumentError, match="dimension from 1"):
        quasirandom.SobolEngine(0)


def test_functions_of_the_package() -> None:
    assert package_functions.einsum is gradient.einsum


def test_engines_of_points_differ_and_repeat() -> None:
    pytest.importorskip("scipy")
    quasirandom = importlib.import_module("gradient.quasirandom")
    gradient.manual_seed(0)
    first, second = (quasirandom.SobolEngine(3, scramble=True) for _ in range(2))
    points = first.draw(4)
    assert not gradient.equal(points, second.draw(4))
    assert gradient.equal(points, first.reset().draw(4))
    gradient.manual_seed(0)
    assert gradient.equal(points, quasirandom.SobolEngine(3, scramble=True).draw(4))


def test_names_that_libraries_ask_for() -> None:
    t: Any = gradient
    counter = importlib.import_module("gradient.utils.flop_counter").FlopCounterMode(display=False)
    assert counter.get_flop_counts() == {} and counter.get_total_flops() == 0
    assert t.nn.modules.module._EXTRA_STATE_KEY_SUFFIX == "_extra_state"
    assert t.device("mps") == t.device("metal") != t.device("cpu")
    assert t.device("mps:0").type == "metal"
    rows, columns = gradient.tensor([0, 0, 2]), gradient.tensor([1, 2, 0])
    starts = t._convert_indices_from_coo_to_csr(rows, 4)
    assert starts.tolist() == [0, 2, 2, 3, 3] and starts.dtype is gradient.int64
    places = t._convert_indices_from_csr_to_coo(starts, columns, out_int32=True)
    assert places.tolist() == [[0, 0, 2], [1, 2, 0]] and places.dtype is gradient.int32
    swapped = t._convert_indices_from_csr_to_coo(starts, columns, transpose=True)
    assert swapped.tolist() == [[1, 2, 0], [0, 0, 2]]
    assert t._convert_indices_from_coo_to_csr(rows[:0], 0, out_int32=True).tolist() == [0]
    sparse = gradient.eye(2).to_sparse()
    assert sparse.ndimension() == 2 and sparse._coalesced_(False) is sparse
    assert not sparse.is_coalesced()
    assert t.dsmm(sparse, gradient.ones(2, 1)).tolist() == [[1.0], [1.0]]
    module = nn.Module()
    module.register_buffer("cache", gradient.ones(1), persistent=False)
    assert module._non_persistent_buffers_set == {"cache"}


def test_trees_of_dicts_in_another_order() -> None:
    tree = {"x": 1, "y": 2}
    for other in (
        {"y": 20, "x": 10},
        OrderedDict(y=20, x=10),
        defaultdict(int, y=20, x=10),
    ):
        assert pytree.tree_map(lambda a, b: a + b, tree, other) == {"x": 11, "y": 22}
        found = pytree.tree_map(lambda a, b: a - b, other, tree)
        assert type(found) is type(other) and found == {"x": 9, "y": 18}
    expected = r"expected the keys \['x', 'y'\] as in the first tree, got \['x', 'z'\]"
    with pytest.raises(ArgumentError, match=expected):
        pytree.tree_map(lambda a, b: a + b, tree, {"x": 1, "z": 2})
    queues = deque([1, 2], 3), deque([10, 20])
    assert pytree.tree_map(lambda a, b: a + b, *queues) == deque([11, 22])


def test_extensions_in_c_are_refused_with_the_reason() -> None:
    extensions = importlib.import_module("gradient.utils.cpp_extension")
    with pytest.raises(BackendError, match="load: mine .*ATen"):
        extensions.load("mine", ["a.cpp"], verbose=True)
    with pytest.raises(BackendError, match="load_inline: mine is"):
        extensions.load_inline("mine", "int f();", functions=["f"])
