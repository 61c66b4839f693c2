"""The Tensor: an array of a backend, with a node that records how it was made."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any, Self, cast

from gradient import absent
from gradient.autograd import engine, variable
from gradient.autograd.forwarding import forwarded, parameters
from gradient.autograd.inference import is_inference, refuse_leaf
from gradient.autograd.inplace import by_data
from gradient.autograd.modes import inference_used
from gradient.autograd.node import RemovableHandle, edge_of, leaf_node
from gradient.autograd.variable import Variable, wrap
from gradient.backends.packed import is_packed, map_parts
from gradient.dtypes import get_default_dtype
from gradient.errors import ArgumentError, AutogradError, TypeMismatch, copied, sentence
from gradient.tensor.arguments import tensor_of
from gradient.tensor.arithmetic import Arithmetic
from gradient.tensor.complex_numbers import ComplexNumbers
from gradient.tensor.conversion import Conversion
from gradient.tensor.device import default_device
from gradient.tensor.gathering import Gathering
from gradient.tensor.indexing import Indexing
from gradient.tensor.inplace import InPlace
from gradient.tensor.interop import Interop
from gradient.tensor.new import NewLike
from gradient.tensor.packed import Unpacking, untrainable
from gradient.tensor.predicates import Predicates
from gradient.tensor.products import Contractions, LinearAlgebra, Products
from gradient.tensor.random_sampling import RandomSampling
from gradient.tensor.real_functions import NumberFunctions, RealFunctions
from gradient.tensor.rearranging import Rearranging
from gradient.tensor.scans import Scans
from gradient.tensor.sorting import Sorting
from gradient.tensor.special_functions import SpecialFunctions
from gradient.tensor.splitting import Splitting
from gradient.tensor.statistics import Statistics
from gradient.tensor.views import regenerate_views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradient.autograd.node import Node
    from gradient.backends import Backend
    from gradient.compat.methods import RareMethods
else:

    class RareMethods:
        """The methods that `absent.Method` imports from `gradient.compat` at their first use."""

        __slots__ = ()


class Tensor(
    Sorting,
    Splitting,
    Indexing,
    Gathering,
    Products,
    InPlace,
    RandomSampling,
    NewLike,
    Interop,
    Conversion,
    Unpacking,
    Arithmetic,
    RealFunctions,
    ComplexNumbers,
    NumberFunctions,
    SpecialFunctions,
    Rearranging,
    Contractions,
    Scans,
    Statistics,
    LinearAlgebra,
    RareMethods,
    Predicates,
):
    """An n-dimensional array of one dtype on one device, with PyTorch's methods.

    Make one with `gradient.tensor`, `zeros`, `randn`, `from_numpy` ... With `requires_grad`, `grad`
    has the gradient that `backward` accumulated. `array` is the backend's array. Other attributes
    can be set, as on PyTorch's tensors.
    """

    __slots__ = ("__dict__",)

    def __new__(
        cls, *data: Any, size: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Self:
        """Make a tensor of the default float dtype, like PyTorch: `Tensor(data)`, or uninitialised
        `Tensor(2, 3)`. Prefer `gradient.tensor` and `empty`."""
        from gradient.tensor.old_forms import constructed

        made = constructed("Tensor", data, size, get_default_dtype(), device, any_dtype=True)
        if cls is Tensor:
            return cast("Self", made.requires_grad_() if requires_grad else made)
        out = object.__new__(cls)
        out.array, out.backend, out.node = made.array, made.backend, None
        out._grad = out.view_info = out.views = None
        if requires_grad:
            out.node = leaf_node(out)
        return out

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let `__torch_function__` of the class decide what methods do (`tensor.overriding`)."""
        super().__init_subclass__(**kwargs)
        if Tensor in cls.__bases__ or "__torch_function__" in vars(cls):
            from gradient.tensor.overriding import prepare  # few programs have such classes

            prepare(cls)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Call `func`, and make the tensors in its result ones of this class; NotImplemented if
        `types` has classes that this one does not derive from."""
        from gradient.tensor.overriding import default

        return default(cls, func, types, args, kwargs)

    @staticmethod
    def _wrap(array: Any, backend: Backend) -> Tensor:
        """Make a tensor of a backend's array, without a copy."""
        return wrap(array, backend)

    # Gradients ------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether the tensor requires a gradient; can be set on leaves."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value is not True and value is not False:
            raise AutogradError(sentence("requires_grad", "True or False", repr(value)))
        if value == (self.node is not None):
            return
        if self.node is not None and self.node.op is not None:
            raise AutogradError(
                "you can only change requires_grad flags of leaf variables; use detach() to get a "
                "tensor without a gradient"
            )
        if value and self.array.dtype.kind in "biu":
            raise AutogradError(
                "only Tensors of floating point and complex dtype can require gradients, got "
                f"{self.dtype}"
            )
        if value and self.dtype.is_packed:
            raise untrainable("requires_grad", self)
        if value:
            refuse_leaf(self)
        self.node = leaf_node(self) if value else None
        regenerate_views(self)

    def is_inference(self) -> bool:
        """Whether the tensor was made under inference_mode: outside of the mode it cannot be
        changed in place, nor saved for a backward pass."""
        return is_inference(self)

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor is not the result of an op in the graph. `backward` fills the `grad`
        of leaves that require a gradient."""
        return self.node is None or self.node.op is None

    @property
    def grad_fn(self) -> Node | None:
        """The node of the op that made this tensor, None for leaves."""
        return None if self.is_leaf else edge_of(self.node)[0]

    @property
    def output_nr(self) -> int:
        """The index of this tensor among the results of `grad_fn`."""
        return edge_of(self.node)[1]

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Add the gradients of this tensor to the `grad` of the leaves (or of `inputs` only).
        `gradient`, of this tensor's shape, is optional for a scalar (default 1)."""
        grads = None if gradient is None else (gradient,)
        engine.backward(self, grads, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """Return a tensor outside the graph that shares this tensor's memory."""
        if not self.array.shape:
            self.array = self.backend.writable(self.array)
        out = wrap(self.array, self.backend)
        if inference_used:
            out.inference = is_inference(self)
        return out

    def detach_(self) -> Self:
        """Remove this tensor from the graph. Views are refused: their base would add them again."""
        if self.view_info is not None:
            raise AutogradError(
                "detach_(): a view cannot be detached in place from the tensor whose memory it "
                "shows; use detach()"
            )
        self.node = None
        return self

    @property
    def data(self) -> Tensor:
        """A tensor outside the graph that shares this tensor's memory; can be assigned. In-place
        changes of it are not tracked: a backward pass does not notice overwritten values."""
        out: Any = self.detach()
        out.unnoted = True
        by_data.add(weakref.ref(out, by_data.discard))
        same: Tensor = out
        return same

    @data.setter
    def data(self, value: Tensor) -> None:
        value = tensor_of("data", value)
        if self.node is not None and value.array.dtype.kind in "biu":
            expected = "a floating-point tensor, as this one requires a gradient"
            raise AutogradError(sentence("data", expected, value.dtype))
        if self.node is not None and value.dtype.is_packed:
            raise untrainable("data", value)
        self.array, self.backend = value.array, value.backend
        if inference_used:
            self.inference = is_inference(value)
        if self.node is not None and self.node.op is None:
            self.node.shape, self.node.dtype = value.array.shape, value.array.dtype
            self.node.backend = value.backend

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Register `hook(grad)`: it is called with this tensor's gradient, and may return a new
        gradient, which replaces it."""
        if self.node is None:
            raise AutogradError("register_hook: this tensor does not require a gradient")
        return self.node.register_tensor_hook(hook)

    def register_post_accumulate_grad_hook(
        self, hook: Callable[[Tensor], Tensor | None]
    ) -> RemovableHandle:
        """Register `hook(tensor)`: it is called after a gradient was added to this leaf's
        `grad`."""
        if self.node is None or self.node.op is not None:
            raise AutogradError("register_post_accumulate_grad_hook: only leaf tensors have one")
        if self.node.post_hooks is None:
            self.node.post_hooks = []
        return RemovableHandle(self.node.post_hooks, hook)

    def retain_grad(self) -> None:
        """Make `backward` store the gradient of this non-leaf tensor in its `grad`."""
        if self.node is None:
            raise AutogradError("retain_grad: this tensor does not require a gradient")
        if self.node.op is None:
            return
        self.node.retained = weakref.ref(self)
        if self.node.hooks is None:
            self.node.hooks = []  # the engine reads `retained` only if there is such a list

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called on this non-leaf tensor."""
        return self.node is not None and self.node.retained is not None

    @property
    def _version(self) -> int:
        """A number that changes with every in-place write to the memory."""
        from gradient.autograd.inplace import version

        return version(self.backend, self.array)

    # Python's protocols ---------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.array.shape:
            raise TypeMismatch("len() of a 0-d tensor")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.array.shape:
            raise TypeMismatch("iteration over a 0-d tensor")
        if is_packed(self.array):
            return (self[i] for i in range(len(self)))
        return iter(self.unbind(0)) if self.array.shape[0] else iter(())

    def __contains__(self, value: Any) -> bool:
        equal = self == value
        if isinstance(equal, bool):  # Python's default comparison: `value` is not a number
            got = type(value).__name__
            raise ArgumentError(sentence("in", "a Tensor or a number on the left", got))
        return bool_of(equal.any())

    __hash__ = object.__hash__  # by identity, though `==` compares elements

    def __repr__(self) -> str:
        from gradient.tensor.printing import represent

        return represent(self)

    def __format__(self, spec: str) -> str:
        """Format a 0-d tensor like its number, others as printed."""
        if not self.array.shape:
            return format(self.item(), spec)
        if spec:
            raise TypeMismatch(
                f"format: a tensor of shape {tuple(self.array.shape)} takes no format {spec!r}; "
                "format its elements"
            )
        return str(self)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        import copy

        if not self.is_leaf:
            raise AutogradError(
                "deepcopy: only tensors created explicitly by the user (graph leaves) can be "
                "copied deeply; use detach().clone()"
            )
        out = object.__new__(type(self))
        memo[id(self)] = out
        out.array, out.backend = map_parts(self.backend.copy, self.array), self.backend
        out.node, out._grad = None, copy.deepcopy(self.grad, memo)
        out.view_info = out.views = None
        out.__dict__.update(copy.deepcopy(self.__dict__, memo))
        if self.node is not None:
            out.node = leaf_node(out)
        return out

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Tensor], tuple[object, ...]]:
        from gradient.tensor.interop import rebuild

        if not self.is_leaf:
            raise AutogradError("pickle: only leaf tensors can be pickled; detach() it first")
        from gradient.tensor.shared_memory import Handed, is_spawning

        array = self.array.as_stored(self.backend) if is_packed(self.array) else self.array
        array = map_parts(self.backend.to_numpy, array)
        if is_spawning() and self.is_shared():
            array = map_parts(Handed, array)
        device = self.backend.device
        return rebuild, (type(self), array, device, self.requires_grad, self.__dict__)


def bool_of(tensor: Variable) -> bool:
    return bool(tensor.backend.to_numpy(tensor.array))


OF_THEIR_OWN = (
    "__and__", "__floordiv__", "__invert__", "__lshift__", "__or__", "__rshift__", "__xor__",
)  # fmt: skip
"""Operators that are no other function's, such as `floor_divide`: a `__torch_function__` is given
them by that name, as in PyTorch."""


def finish_methods() -> None:
    """Rename the methods, so that Python's errors about arguments say `Tensor.sum()`, not a mixin's
    name, and pickle finds them. Make methods with dimensions accept NumPy's argument names (except
    two, which are faster than the wrapper)."""
    left_out, dimensions = {"size", "stride"}, {"dim", "keepdim"}
    for mixin in Tensor.__mro__[:-1]:
        for name, method in tuple(vars(mixin).items()):
            if not isinstance(method, FunctionType):
                continue
            operator = name.startswith("__")
            if not operator or "<locals>" in method.__qualname__:
                method.__name__ = name if operator else method.__name__
                method.__qualname__ = f"Tensor.{method.__name__}"
                method.__module__ = "gradient"
            if name in left_out or name.startswith("_"):
                continue
            if not dimensions.isdisjoint(parameters(method)):
                setattr(mixin, name, forwarded(method))
    for name in OF_THEIR_OWN:
        own = getattr(Tensor, name)
        method = copied(own, f"Tensor.{name}")
        method.__dict__.update(own.__dict__)
        method.__name__, method.__module__ = name, "gradient"
        setattr(Tensor, name, method)
    divided: Any = Tensor.__rtruediv__
    divided.__name__ = "__rdiv__"
    type.__setattr__(Tensor, "__rdiv__", divided)


finish_methods()
for _name in (*absent.METHODS, *absent.NO_METHODS):
    setattr(Tensor, _name, absent.Method(_name))
variable.tensor_class = Tensor
variable.new_tensor = functools.partial(object.__new__, Tensor)
variable.default_device = default_device
__all__ = ["Tensor"]
