"""`utils.swap_tensors`: two tensors exchange what they are, in all places that hold them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from gradient.autograd.variable import Variable
from gradient.errors import AutogradError, TypeMismatch, sentence

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
    for t in (t1, t2):
        if t.view_info is not None or _has_view(t):
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


def _has_view(base: Any) -> bool:
    """Whether a view of `base` exists, a view of a leaf or one taken under no_grad too: these are
    in no list of views."""
    if gc.get_freeze_count():
        gc.unfreeze()  # `gc.get_referrers` leaves out frozen objects
    infos = (each for each in gc.get_referrers(base) if type(each) is tuple and len(each) == 3)
    return any(info[0] is base and isinstance(info[2], dict) for info in infos)
