"""Language models, one file per architecture family; `gradient.checkpoints` loads them."""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.models import registry
from gradient.models.causal_lm import *
from gradient.models.config import *
from gradient.models.encoder import *
from gradient.models.pretrained import *
from gradient.models.registry import *

if TYPE_CHECKING:  # the families' classes, which are imported when first named
    from gradient.models.families import *
else:
    __all__ = [*_public(globals()), *registry.LATE]
    __dir__ = _shown(globals(), *registry.LATE)


def __getattr__(name: str) -> type:
    if name not in registry.LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = registry.imported(registry.LATE[name])
    globals()[name] = value
    return value
