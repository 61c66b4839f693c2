"""Models whose weights take no memory, and the bytes that real ones would take.

Layers run one after another and reuse memory: to learn what a pass takes, those that differ from
one another are enough.
"""

from __future__ import annotations

import math
import mmap

import numpy as np

import gradient
from gradient import nn, quantization
from gradient.dtypes import PackedDType
from gradient.models.causal_lm import CausalLM


def weight_bytes(model: CausalLM, packed: dict[str, PackedDType], dtype: gradient.DType) -> int:
    """Bytes of a model's weights after packing or conversion."""
    total = 0
    looked_up = _only_looked_up(model)
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        if parameter.dtype.is_packed:
            size = parameter.nbytes
        elif name in packed:
            size = packed[name].nbytes(shape)
            if name not in looked_up:
                size *= 2  # the packed blocks, and the panels for products
        else:
            size = parameter.numel() * dtype.itemsize
        mapped = name not in packed and (parameter.dtype is dtype or parameter.dtype.is_packed)
        if not (mapped and name in looked_up):
            total += size
    return total


def panel_bytes(model: CausalLM) -> int:
    """The approximate bytes of the panels for products with a model's packed weights on the CPU."""
    weights = {id(m.weight): m.weight for m in model.modules() if isinstance(m, nn.Linear)}
    return sum(weight.nbytes for weight in weights.values() if weight.dtype.is_packed)


def _only_looked_up(model: nn.Module) -> set[str]:
    """Names of the matrices that are only embeddings."""
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    return {
        f"{path}.weight"
        for path, module in model.named_modules()
        if isinstance(module, nn.Embedding) and id(module.weight) not in linear
    }


def empty_weights(
    model: CausalLM,
    packed: dict[str, PackedDType],
    dtype: gradient.DType,
    *,
    unpacked: bool = False,
) -> None:
    """Replace a model's weights by ones of the right dtypes that take no memory.

    With `unpacked`, packed weights become unpacked ones, as products would make panels of them.
    """
    made: dict[int, nn.Parameter] = {}
    for path, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in made:
                full = f"{path}.{name}" if path else name
                own = dtype if unpacked else parameter.dtype
                empty = _empty(tuple(parameter.shape), packed.get(full), own, dtype)
                made[id(parameter)] = nn.Parameter(empty, requires_grad=False)
            setattr(module, name, made[id(parameter)])
    model.to(dtype)


def _empty(
    shape: tuple[int, ...], packed: PackedDType | None, own: gradient.DType, dtype: gradient.DType
) -> gradient.Tensor:
    kind = own if isinstance(own, PackedDType) else packed
    if kind is None:
        return gradient.from_numpy(_untouched(shape, dtype.numpy))
    parts = tuple(_untouched(size, numpy) for size, numpy in kind.parts_of(shape))
    return quantization.packed_tensor(parts, kind, shape)


def _untouched(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that take no memory: the system maps one page of zeros until something is written."""
    size = math.prod(shape) * dtype.itemsize
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return np.zeros(shape, dtype)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, max(size, 1), flags=flags)
    return np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)


def keep_distinct_layers(model: CausalLM) -> int:
    """Keep only the first layers of a model, until every kind of layer has occurred once.

    Returns:
        The number of kept layers.
    """
    for module in model.modules():
        for name, layers in list(module.named_children()):
            if isinstance(layers, nn.ModuleList) and len(layers) == len(model.kv_shapes):
                kinds = [
                    (shape, [(n, tuple(p.shape), p.dtype) for n, p in layer.named_parameters()])
                    for shape, layer in zip(model.kv_shapes, layers, strict=True)
                ]
                last = max(at for at, kind in enumerate(kinds) if kind not in kinds[:at])
                setattr(module, name, nn.ModuleList(list(layers)[: last + 1]))
                return last + 1
    return len(model.kv_shapes)
