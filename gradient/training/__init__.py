"""Training language models from text: `train(TrainConfig(...))`, or `gradient train`."""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.training.config import *
from gradient.training.reporters import *

if TYPE_CHECKING:
    from gradient.training.run import *
else:
    # The command line needs TrainConfig for its help text, and no models for that.
    _late = ("TrainResult", "train")
    __all__ = [*_public(globals()), *_late]
    __dir__ = _shown(globals(), *_late)

    def __getattr__(name: str) -> object:
        if name in _late:
            from gradient.training import run

            return getattr(run, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
