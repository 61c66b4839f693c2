"""The public names of PyTorch's modules, and which of them gradient has."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
import types
from typing import Any

MODULES = (
    "torch", "torch.Tensor", "torch.accelerator", "torch.amp", "torch.autograd",
    "torch.autograd.forward_ad", "torch.autograd.function", "torch.autograd.functional",
    "torch.autograd.grad_mode", "torch.autograd.graph", "torch.autograd.profiler",
    "torch.backends", "torch.backends.cuda", "torch.backends.cudnn", "torch.backends.mps",
    "torch.compiler", "torch.cpu", "torch.cuda", "torch.cuda.amp", "torch.cuda.memory",
    "torch.cuda.random", "torch.distributed", "torch.distributions",
    "torch.distributions.constraints", "torch.distributions.kl", "torch.distributions.transforms",
    "torch.distributions.utils", "torch.fft", "torch.func", "torch.futures", "torch.fx",
    "torch.hub", "torch.jit", "torch.linalg", "torch.masked", "torch.mps",
    "torch.multiprocessing", "torch.nn", "torch.nn.attention", "torch.nn.attention.bias",
    "torch.nn.attention.flex_attention", "torch.nn.functional", "torch.nn.init",
    "torch.nn.modules", "torch.nn.parallel", "torch.nn.parameter", "torch.nn.utils",
    "torch.nn.utils.parametrizations", "torch.nn.utils.parametrize", "torch.nn.utils.prune",
    "torch.nn.utils.rnn", "torch.nn.utils.stateless", "torch.onnx", "torch.optim",
    "torch.optim.lr_scheduler", "torch.optim.swa_utils", "torch.overrides", "torch.profiler",
    "torch.quasirandom", "torch.random", "torch.return_types", "torch.serialization",
    "torch.signal", "torch.signal.windows", "torch.special", "torch.testing", "torch.types",
    "torch.utils", "torch.utils.benchmark", "torch.utils.checkpoint", "torch.utils.data",
    "torch.utils.data.dataloader", "torch.utils.data.dataset", "torch.utils.data.distributed",
    "torch.utils.data.sampler", "torch.utils.dlpack", "torch.utils.hooks",
    "torch.utils.model_zoo", "torch.utils.tensorboard", "torch.version", "torch.xpu",
)  # fmt: skip
"""Whose public names are walked: those that scripts import."""


def space(path: str) -> Any:
    """A module by its dotted name, or the class Tensor; None if there is none."""
    module, _, name = path.rpartition(".")
    if name == "Tensor":
        return getattr(importlib.import_module(module), name)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        return None


@functools.cache
def loaded() -> frozenset[str]:
    """The modules that a process has which imports these and nothing else: others are attributes
    of theirs only if another test imported them."""
    program = (
        "import importlib, sys, contextlib\n"
        "for name in sys.argv[1:]:\n"
        "    with contextlib.suppress(ImportError):\n"
        "        importlib.import_module(name)\n"
        "for name, module in list(sys.modules.items()):\n"
        "    parent, _, own = name.rpartition('.')\n"
        "    if vars(sys.modules.get(parent, sys)).get(own) is module:\n"
        "        print(name)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *MODULES],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return frozenset(run.stdout.split())


def public(path: str) -> list[str]:
    """The names that one of PyTorch's modules gives to others: those of its `__all__` and its
    modules; without `__all__`, what it or another module of PyTorch's defines."""
    theirs = space(path)
    listed = getattr(theirs, "__all__", None)
    found = [
        name
        for module, _, name in (each.rpartition(".") for each in loaded())
        if module == path and name[0] != "_"
    ]
    for name in dir(theirs):
        value = getattr(theirs, name, None)
        if name.startswith("_") or value is None or isinstance(value, types.ModuleType):
            continue
        if listed is not None:
            own = name in listed
        else:
            own = path.endswith(".Tensor") or defined_in_torch(value)
        if own:
            found.append(name)
    return sorted(set(found))


def defined_in_torch(value: Any) -> bool:
    module = getattr(value, "__module__", None)
    if not isinstance(module, str):  # numbers, tables, texts for docstrings, imported types
        return not isinstance(value, str | dict | tuple | list) and type(value).__module__ in (
            "torch",
            "builtins",
        )
    return module.startswith("torch") or module == "builtins"


def absent(path: str) -> tuple[list[str], list[str]]:
    """The dotted names in a module that gradient has not, and those that it has."""
    ours = space(path.replace("torch", "gradient", 1))
    names: tuple[list[str], list[str]] = [], []
    for name in public(path):
        names[ours is not None and hasattr(ours, name)].append(f"{path}.{name}")
    return names
