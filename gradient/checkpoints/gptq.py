"""4-bit weights of GPTQ and AWQ in a Hugging Face folder, read as `int4_group`.

Each linear layer has, in place of `weight` (N, K), for groups of neighbours along K:

             GPTQ                               AWQ ("gemm")
    qweight  int32 (K / 8, N), eight of K       int32 (K, N / 8), eight of N in the order ORDER
    qzeros   int32 (K / group, N / 8)           the same in that order
    scales   float16 (K / group, N)             the same
    g_idx    int32 (K,), the group of each k

    weight = scale * (code - zero)

GPTQ's zeros are stored less 1, unless "checkpoint_format" is "gptq_v2". Codes, scales and zeros are
used unchanged: nothing is rounded. "group_size" -1 is one group of all K; the last group of a
row may be shorter than the others. If columns were sorted by size before quantisation
("desc_act"), those of a group are not neighbours. Weights in groups that `int4_group` lacks become
float16.

Frantar et al. 2022, "GPTQ"; Lin et al. 2023, "AWQ". Layouts: AutoGPTQ's and AutoAWQ's `pack`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import gradient
from gradient.backends import get
from gradient.backends.packed import PackedArray
from gradient.dtypes.packed import int4_group, int4_group32, int4_group128
from gradient.errors import FileFormatError, UnsupportedModel
from gradient.io.tensor_file import TensorFile
from gradient.tensor import Tensor

METHODS = ("gptq", "awq")
SUFFIX = ".qweight"
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight neighbours lies in each four bits of an int32, lowest first, in AWQ's files."""
FORMATS = (int4_group128, int4_group, int4_group32)
PARTS = ("qzeros", "scales", "g_idx")
GROUP_SIZE = 128
"""Where the settings have none: the default of both libraries."""


def is_quantized(tensors: TensorFile) -> bool:
    """Whether the tensors include weights in the layout of these libraries."""
    return any(name.endswith(SUFFIX) for name in tensors)


class GPTQWeights(TensorFile):
    """A folder's tensors, with `weight` instead of the tensors that it is made from.

    Raises:
        UnsupportedModel: `settings`, config.json's "quantization_config", does not have 4 bits, has
            an invalid group size, or another of AWQ's layouts.
    """

    def __init__(self, file: TensorFile, settings: Mapping[str, Any]) -> None:
        self.file, self.path = file, file.path
        self._awq = settings["quant_method"] == "awq"
        bits, version = settings.get("bits"), settings.get("version", "gemm")
        if bits != 4 or (self._awq and str(version).lower() != "gemm"):
            layout = f" in the layout {version!r}" if self._awq else ""
            raise UnsupportedModel(
                f"{self.path}: its weights are quantised by {settings['quant_method']!r} to {bits} "
                f"bits{layout}; expected 4 bits{' in the layout gemm' if self._awq else ''}: load "
                "the unquantised model, with quantize= for smaller weights"
            )
        self._group = settings.get("group_size", GROUP_SIZE)
        if type(self._group) is not int or (self._group < 1 and self._group != -1):
            raise UnsupportedModel(
                f"{self.path}: its quantization_config has group_size {self._group!r}; expected a "
                "positive number, or -1 for one group a row"
            )
        less_one = not self._awq and settings.get("checkpoint_format", "gptq") != "gptq_v2"
        self._zero_offset = int(less_one)
        layers = [name.removesuffix(SUFFIX) for name in file if name.endswith(SUFFIX)]
        self._layers = {
            f"{layer}.weight": layer
            for layer in layers
            if f"{layer}.qzeros" in file and f"{layer}.scales" in file
        }
        parts = {f"{layer}.{p}" for layer in self._layers.values() for p in ("qweight", *PARTS)}
        unquantized = [name for name in file if name not in parts]
        self.names = dict.fromkeys([*unquantized, *self._layers])

    @property
    def nbytes(self) -> int:
        return self.file.nbytes

    def __getitem__(self, name: str) -> Tensor:
        layer = self._layers.get(name)
        return self.file[name] if layer is None else self._packed(layer)

    def release(self, name: str) -> None:
        layer = self._layers.get(name)
        if layer is None:
            self.file.release(name)
            return
        for part in ("qweight", *PARTS):
            if f"{layer}.{part}" in self.file:
                self.file.release(f"{layer}.{part}")

    def _packed(self, layer: str) -> Tensor:
        def part(name: str) -> np.ndarray:
            return np.asarray(self.file[f"{layer}.{name}"].array)

        words, zeros, scales = part("qweight"), part("qzeros"), part("scales")
        if not _of_one_layer(words, zeros, scales, self._awq):
            raise FileFormatError(
                f"{self.path}: {layer}: qweight {words.shape}, qzeros {zeros.shape} and scales "
                f"{scales.shape} do not fit one another"
            )
        groups, n = scales.shape
        k = len(words) if self._awq else 8 * len(words)
        group = k if self._group == -1 else self._group
        if groups != -(-k // group):
            raise FileFormatError(
                f"{self.path}: {layer}: scales {scales.shape} for {k} columns in groups of {group} "
                f"(group_size in its quantization_config): expected {-(-k // group)} groups, got "
                f"{groups}"
            )
        codes = _transposed(words) if self._awq else _pairs_along_columns(words)
        zeros = _nibbles(zeros, self._awq) + np.uint8(self._zero_offset)
        scales = np.asarray(scales, np.float16)
        order = np.arange(k) // group
        if f"{layer}.g_idx" in self.file and not np.array_equal(part("g_idx"), order):
            return _dequantized(
                codes, scales, zeros, self._checked(layer, part("g_idx"), k, groups)
            )
        kind = next((kind for kind in FORMATS if group % kind.block_size == 0), None)
        if kind is None or k % group:
            return _dequantized(codes, scales, zeros, order)
        times = group // kind.block_size
        parts = (codes, *(np.repeat(x.T, times, 1) for x in (scales, zeros)))
        packed = PackedArray(kind, (n, k), tuple(np.ascontiguousarray(x) for x in parts))
        return Tensor._wrap(packed, get("cpu"))

    def _checked(self, layer: str, index: np.ndarray, k: int, groups: int) -> np.ndarray:
        if index.shape != (k,) or index.min(initial=0) < 0 or index.max(initial=0) >= groups:
            raise FileFormatError(
                f"{self.path}: {layer}: g_idx: expected {k} numbers of {groups} groups"
            )
        return index


def _of_one_layer(words: np.ndarray, zeros: np.ndarray, scales: np.ndarray, awq: bool) -> bool:
    """Whether the three arrays have the shapes of one layer."""
    if any(x.ndim != 2 for x in (words, zeros, scales)) or not scales.size:
        return False
    groups, n = scales.shape
    k = len(words) if awq else 8 * len(words)
    return (
        words.dtype == zeros.dtype == np.int32
        and n % 8 == 0
        and words.shape[1] == (n // 8 if awq else n)
        and zeros.shape == (groups, n // 8)
        and k > 0
    )


def _pairs_along_columns(words: np.ndarray) -> np.ndarray:
    """GPTQ's (K / 8, N) as int4_group's codes (N, K / 2): the bytes are the same."""
    rows, n = words.shape
    pairs = np.ascontiguousarray(words, "<i4").view(np.uint8).reshape(rows, n, 4)
    return np.ascontiguousarray(pairs.transpose(1, 0, 2)).reshape(n, 4 * rows)


def _transposed(words: np.ndarray) -> np.ndarray:
    """AWQ's (K, N / 8) as int4_group's codes (N, K / 2)."""
    codes = np.ascontiguousarray(_nibbles(words, True).T)
    return codes[:, ::2] | codes[:, 1::2] << 4


def _nibbles(words: np.ndarray, awq: bool) -> np.ndarray:
    """The 4-bit numbers (..., 8 M) of int32 (..., M)."""
    found = np.empty((*words.shape, 8), np.uint8)
    for i, place in enumerate(ORDER if awq else range(8)):
        found[..., place] = words >> 4 * i & 15
    return found.reshape(*words.shape[:-1], -1)


def _dequantized(
    codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray, index: np.ndarray
) -> Tensor:
    """The weight (N, K) in float16, for groups that no packed format supports."""
    wide = np.empty((len(codes), 2 * codes.shape[1]), np.float32)
    wide[:, ::2], wide[:, 1::2] = codes & 15, codes >> 4
    wide -= zeros.T[:, index]
    wide *= scales.astype(np.float32).T[:, index]
    return gradient.tensor(wide.astype(np.float16))
