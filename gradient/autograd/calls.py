"""The wrappers that the op decorator returns, one for each arity.

Each runs the op's function on raw arrays, and makes a node if an input requires a gradient. They
are the hot path of eager execution, so as much as possible is computed once, when the op is
defined. Arguments are not validated or merged: an error message is composed after a call fails.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradient.autograd import variable
from gradient.autograd.explain import explain
from gradient.autograd.foreign import by_operand, reflected
from gradient.autograd.inference import refuse_saved
from gradient.autograd.modes import inference_used, mode, switched
from gradient.autograd.moving import moved
from gradient.autograd.node import Node, next_sequence_nr, watch
from gradient.autograd.numbers import among_samples, on_one_device
from gradient.autograd.outputs import outputs
from gradient.autograd.promotion import cast_result, checked_chars, promote, python_number
from gradient.autograd.saving import saver
from gradient.autograd.variable import Number, Variable
from gradient.backends.placement import device_contexts, on_device_of
from gradient.source_lines import user_frame

if TYPE_CHECKING:
    from gradient.autograd.op import Op
    from gradient.tensor import Tensor

getframe = sys._getframe


def of_one(made: Op) -> Callable[..., Any]:
    function, differentiable = made.function, bool(made.rules)
    checked = made.checked
    saves_x = made.saved_names == made.inputs
    saves_out = made.saved_names == ("out",)

    casts = "dtype" in made.options  # integers and bools have no gradient
    user_depth = 1 + made.user_depth

    if made.has_options or made.has_extras or not (saves_x or saves_out or not made.saved_names):
        has_extras = made.has_extras
        saves_shape = made.saved_names == (made.inputs[0] + "_shape",)
        keep = saver(made.plan((True,)) if differentiable else ())

        def call(input: Tensor, **options: Any) -> Any:
            try:
                backend = input.backend
                array: Any = input.array
                if checked and array.dtype.char in checked:
                    array = promote(made, backend, [array])[0]
                if device_contexts:
                    y = on_device_of(backend, function, array, **options)
                else:
                    y = function(backend, array, **options)
            except Exception as error:
                if among_samples and (seen := among_samples[0]((input,), options)) is not None:
                    return another_of_one(made)(*seen, **options)
                y = moved(made, (input,), options, error)
            if has_extras:
                y, extras = y
            parent = input.node
            if type(y) is list:
                node = None
                if parent is not None and differentiable and (not switched or mode.grad):
                    node = made.record(
                        backend, (array,), (parent,), y, extras if has_extras else None, options
                    )
                return outputs(y, backend, node)
            out = variable.new_tensor()
            out.array = y
            out.backend = backend
            out._grad = out.view_info = out.views = None
            if (
                parent is not None
                and differentiable
                and (not switched or mode.grad)
                and not (casts and y.dtype.kind in "biu")
            ):
                out.node = node = Node()
                node.op = made
                node.parents = (parent,)
                node.backend = backend
                node.sequence_nr = next_sequence_nr()
                if saves_shape:
                    node.saved = (array.shape,)
                else:
                    node.saved = keep((array,), y, extras if has_extras else None)
                node.options = options
                node.shape = y.shape
                node.dtype = y.dtype
                frame = user_frame(user_depth)
                node.location = (frame.f_code, frame.f_lasti)
                if switched and mode.grad is not True:
                    watch(node)
            else:
                out.node = None
                if inference_used and mode.inference:
                    out.inference = True
            return out

        return call

    def call_simple(input: Tensor) -> Tensor:
        try:
            backend = input.backend
            array: Any = input.array
            if checked and array.dtype.char in checked:
                array = promote(made, backend, [array])[0]
            y = (
                on_device_of(backend, function, array)
                if device_contexts
                else function(backend, array)
            )
        except Exception as error:
            y = moved(made, (input,), {}, error)
        out = variable.new_tensor()
        out.array = y
        out.backend = backend
        out._grad = out.view_info = out.views = None
        parent = input.node
        if parent is not None and differentiable and (not switched or mode.grad):
            out.node = node = Node()
            node.op = made
            node.parents = (parent,)
            node.backend = backend
            node.sequence_nr = next_sequence_nr()
            node.saved = (y,) if saves_out else (array,) if saves_x else ()
            node.shape = y.shape
            node.dtype = y.dtype
            frame = getframe(1)
            node.location = (frame.f_code, frame.f_lasti)
            if switched and mode.grad is not True:
                watch(node)
        else:
            out.node = None
            if inference_used and mode.inference:
                out.inference = True
        return out

    return call_simple


def of_two(made: Op) -> Callable[..., Any]:
    function, differentiable = made.function, bool(made.rules)
    first, second = made.inputs
    names = set(made.saved_names)
    if made.has_options or made.single_rule or not names <= {first, second, "out"}:
        return of_n(made)
    floats = made.promotion in ("int_to_float", "float_only")
    kinds = made.checked_kinds if floats else made.checked_kinds.strip("biu")
    checked = checked_chars(kinds, made.autocast)
    promotes = made.promotion != "none"
    # Whether a, b and out are kept for the gradient of a alone, of b alone, and of both.
    for_a, for_b, for_both = (
        tuple(kind != "none" for kind, _ in made.plan(wanted)) if names else ()
        for wanted in ((True, False), (False, True), (True, True))
    )
    operator = made.operator
    # Matrix products, called from composites, can pay for a search over frames.
    heavy = made.promotion == "same_dtype"

    def call(input: Tensor | Number, other: Tensor | Number) -> Tensor:
        b: Any = other
        try:
            if isinstance(input, variable.tensor_class):
                backend, x, node_a = input.backend, input.array, input.node
                array = x
                if isinstance(b, variable.tensor_class):
                    y = last = b.array
                    node_b = b.node
                    if b.backend is not backend:
                        raise ValueError("two devices")  # `explain` says which
                    fits = x.dtype is y.dtype and not (checked and x.dtype.char in checked)
                else:
                    y, last, node_b, kind = b, x, None, type(b)
                    fits = (kind is float or kind is int) and x.dtype.char in "fd"
            else:
                backend, x, node_a, y, node_b = b.backend, input, None, b.array, b.node
                array, last, kind = y, y, type(input)
                fits = (kind is float or kind is int) and y.dtype.char in "fd"
            if fits or not promotes:
                if device_contexts:
                    z = on_device_of(backend, function, x, y)
                elif operator is None:
                    z = function(backend, x, y)
                elif (least := backend.one_pass_from) and (
                    array.size >= least or last.size >= least
                ):
                    z = backend.in_one_pass(function, x, y)
                else:
                    z = operator(x, y)
            else:
                if not isinstance(b, Variable):
                    y = python_number(y)
                elif not isinstance(input, Variable):
                    x = python_number(x)
                x, y = promote(made, backend, [x, y])
                if (
                    operator is not None
                    and (least := backend.one_pass_from)
                    and (array.size >= least or last.size >= least)
                ):
                    z = backend.in_one_pass(function, x, y)
                else:
                    z = on_device_of(backend, function, x, y)
                z = cast_result(backend, z, x, y)
        except Exception as error:
            out = by_operand(made.public_name, reflected(operator), input, b)
            if out is not NotImplemented:
                return out
            if (placed := on_one_device((input, b))) is not None:
                return another_of_two(made)(*placed)
            raise explain(made, (input, b), error) from error
        out = variable.new_tensor()
        out.array = z
        out.backend = backend
        out._grad = out.view_info = out.views = None
        if (
            differentiable
            and (node_a is not node_b or node_a is not None)
            and (not switched or mode.grad)
        ):
            out.node = node = Node()
            node.op = made
            node.parents = (node_a, node_b)
            node.backend = backend
            node.sequence_nr = next_sequence_nr()
            node.shape = z.shape
            node.dtype = z.dtype
            frame = user_frame(1 + made.user_depth) if heavy else getframe(1)
            node.location = (frame.f_code, frame.f_lasti)
            if for_both:
                keeps = for_b if node_a is None else for_a if node_b is None else for_both
                keep_a, keep_b, keep_out = keeps
                node.saved = (
                    x if keep_a else None,
                    y if keep_b else None,
                    z if keep_out else None,
                )
                if inference_used and (node_a is None or node_b is None):
                    refuse_saved(node.saved, made.public_name, (input, b))
            else:
                node.saved = ()
            if switched and mode.grad is not True:
                watch(node)
        else:
            out.node = None
            if inference_used and mode.inference:
                out.inference = True
        return out

    return call


@functools.lru_cache(maxsize=64)
def another_of_two(made: Op) -> Callable[..., Any]:
    """Return the wrapper that `of_two` makes, cached, for calls that start again. If the wrapper
    called itself by name, its closure would have one variable more."""
    return of_two(made)


@functools.lru_cache(maxsize=64)
def another_of_one(made: Op) -> Callable[..., Any]:
    """The same for `of_one`."""
    return of_one(made)


def of_n(made: Op) -> Callable[..., Any]:
    function, differentiable, has_extras = made.function, bool(made.rules), made.has_extras
    promotes, checked = made.promotion != "none", made.checked
    least, takes_none = len(made.inputs), made.takes_none

    def call(*inputs: Any, **options: Any) -> Any:
        backend: Any = None
        shared: Any = None
        arrays: list[Any] = []
        nodes: list[Any] = []
        fits = promotes
        try:
            for t in inputs:
                if isinstance(t, Variable):
                    array = t.array
                    arrays.append(array)
                    nodes.append(t.node)
                    if backend is None:
                        backend, shared = t.backend, array.dtype
                    elif t.backend is not backend:
                        raise ValueError("two devices")
                    elif array.dtype is not shared:
                        fits = False
                else:
                    arrays.append(t if t is None else python_number(t))
                    nodes.append(None)
                    if t is not None or not takes_none:
                        fits = False
            if promotes and (not fits or shared.char in checked):
                arrays = promote(made, backend, arrays)
            if device_contexts:
                y = on_device_of(backend, function, *arrays, **options)
            else:
                y = function(backend, *arrays, **options)
        except Exception as error:
            if (placed := on_one_device(inputs, options)) is not None:
                return call(*placed, **options)
            y = moved(made, inputs, options, error)
        extras = None
        if has_extras:
            y, extras = y
        node = None
        if differentiable and any(nodes) and (not switched or mode.grad):
            if len(nodes) < least:  # trailing optional inputs left out
                nodes += [None] * (least - len(nodes))
                arrays += [None] * (least - len(arrays))
            node = made.record(backend, arrays, nodes, y, extras, options)
            if inference_used and node is not None:
                refuse_saved(node.saved or (), made.public_name, inputs)
        if type(y) is list:
            return outputs(y, backend, node)
        out = variable.new_tensor()  # as `wrap`
        out.array = y
        out.backend = backend
        out.node = node
        out._grad = out.view_info = out.views = None
        if inference_used and mode.inference:
            out.inference = True
        return out

    return call
