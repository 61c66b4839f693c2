"""`utils.swap_tensors`: two tensors exchange what they are, in all places that hold them."""

from __future__ import annotations

import weakref
from typing import Any

from gradient.autograd.variable import Variable
from gradient.errors import AutogradError, TypeMismatch, sentence
from gradient.tensor.views import list_views

SLOTS = ("_grad", "array", "backend", "inference", "node")


def swap_tensors(t1: Any, t2: Any) -> None:
    """Exchange values, dtypes, gradients, places in the graph and attributes of two tensors.

    Raises:
        TypeMismatch: they are not of one class.
        AutogradError: one of them is a view, or has views, which would show the other's memory.
    """
    if not isinstance(t1, Variable) or type(t1) is not type(t2):
        got = f"{type(t1).__name__} and {type(t2).__name__}"
        raise TypeMismatch(sentence("swap_tensors", "two tensors of one class", got))
    list_views()
    for t in (t1, t2):
        views = [view() for view in t.views or ()]
        if t.view_info is not None or any(v is not None for v in views):
            got = "one that is or has a view"
            raise AutogradError(
                sentence("swap_tensors", "tensors without views", got, "clone() it")
            )
    for name in SLOTS:
        before = [getattr(t, name, None) for t in (t1, t2)]
        for t, value in zip((t1, t2), reversed(before), strict=True):
            setattr(t, name, value)
    for t in (t1, t2):
        if t.node is not None and t.node.op is None:
            t.node.leaf = weakref.ref(t)
    own = [dict(vars(t)) if hasattr(t, "__dict__") else {} for t in (t1, t2)]
    for t, attributes in zip((t1, t2), reversed(own), strict=True):
        if hasattr(t, "__dict__"):
            vars(t).clear()
            vars(t).update(attributes)
