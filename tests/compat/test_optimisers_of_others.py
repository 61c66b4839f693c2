"""What libraries of optimisers and wrappers of models call, beyond what scripts do."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest

import gradient

t: Any = gradient


def test_functions_of_many_tensors() -> None:
    a, b = ([gradient.tensor([1.0, 4.0]), gradient.tensor(9.0)] for _ in range(2))
    assert [x.tolist() for x in t._foreach_sqrt(a)] == [[1, 2], 3]
    assert [x.tolist() for x in t._foreach_add(a, b, alpha=2)] == [[3, 12], 27]
    assert [x.tolist() for x in t._foreach_maximum(a, 2.0)] == [[2, 4], 9]
    assert [x.tolist() for x in t._foreach_lerp(a, b, 0.5)] == [[1, 4], 9]
    assert [x.tolist() for x in t._foreach_norm(a, ord=1)] == [5, 9]
    assert t._foreach_mul_(a, [2.0, 3.0]) is None
    t._foreach_addcmul_(a, b, b, value=1.0)
    t._foreach_addcdiv_(a, b, b, [1.0, 2.0])
    assert [x.tolist() for x in a] == [[4, 25], 110]
    t._foreach_copy_(a, b)
    t._foreach_minimum_(a, 3.0)
    assert [x.tolist() for x in a] == [[1, 3], 3]
    t._foreach_zero_(a)
    assert a[1].item() == 0
    with pytest.raises(ValueError, match="_foreach_mul_: expected 2 operands, one for each"):
        t._foreach_mul_(a, [1.0])


def test_an_optimiser_around_another_needs_no_init() -> None:
    class Around(gradient.optim.Optimizer):
        def __init__(self, inner: Any) -> None:
            self.inner, self.param_groups = inner, inner.param_groups

        def step(self, closure: Any = None) -> Any:
            return self.inner.step(closure)

        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__(state)
            self.copied = True

    w = gradient.ones(1, requires_grad=True)
    optimizer = Around(gradient.optim.SGD([w], lr=1.0))
    (w * 2).sum().backward()
    optimizer.step()
    assert w.tolist() == [-1.0]
    assert copy.deepcopy(optimizer).copied


def test_a_step_count_in_a_tensor_stays_one_when_it_is_loaded() -> None:
    class Counting(gradient.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {})

        def step(self, closure: Any = None) -> Any:
            for p in self.param_groups[0]["params"]:
                state = self.state[p]
                state.setdefault("step", gradient.tensor(256.0)).add_(1)
                state.setdefault("mean", gradient.zeros(1))

    w = gradient.ones(1, dtype=gradient.bfloat16, requires_grad=True)
    first, second = Counting([w]), Counting([w])
    first.step()
    second.load_state_dict(first.state_dict())
    second.step()
    assert first.state[w]["step"].item() == 257  # not shared, nor rounded to bfloat16
    assert second.state[w]["step"].item() == 258
    assert second.state[w]["mean"].dtype is gradient.bfloat16


def test_loading_a_state_calls_setstate() -> None:
    class Later(gradient.optim.SGD):
        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__(state)
            for group in self.param_groups:
                group.setdefault("newer", 7)

    w = gradient.ones(1, requires_grad=True)
    optimizer = Later([w], lr=1.0)
    optimizer.load_state_dict(gradient.optim.SGD([w], lr=0.5).state_dict())
    assert optimizer.param_groups[0]["newer"] == 7 and optimizer.param_groups[0]["lr"] == 0.5


def test_methods_in_place_are_functions() -> None:
    x = gradient.tensor([-1.0, 4.0])
    assert t.relu_(x) is x
    t.sqrt_(x)
    t.clamp_(x, max=1.5)
    assert x.tolist() == [0, 1.5]
    assert t.zero_(input=x).tolist() == [0, 0]


def test_trees() -> None:
    pytree = importlib.import_module("gradient.utils._pytree")
    tree = {"a": [1, (2,)], "b": 3}
    leaves, spec = pytree.tree_flatten(tree)
    assert leaves == [1, 2, 3] and spec.num_leaves == 3
    assert pytree.tree_unflatten([4, 5, 6], spec) == {"a": [4, (5,)], "b": 6}
    assert pytree.tree_map(lambda x, y: x + y, tree, tree) == {"a": [2, (4,)], "b": 6}
    assert pytree.tree_map_only(str, len, ["ab", 3]) == [2, 3]
    assert spec == pytree.tree_structure(tree)
    with pytest.raises(ValueError, match="expected 3 leaves, got 1"):
        pytree.tree_unflatten([1], spec)


def test_weights_from_an_address(tmp_path) -> None:
    hub = importlib.import_module("gradient.hub")
    kept = tmp_path / "weights.safetensors"
    gradient.save({"w": gradient.ones(2)}, kept)
    folder = tmp_path / "downloaded"
    for _ in range(2):  # the second time nothing is asked of the address
        state = hub.load_state_dict_from_url(kept.as_uri(), model_dir=str(folder))
        assert state["w"].tolist() == [1, 1]
        (tmp_path / "weights.safetensors").rename(tmp_path / "away") if kept.exists() else None
    with pytest.raises(ValueError, match="expected a SHA-256 that begins with ffff, got"):
        hub.download_url_to_file((tmp_path / "away").as_uri(), tmp_path / "b", "ffff")
    assert not (tmp_path / "b").exists()


def test_questions_of_autocast() -> None:
    assert t.get_autocast_gpu_dtype() is gradient.float16
    assert not t.is_autocast_enabled()
    with gradient.amp.autocast("cpu"):
        assert t.is_autocast_cpu_enabled()
        assert t.get_autocast_dtype("cpu") is gradient.bfloat16


def test_functions_of_ones_own_under_autocast() -> None:
    amp: Any = gradient.amp
    seen = []

    class Twice(gradient.autograd.Function):
        @staticmethod
        @amp.custom_fwd(device_type="cpu", cast_inputs=gradient.float32)
        def forward(ctx: Any, x: Any) -> Any:
            seen.append((x.dtype, amp.is_autocast_enabled("cpu")))
            return x * 2

        @staticmethod
        @amp.custom_bwd(device_type="cpu")
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    x = gradient.ones(2, dtype=gradient.bfloat16, requires_grad=True)
    Twice.apply(x).sum().backward()
    with gradient.amp.autocast("cpu"):
        Twice.apply(x)
    assert seen == [(gradient.bfloat16, False), (gradient.float32, False)]
    assert x.grad is not None


def test_a_backward_runs_under_autocast_as_its_forward_did() -> None:
    amp: Any = gradient.amp
    seen = []

    class Product(gradient.autograd.Function):
        @staticmethod
        @amp.custom_fwd(device_type="cpu")
        def forward(ctx: Any, x: Any, w: Any) -> Any:
            ctx.save_for_backward(x, w)
            return x @ w

        @staticmethod
        @amp.custom_bwd(device_type="cpu")
        def backward(ctx: Any, g: Any) -> Any:
            x, w = ctx.saved_tensors
            seen.append((amp.is_autocast_enabled("cpu"), (g @ w.t()).dtype))
            return g @ w.t(), x.t() @ g

    x, w = (gradient.ones(2, 2, requires_grad=True) for _ in range(2))
    with gradient.amp.autocast("cpu", dtype=gradient.float16):
        narrow = Product.apply(x, w)
    wide = Product.apply(x, w)
    narrow.float().sum().backward()
    with gradient.amp.autocast("cpu"):
        wide.sum().backward()
    assert seen == [(True, gradient.float16), (False, gradient.float32)]
    assert x.grad is not None and x.grad.dtype is gradient.float32


def test_nothing_is_compiled() -> None:
    compiler: Any = importlib.import_module("gradient.compiler")
    importlib.import_module("gradient._dynamo").config.cache_size_limit = 64

    @compiler.disable
    def one() -> int:
        return 1

    @compiler.disable(recursive=False)
    def two() -> int:
        return 2

    assert (one(), two(), compiler.is_compiling()) == (1, 2, False)


def test_marks_for_a_tracer_mark_nothing() -> None:
    fx: Any = importlib.import_module("gradient.fx")
    assert fx.wrap("name") == "name" and not fx.is_fx_tracing()
    with pytest.raises(RuntimeError, match="fx.symbolic_trace: there is no tracing"):
        fx.symbolic_trace(gradient.nn.Identity())


def test_many_tensors_as_one() -> None:
    flattening: Any = importlib.import_module("gradient._utils")
    tensors = [gradient.ones(2, 2), gradient.zeros(3)]
    flat = flattening._flatten_dense_tensors(tensors)
    assert flat.tolist() == [1, 1, 1, 1, 0, 0, 0]
    parts = flattening._unflatten_dense_tensors(flat, tensors)
    assert [part.tolist() for part in parts] == [x.tolist() for x in tensors]


def test_one_process_is_given_what_it_gave() -> None:
    dist: Any = importlib.import_module("gradient.distributed")
    functional: Any = importlib.import_module("gradient.distributed.nn.functional")
    x = gradient.ones(2, requires_grad=True)
    dist.init_process_group("gloo")
    try:
        found = [functional.all_reduce(x), *functional.all_gather(x), functional.broadcast(x, 0)]
    finally:
        dist.destroy_process_group()
    sum(found).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [3, 3]


def test_sizes_in_place() -> None:
    x: Any = gradient.arange(6.0)
    whole = x
    assert x.resize_(2, 2) is x
    assert x.tolist() == [[0, 1], [2, 3]]
    assert x.resize_(5).tolist() == [0, 1, 2, 3, 0]
    assert whole.resize_as_(gradient.ones(0)).shape == (0,)
    with pytest.raises(RuntimeError, match="resize_: expected a tensor without a gradient"):
        gradient.ones(2, requires_grad=True).resize_(3)


def test_absent_names_lead_to_the_page() -> None:
    with pytest.raises(AttributeError, match="for what PyTorch has and gradient does not, see"):
        t.hspmm  # noqa: B018
