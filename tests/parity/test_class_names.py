"""The public methods and attributes of PyTorch's classes are here, or have a reason why not."""

from __future__ import annotations

import importlib
import inspect
from fnmatch import fnmatchcase

import pytest

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
torch = pytest.importorskip("torch")

MODULES = (
    "amp", "distributions", "nn", "nn.utils.parametrize", "nn.utils.rnn", "optim",
    "optim.lr_scheduler", "optim.swa_utils", "utils.data", "utils.tensorboard",
)  # fmt: skip

ABSENT = {
    "*.ipu": "other devices",
    "*.mtia": "other devices",
    "*.xpu": "other devices",
    "*.T_destination": "a type variable",
    "*.call_super_init": "PyTorch's own modules set it",
    "*.dump_patches": "retired",
    "nn.*.check_*": "steps of RNNBase.forward",
    "nn.*.get_expected_*": "steps of RNNBase.forward",
    "nn.*.permute_hidden": "steps of RNNBase.forward",
    "nn.MultiheadAttention.merge_masks": "a step of its forward",
    "nn.DataParallel.*": "there is one device",
    "nn.utils.rnn.PackedSequence.is_pinned": "`pin_memory` has no effect",
    "nn.utils.rnn.PackedSequence.pin_memory": "`pin_memory` has no effect",
    "optim.*.Optimizer*Hook": "type variables",
    "optim.Optimizer*Hook": "type variables",
    "optim.*.profile_hook_step": "a decorator of `step`",
    "optim.Adagrad.share_memory": "the state is made at the first step",
    "optim.lr_scheduler.CyclicLR.scale_fn": "a step of get_lr",
    "optim.lr_scheduler.SequentialLR.recursive_undo": "a step of __init__",
    "utils.data.ConcatDataset.cummulative_sizes": "retired",
    "utils.data.ConcatDataset.cumsum": "a step of __init__",
    "utils.data.DataLoader.check_worker_number_rationality": "a step of __init__",
    "distributions.*.domain": "an attribute of objects here",
    "distributions.*.codomain": "an attribute of objects here",
    "distributions.*.sign": "an attribute of objects here, where the sign is constant",
    "distributions.Distribution.support": "each distribution has its own",
    "distributions.ExponentialFamily.support": "each distribution has its own",
    "distributions.MixtureSameFamily.*_distribution": "an attribute of objects here",
    "distributions.Wishart.scale_tril": "an attribute of objects here",
    "utils.tensorboard.SummaryWriter.add_*": "sounds, videos, meshes, curves: not written",
}


def reason(path: str) -> str | None:
    return next((ABSENT[p] for p in ABSENT if fnmatchcase(path, p)), None)


def absent(module: str) -> list[str]:
    theirs = importlib.import_module(f"torch.{module}")
    ours = importlib.import_module(f"gradient.{module}")
    found = []
    for name, cls in inspect.getmembers(theirs, inspect.isclass):
        mine = getattr(ours, name, None)
        if name[0] == "_" or not inspect.isclass(mine) or issubclass(cls, torch.Tensor):
            continue
        if cls.__module__.partition(".")[0] == "torch":
            listed = (n for n in dir(cls) if n[0] != "_" and not hasattr(mine, n))
            found += [f"{module}.{name}.{n}" for n in listed if not is_of_transformers(cls, n)]
    return found


def is_of_transformers(cls: type, name: str) -> bool:
    """Whether transformers, which other tests import, has added this method to PyTorch's class."""
    made_in = getattr(getattr(cls, name), "__module__", None)
    return isinstance(made_in, str) and made_in.partition(".")[0] == "transformers"


@pytest.mark.parametrize("module", MODULES)
def test_what_a_class_lacks_has_a_reason(module: str) -> None:
    assert [path for path in absent(module) if reason(path) is None] == []


def test_every_reason_is_of_something_absent() -> None:
    paths = [path for module in MODULES for path in absent(module)]
    unused = [p for p in ABSENT if not any(fnmatchcase(path, p) for path in paths)]
    assert unused == []
