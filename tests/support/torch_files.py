"""Writes files as `torch.save` does, without PyTorch, and such as it would not write."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np


class Global:
    """Pickles as the global of this name, whether or not there is such a thing."""

    def __init__(self, module: str, name: str):
        self.name = f"c{module}\n{name}\n".encode()


class Pickler:
    """Writes the few instructions that PyTorch's files are made of."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")

    def write(self, value: object) -> Pickler:
        if isinstance(value, Global):
            self.out += value.name
        elif isinstance(value, dict):
            self.out += b"}("
            for key, item in value.items():
                self.write(key).write(item)
            self.out += b"u"
        elif isinstance(value, tuple):
            self.out += b"("
            for item in value:
                self.write(item)
            self.out += b"t"
        elif isinstance(value, Reduce):
            self.write(value.function).write(value.args)
            self.out += b"R"
        elif isinstance(value, Same):
            self.out += b"N" + b"2\x86" * value.n
        elif isinstance(value, Module):
            self.write(Global("models", "Net"))
            self.out += b")\x81"
            self.write({"training": True, "_modules": {}})
            self.out += b"b"
        elif isinstance(value, Storage):
            kind = Global("torch", value.kind) if isinstance(value.kind, str) else value.kind
            self.write(("storage", kind, value.key, "cpu", 1))
            self.out += b"Q"
        else:
            self.out += pickle.dumps(value, 2)[2:-1]
        return self


class Same:
    """A value that is in the pickle twice over, n times: 2**n values of n instructions."""

    def __init__(self, n: int):
        self.n = n


class Reduce:
    def __init__(self, function: Global, *args: object):
        self.function, self.args = function, args


class Module:
    """An object of a class of the file's author, as `torch.save(module)` writes it."""


class Storage:
    def __init__(self, key: str, kind: object = "FloatStorage"):
        self.key, self.kind = key, kind


def tensor(storage: object, shape: tuple, stride: tuple, offset: object = 0) -> Reduce:
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return Reduce(rebuild, storage, offset, shape, stride, False, {})


def write(path: Path, content: object, storages: dict[str, np.ndarray], **zip_options: int) -> Path:
    with zipfile.ZipFile(path, "w", **zip_options) as archive:
        archive.writestr("archive/data.pkl", bytes(Pickler().write(content).out) + b".")
        archive.writestr("archive/byteorder", "little")
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
    return path
