"""`gradient.save` and `gradient.load`: nested dicts and lists of tensors, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gradient.errors import FileFormatError, TypeMismatch, sentence
from gradient.io.regular_file import Source, file_format
from gradient.io.safetensors import SafetensorsFile, save_file
from gradient.io.structure import Encoder, decode
from gradient.io.torch_file import TorchFile
from gradient.tensor import Tensor
from gradient.tensor.device import Device, DeviceLike

__all__ = ["load", "save"]

#: The header field for the structure around the tensors.
STRUCTURE = "gradient.structure"


def save(obj: Any, f: Source) -> None:
    """Write tensors, and dicts, lists, tuples and scalars of them, to a file or a stream of bytes.

        gradient.save(model.state_dict(), "model.safetensors")
        gradient.save({"model": model.state_dict(), "epoch": 3}, "run.safetensors")

    The file is in the safetensors format, so other programs read its tensors; the structure around
    them is JSON in its header. A flat dict of tensors is written as such. The write is atomic: a
    crash or a full disk leaves an older file unchanged. A tensor that occurs twice (tied weights)
    is stored once; of one on the device meta, only its shape and dtype are. As in PyTorch, values
    are stored, not graphs. For a module or another object with a `state_dict`, the `state_dict` is
    written, with a warning, because a file stores no classes. So a run that ends with `save(model)`
    loses nothing.

    Raises:
        TypeMismatch: `obj` contains something else (an object, a function).
        CheckpointError: the disk is full or failing.
    """
    encoder = Encoder()
    structure = encoder.encode(obj)
    flat = isinstance(obj, Mapping) and structure == {
        name: {"$tensor": name} for name in encoder.tensors
    }
    metadata = {"format": "pt"}  # some libraries require it; it means only the layout of tensors
    if not flat:
        metadata[STRUCTURE] = json.dumps(structure, ensure_ascii=False, separators=(",", ":"))
    save_file(encoder.tensors, f, metadata)


def load(f: Source, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """Return what `gradient.save` wrote; for any other safetensors file, the dict of its tensors.

    A file saved by PyTorch (.pt, .pth, .bin) is read too: dicts, lists, numbers and tensors. Other
    objects in it are described, not made, see `gradient.io.torch_file`.

    Args:
        f: a path; or a stream of bytes, such as `io.BytesIO`, of which the rest is read.
        map_location: the device of the tensors; default: the CPU, where they are views of the
            mapped file (nothing is read before its use; writes do not change the file). A dict
            says where tensors that were saved from a device go, {"cuda:0": "cuda:1"} (safetensors
            files do not say it: "cpu"). A function of PyTorch's leaves them on the CPU.
        weights_only: for compatibility with PyTorch. Nothing is unpickled in either case.

    Raises:
        ModelNotFound: there is no such file.
        FileFormatError: it is damaged, or of another format.
        TypeMismatch: `map_location` is none of these.
    """
    devices = map_location if isinstance(map_location, dict) else {}
    if callable(map_location) or isinstance(map_location, dict):
        map_location = devices.get("cpu")
    for device in (map_location, *devices.values()):
        if device is not None and not isinstance(device, (str, Device)):
            expected = "map_location, a device, a dict of devices or a function"
            raise TypeMismatch(sentence("load", expected, repr(device)))
    if file_format(f) == "zip":
        if devices:
            return TorchFile(f).structure(devices)
        return _moved(TorchFile(f).structure(), map_location)
    file = SafetensorsFile(f)
    tensors: Mapping[str, Tensor] = file
    if map_location is not None and str(map_location) != "cpu":
        tensors = {name: tensor.to(map_location) for name, tensor in file.items()}
    if STRUCTURE not in file.metadata:
        return dict(tensors)
    try:
        structure = json.loads(file.metadata[STRUCTURE])
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{file.path}: its {STRUCTURE} is not proper JSON: {error}") from None
    return decode(structure, tensors, file.path)


def _moved(value: Any, device: DeviceLike) -> Any:
    """Nested values with all tensors moved to a device."""
    if device is None or str(device) == "cpu":
        return value
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(item, device) for item in value)
    return value.to(device) if isinstance(value, Tensor) else value
