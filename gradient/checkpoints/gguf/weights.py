"""Converts tensors between GGUF's and Hugging Face's names and layouts.

Layouts that differ in a GGUF file:
    LLaMA's query and key rows     in pairs, as the original code has them (`rotary_rows`)
    experts                        stacked, one tensor for all of a layer's
    Gemma's norms                  with 1 added
    GPT-2's matrices               (out, in) like all others, not (in, out)
    the gate of a shared expert    (in,), not (1, in)

Packed tensors are rearranged by rows and whole matrices; nothing is unpacked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradient
from gradient.backends.packed import PackedArray, parts_of
from gradient.checkpoints.gguf.rope import TENSORS as ROPE_TENSORS
from gradient.checkpoints.rotary_rows import (
    groups_from_stacked,
    halves_from_pairs,
    pairs_from_halves,
    stacked_from_groups,
)
from gradient.dtypes import PackedDType
from gradient.errors import StateDictError
from gradient.io.arrays import tensor_of
from gradient.io.gguf import GGUFFile, LazyTensor
from gradient.io.tensor_file import TensorFile
from gradient.models.gguf import Architecture, Experts
from gradient.tensor import Tensor

Transform = Callable[[Tensor], Tensor]
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)\.(weight|bias)")
_TOP = re.compile(r"([^.]+)\.(weight|bias)")
#: Files from before experts were stacked: blk.0.ffn_gate.7.weight.
_ONE_EXPERT = re.compile(r"(ffn_gate|ffn_down|ffn_up)\.(\d+)")
#: The gate and the up projection of every expert in one stack, the gate's rows first.
_FUSED_EXPERTS, _GATE, _UP = "ffn_gate_up_exps", "ffn_gate_exps", "ffn_up_exps"
_ROUTER, _SHARED_GATE = "ffn_gate_inp", "ffn_gate_inp_shexp"
_MAX_EXPERTS = 1 << 16
#: Stored in float32 for any dtype of the matrices: they are small, and llama.cpp requires it.
_FLOAT32 = ("ffn_gate_inp", "ffn_gate_inp_shexp", "position_embd", "token_types")


# Reading -----------------------------------------------------------------------------------------


class GGUFWeights(TensorFile):
    """A GGUF file's weights with Hugging Face's names and layout, made at access.

    Packed ones are always (out, in), as in modules; others that Hugging Face stores
    transposed are views. A tensor that the architecture does not have keeps its GGUF name, so
    that the loader reports it.
    """

    def __init__(self, file: GGUFFile, architecture: Architecture, config: Mapping[str, Any]):
        self.file = file
        self.path = file.path
        self._sources = dict(_sources(file, architecture, config))
        self.names = self._sources

    def __getitem__(self, name: str) -> Tensor:
        stored, transform = self._sources[name]
        tensor = self.file[stored]
        if transform is None:
            return tensor
        changed = transform(tensor)
        if isinstance(transform, _ReorderRows):  # a copy: the file's pages are no longer needed
            self.file.release(stored)
        return changed

    @property
    def nbytes(self) -> int:
        """Bytes of the file's tensors."""
        return self.file.nbytes

    def release(self, name: str) -> None:
        self.file.release(self._sources[name][0])


def _sources(
    file: GGUFFile, arch: Architecture, config: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[str, Transform | None]]]:
    """Each Hugging Face name, with the tensor that it comes from, and its conversion."""
    experts = arch.experts
    for stored, entry in file.entries.items():
        if stored in ROPE_TENSORS:
            continue
        if top := _TOP.fullmatch(stored):
            stem, kind = top.groups()
            name = f"{arch.top[stem]}.{kind}" if stem in arch.top else stored
            yield name, (stored, _read_transform(arch, stem, kind, config))
            continue
        match = _BLOCK.fullmatch(stored)
        if match is None:
            yield stored, (stored, None)
            continue
        layer, stem, kind = match.groups()
        if stem.startswith("attn_rot_embd"):
            continue
        prefix = f"{arch.layers}.{int(layer)}."
        transform = _read_transform(arch, stem, kind, config)
        if stem in arch.block:
            yield f"{prefix}{arch.block[stem]}.{kind}", (stored, transform)
        elif experts is not None and (named := dict(_expert_names(experts, stem, entry.shape))):
            for name, chosen in named.items():
                yield f"{prefix}{name}.{kind}", (stored, chosen)
        elif stem == "attn_qkv" and "attn_q" in arch.block:
            for part, rows in _qkv_rows(config).items():
                yield f"{prefix}{arch.block[part]}.{kind}", (stored, _select(rows))
        else:
            yield stored, (stored, None)


def _read_transform(
    arch: Architecture, stem: str, kind: str, config: Mapping[str, Any]
) -> Transform | None:
    if stem in arch.paired:
        return _ReorderRows(halves_from_pairs, _head_size(config), stem)
    if stem in arch.grouped:
        return _ReorderRows(_grouped(arch, groups_from_stacked, config), _head_size(config), stem)
    if arch.norms_plus_one and stem.endswith("norm") and kind == "weight":
        return lambda x: x.float() - 1
    if stem in arch.transposed and kind == "weight":
        return lambda x: x if x.dtype.is_packed else x.mT
    if stem == _SHARED_GATE:
        return lambda x: x.reshape(1, -1) if x.ndim == 1 else x
    return None


def _head_size(config: Mapping[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def _grouped(
    arch: Architecture,
    order: Callable[[int, int, int], np.ndarray],
    config: Mapping[str, Any],
) -> Callable[[int, int], np.ndarray]:
    """An order of queries, keys and values in one matrix, as if all were heads of one size."""
    keys = {key.gguf: config.get(key.hf) for key in arch.keys}
    kv_heads = keys.get("attention.head_count_kv")

    def rows(heads: int, size: int) -> np.ndarray:
        # The number of heads follows from the rows, as the file may not agree with its metadata.
        count = max(kv_heads or heads // 3, 1)
        if heads <= 2 * count or (heads - 2 * count) % count:
            raise StateDictError(f"{heads} heads are no queries, keys and values of {count} groups")
        return order(heads - 2 * count, count, size)

    return rows


@dataclass(frozen=True)
class _ReorderRows:
    """Reorders the rows of a matrix, or of a bias."""

    order: Callable[[int, int], np.ndarray]
    size: int  # of a head
    name: str

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[0] % self.size or self.size % 2:
            raise StateDictError(
                f"{self.name} has {x.shape[0]} rows, which are no whole heads of {self.size} (an "
                "even number)"
            )
        return x[self.order(x.shape[0] // self.size, self.size)]


def _expert_names(
    experts: Experts, stem: str, shape: tuple[int, ...]
) -> Iterator[tuple[str, Transform | None]]:
    """Names of the experts' matrices in one tensor; empty if it has none."""
    if stem == _ROUTER:
        yield experts.router, None
    elif one := _ONE_EXPERT.fullmatch(stem):
        yield experts.stems[f"{one[1]}_exps"].format(int(one[2])), None
    elif len(shape) != 3 or not all(shape) or shape[0] > _MAX_EXPERTS:
        return
    elif stem in experts.stems:
        for number in range(shape[0]):
            yield experts.stems[stem].format(number), _select(number)
    elif stem == _FUSED_EXPERTS and shape[1] % 2 == 0:
        half = shape[1] // 2
        for number in range(shape[0]):
            yield experts.stems[_GATE].format(number), _select(number, slice(0, half))
            yield experts.stems[_UP].format(number), _select(number, slice(half, None))


def _qkv_rows(config: Mapping[str, Any]) -> dict[str, slice]:
    """The rows of the queries, the keys and the values in a fused matrix."""
    size = config["hidden_size"] // config["num_attention_heads"]
    queries, keys = (config[f"num_{name}_heads"] * size for name in ("attention", "key_value"))
    ends = (queries, queries + keys)
    return {
        "attn_q": slice(0, ends[0]),
        "attn_k": slice(*ends),
        "attn_v": slice(ends[1], ends[1] + keys),
    }


def _select(*indices: int | slice) -> Transform:
    def selected(x: Tensor) -> Tensor:
        for index in indices:
            x = x[index]
        return x

    return selected


# Writing -----------------------------------------------------------------------------------------

#: Converts a tensor to another dtype; `gradient.quantization` has functions for packed dtypes.
Cast = Callable[[Tensor, gradient.DType], Tensor]
#: Chooses the stored dtype of a tensor, by its GGUF name, shape and dtype.
Choose = Callable[[str, tuple[int, ...], gradient.DType], gradient.DType]


def to_tensors(
    state: Mapping[str, Tensor],
    architecture: Architecture,
    config: Mapping[str, Any],
    choose: Choose,
    cast: Cast,
) -> dict[str, LazyTensor]:
    """Return the tensors of a GGUF file, each made from a checkpoint's just before it is written.

    Args:
        state: by Hugging Face's names, experts one by one.
        config: config.json's content.
        choose: the dtype of each matrix; vectors are stored in float32.
        cast: converts a tensor to the chosen dtype.

    Raises:
        StateDictError: tensors that the architecture does not have, all listed; an incomplete
            set of experts.
    """
    names, stacks, unknown = _gguf_names(state, architecture, config)
    if unknown:
        raise StateDictError(
            f"{len(unknown)} tensors have no place in a GGUF of architecture "
            f"{architecture.name!r}:\n" + "\n".join(f"  {name}" for name in unknown[:20])
        )

    def dtype_of(name: str, shape: tuple[int, ...], dtype: gradient.DType) -> gradient.DType:
        stem = _BLOCK.sub(r"\2", name).removesuffix(".weight")
        if len(shape) == 1 or stem in _FLOAT32:
            return gradient.float32
        return choose(name, shape, dtype)

    tensors = {}
    for stored, name in names.items():
        tensor = state[name]
        transform = _write_transform(architecture, stored, config)
        shape = _written_shape(architecture, stored, tensor)
        dtype = dtype_of(stored, shape, tensor.dtype)

        def make(name: str = name, transform: Any = transform, dtype: Any = dtype) -> Tensor:
            return _made(state[name], transform, dtype, cast)

        tensors[stored] = LazyTensor(shape, dtype, make)
    for stored, members in stacks.items():
        first = state[members[0]]
        shape = (len(members), *first.shape)
        dtype = dtype_of(stored, shape, first.dtype)

        def stack(members: Any = members, dtype: Any = dtype) -> Tensor:
            made = (_made(state[name], None, dtype, cast) for name in members)
            return stacked(made, len(members))

        tensors[stored] = LazyTensor(shape, dtype, stack)
    return tensors


def _made(x: Tensor, transform: Transform | None, dtype: gradient.DType, cast: Cast) -> Tensor:
    x = x.detach().cpu()
    x = x if transform is None else transform(x)
    return x if x.dtype == dtype else cast(x, dtype)


def _gguf_names(
    state: Mapping[str, Tensor], arch: Architecture, config: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
    """{GGUF name: Hugging Face's}, {GGUF name: the experts'}, and names without a GGUF name."""
    top = {hf: stem for stem, hf in arch.top.items()}
    block = {hf: stem for stem, hf in arch.block.items()}
    experts = arch.experts
    member = {}
    if experts is not None:
        block[experts.router] = _ROUTER
        member = {
            stem: re.compile(re.escape(hf).replace(r"\{\}", r"(\d+)"))
            for stem, hf in experts.stems.items()
        }
    layer_name = re.compile(re.escape(arch.layers) + r"\.(\d+)\.(.+)")
    names: dict[str, str] = {}
    found: dict[str, dict[int, str]] = {}
    unknown = []
    for name in state:
        path, _, kind = name.rpartition(".")
        if any(re.search(pattern, name) for pattern in arch.dropped):
            continue
        if path in top:
            names[f"{top[path]}.{kind}"] = name
            continue
        match = layer_name.fullmatch(path)
        if match is None:
            unknown.append(name)
            continue
        layer, module = match.groups()
        if module in block:
            names[f"blk.{layer}.{block[module]}.{kind}"] = name
            continue
        for stem, pattern in member.items():
            if one := pattern.fullmatch(module):
                found.setdefault(f"blk.{layer}.{stem}.{kind}", {})[int(one[1])] = name
                break
        else:
            unknown.append(name)
    stacks = {}
    for stored, members in found.items():
        if sorted(members) != list(range(len(members))):
            raise StateDictError(f"{stored}: of its experts only {sorted(members)} are there")
        stacks[stored] = [members[number] for number in range(len(members))]
    return names, stacks, unknown


def _write_transform(
    arch: Architecture, stored: str, config: Mapping[str, Any]
) -> Transform | None:
    match = _BLOCK.fullmatch(stored) or _TOP.fullmatch(stored)
    assert match is not None
    stem, kind = match.groups()[-2:]
    if stem in arch.paired:
        return _ReorderRows(pairs_from_halves, _head_size(config), stored)
    if stem in arch.grouped:
        return _ReorderRows(_grouped(arch, stacked_from_groups, config), _head_size(config), stored)
    if arch.norms_plus_one and stem.endswith("norm") and kind == "weight":
        return lambda x: x.float() + 1
    if _is_transposed(arch, stem, kind):
        return lambda x: x if x.dtype.is_packed else x.mT
    if stem == _SHARED_GATE:
        return lambda x: x.reshape(-1)
    return None


def _is_transposed(arch: Architecture, stem: str, kind: str) -> bool:
    return stem in arch.transposed and kind == "weight"


def _written_shape(arch: Architecture, stored: str, x: Tensor) -> tuple[int, ...]:
    match = _BLOCK.fullmatch(stored) or _TOP.fullmatch(stored)
    assert match is not None
    stem, kind = match.groups()[-2:]
    if _is_transposed(arch, stem, kind) and not x.dtype.is_packed:
        return (x.shape[1], x.shape[0])
    return (x.numel(),) if stem == _SHARED_GATE else tuple(x.shape)


def stacked(tensors: Iterator[Tensor], count: int) -> Tensor:
    """Return CPU tensors of one shape and dtype as one with a new first axis, packed ones packed.

    Each is copied to its place and dropped before the next is made.
    """
    arrays: list[np.ndarray] = []
    for number, tensor in enumerate(tensors):
        parts = parts_of(tensor.array)
        if number == 0:
            first = tensor
            arrays = [np.empty((count, *part.shape), part.dtype) for part in parts]
        for array, part in zip(arrays, parts, strict=True):
            array[number] = part
    if not isinstance(first.dtype, PackedDType):
        return tensor_of(arrays[0])
    stack = PackedArray(first.dtype, (count, *first.shape), tuple(arrays))
    return Tensor._wrap(stack, first.backend)
