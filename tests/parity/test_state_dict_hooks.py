"""What modules call around their state dicts: the same calls, each kind in PyTorch's order.

Kinds are not mixed as there: here a module's tensors are loaded after all have been found to fit.
"""

from __future__ import annotations

from typing import Any

import pytest

import gradient

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.parity, pytest.mark.cpu_only]


def model(package: Any, calls: list[Any]) -> Any:
    """A module with a child, both with every hook, the child with a loader of its own."""
    nn = package.nn

    class Child(nn.Linear):
        _version = 3

        def get_extra_state(self) -> Any:
            return {"seen": 5}

        def set_extra_state(self, state: Any) -> None:
            calls.append(("set_extra_state", state))

        def _load_from_state_dict(
            self, state_dict: Any, prefix: str, local_metadata: Any, *others: Any
        ) -> None:
            calls.append(("version", local_metadata.get("version")))
            if prefix + "old" in state_dict:
                state_dict[prefix + "weight"] = state_dict.pop(prefix + "old")
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)

    root = nn.Sequential(Child(2, 1), nn.BatchNorm1d(1))
    for name, module in root.named_modules():
        module.register_state_dict_pre_hook(
            lambda m, prefix, keep_vars, name=name: calls.append(("pre", name, prefix, keep_vars))
        )
        module.register_state_dict_post_hook(
            lambda m, state, prefix, local, name=name: calls.append(
                ("post", name, sorted(state), prefix, local.get("version") if name == "0" else 0)
            )
        )
        module.register_load_state_dict_pre_hook(
            lambda m, state, prefix, *others, name=name: calls.append(
                ("load pre", name, sorted(state), prefix, others[1])
            )
        )
        module.register_load_state_dict_post_hook(
            lambda m, keys, name=name: calls.append(("load post", name, sorted(keys.missing_keys)))
        )
    return root


def both(run: Any) -> None:
    logs: list[dict[str, list[Any]]] = []
    for package in (gradient, torch):
        calls: list[Any] = []
        calls.append(("result", run(package, model(package, calls), calls)))
        kinds: dict[str, list[Any]] = {}
        for kind, *rest in calls:
            kinds.setdefault(kind, []).append(rest)
        logs.append(kinds)
    assert logs[0] == logs[1]


def test_order_of_calls() -> None:
    def run(package: Any, root: Any, calls: list[Any]) -> Any:
        state = root.state_dict()
        return [list(state), str(root.load_state_dict(state)), list(root.state_dict(prefix="a."))]

    both(run)


def test_a_loader_of_an_older_version() -> None:
    def run(package: Any, root: Any, calls: list[Any]) -> Any:
        state = dict(root.state_dict())
        state["0.old"] = package.tensor([[3.0, 4.0]])
        del state["0.weight"]
        root.load_state_dict(state)
        return root[0].weight.tolist()

    both(run)


def test_what_does_not_fit() -> None:
    def run(package: Any, root: Any, calls: list[Any]) -> Any:
        state = dict(root.state_dict())
        del state["0.bias"], state["0._extra_state"]
        state["1.more"] = state["more.x"] = state["more"] = package.ones(1)
        state["1._extra_state"] = 3
        keys = root.load_state_dict(state, strict=False)
        with pytest.raises(RuntimeError):
            root.load_state_dict(state)
        return sorted(keys.missing_keys), sorted(keys.unexpected_keys)

    both(run)


def test_a_hook_forgives_missing_names() -> None:
    def run(package: Any, root: Any, calls: list[Any]) -> Any:
        root.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
        state = dict(root.state_dict())
        del state["0.bias"]
        state["0.weight"] = package.tensor([[7.0, 8.0]])
        keys = root.load_state_dict(state)
        return keys.missing_keys, root[0].weight.tolist()

    both(run)


def test_removed_and_replacing_hooks() -> None:
    def run(package: Any, root: Any, calls: list[Any]) -> Any:
        removed = root.register_state_dict_pre_hook(lambda *args: calls.append(("removed",)))
        removed.remove()
        root._register_load_state_dict_pre_hook(
            lambda state, *rest: calls.append(("arguments", len(rest)))
        )
        root._register_load_state_dict_pre_hook(
            lambda m, state, *rest: calls.append(("arguments", len(rest))), with_module=True
        )
        root.load_state_dict(root.state_dict())
        root._register_state_dict_hook(lambda m, state, *rest: {"only": state["0.weight"]})
        return list(root.state_dict())

    both(run)


def test_loading_one_module_directly() -> None:
    def run(package: Any, root: Any, calls: list[Any]) -> Any:
        missing, unexpected, errors = [], [], []
        linear = package.nn.Linear(2, 1)
        state = {"a.weight": package.tensor([[3.0, 4.0]]), "a.c": package.ones(1)}
        linear._load_from_state_dict(state, "a.", {}, True, missing, unexpected, errors)
        wrong: list[str] = []
        linear._load_from_state_dict({"weight": package.ones(3)}, "", {}, False, [], [], wrong)
        return linear.weight.tolist(), missing, unexpected, errors, len(wrong)

    both(run)


def test_hooks_of_every_module() -> None:
    def run(package: Any, root: Any, calls: list[Any]) -> Any:
        if package is torch:
            from torch.nn.modules import module
        else:
            from gradient.nn.modules import module
        net = package.nn.Sequential(package.nn.Linear(2, 2), package.nn.Tanh())
        net[0].register_forward_hook(lambda m, args, output: calls.append(("own",)))

        def log(kind: str) -> Any:
            return lambda m, *rest: calls.append((kind, type(m).__name__, len(rest)))

        handles = [
            module.register_module_forward_pre_hook(log("pre")),
            module.register_module_forward_hook(log("forward")),
            module.register_module_full_backward_pre_hook(log("backward pre")),
            module.register_module_full_backward_hook(log("backward")),
        ]
        x = package.ones(1, 2, requires_grad=True)
        try:
            net(x).sum().backward()
        finally:
            for handle in handles:
                handle.remove()
        net(x).sum().backward()
        return x.grad is not None

    both(run)


def test_to_empty() -> None:
    for package in (gradient, torch):
        net = package.nn.Sequential(package.nn.Linear(2, 3), package.nn.BatchNorm1d(3))
        own = dict(net.named_parameters())
        assert net.to_empty(device="cpu") is net
        assert all(net.get_parameter(name) is value for name, value in own.items())
        assert net[0].weight.shape == (3, 2) and net[1].running_mean.shape == (3,)
        children = net.to_empty(device="cpu", recurse=False)
        assert children[0].weight.requires_grad
        with pytest.raises(TypeError):
            net.to_empty()
