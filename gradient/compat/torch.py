"""Run scripts that say `import torch`, unedited.

$ python -m gradient.compat.torch train.py --epochs 3

or, in a program that imports such code: `gradient.compat.torch.install()`. From then on `torch` and
its modules are this package's, for libraries that look for it too. An installed PyTorch is not
touched, and not seen by this process, nor by those that it spawns.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import multiprocessing.spawn
import runpy
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from gradient.dtypes import DType
from gradient.errors import ArgumentError

VERSION = "2.13.0"
"""The release of PyTorch that is followed, for scripts that ask."""


OTHERS = {
    "torch.functional": "gradient.compat.package_functions",
    "torch.ops": "gradient.compat.operators",
}
"""Modules of other names: `gradient.functional` has layers' functions, `gradient.ops` formulas."""


def _own(name: str) -> str:
    """The name of the module that is given for one of PyTorch's."""
    return OTHERS.get(name, f"gradient{name.removeprefix('torch')}")


class Loader(importlib.abc.Loader):
    """Gives `torch.nn` and the like: the module of ours itself, not a copy."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        own = importlib.import_module(_own(spec.name))
        if spec.name == "torch":
            module = ModuleType("torch", own.__doc__)
            module.__dict__.update(__version__=VERSION, __path__=[], __getattr__=_of_package)
            return module
        self.spec = own.__spec__
        return own

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ != "torch":
            module.__spec__ = self.spec  # the import system has put torch's in its place
            _prepared(module)


def _of_package(name: str) -> Any:
    if name == "torch":
        return sys.modules[name]
    if name.startswith("__") and name != "__config__":
        raise AttributeError(f"module 'torch' has no attribute {name!r}")
    if name == "__config__":
        return importlib.import_module("gradient.__config__")
    if f"torch.{name}" in OTHERS:
        return importlib.import_module(OTHERS[f"torch.{name}"])
    found = getattr(importlib.import_module("gradient"), name)
    if isinstance(found, FunctionType) and not name.startswith("_"):
        from gradient.compat.overrides import NOT_ASKED, asking

        found = found if name in NOT_ASKED else asking(found, "torch")
        vars(sys.modules["torch"])[name] = found
    return _prepared(found)


ASKING = {
    "gradient.fft": "torch.fft",
    "gradient.linalg": "torch.linalg",
    "gradient.nn.functional": "torch.nn.functional",
    "gradient.special": "torch.special",
}
"""Modules whose functions ask the `__torch_function__` of their arguments."""


def _prepared(found: Any) -> Any:
    """The same, after the functions of a module were made to ask."""
    if isinstance(found, ModuleType):
        if found.__name__ == "gradient.nn":
            _prepared(found.functional)
        if found.__name__ in ASKING:
            from gradient.compat.overrides import let_ask

            let_ask(found, ASKING[found.__name__], partial(getattr, sys.modules["torch"]))
    return found


class Finder:
    """Finds `torch` and its modules among this package's."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "torch" and not name.startswith("torch."):
            return None
        if importlib.util.find_spec(_own(name)) is None:
            return None
        return ModuleSpec(name, Loader(), is_package=True)


def install() -> None:
    """Have `import torch` give this package."""
    if Finder in sys.meta_path:
        return
    if "torch" in sys.modules:
        raise ArgumentError("compat.torch.install: PyTorch is imported already; call it before")
    sys.meta_path.insert(0, Finder)
    DType.package = "torch"  # libraries read names from `str(dtype)`
    preparation = multiprocessing.spawn.get_preparation_data

    def with_installation(name: str) -> dict[str, Any]:
        return {**preparation(name), "gradient.compat.torch": _Installation()}

    multiprocessing.spawn.get_preparation_data = with_installation


class _Installation:
    """Unpickled by a process that is being spawned, before it imports the script: `install()`."""

    def __reduce__(self) -> Any:
        return install, ()


def main(arguments: list[str]) -> None:
    if not arguments:
        raise SystemExit("usage: python -m gradient.compat.torch SCRIPT [ARGUMENTS ...]")
    install()
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).resolve().parent)
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    from gradient.compat.torch import main as run  # of the module by that name, for children

    run(sys.argv[1:])
