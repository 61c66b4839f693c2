"""Pruning: a parameter is multiplied by a mask of zeros and ones before each call.

>>> from gradient.nn.utils import prune
>>> prune.l1_unstructured(layer, "weight", amount=0.3)   # the 30 % that are smallest
>>> prune.remove(layer, "weight")                        # the zeros are now in the parameter

Until `remove`, the parameter is `weight_orig`, which the optimiser changes, and the mask is the
buffer `weight_mask`; `weight` is their product. A parameter that is pruned again keeps its zeros;
the amount then refers to the elements that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from gradient.autograd import no_grad
from gradient.errors import ArgumentError, IndexOutOfRange, TypeMismatch, sentence
from gradient.nn.module import Module
from gradient.nn.utils.weight_hooks import find_hook, remove_hook
from gradient.random import rand
from gradient.tensor import Tensor
from gradient.tensor.creation_like import ones_like
from gradient.tensor.joining import cat

__all__ = [
    "BasePruningMethod",
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
    "PruningContainer",
    "RandomStructured",
    "RandomUnstructured",
    "custom_from_mask",
    "global_unstructured",
    "identity",
    "is_pruned",
    "l1_unstructured",
    "ln_structured",
    "random_structured",
    "random_unstructured",
    "remove",
]


class BasePruningMethod:
    """A pruning method; a subclass implements `compute_mask`. It is also the pre-hook that applies
    the mask.

    Attributes:
        PRUNING_TYPE: the part of an already pruned tensor that the method is applied to:
            "unstructured": the elements that are left; "structured": the slices along its `dim`
            with an element left; "global": the whole tensor.
        name: the name of the parameter that it masks.
    """

    PRUNING_TYPE: ClassVar[str] = "unstructured"
    name: str = ""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the new mask: the zeros of `default_mask`, and further ones.

        Args:
            t: the importance of each element, of the parameter's shape; by default the parameter.
            default_mask: the mask so far.
        """
        raise NotImplementedError(f"{type(self).__name__} has no compute_mask")

    def __call__(self, module: Module, inputs: Any) -> None:
        """Set `module.weight` to the masked parameter: called before each call of the module."""
        setattr(module, self.name, self.apply_mask(module))

    def apply_mask(self, module: Module) -> Tensor:
        """Return the parameter times its mask."""
        original: Tensor = getattr(module, f"{self.name}_orig")
        return original * getattr(module, f"{self.name}_mask").to(original.dtype)

    def prune(
        self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None
    ) -> Tensor:
        """Return a pruned copy of a tensor.

        Args:
            default_mask: a mask of earlier zeros; default: none.
            importance_scores: numbers to compare instead of the tensor's elements, of its shape.
        """
        scores = _scores("prune", importance_scores, t)
        return t * self.compute_mask(scores, ones_like(t) if default_mask is None else default_mask)

    @classmethod
    def apply(
        cls,
        module: Module,
        name: str,
        *args: Any,
        importance_scores: Tensor | None = None,
        **kwargs: Any,
    ) -> BasePruningMethod:
        """Prune a parameter of a module by this method; earlier pruning of it is kept.

        Args:
            importance_scores: numbers to compare instead of the parameter's elements, of its shape.
            args, kwargs: arguments of the method's constructor.
        """
        method: BasePruningMethod = cls(*args, **kwargs)
        method.name = name
        entry = _applied(module, name)
        parameter = getattr(module, name if entry is None else f"{name}_orig")
        scores = _scores("apply", importance_scores, parameter)
        if entry is None:
            mask = method.compute_mask(scores.detach(), ones_like(parameter.detach()))
            delattr(module, name)
            module.register_parameter(f"{name}_orig", parameter)
            module.register_buffer(f"{name}_mask", mask)
        else:
            before = entry.function
            earlier = before.methods if isinstance(before, PruningContainer) else [before]
            method = PruningContainer(*earlier, method)
            method.name = name
            mask = method.compute_mask(scores.detach(), getattr(module, f"{name}_mask"))
            setattr(module, f"{name}_mask", mask)
            remove_hook(module, entry)
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    def remove(self, module: Module) -> None:
        """See the function `remove`."""
        remove(module, self.name)


class PruningContainer(BasePruningMethod):
    """The methods by which one parameter was pruned, in order."""

    def __init__(self, *args: BasePruningMethod) -> None:
        self.methods: list[BasePruningMethod] = []
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Append a method, which must be for the same parameter."""
        if not isinstance(method, BasePruningMethod):
            expected, got = "a BasePruningMethod", type(method).__name__
            raise TypeMismatch(sentence("add_pruning_method", expected, got))
        if self.methods and method.name != self.name:
            expected = f"a method for {self.name!r}"
            raise ArgumentError(sentence("add_pruning_method", expected, repr(method.name)))
        self.name = method.name
        self.methods.append(method)

    def __len__(self) -> int:
        return len(self.methods)

    def __getitem__(self, at: int) -> BasePruningMethod:
        return self.methods[at]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return `default_mask` with further zeros by the last method, applied to the part of `t`
        that its PRUNING_TYPE names."""
        method, mask = self.methods[-1], default_mask.clone()
        if method.PRUNING_TYPE == "unstructured":
            left = mask == 1
            mask[left] = method.compute_mask(t[left], mask[left])
        elif method.PRUNING_TYPE == "structured":
            dim = getattr(method, "dim", 0)
            others = [d for d in range(t.ndim) if d != dim % t.ndim]
            (left,) = (mask.sum(others) != 0).nonzero(as_tuple=True)
            kept = method.compute_mask(t.index_select(dim, left), mask.index_select(dim, left))
            mask.index_copy_(dim, left, kept)
        elif method.PRUNING_TYPE == "global":
            mask = method.compute_mask(t, mask)
        else:
            expected = "a PRUNING_TYPE of unstructured, structured or global"
            raise ArgumentError(sentence("compute_mask", expected, repr(method.PRUNING_TYPE)))
        return mask


class Identity(BasePruningMethod):
    """Prunes nothing: the mask is all ones."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask


class CustomFromMask(BasePruningMethod):
    """Prunes by a given mask of the parameter's shape."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if self.mask.shape != default_mask.shape:
            expected = f"a mask of shape {tuple(default_mask.shape)}"
            raise ArgumentError(sentence("CustomFromMask", expected, tuple(self.mask.shape)))
        return default_mask * self.mask.to(default_mask.dtype)


class _ByAmount(BasePruningMethod):
    """Base of methods that prune an amount of elements or slices: a fraction (a float from 0 to 1)
    or a number (an int).

    Raises:
        TypeMismatch (TypeError): the amount is not a number.
        ArgumentError (ValueError): the amount is negative, or a fraction above 1.
    """

    def __init__(self, amount: float) -> None:
        caller = type(self).__name__
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            expected = "a number as amount"
            raise TypeMismatch(sentence(caller, expected, type(amount).__name__))
        if not (amount >= 0 and (isinstance(amount, int) or amount <= 1)):
            expected = "an int of at least 0, or a float from 0 to 1, as amount"
            raise ArgumentError(sentence(caller, expected, amount))
        self.amount: float = amount

    def count(self, size: int) -> int:
        """Return how many of `size` elements or slices to prune."""
        if not isinstance(self.amount, int):
            return round(self.amount * size)
        if self.amount > size:
            expected = f"an amount of at most {size}, as many as there are"
            raise ArgumentError(sentence(type(self).__name__, expected, self.amount))
        return self.amount


class _Unstructured(_ByAmount):
    def keys(self, t: Tensor) -> Tensor:
        """Return a number for each element; the elements with the smallest are pruned."""
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        mask = default_mask.reshape(-1).clone()
        pruned = self.keys(t).reshape(-1).topk(self.count(t.numel()), largest=False).indices
        mask[pruned] = 0
        return mask.reshape(default_mask.shape)


class RandomUnstructured(_Unstructured):
    """Prunes random elements, drawn from the default generator."""

    def keys(self, t: Tensor) -> Tensor:
        return rand(t.shape, device=t.device)


class L1Unstructured(_Unstructured):
    """Prunes the elements with the smallest absolute values."""

    def keys(self, t: Tensor) -> Tensor:
        return t.abs()


class _Structured(_ByAmount):
    """Base of methods that prune slices along `dim`."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: float, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def keys(self, t: Tensor, dim: int) -> Tensor:
        """Return a number for each slice; the slices with the smallest are pruned."""
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        caller = type(self).__name__
        if t.ndim <= 1:
            expected = "a parameter of at least 2 dimensions"
            raise ArgumentError(sentence(caller, expected, tuple(t.shape)))
        if not -t.ndim <= self.dim < t.ndim:
            expected = f"a dim from {-t.ndim} to {t.ndim - 1}"
            raise IndexOutOfRange(sentence(caller, expected, self.dim))
        dim = self.dim % t.ndim
        count = self.count(t.shape[dim])
        pruned = self.keys(t, dim).topk(count, largest=False).indices
        kept = ones_like(default_mask)
        kept.index_fill_(dim, pruned, 0)
        return default_mask * kept


class RandomStructured(_Structured):
    """Prunes random slices, drawn from the default generator."""

    def keys(self, t: Tensor, dim: int) -> Tensor:
        return rand(t.shape[dim], device=t.device)


class LnStructured(_Structured):
    """Prunes the slices with the smallest norms.

    Args:
        n: the order of the norm, as in `Tensor.norm`: a number, inf, "fro" or "nuc".
    """

    def __init__(self, amount: float, n: float | str, dim: int = -1) -> None:
        super().__init__(amount, dim)
        self.n = n

    def keys(self, t: Tensor, dim: int) -> Tensor:
        return t.norm(self.n, [d for d in range(t.ndim) if d != dim])


# ---- functions ----------------------------------------------------------------------------------


def identity(module: Module, name: str) -> Module:
    """Give a parameter a mask of ones, which prunes nothing."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: float) -> Module:
    """Prune random elements of a parameter.

    Args:
        amount: a fraction (a float from 0 to 1) or a number (an int) of the elements left.
    """
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(
    module: Module, name: str, amount: float, importance_scores: Tensor | None = None
) -> Module:
    """Prune the elements of a parameter with the smallest absolute values.

    Args:
        amount: as for `random_unstructured`.
        importance_scores: numbers to compare instead of the parameter's elements, of its shape.
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: float, dim: int) -> Module:
    """Prune random slices along `dim`; `amount` is a fraction or a number of these."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(
    module: Module,
    name: str,
    amount: float,
    n: float | str,
    dim: int,
    importance_scores: Tensor | None = None,
) -> Module:
    """Prune the slices along `dim` with the smallest norms of order `n`; other arguments as for
    `random_structured` and `l1_unstructured`."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Module, name: str, mask: Tensor) -> Module:
    """Prune a parameter where `mask`, of its shape, is 0."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]],
    pruning_method: Callable[..., BasePruningMethod],
    importance_scores: Mapping[tuple[Module, str], Tensor] | None = None,
    **kwargs: Any,
) -> None:
    """Prune parameters of several modules together, as one vector.

    Args:
        parameters: pairs of a module and the name of a parameter.
        pruning_method: the class of an unstructured method, such as `L1Unstructured`.
        importance_scores: {(module, name): numbers to compare instead of the parameter's elements}.
        kwargs: arguments of the method's constructor.

    Raises:
        TypeMismatch (TypeError): the method is not unstructured.
    """
    if not isinstance(parameters, Iterable):
        got = type(parameters).__name__
        raise TypeMismatch(sentence("global_unstructured", "pairs of a module and a name", got))
    if importance_scores is not None and not isinstance(importance_scores, Mapping):
        got = type(importance_scores).__name__
        raise TypeMismatch(sentence("global_unstructured", "a dict as importance_scores", got))
    pairs, given = list(parameters), importance_scores or {}
    method = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        expected, got = "an unstructured pruning_method", method.PRUNING_TYPE
        raise TypeMismatch(sentence("global_unstructured", expected, got))
    values = [getattr(module, name).detach() for module, name in pairs]
    scores = [given.get(pair, value) for pair, value in zip(pairs, values, strict=True)]
    masks = [
        getattr(module, f"{name}_mask", ones_like(value))
        for (module, name), value in zip(pairs, values, strict=True)
    ]
    found = PruningContainer(method).compute_mask(_as_vector(scores), _as_vector(masks))
    parts = found.split([mask.numel() for mask in masks])
    for (module, name), mask, part in zip(pairs, masks, parts, strict=True):
        custom_from_mask(module, name, part.reshape(mask.shape))


def remove(module: Module, name: str) -> Module:
    """Make the pruning of a parameter permanent: set it to the masked values, and remove the mask.

    Raises:
        ArgumentError (ValueError): the parameter is not pruned.
    """
    entry = _applied(module, name)
    if entry is None:
        expected = f"a module whose {name!r} is pruned"
        raise ArgumentError(sentence("remove", expected, type(module).__name__))
    parameter = getattr(module, f"{name}_orig")
    with no_grad():
        parameter.copy_(entry.function.apply_mask(module))
    remove_hook(module, entry)
    for part in (name, f"{name}_orig", f"{name}_mask"):
        delattr(module, part)
    module.register_parameter(name, parameter)
    return module


def is_pruned(module: Module) -> bool:
    """Return whether a parameter of the module or of a submodule is pruned."""
    return any(
        isinstance(entry.function, BasePruningMethod)
        for each in module.modules()
        if each._hooks is not None
        for entry in each._hooks.forward_pre
    )


def _applied(module: Module, name: str) -> Any:
    return find_hook(module, name, BasePruningMethod)


def _as_vector(tensors: Sequence[Tensor]) -> Tensor:
    return cat([each.reshape(-1) for each in tensors])


def _scores(caller: str, scores: Tensor | None, like: Tensor) -> Tensor:
    if scores is None:
        return like
    if scores.shape != like.shape:
        expected = f"importance_scores of shape {tuple(like.shape)}"
        raise ArgumentError(sentence(caller, expected, tuple(scores.shape)))
    return scores
