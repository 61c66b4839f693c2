"""The base of all optimisers: parameter groups, state, and the step that calls an update rule.

An optimiser consists of its options, with defaults and limits, and one method, `update`, which
changes a list of parameters in place:

    class SignSGD(Optimizer):
        limits = {"lr": non_negative}

        def __init__(self, params, lr=1e-3):
            super().__init__(params, {"lr": lr})

        def update(self, params, group):
            for p in params:
                p.add_(p.grad.sign(), alpha=-group["lr"])

Everything else (groups, closures, `no_grad`, hooks, `state_dict`) is in this base class. A class in
PyTorch's style, which overrides `step` itself, works as well.
"""

from __future__ import annotations

import copy
import warnings
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, TypeVar, overload

from gradient.autograd import enable_grad, no_grad
from gradient.checks import Limits, Relation, check
from gradient.dtypes import DType, float32
from gradient.errors import ArgumentError, DTypeError, TypeMismatch, sentence
from gradient.optim.hooks import Hooked, with_hooks
from gradient.optim.masters import masters_of, state_dtype
from gradient.optim.options import Group
from gradient.tensor import Tensor
from gradient.tensor.foreach import arrays

StateDict = dict[str, Any]
R = TypeVar("R")
Params = Iterable[Tensor] | Iterable[Group] | Iterable[tuple[str, Tensor]]


class _Required:
    def __repr__(self) -> str:
        return "<required option>"


#: The default of an option that every parameter group must give.
required = _Required()


optimizers: weakref.WeakValueDictionary[int, Optimizer] = weakref.WeakValueDictionary()
"""All optimisers that exist, by their `id`."""


class Optimizer(Hooked):
    """Base class of optimisers: parameters in groups with options, and the state of each.

    Args:
        params: tensors, (name, tensor) pairs as from `Module.named_parameters()`, or dicts: one per
            parameter group, with the key "params" and any options that differ from the defaults.
        defaults: the options of groups that do not give their own.

    Arguments with the same meaning in all optimisers:

        params: parameters, named parameters or group dicts.
        lr: learning rate.
        maximize: maximize the objective instead of minimizing it.
        foreach, fused, capturable: accepted as in PyTorch, without effect.
        master_weights: keep a float32 master of each 16-bit parameter in the state, and the rest of
            the state in float32 (`gradient.optim.masters`). (LBFGS has no masters.)

    Attributes:
        param_groups: list of dicts; options may be changed between steps (schedulers do so).
        state: for each parameter, a dict with the state of the update rule (momentum buffers, step
            counts).

    Raises:
        TypeMismatch (TypeError): params is a single tensor or a set, or holds other than tensors.
        ArgumentError (ValueError): no parameters; a non-leaf tensor; a parameter in two groups; a
            bad option.
    """

    #: The limits of the options, and relations between them; subclasses define their own.
    limits: ClassVar[Limits] = {}
    relations: ClassVar[Sequence[Relation]] = ()

    #: Names and types of the Python numbers in a parameter's state. (PyTorch stores tensors.)
    numbers: ClassVar[Mapping[str, type[int] | type[float]]] = {"step": int}

    #: Set by `GradScaler` during a step on a GPU, where reading it would wait: not 0 if the step
    #: must be skipped.
    found_inf: Tensor | None = None

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether the rule skips a step by `found_inf` itself. (PyTorch's name.)"""
        return False

    #: Whether `update` itself updates master weights and writes them to the parameters.
    _steps_masters = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    def __init__(self, params: Params, defaults: Group) -> None:
        if isinstance(params, Tensor):
            raise TypeMismatch(
                f"{type(self).__name__}: params should be an iterable of Tensors or dicts, "
                "but got a single Tensor: put it in a list"
            )
        optimizers[id(self)] = self
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self._init_hooks()

        if not isinstance(params, Iterable):
            expected = "an iterable of Tensors or dicts as params"
            raise TypeMismatch(sentence(type(self).__name__, expected, type(params).__name__))
        # A set is passed on, so that `add_param_group` refuses it with its message.
        items: Any = params if isinstance(params, set) else list(params)
        if not items:
            raise ArgumentError(
                f"{type(self).__name__}: got an empty parameter list (a generator such as "
                "model.parameters() can be used once only)"
            )
        has_groups = not isinstance(items, set) and isinstance(items[0], dict)
        for group in items if has_groups else [{"params": items}]:
            self.add_param_group(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied or pickled optimiser; a class may add the options of a newer version."""
        self.__dict__.update(state)
        optimizers[id(self)] = self

    # -- parameters --

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters with its own options, as when layers are unfrozen."""
        name = type(self).__name__
        if not isinstance(param_group, dict):
            raise TypeMismatch(
                f"{name}: param_group should be a dict, but got {type(param_group).__name__}"
            )
        if "params" not in param_group:
            raise ArgumentError(
                f"{name}: a parameter group needs the key 'params', but one has only "
                f"{', '.join(map(repr, param_group)) or 'none'}"
            )
        given = param_group["params"]
        if isinstance(given, set):
            raise TypeMismatch(
                f"{name}: params should be in an order that is the same in every run, but got a "
                "set: use a list"
            )
        items = [given] if isinstance(given, Tensor) else list(given)
        names = [item[0] for item in items if isinstance(item, tuple)]
        params = [item[1] if isinstance(item, tuple) else item for item in items]

        group = {**param_group, "params": params}
        if names:
            if len(names) != len(params):
                raise ArgumentError(
                    f"{name}: {len(params) - len(names)} of {len(params)} params have no name: "
                    "give all as (name, tensor), or none"
                )
            group["param_names"] = names
        for option, default in self.defaults.items():
            if default is required and option not in group:
                raise ArgumentError(
                    f"{name}: a parameter group does not give {option!r}, which has no default"
                )
            group.setdefault(option, default)
        self._check_params(group)
        if group.get("differentiable"):
            raise ArgumentError(
                f"{name}: differentiable=True is not supported: a step changes parameters in "
                "place, outside the graph"
            )
        if group.get("fused") and group.get("foreach"):
            raise ArgumentError(f"{name}: fused and foreach cannot both be True")
        self.check_options(group)
        self.param_groups.append(group)

    def _check_params(self, group: Group) -> None:
        name, params = type(self).__name__, group["params"]
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeMismatch(
                    f"{name}: can only optimize Tensors, but one of the params is "
                    f"{type(p).__name__}"
                )
            if not (p.is_leaf or p.retains_grad):
                raise ArgumentError(
                    f"{name}: can't optimize a non-leaf Tensor (shape {tuple(p.shape)}): "
                    "pass the leaf that it was computed from, or use .detach().requires_grad_()"
                )
            if p.is_complex():
                raise DTypeError(
                    f"{name}: expected real parameters, got {p.dtype}: train a real one of shape "
                    f"{(*p.shape, 2)}, and view_as_complex it where it is used"
                )
        if len({id(p) for p in params}) != len(params):
            warnings.warn(
                f"{name}: a parameter group contains duplicate parameters; each would be "
                "stepped more than once",
                stacklevel=4,
            )
        held = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(p) in held for p in params):
            raise ArgumentError(f"{name}: some parameters appear in more than one parameter group")
        if self.param_groups and ("param_names" in group) != (
            "param_names" in self.param_groups[0]
        ):
            raise ArgumentError(
                f"{name}: either all parameter groups have parameter names or none has"
            )

    def check_options(self, group: Group) -> None:
        """Raise ArgumentError if an option of this (new) group is out of its limits."""
        check(type(self).__name__, group, self.limits, self.relations)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients of all parameters to None, or to zeros (`set_to_none=False`).

        None frees the memory, and `step` skips a parameter without a gradient.
        """
        for p in chain.from_iterable(group["params"] for group in self.param_groups):
            if p.grad is None:
                continue
            if set_to_none:
                p.grad = None
            else:
                if p.grad.node is not None:  # one that create_graph=True made
                    p.grad = p.grad.detach()
                p.grad.zero_()

    # -- stepping --

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], R]) -> R: ...
    @with_hooks
    def step(self, closure: Callable[[], R] | None = None) -> R | None:
        """Update all parameters that have a gradient, in place.

        Args:
            closure: a function that clears gradients, computes the loss, calls `backward` and
                returns the loss. It is called first, with gradients enabled.

        Returns:
            the result of the closure, or None.
        """
        if type(self).update is Optimizer.update:
            raise NotImplementedError(f"{type(self).__name__} implements neither update nor step")
        if closure is not None and not callable(closure):
            raise TypeMismatch(
                sentence(f"{type(self).__name__}.step", "a function as closure", repr(closure))
            )
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            for group in self.param_groups:
                params = [p for p in group["params"] if p.grad is not None]
                if not params:
                    continue
                if self._steps_masters:
                    self.update(params, group)
                else:
                    with masters_of(params, group, self.state) as stepped:
                        self.update(stepped, group)
        return loss

    def counted(self, p: Tensor, *buffers: str, group: Group | None = None) -> dict[str, Any]:
        """Return the state of `p` with its step count increased. At the first step, make the named
        buffers: zeros, in the dtype of `p`, or of its master if `group` has masters.

        With `found_inf` the backend counts instead, in a tensor on the device of `p`.
        """
        state = self.state[p]
        if not state:
            state["step"] = 0
            dtype = p.dtype if group is None else state_dtype(p, group)
            for name in buffers:
                state[name] = p.new_zeros(p.shape, dtype=dtype)
        if self.found_inf is None:
            state["step"] = int(state["step"]) + 1
        elif not isinstance(state["step"], Tensor):
            state["step"] = p.new_full((), state["step"], dtype=float32)
        return state

    def _state_arrays(self, params: list[Tensor], name: str) -> list[Any]:
        """The arrays of one entry of the state of each parameter; the backend changes them."""
        return arrays([self.state[p][name] for p in params])

    def _found_inf_beside(self, p: Tensor) -> Any:
        """The array of `found_inf` on the device of `p`; None without one."""
        return None if self.found_inf is None else self.found_inf.to(p.device).array

    def update(self, params: list[Tensor], group: Group) -> None:
        """Update `params`, all of which have a gradient, in place by one step of the rule.

        It runs under `no_grad`. Tied weights and views see the in-place changes.
        """
        raise NotImplementedError(f"{type(self).__name__} implements neither update nor step")

    # -- saving --

    def state_dict(self) -> StateDict:
        """Return all that is needed to resume.

            {"state": {index: {...}}, "param_groups": [{..., "params": [index, ...]}]}

        Parameters are replaced by indices, in the order in which they were given. Tensors are not
        copied.
        """
        for hook in list(self._state_dict_pre_hooks):
            hook(self)
        index: dict[int, int] = {}
        for p in chain.from_iterable(group["params"] for group in self.param_groups):
            index.setdefault(id(p), len(index))
        state_dict: StateDict = {
            "state": {
                index[id(p)] if isinstance(p, Tensor) else p: state
                for p, state in self.state.items()
            },
            "param_groups": [
                {**group, "params": [index[id(p)] for p in group["params"]]}
                for group in self.param_groups
            ],
        }
        for hook in list(self._state_dict_post_hooks):
            state_dict = hook(self, state_dict) or state_dict
        return state_dict

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Load options and state from `state_dict`; parameters are matched by position.

        Tensors are copied to the parameter's device; floating-point ones are cast to its dtype (to
        float32 if it has a master).

        Raises:
            ArgumentError (ValueError): not the state of an optimiser; another number of groups, or
                of parameters in a group.
        """
        name = type(self).__name__
        state_dict = dict(state_dict)
        for hook in list(self._load_state_dict_pre_hooks):
            state_dict = hook(self, state_dict) or state_dict

        if not {"state", "param_groups"} <= state_dict.keys():
            raise ArgumentError(
                f"{name}: expected what state_dict() returns, with the keys 'state' and "
                f"'param_groups', but got {', '.join(map(repr, state_dict)) or 'no keys'}"
            )
        saved_groups = copy.deepcopy(state_dict["param_groups"])
        expected = [len(group["params"]) for group in self.param_groups]
        got = [len(group["params"]) for group in saved_groups]
        if len(got) != len(expected):
            raise ArgumentError(
                f"{name}: loaded state dict has a different number of parameter groups: "
                f"expected {len(expected)}, got {len(got)}"
            )
        if got != expected:
            raise ArgumentError(
                f"{name}: loaded state dict contains a parameter group that doesn't match the size "
                f"of the optimizer's group: expected sizes {expected}, got {got}"
            )

        params = dict(
            zip(
                chain.from_iterable(group["params"] for group in saved_groups),
                chain.from_iterable(group["params"] for group in self.param_groups),
                strict=True,
            )
        )
        with_masters = {
            key
            for group in saved_groups
            if group.get("master_weights", self.defaults.get("master_weights"))
            for key in group["params"]
        }
        # A class in PyTorch's style may keep its step count in a tensor.
        numbers = {} if type(self).update is Optimizer.update else self.numbers
        state: defaultdict[Any, Any] = defaultdict(dict)
        for key, saved in state_dict["state"].items():
            if key in params:
                p = params[key]
                dtype = float32 if key in with_masters and p.dtype.itemsize == 2 else p.dtype
                state[p] = {
                    name: numbers[name](value)
                    if name in numbers
                    else _count_of_steps(value)
                    if name == "step"
                    else _like_parameter(value, p, dtype)
                    for name, value in saved.items()
                }
            else:
                state[key] = saved  # not the state of a parameter
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            saved["params"] = group["params"]
            if "param_names" in group:
                saved.setdefault("param_names", group["param_names"])
            for option, default in self.defaults.items():  # some may be newer than the saved state
                saved.setdefault(option, default)
        self.__setstate__({"state": state, "param_groups": saved_groups})
        for hook in list(self._load_state_dict_post_hooks):
            hook(self)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
            lines.append("")
        return "\n".join([*lines[:-1], ")"])


def _count_of_steps(value: Any) -> Any:
    """Copy a step count as it is: in the parameter's dtype it would be rounded."""
    return value.detach().clone() if isinstance(value, Tensor) else value


def _like_parameter(value: Any, p: Tensor, dtype: DType) -> Any:
    """Copy a value of a saved state to the device of `p`, cast to `dtype` if both are floating."""
    if isinstance(value, dict):
        return {k: _like_parameter(v, p, dtype) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_like_parameter(v, p, dtype) for v in value)
    if isinstance(value, Tensor):
        floating = p.dtype.is_floating_point
        kept = value.detach().to(device=p.device, dtype=dtype if floating else value.dtype)
        return kept.clone()
    return value
